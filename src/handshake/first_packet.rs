//! The first packet of a connection: a CONNECT, and one that may be put to the hooks.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::candidate::Candidate;
use super::listener::Listener;
use super::refusal::Refusal;
use super::request::Request;
use super::stages::{Authenticated, Question, Unauthenticated};
use crate::client::{Client, SubscriberId};
use crate::codec::{
    Connect, DecodeError, Packet, PacketType, ProtocolVersion, ReasonCode, Sender, Split, decode, split,
};
use crate::config::Config;
use crate::connection::Violation;
use crate::random::Random;
use crate::time::Time;
use crate::topic::{TopicError, TopicName};

/// How many characters a client id has that the broker assigns.
const ASSIGNED_ID_LENGTH: usize = 22;

/// The network connection that a first packet came on.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    /// The far end.
    pub peer: SocketAddr,
    /// The listener that accepted it, by its place in the configuration.
    pub listener: usize,
    /// When it was accepted, by the calendar.
    pub connected_at: SystemTime,
    /// Why its CONNECT is refused, if that was clear when it was accepted.
    pub refused: Option<ReasonCode>,
    /// The broker stops.
    pub stopping: bool,
}

/// What a first packet is.
pub enum FirstPacket<S> {
    /// A CONNECT that the hooks are to be asked about.
    Ask(Question<S>),
    /// A CONNECT that is refused without asking.
    Refused(Refusal),
    /// No CONNECT: the connection is closed without a word [MQTT-3.1.0-1].
    NotConnect(Violation),
}

/// What is made of the first packet `raw`, a whole one, of a connection of `listener`.
pub(super) fn first_packet<S: Default>(
    raw: &[u8],
    origin: NewConnection,
    config: &Config,
    listener: &Listener,
    random: &mut Random,
) -> FirstPacket<S> {
    let connect = match decoded(raw) {
        Ok(connect) => connect,
        Err(error) if raw.first().is_some_and(|first| first >> 4 == PacketType::Connect as u8) => {
            return FirstPacket::Refused(Refusal::malformed(raw, origin.peer, &listener.name, error));
        }
        Err(error) => return FirstPacket::NotConnect(error.into()),
    };
    let (client_id, assigned_id) = match connect.client_id {
        "" => (random.alphanumeric(ASSIGNED_ID_LENGTH).into(), true),
        given => (given.into(), false),
    };
    let client = Client {
        subscriber: SubscriberId { mountpoint: listener.mountpoint.clone(), client_id },
        peer: origin.peer,
        listener: listener.name.clone(),
        version: connect.version,
        username: connect.username.map(Into::into),
        certificate: None,
        connected_at: origin.connected_at,
        session_number: 0,
    };
    let request = Request::new(&connect);
    let candidate = Candidate { client, state: S::default(), request, listener: origin.listener, assigned_id };
    if let Some(violation) = why_refused(&connect, origin, config, listener) {
        return FirstPacket::Refused(candidate.refuse_violation(violation));
    }
    let candidate = Box::new(candidate);
    FirstPacket::Ask(match connect.properties.authentication_method {
        Some(_) => Question::Authenticate(Unauthenticated { candidate, packet: None, due: Time::NEVER }),
        None => Question::Register(Authenticated { candidate, auth: None }),
    })
}

/// The CONNECT in `raw`.
fn decoded(raw: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let malformed = DecodeError { code: ReasonCode::MalformedPacket, what: "not a CONNECT" };
    let Split::Frame(frame) = split(raw, raw.len())? else { return Err(malformed) };
    match decode(frame, ProtocolVersion::V5, Sender::Client)? {
        Packet::Connect(connect) => Ok(connect),
        _ => Err(DecodeError { code: ReasonCode::ProtocolError, what: "the first packet is not a CONNECT" }),
    }
}

/// What can be said of a CONNECT without asking anybody: why it is refused, if it is.
fn why_refused(
    connect: &Connect<'_>,
    origin: NewConnection,
    config: &Config,
    listener: &Listener,
) -> Option<Violation> {
    use ReasonCode::*;
    if !listener.speaks(connect.version) {
        return refused(UnsupportedProtocolVersion, "the listener does not allow this protocol version");
    }
    if origin.stopping {
        return refused(ServerShuttingDown, "the broker stops");
    }
    if let Some(code) = origin.refused {
        return refused(code, "max_connections, connection_rate or the limit on open files is reached");
    }
    identity_refused(connect, config).or_else(|| will_refused(connect, config))
}

