//! What operators and embedding programs ask of shards: how they are, and to move slots.
//!
//! Everything here waits for the shards, on the thread that calls; no shard waits for it.

use std::collections::BTreeSet;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};

use super::handle::{Handle, RequestError, SHARD_TIMEOUT};
use crate::client::SubscriberId;
use crate::control::status::{Berth, MoveProgress, Moved, PlannedMove, Rebalanced, ShardStatus, SlotStatus, Status};
use crate::net::errand::Errand;
use crate::shard::{BalanceLimits, Load, Report, SLOTS, SlotMigration, SlotMove, SlotsMoving, plan, slot_of};

/// How often it is looked whether slots have come.
const LOOK: Duration = Duration::from_millis(10);
/// When [`Handle::rebalance`] finds that a shard has too much, in percent of what the others have on average.
const UNEVEN: u64 = 105;

/// Why shards did not do what they were asked to, or not to the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such shard.
    NoSuchShard {
        /// Which.
        shard: usize,
        /// How many there are.
        shards: usize,
    },
    /// There is no such slot.
    NoSuchSlot(u16),
    /// The slots have not all come in time. What is on its way goes on moving.
    Unfinished(MoveProgress),
    /// Nobody wanted to wait any longer. What is on its way goes on moving.
    GivenUp(MoveProgress),
    /// A shard cannot be asked, or does not answer.
    Request(RequestError),
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = |progress: &MoveProgress, what: &str| {
            let MoveProgress { slots_left, sessions_left, .. } = progress;
            write!(f, "{what}: what is left goes on moving (slots: {slots_left}, sessions: {sessions_left})")
        };
        match self {
            OperationError::Unfinished(progress) => left(progress, "not done in time"),
            OperationError::GivenUp(progress) => left(progress, "nobody waited for the end"),
            OperationError::NoSuchShard { shard, shards } => {
                write!(f, "there is no shard {shard}: they are numbered from 0 to {}", shards - 1)
            }
            OperationError::NoSuchSlot(slot) => {
                write!(f, "there is no slot {slot}: they are numbered from 0 to {}", SLOTS - 1)
            }
            OperationError::Request(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OperationError {}

impl From<RequestError> for OperationError {
    fn from(error: RequestError) -> Self {
        OperationError::Request(error)
    }
}

/// All shards at some moment.
struct Look {
    reports: Vec<Report>,
    /// Processor time of their threads.
    cpu: Vec<Option<Duration>>,
    at: Instant,
}

impl Handle {
    /// What every shard has counted since the start, and what it has now, in the order of the shards. They are asked at once,
    /// but not at the same moment.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] when a shard is far behind, [`RequestError::Stopped`] when the broker has stopped or does not
    /// answer.
    pub fn reports(&self) -> Result<Vec<Report>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Errand::Report { answer: answer.clone() })?;
        }
        let mut reports = self.collect(answer, &answers)?;
        reports.sort_by_key(|report| report.shard);
        Ok(reports)
    }

    /// How shards and slots are doing: measures them for `window`, and waits that long. Tells the `slots` busiest slots.
    ///
    /// # Errors
    ///
    /// As [`Handle::reports`].
    pub fn status(&self, window: Duration, slots: usize) -> Result<Status, RequestError> {
        let (earlier, later) = self.measure(window)?;
        let seconds = later.at.duration_since(earlier.at).as_secs_f64();
        let load = Load::between(&earlier.reports, &later.reports);
        let rate = |count: u64| count as f64 / seconds;
        let cpu = earlier.cpu.iter().zip(&later.cpu);
        let cpu = cpu.map(|(before, after)| Some((*after)?.saturating_sub((*before)?).as_secs_f64() / seconds * 100.0));
        let shards = load.shards.iter().zip(cpu).zip(&*self.threads).enumerate();
        let shards = shards.map(|(shard, ((load, cpu_percent), thread))| ShardStatus {
            shard,
            core: thread.core,
            slots: load.slots,
            sessions: load.sessions,
            connections: load.connections,
            messages_in_per_second: rate(load.messages_in),
            messages_out_per_second: rate(load.messages_out),
            cpu_percent,
        });
        let shards = shards.collect();
        let mut busiest = load.slots;
        busiest.retain(|slot| slot.messages > 0 || slot.sessions > 0);
        busiest.sort_by_key(|slot| std::cmp::Reverse((slot.messages, slot.sessions)));
        busiest.truncate(slots);
        let slots = busiest.into_iter().map(|load| SlotStatus {
            slot: load.slot,
            shard: load.shard,
            sessions: load.sessions,
            messages_per_second: rate(load.messages),
            is_moving: load.is_moving,
        });
        Ok(Status { seconds, shards, slots: slots.collect() })
    }

    /// Where clients belong, given as mountpoint and client id, whether they are there or not. Only [`Handle::move_slots`] and
    /// rebalancing change it.
    ///
    /// # Errors
    ///
    /// As [`Handle::reports`].
    pub fn find<'a>(&self, clients: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<Berth>, RequestError> {
        let mut owners = vec![0; SLOTS];
        let reports = self.reports()?;
        let slots = reports.iter().flat_map(|report| report.slots.iter().map(|slot| (report.shard, slot)));
        let (own, left): (Vec<_>, Vec<_>) = slots.partition(|(_, slot)| slot.is_own);
        // While the news that a slot moved is on its way, the old owner says no already, and the new one not yet yes.
        left.into_iter().chain(own).for_each(|(shard, slot)| owners[usize::from(slot.slot)] = shard);
        let berth = |(mountpoint, client_id): (&str, &str)| {
            let slot = slot_of(&SubscriberId::new(mountpoint, client_id), self.seed);
            let shard = owners[usize::from(slot)];
            Berth { mountpoint: mountpoint.to_owned(), client_id: client_id.to_owned(), slot, shard }
        };
        Ok(clients.into_iter().map(berth).collect())
    }

    /// Moves slots to shard `to`, with the sessions and connections of the clients in them, and waits until all are there, at
    /// most `timeout`. Clients stay connected and notice nothing; no hook is called. `told` hears how far it is each time that
    /// something has changed, and says whether to go on waiting.
    ///
    /// A slot that is there already is left there; one that is on its way to somewhere else is moved on when it has come.
    ///
    /// # Errors
    ///
    /// [`OperationError::NoSuchShard`] and [`OperationError::NoSuchSlot`]: nothing has moved then.
    /// [`OperationError::Unfinished`] when time was up, [`OperationError::GivenUp`] when `told` says so: what has begun to move
    /// goes on.
    pub fn move_slots(
        &self,
        slots: &[u16],
        to: usize,
        timeout: Duration,
        mut told: impl FnMut(MoveProgress) -> bool,
    ) -> Result<Moved, OperationError> {
        let shards = self.inboxes.len();
        if to >= shards {
            return Err(OperationError::NoSuchShard { shard: to, shards });
        }
        if let Some(slot) = slots.iter().find(|slot| usize::from(**slot) >= SLOTS) {
            return Err(OperationError::NoSuchSlot(*slot));
        }
        let start = Instant::now();
        let mut migration = Journey::new(slots, to);
        let mut last = None;
        loop {
            migration.look(self)?;
            let progress = migration.progress();
            if migration.left.is_empty() {
                return Ok(migration.end(start.elapsed()));
            }
            if last != Some(progress) && !told(progress) {
                return Err(OperationError::GivenUp(progress));
            }
            last = Some(progress);
            if start.elapsed() >= timeout {
                return Err(OperationError::Unfinished(progress));
            }
            thread::sleep(LOOK);
        }
    }

    /// Evens out the load: counts the messages of every slot for `window`, and moves slots from shards that have too much to
    /// those that have least, as [`Handle::move_slots`] does, at most for `timeout`. With `dry_run`, only says which.
    ///
    /// # Errors
    ///
    /// As [`Handle::move_slots`].
    pub fn rebalance(
        &self,
        window: Duration,
        dry_run: bool,
        timeout: Duration,
        mut told: impl FnMut(MoveProgress) -> bool,
    ) -> Result<Rebalanced, OperationError> {
        let (earlier, later) = self.measure(window)?;
        let seconds = later.at.duration_since(earlier.at).as_secs_f64();
        let load = Load::between(&earlier.reports, &later.reports);
        let limits = BalanceLimits { threshold: UNEVEN, min_messages: 1, max_slots: SLOTS, max_sessions: u64::MAX };
        let moves = plan(&load, &limits);
        let before: Vec<f64> = load.shards.iter().map(|shard| shard.messages as f64 / seconds).collect();
        let mut after = before.clone();
        let moves_by_rate = moves.iter().map(|&SlotMove { slot, from, to, messages, sessions }| {
            let messages_per_second = messages as f64 / seconds;
            after[from] -= messages_per_second;
            after[to] += messages_per_second;
            PlannedMove { slot, from, to, messages_per_second, sessions }
        });
        let moves_by_rate = moves_by_rate.collect();
        if !dry_run {
            self.carry_out(&moves, timeout, &mut told)?;
        }
        Ok(Rebalanced { seconds, moves: moves_by_rate, before, after, is_done: !dry_run })
    }

    /// Moves slots, to one shard after the other.
    pub(super) fn carry_out(
        &self,
        moves: &[SlotMove],
        timeout: Duration,
        told: &mut dyn FnMut(MoveProgress) -> bool,
    ) -> Result<(), OperationError> {
        for to in 0..self.inboxes.len() {
            let slots: Vec<u16> = moves.iter().filter(|one| one.to == to).map(|one| one.slot).collect();
            if !slots.is_empty() {
                self.move_slots(&slots, to, timeout, &mut *told)?;
            }
        }
        Ok(())
    }

    fn measure(&self, window: Duration) -> Result<(Look, Look), RequestError> {
        let earlier = self.look()?;
        thread::sleep(window);
        Ok((earlier, self.look()?))
    }

    fn look(&self) -> Result<Look, RequestError> {
        let reports = self.reports()?;
        let cpu = self.threads.iter().map(|thread| thread.id.cpu_time()).collect();
        Ok(Look { reports, cpu, at: Instant::now() })
    }

    /// Has every shard move those of `slots` that are its own.
    fn ask_to_move(&self, slots: &[u16], to: usize) -> Result<Vec<SlotsMoving>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Errand::MoveSlots { slots: slots.into(), to, answer: answer.clone() })?;
        }
        self.collect(answer, &answers)
    }

    /// The answers of all shards.
    pub(super) fn collect<T>(&self, answer: Sender<T>, answers: &Receiver<T>) -> Result<Vec<T>, RequestError> {
        // A shard that ends without an answer is noticed by its end of the channel.
        drop(answer);
        let deadline = Instant::now() + SHARD_TIMEOUT;
        let next = |_| answers.recv_deadline(deadline).map_err(|_| RequestError::Stopped);
        (0..self.inboxes.len()).map(next).collect()
    }
}

