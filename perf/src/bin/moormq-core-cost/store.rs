//! The journals of shards whose disks forget everything: what a write is, and no disk.

use std::io;
use std::time::Duration;

use moormq::hooks::Chain;
use moormq::journal::{Answer, Effect, Journal, ReadAt, Reader, Settings, StoreId, Sync, Write};
use moormq::persistence::{Durability, PersistenceSetup};
use moormq::records::{Beginning, WallClock, WallTime};
use moormq::shard::Shard;
use moormq::time::Time;

/// What is under way to the disk of a shard.
#[derive(Default)]
pub struct Disk {
    writes: Vec<Write>,
}

/// A file of a store that has none.
enum NoFile {}

impl ReadAt for NoFile {
    fn bytes(&self) -> io::Result<u64> {
        match *self {}
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        match *self {}
    }
}

/// Has a shard store sessions and messages, fsynced.
pub fn store<C: Chain>(shard: &mut Shard<C>, id: usize) {
    let settings = Settings { commit_interval: Duration::ZERO, ..Settings::new(StoreId([1; 16]), id as u32) };
    let nothing = Reader::<NoFile>::new(settings.identity, Vec::new());
    let (recovered, _) = nothing.finish();
    let settings = settings.check().expect("a journal can work with the defaults");
    shard.persist(PersistenceSetup {
        journal: Journal::new(settings, recovered, 1).expect("it has nothing"),
        paging: None,
        boot: 1,
        sync: Sync::Dsync,
        durability: Durability::Fsynced,
        clock: Box::new(|| Duration::ZERO),
        wall: WallClock::new(Time::ZERO, WallTime::default()),
        beginning: Beginning::default(),
    });
}

impl Disk {
    /// Takes what is to be done for the journal. What it answers at once.
    pub fn take(&mut self, effect: Effect) -> Option<Answer> {
        match effect {
            Effect::Write(write) => self.writes.push(write),
            Effect::Prepare(preparation) => {
                return Some(Answer::Prepared { file: preparation.file, result: Ok(()) });
            }
            Effect::Remove { .. } | Effect::SetAside { .. } => {}
        }
        None
    }

    /// A write is over, if one is under way.
    pub fn written(&mut self) -> Option<Answer> {
        self.writes.pop().map(|Write { buffer, bytes, .. }| Answer::Written { buffer, result: Ok(bytes) })
    }
}
