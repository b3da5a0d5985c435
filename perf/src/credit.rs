//! The closed loop: who may publish next.
//!
//! A message takes one credit and gives it back when every subscriber is done with it, or when it has been on its way for so long that it must be
//! lost.

use std::ops::Range;

use crate::scenario::Share;

/// The credit of all publishers.
#[derive(Debug)]
pub struct Credit {
    left: Left,
    copies: u32,
    /// By publisher.
    ages: Vec<Age>,
    /// How many subscribers are not done with a message: `ring` places per publisher, by sequence number. As subscribers are done with
    /// messages in order, those that are outstanding are never further apart than there is credit. Unused if there is one copy.
    waiting: Vec<u32>,
    ring: usize,
}

/// The credit that is left.
#[derive(Debug)]
enum Left {
    /// One credit for all, who take turns.
    Common { left: u32, turn: u32, publishers: u32 },
    /// A credit for each. `ready` are the publishers that have some, each once, but for those that could not use it now.
    Own { left: Vec<u32>, ready: Vec<u32>, postponed: Vec<u32> },
}

/// What a publisher has outstanding.
#[derive(Clone, Debug, Default)]
struct Age {
    /// Messages before this one were given up.
    base: u32,
    /// Messages before this one are old.
    mark: u32,
    /// How many are outstanding from base to mark.
    old: u32,
    /// How many are outstanding from mark on.
    young: u32,
}

impl Credit {
    /// Full credit of `outstanding` messages, all together, with `copies` deliveries each, for `publishers` publishers.
    pub fn new(publishers: usize, outstanding: usize, share: Share, copies: usize) -> Self {
        let left = match share {
            Share::Turns => Left::Common { left: outstanding as u32, turn: 0, publishers: publishers as u32 },
            Share::Own => Left::Own {
                left: vec![(outstanding / publishers) as u32; publishers],
                ready: (0..publishers as u32).collect(),
                postponed: Vec::new(),
            },
        };
        let ring = if copies > 1 { outstanding.next_power_of_two() } else { 0 };
        Credit {
            left,
            copies: copies as u32,
            ages: vec![Age::default(); publishers],
            waiting: vec![0; publishers * ring],
            ring,
        }
    }

    /// A publisher that may publish. He must [`spend`](Credit::spend), or be [`postponed`](Credit::postpone) if he cannot.
    #[inline]
    pub fn next(&mut self) -> Option<u32> {
        match &mut self.left {
            Left::Common { left: 0, .. } => None,
            Left::Common { turn, publishers, .. } => {
                let publisher = *turn;
                *turn = (publisher + 1) % *publishers;
                Some(publisher)
            }
            Left::Own { ready, .. } => ready.pop(),
        }
    }

    /// Takes the credit for message number `sequence` of `publisher`, whose turn it is.
    #[inline]
    pub fn spend(&mut self, publisher: u32, sequence: u32) {
        match &mut self.left {
            Left::Common { left, .. } => *left -= 1,
            Left::Own { left, ready, .. } => {
                let left = &mut left[publisher as usize];
                *left -= 1;
                if *left > 0 {
                    ready.push(publisher);
                }
            }
        }
        self.ages[publisher as usize].young += 1;
        if self.ring > 0 {
            let place = self.place(publisher, sequence);
            self.waiting[place] = self.copies;
        }
    }

    /// The publisher whose turn it is cannot publish now. He comes again after [`resume`](Credit::resume), or when it is his turn.
    pub fn postpone(&mut self, publisher: u32) {
        if let Left::Own { postponed, .. } = &mut self.left {
            postponed.push(publisher);
        }
    }

    /// Lets publishers that were postponed try again.
    pub fn resume(&mut self) {
        if let Left::Own { ready, postponed, .. } = &mut self.left {
            ready.append(postponed);
        }
    }

    /// One subscriber is done with these messages of `publisher`.
    #[inline]
    pub fn done(&mut self, publisher: u32, sequences: Range<u32>) {
        let from = sequences.start.max(self.ages[publisher as usize].base);
        for sequence in from..sequences.end {
            if self.ring > 0 {
                let place = self.place(publisher, sequence);
                self.waiting[place] -= 1;
                if self.waiting[place] > 0 {
                    continue;
                }
            }
            let age = &mut self.ages[publisher as usize];
            if sequence < age.mark {
                age.old -= 1;
            } else {
                age.young -= 1;
            }
            self.left.give(publisher, 1);
        }
    }

