//! The organ that slows publishers down: to the pace of shards whose queues are full, to that of clients that take messages more slowly
//! than they come, and while there is no memory.
//!
//! What waits for a client in its output and its queue is its *backlog*. When it is full, who publishes more to it is not served until it
//! has halved, on whichever shard he is: so a burst to a client that reads loses nothing. For QoS 0 it is full at
//! `max_waiting_output_bytes`; QoS 1 and 2 have most of the queue for themselves. But nobody is slowed down for ever. Patience is a credit
//! of `publisher_patience` on both sides, which comes back at a twentieth of the time that passes:
//!
//! * A client can have publishers held while it has credit. It belongs to the session, or, if that ends with its connection, to the
//!   connection, which leaves what it lacks to the next ones from its address if it does not catch up: connecting again gives no more of it.
//!   After that the client is *given up*: nobody waits for it until it has read half of what waits. If it reads nothing, QoS 0 for it is
//!   dropped. If it reads, but more slowly than others publish, QoS 0 is queued like QoS 1 and 2, and all is dropped when its queue is full.
//! * A publisher is held while it has credit, however many clients are slow. That is up to the connection of the publisher.
//!
//! Who adds little to a full backlog is not held for it: a publisher that sends a few bytes now and then does not pay for one that floods.
//!
//! When the broker holds nearly as much memory as it may, all are held who publish, until there is room. Only who has something to take
//! itself goes on a little: the acknowledgements that make room may stand behind what it publishes.
//!
//! Owns who waits for whom. It never touches a connection: which publishers are to wait, or to wait no more, is returned.

mod backlog;
mod lossless;
mod standing;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use backlog::Backlog;
use backlog::nearly;
pub use lossless::Lossless;
pub use standing::Account;
use standing::Standings;

use crate::client::ConnectionId;
use crate::codec::QoS;
use crate::config::Config;
use crate::connection::Pace;
use crate::credit::Credit;
use crate::memory::MemoryStage;
use crate::sharding::{Publisher, ShardSet};
use crate::time::Time;

/// A publisher is held when it has added this part of the limit for QoS 0 to a full backlog.
const ALLOWANCE: usize = 8;

/// Who waits for whom; one for each shard.
pub struct Flow {
    /// How many bytes may wait for one client while it is published to at QoS 0. No more are put into its output.
    most: usize,
    /// Connections whose backlog is full, and those that were given up.
    slow: BTreeMap<ConnectionId, SlowConsumer>,
    /// How many of them are not given up.
    waited_for: usize,
    /// What is known of those that were slow, on any connection.
    standings: Standings,
    /// Who waits without end.
    pub lossless: Lossless,
    /// Shards to which the queue is full.
    congested: ShardSet,
    /// Those of them that the embedding program has published to.
    program_waits_for: ShardSet,
    /// Connections that are not served until these shards are not congested.
    waiting_for_room: BTreeMap<ConnectionId, ShardSet>,
    /// Publishers of what goes on from here to these shards, on whichever shard they are: they are held until there is room.
    held_for_room: BTreeMap<usize, BTreeSet<Publisher>>,
    /// How near the broker is to holding as much memory as it may.
    memory: MemoryStage,
    /// Connections that are not served until there is memory.
    waiting_for_memory: BTreeSet<ConnectionId>,
    /// Connections that are not served until fewer wills wait.
    waiting_for_wills: BTreeSet<ConnectionId>,
}

/// A connection whose backlog is full.
struct SlowConsumer {
    account: Account,
    given_up: bool,
    /// When so many bytes are left of the backlog, nobody waits for it any more.
    relieved_at: usize,
    /// How many bytes each publisher has added, and whether it waits.
    publishers: BTreeMap<Publisher, (usize, bool)>,
}

/// What follows from a message for a client whose backlog is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullOutput {
    /// The publisher is to wait for one more client.
    pub publisher_waits: bool,
    /// When [`Flow::due`] is to be asked about the client.
    pub look_at: Option<Time>,
}

