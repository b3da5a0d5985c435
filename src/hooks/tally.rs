//! What one link counts of its hooks, while it is asked and called.
//!
//! Every link has its tallies in itself, one for each hook at a place that is known when the chain is compiled: counting an
//! answer is one addition to one word. A hook that is not there says so (`Answer::Absent`, [`Notice::absent`]), and the
//! compiler drops its counting with it. Nothing is shared, so there is no lock and no atomic.
//!
//! [`Notice::absent`]: super::Notice::absent

use std::time::Duration;

use super::counts::{CountsByHook, HookCounts};
use super::list::for_every_hook;

/// What a hook's answer was, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes; of a notification: it is done.
    Ok,
    /// No opinion.
    Next,
    /// No.
    Refused,
    /// It panicked.
    Panicked,
    /// It did not answer before its deadline.
    TimedOut,
    /// Its task was not run: too many waited.
    Dropped,
}

/// A clock by which answers given now are timed: nanoseconds since some moment, never going back.
#[derive(Clone, Copy, Debug)]
pub struct HookClock(pub fn() -> u64);

impl Default for HookClock {
    /// A clock that stands still: nothing takes any time.
    fn default() -> Self {
        HookClock(|| 0)
    }
}

/// Of how many calls of a hook one is timed, once there were that many. Two looks at the clock cost some 100 ns, on machines
/// without a fast clock ten times as much: this makes it less than a nanosecond for each call.
const TIMED_OF: u64 = 1024;

/// What one link counted of one hook. There is one for each hook and link on each shard; what is counted on every call
/// comes first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    ok: u64,
    next: u64,
    refused: u64,
    panicked: u64,
    /// Calls that ended, while the link has its answers timed.
    turn: u64,
    later: u64,
    /// Of those, how many have been counted above since.
    settled: u64,
    timed_out: u64,
    dropped: u64,
    waited: Duration,
    timed: u64,
    timed_nanos: u64,
}

/// The time of one call, if it is one of those that are timed.
#[derive(Clone, Copy)]
pub(super) struct Stopwatch {
    counts: bool,
    started: Option<u64>,
    clock: HookClock,
}

impl Tally {
    /// Begins to time a call, if `timed` says that the link wants that and it is the turn of this call: one in
    /// [`TIMED_OF`], and, so that something is known of rare ones, the second, third, fifth, ninth and so on. The first call
    /// is never timed: that is how a hook that is not there is never timed either.
    #[inline(always)]
    pub(super) fn begin(&self, timed: bool, clock: HookClock) -> Stopwatch {
        let is_due = timed && (self.turn % TIMED_OF == 1 || self.turn.is_power_of_two());
        let started = if is_due { Some((clock.0)()) } else { None };
        Stopwatch { counts: timed, started, clock }
    }

    /// The hook has answered now.
    #[inline(always)]
    pub(super) fn answered(&mut self, outcome: Outcome, stopwatch: Stopwatch) {
        self.end(stopwatch);
        self.count(outcome);
    }

    /// The hook will answer later.
    #[inline(always)]
    pub(super) fn put_off(&mut self, stopwatch: Stopwatch) {
        self.end(stopwatch);
        self.later += 1;
    }

    /// A later answer is here, or will not come.
    pub(super) fn settle(&mut self, outcome: Outcome, waited: Duration) {
        self.settled += u64::from(!matches!(outcome, Outcome::TimedOut | Outcome::Dropped));
        self.waited += waited;
        self.count(outcome);
    }

    #[inline(always)]
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Next => self.next += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Panicked => self.panicked += 1,
            Outcome::TimedOut => self.timed_out += 1,
            Outcome::Dropped => self.dropped += 1,
        }
    }

    #[inline(always)]
    fn end(&mut self, stopwatch: Stopwatch) {
        if stopwatch.counts {
            self.turn += 1;
            if let Some(started) = stopwatch.started {
                self.timed += 1;
                self.timed_nanos += (stopwatch.clock.0)().saturating_sub(started);
            }
        }
    }

    /// What was counted; none if the hook was never called.
    fn counts(&self) -> Option<HookCounts> {
        let at_once = self.ok + self.next + self.refused + self.panicked - self.settled;
        let calls = at_once + self.later;
        let estimate = u128::from(self.timed_nanos) * u128::from(calls) / u128::from(self.timed.max(1));
        (calls > 0).then(|| HookCounts {
            calls,
            next: self.next,
            ok: self.ok,
            refusals: self.refused,
            later: self.later,
            timeouts: self.timed_out,
            dropped: self.dropped,
            panics: self.panicked,
            time: Duration::from_nanos(u64::try_from(estimate).unwrap_or(u64::MAX)),
            waited: self.waited,
        })
    }
}

