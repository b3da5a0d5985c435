//! DISCONNECT: the connection ends, and from MQTT 5.0 on why (3.14).

use super::properties::{Properties, PropertyList, property_block, put_if};
use super::property::Property;
use super::read::Reader;
use super::write::{frame_len, put_header};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode, Sender, UserProperties};

/// The last packet of a connection. Before MQTT 5.0 only a client sends it, and it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Why.
    pub code: ReasonCode,
    /// A new Session Expiry Interval in seconds; only from a client.
    pub session_expiry: Option<u32>,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// Another server to use; only from a server.
    pub server_reference: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT that says no more than its code.
    pub const fn new(code: ReasonCode) -> Self {
        Disconnect {
            code,
            session_expiry: None,
            reason_string: None,
            server_reference: None,
            user: UserProperties::NONE,
        }
    }

    /// Reason code and properties may be left out from the end: nothing is a normal disconnection (3.14.2.1, 3.14.2.2.1).
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Disconnect::new(ReasonCode::NormalDisconnection);
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(disconnect);
        }
        disconnect.code = ReasonCode::read(reader.u8()?, PacketType::Disconnect, sender)?;
        if !reader.is_empty() {
            disconnect.read_properties(property_block(&mut reader)?, sender)?;
            reader.finish()?;
        }
        Ok(disconnect)
    }

    fn read_properties(&mut self, block: &'a [u8], sender: Sender) -> Result<(), DecodeError> {
        for property in Properties::new(block) {
            match (property?, sender) {
                (Property::SessionExpiryInterval(_), Sender::Server) => {
                    return Err(DecodeError::protocol("Session Expiry Interval from a server [MQTT-3.14.2-2]"));
                }
                (Property::ServerReference(_), Sender::Client) => {
                    return Err(DecodeError::protocol("Server Reference from a client (3.14.2.2.5)"));
                }
                (Property::SessionExpiryInterval(seconds), _) => self.session_expiry = Some(seconds),
                (Property::ServerReference(reference), _) => self.server_reference = Some(reference),
                (Property::ReasonString(reason), _) => self.reason_string = Some(reason),
                (Property::User(..), _) => self.user = UserProperties::in_block(block),
                (property, _) => return Err(property.misplaced()),
            }
        }
        Ok(())
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        match self.is_empty() {
            _ if !version.is_v5() => 0,
            true if self.code == ReasonCode::NormalDisconnection => 0,
            true => 1,
            false => 1 + self.section_len(version),
        }
    }

    /// How many bytes [`encode`](Disconnect::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`, in its shortest form.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let body_len = self.body_len(version);
        put_header(PacketType::Disconnect.first_byte(), body_len, out);
        if body_len > 0 {
            out.push(self.code.value());
        }
        if body_len > 1 {
            self.put_section(version, out);
        }
    }
}

impl PropertyList for Disconnect<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.session_expiry, Property::SessionExpiryInterval, &mut put);
        put_if(self.reason_string, Property::ReasonString, &mut put);
        put_if(self.server_reference, Property::ServerReference, &mut put);
        self.user.each(&mut put);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, frame, read, refused, same, writes};

    #[test]
    fn a_normal_disconnection_is_two_bytes() {
        let normal = Disconnect::new(ReasonCode::NormalDisconnection);
        for version in ProtocolVersion::ALL {
            same(&[0xE0, 0], version, Client, Packet::Disconnect(normal));
        }
        for bytes in [&[0xE0, 1, 0][..], &[0xE0, 2, 0, 0]] {
            assert_eq!(read(bytes, V5, Client), Ok(Packet::Disconnect(normal)));
        }
    }

    #[test]
    fn mqtt_5_says_why() {
        same(&[0xE0, 1, 0x04], V5, Client, Packet::Disconnect(Disconnect::new(DisconnectWithWill)));
        same(&[0xE0, 1, 0x8E], V5, Server, Packet::Disconnect(Disconnect::new(SessionTakenOver)));
        let moved =
            Disconnect { reason_string: Some("go"), server_reference: Some("b:1"), ..Disconnect::new(ServerMoved) };
        same(b"\xE0\x0D\x9D\x0B\x1F\x00\x02go\x1C\x00\x03b:1", V5, Server, Packet::Disconnect(moved));
        writes(Packet::Disconnect(moved), V311, &[0xE0, 0]);
        let expires = Disconnect { session_expiry: Some(1), ..Disconnect::new(ReasonCode::NormalDisconnection) };
        same(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 1], V5, Client, Packet::Disconnect(expires));
    }

    #[test]
    fn some_things_only_one_side_may_say() {
        let properties = |properties: &[u8]| frame(0xE0, &[&[0x80, properties.len() as u8], properties]);
        let expiry = properties(&[0x11, 0, 0, 0, 1]);
        assert_eq!(refused(&expiry, V5, Server), ProtocolError, "[MQTT-3.14.2-2]");
        assert!(read(&expiry, V5, Client).is_ok());
        let reference = properties(&[0x1C, 0, 1, b'b']);
        assert_eq!(refused(&reference, V5, Client), ProtocolError, "(3.14.2.2.5)");
        assert!(read(&reference, V5, Server).is_ok());
        assert_eq!(refused(&[0xE0, 0], V311, Server), ProtocolError, "no such thing before MQTT 5.0");
        assert_eq!(refused(&[0xE0, 1, 0x8E], V5, Client), ProtocolError, "[MQTT-3.14.2-1]");
        assert_eq!(refused(&[0xE0, 1, 0x04], V5, Server), ProtocolError, "[MQTT-3.14.2-1]");
    }

    #[test]
    fn malformed() {
        for version in [V31, V311] {
            assert_eq!(refused(&[0xE0, 1, 0], version, Client), MalformedPacket, "has a body");
        }
        for version in [V311, V5] {
            assert_eq!(refused(&[0xE1, 0], version, Client), MalformedPacket, "[MQTT-3.14.1-1]");
        }
        assert_eq!(refused(&[0xE0, 1, 0x03], V5, Client), MalformedPacket, "no such code");
        assert_eq!(refused(&[0xE0, 2, 0, 1], V5, Client), MalformedPacket, "properties cut short");
        assert_eq!(refused(&[0xE0, 3, 0, 0, 0], V5, Client), MalformedPacket, "bytes behind");
        assert_eq!(refused(&[0xE0, 5, 0, 3, 0x21, 0, 1], V5, Client), MalformedPacket, "receive maximum");
    }
}
