//! Slots that move to another shard, and their sessions with them, while clients stay connected.
//!
//! ```text
//!   old owner A                       new owner B                        every other shard P
//!   slot is B's ────────────────────► slot is mine ◄──────────────────── slot is B's
//!   Prepare(subscriptions) ─────────► joins them; puts messages aside
//!                                     Subscribe(for A's token) ────────► takes them in
//!   ◄───────────────────────────────────────────────────────────────────  Flushed   (behind all it sent A before)
//!                                     ◄────────────────────────────────  Subscribed
//!   ◄──────────────────────────────── Flushed            (behind all it sent A before)
//!   packs session and connection
//!   Transfer(cut) ──────────────────► delivers what was put aside and is behind the cut; goes on
//! ```
//!
//! Nothing is missed: what a shard published before it took B's subscriptions in, A has when that shard's `Flushed` is
//! there. Nothing comes twice: what it published since then went to A and to B, and the *cut* says how far A delivered of
//! it. Mail of each pair of shards is in order, and more is not needed.
//!
//! A client that connects in the meantime waits at B until its session is there: B *pulls* it.

use std::collections::VecDeque;

use super::connect::Arrival;
use super::mail::{Announcement, Mail};
use super::{Attempt, Effect, Shard};
use crate::client::{Client, ConnectionId, EndReason, SubscriberId};
use crate::connection::{Connection, Hold};
use crate::hooks::Chain;
use crate::session::{Aside, Delivery, Journey, Session, Source, Subscription, Terms};
use crate::time::Time;
use crate::topic::TopicFilter;

use super::audience::Target;

/// How many sessions are on their way from one shard at a time.
const AT_A_TIME: usize = 64;

/// What the new owner must know before a session comes.
#[derive(Debug)]
pub struct Prepare {
    /// The old owner's number for the move.
    pub(super) token: u64,
    pub(super) client: Client,
    pub(super) terms: Terms,
    pub(super) online: bool,
    pub(super) subscriptions: Vec<(TopicFilter, Subscription)>,
}

/// A session on its way, with its connection if it has one.
pub struct Transfer<S> {
    pub(super) from: usize,
    pub(super) token: u64,
    pub(super) session: Box<Session<S>>,
    pub(super) connection: Option<Box<Connection<Attempt<S>>>>,
    pub(super) cut: Box<[u64]>,
}

impl<S> Transfer<S> {
    /// The listener that accepted its connection, by its place in the configuration; 0 without one.
    pub fn listener(&self) -> usize {
        self.connection.as_ref().map_or(0, |connection| connection.listener)
    }
}

/// A move that the new owner is preparing for.
pub(super) struct Move {
    index: u32,
    to: usize,
    /// How many shards have not answered.
    waiting: usize,
}

/// Moves of a shard, both ways.
#[derive(Default)]
pub(super) struct Moves<S> {
    /// Sessions that are to leave and have not begun to.
    queue: VecDeque<SubscriberId>,
    /// Those that have, by token.
    leaving: std::collections::BTreeMap<u64, Move>,
    /// Slots that came here and may have sessions at their old owner.
    gaining: std::collections::BTreeMap<u16, usize>,
    /// Slots that left, and how many of their sessions are still here.
    losing: std::collections::BTreeMap<u16, usize>,
    /// Sessions that are to come: old owner and token, and their place in the table.
    arriving: std::collections::BTreeMap<(usize, u64), u32>,
    /// What waits for a session to come.
    waiting: std::collections::BTreeMap<SubscriberId, VecDeque<Waiting<S>>>,
}

/// Something that waits for a session to come.
pub(super) enum Waiting<S> {
    /// Its client connects.
    Register(ConnectionId, Box<Arrival<S>>),
    /// An operator ends it.
    Disconnect { cleanup: bool },
}

impl<S> Moves<S> {
    pub fn new() -> Self {
        Moves {
            queue: VecDeque::new(),
            leaving: Default::default(),
            gaining: Default::default(),
            losing: Default::default(),
            arriving: Default::default(),
            waiting: Default::default(),
        }
    }

