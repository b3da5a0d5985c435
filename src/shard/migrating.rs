//! Sessions that leave for another shard: what [`crate::migration`] has decided is carried out here. Those that come are in `arriving`.

use std::sync::Arc;

use super::agenda::{Deadline, FollowUp};
use super::clients::Clients;
use super::input::Transfer;
use super::machine::Shard;
use super::message::{ShardMessage, SlotsMoved};
use super::output::Output;
use super::pubsub::PubSub;
use super::turn::TurnLimits;
use crate::client::{SessionRequest, SubscriberId};
use crate::connection::{Connection, PauseReason};
use crate::hooks::Chain;
use crate::migration::{
    Begin, OutgoingSessions, Presence, PullAnswer, Ready, SessionAnnouncement, SlotsMoving, Waiting,
};
use crate::session::MigrationState;
use crate::sharding::SLOTS;

/// How many sessions that are to leave are looked at on one occasion: those that cannot begin to are looked at again and again.
const LOOKED_AT: usize = 1024;

impl<C: Chain> Shard<C> {
    /// Moves those of `slots` that are this shard's to shard `to`, and their sessions with them. Looks at every session once.
    pub(super) fn move_slots(&mut self, slots: &[u16], to: usize) -> SlotsMoving {
        let mut moving = self.migration.slots.move_slots(slots, to);
        if moving.slots.is_empty() {
            return moving;
        }
        let clients = &mut self.pubsub.clients;
        let (token, slots) = (clients.agenda.number(), Arc::<[u16]>::from(moving.slots.as_slice()));
        let next_number = clients.agenda.next_number();
        clients.agenda.tell_others(|| {
            ShardMessage::SlotsMoved(Box::new(SlotsMoved { token, to, slots: slots.clone(), next_number }))
        });
        self.migration.slots.expect_answers(token, clients.setup.shards - 1, &slots);
        let mut leaves = [false; SLOTS];
        slots.iter().for_each(|slot| leaves[usize::from(*slot)] = true);
        let sessions = clients.sessions.ids_in_slots(|slot| leaves[usize::from(slot)]);
        moving.sessions = sessions.len();
        self.migration.outgoing.enqueue(sessions);
        clients.agenda.follow_up(FollowUp::BeginMigrations);
        moving
    }

    /// Slots have another owner now; perhaps this shard.
    pub(super) fn slots_moved(&mut self, from: usize, moved: &SlotsMoved) {
        self.migration.slots.slots_moved(from, moved.to, &moved.slots);
        // The numbers of a client's sessions rise wherever it connects.
        self.pubsub.clients.agenda.skip_numbers(moved.next_number);
        self.pubsub.clients.agenda.post(from, ShardMessage::SlotsSeen { token: moved.token });
    }

    /// Answers the pulls of a slot that can be answered, and tells its new owner if nothing of it is here any more.
    pub(super) fn slot_may_be_empty(&mut self, slot: u16) {
        let Clients { sessions, pending_hooks: hooks, agenda, .. } = &mut self.pubsub.clients;
        let Some(to) = self.migration.slots.owner_of_slot(slot) else { return };
        for subscriber in self.migration.slots.ready_pulls(slot, |subscriber| hooks.is_busy(subscriber)) {
            agenda.post(to, ShardMessage::NotHere { subscriber });
        }
        let (sessions, hooks_pending) = (sessions.in_slot(slot), hooks.is_slot_busy(slot));
        if let Some(to) = self.migration.slots.finish_if_empty(slot, sessions, hooks_pending) {
            agenda.post(to, ShardMessage::SlotEmptied { slot });
        }
    }

    /// The new owner of a slot needs a session now.
    pub(super) fn pulled(&mut self, from: usize, subscriber: SubscriberId) {
        if let Some(index) = self.pubsub.clients.sessions.find(&subscriber) {
            if !self.begin_migration(index) {
                self.migration.outgoing.enqueue_first(subscriber);
                self.pubsub.clients.agenda.follow_up(FollowUp::BeginMigrations);
            }
            return;
        }
        let slot = self.migration.slots.slot(&subscriber);
        let agenda = &mut self.pubsub.clients.agenda;
        match self.migration.slots.pulled(slot, &subscriber) {
            PullAnswer::WhenReady => agenda.follow_up(FollowUp::SlotMayBeEmpty(slot)),
            PullAnswer::Now => agenda.post(from, ShardMessage::NotHere { subscriber }),
        }
    }

