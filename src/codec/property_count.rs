//! Whether a packet has more properties than may be, before it is decoded.
//!
//! A property takes five bytes or so and costs as much as a small packet: a packet of some megabytes would keep everybody waiting.

use super::properties::{Spelled, property_block};
use super::read::Reader;
use super::{DecodeError, Frame, PacketType, ProtocolVersion};

/// The fewest bytes that a property takes: its identifier, and a byte.
const SHORTEST: usize = 2;

/// Whether the packet in `frame`, which a client sends on a connection of `version`, has more properties than `most`. Of one that is malformed
/// those before the fault count. Looks at one more than `most`, and at none if the packet is too short. Not for CONNECT.
#[inline]
pub fn has_more_properties(frame: &Frame<'_>, version: ProtocolVersion, most: usize) -> bool {
    frame.body.len() / SHORTEST > most && version.is_v5() && counts_more(frame, most)
}

#[cold]
fn counts_more(frame: &Frame<'_>, most: usize) -> bool {
    block_of(frame).is_ok_and(|block| Spelled::new(block).nth(most).is_some())
}

/// The properties of a packet.
fn block_of<'a>(frame: &Frame<'a>) -> Result<&'a [u8], DecodeError> {
    let mut reader = Reader::new(frame.body);
    match frame.packet_type() {
        Some(PacketType::Publish) => {
            reader.binary()?;
            if frame.flags() & 0b0110 != 0 {
                reader.u16()?;
            }
        }
        Some(PacketType::Subscribe | PacketType::Unsubscribe) => drop(reader.u16()?),
        Some(PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp) => {
            reader.take(size_of::<u16>() + 1)?;
        }
        Some(PacketType::Disconnect | PacketType::Auth) => drop(reader.u8()?),
        _ => return Ok(&[]),
    }
    property_block(&mut reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::transcript::pid;
    use crate::codec::{
        Ack, AckKind, Auth, Disconnect, Packet, Publish, PublishProperties, QoS, ReasonCode, Split, Subscribe,
        SubscribeFilter, SubscriptionOptions, Unsubscribe, UserProperties, split,
    };

    fn has_more(packet: &Packet<'_>, most: usize) -> bool {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        match split(&bytes, usize::MAX) {
            Ok(Split::Frame(frame)) => {
                assert!(!has_more_properties(&frame, ProtocolVersion::V311, 0), "it has none");
                has_more_properties(&frame, ProtocolVersion::V5, most)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Each packet that clients send but CONNECT, with four properties.
    #[test]
    fn the_properties_of_every_packet_are_found() {
        let pairs: Vec<_> = (0..4).map(|number| (number.to_string(), String::new())).collect();
        let user = UserProperties::from(&pairs[..]);
        let filters = [SubscribeFilter { filter: "a", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        let ack = Ack { user, ..Ack::new(pid(1), ReasonCode::NotAuthorized) };
        let properties = PublishProperties { user, ..PublishProperties::default() };
        let publish = Publish { topic: "a/b", properties, ..Publish::default() };
        let acknowledged = Publish { qos: QoS::AtLeastOnce, packet_id: Some(pid(1)), ..publish };
        for packet in [
            Packet::Publish(publish),
            Packet::Publish(acknowledged),
            Packet::Subscribe(Subscribe { user, ..Subscribe::new(pid(1), &filters[..]) }),
            Packet::Unsubscribe(Unsubscribe { user, ..Unsubscribe::new(pid(1), &["a"][..]) }),
            Packet::Disconnect(Disconnect { user, ..Disconnect::new(ReasonCode::Success) }),
            Packet::Auth(Auth { user, ..Auth::new(ReasonCode::ContinueAuthentication, "m") }),
        ] {
            let all = if matches!(packet, Packet::Auth(_)) { 5 } else { 4 };
            assert!(has_more(&packet, all - 1) && !has_more(&packet, all), "{packet:?}");
        }
        for (kind, packet) in [
            (AckKind::Puback, Packet::Puback(ack)),
            (AckKind::Pubrec, Packet::Pubrec(ack)),
            (AckKind::Pubrel, Packet::Pubrel(ack)),
            (AckKind::Pubcomp, Packet::Pubcomp(ack)),
        ] {
            assert!(has_more(&packet, 3) && !has_more(&packet, 4), "{kind:?}");
        }
        assert!(!has_more(&Packet::Pingreq, 0));
    }
}
