//! Sessions that move to another shard, because their slot did (see `slot_moves`), while clients stay connected.
//!
//! ```text
//!   old owner A                       new owner B                        every other shard P
//!   Leaving ───────────────────────────────────────────────────────────► (behind all that the client published at A)
//!   Prepare(subscriptions) ─────────► joins them; puts messages aside
//!                                     Subscribe(for A's token) ────────► takes them in
//!   ◄───────────────────────────────────────────────────────────────────  Flushed, for each of the two
//!                                     ◄────────────────────────────────  Subscribed
//!   ◄──────────────────────────────── Flushed            (behind all it sent A before)
//!   packs session and connection
//!   Transfer(cut) ──────────────────► delivers what was put aside and is behind the cut; goes on
//! ```
//!
//! Nothing is missed: what a shard published before it took B's subscriptions in, A has when that shard's `Flushed` is
//! there. Nothing comes twice: what it published since then went to A and to B, and the *cut* says how far A delivered of
//! it. What B has for other sessions of before then, perhaps of before the session subscribed, is none of its business: the cut
//! goes at least as far as `Flushed` says that the shard had come. What the client publishes at B overtakes nothing that it
//! published at A, for that has come everywhere by then. Mail of each pair of shards is in order, and more is not needed.
//! Hooks are not overtaken either: a session leaves when what those that were told of something want done is done.

use std::time::Duration;

use super::audience::Target;
use super::clock::Deadline;
use super::mail::{Announcement, Mail};
use super::{Attempt, Effect, Shard};
use crate::client::{Client, ConnectionId, EndReason, SubscriberId};
use crate::codec::ReasonCode;
use crate::connection::{Connection, PauseReason};
use crate::hooks::Chain;
use crate::session::{Buffered, Delivery, MigrationState, Session, PublicationId, Subscription, SessionSettings};
use crate::time::Time;
use crate::topic::TopicFilter;

/// How many sessions are on their way from one shard at a time.
const AT_A_TIME: usize = 64;
/// After how long a session that could not begin to move is looked at again.
const LATER: Duration = Duration::from_millis(20);

/// What the new owner must know before a session comes.
#[derive(Debug)]
pub struct Prepare {
    /// The old owner's number for the move.
    pub(super) token: u64,
    pub(super) client: Client,
    pub(super) terms: SessionSettings,
    pub(super) online: bool,
    pub(super) subscriptions: Vec<(TopicFilter, Subscription)>,
}

/// A session on its way, with its connection if it has one.
pub struct Transfer<S> {
    pub(super) from: usize,
    pub(super) token: u64,
    pub(super) session: Box<Session<S>>,
    pub(super) connection: Option<Box<Connection<Attempt<S>>>>,
    pub(super) delivered_up_to: Box<[u64]>,
}

impl<S> Transfer<S> {
    /// The listener that accepted its connection, by its place in the configuration; 0 without one.
    pub fn listener(&self) -> usize {
        self.connection.as_ref().map_or(0, |connection| connection.listener)
    }
}

/// A session that leaves, while it is still here.
pub(super) struct Departure {
    index: u32,
    to: usize,
    /// How many answers are to come.
    waiting: usize,
    /// Its client published something since the others were asked: a will.
    published: bool,
}

impl<C: Chain> Shard<C> {
    /// Begins to move sessions that wait for it. One that waits for a hook or a subscription is left for later.
    pub(super) fn begin_moves(&mut self) {
        if self.stopping {
            return;
        }
        for _ in 0..self.moves.queue.len() {
            if self.moves.leaving.len() >= AT_A_TIME {
                return;
            }
            let Some(subscriber) = self.moves.queue.pop_front() else { break };
            // One that has ended meanwhile, or was pulled, is not there any more.
            if let Some(index) = self.sessions.find(&subscriber)
                && !self.begin_move(index)
            {
                self.moves.queue.push_back(subscriber);
            }
        }
        let looks_again = self.moves.looks_again > self.now;
        if !self.moves.queue.is_empty() && self.moves.leaving.is_empty() && !looks_again {
            self.moves.looks_again = self.now + LATER;
            self.deadlines.arm(self.moves.looks_again, Deadline::Moves);
        }
    }

