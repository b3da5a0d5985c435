//! What one client is still to be sent of what is retained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::gathering::Gathered;
use super::page::RetainedPage;
use crate::message::Message;
use crate::topic::{FilterSet, TopicFilter, after};

/// What one client is still to be sent of what is retained, for all of its subscriptions. It goes with the session from shard to shard.
pub struct Replay {
    mountpoint: Arc<str>,
    /// By number, in the order in which they were made. The first is being answered.
    requests: BTreeMap<u64, Request>,
    /// The request that each filter belongs to: the last one that asked for it.
    belongs_to: HashMap<TopicFilter, u64, ahash::RandomState>,
    next_request: u64,
    /// Of the first request.
    page: Option<Page>,
    /// While it is under way to another shard: the numbers of messages that have come live, by owner and shard.
    pub(super) seen: Vec<Box<[u64]>>,
}

/// The filters of one SUBSCRIBE.
struct Request {
    filters: Arc<FilterSet>,
    /// How many filters belong to it still.
    filters_left: usize,
    /// The owners that have not answered to the end, each with what comes live from it.
    owners: VecDeque<(usize, Arc<[u64]>)>,
    /// Where the first of them is to go on.
    from: Box<str>,
}

/// Messages of one owner that were not sent yet.
struct Page {
    owner: usize,
    messages: VecDeque<(u32, Message)>,
    /// The last message that was.
    last: Option<Message>,
    next: Option<Box<str>>,
    applied: Box<[u64]>,
    /// What had been queued for the client when it came: that goes first.
    queued: Option<u64>,
}

/// What an owner is to be asked.
pub struct Wanted {
    pub owner: usize,
    pub filters: Arc<FilterSet>,
    pub from: Box<str>,
    pub sent: Arc<[u64]>,
}

impl Replay {
    /// Nothing to be sent to a client in this mountpoint. Filters are hashed with `hasher`.
    pub fn new(mountpoint: Arc<str>, hasher: ahash::RandomState) -> Self {
        Replay {
            mountpoint,
            requests: BTreeMap::new(),
            belongs_to: HashMap::with_hasher(hasher),
            next_request: 0,
            page: None,
            seen: Vec::new(),
        }
    }

    pub fn mountpoint(&self) -> &Arc<str> {
        &self.mountpoint
    }

    /// What is asked of owners at the moment.
    pub fn filters(&self) -> Option<&Arc<FilterSet>> {
        self.requests.first_key_value().map(|(_, request)| &request.filters)
    }

    /// Whether there is nothing to be sent any more.
    pub fn is_over(&self) -> bool {
        self.requests.is_empty()
    }

    /// A subscription was made that wants what is retained; `owners` have it. What was left to be sent for one of its filters begins
    /// anew with it. Gives the messages that are dropped for that.
    pub fn add(&mut self, gathered: Gathered, owners: &[usize]) -> Vec<Message> {
        let Gathered { filters, sent } = gathered;
        let dropped = self.remove(&filters);
        let number = self.next_request;
        self.next_request += 1;
        self.belongs_to.extend(filters.iter().map(|filter| (filter.clone(), number)));
        let owners = owners.iter().map(|owner| (*owner, sent[*owner].clone())).collect();
        let filters_left = filters.len();
        let filters = Arc::new(FilterSet::new(filters));
        self.requests.insert(number, Request { filters, filters_left, owners, from: "".into() });
        dropped
    }

    /// What is left to be sent for these filters is not wanted any more. Gives the messages that are dropped for that.
    pub fn remove(&mut self, filters: &[TopicFilter]) -> Vec<Message> {
        let first = self.requests.first_key_value().map(|(number, _)| *number);
        let mut changed = BTreeSet::new();
        for filter in filters {
            let Some(number) = self.belongs_to.remove(filter) else { continue };
            if let Some(request) = self.requests.get_mut(&number) {
                request.filters_left -= 1;
                changed.insert(number);
            }
        }
        // Another filter of the first request may match what one of these has found.
        let dropped = if first.is_some_and(|first| changed.contains(&first)) { self.drop_page() } else { Vec::new() };
        for number in changed {
            let Some(request) = self.requests.get_mut(&number) else { continue };
            if request.filters_left == 0 {
                self.requests.remove(&number);
                continue;
            }
            let is_left = |filter: &&TopicFilter| self.belongs_to.get(*filter) == Some(&number);
            let left = request.filters.filters().iter().filter(is_left).cloned().collect();
            request.filters = Arc::new(FilterSet::new(left));
        }
        dropped
    }

