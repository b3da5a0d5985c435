//! Clients that take QoS 0 messages more slowly than they come, and the publishers that wait for them.
//!
//! When the output of a connection is full, those who publish more to it are not served until half of it has left, on
//! whichever shard they are: so a publisher that is faster than its subscriber is slowed down to its pace. But not for ever: a
//! client that has not taken that much within `publisher_patience` is given up. Its publishers go on, QoS 0 for it is
//! dropped while its output is full, and nobody waits for it again before [`REST`] has passed: a client that can never follow
//! costs the others little.
//!
//! What is under way when a publisher is told to wait still comes, so a full output may grow to [`OVERFLOW`] times its limit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clock::Deadline;
use super::mail::Mail;
use super::{Attempt, Shard};
use crate::client::ConnectionId;
use crate::connection::{Connection, PauseReason};
use crate::hooks::Chain;
use crate::time::Time;

/// How long nobody waits for a client that was given up.
const REST: Duration = Duration::from_secs(60);
/// How many times its limit an output may be while publishers wait for it.
const OVERFLOW: usize = 4;

/// Who published what is being delivered: a connection of a shard.
pub(super) type Publisher = (usize, ConnectionId);

/// The connections whose output is full, and those that were given up.
#[derive(Default)]
pub(super) struct SlowConsumers {
    by_id: BTreeMap<ConnectionId, SlowConsumer>,
    /// How many of them are not given up.
    waited_for: usize,
}

struct SlowConsumer {
    given_up: bool,
    /// When it is to be given up, or waited for again.
    due: Time,
    publishers: BTreeSet<Publisher>,
}

impl SlowConsumers {
    /// Whether a connection, of whose output `waiting` bytes are there and `most` may be, takes no QoS 0 any more.
    pub fn takes_no_more(&self, id: ConnectionId, waiting: usize, most: usize) -> bool {
        waiting >= most.saturating_mul(OVERFLOW) || self.is_given_up(id)
    }

    /// Whether publishers wait for anybody.
    pub fn are_waited_for(&self) -> bool {
        self.waited_for > 0
    }

    fn is_given_up(&self, id: ConnectionId) -> bool {
        self.by_id.get(&id).is_some_and(|slow| slow.given_up)
    }

    /// Forgets `id`, and says who waits for it.
    fn remove(&mut self, id: ConnectionId) -> BTreeSet<Publisher> {
        let Some(slow) = self.by_id.remove(&id) else { return BTreeSet::new() };
        self.waited_for -= usize::from(!slow.given_up);
        slow.publishers
    }
}

impl<C: Chain> Shard<C> {
    /// The output of `id` is full, and something was added to it: whoever published that waits.
    #[cold]
    pub(super) fn wait_for_consumer(&mut self, id: ConnectionId) {
        let Some(publisher) = self.publishing else { return };
        let slow = self.slow_consumers.by_id.entry(id).or_insert_with(|| {
            self.slow_consumers.waited_for += 1;
            let due = self.now + self.config.queue.publisher_patience;
            self.deadlines.arm(due, Deadline::Consumer(id));
            SlowConsumer { given_up: false, due, publishers: BTreeSet::new() }
        });
        if !slow.given_up && slow.publishers.insert(publisher) {
            self.tell_publisher(publisher, true);
        }
    }

    /// An output of `id` has left: if there is little behind it, nobody waits for it any more.
    pub(super) fn consumer_has_read(&mut self, id: ConnectionId) {
        if !self.slow_consumers.are_waited_for() {
            return;
        }
        let most = self.config.queue.max_waiting_output_bytes;
        let still_full = self.connections.get(id).is_some_and(|connection| connection.outbox.waiting() > most / 2);
        if still_full || self.slow_consumers.is_given_up(id) {
            return;
        }
        for publisher in self.slow_consumers.remove(id) {
            self.tell_publisher(publisher, false);
        }
    }

    /// It has been waited for long enough, or has been given up for long enough.
    pub(super) fn consumer_is_due(&mut self, id: ConnectionId) {
        let Some(slow) = self.slow_consumers.by_id.get_mut(&id) else { return };
        if self.now < slow.due {
            return;
        }
        if slow.given_up {
            self.slow_consumers.remove(id);
            return;
        }
        slow.given_up = true;
        self.slow_consumers.waited_for -= 1;
        slow.due = self.now + REST;
        self.deadlines.arm(slow.due, Deadline::Consumer(id));
        for publisher in std::mem::take(&mut slow.publishers) {
            self.tell_publisher(publisher, false);
        }
    }

    /// Takes a connection out of the tables. Who waits for it goes on, but not before what is being done is done.
    pub(super) fn take_connection(&mut self, id: ConnectionId) -> Option<Box<Connection<Attempt<C::State>>>> {
        for (shard, publisher) in self.slow_consumers.remove(id) {
            if shard == self.id {
                self.deadlines.arm(self.now, Deadline::Publisher(publisher));
            } else {
                self.post(shard, Mail::Publisher { connection: publisher, wait: false });
            }
        }
        self.connections.remove(id)
    }

    fn tell_publisher(&mut self, (shard, connection): Publisher, wait: bool) {
        if shard == self.id {
            self.publisher_told(connection, wait);
        } else {
            self.post(shard, Mail::Publisher { connection, wait });
        }
    }

    /// A publisher is to wait for one more client, or for one less. One that has left or moved meanwhile waits for nobody.
    pub(super) fn publisher_told(&mut self, id: ConnectionId, wait: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if wait {
            connection.consumers += 1;
            connection.pauses.insert(PauseReason::Consumer);
            return;
        }
        connection.consumers = connection.consumers.saturating_sub(1);
        if connection.consumers == 0 {
            self.release(id, PauseReason::Consumer);
        }
    }
}
