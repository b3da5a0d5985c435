//! The pages that the archive has, while journals are read: what of them waits still is what journals say nothing else of.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::reach::Reach;
use super::stored_session::{StoredSession, StoredStage};
use crate::numbers::StoreNumber;
use crate::session::{Key, StoredPage};

/// All pages, by the numbers under which they are stored.
pub(super) struct Paged {
    of: HashMap<StoreNumber, Run, ahash::RandomState>,
}

/// The pages under one number.
struct Run {
    pages: Vec<StoredPage>,
    /// Whether each begins behind the one before.
    is_in_order: bool,
    /// How many keys they have.
    keys: usize,
    lowest: u64,
    highest: u64,
}

/// So many numbers of messages that a session has no more are kept at least, before it is looked which of them are in pages.
const FEW: usize = 64;

impl Paged {
    pub fn new(hasher: ahash::RandomState) -> Self {
        Paged { of: HashMap::with_hasher(hasher) }
    }

    /// There is a page.
    pub fn add(&mut self, pages_id: StoreNumber, page: StoredPage) {
        let (first, last) = (page.keys.first().get(), page.keys.last().get());
        let run = self.of.entry(pages_id).or_insert_with(|| Run::new(first));
        run.keys += page.keys.len();
        run.lowest = run.lowest.min(first);
        // Those before are in order if it is, and the last of them has the highest key.
        run.is_in_order &= run.pages.is_empty() || run.highest < first;
        run.highest = run.highest.max(last);
        run.pages.push(page);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// From which key to which there are pages under a number, if there are any.
    pub fn reach(&self, pages_id: StoreNumber) -> Option<Reach> {
        let &Run { lowest, highest, keys, is_in_order, .. } = self.of.get(&pages_id)?;
        Some(Reach { lowest, highest, is_dense: is_in_order && keys as u64 == highest - lowest + 1 })
    }

    /// Whether a message that waits for the session under this key is in a page, and so need not be known from the journal. It may be where that is not
    /// said: then it is [left to the page](Paged::settle) in the end.
    pub fn has(&self, session: &StoredSession, key: u64) -> bool {
        let Some(reach) = session.reach.filter(|reach| reach.has(key)) else { return false };
        let is_in_one = || self.of.get(&session.pages_id()).is_some_and(|run| run.has(key));
        !session.gone.contains(&key) && (reach.is_dense || is_in_one())
    }

    /// A message of the session does not wait under this key any more, whether it is known or not.
    pub fn note_gone(&self, session: &mut StoredSession, key: u64) {
        if !session.reach.is_some_and(|reach| reach.has(key)) {
            return;
        }
        let Some(run) = self.of.get(&session.pages_id()) else { return };
        session.gone.insert(key);
        // Most keys in between are in pages. So no more is kept than twice as many as there are, and a look costs little for each.
        if session.gone.len() > 2 * run.keys + FEW {
            session.gone = run.all_keys().filter(|key| session.gone.contains(key)).collect();
        }
    }

    /// The session gets its pages: of each what does not wait any more. What waits in a page does not wait in memory, too.
    pub fn settle(&mut self, session: &mut StoredSession) {
        let gone = std::mem::take(&mut session.gone);
        let Some(mut run) = self.of.remove(&session.pages_id()) else { return };
        run.pages.sort_unstable_by_key(|page| page.keys.first());
        session.next_key = session.next_key.max(run.highest + 1);
        // No two pages have one key, unless something went wrong. Then the first one counts.
        let mut seen = run.overlap().then(HashSet::new);
        for mut page in run.pages {
            let range = page.keys.first().get()..=page.keys.last().get();
            // As a rule nothing is said of any of its keys.
            if seen.is_some() || gone.range(range.clone()).next().is_some() || session.messages().has_any(range) {
                let keys = page.keys.iter().map(Key::get);
                let is_repeated = |key| seen.as_mut().is_some_and(|seen: &mut HashSet<u64>| !seen.insert(key));
                page.gone = gone_of(session, keys, &gone, is_repeated);
            }
            match page.gone.len() == page.keys.len() {
                true => session.gone_pages.push(page.keys),
                false => session.pages.push(page),
            }
        }
    }

    /// The session goes on from what was read before: its pages are as they were, and what was gone of them is so still.
    pub fn take_back(&mut self, session: &mut StoredSession) {
        session.gone = session.gone_from_pages().map(Key::get).collect();
        let pages_id = session.pages_id();
        for page in std::mem::take(&mut session.pages) {
            self.add(pages_id, StoredPage { gone: Vec::new(), ..page });
        }
        for keys in std::mem::take(&mut session.gone_pages) {
            // Its size does not matter any more.
            self.add(pages_id, StoredPage { keys, bytes: 0, gone: Vec::new() });
        }
    }

    /// The numbers of pages that no session got, ascending.
    pub fn into_left(self) -> Vec<StoreNumber> {
        let mut left: Vec<StoreNumber> = self.of.into_keys().collect();
        left.sort_unstable();
        left
    }
}

impl Run {
    fn new(first: u64) -> Self {
        Run { pages: Vec::new(), is_in_order: true, keys: 0, lowest: first, highest: first }
    }

