//! Notifications whose hooks asked for more time.
//!
//! What they want done for one subscriber id is done one after the other, in the order of the calls, never two at a time.
//! Until it is, a live client is not served and sees nothing of what was written for it, and a connection that arrives for
//! the id waits before it is registered. Others do not wait. Nor does what happens to the session in the meantime: its hooks
//! are called at once, and what these want done comes last.

use std::collections::VecDeque;

use super::attempt::Arrival;
use super::{Shard, Waits};
use crate::client::{ConnectionId, SubscriberId};
use crate::connection::PauseReason;
use crate::hooks::{Chain, HookFuture, Notified, PendingAnswer};

/// What is to be done for one subscriber id, while there is something. `S` is what the hooks keep with a session.
pub(super) struct Notices<S> {
    /// Behind the one that runs.
    queue: VecDeque<ToDo>,
    /// Connections that wait to be registered.
    arrivals: VecDeque<(ConnectionId, Box<Arrival<S>>)>,
}

/// What one link wants done.
struct ToDo {
    link: usize,
    future: HookFuture,
    hook: &'static str,
}

impl<C: Chain> Shard<C> {
    /// `hook` was called for a session.
    #[inline]
    pub(super) fn notified(&mut self, session: u32, notified: Notified, hook: &'static str) {
        self.counters.hook_failures += u64::from(notified.failed());
        if let Some(futures) = notified.into_pending()
            && let Some(session) = self.sessions.get(session)
        {
            let subscriber = session.client.subscriber.clone();
            self.run_notices(subscriber, futures, hook);
        }
    }

    /// `hook` was called for a subscriber id whose session is not in the tables: not yet, or no more.
    pub(super) fn notified_without_session(&mut self, id: &SubscriberId, notified: Notified, hook: &'static str) {
        self.counters.hook_failures += u64::from(notified.failed());
        if let Some(futures) = notified.into_pending() {
            self.run_notices(id.clone(), futures, hook);
        }
    }

    #[cold]
    fn run_notices(&mut self, subscriber: SubscriberId, futures: Vec<PendingAnswer>, hook: &'static str) {
        if let Some(connection) = self.connection_of(&subscriber) {
            self.hold_for_notices(connection);
        }
        let to_do = futures.into_iter().map(|PendingAnswer { link, future, .. }| ToDo { link, future, hook });
        if let Some(notices) = self.notices.get_mut(&subscriber) {
            notices.queue.extend(to_do);
            return;
        }
        let notices = Notices { queue: to_do.collect(), arrivals: VecDeque::new() };
        self.notices.insert(subscriber.clone(), notices);
        self.notice_done(subscriber);
    }

    /// What ran for `subscriber`, if anything did, is done or was given up: what comes next?
    pub(super) fn notice_done(&mut self, subscriber: SubscriberId) {
        let Some(notices) = self.notices.get_mut(&subscriber) else { return };
        if let Some(ToDo { link, future, hook }) = notices.queue.pop_front() {
            self.run_hook(Waits::Subscriber(subscriber), link, future, hook);
            return;
        }
        let arrivals = self.notices.remove(&subscriber).map(|notices| notices.arrivals).unwrap_or_default();
        if let Some(id) = self.connection_of(&subscriber) {
            if let Some(connection) = self.connections.get_mut(id)
                && connection.outbox.has_output()
            {
                connection.dirty = true;
                self.dirty.push(id);
            }
            self.release(id, PauseReason::Notice);
        }
        for (id, arrival) in arrivals {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.pauses.release(PauseReason::Hook);
                self.register(id, arrival);
                self.go_on(id);
            }
        }
        self.go_on_moving(&subscriber);
        self.stopped_if_told();
    }

    /// Has a client that is to be registered wait until what was begun for its subscriber id is done. Gives it back if
    /// there is nothing to wait for.
    pub(super) fn wait_for_notices(
        &mut self,
        id: ConnectionId,
        arrival: Box<Arrival<C::State>>,
    ) -> Option<Box<Arrival<C::State>>> {
        let Some(notices) = self.notices.get_mut(&arrival.client.subscriber) else { return Some(arrival) };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.pauses.insert(PauseReason::Hook);
            notices.arrivals.push_back((id, arrival));
        }
        None
    }

    /// Has a connection that was just registered wait for what its registration began.
    pub(super) fn hold_if_noticed(&mut self, id: ConnectionId, subscriber: &SubscriberId) {
        if self.notices.contains_key(subscriber) {
            self.hold_for_notices(id);
        }
    }

    fn hold_for_notices(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.pauses.insert(PauseReason::Notice);
        }
    }

    fn connection_of(&self, subscriber: &SubscriberId) -> Option<ConnectionId> {
        self.sessions.get(self.sessions.find(subscriber)?)?.connection
    }
}
