//! Publishers that are held for clients which do not keep up, and for memory: see `flow`.

use std::time::Duration;

use super::agenda::FollowUp;
use super::clients::Clients;
use super::message::{Hold, ShardMessage};
use super::output::Output;
use crate::client::ConnectionId;
use crate::codec::{PacketType, QoS, Split, split};
use crate::connection::{Connection, PauseReason};
use crate::flow::{Backlog, Flow};
use crate::hooks::Chain;
use crate::memory::MemoryStage;
use crate::session::{MigrationState, Outbound};
use crate::sharding::Publisher;
use crate::time::Time;

/// How long a client is held for memory before it may publish once if there is something for it, or send on a large packet that has begun.
const MEMORY_HOLD: Duration = Duration::from_secs(1);

/// The client of this connection publishes, and publishers are held for memory. If this one is, gives when it is to be looked at.
#[cold]
pub(super) fn hold_for_memory<A>(connection: &mut Connection<A>, flow: &mut Flow, now: Time) -> Option<Time> {
    connection.session()?;
    if connection.memory_look <= now {
        connection.memory_look = Time::NEVER;
        return None;
    }
    connection.pauses.insert(PauseReason::Memory);
    connection.memory_look = now + MEMORY_HOLD;
    flow.wait_for_memory(connection.id);
    Some(connection.memory_look)
}

/// A packet has begun that is not whole yet: with this byte, and so many have come. If they are many, and publishers are held for memory, its
/// client is held, too.
pub(super) fn hold_begun<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, first: Option<u8>, begun: usize) {
    if !clients.flow.holds_publishers() || begun <= small(clients, first) {
        return;
    }
    let now = clients.agenda.now();
    let Some(connection) = clients.connections.get_mut(id) else { return };
    let Some(look) = hold_for_memory(connection, &mut clients.flow, now) else { return };
    if !std::mem::replace(&mut connection.reading_stopped, true) {
        clients.agenda.output(Output::Pause(id));
    }
    clients.arm_connection(id, look);
}

/// A packet that begins with this byte is small up to this size: a PUBLISH if it comes in one read, so that little is held of it. Who does not
/// publish goes on: others may be as large as they may be before a client is accepted.
fn small<C: Chain>(clients: &Clients<C>, first: Option<u8>) -> usize {
    let config = &clients.setup.config;
    let is_publish = first.is_some_and(|first| first >> 4 == PacketType::Publish as u8);
    if is_publish { config.runtime.receive_buffer_size } else { config.limits.max_connect_size }
}

/// Whether the packet at the front of `unread` takes more than `small` bytes, be it whole or not.
fn is_large_begun(unread: &[u8], small: usize) -> bool {
    unread.len() > small && !matches!(split(unread, usize::MAX), Ok(Split::Frame(frame)) if frame.length <= small)
}

/// A client has been held for memory for a while. If there is something for it, the acknowledgements that make room stand perhaps behind
/// what it publishes: it publishes once. If a large packet has begun, there is one read more of it, and when it is whole it is served: such
/// packets may be all that takes memory, and then nothing else would ever free some. If it has left, what it said is served one by one. Else the client
/// is held on.
pub(super) fn memory_hold_over<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    let now = clients.agenda.now();
    let Some(connection) = clients.connections.get(id) else { return };
    let small = small(clients, connection.unread.as_slice().first().copied());
    let Some(connection) = clients.connections.get_mut(id) else { return };
    let session = connection.session().and_then(|index| clients.sessions.get(index));
    let takes = |outbound: &Outbound| outbound.in_flight() > 0 || outbound.is_anything_waiting();
    let has_something = session.is_some_and(|session| takes(&session.outbound));
    if has_something || connection.is_lost || is_large_begun(connection.unread.as_slice(), small) {
        clients.serve_later(id, PauseReason::Memory);
    } else {
        connection.memory_look = now + MEMORY_HOLD;
    }
}

/// How near the broker is to holding as much memory as it may has changed.
pub(super) fn set_memory<C: Chain>(clients: &mut Clients<C>, stage: MemoryStage) {
    for id in clients.flow.set_memory(stage) {
        if let Some(connection) = clients.connections.get_mut(id) {
            connection.memory_look = Time::NEVER;
        }
        clients.serve_later(id, PauseReason::Memory);
    }
}

impl<C: Chain> Clients<C> {
    /// A publisher is to wait for one more client, as long as it has credit. One that has left or moved meanwhile waits for nobody.
    pub(super) fn publisher_waits(&mut self, id: ConnectionId) {
        let (now, all) = (self.agenda.now(), self.flow.patience());
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.consumers += 1;
        if connection.pauses.contains(PauseReason::SlowConsumer) {
            return;
        }
        let Some(left) = self.flow.left(&connection.hold_credit, now) else { return };
        connection.pauses.insert(PauseReason::SlowConsumer);
        connection.hold_credit.begin(all, now);
        connection.held_until = now + left;
        self.arm_connection(id, now + left);
    }

    /// A publisher is held no more.
    pub(super) fn end_hold(&mut self, id: ConnectionId) {
        let (now, all) = (self.agenda.now(), self.flow.patience());
        if let Some(connection) = self.connections.get_mut(id)
            && connection.pauses.remove(PauseReason::SlowConsumer)
        {
            connection.hold_credit.end(all, now);
            connection.held_until = Time::NEVER;
            self.agenda.follow_up(FollowUp::Serve(id));
        }
    }

