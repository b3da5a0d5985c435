//! A packet of any type, and the door through which all of them are decoded.

use super::{
    Ack, AckKind, Auth, Connack, Connect, DecodeError, Disconnect, Frame, PacketType, ProtocolVersion, Publish, Sender,
    Suback, Subscribe, Unsuback, Unsubscribe,
};

/// A packet. Its fields borrow from the bytes that it was decoded from, or from whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// A client asks for a connection.
    Connect(Connect<'a>),
    /// The server accepts or refuses it.
    Connack(Connack<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// A QoS 1 message is acknowledged.
    Puback(Ack<'a>),
    /// A QoS 2 message was received.
    Pubrec(Ack<'a>),
    /// A QoS 2 message is released.
    Pubrel(Ack<'a>),
    /// A QoS 2 message is complete.
    Pubcomp(Ack<'a>),
    /// A client subscribes.
    Subscribe(Subscribe<'a>),
    /// What was granted.
    Suback(Suback<'a>),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe<'a>),
    /// What was removed.
    Unsuback(Unsuback<'a>),
    /// Are you there?
    Pingreq,
    /// Yes.
    Pingresp,
    /// The connection ends.
    Disconnect(Disconnect<'a>),
    /// A step of an enhanced authentication.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Its type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::Connack(_) => PacketType::Connack,
            Packet::Publish(_) => PacketType::Publish,
            Packet::Puback(_) => PacketType::Puback,
            Packet::Pubrec(_) => PacketType::Pubrec,
            Packet::Pubrel(_) => PacketType::Pubrel,
            Packet::Pubcomp(_) => PacketType::Pubcomp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::Suback(_) => PacketType::Suback,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::Unsuback(_) => PacketType::Unsuback,
            Packet::Pingreq => PacketType::Pingreq,
            Packet::Pingresp => PacketType::Pingresp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// How many bytes [`encode`](Packet::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        match self {
            Packet::Connect(packet) => packet.encoded_len(),
            Packet::Connack(packet) => packet.encoded_len(version),
            Packet::Publish(packet) => packet.encoded_len(version),
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
                ack.encoded_len(version)
            }
            Packet::Subscribe(packet) => packet.encoded_len(version),
            Packet::Suback(packet) => packet.encoded_len(version),
            Packet::Unsubscribe(packet) => packet.encoded_len(version),
            Packet::Unsuback(packet) => packet.encoded_len(version),
            Packet::Pingreq | Packet::Pingresp => 2,
            Packet::Disconnect(packet) => packet.encoded_len(version),
            Packet::Auth(packet) => packet.encoded_len(version),
        }
    }

    /// Appends the packet to `out`. A CONNECT is written in its own version; before MQTT 5.0 properties are left out, and
    /// reason codes are left out or replaced by the nearest there is.
    ///
    /// Strings and binary data longer than 65,535 bytes are cut. The packet must be legal otherwise, and not larger than
    /// [`MAX_PACKET_SIZE`](super::MAX_PACKET_SIZE).
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(packet) => packet.encode(out),
            Packet::Connack(packet) => packet.encode(version, out),
            Packet::Publish(packet) => packet.encode(version, out),
            Packet::Puback(ack) => ack.encode(AckKind::Puback, version, out),
            Packet::Pubrec(ack) => ack.encode(AckKind::Pubrec, version, out),
            Packet::Pubrel(ack) => ack.encode(AckKind::Pubrel, version, out),
            Packet::Pubcomp(ack) => ack.encode(AckKind::Pubcomp, version, out),
            Packet::Subscribe(packet) => packet.encode(version, out),
            Packet::Suback(packet) => packet.encode(version, out),
            Packet::Unsubscribe(packet) => packet.encode(version, out),
            Packet::Unsuback(packet) => packet.encode(version, out),
            Packet::Pingreq | Packet::Pingresp => out.extend_from_slice(&[self.packet_type().first_byte(), 0]),
            Packet::Disconnect(packet) => packet.encode(version, out),
            Packet::Auth(packet) => packet.encode(version, out),
        }
    }
}

/// Decodes and checks a packet that `sender` sent on a connection of `version`; a CONNECT brings its own version.
///
/// # Errors
///
/// * [`MalformedPacket`](super::ReasonCode::MalformedPacket): flags, lengths, strings or numbers that the standard does not
///   know; a property or reason code that does not exist, or a property in a packet that has no such property.
/// * [`ProtocolError`](super::ReasonCode::ProtocolError): what can be parsed but may not be said: a packet in the wrong direction, a
///   property twice, a value out of its range, a reason code of another packet, no filter in SUBSCRIBE.
/// * [`UnsupportedProtocolVersion`](super::ReasonCode::UnsupportedProtocolVersion): CONNECT of another protocol or version.
///   [`Connect::answer_version`] says how to answer.
/// * [`ClientIdentifierNotValid`](super::ReasonCode::ClientIdentifierNotValid): CONNECT with an empty client identifier where MQTT 3.1
///   or 3.1.1 does not allow it.
/// * [`TopicAliasInvalid`](super::ReasonCode::TopicAliasInvalid): a Topic Alias of zero.
// Always inline: what is done with a packet of each type then follows its decoding, without a copy of the largest of them.
#[inline(always)]
pub fn decode<'a>(frame: Frame<'a>, version: ProtocolVersion, sender: Sender) -> Result<Packet<'a>, DecodeError> {
    let Some(packet_type) = frame.packet_type() else {
        return Err(DecodeError::malformed("packet type 0 is reserved"));
    };
    let body = frame.body;
    let version = match packet_type {
        PacketType::Connect => Connect::read_version(body)?,
        _ => version,
    };
    packet_type.check_flags(frame.flags(), version)?;
    frame.check_length(version)?;
    check_direction(packet_type, version, sender)?;
    let ack = |kind| Ack::decode(kind, body, version, sender);
    Ok(match packet_type {
        PacketType::Publish => Packet::Publish(Publish::decode(frame.flags(), body, version, sender)?),
        PacketType::Puback => Packet::Puback(ack(AckKind::Puback)?),
        PacketType::Pubrec => Packet::Pubrec(ack(AckKind::Pubrec)?),
        PacketType::Pubrel => Packet::Pubrel(ack(AckKind::Pubrel)?),
        PacketType::Pubcomp => Packet::Pubcomp(ack(AckKind::Pubcomp)?),
        PacketType::Connect => Packet::Connect(Connect::decode(body)?),
        PacketType::Connack => Packet::Connack(Connack::decode(body, version)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::Suback => Packet::Suback(Suback::decode(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(body, version)?),
        PacketType::Pingreq => bare(Packet::Pingreq, body)?,
        PacketType::Pingresp => bare(Packet::Pingresp, body)?,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, sender)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body, sender)?),
    })
}

