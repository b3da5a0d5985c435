//! What is known of what is on disk, here and on other shards.

use super::commits::Commits;
use super::decisions::Decisions;
use super::elsewhere::Elsewhere;
use super::letters::Letters;

#[derive(Debug)]
pub(super) struct OnDisk {
    /// Records of this shard.
    pub commits: Commits,
    /// Letters, and what they have led to.
    pub letters: Letters,
    pub decisions: Decisions,
    /// What went to other shards by itself.
    pub elsewhere: Elsewhere,
}

impl OnDisk {
    /// How many records of this shard are, each as it is to be.
    pub fn records(&self) -> u64 {
        self.commits.committed().fsynced
    }
}
