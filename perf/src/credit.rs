//! The closed loop: how many more messages each publisher may send.
//!
//! A message takes one credit of its publisher, and gives it back when every subscriber is done with it.

use std::ops::Range;

/// The credit of all publishers.
#[derive(Debug)]
pub struct Credit {
    each: u32,
    copies: u32,
    /// By publisher.
    left: Vec<u32>,
    /// The publishers that have credit left and are not being served, each once.
    ready: Vec<u32>,
    /// By publisher: messages before this one were given up, and give nothing back.
    base: Vec<u32>,
    /// By publisher: whether a subscriber was done with a message since the last [`Credit::give_up_stuck`].
    moved: Vec<bool>,
    /// How many subscribers are not done with a message: `ring` places per publisher, by sequence number. As subscribers are done with
    /// messages in order, those that are outstanding are never more than `each` apart. Unused if there is one copy.
    waiting: Vec<u32>,
    ring: usize,
}

impl Credit {
    /// Full credit of `each` messages with `copies` deliveries for `publishers` publishers.
    pub fn new(publishers: usize, each: usize, copies: usize) -> Self {
        let ring = if copies > 1 { each.next_power_of_two() } else { 0 };
        Credit {
            each: each as u32,
            copies: copies as u32,
            left: vec![each as u32; publishers],
            ready: (0..publishers as u32).collect(),
            base: vec![0; publishers],
            moved: vec![false; publishers],
            waiting: vec![0; publishers * ring],
            ring,
        }
    }

    /// Moves the publishers that have credit to the end of `serve`. Whoever is taken must be served until his credit is gone, or handed
    /// [back](Credit::put_back).
    pub fn take_ready(&mut self, serve: &mut Vec<u32>) {
        serve.append(&mut self.ready);
    }

    /// Hands back a publisher that could not use all its credit now.
    pub fn put_back(&mut self, publisher: u32) {
        self.ready.push(publisher);
    }

    /// Whether `publisher` has credit.
    #[inline]
    pub fn has(&self, publisher: u32) -> bool {
        self.left[publisher as usize] > 0
    }

    /// Takes the credit for message number `sequence` of `publisher`, who has some.
    #[inline]
    pub fn spend(&mut self, publisher: u32, sequence: u32) {
        self.left[publisher as usize] -= 1;
        if self.ring > 0 {
            let place = self.place(publisher, sequence);
            self.waiting[place] = self.copies;
        }
    }

    /// One subscriber is done with these messages of `publisher`.
    #[inline]
    pub fn done(&mut self, publisher: u32, sequences: Range<u32>) {
        self.moved[publisher as usize] |= !sequences.is_empty();
        let from = sequences.start.max(self.base[publisher as usize]);
        let mut complete = sequences.end.saturating_sub(from);
        if self.ring > 0 {
            complete = 0;
            for sequence in from..sequences.end {
                let place = self.place(publisher, sequence);
                self.waiting[place] -= 1;
                complete += u32::from(self.waiting[place] == 0);
            }
        }
        self.give(publisher, complete);
    }

    /// Gives up the messages of every publisher that has no credit and of whom nobody was done with anything since this was called
    /// last: full credit for him. `published` is how many messages each of them published. Gives how many publishers that were.
    pub fn give_up_stuck(&mut self, published: &[u32]) -> u64 {
        let mut stuck = 0;
        for (publisher, &published) in published.iter().enumerate() {
            let moved = std::mem::take(&mut self.moved[publisher]);
            if !moved && self.left[publisher] == 0 {
                self.base[publisher] = published;
                self.give(publisher as u32, self.each);
                stuck += 1;
            }
        }
        stuck
    }

    #[inline]
    fn give(&mut self, publisher: u32, count: u32) {
        let left = &mut self.left[publisher as usize];
        if *left == 0 && count > 0 {
            self.ready.push(publisher);
        }
        *left += count;
    }

    #[inline]
    fn place(&self, publisher: u32, sequence: u32) -> usize {
        publisher as usize * self.ring + (sequence as usize & (self.ring - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(credit: &mut Credit, sequence: &mut u32) -> u32 {
        let mut serve = Vec::new();
        credit.take_ready(&mut serve);
        let mut spent = 0;
        for publisher in serve {
            assert_eq!(publisher, 0);
            while credit.has(publisher) {
                credit.spend(publisher, *sequence);
                *sequence += 1;
                spent += 1;
            }
        }
        spent
    }

    #[test]
    fn one_copy_gives_back_one_credit() {
        let mut credit = Credit::new(1, 3, 1);
        let mut sequence = 0;
        assert_eq!(spend_all(&mut credit, &mut sequence), 3);
        assert_eq!(spend_all(&mut credit, &mut sequence), 0);
        credit.done(0, 0..1);
        assert_eq!(spend_all(&mut credit, &mut sequence), 1);
        credit.done(0, 1..4);
        credit.done(0, 0..0);
        assert_eq!(spend_all(&mut credit, &mut sequence), 3);
    }

    #[test]
    fn a_message_to_many_is_complete_with_the_last_of_them() {
        let mut credit = Credit::new(1, 3, 2);
        let mut sequence = 0;
        for _ in 0..5 {
            let first = sequence;
            assert_eq!(spend_all(&mut credit, &mut sequence), 3);
            credit.done(0, first..first + 3);
            assert_eq!(spend_all(&mut credit, &mut sequence), 0);
            credit.done(0, first..first + 1);
            credit.done(0, first + 1..first + 3);
        }
    }

    #[test]
    fn what_was_given_up_gives_nothing_back_later() {
        let mut credit = Credit::new(1, 4, 2);
        let mut sequence = 0;
        spend_all(&mut credit, &mut sequence);
        credit.done(0, 0..2);
        assert_eq!(credit.give_up_stuck(&[4]), 0);
        assert_eq!(credit.give_up_stuck(&[4]), 1);
        assert_eq!(spend_all(&mut credit, &mut sequence), 4);
        credit.done(0, 0..4);
        assert_eq!(spend_all(&mut credit, &mut sequence), 0);
        credit.done(0, 0..5);
        credit.done(0, 2..5);
        assert_eq!(spend_all(&mut credit, &mut sequence), 1);
    }
}