    /// Whether there is anything to begin.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl<C: Chain> Shard<C> {
    /// Those of `slots` that are this shard's go to shard `to`, and their sessions follow.
    pub fn move_slots(&mut self, slots: &[u16], to: usize, now: Time) {
        self.now = now;
        for &slot in slots {
            let is_own = self.slots.owner_of_slot(slot) == Some(self.id);
            // A slot whose last owner still has sessions of it stays until it has them all.
            if !is_own || to == self.id || to >= self.shards || self.moves.gaining.contains_key(&slot) {
                continue;
            }
            self.slots.set(slot, to);
            for shard in self.others() {
                self.post(shard, Mail::SlotMoved { slot, to });
            }
            let sessions = self.sessions.ids_where(|id| self.slots.slot(id) == slot);
            self.moves.losing.insert(slot, sessions.len());
            self.moves.queue.extend(sessions);
            self.slot_is_empty(slot);
        }
        self.begin_moves();
    }

    /// A slot has another owner now; perhaps this shard.
    pub(super) fn slot_moved(&mut self, from: usize, slot: u16, to: usize) {
        self.slots.set(slot, to);
        if to == self.id {
            self.moves.gaining.insert(slot, from);
        }
    }

    /// The old owner has no session of this slot any more.
    pub(super) fn slot_emptied(&mut self, slot: u16) {
        self.moves.gaining.remove(&slot);
    }

    /// Begins to move sessions that wait for it. One whose client waits for a hook or a subscription is left for later.
    pub(super) fn begin_moves(&mut self) {
        for _ in 0..self.moves.queue.len() {
            if self.moves.leaving.len() >= AT_A_TIME {
                return;
            }
            let Some(subscriber) = self.moves.queue.pop_front() else { return };
            let Some(index) = self.sessions.find(&subscriber) else {
                self.session_left(&subscriber);
                continue;
            };
            if !self.begin_move(index) {
                self.moves.queue.push_back(subscriber);
            }
        }
        if self.moves.has_work() && self.moves.leaving.is_empty() {
            self.deadlines.arm(self.now + std::time::Duration::from_millis(20), super::clock::Deadline::Moves);
        }
    }

    /// Has the new owner prepare for a session. False if that must wait.
    fn begin_move(&mut self, index: u32) -> bool {
        let token = self.number();
        let Some(session) = self.sessions.get_mut(index) else { return true };
        if matches!(session.journey, Some(Journey::Leaving { .. } | Journey::Arriving { .. })) {
            return !matches!(session.journey, Some(Journey::Arriving { .. }));
        }
        let subscriber = &session.client.subscriber;
        if self.notices.contains_key(subscriber) {
            return false;
        }
        if let Some(id) = session.connection
            && let Some(connection) = self.connections.get_mut(id)
        {
            if connection.is_pending() {
                return false;
            }
            connection.holds.insert(Hold::Move);
        }
        session.journey = Some(Journey::Leaving { token });
        let prepare = Prepare {
            token,
            client: session.client.clone(),
            terms: session.terms.clone(),
            online: session.connection.is_some(),
            subscriptions: session.subscriptions.iter().map(|(filter, options)| (filter.clone(), *options)).collect(),
        };
        let to = self.slots.owner(&session.client.subscriber);
        self.moves.leaving.insert(token, Move { index, to, waiting: self.shards - 1 });
        self.post(to, Mail::Prepare(Box::new(prepare)));
        true
    }