    fn has(&self, key: u64) -> bool {
        if !self.is_in_order {
            return false;
        }
        let at = self.pages.partition_point(|page| page.keys.first().get() <= key);
        at.checked_sub(1).is_some_and(|at| self.pages[at].keys.contains(Key::new(key)))
    }

    fn all_keys(&self) -> impl Iterator<Item = u64> {
        self.pages.iter().flat_map(|page| page.keys.iter()).map(Key::get)
    }

    /// Whether some may have keys of others: they are in order.
    fn overlap(&self) -> bool {
        self.pages.windows(2).any(|pair| pair[0].keys.last() >= pair[1].keys.first())
    }
}

/// Which of the keys of a page do not wait there: journals say so, or know more of their messages than that they wait.
fn gone_of(
    session: &mut StoredSession,
    keys: impl Iterator<Item = u64>,
    gone: &BTreeSet<u64>,
    mut is_repeated: impl FnMut(u64) -> bool,
) -> Vec<Key> {
    let mut waits = |key: u64| {
        // Not short-circuited: each key has to be seen.
        if is_repeated(key) | gone.contains(&key) {
            return false;
        }
        match session.stage(key) {
            None => true,
            Some(StoredStage::Queued) => {
                session.leave_to_page(key);
                true
            }
            Some(StoredStage::Sent | StoredStage::Received) => false,
        }
    };
    let mut all: Vec<Key> = keys.filter(|key| !waits(*key)).map(Key::new).collect();
    all.shrink_to_fit();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::PageKeys;

    fn paged(pages: &[&[u64]]) -> Paged {
        let mut paged = Paged::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        for keys in pages {
            let keys: Vec<Key> = keys.iter().copied().map(Key::new).collect();
            let keys = PageKeys::new(&keys).expect("they ascend");
            paged.add(StoreNumber::new(1, 0, 1), StoredPage { keys, bytes: 0, gone: Vec::new() });
        }
        paged
    }

    fn has(paged: &Paged, key: u64) -> bool {
        paged.of[&StoreNumber::new(1, 0, 1)].has(key)
    }

    #[test]
    fn what_is_in_a_page_is_found_by_its_key() {
        let one = paged(&[&[3, 4, 5], &[7, 9, 300], &[301]]);
        let found: Vec<u64> = (0..400).filter(|key| has(&one, *key)).collect();
        assert_eq!(found, [3, 4, 5, 7, 9, 300, 301]);
    }

    #[test]
    fn where_pages_are_not_in_order_nothing_is_said() {
        assert!(!has(&paged(&[&[7, 8], &[3, 4]]), 7) && !has(&paged(&[&[3, 9], &[5]]), 5));
    }
}