/// What follows when the patience for a client may be over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PatienceOver {
    /// Publishers that wait for one client less.
    pub released: BTreeSet<Publisher>,
    /// When [`Flow::due`] is to be asked again.
    pub look_at: Option<Time>,
}

impl Flow {
    /// Nobody waits. What clients choose is hashed with `hasher`.
    pub fn new(config: &Config, hasher: ahash::RandomState) -> Self {
        Flow {
            most: config.queue.max_waiting_output_bytes,
            lossless: Lossless::new(config),
            slow: BTreeMap::new(),
            waited_for: 0,
            standings: Standings::new(config.queue.publisher_patience, hasher),
            congested: ShardSet::default(),
            program_waits_for: ShardSet::default(),
            waiting_for_room: BTreeMap::new(),
            held_for_room: BTreeMap::new(),
            memory: MemoryStage::Normal,
            waiting_for_memory: BTreeSet::new(),
            waiting_for_wills: BTreeSet::new(),
        }
    }

    /// How many bytes of output may wait for a client.
    #[inline]
    pub fn most(&self) -> usize {
        self.most
    }

    /// The credit of a client, or of a publisher.
    pub fn patience(&self) -> Duration {
        self.standings.patience()
    }

    /// What is left of a credit; none if it is too little to wait for.
    pub fn left(&self, credit: &Credit, now: Time) -> Option<Duration> {
        self.standings.left(credit, now)
    }

    /// Whether the backlog of a client is full for messages of this QoS.
    pub fn is_full(&self, backlog: Backlog, qos: QoS) -> bool {
        backlog.is_long
            || backlog.queued >= nearly(backlog.most_queued)
            || qos == QoS::AtMostOnce && backlog.bytes() >= self.most
    }

    /// How a client for which something waits takes messages of this QoS.
    #[cold]
    pub fn pace(&self, id: ConnectionId, backlog: Backlog, qos: QoS, now: Time) -> Pace {
        let is_full = self.is_full(backlog, qos);
        let is_much = backlog.bytes() >= self.most;
        let is_lost = |slow: &SlowConsumer| slow.given_up && !self.standings.reads(slow.account, now);
        if is_much && qos == QoS::AtMostOnce && self.slow.get(&id).is_some_and(is_lost) {
            return Pace::Lost;
        }
        if is_full || backlog.output >= self.most { Pace::Full } else { Pace::Keeping }
    }

