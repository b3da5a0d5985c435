//! A copy of the store of a running broker.
//!
//! On the thread that wants it, in this order:
//!
//! 1. The archive persists what it has been given, and is held: nothing more is persisted. A snapshot of it is taken.
//! 2. All shards cut their journals; when they have, the archive goes on. See `persistence::copying` for why the two fit together.
//! 3. When all that the copy has is on disk, the pieces of the journals are copied, then the snapshot, and last the file `store`.
//!
//! No shard waits for it. The files that it copies are not used again meanwhile, so the store may take up to twice as much of its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError};

use super::handle::{Handle, RequestError, SHARD_TIMEOUT};
use super::open_store::{OpenStore, StoreError};
use super::store::copy_archive;
use crate::control::status::{BackedUp, BackupProgress};
use crate::journal::Piece;
use crate::net::command::{Command, OfShard};
use crate::shard::CutNews;
use crate::storage::Backup;

/// How long it may take until what the copy has is on disk.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked meanwhile whether anybody waits still.
const LOOK: Duration = Duration::from_millis(100);

/// The backups of a broker: there is one at a time.
#[derive(Default)]
pub(super) struct Backups {
    is_one_under_way: Mutex<()>,
    last: AtomicU64,
    is_stopped: AtomicBool,
}

impl Backups {
    fn begin(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        match self.is_one_under_way.try_lock() {
            Ok(turn) => Ok(turn),
            Err(TryLockError::Poisoned(turn)) => Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => Err(StoreError::Busy),
        }
    }

    fn next_number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// That which is under way is given up. Waits for that.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        drop(self.is_one_under_way.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The shards whose journals are cut for a copy: files stay as they are until it is dropped.
struct Cut<'a> {
    handle: &'a Handle,
    number: u64,
    left: BTreeSet<usize>,
}

impl<'a> Cut<'a> {
    fn begin(handle: &'a Handle, number: u64) -> Result<(Self, Receiver<OfShard<CutNews>>), RequestError> {
        let shards = handle.inboxes.len();
        let cut = Cut { handle, number, left: (0..shards).collect() };
        // Each shard tells two things.
        let (answer, answers) = channel::bounded(2 * shards);
        for shard in 0..shards {
            handle.send(shard, Command::Cut { number, answer: answer.clone() })?;
        }
        Ok((cut, answers))
    }

    /// What a shard has is copied.
    fn end(&mut self, shard: usize) {
        if self.left.remove(&shard) {
            self.handle.inboxes[shard].post(Command::EndCut { number: self.number });
        }
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for shard in std::mem::take(&mut self.left) {
            self.handle.inboxes[shard].post(Command::EndCut { number: self.number });
        }
    }
}

/// Whether anybody waits for the end, who is told how far it is.
struct Waiting<'a> {
    store: &'a OpenStore,
    progress: BackupProgress,
    report: &'a mut dyn FnMut(BackupProgress) -> bool,
}

impl Waiting<'_> {
    fn go_on(&mut self) -> bool {
        !self.store.backups.is_stopped.load(Ordering::SeqCst) && (self.report)(self.progress)
    }

    fn copied(&mut self, bytes: u64) -> bool {
        self.progress.copied += bytes;
        self.go_on()
    }

    /// Until all of the shards have told what is wanted.
    fn until(
        &mut self,
        news: &mut News,
        patience: Duration,
        late: impl Fn(&News) -> Vec<usize>,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + patience;
        while !late(news).is_empty() {
            match news.answers.recv_timeout(LOOK) {
                Ok((shard, CutNews::Made)) => drop(news.made.insert(shard)),
                Ok((shard, CutNews::OnDisk(pieces))) => drop(news.pieces.insert(shard, pieces)),
                Err(RecvTimeoutError::Disconnected) => return Err(RequestError::Stopped.into()),
                Err(RecvTimeoutError::Timeout) if !self.go_on() => return Err(StoreError::GivenUp),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    return Err(RequestError::Unanswered { shards: late(news) }.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(())
    }
}

/// What the shards have told.
struct News {
    answers: Receiver<OfShard<CutNews>>,
    made: BTreeSet<usize>,
    pieces: BTreeMap<usize, Vec<Piece>>,
}

impl Handle {
    /// Copies the store, while the broker goes on, into the directory at `path`, which is made, or is empty and becomes its user's alone. A broker started
    /// with that as its store has all that was acknowledged before this was called, and nothing that came behind some moment of the first part of it:
    /// sessions, messages and retained messages are those of one moment on all shards. `report` is called with the progress, and returns whether to go on.
    /// Waits until all of it is on the disk. There is one at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoStore`] and [`StoreError::Busy`]; [`StoreError::Directory`] if the directory is not empty, is in the store, cannot be written or has
    /// no room; [`StoreError::GivenUp`] when `report` returned false, or the broker stops; else as [`Handle::status`], or [`StoreError::Archive`]. What was
    /// made of the copy is removed then.
    pub fn back_up(&self, path: &Path, mut report: impl FnMut(BackupProgress) -> bool) -> Result<BackedUp, StoreError> {
        let store = self.open_store().ok_or(StoreError::NoStore)?;
        let _turn = store.backups.begin()?;
        let mut waiting = Waiting { store, progress: BackupProgress::default(), report: &mut report };
        if !waiting.go_on() {
            return Err(StoreError::GivenUp);
        }
        let began = Instant::now();
        let mut backup = Backup::begin(path, &store.path)?;
        let held = store.archive.as_ref().map(|archive| archive.hold(SHARD_TIMEOUT)).transpose()?;
        let (snapshot, hold) = held.unzip();
        let (mut cut, answers) = Cut::begin(self, store.backups.next_number())?;
        let shards = || 0..self.inboxes.len();
        let mut news = News { answers, made: BTreeSet::new(), pieces: BTreeMap::new() };
        waiting
            .until(&mut news, SHARD_TIMEOUT, |news| shards().filter(|shard| !news.made.contains(shard)).collect())?;
        drop(hold);
        let cut_seconds = began.elapsed().as_secs_f64();
        waiting.until(&mut news, COMMIT_PATIENCE, |news| {
            shards().filter(|shard| !news.pieces.contains_key(shard)).collect()
        })?;
        let of_journals: u64 = news.pieces.values().flatten().map(|piece| piece.bytes).sum();
        waiting.progress.copied_of = of_journals + snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes());
        backup.check_room(waiting.progress.copied_of)?;
        for (shard, pieces) in &news.pieces {
            if !backup.copy_journal(*shard as u32, pieces, &mut |bytes| waiting.copied(bytes))? {
                return Err(StoreError::GivenUp);
            }
            cut.end(*shard);
        }
        if let Some(snapshot) = snapshot
            && !copy_archive(&snapshot, &backup.archive(), store.id, &mut |bytes| waiting.copied(bytes))?
        {
            return Err(StoreError::GivenUp);
        }
        let (path, bytes) = (backup.path().display().to_string(), waiting.progress.copied);
        backup.finish()?;
        Ok(BackedUp { path, bytes, cut_seconds, seconds: began.elapsed().as_secs_f64() })
    }
}
