//! What survives a restart, and at which price.

use std::time::Duration;

use super::kinds::{Word, directory, one_of};
use super::numbers::{Count, GIB, MIB, SECOND, Size, Span};
use super::values::StoredDurability;
use super::walk::settings;

settings! {
    /// Whether sessions that are kept, what waits for them, and retained messages are on disk, so that they survive the end of the broker. Without
    /// a directory they are in memory alone.
    pub struct StorageConfig {
        /// The directory of the store. It is made if it is not there, for the user that the broker runs as alone; one broker at a time uses it. A
        /// relative path counts from where the broker was started. `./none` is a directory of that name.
        /// Allowed: "none" or the path of a directory, such as "/var/lib/moormq"; default "none".
        pub path: Option<String> = None, Word("none", directory());
        /// What clients can rely on when they have their PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK or CONNACK, and what is stored of their sessions.
        /// "fsynced": it survives a loss of power, if the disk keeps what it says that it has written. "flushed": it survives the end of the broker,
        /// kill -9 included, and a loss of power by chance. "none": nothing of the session is stored, it ends with the broker, and its client waits
        /// for no disk; what others are sent for it is stored as theirs, and retained messages are. A listener can say otherwise, and so can
        /// `auth_on_register`.
        /// Allowed: "fsynced", "flushed" or "none"; default "fsynced".
        pub durability: StoredDurability = StoredDurability::Fsynced, one_of();
        /// How far apart the beginnings of two commits of a shard are at least. What comes meanwhile is committed together: a longer time costs the
        /// disk and the processor less, and lets acknowledgements wait longer.
        /// Allowed: a duration from "0s" to "1s"; default "500us".
        pub commit_interval: Duration = Duration::from_micros(500), Span(Duration::ZERO..=SECOND);
        /// The length of a file of the journal. Each shard has so many of them as `segments` says, filled in advance.
        /// Allowed: a size from "4MiB" to "4GiB"; default "64MiB".
        pub segment_size: usize = 64 * MIB, Size(4 * MIB..=4 * GIB);
        /// How many files the journal of each shard has. One of them is kept for what makes room. With the defaults that is 512 MiB on disk for
        /// each shard, from the first start on.
        /// Allowed: 3 to 4096; default 8.
        pub segments: u32 = 8, Count(3..=4096);
    }
}

impl StorageConfig {
    /// The bytes that the journals of so many shards take on disk.
    pub(crate) fn journal_bytes(&self, shards: usize) -> u64 {
        u64::from(self.segments).saturating_mul(self.segment_size as u64).saturating_mul(shards as u64)
    }
}
