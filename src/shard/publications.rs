//! From a publication to its recipients: those of this shard, a copy to every other shard that has some, and what is retained.

use std::sync::Arc;

use super::delivering::{Portioning, Routed};
use super::due_wills::put_behind;
use super::holding::hold_for_room;
use super::message::{ShardMessage, Share};
use super::passing_over::{PassingOver, are_ready};
use super::pubsub::PubSub;
use super::recording;
use super::replaying::Replaying;
use crate::client::ConnectionId;
use crate::codec::QoS;
use crate::delivery::Batch;
use crate::hooks::Chain;
use crate::message::{Message, Publication};
use crate::retained::Retention;
use crate::routing::{Choice, Origin, Recipients, Subscriber, Turn};
use crate::session::PublicationId;
use crate::sharding::{Publisher, ShardSet};
use crate::topic::TopicFilter;

/// What became of a publication.
#[derive(Default)]
pub(super) struct RoutingResult {
    /// How many recipients there are, a shard with subscribers counting for one.
    pub recipients: usize,
    /// The shards that were sent it: those that got a copy, and the one that retains it.
    pub told: ShardSet,
}

/// Whose publication it is, and what came with it.
#[derive(Clone, Copy)]
pub(super) struct PublishContext {
    /// As far as routing cares.
    pub origin: Origin,
    /// The connection that published it, if one did.
    pub connection: Option<ConnectionId>,
    /// Whether more may follow from the same read, so that it is worth while to wait for them.
    pub more_follows: bool,
}

impl PublishContext {
    /// A publication that comes by itself.
    pub fn by_nobody(origin: Origin) -> Self {
        PublishContext { origin, connection: None, more_follows: false }
    }
}

impl<C: Chain> PubSub<C> {
    /// Brings a publication that was made on this shard to everybody.
    pub(super) fn publish(
        &mut self,
        mountpoint: u32,
        publication: &Publication<'_>,
        by: PublishContext,
    ) -> RoutingResult {
        if !self.wills.is_empty() && self.wills.has_of(publication.topic) {
            put_behind(self, mountpoint, publication, (by.origin, by.connection));
            return RoutingResult { recipients: 1, ..RoutingResult::default() };
        }
        self.publish_now(mountpoint, publication, by)
    }

    /// The same of one that no will is to come before.
    #[inline]
    pub(super) fn publish_now(
        &mut self,
        mountpoint: u32,
        publication: &Publication<'_>,
        by: PublishContext,
    ) -> RoutingResult {
        let publisher = by.connection.map(|connection| Publisher { shard: self.clients.setup.id, connection });
        if self.clients.delivery.batch.continues(mountpoint, publisher, publication) {
            return self.gather(mountpoint, publication, by);
        }
        self.clients.deliver_batch();
        let id = self.routing.next_publication();
        let (owner, number) =
            if publication.retain { self.retain(mountpoint, publication) } else { (self.clients.setup.id, 0) };
        let mut recipients = self.routing.lend();
        let looked_at = self.routing.gather(mountpoint, publication.topic, by.origin, &mut recipients);
        self.clients.agenda.turn.did_look(looked_at);
        let mut published = RoutingResult::default();
        let is_by_choice = recipients.is_by_choice();
        if is_by_choice {
            if self.clients.flow.is_any_congested() {
                pass_over_full_queues(self, (mountpoint, publication.qos), by.origin, &mut recipients);
            }
            if !are_ready(&self.clients, &recipients.local, publication.qos) {
                let mut turn = Turn::new(by.origin.policy, by.origin.publisher);
                turn.passed_over.insert(self.clients.setup.id);
                self.pass_over((mountpoint, publication, publisher), turn, &mut recipients, &mut published);
            }
        }
        let remote = recipients.shards();
        published.recipients += recipients.local.len();
        if !remote.is_empty() {
            self.send_copies(mountpoint, publication, number, &recipients, remote, by);
            published.recipients += remote.iter().count();
            published.told.union(&remote);
        }
        if publication.retain {
            published.told.insert(owner);
        }
        // What is gathered all comes, though its publisher be told to wait: as long as somebody waits, each message is by itself.
        let at_once = self.clients.agenda.turn.limits().at_once;
        let begins_batch = by.more_follows
            && !is_by_choice
            && publisher.is_some()
            && recipients.local.len() <= at_once
            && self.clients.delivery.fan_outs.is_empty()
            && !self.clients.flow.is_waiting_for_clients()
            && Batch::is_worth_while(publication, &recipients.local);
        if begins_batch {
            self.clients.agenda.turn.did(recipients.local.len() as u32);
            self.clients.delivery.batch.begin(mountpoint, publisher, &mut recipients.local, remote, at_once);
            self.clients.delivery.batch.push(id, publication);
        } else {
            self.clients.deliver_in_turn(
                mountpoint,
                &mut recipients.local,
                &Routed {
                    publication,
                    id,
                    publisher,
                    is_moved: false,
                    portioning: Portioning::Behind { mountpoint },
                    at: 0,
                },
            );
        }
        self.routing.give_back(recipients);
        published
    }