    /// Sessions that are to leave begin to, as many as may be under way. One that waits for a hook or a subscription is left for later; if
    /// there are many of those, so are the rest.
    pub(super) fn begin_migrations(&mut self) {
        if self.pubsub.clients.agenda.is_stopping() {
            return;
        }
        for _ in 0..self.migration.outgoing.queued().min(LOOKED_AT) {
            let Some(subscriber) = self.migration.outgoing.next_to_begin() else { return };
            // One that has ended meanwhile, or was pulled, is not there any more.
            if let Some(index) = self.pubsub.clients.sessions.find(&subscriber)
                && !self.begin_migration(index)
            {
                self.migration.outgoing.enqueue([subscriber]);
            }
        }
        let agenda = &mut self.pubsub.clients.agenda;
        if let Some(at) = self.migration.outgoing.look_again(agenda.now()) {
            agenda.arm(at, Deadline::Migrations);
        }
    }

    /// Has the new owner prepare for a session. False if that must wait.
    fn begin_migration(&mut self, index: u32) -> bool {
        let PubSub { clients, subscribing, .. } = &mut self.pubsub;
        let Some(session) = clients.sessions.get_mut(index) else { return true };
        let to = self.migration.slots.owner(&session.client.subscriber);
        if to == clients.setup.id {
            // Its slot is here again.
            session.outbound.queue.paged_mut().hold_pages(false);
            let waits = session.migration.is_none();
            session
                .connection
                .filter(|_| waits)
                .into_iter()
                .for_each(|id| clients.serve_later(id, PauseReason::Migration));
            return true;
        }
        let (stored, is_paging) = (session.stored, session.outbound.queue.paged().is_any_under_way());
        let connection = session.connection.and_then(|id| clients.connections.get_mut(id));
        // One that was lost when it was to do nothing more here waits for the move.
        let is_served =
            |one: &&mut Connection<_>| one.is_pending() || one.is_lost && !one.pauses.contains(PauseReason::Migration);
        let is_busy = || {
            clients.agenda.is_stopping()
                || subscribing.is_subscribing(index)
                || clients.pending_hooks.is_busy(&session.client.subscriber)
                || connection.as_ref().is_some_and(is_served)
        };
        match OutgoingSessions::may_begin(session.migration.as_ref(), is_busy) {
            Begin::Done => return true,
            Begin::Later => return false,
            Begin::Now => {}
        }
        let id = connection.map(|connection| {
            connection.pauses.insert(PauseReason::Migration);
            connection.id
        });
        if is_paging || !clients.persistence.as_deref().is_none_or(|persistence| persistence.may_move(stored, id)) {
            // It does nothing more meanwhile: who goes on to take what waits would have page after page read, and for whom much comes, page after page made,
            // and neither would ever leave. Once it is announced, the new owner says of nothing that it is on disk before it has come.
            session.outbound.queue.paged_mut().hold_pages(true);
            return false;
        }
        let token = clients.agenda.number();
        let TurnLimits { at_once, portion, .. } = clients.agenda.turn.limits();
        let announcement = SessionAnnouncement::of(token, session, at_once, portion);
        clients.agenda.turn.did(announcement.portion.entries.len() as u32);
        self.migration.outgoing.begin(token, index, to, &mut session.migration);
        self.ask_to_flush(token, to);
        self.pubsub.clients.agenda.post(to, ShardMessage::SessionComes(Box::new(announcement)));
        true
    }

    /// A session that is to leave goes if nothing keeps it any more.
    pub(super) fn session_may_leave(&mut self, token: u64) {
        let Clients { sessions, pending_hooks: hooks, .. } = &mut self.pubsub.clients;
        let outgoing = &mut self.migration.outgoing;
        let Some(session) = outgoing.place_of(token).and_then(|index| sessions.get_mut(index)) else { return };
        // Its place may be another session's by now.
        let Some(state) = session.migration.as_mut().filter(|state| state.leaves_as() == Some(token)) else { return };
        if state.take_published() {
            outgoing.published_while_leaving(token);
        }
        let subscriber = &session.client.subscriber;
        match outgoing.ready(token, hooks.is_busy(subscriber)) {
            Ready::NotYet => {}
            Ready::AskAgain { to } => drop(self.ask_to_flush(token, to)),
            Ready::Pack { index, to } => self.send_session(token, index, to),
        }
    }

