//! Sessions that leave for another shard, and sessions that come from one: what [`crate::migration`] has decided is carried out here.

use std::sync::Arc;

use super::agenda::{Deadline, FollowUp};
use super::clients::Clients;
use super::delivering::watch_if_shared;
use super::input::{ArrivedConnection, Transfer};
use super::leftovers;
use super::machine::Shard;
use super::memberships;
use super::message::{Hold, ShardMessage, SlotsMoved};
use super::output::Output;
use super::pubsub::PubSub;
use super::replaying::Replaying;
use super::subscriptions::News;
use crate::client::{DropReason, EndReason, SessionRequest, SubscriberId};
use crate::codec::ReasonCode;
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::migration::{
    Begin, OutgoingSessions, Presence, PullAnswer, Ready, SessionAnnouncement, SlotsMoving, Waiting,
};
use crate::routing::Turn;
use crate::session::{Arriving, Buffered, MigrationState};
use crate::sharding::SLOTS;
use crate::topic::TopicFilter;

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
            return true;
        }
        let connection = session.connection.and_then(|id| clients.connections.get_mut(id));
        let is_busy = || {
            clients.agenda.is_stopping()
                || subscribing.is_subscribing(index)
                || clients.pending_hooks.is_busy(&session.client.subscriber)
                || connection.as_ref().is_some_and(|connection| connection.is_pending() || connection.is_lost)
        };
        match OutgoingSessions::may_begin(session.migration.as_ref(), is_busy) {
            Begin::Done => return true,
            Begin::Later => return false,
            Begin::Now => {}
        }
        if let Some(connection) = connection {
            connection.pauses.insert(PauseReason::Migration);
        }
        let token = clients.agenda.number();
        let announcement = SessionAnnouncement::of(token, session);
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
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        let replay = self.pubsub.retained.reader_leaves(index);
        self.pubsub.remove_subscriptions(index, &filters);
        let PubSub { clients, routing, .. } = &mut self.pubsub;
        // Who it waits for does not know it on the new shard.
        connection.into_iter().for_each(|id| clients.end_hold(id));
        let Some(mut session) = clients.sessions.remove(index) else { return };
        clients.sessions.free_place(index);
        let connection = session.connection.take().and_then(|id| clients.take_connection(id));
        clients.statistics.counters.connected -= u64::from(connection.is_some());
        let (slot, id) = (session.slot, connection.as_ref().map(|connection| connection.id));
        let (routed, received) = (routing.sequence(), routing.received_up_to());
        (session.outbound.replay_waits, session.outbound.stall_watch) = (false, None);
        let mut transfer = Transfer::pack(clients.setup.id, token, session, connection, routed, received);
        transfer.replay_bytes = replay.as_ref().map_or(0, |replay| replay.size());
        transfer.replay = replay;
        clients.agenda.output(Output::Transfer { connection: id, to, transfer: Box::new(transfer) });
        self.session_left(slot, None);
    }

    /// A session is to come from shard `from`: from now on what is published for it is buffered here.
    pub(super) fn session_comes(&mut self, from: usize, announcement: SessionAnnouncement) {
        let PubSub { clients, routing, .. } = &mut self.pubsub;
        if clients.agenda.is_stopping() {
            // It stays where it is: nothing leaves before it is expected.
            return;
        }
        let SessionAnnouncement { token, client, settings, online, subscriptions } = announcement;
        let mountpoint = routing.mountpoint(&client.subscriber.mountpoint);
        let (slot, now) = (self.migration.slots.slot(&client.subscriber), clients.agenda.now());
        let index = clients.new_session(client, settings, slot, (0, now));
        if let Some(session) = clients.sessions.get_mut(index) {
            session.migration = Some(MigrationState::Arriving(Arriving { online, ..Arriving::default() }));
            subscriptions.iter().for_each(|(filter, subscription)| session.subscribe(filter.clone(), *subscription));
        }
        clients.statistics.counters.subscriptions += subscriptions.len() as u64;
        let mut news = News::default();
        for (filter, subscription) in subscriptions {
            self.pubsub.add_subscription(mountpoint, &filter, index, subscription, online, &mut news);
        }
        // Known filters or not: the old owner must know that all that was published before has come.
        let announcement = self.pubsub.announce(mountpoint, news.filters, Some((from, token)));
        self.migration.incoming.expect(from, token, index, announcement);
    }

    /// A session has come: with its connection, unless it has none or that broke.
    pub(super) fn transferred(&mut self, arrived: Option<ArrivedConnection<'_>>, transfer: Transfer<C::State>) {
        let Transfer { from, token, mut session, connection, delivered_up_to, replay, .. } = transfer;
        let Some(index) = self.migration.incoming.arrived(from, token) else { return };
        let pubsub = &mut self.pubsub;
        let clients = &mut pubsub.clients;
        let Some(place) = clients.sessions.get_mut(index) else { return };
        let arriving = place.migration.take().map(MigrationState::into_arriving).unwrap_or_default();
        let was_online = connection.is_some();
        session.connection = arrived.map(|arrived| arrived.connection).filter(|_| was_online);
        session.migration = Some(MigrationState::Arrived { delivered_up_to });
        session.instance = place.instance;
        clients.agenda.skip_numbers(session.client.session_number + 1);
        let subscriber = session.client.subscriber.clone();
        *place = *session;
        clients.statistics.counters.connected += u64::from(was_online);
        clients.statistics.counters.sessions_moved += 1;
        if let (Some(arrived), Some(connection)) = (arrived, connection) {
            clients.settle_in(arrived, index, *connection);
        }
        if arriving.online != pubsub.clients.sessions.get(index).is_some_and(|session| session.connection.is_some()) {
            memberships::follow_client(pubsub, index);
        }
        pubsub.clients.deliver_buffered(index, arriving.buffered);
        for Buffered { id, delivery } in arriving.dropped {
            let state = pubsub.clients.sessions.get(index).and_then(|session| session.migration.as_ref());
            if state.is_none_or(|state| state.is_new(id, delivery.group.is_some())) {
                pubsub.clients.report_dropped(index, &delivery, DropReason::QueueFull);
            }
        }
        arriving.publishers.into_iter().for_each(|one| pubsub.clients.release_publisher(one, Hold::WithoutEnd));
        if let Some(replay) = replay {
            pubsub.retained.reader_arrived(index, replay, arrived.is_some() && was_online);
            Replaying::of(pubsub).soon();
        }
        // Perhaps all of its output left on the way: there is no other occasion for what waited behind that.
        pubsub.clients.send_waiting(index);
        watch_if_shared(&mut pubsub.clients, index);
        if was_online && arrived.is_none() {
            pubsub.connection_ended(index, EndReason::ConnectionLost, "");
        } else if !was_online {
            // What was buffered for a member that was still online when it was announced.
            leftovers::give_to_others(pubsub, index);
            if pubsub.clients.agenda.is_stopping() {
                pubsub.publish_will_of(index);
            }
            pubsub.clients.sessions.went_offline(index);
            pubsub.clients.arm_session(index);
        }
        if let Some(ArrivedConnection { connection: id, .. }) = arrived {
            if self.pubsub.clients.agenda.stop.is_closing() {
                self.pubsub.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
            } else if self.pubsub.clients.agenda.is_stopping() {
                self.pubsub.publish_last_will(index);
            }
            self.pubsub.clients.agenda.follow_up(FollowUp::Serve(id));
        }
        self.pubsub.clients.agenda.follow_up(FollowUp::SessionCame(subscriber));
    }

    /// A session that was to come has ended where it was. Who waits for it is served when the old owner says that nothing of it
    /// is left there: its hooks may not be done yet.
    pub(super) fn session_abandoned(&mut self, from: usize, token: u64) {
        let Some(index) = self.migration.incoming.abandoned(from, token) else { return };
        let Some(session) = self.pubsub.clients.sessions.get_mut(index) else { return };
        let Arriving { buffered, publishers, .. } =
            session.migration.take().map(MigrationState::into_arriving).unwrap_or_default();
        let turn = Turn::new(session.settings.shared_policy, session.slot);
        let mountpoint = self.pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        publishers.into_iter().for_each(|one| self.pubsub.clients.release_publisher(one, Hold::WithoutEnd));
        self.pubsub.remove_subscriptions(index, &filters);
        if let Some(session) = self.pubsub.clients.sessions.remove(index) {
            self.session_left(session.slot, None);
        }
        for Buffered { delivery, .. } in buffered {
            if let Some(group) = delivery.group {
                self.pubsub.offer_to_group(mountpoint, &group, &delivery.message, turn, None);
            }
        }
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
