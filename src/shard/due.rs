//! When something is due for a connection, and what.

use std::time::Duration;

use crate::client::EndReason;
use crate::codec::ReasonCode;
use crate::connection::{Connected, Connection, ConnectionStage, PauseReason};
use crate::handshake::PendingConnect;
use crate::session::Session;
use crate::time::Time;

/// What clients are told whose authentication is not over in time.
pub(super) const AUTH_TIMEOUT: &str = "the authentication took longer than auth_timeout";
/// What clients are told whose packet comes too slowly.
const TOO_SLOW: &str = "a packet came at less than min_packet_rate";
/// How far ahead an entry is armed at most, so that entries whose owner is gone do not pile up.
pub(super) const HORIZON: Duration = Duration::from_secs(60);
/// Looks at connections that are further ahead than this are moved forward to a multiple of [`COARSE_MILLIS`].
const FAR: Duration = Duration::from_secs(2);
const COARSE_MILLIS: u64 = 512;

/// What is due for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// Its CONNECT did not come in time: it is closed without a word.
    NoConnect,
    /// Its authentication is not over in time: its CONNECT is refused.
    NotAuthenticated,
    /// It ends, for this reason and with this code and reason string.
    End(EndReason, ReasonCode, &'static str),
    /// What is in flight to its client is stuck: it is sent again.
    SendAgain,
    /// The pause that it was to make is over.
    ThrottleOver,
    /// It has been held for slow clients as long as may be.
    HoldOver,
    /// It has been held for memory so long that one PUBLISH may pass, if there is something for its client.
    MemoryHoldOver,
}

/// When a connection is looked at for which something is due at `at`: then, or before it. What it waits for mostly moves on before it is
/// due: the CONNECT comes, the client pings. So connections are looked at a little early first, many of them in one wake-up, and only
/// those that still wait are looked at in time.
pub(super) fn first_look(at: Time, now: Time) -> Time {
    let at = at.min(now + HORIZON);
    match at.since(now) > FAR {
        true => Time::from_millis(at.as_millis() / COARSE_MILLIS * COARSE_MILLIS),
        false => at,
    }
}

/// When something is due for a connection. `session` is its session, if it has one.
pub(super) fn when<S>(connection: &Connection<PendingConnect<S>>, session: Option<&Session<S>>) -> Time {
    let connected = match &connection.stage {
        ConnectionStage::Opening { due } => return connection.second_look.due(*due),
        ConnectionStage::Connecting(pending) => return connection.second_look.due(pending.due()),
        ConnectionStage::Connected(connected) => connected,
    };
    let Some(session) = session else { return Time::NEVER };
    let settings = &session.settings;
    let mut due = settings.lifetime.map_or(Time::NEVER, |lifetime| connected.registered + lifetime);
    due = due.min(connected.reauthentication_due);
    if settings.keep_alive > 0 {
        let patience = patience(settings.keep_alive);
        due = due.min(connection.second_look.due(connection.last_heard + patience));
        if !connection.unread.is_empty() {
            due = due.min(connection.progress.due(patience));
        }
    }
    if connection.pauses.contains(PauseReason::Throttle) {
        due = due.min(connection.throttled_until);
    }
    if connection.pauses.contains(PauseReason::SlowConsumer) {
        due = due.min(connection.held_until);
    }
    if connection.pauses.contains(PauseReason::Memory) {
        due = due.min(connection.memory_look);
    }
    if retries(session, connected) {
        due = due.min(connected.retried + settings.retry_interval);
    }
    due
}

