//! Slots that change their owner, and the sessions that follow them to another shard while their clients stay connected.
//!
//! Owns: the slot map, the slots and sessions under way in both directions, and what waits for a session. Holds no session and
//! sends no message: it says what is to be sent, and the shard sends it. Trusts that messages between two shards arrive in
//! order; needs no order between other pairs.
//!
//! # Slots
//!
//! ```text
//!   old owner A                       new owner B                        every other shard P
//!   SlotsMoved ─────────────────────► slot is mine, not all of it here
//!   SlotsMoved ────────────────────────────────────────────────────────► slot is B's
//!   ◄──────────────────────────────── SlotsSeen                          SlotsSeen
//!   every session, see below ───────►
//!                                     ◄──── a client connects ─────────  hand-off
//!   ◄──────────────────────────────── Pull
//!   that session at once, or NotHere ► serves the client
//!   SlotEmptied ────────────────────► all of it is here
//! ```
//!
//! A client that connects to B before its session is there waits for it. A tells B that a session does not exist, or that a slot
//! is empty, only when every shard has answered that it knows of the move. By then everything that clients of the slot published
//! at A has arrived everywhere, and what they publish at B overtakes nothing. A session that ends at A meanwhile has published
//! until then, its will last of all: the other shards have to answer once more.
//!
//! A slot does not move on before it is empty at its last owner. So its sessions are on two shards at most, and of two messages
//! that name an owner of a slot, no shard receives the later one first.
//!
//! # Sessions
//!
//! ```text
//!   old owner A                       new owner B                        every other shard P
//!   Leaving ───────────────────────────────────────────────────────────► (behind all that the client published at A)
//!   SessionAnnouncement ────────────► joins its subscriptions, buffers its messages
//!                                     Subscribe ───────────────────────► adds B as a subscriber
//!                                     ◄────────────────────────────────  Subscribed
//!   ◄──────────────────────────────── AskSubscriptions   ─┐
//!   Subscriptions ──────────────────► joins them          │ as often as a portion is left
//!                                     Subscribe ──────────┼────────────► adds B as a subscriber
//!                                     ◄───────────────────┴────────────  Subscribed
//!                                     (the last: for A's token)
//!   ◄───────────────────────────────────────────────────────────────────  Flushed, for each of Leaving and the last Subscribe
//!   ◄──────────────────────────────── Flushed            (behind all it sent A before)
//!   packs session and connection
//!   SessionTransfer ────────────────► delivers what it buffered and A has not delivered, goes on
//!   leaves its subscriptions
//! ```
//!
//! Nothing is lost: what a shard published before it knew of B's subscriptions has arrived at A when that shard's `Flushed` has.
//! Nothing is delivered twice: what a shard published after that went to A and to B, and *delivered up to* says how much of it A
//! delivered, as one number per shard. B may still receive publications from before the move for other sessions, some of them
//! older than a subscription of this one; they are not for it. *Delivered up to* therefore is at least the number that came with
//! `Flushed`.
//!
//! What the client publishes at B overtakes nothing that it published at A, which has arrived everywhere by then. Hooks are not
//! overtaken either: a session leaves when those that were told of something are done.
//!
//! # Sessions that are a lot
//!
//! Few subscriptions come with the announcement. Of many the first portion does, and B asks for each of the others when all shards have
//! taken in the one before: so no shard has more than a portion of a session to take in at a time, however slow another one is. While some
//! are at B and some are not, all of them are at A, which gets what is published for any. `Flushed` is of the last portion alone. What came
//! to B before, for the subscriptions that it knew, was published before that, A has it, and *delivered up to* covers it: B forgets it with each
//! portion, and holds up nobody for it. What B delivers in the end was routed with all of them. None may come or go meanwhile: the client is not served, and a session that is subscribing does not
//! begin to leave.
//!
//! A keeps its own until the session is packed, then they end as those of a session that has: in portions, at a place in the table that
//! is nobody's, and what is routed there meanwhile is B's. They do not travel: B has them all. But memberships in shared subscriptions end
//! at once, as one of A must not be chosen any more.
//!
//! Of many messages that B has buffered it delivers a portion at a time. Until the last one is delivered the session is still *arriving*:
//! what is published for it is buffered behind, its client is not served, and who needs it waits. So for hooks and for the order of
//! messages it is as if all were delivered at once. A session that ends at A before it leaves is *abandoned*: B ends its
//! subscriptions in portions, too, and so it passes on what it has buffered for members of shared subscriptions.

