//! CONNACK: the server accepts a connection or refuses it, with the settings of the session (MQTT 5.0, 3.2).

use super::properties::{Properties, PropertyList, property_block, put_if};
use super::property::Property;
use super::read::Reader;
use super::write::{frame_len, put_header};
use super::{DecodeError, PacketType, ProtocolVersion, QoS, ReasonCode, Sender, UserProperties};

/// The answer to CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connack<'a> {
    /// Whether the server has a session of this client; only with a success, and not in MQTT 3.1.
    pub session_present: bool,
    /// Success, or why not. Before MQTT 5.0 the nearest of six return codes: [`ReasonCode::legacy_connack`].
    pub code: ReasonCode,
    /// Properties; the default before MQTT 5.0.
    pub properties: ConnackProperties<'a>,
}

/// The properties of CONNACK (3.2.2.3): what differs from what the client asked for or may take for granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnackProperties<'a> {
    /// Session Expiry Interval in seconds, if it is not the one asked for.
    pub session_expiry: Option<u32>,
    /// Receive Maximum: how many QoS 1 and 2 messages may be in flight to the server; never zero, none is 65,535.
    pub receive_maximum: Option<u16>,
    /// The highest QoS the server accepts. QoS 2 is the default, and is not written.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages.
    pub retain_available: Option<bool>,
    /// The largest packet in bytes that the server accepts; never zero.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server made up.
    pub assigned_client_id: Option<&'a str>,
    /// The highest topic alias that the server accepts; none accepts none.
    pub topic_alias_maximum: Option<u16>,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// Whether filters may contain wildcards.
    pub wildcard_available: Option<bool>,
    /// Whether SUBSCRIBE may carry a Subscription Identifier.
    pub subscription_ids_available: Option<bool>,
    /// Whether filters may begin with `$share/`.
    pub shared_available: Option<bool>,
    /// The Keep Alive in seconds that replaces the requested one.
    pub server_keep_alive: Option<u16>,
    /// From what to make response topics; only if the client asked for it.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The method of an enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// The last data of an enhanced authentication; only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Connack<'a> {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, code: ReasonCode) -> Self {
        Connack { session_present, code, properties: ConnackProperties::default() }
    }

    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let session_present = match (reader.u8()?, version) {
            (_, ProtocolVersion::V31) => false,
            (flags @ (0 | 1), _) => flags == 1,
            _ => return Err(DecodeError::malformed("reserved Connect Acknowledge Flags [MQTT-3.2.2-1]")),
        };
        let value = reader.u8()?;
        let code = match version {
            ProtocolVersion::V5 => ReasonCode::read(value, PacketType::Connack, Sender::Server)?,
            _ => ReasonCode::from_legacy_connack(value)
                .ok_or(DecodeError::malformed("reserved CONNACK return code (3.2.2.3)"))?,
        };
        if session_present && code != ReasonCode::Success {
            return Err(DecodeError::protocol("Session Present in a refusal [MQTT-3.2.2-6]"));
        }
        let properties = match version {
            ProtocolVersion::V5 => ConnackProperties::parse(property_block(&mut reader)?)?,
            _ => ConnackProperties::default(),
        };
        reader.finish()?;
        Ok(Connack { session_present, code, properties })
    }

    /// How many bytes [`encode`](Connack::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(2 + self.properties.section_len(version))
    }

    /// Appends the packet to `out`. Session Present is only said with a success `[MQTT-3.2.2-6]`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_header(PacketType::Connack.first_byte(), 2 + self.properties.section_len(version), out);
        let session_present =
            self.session_present && self.code == ReasonCode::Success && version != ProtocolVersion::V31;
        out.push(session_present.into());
        out.push(if version.is_v5() { self.code.value() } else { self.code.legacy_connack() });
        self.properties.put_section(version, out);
    }
}