/// What is due for a connection now. Takes note of what was looked at. Of a packet that has begun `rate` bytes a second must come.
pub(super) fn what<S>(
    connection: &mut Connection<PendingConnect<S>>,
    session: Option<&Session<S>>,
    rate: usize,
    now: Time,
) -> Due {
    if when(connection, session) > now {
        return Due::Nothing;
    }
    let connected = match &mut connection.stage {
        ConnectionStage::Opening { due } if connection.second_look.is_over(*due, now) => return Due::NoConnect,
        ConnectionStage::Connecting(pending) if connection.second_look.is_over(pending.due(), now) => {
            return Due::NotAuthenticated;
        }
        ConnectionStage::Opening { .. } | ConnectionStage::Connecting(_) => return Due::Nothing,
        ConnectionStage::Connected(connected) => connected,
    };
    let Some(session) = session else { return Due::Nothing };
    let settings = &session.settings;
    if settings.lifetime.is_some_and(|lifetime| connected.registered + lifetime <= now) {
        return Due::End(EndReason::MaximumLifetime, ReasonCode::MaximumConnectTime, "");
    }
    if connected.reauthentication_due <= now {
        return Due::End(EndReason::NotAuthorized, ReasonCode::NotAuthorized, AUTH_TIMEOUT);
    }
    if settings.keep_alive > 0 {
        let (patience, waits_for_us) = (patience(settings.keep_alive), connection.pauses.is_waiting_for_us());
        let silent = connection.last_heard + patience;
        if waits_for_us && silent <= now {
            // Its packets wait because of us: that is not silence.
            connection.last_heard = now;
        } else if connection.second_look.is_over(silent, now) {
            return Due::End(EndReason::KeepAlive, ReasonCode::KeepAliveTimeout, "");
        }
        let is_look_due = !connection.unread.is_empty() && connection.progress.due(patience) <= now;
        if is_look_due && connection.progress.is_too_slow(patience, rate, now) && connection.pauses.is_empty() {
            return Due::End(EndReason::KeepAlive, ReasonCode::KeepAliveTimeout, TOO_SLOW);
        }
    }
    if retries(session, connected) && connected.retried + settings.retry_interval <= now {
        connected.retried = now;
        let oldest = session.outbound.oldest();
        // Not while the client has not even read what was sent before.
        let stuck = oldest.is_some() && oldest == connected.oldest_in_flight && connection.outbox.waiting() == 0;
        connected.oldest_in_flight = oldest;
        if stuck {
            return Due::SendAgain;
        }
    }
    if connection.pauses.contains(PauseReason::Throttle) && connection.throttled_until <= now {
        return Due::ThrottleOver;
    }
    if connection.pauses.contains(PauseReason::SlowConsumer) && connection.held_until <= now {
        return Due::HoldOver;
    }
    if connection.pauses.contains(PauseReason::Memory) && connection.memory_look <= now {
        return Due::MemoryHoldOver;
    }
    Due::Nothing
}

/// Whether what is in flight is sent again on a live connection: never to MQTT 5 clients [MQTT-4.4.0-1].
fn retries<S>(session: &Session<S>, connected: &Connected) -> bool {
    !session.settings.retry_interval.is_zero() && !connected.version.is_v5()
}

