//! The organ that slows publishers down: to the pace of shards whose queues are full, and to that of clients that take QoS 0 messages more
//! slowly than they come.
//!
//! When the output of a connection is full, those who publish more to it are not served until half of it has left, on
//! whichever shard they are: so a publisher that is faster than its subscriber is slowed down to its pace. But not for ever: a
//! client that has not taken that much within `publisher_patience` is given up. Its publishers go on, QoS 0 for it is
//! dropped while its output is full, and nobody waits for it again before [`REST`] has passed: a client that can never follow
//! costs the others little.
//!
//! What is under way when a publisher is told to wait still comes, so a full output may grow to [`OVERFLOW`] times its limit.
//!
//! Owns who waits for whom. It never touches a connection: which publishers are to wait, or to wait no more, is returned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::ConnectionId;
use crate::sharding::{Publisher, ShardSet};
use crate::time::Time;

/// How long nobody waits for a client that was given up.
const REST: Duration = Duration::from_secs(60);
/// How many times its limit an output may be while publishers wait for it.
const OVERFLOW: usize = 4;

/// Who waits for whom; one for each shard.
pub struct Flow {
    /// How many bytes of output may wait for one client.
    most: usize,
    /// How long publishers wait for one client.
    patience: Duration,
    /// Connections whose output is full, and those that were given up.
    slow: BTreeMap<ConnectionId, SlowConsumer>,
    /// How many of them are not given up.
    waited_for: usize,
    /// Shards to which the queue is full.
    congested: ShardSet,
    /// Connections that are not served until no shard is congested.
    waiting_for_room: Vec<ConnectionId>,
}

/// A connection whose output is full.
struct SlowConsumer {
    given_up: bool,
    /// When it is to be given up, or waited for again.
    due: Time,
    publishers: BTreeSet<Publisher>,
}

/// What follows from a message for a client whose output is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullOutput {
    /// The publisher is to wait for one more client.
    pub publisher_waits: bool,
    /// When [`Flow::due`] is to be asked about the client.
    pub look_at: Option<Time>,
}

/// What follows when the patience for a client, or the rest after it, is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PatienceOver {
    /// Publishers that wait for one client less.
    pub released: BTreeSet<Publisher>,
    /// When [`Flow::due`] is to be asked again.
    pub look_at: Option<Time>,
}

impl Flow {
    /// Nobody waits. `most` bytes of output may wait for a client, and its publishers for `patience`.
    pub fn new(most: usize, patience: Duration) -> Self {
        Flow {
            most,
            patience,
            slow: BTreeMap::new(),
            waited_for: 0,
            congested: ShardSet::default(),
            waiting_for_room: Vec::new(),
        }
    }

    /// How many bytes of output may wait for a client.
    #[inline]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether so many bytes of output fill it.
    #[inline]
    pub fn is_full(&self, waiting: usize) -> bool {
        waiting >= self.most
    }

    /// Whether a client, for which so many bytes of output wait, takes no QoS 0 any more: it was given up, or its output has grown too
    /// far.
    #[cold]
    pub fn takes_no_more(&self, id: ConnectionId, waiting: usize) -> bool {
        waiting >= self.most.saturating_mul(OVERFLOW) || self.slow.get(&id).is_some_and(|slow| slow.given_up)
    }

    /// Whether publishers wait for any client.
    pub fn is_waiting_for_clients(&self) -> bool {
        self.waited_for > 0
    }

    /// A message of `publisher` was added to the full output of `id`.
    #[cold]
    pub fn output_is_full(&mut self, id: ConnectionId, publisher: Publisher, now: Time) -> FullOutput {
        let mut follows = FullOutput::default();
        let slow = self.slow.entry(id).or_insert_with(|| {
            self.waited_for += 1;
            let due = now + self.patience;
            follows.look_at = Some(due);
            SlowConsumer { given_up: false, due, publishers: BTreeSet::new() }
        });
        follows.publisher_waits = !slow.given_up && slow.publishers.insert(publisher);
        follows
    }

    /// Output of `id` has left, and so many bytes are behind it: the publishers that wait no more for it.
    pub fn output_left(&mut self, id: ConnectionId, waiting: usize) -> BTreeSet<Publisher> {
        let is_waited_for = self.slow.get(&id).is_some_and(|slow| !slow.given_up);
        if is_waited_for && waiting <= self.most / 2 { self.remove(id) } else { BTreeSet::new() }
    }

    /// The time has come that was said of `id`: it has been waited for long enough, or has been given up for long enough.
    pub fn due(&mut self, id: ConnectionId, now: Time) -> PatienceOver {
        let Some(slow) = self.slow.get_mut(&id).filter(|slow| slow.due <= now) else { return PatienceOver::default() };
        if slow.given_up {
            self.slow.remove(&id);
            return PatienceOver::default();
        }
        slow.given_up = true;
        slow.due = now + REST;
        self.waited_for -= 1;
        PatienceOver { released: std::mem::take(&mut slow.publishers), look_at: Some(slow.due) }
    }

