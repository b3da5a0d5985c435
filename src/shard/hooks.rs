//! Hooks under way: how they begin, and what goes on when they are done.

use std::time::Duration;

use super::agenda::{Deadline, FollowUp};
use super::clients::Clients;
use super::output::Output;
use super::recording;
use crate::client::{ConnectionId, SubscriberId};
use crate::connection::{ConnectionStage, PauseReason, Pending};
use crate::hooks::{Chain, Notified, Outcome, PendingAnswer};
use crate::memory::{Held, allocated};
use crate::pending_hooks::{Admitted, Next, Waiter};
use crate::publishing::RawPacket;
use crate::session::MigrationState;

impl<C: Chain> Clients<C> {
    /// A hook was told of something about a session.
    #[inline]
    pub(super) fn notified(&mut self, session: u32, notified: Notified) {
        self.statistics.counters.hook_failures += u64::from(notified.failed());
        if notified.has_state_changed() {
            recording::record_hook_state(self, session);
        }
        if let Some(pending) = notified.into_pending()
            && let Some(session) = self.sessions.get(session)
        {
            let subscriber = session.client.subscriber.clone();
            self.run_tasks(&subscriber, pending);
        }
    }

    /// A hook was told of something about a subscriber id whose session is not in the table: not yet, or no more.
    pub(super) fn notified_about(&mut self, subscriber: &SubscriberId, notified: Notified) {
        self.statistics.counters.hook_failures += u64::from(notified.failed());
        if let Some(pending) = notified.into_pending() {
            self.run_tasks(subscriber, pending);
        }
    }

    /// A hook was told of a message of a session: what it wants done holds up nobody, and is done if there is room for it.
    #[inline]
    pub(super) fn notified_of_message(&mut self, session: u32, notified: Notified) {
        self.statistics.counters.hook_failures += u64::from(notified.failed());
        if notified.has_state_changed() {
            recording::record_hook_state(self, session);
        }
        if let Some(pending) = notified.into_pending()
            && let Some(session) = self.sessions.get(session)
        {
            let subscriber = session.client.subscriber.clone();
            self.run_message_tasks(subscriber, pending);
        }
    }

    /// The same of a message of a session that is not in the table any more.
    #[inline]
    pub(super) fn notified_of_message_of(&mut self, subscriber: &SubscriberId, notified: Notified) {
        self.statistics.counters.hook_failures += u64::from(notified.failed());
        if let Some(pending) = notified.into_pending() {
            self.run_message_tasks(subscriber.clone(), pending);
        }
    }

    #[cold]
    fn run_message_tasks(&mut self, subscriber: SubscriberId, pending: Vec<PendingAnswer>) {
        let Admitted { first, dropped } = self.pending_hooks.messages.add(&subscriber, pending);
        self.drop_tasks(dropped);
        if let Some(first) = first {
            self.run_hook(Waiter::Messages(subscriber), first);
        }
    }

    /// What was under way about a message is done, or was given up. In the latter case the others are given up, too, if the shard
    /// stops: it waits for none of them longer than for one.
    pub(super) fn message_task_done(&mut self, subscriber: SubscriberId, too_late: bool) {
        if too_late && self.agenda.is_stopping() {
            let given_up = self.pending_hooks.messages.give_up(&subscriber);
            self.drop_tasks(given_up);
        }
        if let Some(next) = self.pending_hooks.messages.next(&subscriber) {
            self.run_hook(Waiter::Messages(subscriber), next);
        }
    }

    fn drop_tasks(&mut self, tasks: impl IntoIterator<Item = PendingAnswer>) {
        for PendingAnswer { hook, link, .. } in tasks {
            self.chain.settle(link, hook, Outcome::Dropped, Duration::ZERO);
        }
    }

    /// Has tasks of notifications about a subscriber id done, one after the other. Its client waits.
    #[cold]
    fn run_tasks(&mut self, subscriber: &SubscriberId, pending: Vec<PendingAnswer>) {
        if let Some(connection) = self.sessions.of(subscriber).and_then(|session| session.connection) {
            self.connections.pause(connection, PauseReason::Notification);
        }
        if let Some(first) = self.pending_hooks.notified(subscriber, pending) {
            self.run_hook(Waiter::Subscriber(subscriber.clone()), first);
        }
    }

    /// Has the runtime run a hook to its end, with the deadline of the hook. Gives its number.
    pub(super) fn run_hook(&mut self, waiter: Waiter, pending: PendingAnswer) -> u64 {
        let (task, now) = (self.agenda.number(), self.agenda.now());
        self.pending_hooks.begin(task, waiter, &pending, now);
        let (within, _) = self.setup.config.hooks.deadline_of(pending.hook);
        self.agenda.arm(now + within, Deadline::Hook(task));
        self.agenda.output(Output::RunHook { task, future: pending.future });
        task
    }

    /// What was under way about a subscriber id is done or was given up.
    pub(super) fn task_done(&mut self, subscriber: &SubscriberId) {
        let next = self.pending_hooks.next(subscriber);
        go_on(self, subscriber, next);
    }

    /// Puts a packet off until a hook has answered. Its connection is not served until then.
    pub(super) fn put_off(&mut self, id: ConnectionId, raw: &RawPacket<'_>, pending: PendingAnswer) {
        let link = pending.link;
        let task = self.run_hook(Waiter::Connection(id), pending);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses.insert(PauseReason::HookAnswer);
        if let ConnectionStage::Connected(connected) = &mut connection.stage {
            let held = Held::new(allocated(raw.bytes.len()));
            connected.pending = Some(Pending::Hook { task, link, frame: raw.bytes.to_vec(), held });
        }
    }
}

/// Something is to be waited for as if a hook had something to do about a client, until [`done`].
#[cold]
pub(super) fn make_busy<C: Chain>(clients: &mut Clients<C>, subscriber: &SubscriberId) {
    if let Some(connection) = clients.sessions.of(subscriber).and_then(|session| session.connection) {
        clients.connections.pause(connection, PauseReason::Notification);
    }
    clients.pending_hooks.make_busy(subscriber);
}

/// What that was for is done.
pub(super) fn done<C: Chain>(clients: &mut Clients<C>, subscriber: &SubscriberId) {
    let next = clients.pending_hooks.done(subscriber);
    go_on(clients, subscriber, next);
}

/// What comes next about a subscriber id is begun, or everything that waited goes on.
fn go_on<C: Chain>(clients: &mut Clients<C>, subscriber: &SubscriberId, next: Next) {
    let waiting = match next {
        Next::Done(waiting) => waiting,
        Next::Run(pending) => {
            clients.run_hook(Waiter::Subscriber(subscriber.clone()), pending);
            return;
        }
        Next::Wait => return,
    };
    let session = clients.sessions.of(subscriber);
    let connection = session.and_then(|session| session.connection);
    let leaving = session.and_then(|session| session.migration.as_ref()).and_then(MigrationState::leaves_as);
    if let Some(id) = connection {
        clients.connections.requeue_for_output(id);
        clients.serve_later(id, PauseReason::Notification);
    }
    waiting.into_iter().for_each(|id| clients.agenda.follow_up(FollowUp::Register(id)));
    leaving.into_iter().for_each(|token| clients.agenda.follow_up(FollowUp::SessionMayLeave(token)));
    clients.agenda.follow_up(FollowUp::TasksDone(subscriber.clone()));
}
