//! What was counted of one hook.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was counted of each hook that was called.
pub type CountsByHook = Vec<(&'static str, HookCounts)>;

/// What one link, or a part of it, counted.
pub struct LinkCounts {
    /// The place of the link in the chain, from 0.
    pub position: usize,
    /// What the link is called, or the part.
    pub name: &'static str,
    /// What it counted.
    pub counts: CountsByHook,
}

/// What was counted of one hook of one link since the start. Serialised, it has the names of [`HookCounts::values`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCounts {
    /// How often it was called.
    pub calls: u64,
    /// Answers *Next*, given now or later.
    pub next: u64,
    /// Answers *Ok*, given now or later; of a notification, how often it was done.
    pub ok: u64,
    /// Answers *Error*, given now or later.
    pub refusals: u64,
    /// Calls that answered later, or left a task to be waited for. Those whose client left first have no other outcome.
    pub later: u64,
    /// Later answers that did not come before their deadline.
    pub timeouts: u64,
    /// Calls and later answers that panicked.
    pub panics: u64,
    /// Tasks of notifications about messages that were not run, because too many waited: `hooks.max_message_tasks`.
    #[serde(default)]
    pub dropped: u64,
    /// The time spent in calls, that is in answers given now: an estimate from one call in 1024 and some of the first. It is
    /// taken only for links that set [`Hook::TIMED`](super::Hook::TIMED), as the program's own link does; else it is 0.
    #[serde(rename = "time_us", with = "micros")]
    pub time: Duration,
    /// The time from question to answer of all later answers together, those that did not come in time included. Taken at
    /// the turns of the shard: to the millisecond.
    #[serde(rename = "waited_us", with = "micros")]
    pub waited: Duration,
}

impl HookCounts {
    /// Names and values of all counters, in the order in which they are shown. Times are in microseconds.
    pub fn values(&self) -> [(&'static str, u64); 10] {
        [
            ("calls", self.calls),
            ("next", self.next),
            ("ok", self.ok),
            ("refusals", self.refusals),
            ("later", self.later),
            ("timeouts", self.timeouts),
            ("panics", self.panics),
            ("dropped", self.dropped),
            ("time_us", micros::of(self.time)),
            ("waited_us", micros::of(self.waited)),
        ]
    }
}

impl AddAssign for HookCounts {
    fn add_assign(&mut self, other: HookCounts) {
        let HookCounts { calls, next, ok, refusals, later, timeouts, panics, dropped, time, waited } = other;
        self.calls += calls;
        self.next += next;
        self.ok += ok;
        self.refusals += refusals;
        self.later += later;
        self.timeouts += timeouts;
        self.panics += panics;
        self.dropped += dropped;
        self.time += time;
        self.waited += waited;
    }
}

/// Durations as whole microseconds.
mod micros {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn of(time: Duration) -> u64 {
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    }

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(of(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_same_names_wherever_they_are_shown() {
        let of = |at: u64| Duration::from_micros(at);
        let counts = HookCounts {
            calls: 1,
            next: 2,
            ok: 3,
            refusals: 4,
            later: 5,
            timeouts: 6,
            panics: 7,
            dropped: 8,
            time: of(9),
            waited: of(10),
        };
        let json = serde_json::to_value(counts).unwrap();
        let shown: serde_json::Map<_, _> =
            counts.values().map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        assert_eq!(json, serde_json::Value::Object(shown));
        assert_eq!(serde_json::from_value::<HookCounts>(json).unwrap(), counts);
    }
}
