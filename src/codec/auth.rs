//! AUTH: one step of an enhanced authentication, MQTT 5.0 only (3.15, 4.12).

use super::properties::{Properties, PropertyList, property_block, put_if};
use super::property::Property;
use super::read::Reader;
use super::write::{frame_len, put_header};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode, Sender, UserProperties};

/// A step of an enhanced authentication, in either direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Whether it succeeded, goes on, or starts again.
    pub code: ReasonCode,
    /// Authentication Method. Only a success may leave it out.
    pub method: Option<&'a str>,
    /// Authentication Data: what the method wants to say.
    pub data: Option<&'a [u8]>,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// A step of `method`, without data.
    pub const fn new(code: ReasonCode, method: &'a str) -> Self {
        Auth { code, method: Some(method), data: None, reason_string: None, user: UserProperties::NONE }
    }

    /// Code and properties may both be left out: a success without properties (3.15.2.1).
    pub(super) fn decode(body: &'a [u8], sender: Sender) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let code = if reader.is_empty() { ReasonCode::Success.value() } else { reader.u8()? };
        let code = ReasonCode::read(code, PacketType::Auth, sender)?;
        let mut auth = Auth { method: None, ..Auth::new(code, "") };
        if !reader.is_empty() {
            auth.read_properties(property_block(&mut reader)?)?;
            reader.finish()?;
        }
        if auth.method.is_none() && (code != ReasonCode::Success || auth.data.is_some()) {
            return Err(DecodeError::protocol("AUTH without Authentication Method (3.15.2.2.2)"));
        }
        Ok(auth)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), DecodeError> {
        for property in Properties::new(block) {
            match property? {
                Property::AuthenticationMethod(method) => self.method = Some(method),
                Property::AuthenticationData(data) => self.data = Some(data),
                Property::ReasonString(reason) => self.reason_string = Some(reason),
                Property::User(..) => self.user = UserProperties::in_block(block),
                property => return Err(property.misplaced()),
            }
        }
        Ok(())
    }

    fn body_len(&self) -> usize {
        match self.is_empty() {
            true if self.code == ReasonCode::Success => 0,
            true => 1,
            false => 1 + self.section_len(ProtocolVersion::V5),
        }
    }

    /// How many bytes [`encode`](Auth::encode) appends.
    pub fn encoded_len(&self, _version: ProtocolVersion) -> usize {
        frame_len(self.body_len())
    }

    /// Appends the packet to `out`, in its shortest form. Only MQTT 5.0 has this packet; the form is always its.
    pub fn encode(&self, _version: ProtocolVersion, out: &mut Vec<u8>) {
        let body_len = self.body_len();
        put_header(PacketType::Auth.first_byte(), body_len, out);
        if body_len > 0 {
            out.push(self.code.value());
        }
        if body_len > 1 {
            self.put_section(ProtocolVersion::V5, out);
        }
    }
}

impl PropertyList for Auth<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.method, Property::AuthenticationMethod, &mut put);
        put_if(self.data, Property::AuthenticationData, &mut put);
        put_if(self.reason_string, Property::ReasonString, &mut put);
        self.user.each(&mut put);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, read, refused, same};

    #[test]
    fn a_step_in_either_direction() {
        let step = Auth { data: Some(&[1, 2]), ..Auth::new(ContinueAuthentication, "X") };
        for sender in [Client, Server] {
            same(b"\xF0\x0B\x18\x09\x15\x00\x01X\x16\x00\x02\x01\x02", V5, sender, Packet::Auth(step));
        }
        let again = Auth { reason_string: Some("r"), ..Auth::new(ReAuthenticate, "X") };
        same(b"\xF0\x0A\x19\x08\x15\x00\x01X\x1F\x00\x01r", V5, Client, Packet::Auth(again));
    }

    #[test]
    fn a_success_may_be_two_bytes() {
        let success = Auth { method: None, ..Auth::new(Success, "") };
        same(&[0xF0, 0], V5, Server, Packet::Auth(success));
        assert_eq!(read(&[0xF0, 2, 0, 0], V5, Server), Ok(Packet::Auth(success)));
        assert_eq!(refused(&[0xF0, 0], V5, Client), ProtocolError, "[MQTT-3.15.2-1]: not the client's to say");
    }

    #[test]
    fn malformed() {
        assert_eq!(refused(&[0xF0, 0], V31, Client), MalformedPacket, "reserved type");
        assert_eq!(refused(&[0xF0, 0], V311, Server), MalformedPacket, "reserved type");
        assert_eq!(refused(&[0xF1, 0], V5, Server), MalformedPacket, "[MQTT-3.15.1-1]");
        assert_eq!(refused(&[0xF0, 1, 0x18], V5, Client), ProtocolError, "no method (3.15.2.2.2)");
        assert_eq!(refused(&[0xF0, 2, 0x18, 0], V5, Client), ProtocolError, "no method (3.15.2.2.2)");
        assert_eq!(refused(&[0xF0, 6, 0, 4, 0x16, 0, 1, 7], V5, Server), ProtocolError, "data without method");
        assert_eq!(refused(b"\xF0\x06\x19\x04\x15\x00\x01X", V5, Server), ProtocolError, "[MQTT-3.15.2-1]");
        assert_eq!(refused(b"\xF0\x06\x87\x04\x15\x00\x01X", V5, Server), ProtocolError, "[MQTT-3.15.2-1]");
        assert_eq!(refused(b"\xF0\x07\x18\x04\x15\x00\x01X\x00", V5, Server), MalformedPacket, "bytes behind");
        assert_eq!(refused(b"\xF0\x0A\x18\x08\x15\x00\x01X\x15\x00\x01X", V5, Server), ProtocolError, "two methods");
    }
}
