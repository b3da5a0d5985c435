//! The properties of MQTT 5.0, one by one: their identifiers, types and legal values (2.2.2).

use super::read::Reader;
use super::write::{binary_len, put_binary, put_string, put_u16, put_u32, put_varint, string_len, varint_len};
use super::{DecodeError, QoS, ReasonCode};

/// The identifiers of the properties (MQTT 5.0, table 2-4).
pub(super) mod id {
    pub(in crate::codec) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(in crate::codec) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(in crate::codec) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::codec) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::codec) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::codec) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(in crate::codec) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(in crate::codec) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(in crate::codec) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::codec) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::codec) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::codec) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in crate::codec) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(in crate::codec) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in crate::codec) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in crate::codec) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in crate::codec) const REASON_STRING: u8 = 0x1F;
    pub(in crate::codec) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::codec) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in crate::codec) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::codec) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::codec) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::codec) const USER_PROPERTY: u8 = 0x26;
    pub(in crate::codec) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in crate::codec) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(in crate::codec) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(in crate::codec) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// One property, with a value that is legal for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// The value of a property as the data type it has on the wire.
enum Value<'a> {
    Byte(u8),
    Two(u16),
    Four(u32),
    Varint(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

impl<'a> Property<'a> {
    /// Reads identifier and value, and checks that the value is legal wherever the property is.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<(u8, Property<'a>), DecodeError> {
        // The identifier is a variable byte integer, but all there are fit into one byte.
        let id = reader.u8()?;
        let property = match id {
            id::PAYLOAD_FORMAT_INDICATOR => Property::PayloadFormatIndicator(flag(reader)?),
            id::MESSAGE_EXPIRY_INTERVAL => Property::MessageExpiryInterval(reader.u32()?),
            id::CONTENT_TYPE => Property::ContentType(reader.string()?),
            id::RESPONSE_TOPIC => Property::ResponseTopic(response_topic(reader.string()?)?),
            id::CORRELATION_DATA => Property::CorrelationData(reader.binary()?),
            id::SUBSCRIPTION_IDENTIFIER => Property::SubscriptionIdentifier(subscription_id(reader.varint()?)?),
            id::SESSION_EXPIRY_INTERVAL => Property::SessionExpiryInterval(reader.u32()?),
            id::ASSIGNED_CLIENT_IDENTIFIER => Property::AssignedClientIdentifier(reader.string()?),
            id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(reader.u16()?),
            id::AUTHENTICATION_METHOD => Property::AuthenticationMethod(reader.string()?),
            id::AUTHENTICATION_DATA => Property::AuthenticationData(reader.binary()?),
            id::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(flag(reader)?),
            id::WILL_DELAY_INTERVAL => Property::WillDelayInterval(reader.u32()?),
            id::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(flag(reader)?),
            id::RESPONSE_INFORMATION => Property::ResponseInformation(reader.string()?),
            id::SERVER_REFERENCE => Property::ServerReference(reader.string()?),
            id::REASON_STRING => Property::ReasonString(reader.string()?),
            id::RECEIVE_MAXIMUM => match reader.u16()? {
                0 => return Err(DecodeError::protocol("Receive Maximum is 0 (3.1.2.11.3)")),
                maximum => Property::ReceiveMaximum(maximum),
            },
            id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(reader.u16()?),
            id::TOPIC_ALIAS => match reader.u16()? {
                0 => {
                    let what = "Topic Alias is 0 [MQTT-3.3.2-8]";
                    return Err(DecodeError { code: ReasonCode::TopicAliasInvalid, what });
                }
                alias => Property::TopicAlias(alias),
            },
            id::MAXIMUM_QOS => match flag(reader)? {
                false => Property::MaximumQoS(QoS::AtMostOnce),
                true => Property::MaximumQoS(QoS::AtLeastOnce),
            },
            id::RETAIN_AVAILABLE => Property::RetainAvailable(flag(reader)?),
            id::USER_PROPERTY => Property::User(reader.string()?, reader.string()?),
            id::MAXIMUM_PACKET_SIZE => match reader.u32()? {
                0 => return Err(DecodeError::protocol("Maximum Packet Size is 0 (3.1.2.11.4)")),
                maximum => Property::MaximumPacketSize(maximum),
            },
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => Property::WildcardSubscriptionAvailable(flag(reader)?),
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => Property::SubscriptionIdentifierAvailable(flag(reader)?),
            id::SHARED_SUBSCRIPTION_AVAILABLE => Property::SharedSubscriptionAvailable(flag(reader)?),
            _ => return Err(DecodeError::malformed("unknown property (2.2.2.2)")),
        };
        Ok((id, property))
    }

    fn spell(self) -> (u8, Value<'a>) {
        use Value::*;
        match self {
            Property::PayloadFormatIndicator(value) => (id::PAYLOAD_FORMAT_INDICATOR, Byte(value.into())),
            Property::MessageExpiryInterval(value) => (id::MESSAGE_EXPIRY_INTERVAL, Four(value)),
            Property::ContentType(value) => (id::CONTENT_TYPE, Text(value)),
            Property::ResponseTopic(value) => (id::RESPONSE_TOPIC, Text(value)),
            Property::CorrelationData(value) => (id::CORRELATION_DATA, Binary(value)),
            Property::SubscriptionIdentifier(value) => (id::SUBSCRIPTION_IDENTIFIER, Varint(value)),
            Property::SessionExpiryInterval(value) => (id::SESSION_EXPIRY_INTERVAL, Four(value)),
            Property::AssignedClientIdentifier(value) => (id::ASSIGNED_CLIENT_IDENTIFIER, Text(value)),
            Property::ServerKeepAlive(value) => (id::SERVER_KEEP_ALIVE, Two(value)),
            Property::AuthenticationMethod(value) => (id::AUTHENTICATION_METHOD, Text(value)),
            Property::AuthenticationData(value) => (id::AUTHENTICATION_DATA, Binary(value)),
            Property::RequestProblemInformation(value) => (id::REQUEST_PROBLEM_INFORMATION, Byte(value.into())),
            Property::WillDelayInterval(value) => (id::WILL_DELAY_INTERVAL, Four(value)),
            Property::RequestResponseInformation(value) => (id::REQUEST_RESPONSE_INFORMATION, Byte(value.into())),
            Property::ResponseInformation(value) => (id::RESPONSE_INFORMATION, Text(value)),
            Property::ServerReference(value) => (id::SERVER_REFERENCE, Text(value)),
            Property::ReasonString(value) => (id::REASON_STRING, Text(value)),
            Property::ReceiveMaximum(value) => (id::RECEIVE_MAXIMUM, Two(value)),
            Property::TopicAliasMaximum(value) => (id::TOPIC_ALIAS_MAXIMUM, Two(value)),
            Property::TopicAlias(value) => (id::TOPIC_ALIAS, Two(value)),
            Property::MaximumQoS(value) => (id::MAXIMUM_QOS, Byte(value as u8)),
            Property::RetainAvailable(value) => (id::RETAIN_AVAILABLE, Byte(value.into())),
            Property::User(name, value) => (id::USER_PROPERTY, Pair(name, value)),
            Property::MaximumPacketSize(value) => (id::MAXIMUM_PACKET_SIZE, Four(value)),
            Property::WildcardSubscriptionAvailable(value) => (id::WILDCARD_SUBSCRIPTION_AVAILABLE, Byte(value.into())),
            Property::SubscriptionIdentifierAvailable(value) => {
                (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, Byte(value.into()))
            }
            Property::SharedSubscriptionAvailable(value) => (id::SHARED_SUBSCRIPTION_AVAILABLE, Byte(value.into())),
        }
    }

    /// How many bytes it takes, identifier included.
    pub(super) fn encoded_len(self) -> usize {
        1 + match self.spell().1 {
            Value::Byte(_) => 1,
            Value::Two(_) => 2,
            Value::Four(_) => 4,
            Value::Varint(value) => varint_len(value as usize),
            Value::Text(text) => string_len(text),
            Value::Binary(bytes) => binary_len(bytes),
            Value::Pair(name, value) => string_len(name) + string_len(value),
        }
    }

    /// Appends identifier and value.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let (id, value) = self.spell();
        out.push(id);
        match value {
            Value::Byte(value) => out.push(value),
            Value::Two(value) => put_u16(value, out),
            Value::Four(value) => put_u32(value, out),
            Value::Varint(value) => put_varint(value as usize, out),
            Value::Text(text) => put_string(text, out),
            Value::Binary(bytes) => put_binary(bytes, out),
            Value::Pair(name, value) => {
                put_string(name, out);
                put_string(value, out);
            }
        }
    }

    /// The error for a property in a packet that has no such property (2.2.2.2).
    #[cold]
    pub(super) const fn misplaced(self) -> DecodeError {
        DecodeError::malformed("property not allowed in this packet (2.2.2.2)")
    }
}