    /// What is to be asked next; none if there is something to be sent before that, or nothing any more.
    pub fn wanted(&self) -> Option<Wanted> {
        if self.page.is_some() {
            return None;
        }
        let (_, request) = self.requests.first_key_value()?;
        let (owner, sent) = request.owners.front()?;
        let (filters, from) = (request.filters.clone(), request.from.clone());
        Some(Wanted { owner: *owner, filters, from, sent: sent.clone() })
    }

    /// An owner has answered what was asked last.
    pub fn answered(&mut self, page: RetainedPage) {
        let RetainedPage { owner, messages, next, applied, .. } = page;
        self.page = Some(Page { owner, messages: messages.into(), last: None, next, applied, queued: None });
        self.turn_page();
    }

    /// The messages that are here and were not sent yet.
    #[cfg(test)]
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.page.iter().flat_map(|page| &page.messages).map(|(_, message)| message)
    }

    /// The message that is to be sent next, with the filter that it matches.
    pub fn next(&self) -> Option<(&TopicFilter, &Message)> {
        let (place, message) = self.page.as_ref()?.messages.front()?;
        let (_, request) = self.requests.first_key_value()?;
        Some((request.filters.filters().get(*place as usize)?, message))
    }

    /// The next message was sent, or is not to be. Gives it.
    pub fn take(&mut self) -> Option<Message> {
        let page = self.page.as_mut()?;
        let (_, message) = page.messages.pop_front()?;
        page.last = Some(message.clone());
        self.turn_page();
        Some(message)
    }

    /// A newer message of this topic has come live: which one it is of those of `shard` to the owner of the topic. What is here of the
    /// topic is not sent any more, and given back.
    pub fn comes_live(&mut self, owner: usize, topic: &[u8], shard: usize, number: u64) -> Option<Message> {
        let page = self.page.as_mut().filter(|page| page.owner == owner && number > page.applied[shard])?;
        let at = page.messages.iter().position(|(_, message)| message.topic_bytes() == topic)?;
        let (_, message) = page.messages.remove(at)?;
        self.turn_page();
        Some(message)
    }

    /// Drops the messages that are here: they are asked for again. Gives them.
    pub fn drop_page(&mut self) -> Vec<Message> {
        let Some(Page { messages, last, .. }) = self.page.take() else { return Vec::new() };
        if let (Some(last), Some(mut request)) = (last, self.requests.first_entry()) {
            request.get_mut().from = after(last.topic().as_str());
        }
        messages.into_iter().map(|(_, message)| message).collect()
    }

    /// What had been queued for the client when this was asked first of the messages that are here: `now`, if that is now. None if no
    /// messages are here.
    pub fn queued_before(&mut self, now: u64) -> Option<u64> {
        Some(*self.page.as_mut()?.queued.get_or_insert(now))
    }

    /// Goes on to the next page, owner or request if nothing is left of this one.
    fn turn_page(&mut self) {
        let Some(page) = self.page.take_if(|page| page.messages.is_empty()) else { return };
        let Some(mut entry) = self.requests.first_entry() else { return };
        let request = entry.get_mut();
        if let Some(next) = page.next {
            request.from = next;
            return;
        }
        request.owners.pop_front();
        request.from = "".into();
        if request.owners.is_empty() {
            let (number, request) = entry.remove_entry();
            for filter in request.filters.filters() {
                if self.belongs_to.get(filter) == Some(&number) {
                    self.belongs_to.remove(filter);
                }
            }
        }
    }
}
