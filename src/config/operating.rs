//! What operators set up for themselves: the socket they reach the broker by, and whether it evens out its load by itself.

use std::time::Duration;

use super::kinds::{Flag, Word, socket_path};
use super::numbers::{COUNT_MAX, Count, DAY, Span, WAIT};
use super::walk::settings;

settings! {
    /// How operators reach a running broker, with `moormq ctl`.
    pub struct ControlConfig {
        /// A Unix socket. Whoever may open it may do whatever `moormq ctl` can: it is made with mode 0600, for the user that
        /// the broker runs as. One that a broker left behind is replaced. A relative path counts from where the broker was
        /// started. `./none` is a socket of that name.
        /// Allowed: "none" or the path of a socket, of at most 90 bytes, such as "/run/moormq/control"; default "none".
        pub socket: Option<String> = None, Word("none", socket_path());
    }
}

settings! {
    /// Whether the broker moves clients from a shard that is busier than the others. What counts are the PUBLISH packets
    /// that clients send and are sent; clients move by slots, of which there are 4096, and notice nothing.
    pub struct RebalanceConfig {
        /// Whether it does. `moormq ctl shards rebalance` does it once, whatever stands here.
        /// Allowed: true or false; default false.
        pub enabled: bool = false, Flag;
        /// How often the messages of shards are compared.
        /// Allowed: a duration from "100ms" to "1h"; default "10s".
        pub interval: Duration = Duration::from_secs(10), WAIT;
        /// How many messages a shard must have to be too busy, in percent of what the others have on average.
        /// Allowed: 110 to 10000; default 150.
        pub threshold: u32 = 150, Count(110..=10_000);
        /// For how many intervals in a row the same shard must be too busy before anything moves.
        /// Allowed: 1 to 1000; default 3.
        pub intervals: u32 = 3, Count(1..=1000);
        /// A shard with fewer messages a second than this is never too busy.
        /// Allowed: 1 to 1000000000; default 1000.
        pub min_rate: usize = 1000, Count(1..=COUNT_MAX);
        /// Slots that move at a time, at most.
        /// Allowed: 1 to 4096; default 64.
        pub max_slots: usize = 64, Count(1..=4096);
        /// Sessions that move at a time, at most.
        /// Allowed: 1 to 1000000000; default 10000.
        pub max_sessions: usize = 10_000, Count(1..=COUNT_MAX);
        /// How long nothing moves after something did: the next comparison begins when that is over.
        /// Allowed: a duration from "0s" to "1day"; default "1m".
        pub cool_down: Duration = Duration::from_secs(60), Span(Duration::ZERO..=DAY);
    }
}
