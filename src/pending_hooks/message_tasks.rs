//! What hooks that were told of messages want done: one task after the other for a subscriber id, and nobody waits for it.
//!
//! There may be as many of them as there are messages, so they are limited in number. No id may have more than what it
//! leaves free: there is always room for the first of another one.

use std::collections::{BTreeMap, VecDeque};

use crate::client::SubscriberId;
use crate::hooks::PendingAnswer;

/// Tasks of hooks that were told of messages; one for each shard.
pub struct MessageTasks {
    most: usize,
    total: usize,
    /// Behind the one that is under way. An id is there as long as one is.
    waiting: BTreeMap<SubscriberId, VecDeque<PendingAnswer>>,
}

/// What becomes of tasks that were handed over.
#[derive(Debug, Default)]
pub struct Admitted {
    /// To be run at once.
    pub first: Option<PendingAnswer>,
    /// There was no room for these.
    pub dropped: Vec<PendingAnswer>,
}

impl MessageTasks {
    /// At most `most`, those under way included.
    pub fn new(most: usize) -> Self {
        MessageTasks { most, total: 0, waiting: BTreeMap::new() }
    }

    /// How many there are, those under way included.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Takes in what a hook wants done about a message of `subscriber`.
    pub fn add(&mut self, subscriber: &SubscriberId, pending: Vec<PendingAnswer>) -> Admitted {
        let mut admitted = Admitted::default();
        for task in pending {
            let waiting = self.waiting.get_mut(subscriber);
            let own = waiting.as_ref().map_or(0, |waiting| waiting.len() + 1);
            if own >= self.most - self.total {
                admitted.dropped.push(task);
                continue;
            }
            self.total += 1;
            match waiting {
                Some(waiting) => waiting.push_back(task),
                None => {
                    self.waiting.insert(subscriber.clone(), VecDeque::new());
                    admitted.first = Some(task);
                }
            }
        }
        admitted
    }

    /// The one that was under way is done or was given up: gives the next one, to be run.
    pub fn next(&mut self, subscriber: &SubscriberId) -> Option<PendingAnswer> {
        let waiting = self.waiting.get_mut(subscriber)?;
        self.total -= 1;
        let next = waiting.pop_front();
        if next.is_none() {
            self.waiting.remove(subscriber);
        }
        next
    }

    /// Gives up what waits behind the one that is under way.
    pub fn give_up(&mut self, subscriber: &SubscriberId) -> VecDeque<PendingAnswer> {
        let given_up = self.waiting.get_mut(subscriber).map(std::mem::take).unwrap_or_default();
        self.total -= given_up.len();
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::HookAnswer;

    fn task(link: usize) -> PendingAnswer {
        PendingAnswer { hook: "on_message_drop", link, future: Box::pin(async { HookAnswer::Notification }) }
    }

    fn links<'a>(tasks: impl IntoIterator<Item = &'a PendingAnswer>) -> Vec<usize> {
        tasks.into_iter().map(|task| task.link).collect()
    }

    #[test]
    fn tasks_of_one_id_are_run_one_after_the_other() {
        let (mut tasks, ann, bob) = (MessageTasks::new(9), SubscriberId::new("", "ann"), SubscriberId::new("", "bob"));
        assert_eq!(links(&tasks.add(&ann, vec![task(0), task(1)]).first), [0]);
        assert!(tasks.add(&ann, vec![task(2)]).first.is_none(), "one is under way");
        assert_eq!(links(&tasks.add(&bob, vec![task(3)]).first), [3], "others do not wait");
        assert_eq!((links(&tasks.next(&ann)), links(&tasks.next(&ann))), (vec![1], vec![2]));
        assert!(tasks.next(&ann).is_none() && tasks.next(&bob).is_none());
        assert_eq!((tasks.len(), tasks.waiting.len()), (0, 0));
        assert!(tasks.next(&ann).is_none(), "nothing was under way");
    }

    #[test]
    fn an_id_has_no_more_than_it_leaves_free() {
        let (mut tasks, ann, bob) = (MessageTasks::new(8), SubscriberId::new("", "ann"), SubscriberId::new("", "bob"));
        assert_eq!(links(&tasks.add(&ann, (0..6).map(task).collect()).dropped), [4, 5]);
        assert_eq!(links(&tasks.add(&bob, (0..6).map(task).collect()).dropped), [2, 3, 4, 5]);
        assert_eq!(tasks.len(), 6);
        assert_eq!(links(&tasks.give_up(&ann)), [1, 2, 3]);
        assert!(tasks.next(&ann).is_none());
        assert_eq!(tasks.len(), 2);
    }
}
