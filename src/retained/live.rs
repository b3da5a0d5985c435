//! Retained messages that have come live while owners of topics were asked.

use std::collections::{HashMap, VecDeque};

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
        let mut newer =
            later.filter(|noted| noted.owner == page.owner && noted.number > page.applied[noted.shard]).peekable();
        let first = if is_forgotten {
            (!page.messages.is_empty()).then_some(0)
        } else if newer.peek().is_some() {
            let mut places = HashMap::with_capacity(page.messages.len());
            for (at, (_, message)) in page.messages.iter().enumerate() {
                places.entry(hash(message.topic().as_str())).or_insert(at);
            }
            newer.filter_map(|noted| places.get(&noted.topic).copied()).min()
        } else {
            None
        };
        if let Some(at) = first {
            page.next = Some(page.messages[at].1.topic().as_str().into());
            page.messages.truncate(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::message::Publication;
    use crate::topic::TopicName;

    fn page(messages: usize) -> RetainedPage {
        let messages = (0..messages).map(|_| (0, Publication::new(TopicName::trusted("t"), b"x").keep())).collect();
        RetainedPage { token: 1, owner: 0, messages, next: None, applied: [0].into() }
    }

    /// What has come live since a question is looked through once for each page, and is never more than [`MOST`]: printed, not
    /// asserted. Each message of the page compared with each of them would take this test minutes.
    #[test]
    fn a_page_costs_what_has_come_live_since_it_was_asked_for() {
        for live in [1_000, MOST as u64, 4 * MOST as u64] {
            let mut log = LiveLog::default();
            let since = log.end();
            (0..live).for_each(|number| log.note(0, 0, number + 1, number));
            assert_eq!(log.noted.len(), MOST.min(live as usize));
            let began = Instant::now();
            const PAGES: u32 = 20;
            for _ in 0..PAGES {
                let mut page = page(4096);
                log.cut(&mut page, since, |_| u64::MAX);
                // Nothing newer is known, unless some has been forgotten: then the question is asked again.
                assert_eq!(page.messages.len(), if live > MOST as u64 { 0 } else { 4096 });
                assert_eq!(page.next.is_some(), live > MOST as u64);
            }
            println!("a page of 4096 messages against {live} live ones: {} µs", (began.elapsed() / PAGES).as_micros());
        }
    }
}
