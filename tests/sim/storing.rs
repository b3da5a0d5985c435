//! Histories with a store: what journals are told, and when the broker dies or a disk makes trouble.

use std::sync::LazyLock;
use std::time::Duration;

use moormq::config::StoredDurability;
use moormq::journal::{Settings, StoreId, Sync};
use moormq::persistence::Paging;
use moormq::random::Random;

use crate::history::{CLIENTS, Setup, Step};
use crate::store::opening::LIMITS;

/// Commits of this length at most: no publisher is served with less room.
const FRAME: usize = 272 << 10;

impl Setup {
    /// Whether sessions and retained messages are kept on disk.
    pub fn is_stored(&self) -> bool {
        // They take longer, and are played by themselves.
        static IS_WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("MOORMQ_SIM_STORE").is_some());
        *IS_WANTED && (self.seed ^ 0xD15C).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0
    }

    fn choose<T: Copy, const N: usize>(&self, which: u64, among: [T; N]) -> T {
        among[Random::from_seed(self.seed ^ which << 56).below(N)]
    }

    /// How many shards there are with a store.
    pub fn stored_shards(&self) -> usize {
        self.choose(1, [1, 1, 2, 4])
    }

    /// What journals are told, but for the shard.
    pub fn journal(&self) -> Settings {
        Settings {
            segment_bytes: self.choose(2, [300 << 10, 300 << 10, 1 << 20]),
            segments: self.choose(3, [3, 4]),
            most_segments: self.choose(10, [0, 0, 8, 64]),
            frame_bytes: FRAME,
            buffer_bytes: self.choose(4, [1, 4]) * FRAME,
            commit_interval: Duration::from_millis(self.choose(5, [0, 0, 0, 3])),
            sync: self.choose(6, [Sync::Dsync, Sync::Dsync, Sync::Linked, Sync::Never]),
            ..Settings::new(StoreId([9; 16]), 0)
        }
    }

    /// How queues get into the archive, if there is one: with so little in a page, few messages are several.
    pub fn paging(&self) -> Option<Paging> {
        let (least, page_bytes) =
            self.choose(9, [None, Some((1, 1)), Some((1, 200)), Some((1, 2000)), Some((400, 600))])?;
        // In most histories so much waits in memory that the journal is what has it moved.
        let memory = self.choose(11, [usize::MAX, usize::MAX, 10_000, 1000]);
        Some(Paging { limits: LIMITS, least, page_bytes, memory, least_moved: 1 })
    }

    /// What is stored of the session of the connection with this number: in some histories all is promised the same, in some each connection has a class of
    /// its own. Those of class `flushed` are in histories that lose no power: of what is theirs any part may be lost then.
    pub fn durability(&self, serial: u32) -> StoredDurability {
        use StoredDurability::{Flushed, Fsynced, None};
        let of_connection = |among: [StoredDurability; 4]| {
            among[Random::from_seed(self.seed ^ u64::from(serial).wrapping_mul(0x9E37_79B9_7F4A_7C15)).below(4)]
        };
        match self.choose(8, [0, 0, 1, 2]) {
            _ if !self.is_stored() => Fsynced,
            0 => Fsynced,
            1 => of_connection([Fsynced, Fsynced, Fsynced, None]),
            _ => of_connection([Fsynced, Fsynced, Flushed, None]),
        }
    }

    /// Whether the power may be lost: what is not synced then is.
    pub fn may_lose_power(&self) -> bool {
        self.journal().sync != Sync::Never && self.loses_what_is_not_synced()
    }

    /// Whether what is not synced may be lost, with the power or since a sync has failed: nothing of it is of class `flushed`.
    pub fn loses_what_is_not_synced(&self) -> bool {
        self.choose(8, [0, 0, 1, 2]) < 2
    }

    /// How many of the things that could be done for a disk are left for later, in 16.
    pub fn disk_patience(&self) -> usize {
        self.choose(7, [0, 8, 15])
    }
}

/// Has the broker die now and then between the steps of a history, and disks fail and be full. The other steps are those that there would be
/// without.
pub fn add_crashes(steps: &mut Vec<Step>, setup: &Setup) {
    let mut random = Random::from_seed(setup.seed ^ 0xDEAD);
    let loses_power = setup.may_lose_power();
    let trouble = [0, 0, 1, 4][random.below(4)];
    let apart = [6, 15, 40][random.below(3)];
    let varies = random.below(3) == 0;
    let has_archive = setup.paging().is_some();
    let mut at = CLIENTS + random.below(apart);
    while at < steps.len() {
        let seed = random.u64() as u32;
        let shard = random.below(setup.shards);
        let step = match random.below(16) {
            kind if kind < trouble => match random.below(if has_archive { 8 } else { 4 }) {
                0 | 1 => Step::FailWrite { shard },
                2 | 3 => Step::FillDisk { shard, on: random.below(3) > 0 },
                4 => Step::FailArchive,
                _ => Step::FillArchive { on: random.below(3) > 0 },
            },
            _ => Step::Crash {
                seed,
                millis: [0, 10, 1000, 3000, 9000, 700_000][random.below(6)],
                loses_power: loses_power && random.below(2) == 0,
                again: random.below(4) == 0,
                shards: if varies { [1, 2, 4][random.below(3)] } else { setup.shards },
            },
        };
        steps.insert(at, step);
        at += 1 + random.below(apart);
    }
}

/// With `MOORMQ_SIM_BACKUP`, copies the store now and then between the steps of a history, and has a broker go on with the copy. The other steps are
/// those that there would be without.
pub fn add_backups(steps: &mut Vec<Step>, setup: &Setup) {
    static IS_WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("MOORMQ_SIM_BACKUP").is_some());
    if !*IS_WANTED {
        return;
    }
    let mut random = Random::from_seed(setup.seed ^ 0xBAC);
    let varies = random.below(3) == 0;
    let mut at = CLIENTS + random.below(12);
    while at < steps.len() {
        let step = Step::Backup {
            seed: random.u64() as u32,
            turns: [0, 5, 60][random.below(3)],
            millis: [0, 10, 1000, 9000][random.below(4)],
            shards: if varies { [1, 2, 4][random.below(3)] } else { setup.shards },
        };
        steps.insert(at, step);
        at += 1 + random.below(25);
    }
}