/// Slots on their way to a shard.
struct Journey {
    to: usize,
    moved: BTreeSet<u16>,
    already_there: Vec<u16>,
    /// Those that are not wholly there, ascending.
    left: Vec<u16>,
    slots: usize,
    sessions: u64,
    sessions_left: u64,
}

impl Journey {
    fn new(slots: &[u16], to: usize) -> Self {
        let mut left = slots.to_vec();
        left.sort_unstable();
        left.dedup();
        let slots = left.len();
        Journey { to, moved: BTreeSet::new(), already_there: Vec::new(), left, slots, sessions: 0, sessions_left: 0 }
    }

    /// Has those move that have not begun to, and sees which have come.
    fn look(&mut self, handle: &Handle) -> Result<(), RequestError> {
        let waiting: Vec<u16> = self.left.iter().filter(|slot| !self.moved.contains(slot)).copied().collect();
        if !waiting.is_empty() {
            for moving in handle.ask_to_move(&waiting, self.to)? {
                self.sessions += moving.sessions as u64;
                self.moved.extend(moving.slots);
            }
        }
        let reports = handle.reports()?;
        let there = |slot: &u16| {
            let own = &reports[self.to].slots;
            let found = own.binary_search_by_key(slot, |report| report.slot).ok().map(|at| own[at]);
            found.is_some_and(|report| report.is_own && report.migration == SlotMigration::None)
        };
        let (come, left): (Vec<u16>, Vec<u16>) = self.left.iter().partition(|slot| there(slot));
        self.already_there.extend(come.into_iter().filter(|slot| !self.moved.contains(slot)));
        self.left = left;
        let elsewhere = reports.iter().filter(|report| report.shard != self.to).flat_map(|report| &report.slots);
        let waits = elsewhere.filter(|report| self.left.binary_search(&report.slot).is_ok());
        self.sessions_left = waits.map(|report| u64::from(report.sessions)).sum();
        Ok(())
    }

    fn progress(&self) -> MoveProgress {
        MoveProgress {
            slots: self.slots,
            slots_left: self.left.len(),
            sessions: self.sessions,
            sessions_left: self.sessions_left,
        }
    }

    fn end(self, took: Duration) -> Moved {
        Moved {
            to: self.to,
            slots: self.moved.into_iter().collect(),
            already_there: self.already_there,
            sessions: self.sessions,
            seconds: took.as_secs_f64(),
        }
    }
}
