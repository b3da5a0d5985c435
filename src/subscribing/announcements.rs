//! What this shard tells all others of its filters, and how far they have taken it in.

use std::collections::VecDeque;

/// Announcements, numbered from 1. Each goes to all other shards, and each of these answers it, in the order in which they were made.
pub struct Announcements {
    /// How many other shards there are.
    others: usize,
    /// By shard, how many it has answered.
    answered: Vec<u64>,
    /// How many all have answered: those with these numbers.
    complete: u64,
    /// For each of the others, how many shards have not answered it.
    unanswered: VecDeque<usize>,
}

impl Announcements {
    /// None was made, on one of `shards`.
    pub fn new(shards: usize) -> Self {
        Announcements { others: shards - 1, answered: vec![0; shards], complete: 0, unanswered: VecDeque::new() }
    }

    /// The number of the next.
    pub fn next(&self) -> u64 {
        self.complete + self.unanswered.len() as u64 + 1
    }

    /// One is made. Gives its number.
    pub fn make(&mut self) -> u64 {
        let number = self.next();
        match self.others {
            0 => self.complete = number,
            others => self.unanswered.push_back(others),
        }
        number
    }

    /// A shard has answered the next. Gives its number.
    pub fn answered(&mut self, from: usize) -> u64 {
        self.answered[from] += 1;
        let number = self.answered[from];
        let at = number.checked_sub(self.complete + 1);
        if let Some(unanswered) = at.and_then(|at| self.unanswered.get_mut(at as usize)) {
            *unanswered -= 1;
        }
        // Who has answered one has answered those before.
        while self.unanswered.front() == Some(&0) {
            self.unanswered.pop_front();
            self.complete += 1;
        }
        number
    }

    /// Whether all have answered all of them.
    pub fn are_complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Whether all have answered this one.
    pub fn is_complete(&self, number: u64) -> bool {
        number <= self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_complete_when_all_other_shards_have_answered_it() {
        let mut announcements = Announcements::new(3);
        assert_eq!((announcements.next(), announcements.make(), announcements.make()), (1, 1, 2));
        assert_eq!([0, 0].map(|from| announcements.answered(from)), [1, 2]);
        assert!(announcements.is_complete(0) && !announcements.is_complete(1), "the other one has not answered");
        assert_eq!(announcements.answered(2), 1);
        assert!(announcements.is_complete(1) && !announcements.is_complete(2));
        assert_eq!((announcements.answered(2), announcements.next()), (2, 3));
        assert!(announcements.is_complete(2) && !announcements.is_complete(3));
    }

    #[test]
    fn a_shard_without_others_has_nobody_to_wait_for() {
        let mut announcements = Announcements::new(1);
        let number = announcements.make();
        assert!(announcements.is_complete(number) && announcements.next() == number + 1);
    }
}
