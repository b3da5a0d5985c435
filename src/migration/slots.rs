//! Which shard owns which slot, and the slots that change their owner: who knows of it, and what is still at the old one.

use std::collections::BTreeMap;

use crate::client::SubscriberId;
use crate::sharding::SlotMap;

/// The slot map, and the slots under way.
pub(crate) struct Slots {
    own: usize,
    shards: usize,
    map: SlotMap,
    /// Slots that came here and may have sessions at their old owner, which is the value.
    gaining: BTreeMap<u16, usize>,
    /// Slots that left and are not finished.
    losing: BTreeMap<u16, Losing>,
    /// Messages about slots that left, by token.
    unanswered: BTreeMap<u64, Unanswered>,
}

/// A slot that left.
#[derive(Default)]
struct Losing {
    /// How many messages about it, or about sessions of it that ended, have not been answered by every shard.
    unanswered: usize,
    /// Subscriber ids without a session here that the new owner is to be told of.
    pulled: Vec<SubscriberId>,
}

/// A message about slots that left.
struct Unanswered {
    /// How many shards have not answered it.
    shards: usize,
    slots: Vec<u16>,
}

/// What became of the request to move slots.
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

/// Whether a slot is under way from one shard to another, as one of the two sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotMigration {
    /// It stays where it is.
    None,
    /// It left, and some of it is still here.
    Leaving,
    /// It came, and some of it may still be at its last owner.
    Arriving,
}

/// When the new owner of a slot is told that a session which it pulled does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullAnswer {
    /// At once: nothing of the slot is here any more.
    Now,
    /// With the others of [`Slots::ready_pulls`].
    WhenReady,
}

impl Slots {
    /// Slots dealt out evenly to `shards`, as shard `own` sees them.
    pub fn new(own: usize, shards: usize, seed: u64) -> Self {
        Slots {
            own,
            shards,
            map: SlotMap::even(shards, seed),
            gaining: BTreeMap::new(),
            losing: BTreeMap::new(),
            unanswered: BTreeMap::new(),
        }
    }

    /// The shard that owns `subscriber`.
    pub fn owner(&self, subscriber: &SubscriberId) -> usize {
        self.map.owner(subscriber)
    }

    /// The slot of `subscriber`.
    pub fn slot(&self, subscriber: &SubscriberId) -> u16 {
        self.map.slot(subscriber)
    }

    /// The shard that owns `slot`; none if there is no such slot.
    pub fn owner_of_slot(&self, slot: u16) -> Option<usize> {
        self.map.owner_of_slot(slot)
    }

    /// The shard at which sessions of `slot` may still be, if the slot came here and is not complete.
    pub fn old_owner(&self, slot: u16) -> Option<usize> {
        self.gaining.get(&slot).copied()
    }

    /// Whether and in which direction `slot` is under way.
    pub fn migration_of(&self, slot: u16) -> SlotMigration {
        if self.gaining.contains_key(&slot) {
            SlotMigration::Arriving
        } else if self.losing.contains_key(&slot) {
            SlotMigration::Leaving
        } else {
            SlotMigration::None
        }
    }

    /// How many slots are under way, and messages about them unanswered.
    pub fn len(&self) -> usize {
        self.gaining.len() + self.losing.len() + self.unanswered.len()
    }

    /// Gives those of `slots` that are this shard's to shard `to`.
    ///
    /// A slot that is not this shard's, or is still arriving, stays where it is; so do all if there is no shard `to`. The shard
    /// has to tell all others of the slots that move, see [`Slots::expect_answers`], and to count and queue their sessions:
    /// `sessions` is zero.
    pub fn move_slots(&mut self, slots: &[u16], to: usize) -> SlotsMoving {
        let mut moving = SlotsMoving::default();
        for &slot in slots {
            let is_own = self.map.owner_of_slot(slot) == Some(self.own);
            if !is_own || to == self.own || to >= self.shards {
                moving.elsewhere.push(slot);
            } else if self.gaining.contains_key(&slot) {
                moving.arriving.push(slot);
            } else {
                self.map.set(slot, to);
                self.losing.insert(slot, Losing::default());
                moving.slots.push(slot);
            }
        }
        moving
    }

    /// `shards` shards are to answer message `token`, which is about `slots`: slots that left, or those of a session that ended.
    pub fn expect_answers(&mut self, token: u64, shards: usize, slots: &[u16]) {
        if shards == 0 {
            return;
        }
        for slot in slots {
            if let Some(losing) = self.losing.get_mut(slot) {
                losing.unanswered += 1;
            }
        }
        self.unanswered.insert(token, Unanswered { shards, slots: slots.to_vec() });
    }