    /// The new owner is prepared and everything that only this shard was sent has come: the session goes.
    fn send_session(&mut self, token: u64, index: u32, to: usize) {
        let under_way = self.pubsub.clients.delivery.fan_outs.take_for(index);
        self.pubsub.deliver_at_once(under_way);
        let clients = &self.pubsub.clients;
        let Some(session) = clients.sessions.get(index) else { return };
        let connection = session.connection;
        // The new owner has them all.
        let Some(remnant) = self.pubsub.begin_to_clear_up(index) else { return };
        let replay = self.pubsub.retained.reader_leaves(index);
        let PubSub { clients, routing, .. } = &mut self.pubsub;
        // Who it waits for does not know it on the new shard.
        connection.into_iter().for_each(|id| clients.end_hold(id));
        let Some(mut session) = clients.sessions.remove(index) else { return };
        if let Some(persistence) = &mut clients.persistence {
            persistence.moved(session.stored, token);
            persistence.pages_leave(&mut session);
        }
        let connection = session.connection.take().and_then(|id| clients.take_connection(id));
        clients.statistics.counters.connected -= u64::from(connection.is_some());
        let (slot, id) = (session.slot, connection.as_ref().map(|connection| connection.id));
        let (routed, received) = (routing.sequence(), routing.received_up_to());
        (session.outbound.replay_waits, session.outbound.stall_watch) = (false, None);
        session.outbound.queue.paged_mut().unload();
        session.outbound.queue.paged_mut().hold_pages(false);
        let mut transfer = Transfer::pack(clients.setup.id, token, session, connection, routed, received);
        transfer.replay_bytes = replay.as_ref().map_or(0, |replay| replay.size());
        transfer.replay = replay;
        clients.agenda.output(Output::Transfer { connection: id, to, transfer: Box::new(transfer) });
        self.pubsub.clear_up(remnant);
        self.session_left(slot, None);
    }

    /// The old owner has no session of this subscriber id: what waited for it goes on, unless it is on its way.
    pub(super) fn not_here(&mut self, subscriber: &SubscriberId) {
        let presence = Presence::of(self.pubsub.clients.sessions.of(subscriber));
        for waiting in self.migration.not_here(subscriber, presence) {
            self.go_on(subscriber, waiting);
        }
    }

    /// What waited for a session goes on: it is here.
    pub(super) fn session_came(&mut self, subscriber: &SubscriberId) {
        for waiting in self.migration.release(subscriber) {
            self.go_on(subscriber, waiting);
        }
    }

    fn go_on(&mut self, subscriber: &SubscriberId, waiting: Waiting) {
        match waiting {
            // Not to be asked for once more.
            Waiting::Request(request) => self.pubsub.carry_out(subscriber, request),
            Waiting::Register(id) => {
                if self.pubsub.clients.connections.resume(id, PauseReason::SessionArrival) {
                    self.register(id);
                    // At once: another client that waits may take this one over.
                    self.serve_on(id);
                }
            }
        }
    }

    /// What an operator wants of a client is done on the shard that owns it, when its session is there.
    pub(super) fn on_session_request(&mut self, subscriber: SubscriberId, request: SessionRequest) {
        let owner = self.migration.slots.owner(&subscriber);
        if owner != self.pubsub.clients.setup.id {
            self.pubsub.clients.agenda.post(owner, ShardMessage::SessionRequest { subscriber, request });
        } else if self.waits_for_session(&subscriber) {
            self.migration.wait(subscriber, Waiting::Request(request));
        } else {
            self.pubsub.carry_out(&subscriber, request);
        }
    }

    /// One session less of `slot` is here. If the slot left and the session of `ended` has ended, its new owner may have asked for it,
    /// and must not wait for longer than until the others have what the session published, which was perhaps a will.
    pub(super) fn session_left(&mut self, slot: u16, ended: Option<&SubscriberId>) {
        if let Some(to) = ended.and_then(|subscriber| self.migration.slots.session_ended(slot, subscriber)) {
            let token = self.pubsub.clients.agenda.number();
            let asked = self.ask_to_flush(token, to);
            self.migration.slots.expect_answers(token, asked, &[slot]);
        }
        let agenda = &mut self.pubsub.clients.agenda;
        agenda.follow_up(FollowUp::SlotMayBeEmpty(slot));
        if self.migration.outgoing.queued() > 0 {
            agenda.follow_up(FollowUp::BeginMigrations);
        }
    }

    /// Asks all shards but the new owner of a session to answer when what its client published here has come to them. Says how many
    /// those are.
    pub(super) fn ask_to_flush(&mut self, token: u64, to: usize) -> usize {
        let asked = self.migration.outgoing.flushing(to);
        asked.map(|shard| self.pubsub.clients.agenda.post(shard, ShardMessage::Leaving { token })).count()
    }
}

/// The new owner of a session that is to leave needs the next portion of its subscriptions.
pub(super) fn send_subscriptions<C: Chain>(shard: &mut Shard<C>, to: usize, token: u64, begin: usize) {
    let clients = &mut shard.pubsub.clients;
    let index = shard.migration.outgoing.place_of(token);
    let Some(session) = index.and_then(|index| clients.sessions.get(index)) else { return };
    // Its place may be another session's by now.
    if session.migration.as_ref().and_then(MigrationState::leaves_as) != Some(token) {
        return;
    }
    let portion = session.subscriptions.portion(begin, clients.agenda.turn.limits().portion);
    clients.agenda.turn.did(portion.entries.len() as u32);
    clients.agenda.post(to, ShardMessage::Subscriptions { token, portion: Box::new(portion) });
}