    /// Gives up every message that was outstanding when this was called last, and gives how many those were. `published` is how many
    /// messages each publisher published.
    pub fn give_up_old(&mut self, published: &[u32]) -> u64 {
        let mut given_up = 0;
        for (publisher, (age, &published)) in self.ages.iter_mut().zip(published).enumerate() {
            given_up += u64::from(age.old);
            self.left.give(publisher as u32, age.old);
            *age = Age { base: age.mark, mark: published, old: age.young, young: 0 };
        }
        given_up
    }

    #[inline]
    fn place(&self, publisher: u32, sequence: u32) -> usize {
        publisher as usize * self.ring + (sequence as usize & (self.ring - 1))
    }
}

impl Left {
    #[inline]
    fn give(&mut self, publisher: u32, count: u32) {
        match self {
            Left::Common { left, .. } => *left += count,
            Left::Own { left, ready, .. } => {
                let left = &mut left[publisher as usize];
                if *left == 0 && count > 0 {
                    ready.push(publisher);
                }
                *left += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spends all credit. Gives who published, in order.
    fn spend_all(credit: &mut Credit, sequences: &mut [u32]) -> Vec<u32> {
        let mut published = Vec::new();
        while let Some(publisher) = credit.next() {
            credit.spend(publisher, sequences[publisher as usize]);
            sequences[publisher as usize] += 1;
            published.push(publisher);
        }
        published
    }

    #[test]
    fn publishers_take_turns_with_what_comes_back() {
        let mut credit = Credit::new(3, 4, Share::Turns, 1);
        let mut sequences = [0; 3];
        assert_eq!(spend_all(&mut credit, &mut sequences), [0, 1, 2, 0]);
        credit.done(0, 0..2);
        assert_eq!(spend_all(&mut credit, &mut sequences), [1, 2]);
        credit.done(1, 0..0);
        assert!(spend_all(&mut credit, &mut sequences).is_empty());
    }

    #[test]
    fn publishers_with_credit_of_their_own_get_it_back() {
        let mut credit = Credit::new(2, 4, Share::Own, 1);
        let mut sequences = [0; 2];
        assert_eq!(spend_all(&mut credit, &mut sequences).len(), 4);
        credit.done(1, 0..2);
        assert_eq!(spend_all(&mut credit, &mut sequences), [1, 1]);
        credit.done(0, 0..1);
        let publisher = credit.next().unwrap();
        credit.postpone(publisher);
        assert!(spend_all(&mut credit, &mut sequences).is_empty());
        credit.resume();
        assert_eq!(spend_all(&mut credit, &mut sequences), [0]);
    }

    #[test]
    fn a_message_to_many_is_complete_with_the_last_of_them() {
        let mut credit = Credit::new(1, 3, Share::Turns, 2);
        let mut sequences = [0];
        for _ in 0..5 {
            let first = sequences[0];
            assert_eq!(spend_all(&mut credit, &mut sequences).len(), 3);
            credit.done(0, first..first + 3);
            assert_eq!(spend_all(&mut credit, &mut sequences).len(), 0);
            credit.done(0, first..first + 1);
            credit.done(0, first + 1..first + 3);
        }
    }

    #[test]
    fn what_was_given_up_gives_nothing_back_later() {
        let mut credit = Credit::new(1, 4, Share::Turns, 2);
        let mut sequences = [0];
        spend_all(&mut credit, &mut sequences);
        credit.done(0, 0..4);
        credit.done(0, 0..1);
        assert_eq!(credit.give_up_old(&sequences), 0);
        assert_eq!(spend_all(&mut credit, &mut sequences).len(), 1);
        assert_eq!(credit.give_up_old(&sequences), 3);
        assert_eq!(spend_all(&mut credit, &mut sequences).len(), 3);
        credit.done(0, 1..4);
        assert_eq!(spend_all(&mut credit, &mut sequences).len(), 0);
        credit.done(0, 4..5);
        credit.done(0, 4..5);
        assert_eq!(spend_all(&mut credit, &mut sequences).len(), 1);
    }
}
