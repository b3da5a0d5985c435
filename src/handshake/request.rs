//! What a CONNECT asks for, and an AUTH says: owned, so that neither is decoded again while hooks think.

use crate::codec::{
    Auth, Connect, ConnectProperties, PropertyBlock, PublishProperties, QoS, UserProperties, Will as ConnectWill,
};
use crate::hooks::{AuthExchange, AuthStage, PublishRequestM5};

/// User properties, in order.
type Pairs = Vec<(String, String)>;

/// A CONNECT without what [`Client`](crate::client::Client) holds: version, client id and user name. One for each
/// connection between CONNECT and session; what most clients do not send is behind a pointer.
pub struct Request {
    /// The password, if one was sent.
    pub password: Option<Box<[u8]>>,
    /// Whether it is a bridge of MQTT 3 that says so.
    pub is_bridge: bool,
    /// Clean Start, or Clean Session before MQTT 5.0.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0: none.
    pub keep_alive: u16,
    /// The will, if one was sent.
    pub will: Option<Box<RequestedWill>>,
    /// None: the default, as before MQTT 5.0.
    properties: Option<Box<RequestedProperties>>,
}

impl Request {
    /// What `connect` asks for.
    pub fn new(connect: &Connect<'_>) -> Self {
        let properties = &connect.properties;
        let is_default = *properties == ConnectProperties::default();
        Request {
            password: connect.password.map(Into::into),
            is_bridge: connect.is_bridge,
            clean_start: connect.clean_start,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| Box::new(RequestedWill::new(will))),
            properties: (!is_default).then(|| Box::new(RequestedProperties::new(properties))),
        }
    }

    /// The properties of the CONNECT.
    pub fn properties(&self) -> ConnectProperties<'_> {
        self.properties.as_ref().map_or_else(ConnectProperties::default, |properties| properties.lend())
    }

    /// The method of an enhanced authentication.
    pub fn auth_method(&self) -> Option<&str> {
        self.properties.as_ref()?.authentication_method.as_deref()
    }

    /// The largest packet that the client takes, in bytes; none: any.
    pub fn maximum_packet_size(&self) -> Option<usize> {
        Some(self.properties.as_ref()?.maximum_packet_size? as usize)
    }

    /// The CONNECT as the first step of an enhanced authentication.
    pub fn exchange(&self) -> AuthExchange<'_> {
        let properties = self.properties();
        AuthExchange {
            stage: AuthStage::Connect,
            method: properties.authentication_method.unwrap_or_default(),
            data: properties.authentication_data,
            reason_string: None,
            user_properties: properties.user,
        }
    }
}

/// The properties of a CONNECT that has any.
struct RequestedProperties {
    session_expiry: Option<u32>,
    receive_maximum: Option<u16>,
    maximum_packet_size: Option<u32>,
    topic_alias_maximum: u16,
    request_response_information: bool,
    request_problem_information: bool,
    authentication_method: Option<Box<str>>,
    authentication_data: Option<Box<[u8]>>,
    user: Pairs,
}

impl RequestedProperties {
    fn new(properties: &ConnectProperties<'_>) -> Self {
        RequestedProperties {
            session_expiry: properties.session_expiry,
            receive_maximum: properties.receive_maximum,
            maximum_packet_size: properties.maximum_packet_size,
            topic_alias_maximum: properties.topic_alias_maximum,
            request_response_information: properties.request_response_information,
            request_problem_information: properties.request_problem_information,
            authentication_method: properties.authentication_method.map(Into::into),
            authentication_data: properties.authentication_data.map(Into::into),
            user: pairs(properties.user),
        }
    }

    fn lend(&self) -> ConnectProperties<'_> {
        ConnectProperties {
            session_expiry: self.session_expiry,
            receive_maximum: self.receive_maximum,
            maximum_packet_size: self.maximum_packet_size,
            topic_alias_maximum: self.topic_alias_maximum,
            request_response_information: self.request_response_information,
            request_problem_information: self.request_problem_information,
            authentication_method: self.authentication_method.as_deref(),
            authentication_data: self.authentication_data.as_deref(),
            user: UserProperties::from(&self.user[..]),
        }
    }
}

/// The will of a CONNECT, whose topic has been checked.
pub struct RequestedWill {
    /// Where to.
    pub topic: Box<str>,
    /// The message.
    pub payload: Box<[u8]>,
    /// At which QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay: u32,
    /// Message Expiry Interval in seconds.
    pub message_expiry: Option<u32>,
    /// All other properties: those that go on to subscribers.
    pub forwarded: PropertyBlock,
}