    /// One more shard has answered message `token`. Gives the slots about which no message is unanswered any more: their pulls
    /// may be ready, and they may be empty.
    pub fn answered(&mut self, token: u64) -> Vec<u16> {
        let Some(message) = self.unanswered.get_mut(&token) else { return Vec::new() };
        message.shards -= 1;
        if message.shards > 0 {
            return Vec::new();
        }
        let mut slots = self.unanswered.remove(&token).map(|message| message.slots).unwrap_or_default();
        slots.retain(|slot| {
            self.losing.get_mut(slot).is_some_and(|losing| {
                losing.unanswered -= 1;
                losing.unanswered == 0
            })
        });
        slots
    }

    /// Shard `from` has given `slots` to shard `to`, which may be this one.
    pub fn slots_moved(&mut self, from: usize, to: usize, slots: &[u16]) {
        for &slot in slots {
            self.map.set(slot, to);
            if to == self.own {
                self.gaining.insert(slot, from);
            }
        }
    }

    /// The old owner has no session of `slot` any more.
    pub fn slot_emptied(&mut self, slot: u16) {
        self.gaining.remove(&slot);
    }

    /// A session of `slot` has ended here. If the slot left, gives its new owner, which may have pulled the session and must not
    /// wait longer than until the other shards have what it published, its will perhaps. All shards but the new owner are to be
    /// asked for that, see [`Slots::expect_answers`]; then the pulls of the slot may be ready.
    pub fn session_ended(&mut self, slot: u16, subscriber: &SubscriberId) -> Option<usize> {
        let losing = self.losing.get_mut(&slot)?;
        losing.pulled.push(subscriber.clone());
        self.map.owner_of_slot(slot)
    }

    /// The new owner of `slot` needs a session that is not here.
    pub fn pulled(&mut self, slot: u16, subscriber: &SubscriberId) -> PullAnswer {
        match self.losing.get_mut(&slot) {
            Some(losing) => {
                losing.pulled.push(subscriber.clone());
                PullAnswer::WhenReady
            }
            None => PullAnswer::Now,
        }
    }

    /// The pulls of `slot` that its new owner is to be told now not to be here: all, once every message about the slot is
    /// answered, but those of which hooks are not done. Nobody is to be registered before.
    pub fn ready_pulls(&mut self, slot: u16, hooks_pending: impl Fn(&SubscriberId) -> bool) -> Vec<SubscriberId> {
        let Some(losing) = self.losing.get_mut(&slot).filter(|losing| losing.unanswered == 0) else {
            return Vec::new();
        };
        let (pending, ready) = std::mem::take(&mut losing.pulled).into_iter().partition(hooks_pending);
        losing.pulled = pending;
        ready
    }

