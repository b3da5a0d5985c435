//! What happens when time passes: deadlines of connections, sessions, hooks.
//!
//! There is no timer for each packet. A connection or session has at most one entry of its own in the wheel; when it fires,
//! its owner is looked at, and what is due is done. An entry is never armed further ahead than [`HORIZON`], so that entries
//! whose connection is gone do not pile up.
//!
//! What a connection waits for mostly moves on before it is due: the CONNECT comes, the client pings. So connections are looked
//! at a little early first, many of them in one wake-up, and only those that still wait are looked at in time.

use std::time::Duration;

use super::{Shard, Task, Waits};
use crate::client::{ConnectionId, EndReason, ExpiredReason};
use crate::codec::ReasonCode;
use crate::config::OnDeadline;
use crate::connection::{Connection, ConnectionStage, PauseReason};
use crate::hooks::{Chain, HookAnswer, Outcome};
use crate::time::Time;

/// An entry in the timer wheel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// Something of the connection at this index.
    Connection(usize),
    /// Something of the session at this index.
    Session(u32),
    /// A hook that answers later.
    Hook(u64),
    /// A client that publishers wait for.
    Consumer(ConnectionId),
    /// A publisher whose client has left.
    Publisher(ConnectionId),
    /// `$SYS` is to be published.
    Sys,
    /// Retained messages that expired are to be forgotten, and what moves have left behind.
    Sweep,
    /// Sessions that could not begin to move are looked at again.
    Moves,
}

/// What clients are told whose authentication is not over in time.
const AUTH_TIMEOUT: &str = "the authentication took longer than auth_timeout";
/// How far ahead an entry is armed at most.
const HORIZON: Duration = Duration::from_secs(60);
/// Looks at connections that are further ahead than this are moved forward to a multiple of [`COARSE_MILLIS`].
const FAR: Duration = Duration::from_secs(2);
const COARSE_MILLIS: u64 = 512;
/// How often retained messages are searched for expired ones.
pub(super) const SWEEP: Duration = Duration::from_secs(60);