    /// A session is to come from shard `from`: from now on what is published for it is put aside here.
    pub(super) fn prepare(&mut self, from: usize, prepare: Prepare) {
        let Prepare { token, client, terms, online, subscriptions } = prepare;
        let realm = self.realms.number(&client.subscriber.mountpoint);
        let index = self.new_session(client, terms, (0, self.now));
        if let Some(session) = self.sessions.get_mut(index) {
            session.journey = Some(Journey::Arriving { aside: Vec::new() });
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

    /// A shard has taken in what the new owner announced for a move; or the new owner itself is prepared.
    pub(super) fn flushed(&mut self, token: u64) {
        let Some(leaving) = self.moves.leaving.get_mut(&token) else { return };
        leaving.waiting -= 1;
        if leaving.waiting == 0 {
            self.pack(token);
        }
    }

    /// The new owner is prepared and everything that only this shard was sent has come: the session goes.
    fn pack(&mut self, token: u64) {
        let Some(Move { index, to, .. }) = self.moves.leaving.remove(&token) else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        for filter in &filters {
            self.remove_subscriber(realm, filter, index);
        }
        self.counters.subscriptions -= filters.len() as u64;
        let Some(mut session) = self.sessions.remove(index) else { return };
        session.journey = None;
        let id = session.connection.take();
        let connection = id.and_then(|id| self.connections.remove(id));
        self.counters.connected -= u64::from(connection.is_some());
        let mut cut: Box<[u64]> = self.heard.clone().into();
        cut[self.id] = self.sequence;
        let subscriber = session.client.subscriber.clone();
        let connection_id = connection.as_ref().map(|connection| connection.id);
        let transfer = Box::new(Transfer { from: self.id, token, session, connection, cut });
        self.effects.push(Effect::Transfer { connection: connection_id, to, transfer });
        self.session_left(&subscriber);
        self.begin_moves();
    }

    /// A session has come: with the connection it is on, and the bytes that came for it on the way, unless it has none or
    /// it broke.
    pub fn transferred(
        &mut self,
        arrived: Option<(ConnectionId, &[u8])>,
        transfer: Box<Transfer<C::State>>,
        now: Time,
    ) {
        self.now = now;
        let id = arrived.map(|(id, _)| id);
        let Transfer { from, token, mut session, connection, cut } = *transfer;
        let Some(index) = self.moves.arriving.remove(&(from, token)) else { return };
        let Some(place) = self.sessions.get_mut(index) else { return };
        let aside = match place.journey.take() {
            Some(Journey::Arriving { aside }) => aside,
            _ => Vec::new(),
        };
        let was_online = connection.is_some();
        session.connection = id.filter(|_| was_online);
        session.journey = Some(Journey::Arrived { cut });
        self.next_number = self.next_number.max(session.client.session_number + 1);
        let subscriber = session.client.subscriber.clone();
        *place = *session;
        self.cutting.push(index);
        self.counters.connected += u64::from(was_online);
        if let (Some(id), Some(connection)) = (id, connection) {
            self.settle_in(id, index, *connection);
        }
        self.members_turn_online(index, was_online);
        self.take_up(index, aside);
        if was_online && id.is_none() {
            self.session_lost_connection(index, EndReason::ConnectionLost);
        } else {
            self.arm_session(index);
        }
        if let Some((id, bytes)) = arrived {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.unread.push(bytes);
            }
            self.go_on(id);
        }
        self.serve_waiting(&subscriber);
    }

    /// A connection that came with its session.
    fn settle_in(&mut self, id: ConnectionId, index: u32, mut connection: Connection<Attempt<C::State>>) {
        connection.id = id;
        connection.dirty = false;
        connection.outbox.sent();
        connection.holds.settle_in();
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
    fn take_up(&mut self, index: u32, aside: Vec<Aside>) {
        self.frames.begin(false);
        for Aside { source, delivery } in aside {
            let Delivery { message, qos, retain, ids, group } = delivery;
            self.source = source;
            let target = Target { session: index, qos, retain_as_published: retain, ids, group };
            self.deliver(target, &message.publication(), retain);
        }
        self.source = Source::NONE;
    }

    /// A session that was to come has ended where it was.
    pub(super) fn arrival_abandoned(&mut self, from: usize, token: u64) {
        let Some(index) = self.moves.arriving.remove(&(from, token)) else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        let subscriber = session.client.subscriber.clone();
        let aside = match session.journey.take() {
            Some(Journey::Arriving { aside }) => aside,
            _ => Vec::new(),
        };
        let realm = self.realms.number(&subscriber.mountpoint);
        let filters: Vec<TopicFilter> = session.subscriptions.keys().cloned().collect();
        let policy = session.terms.shared_policy;
        for filter in &filters {
            self.remove_subscriber(realm, filter, index);
        }
        self.counters.subscriptions -= filters.len() as u64;
        self.sessions.remove(index);
        let publisher = self.slots.hash(&subscriber);
        for Aside { delivery, .. } in aside {
            if let Some(group) = delivery.group {
                self.offer_to_group(&subscriber.mountpoint, &group, &delivery.message, policy, publisher, 0);
            }
        }
        self.serve_waiting(&subscriber);
    }

    /// A session of this shard ends. If it was about to leave, nobody needs to wait for it.
    pub(super) fn abandon_move(&mut self, token: u64) {
        if let Some(Move { to, .. }) = self.moves.leaving.remove(&token) {
            self.post(to, Mail::Abandoned { token });
        }
    }

    /// Whether a client of this shard must wait for its session to come; then it is pulled.
    pub(super) fn must_wait(&mut self, subscriber: &SubscriberId) -> bool {
        let slot = self.slots.slot(subscriber);
        let Some(&from) = self.moves.gaining.get(&slot) else {
            return self.is_arriving(subscriber);
        };
        if self.is_arriving(subscriber) || self.moves.waiting.contains_key(subscriber) {
            return true;
        }
        if self.sessions.find(subscriber).is_some() {
            return false;
        }
        self.post(from, Mail::Pull { subscriber: subscriber.clone() });
        true
    }

    fn is_arriving(&self, subscriber: &SubscriberId) -> bool {
        let session = self.sessions.find(subscriber).and_then(|index| self.sessions.get(index));
        session.is_some_and(|session| matches!(session.journey, Some(Journey::Arriving { .. })))
    }

    pub(super) fn wait_for(&mut self, subscriber: SubscriberId, waiting: Waiting<C::State>) {
        self.moves.waiting.entry(subscriber).or_default().push_back(waiting);
    }

    /// The new owner of a slot needs a session now.
    pub(super) fn pulled(&mut self, from: usize, subscriber: SubscriberId) {
        match self.sessions.find(&subscriber) {
            Some(index) => {
                if !self.begin_move(index) {
                    self.moves.queue.push_front(subscriber);
                }
            }
            None => self.post(from, Mail::NotHere { subscriber }),
        }
    }

    /// The old owner has no session of this subscriber id; unless it is on its way, there is none.
    pub(super) fn not_here(&mut self, subscriber: &SubscriberId) {
        if !self.is_arriving(subscriber) {
            self.serve_waiting(subscriber);
        }
    }

    /// What waited for a session goes on: it is here, or there is none.
    pub(super) fn serve_waiting(&mut self, subscriber: &SubscriberId) {
        for waiting in self.moves.waiting.remove(subscriber).unwrap_or_default() {
            match waiting {
                Waiting::Register(id, arrival) => {
                    if self.connections.get(id).is_some() {
                        self.register(id, arrival);
                        self.go_on(id);
                    }
                }
                Waiting::Disconnect { cleanup } => self.disconnect(subscriber.clone(), cleanup),
            }
        }
    }

    /// One session less of a slot that left.
    fn session_left(&mut self, subscriber: &SubscriberId) {
        let slot = self.slots.slot(subscriber);
        if let Some(left) = self.moves.losing.get_mut(&slot) {
            *left = left.saturating_sub(1);
        }
        self.slot_is_empty(slot);
    }

    fn slot_is_empty(&mut self, slot: u16) {
        if self.moves.losing.get(&slot) == Some(&0) {
            self.moves.losing.remove(&slot);
            if let Some(to) = self.slots.owner_of_slot(slot) {
                self.post(to, Mail::SlotEmptied { slot });
            }
        }
    }

    /// Forgets cuts that every shard's mail has passed.
    pub(super) fn forget_cuts(&mut self) {
        let mut cutting = std::mem::take(&mut self.cutting);
        cutting.retain(|&index| {
            let Some(session) = self.sessions.get_mut(index) else { return false };
            let Some(Journey::Arrived { cut }) = &session.journey else { return false };
            let passed = cut.iter().enumerate().all(|(shard, cut)| shard == self.id || self.heard[shard] >= *cut);
            if passed {
                session.journey = None;
            }
            !passed
        });
        self.cutting = cutting;
    }
}
