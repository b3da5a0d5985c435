//! What one client is still to be sent of what is retained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::gathering::Gathered;
use super::page::RetainedPage;
use crate::memory::{Held, MemoryKind, allocated_for, allocated_in_tree};
use crate::message::Message;
use crate::tables::PartedMap;
use crate::topic::{FilterSet, TopicFilter, after};

/// What one client is still to be sent of what is retained, for all of its subscriptions. It goes with the session from shard to shard.
pub struct Replay {
    mountpoint: Arc<str>,
    /// By number, in the order in which they were made. The first is being answered.
    requests: BTreeMap<u64, Request>,
    /// The request that each filter belongs to: the last one that asked for it.
    belongs_to: PartedMap<TopicFilter, u64>,
    next_request: u64,
    /// Of the first request: of its first owner, and of others if all were asked.
    pages: Vec<Page>,
    /// While it is under way to another shard: the numbers of messages that have come live, by owner and shard.
    pub(super) seen: Vec<Box<[u64]>>,
}

/// The filters of one SUBSCRIBE.
struct Request {
    filters: Arc<FilterSet>,
    /// How many filters belong to it still.
    filters_left: usize,
    /// The owners that have not answered to the end.
    owners: VecDeque<Owner>,
    /// The memory it takes, and its filters in the table of all.
    _held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// An owner that has not answered to the end.
struct Owner {
    id: usize,
    /// For each shard: what has a higher number comes live from it.
    sent: Arc<[u64]>,
    /// Where it is to go on.
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
            belongs_to: PartedMap::with_hasher(hasher),
            next_request: 0,
            pages: Vec::new(),
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

    /// About how many bytes of memory it holds on to, those of messages included.
    pub fn size(&self) -> usize {
        let filters = self.belongs_to.keys().map(|filter| size_of::<(TopicFilter, u64)>() + filter.as_str().len());
        let messages = self.pages.iter().flat_map(|page| &page.messages).map(|(_, message)| message.size());
        size_of::<Self>() + filters.sum::<usize>() + messages.sum::<usize>()
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
        let owners: VecDeque<_> =
            owners.iter().map(|id| Owner { id: *id, sent: sent[*id].clone(), from: "".into() }).collect();
        let filters_left = filters.len();
        let entries = filters_left * allocated_in_tree(size_of::<(TopicFilter, u64)>());
        let own = allocated_in_tree(size_of::<(u64, Request)>()) + allocated_for::<Owner>(owners.capacity());
        let filters = Arc::new(FilterSet::new(filters));
        self.requests.insert(number, Request { filters, filters_left, owners, _held: Held::new(own + entries) });
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
        let dropped = if first.is_some_and(|first| changed.contains(&first)) { self.drop_pages() } else { Vec::new() };
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

    /// Whether only one SUBSCRIBE is left.
    pub fn is_first_alone(&self) -> bool {
        self.requests.len() == 1
    }

    /// What is to be asked next: of the first owner, or of all; but not of one whose messages are here.
    pub fn wanted(&self, of_all: bool) -> Vec<Wanted> {
        let Some((_, request)) = self.requests.first_key_value() else { return Vec::new() };
        let owners = request.owners.iter().take(if of_all { usize::MAX } else { 1 });
        let wanted = owners.filter(|owner| self.pages.iter().all(|page| page.owner != owner.id));
        let wanted = wanted.map(|Owner { id, sent, from }| {
            let (filters, from, sent) = (request.filters.clone(), from.clone(), sent.clone());
            Wanted { owner: *id, filters, from, sent }
        });
        wanted.collect()
    }

    /// An owner has answered what it was asked last.
    pub fn answered(&mut self, page: RetainedPage) {
        let RetainedPage { owner, messages, next, applied, .. } = page;
        self.pages.push(Page { owner, messages: messages.into(), last: None, next, applied, queued: None });
        self.turn_page(owner);
    }

    /// The messages that are here and were not sent yet.
    #[cfg(test)]
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.pages.iter().flat_map(|page| &page.messages).map(|(_, message)| message)
    }

    /// The message that is to be sent next, with the filter that it matches.
    pub fn next(&self) -> Option<(&TopicFilter, &Message)> {
        let (_, request) = self.requests.first_key_value()?;
        let owner = request.owners.front()?.id;
        let (place, message) = self.pages.iter().find(|page| page.owner == owner)?.messages.front()?;
        Some((request.filters.filters().get(*place as usize)?, message))
    }

    /// The next message was sent, or is not to be. Gives it.
    pub fn take(&mut self) -> Option<Message> {
        let (_, request) = self.requests.first_key_value()?;
        let owner = request.owners.front()?.id;
        let page = self.pages.iter_mut().find(|page| page.owner == owner)?;
        let (_, message) = page.messages.pop_front()?;
        page.last = Some(message.clone());
        self.turn_page(owner);
        Some(message)
    }

    /// A newer message of this topic has come live: which one it is of those of `shard` to the owner of the topic. What is here of the
    /// topic is not sent any more, and given back.
    pub fn comes_live(&mut self, owner: usize, topic: &[u8], shard: usize, number: u64) -> Option<Message> {
        let page = self.pages.iter_mut().find(|page| page.owner == owner && number > page.applied[shard])?;
        let at = page.messages.iter().position(|(_, message)| message.topic_bytes() == topic)?;
        let (_, message) = page.messages.remove(at)?;
        self.turn_page(owner);
        Some(message)
    }

    /// Drops the messages that are here: they are asked for again. Gives them.
    pub fn drop_pages(&mut self) -> Vec<Message> {
        let mut dropped = Vec::new();
        for Page { owner, messages, last, .. } in std::mem::take(&mut self.pages) {
            if let (Some(last), Some(mut request)) = (last, self.requests.first_entry())
                && let Some(owner) = request.get_mut().owners.iter_mut().find(|other| other.id == owner)
            {
                owner.from = after(last.topic().as_str());
            }
            dropped.extend(messages.into_iter().map(|(_, message)| message));
        }
        dropped
    }

    /// What had been queued for the client when this was asked first of the messages that are here: `now`, if that is now. None if no
    /// messages are here.
    pub fn queued_before(&mut self, now: u64) -> Option<u64> {
        self.pages.iter_mut().map(|page| *page.queued.get_or_insert(now)).max()
    }

    /// Goes on to the next page, owner or request if nothing is left of the page of this owner.
    fn turn_page(&mut self, owner: usize) {
        let is_sent = |page: &Page| page.owner == owner && page.messages.is_empty();
        let Some(at) = self.pages.iter().position(is_sent) else { return };
        let page = self.pages.swap_remove(at);
        let Some(mut entry) = self.requests.first_entry() else { return };
        let request = entry.get_mut();
        if let Some(next) = page.next {
            if let Some(owner) = request.owners.iter_mut().find(|other| other.id == owner) {
                owner.from = next;
            }
            return;
        }
        request.owners.retain(|other| other.id != owner);
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