    /// Has the new owner prepare for a session. False if that must wait.
    pub(super) fn begin_move(&mut self, index: u32) -> bool {
        let token = self.number();
        let Some(session) = self.sessions.get_mut(index) else { return true };
        match session.migration {
            Some(MigrationState::Leaving { .. }) => return true,
            Some(MigrationState::Arriving { .. }) => return false,
            Some(MigrationState::Arrived { .. }) | None => {}
        }
        // It could not leave before its hooks are done (`pack_if_ready`). Until then it takes none of the `AT_A_TIME` places, and the
        // new owner puts nothing aside for it.
        let is_subscribing = self.subscribing.values().any(|pending| pending.session == index);
        if self.stopping || is_subscribing || self.notices.contains_key(&session.client.subscriber) {
            return false;
        }
        if let Some(id) = session.connection
            && let Some(connection) = self.connections.get_mut(id)
        {
            if connection.is_pending() {
                return false;
            }
            connection.pauses.insert(PauseReason::Move);
        }
        let delivered_up_to = match session.migration.take() {
            Some(MigrationState::Arrived { delivered_up_to }) => Some(delivered_up_to),
            _ => None,
        };
        session.migration = Some(MigrationState::Leaving { token, delivered_up_to });
        let prepare = Prepare {
            token,
            client: session.client.clone(),
            terms: session.settings.clone(),
            online: session.connection.is_some(),
            subscriptions: session.subscriptions.iter().map(|(filter, options)| (filter.clone(), *options)).collect(),
        };
        let to = self.slots.owner(&session.client.subscriber);
        // And an answer of each other shard to what the new owner announces.
        let waiting = self.shards - 1 + self.ask_to_flush(token, to);
        self.moves.leaving.insert(token, Departure { index, to, waiting, published: false });
        self.post(to, Mail::Prepare(Box::new(prepare)));
        true
    }

    /// A session is to come from shard `from`: from now on what is published for it is put aside here.
    pub(super) fn prepare(&mut self, from: usize, prepare: Prepare) {
        if self.stopping {
            // It stays where it is: nothing leaves before it is expected.
            return;
        }
        let Prepare { token, client, terms, online, subscriptions } = prepare;
        let realm = self.realms.number(&client.subscriber.mountpoint);
        let index = self.new_session(client, terms, (0, self.now));
        if let Some(session) = self.sessions.get_mut(index) {
            session.migration = Some(MigrationState::Arriving { buffered: Vec::new() });
            session.subscriptions.extend(subscriptions.iter().cloned());
        }
        self.counters.subscriptions += subscriptions.len() as u64;
        let mut filters = Vec::with_capacity(subscriptions.len());
        for (filter, subscription) in subscriptions {
            let interest = self.add_subscriber(realm, &filter, index, subscription, online);
            filters.push(Announcement { filter, interest, retained: false });
        }
        self.moves.arriving.insert((from, token), index);
        self.announce_arrival(from, token, realm, filters);
    }

    /// A shard has what the client of a session that leaves published here, or has taken in what the new owner announced for
    /// it; or the new owner itself is prepared. Or it has what was published by a client whose session has ended.
    pub(super) fn flushed(&mut self, token: u64) {
        if let Some(leaving) = self.moves.leaving.get_mut(&token) {
            leaving.waiting -= 1;
            self.pack_if_ready(token);
        } else {
            self.letter_answered(token);
        }
    }

    /// Tells shard `to` that it has all that this one sent it before.
    pub(super) fn say_flushed(&mut self, to: usize, token: u64) {
        self.post(to, Mail::Flushed { token, sequence: self.sequence });
    }

    /// Of what shard `from` published up to this, all that was for this shard has come.
    pub(super) fn has_heard(&mut self, from: usize, sequence: u64) {
        self.heard[from] = self.heard[from].max(sequence);
    }

    fn pack_if_ready(&mut self, token: u64) {
        let Some(departure) = self.moves.leaving.get_mut(&token).filter(|departure| departure.waiting == 0) else {
            return;
        };
        let Some(session) = self.sessions.get(departure.index) else { return };
        if self.notices.contains_key(&session.client.subscriber) {
            return;
        }
        if departure.published && self.shards > 2 {
            // The new owner has it before the session comes; the others may not.
            departure.published = false;
            let to = departure.to;
            let waiting = self.ask_to_flush(token, to);
            if let Some(departure) = self.moves.leaving.get_mut(&token) {
                departure.waiting = waiting;
            }
            return;
        }
        self.pack(token);
    }

