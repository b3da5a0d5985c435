//! Slots that change their owner: who knows of it, what is still at the old one, and who waits for it.
//!
//! ```text
//!   old owner A                       new owner B                        every other shard P
//!   SlotsMoved ─────────────────────► slot is mine, not all of it here
//!   SlotsMoved ────────────────────────────────────────────────────────► slot is B's
//!   ◄──────────────────────────────── SlotsSeen                          SlotsSeen
//!   every session, see `migrate` ───►
//!                                     ◄──── a client connects ─────────  hand-off
//!   ◄──────────────────────────────── Pull
//!   that session at once, or NotHere ► serves the client
//!   SlotEmptied ────────────────────► all of it is here
//! ```
//!
//! A client that connects to B before its session is there waits for it. B is told that there is none, and that a slot is
//! empty, only when every shard has seen that the slot moved, and thus has all that clients of it published at A: what they
//! publish at B overtakes nothing. A session that ends at A meanwhile has published until then, its will last of all: the other
//! shards have to say once more that they have it.
//!
//! A slot does not move on before it is empty at its last owner. So its sessions are on two shards at most, and of two letters
//! that say whose it is no shard reads the later one first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Shard;
use super::attempt::Arrival;
use super::mail::{Mail, SlotsMoved};
use super::migrate::Departure;
use crate::sharding::SLOTS;
use crate::client::{ConnectionId, SubscriberId};
use crate::hooks::Chain;
use crate::session::MigrationState;
use crate::time::Time;

/// Moves of a shard, both ways.
pub(super) struct Moves<S> {
    /// Sessions that are to leave and have not begun to.
    pub queue: VecDeque<SubscriberId>,
    /// When those are looked at again, at the latest, if something is in their way.
    pub looks_again: Time,
    /// Those that have, by token.
    pub leaving: BTreeMap<u64, Departure>,
    /// Slots that came here and may have sessions at their old owner.
    gaining: BTreeMap<u16, usize>,
    /// Slots that left and are not done with.
    losing: BTreeMap<u16, Losing>,
    /// Letters about slots that left, by token: how many shards have not answered, and which slots they are about.
    unanswered: BTreeMap<u64, (usize, Vec<u16>)>,
    /// Sessions that are to come: old owner and token, and their place in the table.
    pub arriving: BTreeMap<(usize, u64), u32>,
    /// What waits for a session to come.
    waiting: BTreeMap<SubscriberId, VecDeque<Waiting<S>>>,
}

/// A slot that left.
#[derive(Default)]
struct Losing {
    /// How many letters about it, or about sessions of it that ended, not every shard has answered.
    unanswered: usize,
    /// Clients that the new owner asked for and that have no session here.
    asked: Vec<SubscriberId>,
}

/// Something that waits for a session to come.
pub(super) enum Waiting<S> {
    /// Its client connects.
    Register(ConnectionId, Box<Arrival<S>>),
    /// An operator ends it.
    Disconnect { cleanup: bool },
}

/// What became of the wish to move slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotsMoving {
    /// The slots that move.
    pub slots: Vec<u16>,
    /// How many sessions are in them.
    pub sessions: usize,
    /// Slots that are not this shard's, or are where they are to be.
    pub elsewhere: Vec<u16>,
    /// Slots that came to this shard and may still have sessions at their last owner: they cannot move on yet.
    pub arriving: Vec<u16>,
}

/// Where a slot is on its way from one shard to another, as one of the two sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotMigration {
    /// It stays where it is.
    None,
    /// It left, and some of it is still here.
    Leaving,
    /// It came, and some of it may still be at its last owner.
    Arriving,
}

