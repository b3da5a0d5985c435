//! Whether a PUBLISH keeps the rules.

use std::sync::Arc;

use crate::codec::{Publish, QoS, ReasonCode};
use crate::config::{Limit, LimitsConfig};
use crate::connection::{Aliases, Connected, Violation};
use crate::session::Session;
use crate::topic::TopicName;

/// What is to be done with a PUBLISH that is no violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked<'a> {
    /// The hooks are asked about it.
    Ask(TopicName<'a>),
    /// It is a repetition of a QoS 2 message that was taken: answered once more, and not routed again [MQTT-4.3.3-10].
    Repeated,
    /// It is not routed, and answered with this code.
    Refused(ReasonCode),
}

/// Takes note of a topic alias, or looks up the topic that one stands for; none if the PUBLISH names its topic.
///
/// # Errors
///
/// The violation, if the alias is too high or was never set, or if the aliases of the client stand for too long topics.
pub fn resolve_alias(
    connected: &mut Connected,
    most: u16,
    most_bytes: Limit,
    publish: &Publish<'_>,
    hasher: &ahash::RandomState,
) -> Result<Option<Arc<str>>, Violation> {
    let Some(alias) = publish.properties.topic_alias else { return Ok(None) };
    if alias > most {
        let what = "the topic alias is higher than the maximum [MQTT-3.3.2-9]";
        return Err(Violation::new(ReasonCode::TopicAliasInvalid, what));
    }
    let aliases = connected.aliases.get_or_insert_with(|| Aliases::new(hasher));
    if !publish.topic.is_empty() {
        if !aliases.incoming.set(alias, publish.topic, most_bytes) {
            let what = "topics of aliases longer than max_topic_bytes_per_client";
            return Err(Violation::new(ReasonCode::QuotaExceeded, what));
        }
        return Ok(None);
    }
    let topic = aliases.incoming.get(alias).ok_or(Violation::protocol("the topic alias was never set"))?;
    Ok(Some(topic.clone()))
}

