//! What is on its way between shards, and how much one of them does at a time: a shard that is behind is written to no more than it must be.

use std::collections::{BTreeMap, BTreeSet};

use moormq::client::ConnectionId;
use moormq::shard::{ShardMessage, TurnLimits};

/// Most bytes that go to a full queue and that nobody waits for: subscriptions, sessions that move, answers.
const OTHERS: usize = 16 << 10;
/// The largest single piece of work: a client that comes and takes over from another one, whose session ends, with all that follows.
const LARGEST_PIECE: u32 = 450;
/// The search for expired retained messages counts as so much, however few there are.
const SWEEP: u32 = 512;

/// Rules on what is written to a shard.
pub const FULL: &str = "flow: who publishes to a full queue between shards is held";
/// Rules on how much is done.
pub const WORK: &str = "turns: an input is no more work than a turn, and one piece";

/// What goes from one shard to another although the queue is full.
#[derive(Default)]
struct IntoFull {
    /// By connection that published them.
    published: BTreeMap<ConnectionId, u32>,
    /// To be retained.
    retained: usize,
    /// The weight of what is neither published nor left by a member.
    others: usize,
}

/// What shards write to each other.
pub struct Mailboxes {
    shards: usize,
    /// The weight of the messages from each shard to each other.
    load: Vec<usize>,
    /// How much that may be.
    pub bytes: usize,
    /// Queues that are full, as far as their senders know.
    pub congested: Vec<(usize, usize)>,
    into_full: BTreeMap<(usize, usize), IntoFull>,
    /// Connections that are about to be taken over, and their shards: what they have sent is served in any case.
    drained: (BTreeSet<ConnectionId>, BTreeSet<usize>),
    /// The shards stop, and wait for no room.
    pub stopping: bool,
    /// A rule that was broken, and how.
    pub broken: Option<(&'static str, String)>,
}

impl Mailboxes {
    pub fn new(shards: usize, bytes: usize) -> Self {
        Mailboxes {
            shards,
            load: vec![0; shards * shards],
            bytes,
            congested: Vec::new(),
            into_full: BTreeMap::new(),
            drained: Default::default(),
            stopping: false,
            broken: None,
        }
    }

    fn find(&mut self, rule: &'static str, detail: String) {
        self.broken.get_or_insert((rule, detail));
    }

    /// The queue between two shards is full, or has room again, as its sender hears.
    pub fn set_congested(&mut self, from: usize, to: usize, on: bool) {
        self.into_full.remove(&(from, to));
        self.congested.retain(|pair| *pair != (from, to));
        if on {
            self.congested.push((from, to));
        }
    }

    /// What a connection of a shard has sent is served, whatever is full.
    pub fn drains(&mut self, shard: usize, connection: ConnectionId) {
        self.drained.0.insert(connection);
        self.drained.1.insert(shard);
    }

    /// Whether the queue is fuller than its sender knows.
    pub fn is_full(&self, from: usize, to: usize) -> bool {
        self.load[from * self.shards + to] >= self.bytes && !self.congested.contains(&(from, to))
    }

    /// A message has left. Whether its sender is to hear that there is room again.
    pub fn takes(&mut self, (from, to): (usize, usize), message: &ShardMessage) -> bool {
        let load = &mut self.load[from * self.shards + to];
        *load -= message.weight();
        // One that is full because the history says so stays full.
        *load <= self.bytes / 2 && self.bytes < (1 << 20) && self.congested.contains(&(from, to))
    }

    /// A message goes to a shard. If the queue to that is full, a publisher may send one, and is held. Of what a member of a shared subscription
    /// leaves to others nothing goes there. There have been so many connections.
    pub fn goes(&mut self, (from, to): (usize, usize), message: &ShardMessage, connections: usize) {
        let weight = message.weight();
        self.load[from * self.shards + to] += weight;
        if !self.congested.contains(&(from, to)) || self.stopping {
            return;
        }
        let into = self.into_full.entry((from, to)).or_default();
        let publisher = match message {
            ShardMessage::Publish { publisher, .. } => *publisher,
            // What is sent on has no number.
            ShardMessage::Share(share) if share.sequence > 0 => share.publisher.map(|publisher| publisher.connection),
            ShardMessage::Share(share) => {
                if share.turn.is_moved && share.turn.hops == 1 {
                    let detail = format!("what a member of shard {from} leaves goes to shard {to}");
                    self.find(FULL, detail);
                }
                return;
            }
            ShardMessage::Retain { .. } => {
                into.retained += 1;
                if into.retained > connections && !self.drained.1.contains(&from) {
                    let detail = format!("{} messages to be retained by shard {to} come from {from}", into.retained);
                    self.find(FULL, detail);
                }
                return;
            }
            _ => {
                into.others += weight;
                if into.others > OTHERS {
                    let detail = format!("{} bytes that nobody waits for go from {from} to {to}", into.others);
                    self.find(FULL, detail);
                }
                return;
            }
        };
        let Some(publisher) = publisher.filter(|publisher| !self.drained.0.contains(publisher)) else { return };
        let count = into.published.entry(publisher).or_default();
        *count += 1;
        if *count > 1 {
            let detail = format!("{publisher:?} of shard {from} sent {count} messages to shard {to}");
            self.find(FULL, detail);
        }
    }

    /// A shard was given an input; how much it had done in its turn before, and has done now.
    pub fn works(&mut self, shard: usize, limits: TurnLimits, (before, after): (u32, u32)) {
        let work = after.saturating_sub(before);
        let work = work.checked_sub(SWEEP).unwrap_or(work);
        if !self.stopping && work > limits.turn + LARGEST_PIECE {
            self.find(WORK, format!("{work} units on shard {shard}, a turn has {}", limits.turn));
        }
    }
}
