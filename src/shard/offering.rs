//! A message for one member of a shared subscription: who gets it, where not all shards have room for it.
//!
//! A shard to which the queue is full is passed over as long as another one, this one included, has a member with room. If none has, a message
//! that is being published goes there all the same, and its publisher waits until there is room, on whichever shard he is. What a member had
//! and leaves to others stays where it is. Of such messages no more bytes go to other shards in a turn than half of what fits into a queue:
//! whether one is full is known when the turn is over.

use std::sync::Arc;

use super::clients::Clients;
use super::message::Share;
use super::passing_over::PassingOver;
use super::publications::{give_to_member, send_on};
use super::pubsub::PubSub;
use crate::codec::QoS;
use crate::hooks::Chain;
use crate::message::Message;
use crate::routing::{Choice, Turn};
use crate::session::PublicationId;
use crate::sharding::Publisher;
use crate::topic::TopicFilter;

/// What became of a message that a member leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is on its way, or there is nobody any more.
    Gone,
    /// It has to wait for the next turn.
    NextTurn,
    /// It has to wait until the queue to a shard has room.
    NoRoom,
}

impl<C: Chain> PubSub<C> {
    /// Delivers a message that shard `from` routed here for members of shared subscriptions.
    pub(super) fn deliver_share(&mut self, from: usize, share: Share) {
        let Share { sequence, mountpoint, message, number, groups, plain, publisher, turn, token } = share;
        let passed_on = self.clients.persistence.as_ref().map_or(0, |persistence| persistence.last_passed_on());
        let id = PublicationId { shard: from, sequence };
        self.routing.received(from, sequence);
        if plain {
            self.deliver_from_shard(id, &mountpoint, &message, number, publisher.map(|publisher| publisher.connection));
        }
        let mountpoint = self.routing.mountpoint(&mountpoint);
        for group in &groups {
            self.offer_to_group(mountpoint, group, &message, turn, publisher);
        }
        if let Some(persistence) = self.clients.persistence.as_mut().filter(|_| token > 0) {
            persistence.owe(from, token, passed_on);
        }
    }

    /// Gives `message` to one member of a shared subscription: an online one if there is one on any shard.
    pub(super) fn offer_to_group(
        &mut self,
        mountpoint: u32,
        filter: &Arc<TopicFilter>,
        message: &Message,
        turn: Turn,
        publisher: Option<Publisher>,
    ) {
        let (choice, turn) = choose(self, (mountpoint, filter), message.qos(), turn);
        place(self, choice, (mountpoint, filter), message, (turn, publisher));
    }
}

/// Gives what a member leaves to another one, if there is room on the way to it.
pub(super) fn pass_on<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, filter): (u32, &Arc<TopicFilter>),
    message: &Message,
    turn: Turn,
) -> Offered {
    let (choice, turn) = choose(pubsub, (mountpoint, filter), message.qos(), turn);
    if let Choice::Shard(shard) = choice {
        if pubsub.clients.flow.congested().contains(shard) {
            return Offered::NoRoom;
        }
        if is_much_passed_on(&pubsub.clients) {
            return Offered::NextTurn;
        }
    }
    place(pubsub, choice, (mountpoint, filter), message, (turn, None));
    Offered::Gone
}

/// Whether as much of what members had went to other shards as may in a turn.
pub(super) fn is_much_passed_on<C: Chain>(clients: &Clients<C>) -> bool {
    clients.agenda.turn.passed_on() >= clients.setup.config.runtime.mailbox_bytes / 2
}

/// Who gets a message: not one of a shard to which the queue is full, if somebody else has room for it.
fn choose<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, filter): (u32, &Arc<TopicFilter>),
    qos: QoS,
    mut turn: Turn,
) -> (Choice, Turn) {
    let choice = match pubsub.routing.choose_member(mountpoint, filter, turn) {
        Choice::Member(member) => {
            turn.passed_over.insert(pubsub.clients.setup.id);
            let other = PassingOver::of(pubsub).instead_of((mountpoint, filter), member.session, qos, turn);
            other.unwrap_or(Choice::Member(member))
        }
        Choice::Shard(shard) if pubsub.clients.flow.congested().contains(shard) => {
            let other = PassingOver::of(pubsub).instead_of_shard((mountpoint, filter), qos, turn);
            other.unwrap_or(Choice::Shard(shard))
        }
        choice => choice,
    };
    (choice, turn)
}

fn place<C: Chain>(
    pubsub: &mut PubSub<C>,
    choice: Choice,
    (mountpoint, filter): (u32, &Arc<TopicFilter>),
    message: &Message,
    (turn, publisher): (Turn, Option<Publisher>),
) {
    match choice {
        Choice::Member(member) => give_to_member(pubsub, (mountpoint, filter), &member, message, (turn, publisher)),
        Choice::Shard(shard) => send_on(pubsub, shard, (mountpoint, filter), message.clone(), turn, publisher),
        // The last one left while it was on its way.
        Choice::Nobody => {}
    }
}