/// As [`decode`], of a frame that is a PUBLISH by its first byte.
// The packet that is most of all is not put into one that may be any, and taken out again.
#[inline(always)]
pub fn decode_publish<'a>(
    frame: Frame<'a>,
    version: ProtocolVersion,
    sender: Sender,
) -> Result<Publish<'a>, DecodeError> {
    PacketType::Publish.check_flags(frame.flags(), version)?;
    frame.check_length(version)?;
    Publish::decode(frame.flags(), frame.body, version, sender)
}

/// PINGREQ and PINGRESP have no body.
fn bare<'a>(packet: Packet<'a>, body: &[u8]) -> Result<Packet<'a>, DecodeError> {
    if body.is_empty() { Ok(packet) } else { Err(DecodeError::malformed("ping with a body (3.12, 3.13)")) }
}

/// Which side may send what (MQTT 5.0, table 2-1). AUTH is a reserved type before MQTT 5.0, and DISCONNECT the client's.
#[inline]
fn check_direction(packet: PacketType, version: ProtocolVersion, sender: Sender) -> Result<(), DecodeError> {
    use PacketType::*;
    let only = match packet {
        Auth if !version.is_v5() => return Err(DecodeError::malformed("packet type 15 is reserved before MQTT 5.0")),
        Disconnect if !version.is_v5() => Sender::Client,
        Connect | Subscribe | Unsubscribe | Pingreq => Sender::Client,
        Connack | Suback | Unsuback | Pingresp => Sender::Server,
        Publish | Puback | Pubrec | Pubrel | Pubcomp | Disconnect | Auth => return Ok(()),
    };
    if only == sender { Ok(()) } else { Err(DecodeError::protocol("packet of the other side (2.1.2)")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode::*;
    use crate::codec::transcript::{V5, V311, read, refused, same};

    #[test]
    fn pings() {
        for version in ProtocolVersion::ALL {
            same(&[0xC0, 0], version, Sender::Client, Packet::Pingreq);
            same(&[0xD0, 0], version, Sender::Server, Packet::Pingresp);
            assert_eq!(refused(&[0xC0, 1, 0], version, Sender::Client), MalformedPacket);
            assert_eq!(refused(&[0xD0, 1, 0], version, Sender::Server), MalformedPacket);
            assert_eq!(refused(&[0xC0, 0], version, Sender::Server), ProtocolError);
            assert_eq!(refused(&[0xD0, 0], version, Sender::Client), ProtocolError);
        }
        assert_eq!(refused(&[0xC1, 0], V311, Sender::Client), MalformedPacket, "[MQTT-2.1.3-1]");
    }

    #[test]
    fn a_long_remaining_length_is_malformed_in_mqtt_5_only() {
        assert_eq!(read(&[0xC0, 0x80, 0], V311, Sender::Client), Ok(Packet::Pingreq));
        assert_eq!(refused(&[0xC0, 0x80, 0], V5, Sender::Client), MalformedPacket, "[MQTT-1.5.5-1]");
    }

    #[test]
    fn a_frame_of_the_reserved_type_is_malformed() {
        let frame = Frame { first: 0x02, body: &[], length: 2 };
        assert_eq!(decode(frame, V5, Sender::Client).unwrap_err().code, MalformedPacket);
    }
}