impl<'a> ConnackProperties<'a> {
    fn parse(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        for property in Properties::new(block) {
            match property? {
                Property::SessionExpiryInterval(seconds) => properties.session_expiry = Some(seconds),
                Property::ReceiveMaximum(maximum) => properties.receive_maximum = Some(maximum),
                Property::MaximumQoS(qos) => properties.maximum_qos = Some(qos),
                Property::RetainAvailable(yes) => properties.retain_available = Some(yes),
                Property::MaximumPacketSize(bytes) => properties.maximum_packet_size = Some(bytes),
                Property::AssignedClientIdentifier(id) => properties.assigned_client_id = Some(id),
                Property::TopicAliasMaximum(maximum) => properties.topic_alias_maximum = Some(maximum),
                Property::ReasonString(reason) => properties.reason_string = Some(reason),
                Property::WildcardSubscriptionAvailable(yes) => properties.wildcard_available = Some(yes),
                Property::SubscriptionIdentifierAvailable(yes) => properties.subscription_ids_available = Some(yes),
                Property::SharedSubscriptionAvailable(yes) => properties.shared_available = Some(yes),
                Property::ServerKeepAlive(seconds) => properties.server_keep_alive = Some(seconds),
                Property::ResponseInformation(information) => properties.response_information = Some(information),
                Property::ServerReference(reference) => properties.server_reference = Some(reference),
                Property::AuthenticationMethod(method) => properties.authentication_method = Some(method),
                Property::AuthenticationData(data) => properties.authentication_data = Some(data),
                Property::User(..) => properties.user = UserProperties::in_block(block),
                property => return Err(property.misplaced()),
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("Authentication Data without a method (3.2.2.3.18)"));
        }
        Ok(properties)
    }
}