/// A byte that may only be 0 or 1; anything else is a protocol error.
fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("property is neither 0 nor 1")),
    }
}

fn response_topic(topic: &str) -> Result<&str, DecodeError> {
    if topic.is_empty() {
        return Err(DecodeError::protocol("empty Response Topic [MQTT-4.7.3-1]"));
    }
    if topic.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(DecodeError::protocol("Response Topic contains wildcards [MQTT-3.3.2-14]"));
    }
    Ok(topic)
}

fn subscription_id(id: u32) -> Result<u32, DecodeError> {
    if id == 0 { Err(DecodeError::protocol("Subscription Identifier is 0 (3.8.2.1.2)")) } else { Ok(id) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each.
    pub(in crate::codec) const ALL: [Property<'static>; 27] = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(u32::MAX),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("a/b"),
        Property::CorrelationData(&[0, 255]),
        Property::SubscriptionIdentifier(268_435_455),
        Property::SessionExpiryInterval(0),
        Property::AssignedClientIdentifier("id"),
        Property::ServerKeepAlive(0),
        Property::AuthenticationMethod("SCRAM-SHA-256"),
        Property::AuthenticationData(&[]),
        Property::RequestProblemInformation(false),
        Property::WillDelayInterval(5),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation("x"),
        Property::ServerReference("other:1883"),
        Property::ReasonString("because"),
        Property::ReceiveMaximum(1),
        Property::TopicAliasMaximum(0),
        Property::TopicAlias(65_535),
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::User("", "v"),
        Property::MaximumPacketSize(1),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifierAvailable(false),
        Property::SharedSubscriptionAvailable(true),
    ];

    fn code(bytes: &[u8]) -> ReasonCode {
        Property::read(&mut Reader::new(bytes)).expect_err("no property").code
    }

    #[test]
    fn every_property_comes_back_and_is_as_long_as_said() {
        for property in ALL {
            let mut bytes = Vec::new();
            property.encode(&mut bytes);
            assert_eq!(bytes.len(), property.encoded_len(), "{property:?}");
            let mut reader = Reader::new(&bytes);
            assert_eq!(Property::read(&mut reader), Ok((bytes[0], property)));
            assert!(reader.is_empty(), "{property:?}");
            for end in 0..bytes.len() {
                assert_eq!(code(&bytes[..end]), ReasonCode::MalformedPacket, "{property:?}");
            }
        }
    }

    #[test]
    fn unknown_properties_are_malformed() {
        let known: Vec<u8> = ALL.iter().map(|property| property.spell().0).collect();
        for id in (0..=255).filter(|id| !known.contains(id)) {
            assert_eq!(code(&[id, 0, 0, 0, 0, 0]), ReasonCode::MalformedPacket, "{id:#x}");
        }
    }

    #[test]
    fn values_have_their_ranges() {
        for flag in [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A] {
            assert_eq!(code(&[flag, 2]), ReasonCode::ProtocolError, "{flag:#x}");
        }
        assert_eq!(code(&[0x21, 0, 0]), ReasonCode::ProtocolError);
        assert_eq!(code(&[0x27, 0, 0, 0, 0]), ReasonCode::ProtocolError);
        assert_eq!(code(&[0x0B, 0]), ReasonCode::ProtocolError);
        assert_eq!(code(&[0x23, 0, 0]), ReasonCode::TopicAliasInvalid);
        assert_eq!(code(&[0x08, 0, 3, b'a', b'/', b'#']), ReasonCode::ProtocolError);
        assert_eq!(code(&[0x08, 0, 1, b'+']), ReasonCode::ProtocolError);
        assert_eq!(code(&[0x0B, 0x80, 0x80, 0x80, 0x80, 0x01]), ReasonCode::MalformedPacket);
    }
}
