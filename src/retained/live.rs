//! Retained messages that have come live while owners of topics were asked.

use std::collections::{HashSet, VecDeque};

use super::page::RetainedPage;

/// Most messages that are remembered. A question that has waited for longer is asked again.
const MOST: usize = 65_536;

/// Retained messages that have come live while questions are open, in order.
#[derive(Default)]
pub(super) struct LiveLog {
    noted: VecDeque<Noted>,
    /// How many there were before the first of them.
    before: u64,
}

/// One that has come live.
struct Noted {
    /// The shard that it was published on, the owner of its topic, and which of that shard's messages to the owner it is.
    shard: usize,
    owner: usize,
    number: u64,
    /// The hash of its topic.
    topic: u64,
}

impl LiveLog {
    /// Whether nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Where it ends now.
    pub fn end(&self) -> u64 {
        self.before + self.noted.len() as u64
    }

    /// A message to be retained has come live.
    pub fn note(&mut self, shard: usize, owner: usize, number: u64, topic: u64) {
        if self.noted.len() >= MOST {
            self.noted.pop_front();
            self.before += 1;
        }
        self.noted.push_back(Noted { shard, owner, number, topic });
    }

    /// No question is open: nothing is remembered.
    pub fn clear(&mut self) {
        self.before = self.end();
        self.noted = VecDeque::new();
    }

    /// Cuts off `page`, which was asked for when the log ended at `since`, at the first message of a topic that a newer one may have come
    /// live for: the next page begins there, and will not have it. `hash` is that of a topic.
    pub fn cut(&self, page: &mut RetainedPage, since: u64, hash: impl Fn(&str) -> u64) {
        let is_forgotten = since < self.before;
        let later = self.noted.iter().skip(since.saturating_sub(self.before) as usize);
        let newer = later.filter(|noted| noted.owner == page.owner && noted.number > page.applied[noted.shard]);
        let newer: HashSet<u64> = newer.map(|noted| noted.topic).collect();
        if newer.is_empty() && !is_forgotten {
            return;
        }
        let is_newer = |topic: &str| is_forgotten || newer.contains(&hash(topic));
        if let Some(at) = page.messages.iter().position(|(_, message)| is_newer(message.topic().as_str())) {
            page.next = Some(page.messages[at].1.topic().as_str().into());
            page.messages.truncate(at);
        }
    }
}
