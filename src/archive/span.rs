//! Keys that are next to one another.

use std::ops::Bound;

use super::key::{ArchiveKey, PAGE, RETAINED, STATE, of_mountpoint, of_session};
use crate::session::{Key, StoreNumber};

/// Keys that are next to one another, from one up to another, which does not belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Span {
    /// All sessions, each with its subscriptions and the summaries of its pages behind it.
    pub fn sessions() -> Self {
        Span::of_prefix(vec![STATE])
    }

    /// A session, its subscriptions and the summaries of its pages; not its pages.
    pub fn session(session: StoreNumber) -> Self {
        Span::of_prefix(of_session(STATE, session).to_vec())
    }

    /// The pages of a session.
    pub fn pages(session: StoreNumber) -> Self {
        Span::of_prefix(of_session(PAGE, session).to_vec())
    }

    /// The pages of a session that begin with this message or a later one.
    pub fn pages_from(session: StoreNumber, first: Key) -> Self {
        Span { start: ArchiveKey::Page(session, first).to_bytes(), ..Span::pages(session) }
    }

    /// The pages of all sessions.
    pub fn all_pages() -> Self {
        Span::of_prefix(vec![PAGE])
    }

    /// All retained messages: by the length of their mountpoint's name, mountpoint and topic.
    pub fn retained() -> Self {
        Span::of_prefix(vec![RETAINED])
    }

    /// The retained messages of a mountpoint.
    pub fn retained_of(mountpoint: &str) -> Self {
        Span::of_prefix(of_mountpoint(mountpoint))
    }

    /// What of it is behind this key, where another look has ended.
    #[must_use]
    pub fn behind(mut self, key: ArchiveKey<'_>) -> Self {
        let mut start = key.to_bytes();
        start.push(0);
        self.start = self.start.max(start);
        self
    }

    /// The bytes of the first key that it may have.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The bytes of a key behind all that it has.
    pub fn end(&self) -> &[u8] {
        &self.end
    }

    /// Both, for the `range` of a map. It panics if the span [is empty](Span::is_empty).
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.start), Bound::Excluded(&self.end))
    }

    /// Whether there can be nothing in it.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// All keys that begin with these bytes.
    fn of_prefix(start: Vec<u8>) -> Self {
        let mut end = start.clone();
        // No key begins with 255, so there is a byte that can be raised.
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        Span { start, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(span: &Span, key: ArchiveKey<'_>) -> bool {
        let bytes = key.to_bytes();
        span.start() <= &bytes[..] && &bytes[..] < span.end()
    }

    #[test]
    fn a_span_has_what_its_name_says() {
        let last = StoreNumber::new(StoreNumber::LAST_BOOT, 255, u32::MAX);
        for session in [StoreNumber::new(1, 0, 255), StoreNumber::new(1, 255, u32::MAX), last] {
            let page = ArchiveKey::Page(session, Key::new(3));
            let own = [
                ArchiveKey::Session(session),
                ArchiveKey::Subscription(session, "a"),
                ArchiveKey::Summary(session, Key::new(3)),
            ];
            for key in own {
                assert!(has(&Span::session(session), key) && has(&Span::sessions(), key));
                assert!(!has(&Span::pages(session), key) && !has(&Span::retained(), key));
            }
            assert!(has(&Span::pages(session), page) && has(&Span::all_pages(), page));
            assert!(!has(&Span::session(session), page) && !has(&Span::sessions(), page));
            assert!(has(&Span::pages_from(session, Key::new(3)), page));
            assert!(!has(&Span::pages_from(session, Key::new(4)), page));
            let other = StoreNumber::from_u64(session.get() - 1).expect("a number");
            assert!(!has(&Span::session(session), ArchiveKey::Subscription(other, "\u{10ffff}")));
            assert!(!has(&Span::pages(session), ArchiveKey::Page(other, Key::new((1 << 48) - 2))));
        }
        let retained = ArchiveKey::Retained { mountpoint: "m", topic: "t" };
        assert!(has(&Span::retained(), retained) && has(&Span::retained_of("m"), retained));
        assert!(!has(&Span::retained_of(""), retained) && !has(&Span::retained_of("mt"), retained));
    }

    #[test]
    fn behind_a_key_a_span_goes_on() {
        let session = StoreNumber::new(1, 0, 5);
        let (first, second) = (ArchiveKey::Page(session, Key::new(3)), ArchiveKey::Page(session, Key::new(4)));
        let rest = Span::pages(session).behind(first);
        assert!(!has(&rest, first) && has(&rest, second) && !rest.is_empty());
        assert_eq!(Span::pages_from(session, Key::new(9)).behind(first), Span::pages_from(session, Key::new(9)));
        assert!(Span::session(session).behind(first).is_empty());
    }
}
