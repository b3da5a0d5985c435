//! Wills: when one is published, and as what.

use crate::client::{Client, EndReason};
use crate::codec::PublishProperties;
use crate::hooks::{Chain, Notified, PublishedM5, ask};
use crate::message::Publication;
use crate::session::{Session, Will};
use crate::time::Time;

/// What becomes of the will of a session whose connection has ended for `reason`: whether it is published now. If not, it is forgotten
/// (`suppress_will_on_takeover`), or put off until its delay has passed or the session ends, whichever comes first [MQTT-3.1.3-9]; a
/// broker that `stops` has no time for delays. DISCONNECT with reason code 0x00 has removed the will already.
pub fn publish_will<S>(
    session: &mut Session<S>,
    reason: EndReason,
    suppress_on_takeover: bool,
    stops: bool,
    now: Time,
) -> bool {
    if reason == EndReason::TakenOver && suppress_on_takeover {
        session.will = None;
        return false;
    }
    let Some(will) = &session.will else { return false };
    let delayed = session.settings.kept && !will.delay.is_zero();
    if !delayed || stops {
        return true;
    }
    let ends_first = session.settings.expiry.is_some_and(|expiry| expiry <= will.delay);
    // If the session ends first, its end publishes the will.
    session.will_due = if ends_first { Time::NEVER } else { now + will.delay };
    false
}

/// The message of a will that is published now: its expiry begins.
pub fn will_publication(will: &Will, now: Time) -> Publication<'_> {
    let mut publication = will.message.publication();
    if let Some(expiry) = will.expiry {
        publication.expire(now + expiry);
    }
    publication
}

/// Tells `on_publish` of a will.
pub fn tell_will<C: Chain>(chain: &mut C, client: &Client, state: &mut C::State, will: &Will) -> Notified {
    let message = &will.message;
    let published = PublishedM5 {
        mountpoint: &will.mountpoint,
        topic: message.topic().as_str(),
        payload: message.payload(),
        qos: message.qos(),
        retain: message.retain(),
        is_will: true,
        properties: &PublishProperties::parse(message.properties()).unwrap_or_default(),
    };
    ask::published(chain, client, state, &published)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::QoS;
    use crate::session::testing::{delivery, session};

    const NOW: Time = Time::from_millis(1000);

    fn with_will(delay: u64) -> Session<()> {
        let mut session = session();
        let message = delivery("last", QoS::AtMostOnce).message;
        session.will = Some(Will {
            message,
            mountpoint: "".into(),
            delay: Duration::from_secs(delay),
            expiry: Some(Duration::from_secs(3)),
        });
        session
    }

    fn left(session: &mut Session<()>, reason: EndReason) -> bool {
        publish_will(session, reason, true, false, NOW)
    }

    #[test]
    fn a_will_without_delay_is_published_at_once() {
        let mut session = with_will(0);
        assert!(left(&mut session, EndReason::ConnectionLost));
        assert!(!left(&mut self::session(), EndReason::ConnectionLost), "there is none");
    }

    /// [MQTT-3.1.3-9]
    #[test]
    fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
        let mut session = with_will(5);
        assert!(!left(&mut session, EndReason::ConnectionLost));
        assert_eq!(session.will_due, NOW + Duration::from_secs(5));
        session.settings.expiry = Some(Duration::from_secs(5));
        assert!(!left(&mut session, EndReason::ConnectionLost));
        assert_eq!(session.will_due, Time::NEVER, "the session ends first");
        session.settings.kept = false;
        assert!(left(&mut session, EndReason::ConnectionLost));
        assert!(publish_will(&mut with_will(5), EndReason::ServerShutdown, true, true, NOW));
    }

    #[test]
    fn a_takeover_may_suppress_it() {
        let mut session = with_will(0);
        assert!(!left(&mut session, EndReason::TakenOver) && session.will.is_none());
        assert!(publish_will(&mut with_will(0), EndReason::TakenOver, false, false, NOW));
    }

    #[test]
    fn its_expiry_begins_when_it_is_published() {
        let session = with_will(0);
        let will = session.will.as_ref().expect("it has one");
        assert_eq!(will_publication(will, NOW).expires, NOW + Duration::from_secs(3));
    }
}
