//! Clients that wait because the journal has no room: publishers, and those whose messages are in pages of the archive, since these are recorded when
//! they are sent. An operator hears of it if that lasts, and when it is over.

use std::time::Duration;

use crate::client::ConnectionId;

/// Clients wait for so long before it is told: what is needed is written again in less, as a rule.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// Clients that are not served before the journal has room.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    waiting: Vec<ConnectionId>,
    /// Those that are sent nothing out of pages.
    unsent: Vec<ConnectionId>,
    since: Option<Duration>,
    is_told: bool,
}

impl Standstill {
    /// One more waits.
    pub fn wait(&mut self, id: ConnectionId, now: Duration) {
        self.waiting.push(id);
        self.since.get_or_insert(now);
    }

    /// One more is sent nothing.
    pub fn hold(&mut self, id: ConnectionId, now: Duration) {
        self.unsent.push(id);
        self.since.get_or_insert(now);
    }

    /// How many wait; some may have left.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.unsent.len()
    }

    /// Those that are sent nothing are tried again. For how long it lasts is counted on.
    pub fn try_unsent(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.unsent)
    }

    /// Whether anybody has waited since the last one ended.
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// They wait no more; those that are sent nothing are [tried](Self::try_unsent) by then. Says for how long they did, too, if it was told that they do.
    pub fn end(&mut self, now: Duration) -> (Vec<ConnectionId>, Option<Duration>) {
        debug_assert!(self.unsent.is_empty(), "they are tried before");
        let Standstill { waiting, since, is_told, .. } = std::mem::take(self);
        (waiting, since.filter(|_| is_told).map(|since| now.saturating_sub(since)))
    }

    /// When it is to be told that they wait.
    pub fn told_at(&self) -> Option<Duration> {
        self.since.filter(|_| !self.is_told).map(|since| since + TOLD_AFTER)
    }

    /// Whether it is to be told now, once.
    pub fn is_to_be_told(&mut self, now: impl FnOnce() -> Duration) -> bool {
        let is_due = self.told_at().is_some_and(|at| now() >= at);
        self.is_told |= is_due;
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once_and_its_end_is() {
        let (mut standstill, id) = (Standstill::default(), ConnectionId::new(1, 1));
        let at = |seconds| move || Duration::from_secs(seconds);
        assert!(standstill.told_at().is_none() && !standstill.is_to_be_told(at(100)));
        standstill.wait(id, at(100)());
        standstill.wait(id, at(103)());
        assert!(!standstill.is_to_be_told(at(104)) && standstill.told_at() == Some(at(105)()));
        assert_eq!(standstill.end(at(104)()), (vec![id, id], None), "it was short");
        standstill.wait(id, at(110)());
        assert!(standstill.is_to_be_told(at(115)) && !standstill.is_to_be_told(at(116)));
        assert!(standstill.told_at().is_none() && standstill.waiting() == 1);
        standstill.hold(id, at(116)());
        assert_eq!((standstill.waiting(), standstill.try_unsent()), (2, vec![id]));
        assert_eq!(standstill.end(at(130)()), (vec![id], Some(at(20)())));
        assert_eq!(standstill.waiting(), 0);
        standstill.hold(id, at(140)());
        assert_eq!(standstill.try_unsent(), [id]);
        assert!(standstill.has_begun(), "it may have to wait again");
        assert_eq!(standstill.end(at(141)()), (Vec::new(), None));
        assert!(!standstill.has_begun() && standstill.told_at().is_none());
    }
}