/// Checks a PUBLISH, whose topic is named, against the settings of the session and what is incomplete.
///
/// # Errors
///
/// The violation, if the client must not have sent it.
#[inline]
pub fn check<'a, S>(
    session: &Session<S>,
    publish: &Publish<'a>,
    limits: &LimitsConfig,
) -> Result<Checked<'a>, Violation> {
    let topic = TopicName::parse(publish.topic, limits.max_topic_levels)
        .map_err(|_| Violation::new(ReasonCode::TopicNameInvalid, "the topic name is not valid"))?;
    let settings = &session.settings;
    if publish.qos > settings.maximum_qos {
        return Err(Violation::new(ReasonCode::QosNotSupported, "the QoS is higher than the maximum"));
    }
    if publish.retain && !settings.retain_available {
        return Err(Violation::new(ReasonCode::RetainNotSupported, "retained messages are not available"));
    }
    if let Some(packet_id) = publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce)
        && session.inbound.contains(packet_id)
    {
        return Ok(Checked::Repeated);
    }
    let is_v5 = session.client.version.is_v5();
    // QoS 1 is acknowledged at once, so what is incomplete is QoS 2; but a QoS 1 message on top is one too many, too.
    let is_acknowledged = publish.qos != QoS::AtMostOnce;
    if is_v5 && is_acknowledged && session.inbound.len() >= usize::from(settings.receive_maximum) {
        let what = "more unacknowledged messages than Receive Maximum [MQTT-3.3.4-7]";
        return Err(Violation::new(ReasonCode::ReceiveMaximumExceeded, what));
    }
    if publish.properties.payload_is_utf8 == Some(true) && std::str::from_utf8(publish.payload).is_err() {
        // The client says of its payload what is not so [MQTT-3.3.2-4].
        let invalid = ReasonCode::PayloadFormatInvalid;
        if publish.packet_id.is_none() {
            return Err(Violation::new(invalid, "a payload that says it is UTF-8 is not"));
        }
        return Ok(Checked::Refused(invalid));
    }
    if topic.is_dollar() && !limits.routes_dollar_topic(topic.as_str()) {
        return Ok(Checked::Refused(if is_v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success }));
    }
    Ok(Checked::Ask(topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketId, ProtocolVersion, PublishProperties};
    use crate::connection::testing::connected;
    use crate::session::testing::session;

    fn limits() -> LimitsConfig {
        LimitsConfig { max_topic_levels: 3, ..LimitsConfig::default() }
    }

    fn publish(qos: QoS, topic: &str) -> Publish<'_> {
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        Publish { qos, topic, packet_id, ..Publish::default() }
    }

    fn code(session: &Session<()>, publish: &Publish<'_>) -> Option<ReasonCode> {
        check(session, publish, &limits()).err().map(|violation| violation.code)
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_set_to_last() {
        let (mut connected, hasher) = (connected(ProtocolVersion::V5), ahash::RandomState::with_seeds(1, 2, 3, 4));
        let mut resolved = |topic, alias, most| {
            let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
            let publish = Publish { properties, ..publish(QoS::AtMostOnce, topic) };
            resolve_alias(&mut connected, most, Limit::at_most(2), &publish, &hasher)
                .map_err(|violation| violation.code)
        };
        assert_eq!(resolved("", 1, 2), Err(ReasonCode::ProtocolError), "never set");
        assert_eq!(resolved("a", 1, 2), Ok(None));
        assert_eq!(resolved("", 1, 2), Ok(Some("a".into())));
        assert_eq!(resolved("b", 1, 2), Ok(None));
        assert_eq!(resolved("", 1, 2), Ok(Some("b".into())));
        assert_eq!(resolved("", 3, 2), Err(ReasonCode::TopicAliasInvalid), "[MQTT-3.3.2-9]");
        assert_eq!(resolved("cc", 2, 2), Err(ReasonCode::QuotaExceeded), "three bytes of topics");
    }

    #[test]
    fn what_the_settings_do_not_allow_is_a_violation() {
        let mut session = session();
        assert_eq!(
            check(&session, &publish(QoS::ExactlyOnce, "a/b"), &limits()),
            Ok(Checked::Ask(TopicName::trusted("a/b")))
        );
        for topic in ["", "a/+", "a/b/c/d"] {
            assert_eq!(code(&session, &publish(QoS::AtMostOnce, topic)), Some(ReasonCode::TopicNameInvalid));
        }
        session.settings.maximum_qos = QoS::AtLeastOnce;
        assert_eq!(code(&session, &publish(QoS::ExactlyOnce, "a")), Some(ReasonCode::QosNotSupported));
        session.settings.retain_available = false;
        let retained = Publish { retain: true, ..publish(QoS::AtMostOnce, "a") };
        assert_eq!(code(&session, &retained), Some(ReasonCode::RetainNotSupported));
    }

    #[test]
    fn a_repetition_of_qos_2_is_known_and_a_full_window_is_a_violation() {
        let mut session = session();
        session.settings.receive_maximum = 1;
        session.inbound.take(PacketId::MIN);
        assert_eq!(check(&session, &publish(QoS::ExactlyOnce, "a"), &limits()), Ok(Checked::Repeated));
        assert_eq!(code(&session, &publish(QoS::AtLeastOnce, "a")), Some(ReasonCode::ReceiveMaximumExceeded));
        assert_eq!(code(&session, &publish(QoS::AtMostOnce, "a")), None);
        session.client.version = ProtocolVersion::V311;
        assert_eq!(code(&session, &publish(QoS::AtLeastOnce, "a")), None, "MQTT 3 knows no Receive Maximum");
    }

    #[test]
    fn a_payload_is_what_it_says() {
        let session = session();
        let properties = PublishProperties { payload_is_utf8: Some(true), ..PublishProperties::default() };
        let lie = |qos| Publish { properties, payload: &[0xFF], ..publish(qos, "a") };
        let invalid = ReasonCode::PayloadFormatInvalid;
        assert_eq!(check(&session, &lie(QoS::AtLeastOnce), &limits()), Ok(Checked::Refused(invalid)));
        assert_eq!(code(&session, &lie(QoS::AtMostOnce)), Some(invalid));
    }

    #[test]
    fn nobody_publishes_to_dollar_topics() {
        let mut session = session();
        let dollar = publish(QoS::AtLeastOnce, "$SYS/x");
        assert_eq!(check(&session, &dollar, &limits()), Ok(Checked::Refused(ReasonCode::NotAuthorized)));
        session.client.version = ProtocolVersion::V311;
        assert_eq!(check(&session, &dollar, &limits()), Ok(Checked::Refused(ReasonCode::Success)));
    }

    #[test]
    fn dollar_topics_of_others_are_routed_if_they_are_listed() {
        let limits = LimitsConfig { dollar_topics: vec!["$aws".to_owned(), "$hw/events".to_owned()], ..limits() };
        let refused = Checked::Refused(ReasonCode::NotAuthorized);
        for (topic, is_routed) in [
            ("$aws", true),
            ("$aws/things", true),
            ("$hw/events/x", true),
            ("$awsome", false),
            ("$hw", false),
            ("$hw/event", false),
            ("$SYS/x", false),
            ("$share/g/x", false),
        ] {
            let expected = if is_routed { Checked::Ask(TopicName::trusted(topic)) } else { refused };
            assert_eq!(check(&session(), &publish(QoS::AtLeastOnce, topic), &limits), Ok(expected), "{topic}");
        }
    }
}
