//! UNSUBSCRIBE taken apart; SUBACK and UNSUBACK put together.

use super::grants::well_formed;
use super::{ClientSubscribe, PendingSubscribe};
use crate::codec::{Explained, PacketId, ProtocolVersion, ReasonCode, Suback, Unsuback, Unsubscribe, UserProperties};
use crate::config::LimitsConfig;
use crate::connection::Violation;
use crate::hooks::UnsubscribeModifiersM5;
use crate::session::{Session, SessionSettings};
use crate::topic::TopicFilter;

/// Writes the SUBACK.
///
/// # Errors
///
/// The violation, if it is larger than the client takes.
pub fn suback(
    pending: &PendingSubscribe,
    client: &ClientSubscribe,
    version: ProtocolVersion,
    settings: &SessionSettings,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let code = |granted: &Result<super::Granted, ReasonCode>| match granted {
        Ok(granted) => ReasonCode::granted(granted.options.qos),
        Err(code) => *code,
    };
    let beyond = std::iter::repeat_n(ReasonCode::QuotaExceeded, pending.beyond);
    let codes: Vec<ReasonCode> = pending.granted.iter().map(code).chain(beyond).collect();
    let mut suback = Suback::new(client.packet_id, &codes[..]);
    if settings.problem_information {
        suback.reason_string = client.modifiers.reason_string.as_deref();
        suback.user = UserProperties::from(&client.modifiers.user_properties[..]);
    }
    fit(&mut suback, version, settings)?;
    suback.encode(version, out);
    Ok(())
}

/// Writes the UNSUBACK: `codes`, and what the hooks want to be told.
///
/// # Errors
///
/// The violation, if it is larger than the client takes.
pub fn unsuback(
    packet_id: PacketId,
    codes: &[ReasonCode],
    by: &UnsubscribeModifiersM5,
    version: ProtocolVersion,
    settings: &SessionSettings,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let mut unsuback = Unsuback::new(packet_id, codes);
    if settings.problem_information {
        unsuback.reason_string = by.reason_string.as_deref();
        unsuback.user = UserProperties::from(&by.user_properties[..]);
    }
    fit(&mut unsuback, version, settings)?;
    unsuback.encode(version, out);
    Ok(())
}

/// Leaves out of an answer what has to be for it to fit into the client's Maximum Packet Size.
fn fit(answer: &mut impl Explained, version: ProtocolVersion, settings: &SessionSettings) -> Result<(), Violation> {
    if answer.shorten(version, settings.maximum_outgoing) { Ok(()) } else { Err(Violation::ANSWER_TOO_LARGE) }
}

/// The filters of an UNSUBSCRIBE.
///
/// # Errors
///
/// The violation, if there are too many, or one of them is ill-formed.
pub fn to_remove<'a>(unsubscribe: &Unsubscribe<'a>, limits: &LimitsConfig) -> Result<Vec<&'a str>, Violation> {
    let requested: Vec<&str> = unsubscribe.filters.iter().collect();
    if requested.len() > limits.max_filters_per_subscribe {
        return Err(Violation::new(ReasonCode::QuotaExceeded, "more filters than max_filters_per_subscribe"));
    }
    requested.iter().try_for_each(|filter| well_formed(filter))?;
    Ok(requested)
}

/// Takes the subscriptions out of their session: what becomes of each filter, and the filters that were subscribed to. There is one answer
/// for each filter of the packet [MQTT-3.11.3-1], whatever the hooks left out or added.
pub fn unsubscribe<S>(
    session: &mut Session<S>,
    requested: &[&str],
    by: &UnsubscribeModifiersM5,
    max_levels: usize,
) -> (Vec<ReasonCode>, Vec<TopicFilter>) {
    let by_hooks = by.filters.iter().flatten().map(String::as_str).map(Some).chain(std::iter::repeat(None));
    let mut removed = Vec::new();
    let codes = requested.iter().zip(by_hooks).map(|(asked, rewritten)| {
        let Ok(filter) = TopicFilter::parse(rewritten.unwrap_or(asked), max_levels) else {
            return ReasonCode::TopicFilterInvalid;
        };
        if !session.subscriptions.remove(&filter) {
            return ReasonCode::NoSubscriptionExisted;
        }
        removed.push(filter);
        ReasonCode::Success
    });
    (codes.collect(), removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, QoS, Sender, Split, SubscriptionOptions, decode, split};
    use crate::session::Subscription;
    use crate::session::testing::session;

    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn subscribed(filters: &[&str]) -> Session<()> {
        let mut session = session();
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let parsed = filters.iter().map(|filter| TopicFilter::parse(filter, 8).expect("a valid filter"));
        parsed.for_each(|filter| session.subscriptions.put(filter, Subscription { options, id: 0 }));
        session
    }

    /// [MQTT-4.13.1-1]
    #[test]
    fn a_filter_that_is_none_is_a_violation() {
        let limits = LimitsConfig { max_filters_per_subscribe: 2, ..LimitsConfig::default() };
        let code = |filters: &[&str]| {
            let unsubscribe = Unsubscribe::new(PacketId::MIN, filters);
            to_remove(&unsubscribe, &limits).map(|filters| filters.len()).map_err(|violation| violation.code)
        };
        assert_eq!(code(&["a", "$share/g/b"]), Ok(2));
        assert_eq!(code(&["a", "b", "c"]), Err(ReasonCode::QuotaExceeded));
        for filter in ["", "a/#/b", "a#", "+a/b", "$share/g", "$share//t", "$share/g+/t"] {
            assert_eq!(code(&["a", filter]), Err(ReasonCode::ProtocolError), "{filter}");
        }
    }

    #[test]
    fn each_filter_of_the_packet_is_answered_as_the_hooks_have_it() {
        let mut session = subscribed(&["a", "c"]);
        let by = UnsubscribeModifiersM5 { filters: Some(vec!["c".to_owned()]), ..Default::default() };
        let (codes, removed) = unsubscribe(&mut session, &["b", "x", "9/".repeat(9).as_str()], &by, 8);
        let invalid = ReasonCode::TopicFilterInvalid;
        assert_eq!(codes, [ReasonCode::Success, ReasonCode::NoSubscriptionExisted, invalid]);
        assert_eq!(removed.iter().map(TopicFilter::as_str).collect::<Vec<_>>(), ["c"]);
        assert_eq!(session.subscriptions.len(), 1);
    }

    #[test]
    fn an_unsuback_says_what_the_client_wants_to_know_and_takes() {
        let (mut session, by) =
            (session(), UnsubscribeModifiersM5 { reason_string: Some("why".into()), ..Default::default() });
        let reason = |session: &Session<()>| {
            let mut out = Vec::new();
            unsuback(PacketId::MIN, &[ReasonCode::Success], &by, V5, &session.settings, &mut out).map(|()| {
                let Ok(Split::Frame(frame)) = split(&out, out.len()) else { panic!("a whole packet") };
                let Ok(Packet::Unsuback(unsuback)) = decode(frame, V5, Sender::Server) else { panic!("an UNSUBACK") };
                unsuback.reason_string.map(str::to_owned)
            })
        };
        assert_eq!(reason(&session), Ok(Some("why".to_owned())));
        session.settings.maximum_outgoing = 6;
        assert_eq!(reason(&session), Ok(None));
        session.settings.maximum_outgoing = 5;
        assert_eq!(reason(&session), Err(Violation::ANSWER_TOO_LARGE));
        session.settings.maximum_outgoing = usize::MAX;
        session.settings.problem_information = false;
        assert_eq!(reason(&session), Ok(None), "[MQTT-3.1.2-29]");
    }
}
