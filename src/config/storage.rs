//! What survives a restart, and at which price.

use std::time::Duration;

use super::kinds::{Flag, Limited, Word, directory, one_of};
use super::numbers::{Count, GIB, MIB, SECOND, Size, Span};
use super::values::{Limit, StoredDurability};
use super::walk::settings;

/// The most bytes of a disk that can be set.
const DISK: usize = 1 << 50;

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
        /// How many files it may have when what is stored needs more than a third of them: sessions, retained messages, and what waits in queues
        /// and is not in the archive. When half of so many are needed, or the disk has no room for another one (`archive.min_free`), who publishes
        /// what would be stored waits until there is room. Fewer than `segments` are as many.
        /// Allowed: "unlimited" or 3 to 4096; default "unlimited".
        pub max_segments: Limit = Limit::UNLIMITED, Limited(Count(3..=4096));
    }
    sections {
        /// The file `archive.redb` beside the journals, for all shards. What waits in queues goes there when much of it is in memory
        /// (`gather`), or half of a journal is in use.
        pub archive: ArchiveConfig = ArchiveConfig::default();
    }
}

settings! {
    /// The archive of a store: how much of the machine it may take.
    pub struct ArchiveConfig {
        /// Whether there is an archive. Without it, what waits in queues has to fit into the journals and into memory, with all else that is
        /// stored. A store whose archive has messages is not opened without it: nothing of them would be delivered, and the order of queues be lost.
        /// Allowed: true or false; default true.
        pub enabled: bool = true, Flag;
        /// When so many bytes of messages wait in memory for stored sessions, of all shards together, their queues are moved to the archive, though the
        /// journals have room. An estimate, of topics and payloads; in memory a short message takes two or three times as much, and what comes
        /// while they are moved comes on top. An eighth of `limits.max_memory` at most. More makes larger pages, which take less memory and processor time in
        /// the long run.
        /// Allowed: a size from "1MiB" to "64GiB"; default "128MiB".
        pub gather: usize = 128 * MIB, Size(MIB..=64 * GIB);
        /// Memory for parts of the file that were read or are to be written, of all shards together. What is read again soon is found there, such as
        /// what tells where messages are.
        /// Allowed: a size from "1MiB" to "64GiB"; default "32MiB".
        pub cache_size: usize = 32 * MIB, Size(MIB..=64 * GIB);
        /// Bytes of messages in the archive, with what tells them apart. When it has so many, who publishes what would be stored waits until
        /// clients have taken some. The file may take up to twice as much, and becomes shorter only if what is at its end is taken.
        /// Allowed: "unlimited" or a size from "64MiB" to "1024TiB"; default "unlimited".
        pub max_size: Limit = Limit::UNLIMITED, Limited(Size(64 * MIB..=DISK));
        /// Bytes of the disk that are left free, for what else is on it. When the archive would have to take them, it is full as of `max_size`;
        /// and the journals get no more files than `segments` says.
        /// Allowed: a size from "16MiB" to "1024TiB"; default "256MiB".
        pub min_free: usize = 256 * MIB, Size(16 * MIB..=DISK);
    }
}

impl StorageConfig {
    /// The bytes that the journals of so many shards take on disk.
    pub(crate) fn journal_bytes(&self, shards: usize) -> u64 {
        u64::from(self.segments).saturating_mul(self.segment_size as u64).saturating_mul(shards as u64)
    }
}