    /// Adds a publication to those that are gathered, which have the same recipients.
    fn gather(&mut self, mountpoint: u32, publication: &Publication<'_>, by: PublishContext) -> RoutingResult {
        let PubSub { clients, routing, .. } = self;
        let id = routing.next_publication();
        let remote = clients.delivery.batch.remote();
        for shard in remote.iter() {
            let (mountpoint, message) = (routing.name(mountpoint).clone(), publication.keep());
            let (sequence, publisher) = (id.sequence, by.connection);
            clients.agenda.post(shard, ShardMessage::Publish { sequence, mountpoint, message, number: 0, publisher });
        }
        let local = clients.delivery.batch.recipients().len();
        let recipients = local + remote.iter().count();
        clients.agenda.turn.did(local as u32);
        clients.delivery.batch.push(id, publication);
        if clients.delivery.batch.is_full() {
            clients.deliver_batch();
        }
        RoutingResult { recipients, told: remote }
    }

    /// Sends one copy to every shard of `remote`, those that have recipients.
    fn send_copies(
        &mut self,
        mountpoint: u32,
        publication: &Publication<'_>,
        number: u64,
        recipients: &Recipients,
        remote: ShardSet,
        by: PublishContext,
    ) {
        let (sequence, publisher) = (self.routing.sequence(), by.connection);
        for shard in remote.iter() {
            let (mountpoint, message) = (self.routing.name(mountpoint).clone(), publication.keep());
            let groups = recipients.groups_on(shard);
            let message = if groups.is_empty() {
                ShardMessage::Publish { sequence, mountpoint, message, number, publisher }
            } else {
                let plain = recipients.remote.contains(shard);
                let turn = Turn { hops: 1, ..Turn::new(by.origin.policy, by.origin.publisher) };
                let publisher = publisher.map(|connection| Publisher { shard: self.clients.setup.id, connection });
                let token = 0;
                let share = Share { sequence, mountpoint, message, number, groups, plain, publisher, turn, token };
                ShardMessage::Share(Box::new(share))
            };
            self.clients.agenda.post(shard, message);
        }
    }