impl<S> Moves<S> {
    pub fn new() -> Self {
        Moves {
            queue: VecDeque::new(),
            looks_again: Time::ZERO,
            leaving: BTreeMap::new(),
            gaining: BTreeMap::new(),
            losing: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            arriving: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// How many slots and sessions are on their way, or wait for some.
    pub fn len(&self) -> usize {
        let slots = self.gaining.len() + self.losing.len() + self.unanswered.len();
        slots + self.queue.len() + self.leaving.len() + self.arriving.len() + self.waiting.len()
    }

    /// Where `slot` is on its way.
    pub fn migration_of(&self, slot: u16) -> SlotMigration {
        if self.gaining.contains_key(&slot) {
            SlotMigration::Arriving
        } else if self.losing.contains_key(&slot) {
            SlotMigration::Leaving
        } else {
            SlotMigration::None
        }
    }
}

impl<C: Chain> Shard<C> {
    /// Those of `slots` that are this shard's go to shard `to`, and their sessions follow. Looks at every session once.
    ///
    /// A slot that is not this shard's, or is still arriving, stays where it is; so do all if there is no shard `to`.
    pub fn move_slots(&mut self, slots: &[u16], to: usize, now: Time) -> SlotsMoving {
        self.now = now;
        let mut moving = SlotsMoving::default();
        let mut leaves = [false; SLOTS];
        for &slot in slots {
            let is_own = self.slots.owner_of_slot(slot) == Some(self.id);
            if !is_own || to == self.id || to >= self.shards {
                moving.elsewhere.push(slot);
            } else if self.moves.gaining.contains_key(&slot) {
                moving.arriving.push(slot);
            } else {
                self.slots.set(slot, to);
                self.moves.losing.insert(slot, Losing::default());
                moving.slots.push(slot);
                leaves[usize::from(slot)] = true;
            }
        }
        if !moving.slots.is_empty() {
            self.tell_slots_moved(to, moving.slots.as_slice().into());
            let sessions = self.sessions.ids_in_slots(|slot| leaves[usize::from(slot)]);
            moving.sessions = sessions.len();
            self.moves.queue.extend(sessions);
            self.begin_moves();
        }
        moving
    }

    fn tell_slots_moved(&mut self, to: usize, slots: Arc<[u16]>) {
        let token = self.number();
        let next_number = self.next_number;
        for shard in self.others() {
            let moved = SlotsMoved { token, to, slots: slots.clone(), next_number };
            self.post(shard, Mail::SlotsMoved(Box::new(moved)));
        }
        self.await_answers(token, self.shards - 1, slots.to_vec());
    }

    /// So many shards are to answer a letter about slots that left.
    fn await_answers(&mut self, token: u64, shards: usize, slots: Vec<u16>) {
        if shards == 0 {
            return;
        }
        for slot in &slots {
            if let Some(losing) = self.moves.losing.get_mut(slot) {
                losing.unanswered += 1;
            }
        }
        self.moves.unanswered.insert(token, (shards, slots));
    }

    /// Slots have another owner now; perhaps this shard.
    pub(super) fn slots_moved(&mut self, from: usize, moved: &SlotsMoved) {
        for &slot in moved.slots.iter() {
            self.slots.set(slot, moved.to);
            if moved.to == self.id {
                self.moves.gaining.insert(slot, from);
            }
        }
        // The numbers of a client's sessions rise wherever it connects.
        self.next_number = self.next_number.max(moved.next_number);
        self.post(from, Mail::SlotsSeen { token: moved.token });
    }

    /// One more shard knows of slots that left, or has what a session published that ended.
    pub(super) fn letter_answered(&mut self, token: u64) {
        let Some((waiting, _)) = self.moves.unanswered.get_mut(&token) else { return };
        *waiting -= 1;
        if *waiting > 0 {
            return;
        }
        let (_, slots) = self.moves.unanswered.remove(&token).unwrap_or_default();
        for slot in slots {
            if let Some(losing) = self.moves.losing.get_mut(&slot) {
                losing.unanswered -= 1;
            }
            self.answer_pulls(slot);
        }
    }

    /// Tells the new owner of a slot which of the sessions that it asked for are not here, once every shard knows that the slot
    /// left. A subscriber id about which hooks are not done yet has to wait: nobody is to be registered before.
    pub(super) fn answer_pulls(&mut self, slot: u16) {
        let Some(losing) = self.moves.losing.get_mut(&slot).filter(|losing| losing.unanswered == 0) else { return };
        let asked = std::mem::take(&mut losing.asked);
        let (waiting, free) = asked.into_iter().partition(|subscriber| self.notices.contains_key(subscriber));
        losing.asked = waiting;
        for subscriber in free {
            self.say_not_here(slot, subscriber);
        }
        self.give_up_if_empty(slot);
    }

    /// A session has ended here. If its slot left, the new owner may have asked for it, and must not wait for longer than until
    /// the others have what it published, which was perhaps a will.
    pub(super) fn session_ended(&mut self, subscriber: &SubscriberId, slot: u16) {
        if let Some(losing) = self.moves.losing.get_mut(&slot)
            && let Some(to) = self.slots.owner_of_slot(slot)
        {
            losing.asked.push(subscriber.clone());
            let token = self.number();
            let asked = self.ask_to_flush(token, to);
            self.await_answers(token, asked, vec![slot]);
            self.answer_pulls(slot);
        }
        self.session_left(slot);
    }

    /// One session less of `slot` is here.
    pub(super) fn session_left(&mut self, slot: u16) {
        self.give_up_if_empty(slot);
        if !self.moves.queue.is_empty() {
            self.begin_moves();
        }
    }

    fn give_up_if_empty(&mut self, slot: u16) {
        let is_done = self.moves.losing.get(&slot).is_some_and(|losing| losing.unanswered == 0);
        let is_noticed = |id: &SubscriberId| self.slots.slot(id) == slot;
        if is_done && self.sessions.in_slot(slot) == 0 && !self.notices.keys().any(is_noticed) {
            self.moves.losing.remove(&slot);
            if let Some(to) = self.slots.owner_of_slot(slot) {
                self.post(to, Mail::SlotEmptied { slot });
            }
        }
    }

    /// The old owner has no session of this slot any more.
    pub(super) fn slot_emptied(&mut self, slot: u16) {
        self.moves.gaining.remove(&slot);
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
        session.is_some_and(|session| matches!(session.migration, Some(MigrationState::Arriving { .. })))
    }

    pub(super) fn wait_for(&mut self, subscriber: SubscriberId, waiting: Waiting<C::State>) {
        self.moves.waiting.entry(subscriber).or_default().push_back(waiting);
    }

    /// The new owner of a slot needs a session now.
    pub(super) fn pulled(&mut self, from: usize, subscriber: SubscriberId) {
        if let Some(index) = self.sessions.find(&subscriber) {
            if !self.begin_move(index) {
                self.moves.queue.push_front(subscriber);
                self.begin_moves();
            }
            return;
        }
        let slot = self.slots.slot(&subscriber);
        match self.moves.losing.get_mut(&slot) {
            Some(losing) => {
                losing.asked.push(subscriber);
                self.answer_pulls(slot);
            }
            None => self.post(from, Mail::NotHere { subscriber }),
        }
    }

    fn say_not_here(&mut self, slot: u16, subscriber: SubscriberId) {
        if let Some(to) = self.slots.owner_of_slot(slot) {
            self.post(to, Mail::NotHere { subscriber });
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
                Waiting::Register(id, arrival) => self.register_after_wait(id, arrival),
                // Not to be asked for once more.
                Waiting::Disconnect { cleanup } => self.disconnect_here(subscriber, cleanup),
            }
        }
    }

    fn register_after_wait(&mut self, id: ConnectionId, arrival: Box<Arrival<C::State>>) {
        if self.connections.get(id).is_none() {
            return;
        }
        let owner = self.slots.owner(&arrival.client.subscriber);
        if owner != self.id {
            // The slot has moved on meanwhile: a session that began here now, perhaps in the place of the one that was waited
            // for, would be left behind, and its new owner would begin another one.
            return self.hand_off(id, owner, arrival);
        }
        if let Some(arrival) = self.wait_for_notices(id, arrival) {
            self.register_here(id, arrival);
        }
        self.go_on(id);
    }
}