    /// A publisher waits for one client less. One that has left or moved meanwhile waits for nobody.
    pub(super) fn publisher_released(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.consumers = connection.consumers.saturating_sub(1);
        if connection.consumers == 0 {
            self.end_hold(id);
        }
    }
}

/// A publisher, perhaps of another shard, is to wait for one more client.
#[cold]
pub(super) fn hold<C: Chain>(clients: &mut Clients<C>, publisher: Publisher, hold: Hold) {
    let Publisher { shard, connection } = publisher;
    if shard == clients.setup.id {
        begin(clients, connection, hold);
    } else {
        clients.agenda.post(shard, ShardMessage::Publisher { connection, wait: true, hold });
    }
}

/// A publisher of this shard is to wait for one more client.
pub(super) fn begin<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, hold: Hold) {
    match hold {
        Hold::WithCredit => clients.publisher_waits(id),
        Hold::WithoutEnd => waits_without_end(clients, id),
    }
}

/// A publisher of this shard waits for one client less.
pub(super) fn end<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, hold: Hold) {
    match hold {
        Hold::WithCredit => clients.publisher_released(id),
        Hold::WithoutEnd => waits_no_more(clients, id),
    }
}

/// Something has left what waits for a client, of session `index`: publishers go on if that is enough.
#[cold]
pub(super) fn backlog_shrank<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, index: u32) {
    let Some((session, connection)) = clients.sessions.get(index).zip(clients.connections.get(id)) else { return };
    let backlog = Backlog::of(session, connection);
    let released = clients.flow.backlog_shrank(id, backlog, clients.agenda.now());
    released.into_iter().for_each(|publisher| clients.release_publisher(publisher, Hold::WithCredit));
    let released = clients.flow.lossless.backlog_shrank(id, backlog);
    released.into_iter().for_each(|publisher| clients.release_publisher(publisher, Hold::WithoutEnd));
}

/// Something that must not be dropped was added to what waits for `consumer`, the client of session `index`: if that is full, `publisher`
/// waits until it has room, however long that takes.
#[cold]
pub(super) fn hold_without_end<C: Chain>(
    clients: &mut Clients<C>,
    (consumer, index): (ConnectionId, u32),
    qos: QoS,
    publisher: Publisher,
) {
    let Some((session, connection)) = clients.sessions.get(index).zip(clients.connections.get(consumer)) else {
        return;
    };
    let backlog = Backlog::of(session, connection);
    if !clients.flow.is_full(backlog, qos) {
        return;
    }
    let relieved_at = clients.flow.relieved_at(backlog, qos);
    if !clients.flow.lossless.wait(consumer, relieved_at, publisher) {
        return;
    }
    // It cannot follow, and acknowledges behind what it publishes: it must not wait itself.
    clients.serve_later(consumer, PauseReason::Lossless);
    hold(clients, publisher, Hold::WithoutEnd);
}

/// A publisher is to wait for one more client, without end; but not if others wait for it.
fn waits_without_end<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    let is_slow = clients.flow.is_slow(id);
    let Some(connection) = clients.connections.get_mut(id) else { return };
    connection.lossless_consumers += 1;
    if !is_slow {
        connection.pauses.insert(PauseReason::Lossless);
    }
}

/// A publisher waits for one client less. One that has left or moved meanwhile waits for nobody.
fn waits_no_more<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    let Some(connection) = clients.connections.get_mut(id) else { return };
    connection.lossless_consumers = connection.lossless_consumers.saturating_sub(1);
    if connection.lossless_consumers == 0 {
        clients.serve_later(id, PauseReason::Lossless);
    }
}

/// A message goes on to a shard for a member of a shared subscription there. If the queue to that is full, its publisher waits until it has
/// room: what passes through this shard would pile up.
pub(super) fn hold_for_room<C: Chain>(clients: &mut Clients<C>, publisher: Publisher, shard: usize) {
    if clients.flow.congested().contains(shard) && clients.flow.hold_for_room(publisher, shard) {
        hold(clients, publisher, Hold::WithoutEnd);
    }
}

/// The queue to a shard is full, or has room again: who waited for that goes on.
pub(super) fn set_congested<C: Chain>(clients: &mut Clients<C>, shard: usize, congested: bool) {
    for id in clients.flow.set_congested(shard, congested) {
        clients.serve_later(id, PauseReason::Congestion);
    }
    if !congested {
        for publisher in clients.flow.held_for_room(shard) {
            clients.release_publisher(publisher, Hold::WithoutEnd);
        }
    }
}

/// A message was for session `index`, which is to come: whoever publishes more than may wait for it waits until it
/// has come.
#[cold]
pub(super) fn hold_for_arriving<C: Chain>(clients: &mut Clients<C>, index: u32, publisher: Option<Publisher>) {
    let most = clients.setup.config.runtime.mailbox_bytes;
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let Some(MigrationState::Arriving(arriving)) = &mut session.migration else { return };
    let waits = publisher.filter(|publisher| arriving.waits(*publisher, most, &session.settings.queue));
    if let Some(publisher) = waits {
        hold(clients, publisher, Hold::WithoutEnd);
    }
}
