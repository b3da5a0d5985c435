//! The small types that settings are made of: limits, core lists, and choices between words.

use std::fmt;
use std::str::FromStr;

/// How many (or how many bytes) there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limit(usize);

impl Limit {
    /// No limit.
    pub const UNLIMITED: Limit = Limit(usize::MAX);

    /// At most `count`.
    pub const fn at_most(count: usize) -> Self {
        Limit(count)
    }

    /// Whether there may be `count` of them.
    pub const fn allows(self, count: usize) -> bool {
        count <= self.0
    }

    /// The number; none if unlimited.
    pub const fn get(self) -> Option<usize> {
        match self {
            Limit::UNLIMITED => None,
            Limit(count) => Some(count),
        }
    }
}

/// Cores, by the kernel's numbers, ascending; written like the kernel does: `0-3,6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSet(Vec<usize>);

impl CpuSet {
    /// The highest core number that may be named: the kernel's own limit on most builds.
    pub const MAX_CORE: usize = 8191;

    /// The core numbers, ascending, each once; never empty.
    pub fn cores(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for CpuSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let core = |text: &str| text.trim().parse::<usize>().ok().filter(|core| *core <= CpuSet::MAX_CORE);
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (core(first), core(last)) {
                (Some(first), Some(last)) if first <= last => cores.extend(first..=last),
                _ => return Err(format!("must be core numbers such as 0-3,6, not {text}")),
            }
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(CpuSet(cores))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match run {
                [core] => write!(f, "{comma}{core}")?,
                _ => write!(f, "{comma}{}-{}", run[0], run[run.len() - 1])?,
            }
        }
        Ok(())
    }
}

/// A choice between words.
pub(super) trait Choice: Copy + PartialEq + Sized + 'static {
    /// Every choice and the word for it.
    const WORDS: &[(Self, &str)];

    /// The word for this choice.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(choice, _)| *choice == self).map_or("", |(_, word)| word)
    }

    /// The choice that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| *known == word).map(|(choice, _)| *choice)
    }
}

/// Declares an enum and the word for each variant; it is displayed as that word.
macro_rules! choice {
    (
        $(#[$about:meta])*
        pub enum $Enum:ident { $($(#[doc = $doc:literal])* $Variant:ident = $word:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Enum { $($(#[doc = $doc])* $Variant,)* }

        impl Choice for $Enum {
            const WORDS: &[(Self, &str)] = &[$(($Enum::$Variant, $word)),*];
        }

        impl fmt::Display for $Enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

choice! {
    /// How log lines look.
    pub enum LogFormat {
        /// One line of text for people.
        Text = "text",
        /// One JSON object a line, for machines.
        Json = "json",
    }
}

choice! {
    /// A version of the protocol that a listener speaks.
    pub enum Protocol {
        /// MQTT 3.1 (protocol name `MQIsdp`, level 3).
        V31 = "3.1",
        /// MQTT 3.1.1 (level 4).
        V311 = "3.1.1",
        /// MQTT 5.0 (level 5).
        V5 = "5",
    }
}

choice! {
    /// What happens to an MQTT 3.1.1 client whose publish was refused. MQTT 5.0 clients get a reason code, MQTT 3.1
    /// clients never learn of it.
    pub enum UnauthorizedPublish {
        /// Its connection is closed, and its will published.
        Disconnect = "disconnect",
        /// The publish is acknowledged and dropped.
        Ignore = "ignore",
    }
}

choice! {
    /// What happens to a client that would be one session too many.
    pub enum SessionsFull {
        /// It is refused.
        Refuse = "refuse",
        /// The session whose client has been away longest ends for it.
        Expire = "expire",
    }
}

choice! {
    /// In which order a queue is emptied, and from which end it drops when it is full.
    pub enum QueueType {
        /// Oldest first; a full queue drops the newest.
        Fifo = "fifo",
        /// Newest first; a full queue drops the oldest.
        Lifo = "lifo",
    }
}

choice! {
    /// Which member of a shared subscription gets a message.
    pub enum SharedPolicy {
        /// Any, by lot.
        Random = "random",
        /// One after the other.
        RoundRobin = "round_robin",
        /// The same one as long as it is there.
        Sticky = "sticky",
        /// Chosen by the publisher's slot, of which there are 4096: the messages of one publisher stay together and in order.
        HashPublisher = "hash_publisher",
        /// One on the publisher's shard if there is one, by lot among several.
        LocalFirst = "local_first",
    }
}

choice! {
    /// What a conditional hook that answers later, and not in time, counts as.
    pub enum OnDeadline {
        /// An error: the client, its packet or its subscription is refused. Fails closed.
        Refuse = "refuse",
        /// Success without modifiers. Fails open.
        Allow = "allow",
    }
}

choice! {
    /// What is kept of a session on disk, and what acknowledgements to its client promise.
    pub enum StoredDurability {
        /// What is acknowledged survives a loss of power.
        Fsynced = "fsynced",
        /// It survives the end of the broker.
        Flushed = "flushed",
        /// Nothing is on disk, nothing waits for the disk.
        None = "none",
    }
}

choice! {
    /// A hook that comes with the program and reads a file.
    pub enum StockHook {
        /// `password_file`: who may connect with which password.
        Password = "password",
        /// `acl_file`: who may publish and subscribe to what.
        Acl = "acl",
        /// `scram_file`: who may connect with enhanced authentication, method SCRAM-SHA-256.
        Scram = "scram",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read_sorted_and_written_as_ranges() {
        let set: CpuSet = "6, 0-3,2".parse().unwrap();
        assert_eq!(set.cores(), [0, 1, 2, 3, 6]);
        assert_eq!(set.to_string(), "0-3,6");
        for bad in ["", "a", "3-1", "0-", "-1", "0,,1", "8192"] {
            assert_eq!(bad.parse::<CpuSet>(), Err(format!("must be core numbers such as 0-3,6, not {bad}")));
        }
    }

    #[test]
    fn a_limit_allows_up_to_its_count() {
        assert!(Limit::at_most(2).allows(2));
        assert!(!Limit::at_most(2).allows(3));
        assert!(!Limit::at_most(0).allows(1));
        assert!(Limit::UNLIMITED.allows(usize::MAX));
        assert_eq!((Limit::at_most(7).get(), Limit::UNLIMITED.get()), (Some(7), None));
    }
}