mod incoming;
mod outgoing;
mod slots;
mod transfer;
mod waiting;

pub(crate) use incoming::{IncomingSessions, TakenIn};
pub(crate) use outgoing::{Begin, OutgoingSessions, Ready};
pub(crate) use slots::{PullAnswer, Slots};
pub use slots::{SlotMigration, SlotsMoving};
pub(crate) use transfer::{FILTER, weight_of};
pub use transfer::{SessionAnnouncement, SessionTransfer};
pub(crate) use waiting::{Presence, Wait, Waiting, WaitingTable};

use std::collections::VecDeque;

use crate::client::SubscriberId;

/// Slots and sessions under way; one for each shard.
pub(crate) struct Migration {
    /// Which shard owns which slot, and the slots under way.
    pub slots: Slots,
    /// Sessions that are to leave this shard.
    pub outgoing: OutgoingSessions,
    /// Sessions that are to come to it.
    pub incoming: IncomingSessions,
    /// What waits for one of those.
    waiting: WaitingTable,
}

/// Whose answer a `Flushed` was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// It was about a session that leaves, which may be ready now: see [`OutgoingSessions::ready`].
    Session,
    /// It was about a session that had ended. The pulls of these slots can be answered now, and some may be empty.
    Slots(Vec<u16>),
}

impl Migration {
    /// Nothing under way on shard `own` of `shards`. `seed` is that of the slot map, the same on all shards.
    pub fn new(own: usize, shards: usize, seed: u64) -> Self {
        Migration {
            slots: Slots::new(own, shards, seed),
            outgoing: OutgoingSessions::new(own, shards),
            incoming: IncomingSessions::new(shards),
            waiting: WaitingTable::default(),
        }
    }

    /// How many slots and sessions are under way, have come not long ago, or are waited for.
    pub fn len(&self) -> usize {
        self.slots.len() + self.outgoing.len() + self.incoming.len() + self.waiting.len()
    }

    /// A shard has answered the message with this number: about a session that leaves, or one that ended.
    pub fn flushed(&mut self, token: u64) -> Flushed {
        match self.outgoing.flushed(token) {
            true => Flushed::Session,
            false => Flushed::Slots(self.slots.answered(token)),
        }
    }

    /// Whether something of a client that this shard owns has to wait for its session to come.
    pub fn must_wait(&self, subscriber: &SubscriberId, session: Presence) -> Wait {
        let old_owner = self.slots.old_owner(self.slots.slot(subscriber));
        self.waiting.must_wait(subscriber, session, old_owner)
    }

    /// Has something wait for the session of `subscriber`, behind what waits for it already.
    pub fn wait(&mut self, subscriber: SubscriberId, waiting: Waiting) {
        self.waiting.add(subscriber, waiting);
    }

    /// What waited for the session of `subscriber`, in order: the session has come.
    pub fn release(&mut self, subscriber: &SubscriberId) -> VecDeque<Waiting> {
        self.waiting.release(subscriber)
    }

    /// What waited for the session of `subscriber`, in order, now that its old owner has none: nothing if the session is on its
    /// way to this shard.
    pub fn not_here(&mut self, subscriber: &SubscriberId, session: Presence) -> VecDeque<Waiting> {
        match session {
            Presence::Arriving => VecDeque::new(),
            Presence::Absent | Presence::Here => self.release(subscriber),
        }
    }
}

#[cfg(test)]
mod tests;