    /// Forgets a connection, and gives the publishers that wait for it.
    pub fn remove(&mut self, id: ConnectionId) -> BTreeSet<Publisher> {
        let Some(slow) = self.slow.remove(&id) else { return BTreeSet::new() };
        self.waited_for -= usize::from(!slow.given_up);
        slow.publishers
    }

    /// The queue to a shard is full, or has room again. Gives the connections that waited for that, when no queue is full any more.
    pub fn set_congested(&mut self, shard: usize, congested: bool) -> Vec<ConnectionId> {
        if congested {
            self.congested.insert(shard);
            return Vec::new();
        }
        self.congested.remove(shard);
        if self.congested.is_empty() { std::mem::take(&mut self.waiting_for_room) } else { Vec::new() }
    }

    /// Whether the queue to one of these shards is full.
    #[inline]
    pub fn is_congested(&self, shards: ShardSet) -> bool {
        self.congested.intersects(&shards)
    }

    /// A connection waits until no queue is full.
    pub fn wait_for_room(&mut self, id: ConnectionId) {
        self.waiting_for_room.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ConnectionId = ConnectionId::new(1, 1);
    const PATIENCE: Duration = Duration::from_millis(500);

    fn publisher(connection: u32) -> Publisher {
        Publisher { shard: 0, connection: ConnectionId::new(connection, 1) }
    }

    fn flow() -> Flow {
        Flow::new(1000, PATIENCE)
    }

    #[test]
    fn each_publisher_waits_once_until_half_of_the_output_has_left() {
        let (mut flow, now) = (flow(), Time::ZERO);
        assert_eq!(
            flow.output_is_full(CLIENT, publisher(2), now),
            FullOutput { publisher_waits: true, look_at: Some(now + PATIENCE) }
        );
        assert_eq!(flow.output_is_full(CLIENT, publisher(2), now), FullOutput::default());
        assert!(flow.output_is_full(CLIENT, publisher(3), now).publisher_waits);
        assert!(flow.is_waiting_for_clients() && flow.output_left(CLIENT, 501).is_empty());
        assert_eq!(flow.output_left(CLIENT, 500), BTreeSet::from([publisher(2), publisher(3)]));
        assert!(!flow.is_waiting_for_clients());
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up_and_waited_for_again_after_a_rest() {
        let (mut flow, now) = (flow(), Time::ZERO);
        flow.output_is_full(CLIENT, publisher(2), now);
        assert_eq!(flow.due(CLIENT, now), PatienceOver::default(), "too early");
        let given_up = now + PATIENCE;
        let over = flow.due(CLIENT, given_up);
        assert_eq!(over, PatienceOver { released: BTreeSet::from([publisher(2)]), look_at: Some(given_up + REST) });
        assert!(flow.takes_no_more(CLIENT, 1000) && !flow.is_waiting_for_clients());
        assert!(!flow.output_is_full(CLIENT, publisher(2), given_up).publisher_waits);
        assert!(flow.output_left(CLIENT, 0).is_empty() && flow.takes_no_more(CLIENT, 1000), "reading helps no more");
        assert_eq!(flow.due(CLIENT, given_up + REST), PatienceOver::default());
        assert!(!flow.takes_no_more(CLIENT, 1000));
        assert!(flow.output_is_full(CLIENT, publisher(2), given_up + REST).publisher_waits);
    }

    #[test]
    fn an_output_overflows_at_four_times_its_limit() {
        let flow = flow();
        assert!(!flow.is_full(999) && flow.is_full(1000));
        assert!(!flow.takes_no_more(CLIENT, 3999) && flow.takes_no_more(CLIENT, 4000));
    }

    #[test]
    fn a_connection_that_goes_lets_its_publishers_go_on() {
        let mut flow = flow();
        flow.output_is_full(CLIENT, publisher(2), Time::ZERO);
        assert_eq!(flow.remove(CLIENT), BTreeSet::from([publisher(2)]));
        assert!(flow.remove(CLIENT).is_empty() && !flow.is_waiting_for_clients());
    }

    #[test]
    fn publishers_wait_while_a_queue_to_a_shard_is_full() {
        let mut flow = flow();
        let mut shards = ShardSet::default();
        shards.insert(3);
        assert!(!flow.is_congested(shards) && flow.set_congested(3, true).is_empty());
        assert!(flow.is_congested(shards) && !flow.is_congested(ShardSet::default()));
        flow.wait_for_room(CLIENT);
        flow.set_congested(4, true);
        assert!(flow.set_congested(3, false).is_empty(), "another one is full");
        assert_eq!(flow.set_congested(4, false), [CLIENT]);
    }
}