/// Why the identity that a client gives is refused.
fn identity_refused(connect: &Connect<'_>, config: &Config) -> Option<Violation> {
    use ReasonCode::*;
    let (id, session) = (connect.client_id, &config.session);
    if id.len() > session.max_client_id_size {
        return refused(ClientIdentifierNotValid, "the client id is longer than max_client_id_size");
    }
    let needs_id = match connect.version {
        ProtocolVersion::V31 => true,
        ProtocolVersion::V311 => !connect.clean_start,
        ProtocolVersion::V5 => false,
    };
    if id.is_empty() && needs_id {
        return refused(ClientIdentifierNotValid, "an empty client id asks for a session to be kept");
    }
    if session.allow_wildcards_in_identity {
        return None;
    }
    if has_wildcard(id) {
        return refused(ClientIdentifierNotValid, "the client id contains + or #");
    }
    if connect.username.is_some_and(has_wildcard) {
        return refused(BadUserNameOrPassword, "the user name contains + or #");
    }
    None
}

/// Why the will of a client is refused.
fn will_refused(connect: &Connect<'_>, config: &Config) -> Option<Violation> {
    let will = connect.will.as_ref()?;
    match TopicName::parse(will.topic, config.limits.max_topic_levels) {
        Err(TopicError::TooManyLevels(_)) => {
            return refused(
                ReasonCode::TopicNameInvalid,
                "the topic of the will has more levels than max_topic_levels",
            );
        }
        Err(_) if connect.version.is_v5() => {
            return refused(ReasonCode::TopicNameInvalid, "the topic of the will is not valid");
        }
        Err(_) => return refused(ReasonCode::MalformedPacket, "the topic of the will is not valid [MQTT-3.1.4-1]"),
        Ok(_) => {}
    }
    let is_text = will.properties.payload_is_utf8 == Some(true);
    if is_text && std::str::from_utf8(will.payload).is_err() {
        // As of a PUBLISH (3.1.3.2.3).
        return refused(ReasonCode::PayloadFormatInvalid, "a will that says it is UTF-8 is not");
    }
    None
}

fn refused(code: ReasonCode, what: &'static str) -> Option<Violation> {
    Some(Violation::new(code, what))
}

