//! The connections of a shard, those of them that have output, and the buffers that output is written into.
//!
//! Emptied buffers come back and are used again, so that writing allocates only while traffic grows.

use std::collections::VecDeque;

use super::{Connection, ConnectionStage, PauseReason, SendBuffer, Spares, Unaccepted};
use crate::client::ConnectionId;
use crate::codec::ProtocolVersion;
use crate::deadlines::OwnEntries;
use crate::tables::Chunks;
use crate::time::Time;

/// The connections of a shard. The runtime assigns their indices; a stale id finds nothing. `A` is what is known of a client that is
/// still connecting.
pub struct Connections<A> {
    /// Looked into for every packet. Eight bytes each: they may be copied (see [`tables`](crate::tables)).
    records: Vec<Option<Box<Connection<A>>>>,
    /// For each index, its entries in the timer wheel. They outlive the connection.
    entries: Chunks<OwnEntries>,
    /// Connections that have output, in the order in which they got it.
    with_output: VecDeque<ConnectionId>,
    /// Empty output buffers.
    spares: Spares,
    /// Packets that were written one at a time: all but PUBLISH.
    packets: u64,
    /// What is held for those that belong to no session.
    pub unaccepted: Unaccepted,
}

/// A connection, lent to write into its outbox.
pub struct Writable<'a, A> {
    /// The connection.
    pub connection: &'a mut Connection<A>,
    /// Empty buffers for the outbox.
    pub buffers: &'a mut Spares,
    with_output: &'a mut VecDeque<ConnectionId>,
}

impl<A> Writable<'_, A> {
    /// Something was written: the runtime is to take the output. Whether it was not to be taken already.
    #[inline]
    pub fn queue_for_output(&mut self) -> bool {
        let is_new = !std::mem::replace(&mut self.connection.is_queued_for_output, true);
        if is_new {
            self.with_output.push_back(self.connection.id);
        }
        is_new
    }
}

impl<A> Connections<A> {
    /// No connections. For all that belong to no session `most_unaccepted` bytes may be held.
    pub fn new(most_unaccepted: usize) -> Self {
        Connections {
            records: Vec::new(),
            entries: Chunks::new(),
            with_output: VecDeque::new(),
            spares: Spares::default(),
            packets: 0,
            unaccepted: Unaccepted::new(most_unaccepted),
        }
    }

    /// Adds a connection. There must be none at its index.
    pub fn insert(&mut self, connection: Connection<A>) {
        let at = connection.id.index();
        // The runtime assigns indices in turn: few are new, this one and those of connections that were closed before they came here.
        while self.records.len() <= at {
            self.records.push(None);
            self.entries.push(OwnEntries::NONE);
        }
        debug_assert!(self.records[at].is_none(), "an index is assigned again only when its connection is gone");
        self.records[at] = Some(Box::new(connection));
    }