    /// Members of shared subscriptions that have no room leave the publication to others; what goes to another shard for that is sent now.
    #[cold]
    fn pass_over(
        &mut self,
        (mountpoint, publication, publisher): (u32, &Publication<'_>, Option<Publisher>),
        turn: Turn,
        recipients: &mut Recipients,
        published: &mut RoutingResult,
    ) {
        let mut at = 0;
        while let Some(recipient) = recipients.local.get(at) {
            let Some(filter) = recipient.group.clone().filter(|_| !recipient.is_program()) else {
                at += 1;
                continue;
            };
            let chosen = recipient.session;
            match PassingOver::of(self).instead_of((mountpoint, &filter), chosen, publication.qos, turn) {
                Some(Choice::Member(member)) => recipients.replace_member(at, &member, filter),
                Some(Choice::Shard(shard)) => {
                    recipients.local.swap_remove(at);
                    send_on(self, shard, (mountpoint, &filter), publication.keep(), turn, publisher);
                    published.recipients += 1;
                    published.told.insert(shard);
                    continue;
                }
                Some(Choice::Nobody) | None => {}
            }
            at += 1;
        }
    }

    /// Has the shard that owns its topic retain a publication. Gives that shard, and its number among the messages to it.
    fn retain(&mut self, mountpoint: u32, publication: &Publication<'_>) -> (usize, u64) {
        let name = self.routing.name(mountpoint).clone();
        let (owner, number) = self.retained.send(&name, publication);
        self.clients.agenda.turn.did_look(self.retained.looked_at());
        let message = publication.keep();
        if owner == self.clients.setup.id {
            self.apply_retained(owner, mountpoint, message);
        } else {
            self.clients.agenda.post(owner, ShardMessage::Retain { mountpoint: name, message });
        }
        (owner, number)
    }

    /// Retains a message of shard `from`, whose topic this one owns.
    pub(super) fn apply_retained(&mut self, from: usize, mountpoint: u32, message: Message) {
        let limits = &self.clients.setup.config.retained;
        let retention = self.retained.apply(from, mountpoint, message.clone(), limits);
        recording::record_retained(self, mountpoint, &message, retention);
        if retention == Retention::Refused {
            self.clients.statistics.counters.retained_refused += 1;
            let limit = if self.retained.may_grow { "a limit of [retained]" } else { "limits.max_memory" };
            tracing::warn!(topic = message.topic().as_str(), limit, "a limit is reached: message not retained");
        }
        Replaying::of(self).soon();
    }

    /// Delivers a message that another shard routed here, as the publication `id`; `number` as in [`ShardMessage::Publish`].
    pub(super) fn deliver_from_shard(
        &mut self,
        id: PublicationId,
        mountpoint: &Arc<str>,
        message: &Message,
        number: u64,
        publisher: Option<ConnectionId>,
    ) {
        self.routing.received(id.shard, id.sequence);
        let publication = message.publication();
        if number > 0 {
            self.retained.note_live(mountpoint, publication.topic, id.shard, number);
            self.clients.agenda.turn.did_look(self.retained.looked_at());
        }
        let mountpoint = self.routing.mountpoint(mountpoint);
        self.clients.deliver_batch();
        let mut recipients = self.routing.lend();
        let looked_at = self.routing.gather_own(mountpoint, publication.topic, &mut recipients);
        self.clients.agenda.turn.did_look(looked_at);
        let publisher = publisher.map(|connection| Publisher { shard: id.shard, connection });
        let portioning = Portioning::Behind { mountpoint };
        let routed = Routed { publication: &publication, id, publisher, is_moved: false, portioning, at: 0 };
        self.clients.deliver_in_turn(mountpoint, &mut recipients.local, &routed);
        self.routing.give_back(recipients);
    }
}

/// The other shards that get a publication: one that has to wait for room on its ways is not routed before. And whether there are shared
/// subscriptions among its recipients, of which other members may be chosen when it is routed, on other shards; on one to which the queue is full
/// only if all others have no room either.
pub(super) fn shards_of<C: Chain>(
    pubsub: &mut PubSub<C>,
    mountpoint: u32,
    publication: &Publication<'_>,
    origin: Origin,
) -> (ShardSet, bool) {
    let mut recipients = pubsub.routing.lend();
    pubsub.routing.gather(mountpoint, publication.topic, origin, &mut recipients);
    let is_by_choice = recipients.is_by_choice();
    if is_by_choice {
        pass_over_full_queues(pubsub, (mountpoint, publication.qos), origin, &mut recipients);
    }
    let PubSub { clients, routing, retained, .. } = pubsub;
    let mut shards = recipients.shards();
    routing.give_back(recipients);
    if publication.retain {
        shards.insert(retained.owner(routing.name(mountpoint), publication.topic));
        shards.remove(clients.setup.id);
    }
    (shards, is_by_choice)
}

/// Members of shared subscriptions that were chosen on shards to which the queue is full leave the publication to others that have room.
#[cold]
fn pass_over_full_queues<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, qos): (u32, QoS),
    origin: Origin,
    recipients: &mut Recipients,
) {
    let (congested, turn) = (pubsub.clients.flow.congested(), Turn::new(origin.policy, origin.publisher));
    let mut choosing = PassingOver::of(pubsub);
    recipients.pass_over(congested, |filter| choosing.instead_of_shard((mountpoint, filter), qos, turn));
}

/// Delivers a message to this member of a shared subscription.
pub(super) fn give_to_member<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, filter): (u32, &Arc<TopicFilter>),
    member: &Subscriber,
    message: &Message,
    (turn, publisher): (Turn, Option<Publisher>),
) {
    pubsub.clients.deliver_batch();
    let mut recipients = pubsub.routing.lend();
    recipients.add_member(member, filter.clone());
    let publication = message.publication();
    let (id, is_moved) = (PublicationId::NONE, turn.is_moved);
    let routed = Routed {
        publication: &publication,
        id,
        publisher,
        is_moved,
        portioning: Portioning::Behind { mountpoint },
        at: 0,
    };
    if turn.is_moved {
        // It has no place among what its publisher sends any more.
        pubsub.clients.deliver_all(&recipients.local, &routed);
    } else {
        pubsub.clients.deliver_in_turn(mountpoint, &mut recipients.local, &routed);
    }
    pubsub.routing.give_back(recipients);
}

/// Sends a message on to a shard, for a member of a shared subscription there. If the queue to that is full, its publisher waits.
pub(super) fn send_on<C: Chain>(
    pubsub: &mut PubSub<C>,
    shard: usize,
    (mountpoint, filter): (u32, &Arc<TopicFilter>),
    message: Message,
    turn: Turn,
    publisher: Option<Publisher>,
) {
    if turn.is_moved {
        pubsub.clients.agenda.turn.did_pass_on(message.size());
    }
    if let Some(publisher) = publisher {
        hold_for_room(&mut pubsub.clients, publisher, shard);
    }
    let token = recording::token_to_pass_on(&mut pubsub.clients, &message);
    let share = Share {
        sequence: 0,
        mountpoint: pubsub.routing.name(mountpoint).clone(),
        message,
        number: 0,
        groups: vec![filter.clone()],
        plain: false,
        publisher,
        turn: Turn { hops: turn.hops + 1, ..turn },
        token,
    };
    pubsub.clients.agenda.post(shard, ShardMessage::Share(Box::new(share)));
}
