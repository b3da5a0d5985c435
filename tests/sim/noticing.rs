//! The later work of notifications: for each subscriber id one after the other, in the order of the calls, and done before the
//! next registration.

use crate::history::LATER_DEADLINE;
use crate::judge::Judge;

/// The later work of one notification.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    number: u32,
    /// Since when nothing is before it, in milliseconds: so long it has been under way, at most.
    since: u64,
}

const ONE_BY_ONE: &str = "hooks: later work of notifications is done in order";

impl Judge {
    pub fn notice_begins(&mut self, subject: usize, serial: u32, number: u32) {
        self.connection(serial).notices += 1;
        let since = self.now;
        self.subjects[subject].notices.push_back(Notice { number, since });
    }

    pub fn notice_starts(&mut self, subject: usize, number: u32) {
        let one = &self.subjects[subject];
        if one.notices.front().is_none_or(|first| first.number != number) {
            let detail = format!("{}: {number} is under way, of {:?}", one.id, one.notices);
            self.find(ONE_BY_ONE, detail);
        }
    }

    pub fn notice_done(&mut self, subject: usize, serial: u32, number: u32) {
        self.connection(serial).notices -= 1;
        let notices = &mut self.subjects[subject].notices;
        notices.retain(|notice| notice.number != number);
        if let Some(next) = notices.front_mut() {
            next.since = self.now;
        }
    }

    /// A client is registered. Work that has reached its deadline was given up; its record is about to come.
    pub fn must_be_noticed(&mut self, subject: usize) {
        let one = &self.subjects[subject];
        let deadline = LATER_DEADLINE.as_millis() as u64;
        let given_up = one.notices.front().is_some_and(|first| first.since + deadline <= self.now);
        if one.notices.len() > usize::from(given_up) {
            let detail = format!("{} is registered before {:?}", one.id, one.notices);
            self.find(ONE_BY_ONE, detail);
        }
    }
}
