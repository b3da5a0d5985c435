//! The properties of CONNECT: what the client can take, and what it asks for (MQTT 5.0, 3.1.2.11).

use super::properties::{Properties, PropertyList, put_if};
use super::property::Property;
use super::{DecodeError, UserProperties};

/// The properties of CONNECT (3.1.2.11). The default has the values of absent properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval in seconds; none ends the session with the connection, `u32::MAX` never.
    pub session_expiry: Option<u32>,
    /// Receive Maximum: how many QoS 1 and 2 messages may be in flight to the client; never zero, none is 65,535.
    pub receive_maximum: Option<u16>,
    /// The largest packet in bytes that the client accepts; never zero, none is no limit but the protocol's.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias that the client accepts; zero accepts none.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for Response Information in CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may be sent with any packet but PUBLISH, CONNACK and DISCONNECT.
    pub request_problem_information: bool,
    /// The method of an enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// The first data of an enhanced authentication; only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user: UserProperties::NONE,
        }
    }
}

impl<'a> ConnectProperties<'a> {
    pub(super) fn parse(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        for property in Properties::new(block) {
            match property? {
                Property::SessionExpiryInterval(seconds) => properties.session_expiry = Some(seconds),
                Property::ReceiveMaximum(maximum) => properties.receive_maximum = Some(maximum),
                Property::MaximumPacketSize(bytes) => properties.maximum_packet_size = Some(bytes),
                Property::TopicAliasMaximum(maximum) => properties.topic_alias_maximum = maximum,
                Property::RequestResponseInformation(yes) => properties.request_response_information = yes,
                Property::RequestProblemInformation(yes) => properties.request_problem_information = yes,
                Property::AuthenticationMethod(method) => properties.authentication_method = Some(method),
                Property::AuthenticationData(data) => properties.authentication_data = Some(data),
                Property::User(..) => properties.user = UserProperties::in_block(block),
                property => return Err(property.misplaced()),
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("Authentication Data without a method (3.1.2.11.10)"));
        }
        Ok(properties)
    }
}

impl PropertyList for ConnectProperties<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        put_if(self.session_expiry, Property::SessionExpiryInterval, &mut put);
        put_if(self.receive_maximum, Property::ReceiveMaximum, &mut put);
        put_if(self.maximum_packet_size, Property::MaximumPacketSize, &mut put);
        if self.topic_alias_maximum > 0 {
            put(Property::TopicAliasMaximum(self.topic_alias_maximum));
        }
        if self.request_response_information {
            put(Property::RequestResponseInformation(true));
        }
        if !self.request_problem_information {
            put(Property::RequestProblemInformation(false));
        }
        put_if(self.authentication_method, Property::AuthenticationMethod, &mut put);
        put_if(self.authentication_data, Property::AuthenticationData, &mut put);
        self.user.each(&mut put);
    }
}