impl PropertyList for ConnackProperties<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        let maximum_qos = self.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
        put_if(self.session_expiry, Property::SessionExpiryInterval, &mut put);
        put_if(self.receive_maximum, Property::ReceiveMaximum, &mut put);
        put_if(maximum_qos, Property::MaximumQoS, &mut put);
        put_if(self.retain_available, Property::RetainAvailable, &mut put);
        put_if(self.maximum_packet_size, Property::MaximumPacketSize, &mut put);
        put_if(self.assigned_client_id, Property::AssignedClientIdentifier, &mut put);
        put_if(self.topic_alias_maximum, Property::TopicAliasMaximum, &mut put);
        put_if(self.reason_string, Property::ReasonString, &mut put);
        put_if(self.wildcard_available, Property::WildcardSubscriptionAvailable, &mut put);
        put_if(self.subscription_ids_available, Property::SubscriptionIdentifierAvailable, &mut put);
        put_if(self.shared_available, Property::SharedSubscriptionAvailable, &mut put);
        put_if(self.server_keep_alive, Property::ServerKeepAlive, &mut put);
        put_if(self.response_information, Property::ResponseInformation, &mut put);
        put_if(self.server_reference, Property::ServerReference, &mut put);
        put_if(self.authentication_method, Property::AuthenticationMethod, &mut put);
        put_if(self.authentication_data, Property::AuthenticationData, &mut put);
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
    fn accepted() {
        same(&[0x20, 2, 0, 0], V31, Server, Packet::Connack(Connack::new(false, Success)));
        same(&[0x20, 2, 1, 0], V311, Server, Packet::Connack(Connack::new(true, Success)));
        same(&[0x20, 3, 1, 0, 0], V5, Server, Packet::Connack(Connack::new(true, Success)));
        let plain = Packet::Connack(Connack::new(false, Success));
        assert_eq!(read(&[0x20, 2, 0xFF, 0], V31, Server), Ok(plain), "not used in MQTT 3.1");
        writes(Packet::Connack(Connack::new(true, Success)), V31, &[0x20, 2, 0, 0]);
    }

    #[test]
    fn refused_in_the_words_of_each_version() {
        for (value, code) in [
            (1, UnsupportedProtocolVersion),
            (2, ClientIdentifierNotValid),
            (3, ServerUnavailable),
            (4, BadUserNameOrPassword),
            (5, NotAuthorized),
        ] {
            let connack = Packet::Connack(Connack::new(false, code));
            same(&[0x20, 2, 0, value], V31, Server, connack);
            same(&[0x20, 2, 0, value], V311, Server, connack);
            same(&[0x20, 3, 0, code.value(), 0], V5, Server, connack);
        }
        writes(Packet::Connack(Connack::new(true, QuotaExceeded)), V311, &[0x20, 2, 0, 3]);
        writes(Packet::Connack(Connack::new(true, QuotaExceeded)), V5, &[0x20, 3, 0, 0x97, 0]);
    }

    #[test]
    fn what_was_agreed_on() {
        let pairs = [("k".to_owned(), "v".to_owned())];
        let properties = ConnackProperties {
            session_expiry: Some(1),
            receive_maximum: Some(2),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: Some(3),
            assigned_client_id: Some("i"),
            topic_alias_maximum: Some(4),
            reason_string: Some("r"),
            wildcard_available: Some(false),
            subscription_ids_available: Some(true),
            shared_available: Some(false),
            server_keep_alive: Some(5),
            response_information: Some("x"),
            server_reference: Some("s"),
            authentication_method: Some("m"),
            authentication_data: Some(&[0]),
            user: (&pairs[..]).into(),
        };
        let bytes: &[&[u8]] = &[
            &[0, 0, 60],
            &[0x11, 0, 0, 0, 1],
            &[0x21, 0, 2],
            &[0x24, 1],
            &[0x25, 0],
            &[0x27, 0, 0, 0, 3],
            b"\x12\x00\x01i",
            &[0x22, 0, 4],
            b"\x1F\x00\x01r",
            &[0x28, 0],
            &[0x29, 1],
            &[0x2A, 0],
            &[0x13, 0, 5],
            b"\x1A\x00\x01x",
            b"\x1C\x00\x01s",
            b"\x15\x00\x01m",
            b"\x16\x00\x01\x00",
            b"\x26\x00\x01k\x00\x01v",
        ];
        let connack = Connack { properties, ..Connack::new(false, Success) };
        same(&frame(0x20, bytes), V5, Server, Packet::Connack(connack));
        writes(Packet::Connack(connack), V311, &[0x20, 2, 0, 0]);
    }

    #[test]
    fn qos_2_is_said_by_silence() {
        let properties = ConnackProperties { maximum_qos: Some(QoS::ExactlyOnce), ..Default::default() };
        let connack = Connack { properties, ..Connack::new(false, Success) };
        writes(Packet::Connack(connack), V5, &[0x20, 3, 0, 0, 0]);
    }

    #[test]
    fn malformed() {
        for version in [V311, V5] {
            assert_eq!(refused(&[0x20, 3, 2, 0, 0], version, Server), MalformedPacket, "[MQTT-3.2.2-1]");
            assert_eq!(refused(&[0x20, 1, 0], version, Server), MalformedPacket);
        }
        assert_eq!(refused(&[0x20, 2, 0, 6], V311, Server), MalformedPacket, "reserved return code");
        assert_eq!(refused(&[0x20, 3, 0, 0, 0], V311, Server), MalformedPacket, "too long");
        assert_eq!(refused(&[0x20, 2, 0, 0], V5, Server), MalformedPacket, "no property length");
        assert_eq!(refused(&[0x20, 3, 0, 0x01, 0], V5, Server), ProtocolError, "[MQTT-3.2.2-8]");
        assert_eq!(refused(&[0x20, 3, 0, 0x8E, 0], V5, Server), ProtocolError, "[MQTT-3.2.2-8]");
        assert_eq!(refused(&[0x20, 3, 0, 0x05, 0], V5, Server), MalformedPacket, "no such code");
        assert_eq!(refused(&[0x20, 3, 1, 0x87, 0], V5, Server), ProtocolError, "[MQTT-3.2.2-6]");
        assert_eq!(refused(&[0x20, 2, 1, 5], V311, Server), ProtocolError, "[MQTT-3.2.2-4] of 3.1.1");
        assert_eq!(refused(&[0x20, 2, 0, 0], V311, Client), ProtocolError, "from a client");
        assert_eq!(refused(b"\x20\x07\x00\x00\x04\x16\x00\x01x", V5, Server), ProtocolError, "data without method");
        assert_eq!(refused(&[0x20, 5, 0, 0, 2, 0x17, 1], V5, Server), MalformedPacket, "the client's property");
        assert_eq!(refused(&[0x20, 5, 0, 0, 2, 0x24, 2], V5, Server), ProtocolError, "(3.2.2.3.4)");
    }
}