/// Whether `text`, put into a topic filter, would be more than itself there.
fn has_wildcard(text: &str) -> bool {
    text.contains(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Door, State, V5, V31, V311, connack, origin, told};
    use super::*;
    use crate::codec::{PublishProperties, Will};

    fn code(settings: &str, connect: Connect<'_>, origin: NewConnection) -> Option<ReasonCode> {
        match Door::open(settings).first(connect, origin) {
            FirstPacket::Ask(_) => None,
            FirstPacket::Refused(refusal) => Some(refusal.code()),
            FirstPacket::NotConnect(violation) => panic!("{violation:?}"),
        }
    }

    #[test]
    fn a_first_packet_is_a_connect() {
        let mut door = Door::open("");
        let mut first = |raw: &[u8]| door.handshake.first_packet::<State>(raw, origin());
        let FirstPacket::NotConnect(violation) = first(&[0xC0, 0]) else { panic!("PINGREQ is no CONNECT") };
        assert_eq!(violation.code, ReasonCode::ProtocolError, "[MQTT-3.1.0-1]");
        assert!(matches!(first(&[0x20, 2, 0, 0]), FirstPacket::NotConnect(_)));
        let FirstPacket::Refused(refusal) = first(b"\x10\x09\x00\x04MQTT\x06\x02\x00") else { panic!("not refused") };
        assert_eq!(told(&refusal), [0x20, 2, 0, 1], "[MQTT-3.1.2-2]: clients of any version may fall back");
        let FirstPacket::Refused(refusal) = first(b"\x10\x09\x00\x04mqtt\x05\x02\x00") else { panic!("not refused") };
        assert!(told(&refusal).is_empty(), "[MQTT-3.1.2-1]: another protocol");
        let FirstPacket::Refused(refusal) = first(b"\x10\x09\x00\x04MQTT\x04\x02\x00") else { panic!("not refused") };
        assert!(told(&refusal).is_empty(), "MQTT 3 has no words for a malformed packet");
    }

    #[test]
    fn what_the_listener_does_not_allow_is_refused_first() {
        let refused = NewConnection { refused: Some(ReasonCode::QuotaExceeded), ..origin() };
        let stopping = NewConnection { stopping: true, ..refused };
        let connect = Connect::new(V311, "c");
        assert_eq!(code("", connect, origin()), None);
        assert_eq!(code("", connect, refused), Some(ReasonCode::QuotaExceeded));
        assert_eq!(code("", connect, stopping), Some(ReasonCode::ServerShuttingDown));
        let only_5 = "listeners.l.protocols = ['5']";
        assert_eq!(code(only_5, connect, stopping), Some(ReasonCode::UnsupportedProtocolVersion));
    }

    #[test]
    fn an_identity_has_its_limits() {
        let id = |settings, id| code(settings, Connect::new(V5, id), origin());
        let (long, shorter) = ("c".repeat(1025), "c".repeat(1024));
        assert_eq!(id("", &long), Some(ReasonCode::ClientIdentifierNotValid));
        assert_eq!(id("", &shorter), None);
        let strict = "session.allow_wildcards_in_identity = false";
        assert_eq!((id("", "a+"), id("", "#1")), (None, None));
        assert_eq!(id(strict, "a+"), Some(ReasonCode::ClientIdentifierNotValid));
        let user = Connect { username: Some("+4917012345"), ..Connect::new(V31, "c") };
        assert_eq!(code("", user, origin()), None);
        assert_eq!(code(strict, user, origin()), Some(ReasonCode::BadUserNameOrPassword));
    }

    #[test]
    fn a_bridge_of_mqtt_3_is_taken_at_its_word() {
        for version in [V31, V311] {
            let accepted = Door::open("").accept(Connect { is_bridge: true, ..Connect::new(version, "c") });
            assert_eq!((accepted.client.version, accepted.settings.is_bridge), (version, true));
            assert!(!Door::open("").accept(Connect::new(version, "c")).settings.is_bridge);
        }
    }

    #[test]
    fn a_client_without_an_id_is_given_one() {
        let mut door = Door::open("");
        let first = door.accept(Connect::new(V311, ""));
        let second = door.accept(Connect { clean_start: false, ..Connect::new(V5, "") });
        let ids = [&first, &second].map(|accepted| accepted.client.subscriber.client_id.clone());
        assert_eq!(ids.clone().map(|id| id.len()), [ASSIGNED_ID_LENGTH; 2]);
        assert_ne!(ids[0], ids[1]);
        let mut out = Vec::new();
        assert!(second.connack(false, &mut out));
        assert_eq!(connack(&out, V5).properties.assigned_client_id, Some(&*ids[1]), "[MQTT-3.2.2-16]");
    }

    #[test]
    fn a_will_is_checked() {
        let code = |will| code("", Connect { will: Some(will), ..Connect::new(V5, "c") }, origin());
        let text = PublishProperties { payload_is_utf8: Some(true), ..PublishProperties::default() };
        let will = Will { topic: "w", payload: &[0xFF], ..Will::default() };
        assert_eq!(code(will), None);
        assert_eq!(code(Will { properties: text, ..will }), Some(ReasonCode::PayloadFormatInvalid));
        for topic in ["", "w/#", "+"] {
            assert_eq!(code(Will { topic, ..will }), Some(ReasonCode::TopicNameInvalid));
        }
    }

    /// [MQTT-3.1.4-1] of 3.1.1: closed without a CONNACK.
    #[test]
    fn mqtt_3_has_no_words_for_a_will_to_what_is_no_topic() {
        for version in [V31, V311] {
            for (topic, answer) in [("", &[][..]), ("w/#", &[]), ("+", &[]), ("a/b/c", &[0x20, 2, 0, 5])] {
                let will = Will { topic, ..Will::default() };
                let mut door = Door::open("limits.max_topic_levels = 2");
                let refusal = door.refuse(Connect { will: Some(will), ..Connect::new(version, "c") });
                assert_eq!(told(&refusal), answer, "{topic}");
            }
        }
    }
}