impl RequestedWill {
    fn new(will: &ConnectWill<'_>) -> Self {
        RequestedWill {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            delay: will.delay,
            message_expiry: will.properties.message_expiry,
            forwarded: PropertyBlock::from(&will.properties),
        }
    }

    /// Its properties, without the delay.
    pub fn properties(&self) -> PublishProperties<'_> {
        PublishProperties { message_expiry: self.message_expiry, ..self.forwarded.properties() }
    }

    /// What hooks are asked about it; `properties` are its own.
    pub fn question<'a>(&'a self, properties: &'a PublishProperties<'a>) -> PublishRequestM5<'a> {
        PublishRequestM5 {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            is_will: true,
            properties,
        }
    }
}

/// An AUTH of a client that is connecting, without its method, which is that of the CONNECT.
pub struct AuthPacket {
    data: Option<Box<[u8]>>,
    reason_string: Option<Box<str>>,
    user: Pairs,
}

impl AuthPacket {
    /// What `auth` says.
    pub fn new(auth: &Auth<'_>) -> Self {
        AuthPacket {
            data: auth.data.map(Into::into),
            reason_string: auth.reason_string.map(Into::into),
            user: pairs(auth.user),
        }
    }

    /// The AUTH as a further step of an enhanced authentication with `method`.
    pub fn exchange<'a>(&'a self, method: &'a str) -> AuthExchange<'a> {
        AuthExchange {
            stage: AuthStage::Continue,
            method,
            data: self.data.as_deref(),
            reason_string: self.reason_string.as_deref(),
            user_properties: UserProperties::from(&self.user[..]),
        }
    }
}

fn pairs(user: UserProperties<'_>) -> Pairs {
    user.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, ProtocolVersion, Sender, Split, decode, split};

    #[test]
    fn a_request_lends_what_the_connect_said() {
        let user = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        let properties = ConnectProperties {
            session_expiry: Some(9),
            receive_maximum: Some(8),
            maximum_packet_size: Some(7),
            topic_alias_maximum: 6,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some("m"),
            authentication_data: Some(b"d"),
            user: UserProperties::from(&user[..]),
        };
        let connect =
            Connect { password: Some(b"p"), keep_alive: 5, properties, ..Connect::new(ProtocolVersion::V5, "c") };
        let request = Request::new(&connect);
        assert_eq!(request.properties(), properties);
        assert_eq!((request.auth_method(), request.maximum_packet_size()), (Some("m"), Some(7)));
        assert_eq!((request.password.as_deref(), request.keep_alive, request.clean_start), (Some(&b"p"[..]), 5, true));
        let exchange = request.exchange();
        assert_eq!((exchange.stage, exchange.method, exchange.data), (AuthStage::Connect, "m", Some(&b"d"[..])));
        assert_eq!(exchange.user_properties, properties.user);
    }

    #[test]
    fn a_usual_connect_has_nothing_behind_pointers() {
        let request = Request::new(&Connect::new(ProtocolVersion::V311, "c"));
        assert!(request.properties.is_none() && request.will.is_none());
        assert_eq!(request.properties(), ConnectProperties::default());
        assert!(size_of::<Request>() <= 40);
    }

    #[test]
    fn a_will_lends_its_properties_and_what_goes_on_to_subscribers() {
        let user = [("k".to_owned(), "v".to_owned())];
        let properties = PublishProperties {
            payload_is_utf8: Some(true),
            message_expiry: Some(60),
            content_type: Some("t"),
            user: UserProperties::from(&user[..]),
            ..PublishProperties::default()
        };
        let will = ConnectWill { topic: "w", payload: b"x", delay: 3, properties, ..ConnectWill::default() };
        let mut bytes = Vec::new();
        Connect { will: Some(will), ..Connect::new(ProtocolVersion::V5, "c") }.encode(&mut bytes);
        let Ok(Split::Frame(frame)) = split(&bytes, bytes.len()) else { panic!("not a whole packet") };
        let Ok(Packet::Connect(connect)) = decode(frame, ProtocolVersion::V5, Sender::Client) else {
            panic!("not a CONNECT")
        };
        let request = Request::new(&connect);
        let will = request.will.expect("there is a will");
        let lent = will.properties();
        assert_eq!(lent, properties);
        assert_eq!(*lent.forwarded(), *connect.will.expect("there is a will").properties.forwarded());
        assert_eq!((will.delay, will.question(&lent).is_will, will.question(&lent).topic), (3, true, "w"));
    }
}