    /// Asks all shards but the new owner to answer when what the client published here has come to them. Says how many those are.
    pub(super) fn ask_to_flush(&mut self, token: u64, to: usize) -> usize {
        let asked = self.others().filter(|shard| *shard != to);
        asked.map(|shard| self.post(shard, Mail::Leaving { token })).count()
    }

    /// The will of a session was published. If it is about to leave, those who said that all of its client has come have to say so
    /// again: what the client publishes at the new owner may not overtake it.
    pub(super) fn published_while_leaving(&mut self, index: u32) {
        if let Some(session) = self.sessions.get(index)
            && let Some(MigrationState::Leaving { token, .. }) = session.migration
            && let Some(departure) = self.moves.leaving.get_mut(&token)
        {
            departure.published = true;
        }
    }

    /// What hooks wanted done about a subscriber id is done: its session leaves if it was to, and whoever asked for it is
    /// answered.
    pub(super) fn go_on_moving(&mut self, subscriber: &SubscriberId) {
        let session = self.sessions.find(subscriber).and_then(|index| self.sessions.get(index));
        if let Some(MigrationState::Leaving { token, .. }) = session.and_then(|session| session.migration.as_ref()) {
            self.pack_if_ready(*token);
        }
        self.answer_pulls(self.slots.slot(subscriber));
    }

    /// The new owner is prepared and everything that only this shard was sent has come: the session goes.
    fn pack(&mut self, token: u64) {
        let Some(Departure { index, to, .. }) = self.moves.leaving.remove(&token) else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        for filter in &filters {
            self.remove_subscriber(realm, filter, index);
        }
        self.counters.subscriptions -= filters.len() as u64;
        self.absent.forget(index);
        let Some(mut session) = self.sessions.remove(index) else { return };
        let id = session.connection.take();
        let connection = id.and_then(|id| self.take_connection(id));
        self.counters.connected -= u64::from(connection.is_some());
        let mut delivered_up_to: Box<[u64]> = self.heard.clone().into();
        delivered_up_to[self.id] = self.sequence;
        if let Some(MigrationState::Leaving { delivered_up_to: Some(earlier), .. }) = session.migration.take() {
            // What was delivered even before it came here may still be on its way here.
            delivered_up_to.iter_mut().zip(earlier).for_each(|(delivered_up_to, earlier)| *delivered_up_to = (*delivered_up_to).max(earlier));
        }
        let slot = session.slot;
        let connection_id = connection.as_ref().map(|connection| connection.id);
        let transfer = Box::new(Transfer { from: self.id, token, session, connection, delivered_up_to });
        self.effects.push(Effect::Transfer { connection: connection_id, to, transfer });
        self.session_left(slot);
    }