    /// The connection with this id, if it is there.
    #[inline]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<A>> {
        self.records.get(id.index())?.as_deref().filter(|connection| connection.id == id)
    }

    /// The connection with this id, if it is there.
    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<A>> {
        self.records.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// The connection with this id, to write into its outbox.
    #[inline]
    pub fn writable(&mut self, id: ConnectionId) -> Option<Writable<'_, A>> {
        let connection = self.records.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)?;
        Some(Writable { connection, buffers: &mut self.spares, with_output: &mut self.with_output })
    }

    /// Takes a connection out.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection<A>>> {
        self.release(id);
        self.get(id)?;
        self.records[id.index()].take()
    }

    /// What is held for a connection may have changed. Gives one that has to go if that is too much, perhaps another one.
    pub fn hold(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        let connection = self.records.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)?;
        let now = match &connection.stage {
            ConnectionStage::Opening { .. } => connection.unread.held(),
            ConnectionStage::Connecting(_) => connection.unread.held() + connection.request_bytes,
            ConnectionStage::Connected(_) => 0,
        };
        connection.count_request();
        let before = std::mem::replace(&mut connection.unaccepted_bytes, now);
        self.unaccepted.hold(id, before, now);
        self.unaccepted.too_large()
    }

    /// What is held for a connection is its client's from here on, or gone.
    pub fn release(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id)
            && connection.unaccepted_bytes > 0
        {
            connection.request_bytes = 0;
            connection.count_request();
            let before = std::mem::take(&mut connection.unaccepted_bytes);
            self.unaccepted.hold(id, before, 0);
        }
    }

    /// The connection at `index`, whichever it is now.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        Some(self.records.get(index)?.as_deref()?.id)
    }

    /// The ids of all connections.
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.records.iter().flatten().map(|connection| connection.id).collect()
    }

    /// Sets a deadline `at` for the connection at `index`. Returns whether the timer wheel must be armed for it.
    pub fn needs_entry(&mut self, index: usize, at: Time) -> bool {
        self.entries.get_mut(index).is_some_and(|entries| entries.needs(at))
    }

    /// An entry of the timer wheel for the connection at `index` has fired. Returns whether it is its next deadline.
    pub fn entry_fired(&mut self, index: usize, now: Time) -> bool {
        self.entries.get_mut(index).is_some_and(|entries| entries.fired(now))
    }

    /// Stops serving a connection for `reason`. False if it is gone.
    pub fn pause(&mut self, id: ConnectionId, reason: PauseReason) -> bool {
        let connection = self.get_mut(id);
        connection.map(|connection| connection.pauses.insert(reason)).is_some()
    }

    /// Removes a reason not to serve a connection; true if it was one.
    pub fn resume(&mut self, id: ConnectionId, reason: PauseReason) -> bool {
        self.get_mut(id).is_some_and(|connection| connection.pauses.remove(reason))
    }

    /// Writes a packet into the outbox of a connection that belongs to a session.
    #[inline]
    pub fn write(&mut self, id: ConnectionId, encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>)) {
        let Some(mut writable) = self.writable(id) else { return };
        let ConnectionStage::Connected(connected) = &writable.connection.stage else { return };
        encode(connected.version, writable.connection.outbox.bytes(writable.buffers));
        writable.queue_for_output();
        self.packets += 1;
    }

    /// Writes bytes into the outbox of a connection at any stage.
    pub fn write_bytes(&mut self, id: ConnectionId, append: impl FnOnce(&mut Vec<u8>)) {
        let Some(mut writable) = self.writable(id) else { return };
        append(writable.connection.outbox.bytes(writable.buffers));
        writable.queue_for_output();
        self.packets += 1;
    }

    /// How many packets were written with [`write`](Self::write) and [`write_bytes`](Self::write_bytes) so far.
    pub fn packets_written(&self) -> u64 {
        self.packets
    }

    /// Puts a connection whose output was kept back on the list again.
    pub fn requeue_for_output(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id)
            && connection.outbox.has_output()
        {
            connection.is_queued_for_output = true;
            self.with_output.push_back(id);
        }
    }

    /// The next connection that has output, and that output, for one send. A connection of which a send is under way, or whose client
    /// must see nothing before tasks of notifications are done or what CONNACK says is on disk, is left out until [`sent`](Self::sent) or
    /// [`requeue_for_output`](Self::requeue_for_output).
    #[inline]
    pub fn next_output(&mut self) -> Option<(ConnectionId, SendBuffer)> {
        while let Some(id) = self.with_output.pop_front() {
            let Some(connection) = self.get_mut(id) else { continue };
            if connection.pauses.contains(PauseReason::Notification) || connection.pauses.contains(PauseReason::Commit)
            {
                continue;
            }
            if let Some(output) = connection.outbox.take() {
                connection.is_queued_for_output = false;
                return Some((id, output));
            }
        }
        None
    }

    /// How many connections have output that is to be taken.
    #[inline]
    pub fn with_output(&self) -> usize {
        self.with_output.len()
    }

    /// Whether there is a connection whose output is to be taken.
    pub fn has_output(&self) -> bool {
        !self.with_output.is_empty()
    }

    /// Everything that was taken of the output of `id` has left. `emptied` is the buffer it was in. Gives the connection.
    #[inline]
    pub fn sent(&mut self, id: ConnectionId, emptied: Vec<u8>) -> Option<&mut Connection<A>> {
        self.spares.keep(emptied);
        let connection = self.get_mut(id)?;
        connection.outbox.sent();
        if connection.outbox.has_output() && connection.is_queued_for_output {
            self.with_output.push_back(id);
        }
        self.get_mut(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::testing::{connected, connection};

    fn connections() -> (Connections<()>, ConnectionId) {
        let id = ConnectionId::new(0, 1);
        let mut connections = Connections::new(100);
        connections.insert(connection(id));
        (connections, id)
    }

    fn write(connections: &mut Connections<()>, id: ConnectionId, bytes: &[u8]) {
        connections.write_bytes(id, |out| out.extend_from_slice(bytes));
    }

    fn taken(connections: &mut Connections<()>) -> Option<Vec<u8>> {
        connections.next_output().map(|(_, output)| output.bytes)
    }

    #[test]
    fn output_is_taken_once_and_again_when_it_has_left() {
        let (mut connections, id) = connections();
        write(&mut connections, id, b"one");
        write(&mut connections, id, b"two");
        assert_eq!(taken(&mut connections), Some(b"onetwo".to_vec()));
        write(&mut connections, id, b"three");
        assert_eq!(taken(&mut connections), None, "a send is under way");
        assert!(connections.sent(id, Vec::new()).is_some());
        assert_eq!((taken(&mut connections), taken(&mut connections)), (Some(b"three".to_vec()), None));
    }

    #[test]
    fn nothing_is_taken_before_tasks_of_notifications_are_done() {
        let (mut connections, id) = connections();
        assert!(connections.pause(id, PauseReason::Notification));
        write(&mut connections, id, b"secret");
        assert_eq!(taken(&mut connections), None);
        assert!(connections.resume(id, PauseReason::Notification) && !connections.has_output());
        connections.requeue_for_output(id);
        assert_eq!(taken(&mut connections), Some(b"secret".to_vec()));
    }

    #[test]
    fn buffers_come_back() {
        let (mut connections, id) = connections();
        connections.sent(id, vec![1, 2]);
        assert_eq!(connections.spares.count(), 1);
        write(&mut connections, id, b"x");
        assert_eq!((connections.spares.count(), taken(&mut connections)), (0, Some(b"x".to_vec())));
    }

    #[test]
    fn a_stale_id_finds_nothing() {
        let (mut connections, id) = connections();
        let stale = ConnectionId::new(0, 2);
        assert!(connections.get(stale).is_none() && connections.remove(stale).is_none());
        assert!(!connections.pause(stale, PauseReason::Throttle) && !connections.resume(id, PauseReason::Throttle));
        assert_eq!(connections.ids(), [id]);
        assert!(connections.remove(id).is_some() && connections.id_at(0).is_none());
    }

    #[test]
    fn packets_are_written_in_the_version_of_a_client_and_to_none_without_session() {
        let (mut connections, id) = connections();
        let mut wrote = None;
        connections.write(id, |version, _| wrote = Some(version));
        assert_eq!((wrote, connections.has_output()), (None, false));
        let stage = ConnectionStage::Connected(connected(ProtocolVersion::V311));
        connections.get_mut(id).expect("it is there").stage = stage;
        connections.write(id, |version, out| out.push(version as u8));
        assert_eq!(taken(&mut connections), Some(vec![ProtocolVersion::V311 as u8]));
    }

    #[test]
    fn connections_are_served_in_the_order_in_which_they_got_output() {
        let (mut connections, first) = connections();
        let [second, third] = [5, 2].map(|index| ConnectionId::new(index, 1));
        [second, third].into_iter().for_each(|id| connections.insert(connection(id)));
        for id in [third, first, second, third] {
            write(&mut connections, id, b"x");
        }
        connections.remove(first);
        let order = std::iter::from_fn(|| connections.next_output()).map(|(id, output)| (id, output.len()));
        assert_eq!(order.collect::<Vec<_>>(), [(third, 2), (second, 1)]);
    }

    #[test]
    fn the_entry_of_a_connection_that_has_gone_counts_for_the_next_at_its_index() {
        let ((mut connections, id), at) = (connections(), Time::from_millis);
        assert!(connections.needs_entry(0, at(10)) && !connections.needs_entry(7, at(10)));
        connections.remove(id);
        connections.insert(connection(ConnectionId::new(0, 2)));
        assert!(!connections.needs_entry(0, at(15)), "that of the last one is in the wheel still");
        assert!(connections.entry_fired(0, at(10)) && connections.needs_entry(0, at(15)));
    }
}