macro_rules! define_tallies {
    (
        conditional { $($ask:ident($ask_arg:ident: $Ask:ty) -> $Modifiers:ty, $Refusal:ty as $variant:ident;)* }
        rewriting { $($rewrite:ident($rewrite_arg:ident: $Rewrite:ty) -> $Rewritten:ty;)* }
        notifications { $($tell:ident($($tell_arg:ident: $Tell:ty),*);)* }
    ) => {
        /// What one link counted, by hook.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Tallies {
            $(pub(super) $ask: Tally,)*
            $(pub(super) $rewrite: Tally,)*
            $(pub(super) $tell: Tally,)*
        }

        impl Tallies {
            /// That of the hook of this name.
            pub(super) fn of(&mut self, hook: &str) -> Option<&mut Tally> {
                match hook {
                    $(stringify!($ask) => Some(&mut self.$ask),)*
                    $(stringify!($rewrite) => Some(&mut self.$rewrite),)*
                    $(stringify!($tell) => Some(&mut self.$tell),)*
                    _ => None,
                }
            }

            /// The hooks that were called, and what was counted of them.
            pub(super) fn counts(&self) -> CountsByHook {
                let all = [
                    $((stringify!($ask), &self.$ask),)*
                    $((stringify!($rewrite), &self.$rewrite),)*
                    $((stringify!($tell), &self.$tell),)*
                ];
                all.into_iter().filter_map(|(hook, tally)| Some((hook, tally.counts()?))).collect()
            }
        }
    };
}

for_every_hook!(define_tallies);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NANOS: Cell<u64> = const { Cell::new(0) };
    }

    /// Each look takes 10 ns.
    fn ticking() -> u64 {
        NANOS.with(|nanos| nanos.replace(nanos.get() + 10))
    }

    #[test]
    fn few_calls_are_timed_for_all() {
        let mut tally = Tally::default();
        let clock = HookClock(ticking);
        for _ in 0..10_000 {
            let stopwatch = tally.begin(true, clock);
            tally.answered(Outcome::Next, stopwatch);
        }
        // Those after 1, 2, 4 ... 8192, and after 1025, 2049 ... 9217 others.
        assert_eq!(tally.timed, 14 + 9);
        assert_eq!(NANOS.get(), 2 * 23 * 10, "it was looked at twice for each of those");
        let counts = tally.counts().expect("it was called");
        assert_eq!((counts.calls, counts.time), (10_000, Duration::from_micros(100)));
    }

    #[test]
    fn who_does_not_ask_for_it_is_not_timed() {
        let mut tally = Tally::default();
        for _ in 0..200 {
            let stopwatch = tally.begin(false, HookClock(|| panic!("nobody looks at the clock")));
            tally.answered(Outcome::Ok, stopwatch);
        }
        assert_eq!(tally.counts().map(|counts| (counts.calls, counts.time)), Some((200, Duration::ZERO)));
    }

    #[test]
    fn a_call_is_one_call_when_it_answers_now_and_when_later() {
        let mut tally = Tally::default();
        assert!(tally.counts().is_none());
        let stopwatch = tally.begin(false, HookClock::default());
        use Outcome::{Dropped, Next, Ok, Panicked, Refused, TimedOut};
        for outcome in [Ok, Next, Refused, Panicked, TimedOut, Dropped] {
            tally.put_off(stopwatch);
            tally.settle(outcome, Duration::from_millis(3));
        }
        tally.put_off(stopwatch);
        tally.answered(Outcome::Ok, stopwatch);
        let counts = tally.counts().expect("it was called");
        assert_eq!((counts.calls, counts.later, counts.waited), (8, 7, Duration::from_millis(18)));
        assert_eq!((counts.ok, counts.next, counts.refusals), (2, 1, 1));
        assert_eq!((counts.timeouts, counts.panics, counts.dropped), (1, 1, 1));
    }
}
