//! DISCONNECT: the connection ends, and from MQTT 5.0 on why (3.14).

use super::property::{Properties, Property, PropertyList, property_block, put_if};
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
                (Property::UserProperty(..), _) => self.user = UserProperties::in_block(block),
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