    /// Finishes `slot` if it left and nothing of it is here: no session, no hook that is not done, no unanswered message. Gives
    /// the new owner, which is to be told.
    pub fn finish_if_empty(&mut self, slot: u16, sessions: u32, hooks_pending: bool) -> Option<usize> {
        let is_answered = self.losing.get(&slot).is_some_and(|losing| losing.unanswered == 0);
        if !is_answered || sessions > 0 || hooks_pending {
            return None;
        }
        self.losing.remove(&slot);
        self.map.owner_of_slot(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SubscriberId {
        SubscriberId::new("", name)
    }

    /// Shard 0 of 4, which has given slot 8 to shard 1 and told the others in message 1.
    fn losing_slot_8() -> Slots {
        let mut slots = Slots::new(0, 4, 7);
        assert_eq!(slots.move_slots(&[8], 1).slots, [8]);
        slots.expect_answers(1, 3, &[8]);
        slots
    }

    fn answer_all(slots: &mut Slots, token: u64) -> Vec<u16> {
        assert!(slots.answered(token).is_empty() && slots.answered(token).is_empty(), "two of three");
        slots.answered(token)
    }

    #[test]
    fn only_own_slots_move_and_only_to_another_shard_that_exists() {
        let mut slots = Slots::new(0, 4, 7);
        let moving = slots.move_slots(&[4, 5, 4095, u16::MAX, 4], 2);
        assert_eq!((&moving.slots[..], &moving.elsewhere[..]), (&[4][..], &[5, 4095, u16::MAX, 4][..]));
        assert_eq!(slots.owner_of_slot(4), Some(2));
        assert_eq!(slots.migration_of(4), SlotMigration::Leaving);
        assert_eq!(slots.move_slots(&[8], 4).elsewhere, [8], "no such shard");
        assert_eq!(slots.move_slots(&[8], 0).elsewhere, [8], "it is there");
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_slot_does_not_move_on_before_it_is_empty_at_its_last_owner() {
        let mut slots = Slots::new(0, 4, 7);
        slots.slots_moved(1, 0, &[5]);
        assert_eq!((slots.owner_of_slot(5), slots.old_owner(5)), (Some(0), Some(1)));
        assert_eq!(slots.migration_of(5), SlotMigration::Arriving);
        assert_eq!(slots.move_slots(&[5], 2).arriving, [5]);
        slots.slot_emptied(5);
        assert_eq!(slots.migration_of(5), SlotMigration::None);
        assert_eq!(slots.move_slots(&[5], 2).slots, [5]);
    }

    #[test]
    fn a_slot_that_moves_between_others_is_not_under_way_here() {
        let mut slots = Slots::new(0, 4, 7);
        slots.slots_moved(1, 3, &[5]);
        assert_eq!((slots.owner_of_slot(5), slots.len()), (Some(3), 0));
    }

    #[test]
    fn pulls_are_answered_when_every_shard_has_answered() {
        let mut slots = losing_slot_8();
        assert_eq!(slots.pulled(8, &id("a")), PullAnswer::WhenReady);
        assert!(slots.ready_pulls(8, |_| false).is_empty());
        assert_eq!(answer_all(&mut slots, 1), [8]);
        assert_eq!(slots.ready_pulls(8, |_| false), [id("a")]);
        assert!(slots.ready_pulls(8, |_| false).is_empty(), "once");
        assert_eq!(slots.pulled(12, &id("b")), PullAnswer::Now, "a slot that has not left, or has long since");
    }

    #[test]
    fn pulls_are_answered_when_hooks_are_done() {
        let mut slots = losing_slot_8();
        for name in ["a", "b", "c"] {
            slots.pulled(8, &id(name));
        }
        answer_all(&mut slots, 1);
        assert_eq!(slots.ready_pulls(8, |subscriber| *subscriber == id("b")), [id("a"), id("c")]);
        assert_eq!(slots.ready_pulls(8, |_| false), [id("b")]);
    }

    #[test]
    fn a_session_that_ends_while_its_slot_leaves_makes_the_others_answer_once_more() {
        let mut slots = losing_slot_8();
        assert_eq!(slots.session_ended(8, &id("a")), Some(1));
        slots.expect_answers(2, 2, &[8]);
        assert!(answer_all(&mut slots, 1).is_empty(), "the second message is not answered");
        assert_eq!(slots.finish_if_empty(8, 0, false), None);
        assert!(slots.ready_pulls(8, |_| false).is_empty());
        assert!(slots.answered(2).is_empty());
        assert_eq!(slots.answered(2), [8]);
        assert_eq!(slots.ready_pulls(8, |_| false), [id("a")]);
        assert_eq!(slots.session_ended(12, &id("b")), None, "its slot stays");
    }

    #[test]
    fn of_two_shards_none_is_left_to_answer_about_a_session_that_ended() {
        let mut slots = Slots::new(0, 2, 7);
        slots.move_slots(&[8], 1);
        slots.expect_answers(1, 1, &[8]);
        assert_eq!(slots.answered(1), [8]);
        assert_eq!(slots.session_ended(8, &id("a")), Some(1));
        slots.expect_answers(2, 0, &[8]);
        assert_eq!(slots.ready_pulls(8, |_| false), [id("a")]);
        assert_eq!(slots.finish_if_empty(8, 0, false), Some(1));
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn a_slot_is_finished_when_nothing_of_it_is_here() {
        let mut slots = losing_slot_8();
        assert_eq!(slots.finish_if_empty(8, 0, false), None, "the others have not answered");
        answer_all(&mut slots, 1);
        assert_eq!(slots.finish_if_empty(8, 1, false), None, "a session is here");
        assert_eq!(slots.finish_if_empty(8, 0, true), None, "a hook is not done");
        assert_eq!(slots.finish_if_empty(8, 0, false), Some(1));
        assert_eq!(slots.finish_if_empty(8, 0, false), None, "once");
        assert_eq!((slots.migration_of(8), slots.len()), (SlotMigration::None, 0));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_ignored() {
        let mut slots = losing_slot_8();
        assert!(slots.answered(99).is_empty());
        assert_eq!(answer_all(&mut slots, 1), [8]);
        assert!(slots.answered(1).is_empty());
    }
}