/// How long a client may be silent: one and a half times its keep-alive [MQTT-3.1.2-22]. It counts from the end of one packet to the start of
/// the next (3.1.2.10): while one is under way, from its last bytes.
fn patience(keep_alive: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive) * 1500)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::client::ConnectionId;
    use crate::codec::{ProtocolVersion, QoS};
    use crate::connection::testing;
    use crate::session::testing::{delivery, session};

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn opening() -> Connection<PendingConnect<()>> {
        Connection { stage: ConnectionStage::Opening { due: at(5000) }, ..testing::connection(ConnectionId::new(0, 1)) }
    }

    fn connected(version: ProtocolVersion) -> Connection<PendingConnect<()>> {
        Connection { stage: ConnectionStage::Connected(testing::connected(version)), ..opening() }
    }

    fn due(connection: &mut Connection<PendingConnect<()>>, session: &Session<()>, now: Time) -> Due {
        what(connection, Some(session), 10, now)
    }

    #[test]
    fn a_connection_without_connect_is_due_when_it_must_be_complete() {
        let mut connection = opening();
        assert_eq!(what(&mut connection, None, 0, at(4999)), Due::Nothing);
        assert_eq!(what(&mut connection, None, 0, at(5000)), Due::NoConnect);
    }

    #[test]
    fn silence_is_one_and_a_half_times_the_keep_alive_unless_we_are_the_reason() {
        let (mut connection, mut session) = (connected(ProtocolVersion::V5), session());
        session.settings.keep_alive = 2;
        assert_eq!(due(&mut connection, &session, at(2999)), Due::Nothing);
        connection.pauses.insert(PauseReason::HookAnswer);
        assert_eq!(due(&mut connection, &session, at(3000)), Due::Nothing);
        connection.pauses.remove(PauseReason::HookAnswer);
        assert_eq!(due(&mut connection, &session, at(5999)), Due::Nothing);
        connection.pauses.insert(PauseReason::OutputFull);
        let end = Due::End(EndReason::KeepAlive, ReasonCode::KeepAliveTimeout, "");
        assert_eq!(due(&mut connection, &session, at(6000)), end, "not reading is the client's own doing");
    }

    #[test]
    fn who_is_late_to_look_looks_twice() {
        let mut connection = opening();
        assert_eq!(what(&mut connection, None, 0, at(9000)), Due::Nothing);
        assert_eq!(when(&connection, None), at(13_000));
        assert_eq!(what(&mut connection, None, 0, at(13_000)), Due::NoConnect);
        let (mut connection, mut session) = (connected(ProtocolVersion::V5), session());
        session.settings.keep_alive = 2;
        assert_eq!(due(&mut connection, &session, at(4000)), Due::Nothing);
        assert_eq!(when(&connection, Some(&session)), at(5000));
        let end = Due::End(EndReason::KeepAlive, ReasonCode::KeepAliveTimeout, "");
        assert_eq!(due(&mut connection, &session, at(5000)), end);
        connection.last_heard = at(4999);
        assert_eq!(due(&mut connection, &session, at(5000)), Due::Nothing, "its bytes were read in the meantime");
    }

    #[test]
    fn a_packet_under_way_has_to_come_at_the_lowest_rate() {
        let (mut connection, mut session) = (connected(ProtocolVersion::V5), session());
        session.settings.keep_alive = 2;
        connection.unread.push(b"\x30\x7F");
        connection.progress.begin(2, at(0));
        for second in 1..10 {
            connection.progress.add(10);
            connection.last_heard = at(second * 1000);
            assert_eq!(due(&mut connection, &session, at(second * 1000)), Due::Nothing, "{second}");
        }
        connection.last_heard = at(11_999);
        assert_eq!(when(&connection, Some(&session)), at(12_000));
        let end = Due::End(EndReason::KeepAlive, ReasonCode::KeepAliveTimeout, TOO_SLOW);
        assert_eq!(due(&mut connection, &session, at(12_000)), end);
        connection.progress.begin(0, at(12_000));
        connection.pauses.insert(PauseReason::HookAnswer);
        connection.last_heard = at(15_000);
        assert_eq!(due(&mut connection, &session, at(15_000)), Due::Nothing, "it is not read");
        assert!(when(&connection, Some(&session)) > at(15_000));
    }

    #[test]
    fn lifetimes_and_exchanges_end() {
        let (mut connection, mut session) = (connected(ProtocolVersion::V5), session());
        session.settings.lifetime = Some(Duration::from_secs(1));
        let end = Due::End(EndReason::MaximumLifetime, ReasonCode::MaximumConnectTime, "");
        assert_eq!(due(&mut connection, &session, at(1000)), end);
        session.settings.lifetime = None;
        connection.connected_mut().expect("it is").reauthentication_due = at(7);
        let end = Due::End(EndReason::NotAuthorized, ReasonCode::NotAuthorized, AUTH_TIMEOUT);
        assert_eq!((due(&mut connection, &session, at(6)), due(&mut connection, &session, at(7))), (Due::Nothing, end));
    }

    #[test]
    fn what_is_stuck_for_an_interval_is_sent_again_to_mqtt_3_clients() {
        let mut session = session();
        session.settings.retry_interval = Duration::from_secs(1);
        session.outbound.launch(delivery("x", QoS::AtLeastOnce));
        let mut v3 = connected(ProtocolVersion::V311);
        assert_eq!(due(&mut v3, &session, at(1000)), Due::Nothing, "it is seen for the first time");
        assert_eq!(due(&mut v3, &session, at(2000)), Due::SendAgain);
        let mut v5 = connected(ProtocolVersion::V5);
        assert_eq!(when(&v5, Some(&session)), Time::NEVER);
        assert_eq!(due(&mut v5, &session, at(2000)), Due::Nothing);
    }

    #[test]
    fn a_throttle_ends_when_it_was_to() {
        let (mut connection, session) = (connected(ProtocolVersion::V5), session());
        connection.pauses.insert(PauseReason::Throttle);
        connection.throttled_until = at(10);
        assert_eq!(
            (due(&mut connection, &session, at(9)), due(&mut connection, &session, at(10))),
            (Due::Nothing, Due::ThrottleOver)
        );
    }

    #[test]
    fn who_is_held_for_memory_is_looked_at_when_it_was_to_be() {
        let (mut connection, session) = (connected(ProtocolVersion::V5), session());
        connection.memory_look = at(10);
        assert_eq!(when(&connection, Some(&session)), Time::NEVER, "it is not held");
        connection.pauses.insert(PauseReason::Memory);
        assert_eq!(when(&connection, Some(&session)), at(10));
        assert_eq!(due(&mut connection, &session, at(9)), Due::Nothing);
        assert_eq!(due(&mut connection, &session, at(10)), Due::MemoryHoldOver);
    }

    #[test]
    fn what_is_near_is_looked_at_in_time_and_what_is_far_a_little_early() {
        for now in (0..100_000).step_by(77).map(at) {
            for ahead in [0, 1, 500, 2000] {
                let due = now + Duration::from_millis(ahead);
                assert_eq!(first_look(due, now), due);
            }
            for ahead in [2001, 5000, 59_999] {
                let due = now + Duration::from_millis(ahead);
                let look = first_look(due, now);
                assert!(look > now && look <= due && due.since(look) < Duration::from_millis(COARSE_MILLIS));
            }
            assert!(first_look(Time::NEVER, now) <= now + HORIZON);
        }
    }

    #[test]
    fn connections_of_one_second_are_looked_at_in_few_wake_ups() {
        let looks = (0..1000).map(at).map(|now| first_look(now + Duration::from_secs(5), now));
        assert!(looks.collect::<HashSet<_>>().len() <= 3);
    }
}
