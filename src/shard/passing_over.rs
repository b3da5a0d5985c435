//! Members of shared subscriptions that have no room are passed over while another one has: first one that is sent the message at once, then
//! one whose queue is not full, here or, if there is none, on another shard. Only if no shard has one, the message is queued with the member
//! whose turn it was, or another one of its shard if that one takes nothing, and its publisher waits.

use super::clients::Clients;
use super::pubsub::PubSub;
use crate::codec::QoS;
use crate::config::SharedPolicy;
use crate::flow::Backlog;
use crate::hooks::Chain;
use crate::routing::{Choice, Room, Routing, Subscriber, Turn};
use crate::session::{MigrationState, Recipient};
use crate::topic::TopicFilter;

/// What it takes to find another member than the one whose turn it is.
pub(super) struct PassingOver<'a, C: Chain> {
    clients: &'a Clients<C>,
    routing: &'a mut Routing,
}

impl<'a, C: Chain> PassingOver<'a, C> {
    pub fn of(pubsub: &'a mut PubSub<C>) -> Self {
        let PubSub { clients, routing, .. } = pubsub;
        PassingOver { clients, routing }
    }

    /// Who of a shared subscription gets a message instead of the member with the session `chosen`, on this shard; none if that does.
    pub fn instead_of(
        &mut self,
        (mountpoint, filter): (u32, &TopicFilter),
        chosen: u32,
        qos: QoS,
        turn: Turn,
    ) -> Option<Choice> {
        let clients = self.clients;
        let rate = |session| room(clients, session, qos);
        let room = rate(chosen);
        let keeps_to_one = matches!(turn.policy, SharedPolicy::Sticky | SharedPolicy::HashPublisher);
        if room == Room::Ready || keeps_to_one && room > Room::Full {
            return None;
        }
        let better = self.routing.roomiest(mountpoint, filter, keeps_to_one, &rate);
        let better = better.filter(|(_, found)| *found > room);
        let best = better.map_or(room, |(_, found)| found);
        let elsewhere = if best > Room::Full { None } else { self.other_shard((mountpoint, filter), turn) };
        elsewhere.map(Choice::Shard).or_else(|| better.map(|(member, _)| Choice::Member(member)))
    }

    /// Another shard that has members online, and is not known to have none with room. One to which the queue is full has no room either.
    pub fn other_shard(&mut self, (mountpoint, filter): (u32, &TopicFilter), turn: Turn) -> Option<usize> {
        let mut without_room = turn.passed_over;
        without_room.union(&self.clients.flow.congested());
        self.routing.other_shard(mountpoint, filter, without_room)
    }

    /// Who gets a message instead of the members of a shard to which the queue is full; none if nobody else has room.
    pub fn instead_of_shard(&mut self, group: (u32, &TopicFilter), qos: QoS, turn: Turn) -> Option<Choice> {
        let elsewhere = self.other_shard(group, turn).map(Choice::Shard);
        elsewhere.or_else(|| self.with_room(group, qos).map(Choice::Member))
    }

    /// A member of this shard that is online and has room.
    fn with_room(&mut self, (mountpoint, filter): (u32, &TopicFilter), qos: QoS) -> Option<Subscriber> {
        let clients = self.clients;
        let found = self.routing.roomiest(mountpoint, filter, false, &|session| room(clients, session, qos));
        found.filter(|(_, room)| *room > Room::Full).map(|(member, _)| member)
    }

    /// Another member of this shard than `session`, which takes nothing: one that would be sent a message at once, or for which much less waits.
    pub fn other_than(
        &mut self,
        session: u32,
        (mountpoint, filter): (u32, &TopicFilter),
        qos: QoS,
    ) -> Option<Subscriber> {
        let clients = self.clients;
        let queued = |session| clients.sessions.get(session).map_or(0, |session| session.outbound.queue.len());
        let own = queued(session);
        let rate = |other| match room(clients, other, qos) {
            _ if other == session => Room::Full,
            Room::Some if queued(other) >= own / 2 => Room::Full,
            room => room,
        };
        let found = self.routing.roomiest(mountpoint, filter, false, &rate);
        found.filter(|(_, room)| *room > Room::Full).map(|(member, _)| member)
    }
}

/// Whether all members of shared subscriptions among these are sent a message at once.
#[inline]
pub(super) fn are_ready<C: Chain>(clients: &Clients<C>, recipients: &[Recipient], qos: QoS) -> bool {
    let is_ready = |recipient: &Recipient| recipient.group.is_none() || is_ready(clients, recipient.session, qos);
    recipients.iter().all(is_ready)
}

/// Whether a member is connected and sent a message at once.
#[inline]
fn is_ready<C: Chain>(clients: &Clients<C>, session: u32, qos: QoS) -> bool {
    clients.sessions.get(session).is_some_and(|session| {
        let connection = session.connection.and_then(|id| clients.connections.get(id));
        connection.is_some_and(|connection| {
            !session.outbound.is_anything_waiting()
                && !session.is_arriving()
                && connection.outbox.waiting() < clients.flow.most()
                && (qos == QoS::AtMostOnce || session.outbound.has_room(session.settings.send_maximum))
        })
    })
}

/// How much room a member has.
fn room<C: Chain>(clients: &Clients<C>, index: u32, qos: QoS) -> Room {
    let Some(session) = clients.sessions.get(index) else { return Room::Ready };
    if let Some(MigrationState::Arriving(arriving)) = &session.migration {
        // One that is to come is taken for what it was said to be, and for what is buffered for it, also while that is delivered.
        return if arriving.is_full(&session.settings.queue) { Room::Full } else { Room::Some };
    }
    let Some(connection) = session.connection.and_then(|id| clients.connections.get(id)) else {
        // Others have left, and may still count as online: see `memberships`.
        return Room::Stalled;
    };
    if is_ready(clients, index, qos) {
        Room::Ready
    } else if session.outbound.is_stalled() {
        Room::Stalled
    } else if clients.flow.is_full(Backlog::of(session, connection), qos) {
        Room::Full
    } else {
        Room::Some
    }
}