    /// A session has come: with the connection it is on, and the bytes that came for it on the way, unless it has none or
    /// it broke.
    pub fn transferred(&mut self, arrived: Option<(ConnectionId, &[u8])>, transfer: Transfer<C::State>, now: Time) {
        self.now = now;
        let id = arrived.map(|(id, _)| id);
        let Transfer { from, token, mut session, connection, delivered_up_to } = transfer;
        let Some(index) = self.moves.arriving.remove(&(from, token)) else { return };
        let Some(place) = self.sessions.get_mut(index) else { return };
        let buffered = match place.migration.take() {
            Some(MigrationState::Arriving { buffered }) => buffered,
            _ => Vec::new(),
        };
        let was_online = connection.is_some();
        session.connection = id.filter(|_| was_online);
        session.migration = Some(MigrationState::Arrived { delivered_up_to });
        self.next_number = self.next_number.max(session.client.session_number + 1);
        let subscriber = session.client.subscriber.clone();
        let instance = place.instance;
        *place = *session;
        place.instance = instance;
        self.cutting.push(index);
        self.counters.connected += u64::from(was_online);
        self.counters.sessions_moved += 1;
        if let (Some(id), Some(connection)) = (id, connection) {
            self.settle_in(id, index, *connection);
        }
        self.members_turn_online(index, was_online);
        self.take_up(index, buffered);
        if was_online && id.is_none() {
            self.session_lost_connection(index, EndReason::ConnectionLost);
        } else if !was_online {
            // What was put aside for a member that was still online when it was announced.
            self.redistribute(index, false);
            if self.stopping {
                self.publish_will_of(index);
            }
            self.absent.left(index);
            self.arm_session(index);
        }
        if let Some((id, bytes)) = arrived {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.unread.push(bytes);
            }
            if self.stopping {
                self.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
            }
            self.go_on(id);
        }
        self.serve_waiting(&subscriber);
        self.stopped_if_told();
    }

    /// A connection that came with its session.
    fn settle_in(&mut self, id: ConnectionId, index: u32, mut connection: Connection<Attempt<C::State>>) {
        connection.id = id;
        connection.dirty = false;
        connection.outbox.sent();
        connection.pauses.settle_in();
        connection.consumers = 0;
        connection.paused = true;
        if let crate::connection::ConnectionStage::Connected(connected) = &mut connection.stage {
            connected.session = index;
        }
        let has_output = connection.outbox.has_output();
        self.connections.insert(connection);
        if has_output {
            self.mark_dirty(id);
        }
        self.arm_connected(id);
    }

    /// Delivers what was put aside and has not been delivered where the session was before.
    fn take_up(&mut self, index: u32, buffered: Vec<Buffered>) {
        self.frames.begin(false);
        for Buffered { source, delivery } in buffered {
            let Delivery { message, qos, retain, ids, group, initial } = delivery;
            self.source = source;
            let target = Target { session: index, qos, retain_as_published: retain, ids, group, initial };
            self.deliver(&target, &message.publication(), retain);
        }
        self.source = PublicationId::NONE;
    }

    /// A session that was to come has ended where it was. Who waits for it is served when the old owner says that nothing of it
    /// is left there: its hooks may not be done yet.
    pub(super) fn arrival_abandoned(&mut self, from: usize, token: u64) {
        let Some(index) = self.moves.arriving.remove(&(from, token)) else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        let subscriber = session.client.subscriber.clone();
        let buffered = match session.migration.take() {
            Some(MigrationState::Arriving { buffered }) => buffered,
            _ => Vec::new(),
        };
        let realm = self.realms.number(&subscriber.mountpoint);
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        let policy = session.settings.shared_policy;
        for filter in &filters {
            self.remove_subscriber(realm, filter, index);
        }
        self.counters.subscriptions -= filters.len() as u64;
        if let Some(session) = self.sessions.remove(index) {
            self.session_left(session.slot);
        }
        let publisher = self.slots.slot(&subscriber);
        for Buffered { delivery, .. } in buffered {
            if let Some(group) = delivery.group {
                self.offer_to_group(&subscriber.mountpoint, &group, &delivery.message, policy, publisher, 0);
            }
        }
        self.stopped_if_told();
    }

    /// A session of this shard ends. If it was about to leave, nobody needs to wait for it.
    pub(super) fn abandon_move(&mut self, token: u64) {
        if let Some(Departure { to, .. }) = self.moves.leaving.remove(&token) {
            self.post(to, Mail::Abandoned { token });
        }
    }

    /// The shard stops: what has not left yet ends here.
    pub(super) fn abandon_moves(&mut self) {
        self.moves.queue.clear();
        let leaving: Vec<u64> = self.moves.leaving.keys().copied().collect();
        leaving.into_iter().for_each(|token| self.abandon_move(token));
    }

    /// Forgets cuts that every shard's mail has passed.
    pub(super) fn forget_cuts(&mut self) {
        let mut cutting = std::mem::take(&mut self.cutting);
        cutting.retain(|&index| {
            let Some(session) = self.sessions.get_mut(index) else { return false };
            let Some(MigrationState::Arrived { delivered_up_to }) = &session.migration else { return false };
            let passed = delivered_up_to.iter().enumerate().all(|(shard, delivered_up_to)| shard == self.id || self.heard[shard] >= *delivered_up_to);
            if passed {
                session.migration = None;
            }
            !passed
        });
        self.cutting = cutting;
    }
}
