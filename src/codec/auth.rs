//! AUTH: one step of an enhanced authentication, MQTT 5.0 only (3.15, 4.12).

use super::property::{Properties, Property, PropertyList, property_block, put_if};
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
                Property::UserProperty(..) => self.user = UserProperties::in_block(block),
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