impl<C: Chain> Shard<C> {
    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.now = now;
        let mut fired = std::mem::take(&mut self.fired);
        self.deadlines.expire(now, &mut |deadline| fired.push(deadline));
        for deadline in fired.drain(..) {
            match deadline {
                Deadline::Connection(index) => self.look_at_connection(index),
                Deadline::Session(index) => self.look_at_session(index),
                Deadline::Hook(task) => self.hook_due(task),
                Deadline::Consumer(id) => self.consumer_is_due(id),
                Deadline::Publisher(id) => self.publisher_told(id, false),
                Deadline::Sys => self.sys_due(),
                Deadline::Moves => self.begin_moves(),
                Deadline::Sweep => {
                    self.realms.iter_mut().for_each(|realm| realm.retained.forget_expired(now));
                    self.forget_cuts();
                    self.deadlines.arm(now + SWEEP, Deadline::Sweep);
                }
            }
        }
        self.fired = fired;
    }

    /// When [`Shard::tick`] is to be called next, at the latest.
    pub fn next_deadline(&self) -> Time {
        self.deadlines.next()
    }

    /// Has the connection looked at when `at` has come.
    pub(super) fn arm_connection(&mut self, id: ConnectionId, at: Time) {
        let Some(due) = self.connections.due_mut(id.index()) else { return };
        let at = first_look(at, self.now);
        if due.wants(at) {
            self.deadlines.arm(at, Deadline::Connection(id.index()));
        }
    }

    /// Has a connection that was just registered, or whose terms changed, looked at in time.
    pub(super) fn arm_connected(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            let due = self.connection_due(connection);
            self.arm_connection(id, due);
        }
    }

    /// Has an offline session looked at in time.
    pub(super) fn arm_session(&mut self, index: u32) {
        let Some(session) = self.sessions.get(index) else { return };
        let at = session.expires.min(session.will_due);
        if at == Time::NEVER || session.connection.is_some() {
            return;
        }
        let at = at.min(self.now + HORIZON);
        let Some(due) = self.sessions.due_mut(index) else { return };
        if due.wants(at) {
            self.deadlines.arm(at, Deadline::Session(index));
        }
    }

    /// When something of this connection is due.
    fn connection_due(&self, connection: &Connection<super::Attempt<C::State>>) -> Time {
        let connected = match &connection.stage {
            ConnectionStage::Opening => {
                return connection.last_heard + self.listeners[connection.listener].connect_timeout;
            }
            ConnectionStage::Connecting(attempt) => return attempt.due,
            ConnectionStage::Connected(connected) => connected,
        };
        let Some(session) = self.sessions.get(connected.session) else { return Time::NEVER };
        let terms = &session.settings;
        let mut due = terms.lifetime.map_or(Time::NEVER, |lifetime| connected.registered + lifetime);
        due = due.min(connected.reauthentication_due);
        if terms.keep_alive > 0 {
            due = due.min(connection.last_heard + patience(terms.keep_alive));
        }
        if connection.pauses.contains(PauseReason::Throttle) {
            due = due.min(connection.throttled_until);
        }
        if !terms.retry_interval.is_zero() && !connected.version.is_v5() {
            due = due.min(connected.retried + terms.retry_interval);
        }
        due
    }

    fn look_at_connection(&mut self, index: usize) {
        let Some(due) = self.connections.due_mut(index) else { return };
        if !due.fires(self.now) {
            return;
        }
        let Some(id) = self.connections.id_at(index) else { return };
        let Some(connection) = self.connections.get(id) else { return };
        if self.connection_due(connection) <= self.now {
            self.connection_is_due(id);
        }
        self.arm_connected(id);
    }

    fn connection_is_due(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let connected = match &mut connection.stage {
            // Its CONNECT is here, and waits for a hook.
            ConnectionStage::Opening if connection.pauses.is_waiting_for_us() => {
                connection.last_heard = now;
                return;
            }
            ConnectionStage::Opening => {
                tracing::info!(peer = %connection.peer, "connection closed: no CONNECT within connect_timeout");
                return self.forget_connection(id, None);
            }
            ConnectionStage::Connecting(_) => {
                return self.refuse(id, ReasonCode::NotAuthorized, AUTH_TIMEOUT);
            }
            ConnectionStage::Connected(connected) => connected,
        };
        let Some(session) = self.sessions.get(connected.session) else { return };
        let terms = &session.settings;
        if terms.lifetime.is_some_and(|lifetime| connected.registered + lifetime <= now) {
            return self.end_connection(id, EndReason::MaximumLifetime, Some((ReasonCode::MaximumConnectTime, "")));
        }
        if connected.reauthentication_due <= now {
            let told = (ReasonCode::NotAuthorized, AUTH_TIMEOUT);
            return self.end_connection(id, EndReason::NotAuthorized, Some(told));
        }
        if terms.keep_alive > 0 && connection.last_heard + patience(terms.keep_alive) <= now {
            if connection.pauses.is_waiting_for_us() {
                // Its packets wait because of us: that is not silence.
                connection.last_heard = now;
            } else {
                return self.end_connection(id, EndReason::KeepAlive, Some((ReasonCode::KeepAliveTimeout, "")));
            }
        }
        // Never to MQTT 5 clients [MQTT-4.4.0-1].
        let retries = !terms.retry_interval.is_zero() && !connected.version.is_v5();
        if retries && connected.retried + terms.retry_interval <= now {
            connected.retried = now;
            let (index, oldest) = (connected.session, session.outbound.oldest());
            // Not while the client has not even read what was sent before.
            let stuck = oldest.is_some() && oldest == connected.oldest_in_flight && connection.outbox.waiting() == 0;
            connected.oldest_in_flight = oldest;
            if stuck {
                self.resend(index);
            }
        }
        let Some(connection) = self.connections.get(id) else { return };
        if connection.pauses.contains(PauseReason::Throttle) && connection.throttled_until <= now {
            self.release(id, PauseReason::Throttle);
        }
    }

    fn look_at_session(&mut self, index: u32) {
        let Some(due) = self.sessions.due_mut(index) else { return };
        if !due.fires(self.now) {
            return;
        }
        let Some(session) = self.sessions.get(index) else { return };
        if session.connection.is_some() {
            return;
        }
        if session.will_due <= self.now {
            self.publish_will_of(index);
        }
        if self.sessions.get(index).is_some_and(|session| session.expires <= self.now) {
            self.expire_session(index, ExpiredReason::Expiry);
        }
        self.arm_session(index);
    }

    /// A hook has not answered in time.
    fn hook_due(&mut self, task: u64) {
        let Some(Task { waits, hook, link, asked }) = self.tasks.remove(&task) else { return };
        self.chain.settle(link, hook, Outcome::TimedOut, self.now.since(asked));
        self.effects.push(super::Effect::CancelHook { task });
        tracing::error!(hook, "hook did not answer before its deadline");
        match (waits, self.config.hooks.deadline_of(hook).1) {
            // Who refuses the packet counts the failure.
            (Waits::Connection(id), OnDeadline::Refuse) => self.resume_hook(id, task, Some(HookAnswer::Failed)),
            (Waits::Connection(id), OnDeadline::Allow) => {
                self.counters.hook_failures += 1;
                self.resume_hook(id, task, None);
            }
            (Waits::Subscriber(subscriber), _) => {
                self.counters.hook_failures += 1;
                self.notice_done(subscriber);
            }
        }
    }
}

/// When a connection is looked at for which something is due at `at`: then, or before it.
fn first_look(at: Time, now: Time) -> Time {
    let at = at.min(now + HORIZON);
    match at.since(now) > FAR {
        true => Time::from_millis(at.as_millis() / COARSE_MILLIS * COARSE_MILLIS),
        false => at,
    }
}

/// How long a client may be silent: one and a half times its keep-alive [MQTT-3.1.2-22].
fn patience(keep_alive: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive) * 1500)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_near_is_looked_at_in_time_and_what_is_far_a_little_early() {
        for now in (0..100_000).step_by(77).map(Time::from_millis) {
            for ahead in [0, 1, 500, 2000] {
                let at = now + Duration::from_millis(ahead);
                assert_eq!(first_look(at, now), at);
            }
            for ahead in [2001, 5000, 59_999] {
                let at = now + Duration::from_millis(ahead);
                let look = first_look(at, now);
                assert!(look > now && look <= at && at.since(look) < Duration::from_millis(COARSE_MILLIS));
            }
            assert!(first_look(Time::NEVER, now) <= now + HORIZON);
        }
    }

    #[test]
    fn connections_of_one_second_are_looked_at_in_few_wake_ups() {
        let looks = (0..1000).map(Time::from_millis).map(|now| first_look(now + Duration::from_secs(5), now));
        assert!(looks.collect::<HashSet<_>>().len() <= 3);
    }
}