    /// How long a member of shared subscriptions may take nothing before others get what waits for it: as long as publishers wait for a
    /// client, within limits.
    pub fn stall_patience(&self) -> Duration {
        self.patience().clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// Whether publishers wait for any client.
    #[inline]
    pub fn is_waiting_for_clients(&self) -> bool {
        self.waited_for > 0 || !self.lossless.is_empty()
    }

    /// Whether there is a client whose backlog is full, given up or not.
    #[inline]
    pub fn has_slow_clients(&self) -> bool {
        !self.slow.is_empty() || !self.lossless.is_empty()
    }

    /// Whether nobody waits for this client any more: its backlog is full, and the credit for that was used up.
    #[cold]
    pub fn is_given_up(&self, id: ConnectionId) -> bool {
        self.given_up(id) == Some(true)
    }

    /// Whether the backlog of this client is full, or has been and is not half empty yet.
    pub fn is_slow(&self, id: ConnectionId) -> bool {
        self.slow.contains_key(&id) || self.lossless.is_full(id)
    }

    /// Whether a client was given up whose backlog is full, or has been and is not half empty yet; none if it is not.
    pub fn given_up(&self, id: ConnectionId) -> Option<bool> {
        self.slow.get(&id).map(|slow| slow.given_up)
    }

    /// How many bytes may be left of a backlog that was full for messages of this QoS, until nobody waits for it any more.
    pub fn relieved_at(&self, backlog: Backlog, qos: QoS) -> usize {
        if qos == QoS::AtMostOnce { self.most.min(backlog.most_queued) / 2 } else { backlog.most_queued / 2 }
    }

    /// A message of `publisher`, of so many bytes, was added to the backlog of `id`, which is full for messages of this QoS.
    #[cold]
    pub fn backlog_is_full(
        &mut self,
        id: ConnectionId,
        account: Account,
        (backlog, qos): (Backlog, QoS),
        (publisher, bytes): (Publisher, usize),
        now: Time,
    ) -> FullOutput {
        let mut follows = FullOutput::default();
        let relieved_at = self.relieved_at(backlog, qos);
        if let Entry::Vacant(vacant) = self.slow.entry(id) {
            vacant.insert(SlowConsumer { account, given_up: true, relieved_at, publishers: BTreeMap::new() });
            follows.look_at = self.wait_for(id, now);
        }
        let Some(slow) = self.slow.get_mut(&id) else { return follows };
        slow.relieved_at = slow.relieved_at.min(relieved_at);
        if !slow.given_up {
            let (added, waits) = slow.publishers.entry(publisher).or_default();
            *added += bytes;
            follows.publisher_waits = !*waits && (backlog.is_long || *added >= self.most / ALLOWANCE);
            *waits |= follows.publisher_waits;
        }
        follows
    }

    /// Publishers begin to wait for a client, if it has enough credit. Gives when that is used up.
    fn wait_for(&mut self, id: ConnectionId, now: Time) -> Option<Time> {
        let slow = self.slow.get_mut(&id)?;
        let used_up = self.standings.begin(slow.account, now)?;
        slow.given_up = false;
        self.waited_for += 1;
        Some(used_up)
    }

    /// Publishers wait for a client no more.
    fn wait_no_more(&mut self, account: Account, now: Time) {
        self.waited_for -= 1;
        self.standings.end(account, now);
    }

    /// Something has left the backlog of `id`: the publishers that wait no more for it.
    pub fn backlog_shrank(&mut self, id: ConnectionId, backlog: Backlog, now: Time) -> BTreeSet<Publisher> {
        let is_enough = |slow: &SlowConsumer| backlog.bytes() <= slow.relieved_at && !backlog.is_long;
        let is_relieved = self.slow.get(&id).is_some_and(is_enough);
        if is_relieved { self.catches_up(id, now) } else { BTreeSet::new() }
    }

    /// A client has taken what was handed over for its connection.
    pub fn took(&mut self, id: ConnectionId, now: Time) {
        if let Some(slow) = self.slow.get(&id) {
            self.standings.took(slow.account, now);
        }
    }

    /// The time has come that was said of `id`: if its credit is used up it is given up.
    pub fn due(&mut self, id: ConnectionId, now: Time) -> PatienceOver {
        let Some(slow) = self.slow.get_mut(&id).filter(|slow| !slow.given_up) else { return PatienceOver::default() };
        let account = slow.account;
        if let Some(at) = self.standings.used_up_at(account, now) {
            return PatienceOver { look_at: Some(at), ..PatienceOver::default() };
        }
        slow.given_up = true;
        let released = waiting(std::mem::take(&mut slow.publishers));
        self.wait_no_more(account, now);
        PatienceOver { released, look_at: None }
    }

    /// A client is slow no more. Gives the publishers that wait for it.
    fn catches_up(&mut self, id: ConnectionId, now: Time) -> BTreeSet<Publisher> {
        let Some(slow) = self.slow.remove(&id) else { return BTreeSet::new() };
        if !slow.given_up {
            self.wait_no_more(slow.account, now);
        }
        waiting(slow.publishers)
    }

    /// Forgets a connection, and gives the publishers that wait for it.
    pub fn remove(&mut self, id: ConnectionId, now: Time) -> BTreeSet<Publisher> {
        self.waiting_for_memory.remove(&id);
        self.waiting_for_wills.remove(&id);
        self.waiting_for_room.remove(&id);
        let was_slow = self.slow.get(&id).map(|slow| slow.account);
        let released = self.catches_up(id, now);
        self.standings.gone(id, was_slow, now);
        released
    }

    /// Forgets credits that have come back whole, a part of them in each call. Whether that was the last part: then it begins anew.
    pub fn forget_whole(&mut self, now: Time) -> bool {
        self.standings.forget_whole(now)
    }

    /// The queue to a shard is full, or has room again. Gives the connections that waited for that, and for no other shard.
    pub fn set_congested(&mut self, shard: usize, congested: bool) -> Vec<ConnectionId> {
        if congested {
            self.congested.insert(shard);
            return Vec::new();
        }
        self.congested.remove(shard);
        self.program_waits_for.remove(shard);
        let mut released = Vec::new();
        self.waiting_for_room.retain(|id, shards| {
            shards.remove(shard);
            let waits = !shards.is_empty();
            if !waits {
                released.push(*id);
            }
            waits
        });
        released
    }

    /// The publisher of what goes on from here to a shard is held until the queue to that has room. Whether that is new.
    pub fn hold_for_room(&mut self, publisher: Publisher, shard: usize) -> bool {
        self.held_for_room.entry(shard).or_default().insert(publisher)
    }

    /// The publishers that were held until the queue to a shard has room; they are not any more.
    pub fn held_for_room(&mut self, shard: usize) -> BTreeSet<Publisher> {
        self.held_for_room.remove(&shard).unwrap_or_default()
    }

    /// The embedding program has published to these shards.
    pub fn program_published(&mut self, to: ShardSet) {
        self.program_waits_for.union(&self.congested.intersection(&to));
    }

    /// Whether what the embedding program publishes has to wait: for a shard whose queue is full and that it has published to, or for memory.
    pub fn program_waits(&self) -> bool {
        self.holds_publishers() || !self.program_waits_for.is_empty()
    }

    /// Whether the queue to any shard is full.
    pub fn is_any_congested(&self) -> bool {
        !self.congested.is_empty()
    }

    /// The shards to which the queue is full.
    pub fn congested(&self) -> ShardSet {
        self.congested
    }

    /// Those of these shards to which the queue is full.
    #[inline]
    pub fn congested_among(&self, shards: ShardSet) -> ShardSet {
        self.congested.intersection(&shards)
    }

    /// How near the broker is to holding as much memory as it may.
    #[inline]
    pub fn memory(&self) -> MemoryStage {
        self.memory
    }

    /// It is so near now. Gives the connections that waited for memory, if they wait no more.
    pub fn set_memory(&mut self, stage: MemoryStage) -> BTreeSet<ConnectionId> {
        self.memory = stage;
        if self.holds_publishers() { BTreeSet::new() } else { std::mem::take(&mut self.waiting_for_memory) }
    }

    /// Whether who publishes is to wait for memory.
    #[inline]
    pub fn holds_publishers(&self) -> bool {
        self.memory >= MemoryStage::PublishersHeld
    }

    /// A connection waits for memory.
    pub fn wait_for_memory(&mut self, id: ConnectionId) {
        self.waiting_for_memory.insert(id);
    }

    /// A connection waits until the queues to these shards have room, which are full.
    pub fn wait_for_room(&mut self, id: ConnectionId, shards: ShardSet) {
        self.waiting_for_room.insert(id, shards);
    }

    /// A connection waits until fewer wills wait for room.
    pub fn wait_for_wills(&mut self, id: ConnectionId) {
        self.waiting_for_wills.insert(id);
    }

    /// There is room for more wills. Gives the connections that waited for that.
    pub fn wills_have_room(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.waiting_for_wills)
    }
}

fn waiting(publishers: BTreeMap<Publisher, (usize, bool)>) -> BTreeSet<Publisher> {
    publishers.into_iter().filter(|(_, (_, waits))| *waits).map(|(publisher, _)| publisher).collect()
}

#[cfg(test)]
mod tests;
