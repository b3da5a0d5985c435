//! How many lines of one kind are written in a second. A kind is one place in the code: what it says of which client may
//! differ.
//!
//! When a second is over, one line says how many of a kind were left out in it, and what they said.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::OWN_TARGET;

/// The time in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// The limit. Clones share what they count.
#[derive(Clone)]
pub struct RateLimit {
    /// Lines of one kind in a window at most; 0: as many as there are.
    most: u32,
    kinds: Arc<Mutex<HashMap<Identifier, Kind>>>,
}

/// One place in the code that logs. There are as many as such places.
struct Kind {
    window: Instant,
    written: u32,
    left_out: LeftOut,
}

/// Lines of one kind that were not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub lines: u64,
    /// What the first of them said, without its values.
    pub message: String,
    /// Its target.
    pub target: &'static str,
}

impl RateLimit {
    /// A limit of `most` lines of one kind in a second; 0: as many as there are.
    pub fn new(most: u32) -> Self {
        RateLimit { most, kinds: Arc::default() }
    }

    /// Whether one more line of a kind may be written. `message` is asked for the first that may not.
    fn allows(&self, kind: Identifier, target: &'static str, now: Instant, message: impl FnOnce() -> String) -> bool {
        if self.most == 0 || target == OWN_TARGET {
            return true;
        }
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            window: now,
            written: 0,
            left_out: LeftOut { lines: 0, message: String::new(), target },
        });
        if now.duration_since(kind.window) >= WINDOW {
            (kind.window, kind.written) = (now, 0);
        }
        if kind.written < self.most {
            kind.written += 1;
            return true;
        }
        if kind.left_out.lines == 0 {
            kind.left_out.message = message();
        }
        kind.left_out.lines += 1;
        false
    }

    /// What was left out of the windows that are over, of all of them if it is the `end`; told once.
    pub fn left_out(&self, now: Instant, end: bool) -> Vec<LeftOut> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |kind: &&mut Kind| kind.left_out.lines > 0 && (end || now.duration_since(kind.window) >= WINDOW);
        let take = |kind: &mut Kind| {
            let left_out = kind.left_out.clone();
            kind.left_out.lines = 0;
            left_out
        };
        kinds.values_mut().filter(over).map(take).collect()
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        self.allows(metadata.callsite(), metadata.target(), Instant::now(), || {
            let mut message = Message(String::new());
            event.record(&mut message);
            message.0
        })
    }
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a string does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two places in the code.
    struct Place(#[expect(dead_code, reason = "two places have two addresses")] u8);

    impl tracing::Callsite for Place {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("nothing is logged there")
        }
    }

    static PLACES: [Place; 2] = [Place(1), Place(2)];

    fn kinds() -> [Identifier; 2] {
        [tracing::callsite::Identifier(&PLACES[0]), tracing::callsite::Identifier(&PLACES[1])]
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_by_kind_and_told_when_the_second_is_over() {
        let (limit, start, [first, second]) = (RateLimit::new(2), Instant::now(), kinds());
        let allows = |kind: &Identifier, at| limit.allows(kind.clone(), "t", at, || "refused".to_owned());
        assert_eq!([(); 5].map(|()| allows(&first, start)), [true, true, false, false, false]);
        assert!(allows(&second, start), "another kind has a limit of its own");
        assert!(limit.left_out(start, false).is_empty(), "more may follow");
        let left_out = LeftOut { lines: 3, message: "refused".to_owned(), target: "t" };
        assert_eq!(limit.left_out(start + WINDOW, false), [left_out]);
        assert!(limit.left_out(start + WINDOW, true).is_empty(), "it is told once");
        assert!(allows(&first, start + WINDOW), "another second");
    }

    #[test]
    fn nothing_is_left_out_without_a_limit_and_of_lines_about_others() {
        let (start, [first, _]) = (Instant::now(), kinds());
        let none = || panic!("nothing is left out");
        assert!((0..1000).all(|_| RateLimit::new(0).allows(first.clone(), "t", start, none)));
        let limit = RateLimit::new(1);
        assert!((0..1000).all(|_| limit.allows(first.clone(), OWN_TARGET, start, none)));
    }
}
