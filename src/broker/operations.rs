//! Operations on shards, for operators and embedding programs: status, moves of slots, rebalancing.
//!
//! Each operation waits for the shards, on the calling thread. No shard waits for an operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::handle::{Handle, RequestError, SHARD_TIMEOUT};
use crate::client::{SessionAction, SessionFound, SubscriberId};
use crate::control::status::{
    Berth, MemoryStatus, MoveProgress, Moved, PlannedMove, Rebalanced, SessionStatus, ShardStatus, SlotStatus, Status,
};
use crate::memory::MemoryHeld;
use crate::net::command::{Command, OfShard};
use crate::shard::{BalanceLimits, Load, Report, SlotMigration, SlotMove, SlotsMoving, plan};
use crate::sharding::{SLOTS, owner_of, slot_of};

/// Clients that are asked about at a time: fewer than an inbox holds.
const AT_A_TIME: usize = 256;
/// The time between two checks of a move's progress.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The load above which [`Handle::rebalance`] moves slots away from a shard, in percent of the average of the other
/// shards.
const UNEVEN: u64 = 105;

/// The reason why an operation did not take place, or not completely.
#[derive(Debug)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such shard.
    NoSuchShard {
        /// The number that was given.
        shard: usize,
        /// The number of shards that there are.
        shards: usize,
    },
    /// There is no such slot.
    NoSuchSlot(u16),
    /// The time was up before all slots had arrived. Moves that have begun go on.
    Unfinished(MoveProgress),
    /// The caller stopped waiting. Moves that have begun go on.
    GivenUp(MoveProgress),
    /// A shard did not accept the request, or did not answer.
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

/// The reports of all shards at one time.
struct Snapshot {
    reports: Vec<Report>,
    /// The processor time of their threads.
    cpu: Vec<Option<Duration>>,
    at: Instant,
}

impl Handle {
    /// The reports of all shards, in their order: counters since the start, and present numbers. Shards make their
    /// reports one by one, so the reports are not of the same instant.
    ///
    /// # Errors
    ///
    /// As [`Handle::status`].
    #[doc(hidden)]
    pub fn reports(&self) -> Result<Vec<Report>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Command::Report { answer: answer.clone() })?;
        }
        Ok(self.collect(answer, &answers)?.into_iter().map(|(_, report)| report).collect())
    }

    /// The status of the shards and of the `slots` busiest slots, with rates measured over `window`. Waits that long.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] when the inbox of a shard is full, [`RequestError::Unanswered`] when one does not answer,
    /// [`RequestError::Stopped`] when the broker has stopped.
    pub fn status(&self, window: Duration, slots: usize) -> Result<Status, RequestError> {
        let (earlier, later) = self.measure(window)?;
        let seconds = later.at.duration_since(earlier.at).as_secs_f64();
        let load = Load::between(&earlier.reports, &later.reports);
        let rate = |count: u64| count as f64 / seconds;
        let cpu = earlier.cpu.iter().zip(&later.cpu);
        let cpu = cpu.map(|(before, after)| Some((*after)?.saturating_sub((*before)?).as_secs_f64() / seconds * 100.0));
        let shards = load.shards.iter().zip(cpu).zip(self.threads()).enumerate();
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
        let memory = MemoryStatus::of(&MemoryHeld::in_process(), self.max_memory.get());
        Ok(Status { seconds, shards, slots: slots.collect(), memory })
    }

    /// The slot and shard of each client, given as mountpoint and client id, and its session if it has one. Only
    /// [`Handle::move_slots`] and rebalancing change a client's shard.
    ///
    /// # Errors
    ///
    /// As [`Handle::status`].
    pub fn find<'a>(&self, clients: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<Berth>, RequestError> {
        let mut owners = vec![0; SLOTS];
        let reports = self.reports()?;
        let slots = reports.iter().flat_map(|report| report.slots.iter().map(|slot| (report.shard, slot)));
        let (own, left): (Vec<_>, Vec<_>) = slots.partition(|(_, slot)| slot.is_own);
        // During a handover of a slot, there is a moment when neither shard reports it as its own: then the old owner
        // counts.
        left.into_iter().chain(own).for_each(|(shard, slot)| owners[usize::from(slot.slot)] = shard);
        let clients: Vec<_> = clients.into_iter().map(|(mountpoint, id)| SubscriberId::new(mountpoint, id)).collect();
        let mut berths = Vec::with_capacity(clients.len());
        for some in clients.chunks(AT_A_TIME) {
            let found = self.act_on_sessions(some, SessionAction::Find)?;
            berths.extend(some.iter().zip(found).map(|(subscriber, found)| {
                let slot = slot_of(subscriber, self.seed);
                Berth {
                    mountpoint: subscriber.mountpoint.to_string(),
                    client_id: subscriber.client_id.to_string(),
                    slot,
                    shard: owners[usize::from(slot)],
                    session: found.map(|found| SessionStatus::from(*found)),
                }
            }));
        }
        Ok(berths)
    }

    /// Ends the connection of a client as [`Handle::disconnect`] does, and waits until that is done. Returns the session as it was
    /// before; none if the client has none. Must not be called by a hook: the shard would wait for itself.
    ///
    /// # Errors
    ///
    /// As [`Handle::status`].
    pub fn end_connection(
        &self,
        mountpoint: &str,
        client_id: &str,
        cleanup: bool,
    ) -> Result<Option<SessionStatus>, RequestError> {
        let subscriber = SubscriberId::new(mountpoint, client_id);
        let mut found = self.act_on_sessions(&[subscriber], SessionAction::Disconnect { cleanup })?;
        Ok(found.pop().flatten().map(|found| SessionStatus::from(*found)))
    }

    /// What became of an action on the sessions of these clients, in their order.
    fn act_on_sessions(
        &self,
        clients: &[SubscriberId],
        action: SessionAction,
    ) -> Result<Vec<Option<Box<SessionFound>>>, RequestError> {
        let (answer, answers) = channel::bounded(clients.len().max(1));
        let owner = |subscriber| owner_of(subscriber, self.inboxes.len(), self.seed);
        for (number, subscriber) in clients.iter().enumerate() {
            let answer = answer.clone();
            self.send(owner(subscriber), Command::Session { subscriber: subscriber.clone(), action, number, answer })?;
        }
        drop(answer);
        let deadline = Instant::now() + SHARD_TIMEOUT;
        let mut all: Vec<Option<Option<Box<SessionFound>>>> = clients.iter().map(|_| None).collect();
        for _ in clients {
            match answers.recv_deadline(deadline) {
                Ok((number, found)) => all[number] = Some(found),
                Err(RecvTimeoutError::Disconnected) => return Err(RequestError::Stopped),
                Err(RecvTimeoutError::Timeout) => {
                    let late = clients.iter().zip(&all).filter(|(_, answer)| answer.is_none());
                    let shards: BTreeSet<usize> = late.map(|(subscriber, _)| owner(subscriber)).collect();
                    return Err(RequestError::Unanswered { shards: shards.into_iter().collect() });
                }
            }
        }
        Ok(all.into_iter().map(Option::flatten).collect())
    }

    /// Moves slots to shard `to`, with the sessions and connections of the clients in them. Waits until all are there,
    /// at most for `timeout`. Clients stay connected and notice nothing; no hook is called. `report` is called with
    /// each change of the progress, and returns whether to go on waiting.
    ///
    /// A slot that is on that shard already stays there. A slot that is moving to another shard is moved on when it has
    /// arrived.
    ///
    /// # Errors
    ///
    /// [`OperationError::NoSuchShard`] and [`OperationError::NoSuchSlot`]: nothing has moved then.
    /// [`OperationError::Unfinished`] when the time was up, [`OperationError::GivenUp`] when `report` returned false:
    /// moves that have begun go on.
    pub fn move_slots(
        &self,
        slots: &[u16],
        to: usize,
        timeout: Duration,
        mut report: impl FnMut(MoveProgress) -> bool,
    ) -> Result<Moved, OperationError> {
        let shards = self.inboxes.len();
        if to >= shards {
            return Err(OperationError::NoSuchShard { shard: to, shards });
        }
        if let Some(slot) = slots.iter().find(|slot| usize::from(**slot) >= SLOTS) {
            return Err(OperationError::NoSuchSlot(*slot));
        }
        let start = Instant::now();
        let mut pending = PendingMove::new(slots, to);
        let mut last = None;
        loop {
            pending.update(self)?;
            let progress = pending.progress();
            if pending.left.is_empty() {
                return Ok(pending.finish(start.elapsed()));
            }
            if last != Some(progress) && !report(progress) {
                return Err(OperationError::GivenUp(progress));
            }
            last = Some(progress);
            if start.elapsed() >= timeout {
                return Err(OperationError::Unfinished(progress));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Rebalances the load: counts the messages of every slot for `window`, then moves slots from the shards with most
    /// load to those with least, as [`Handle::move_slots`] does, at most for `timeout` for each shard that gets slots.
    /// With `dry_run` it returns the planned moves only.
    ///
    /// # Errors
    ///
    /// As [`Handle::move_slots`].
    pub fn rebalance(
        &self,
        window: Duration,
        dry_run: bool,
        timeout: Duration,
        mut report: impl FnMut(MoveProgress) -> bool,
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
            self.carry_out(&moves, timeout, &mut report)?;
        }
        Ok(Rebalanced { seconds, moves: moves_by_rate, before, after, is_done: !dry_run })
    }

    /// Carries out planned moves, one shard after the other, at most for `timeout` each.
    pub(super) fn carry_out(
        &self,
        moves: &[SlotMove],
        timeout: Duration,
        report: &mut dyn FnMut(MoveProgress) -> bool,
    ) -> Result<(), OperationError> {
        for to in 0..self.inboxes.len() {
            let slots: Vec<u16> = moves.iter().filter(|one| one.to == to).map(|one| one.slot).collect();
            if !slots.is_empty() {
                self.move_slots(&slots, to, timeout, &mut *report)?;
            }
        }
        Ok(())
    }

    fn measure(&self, window: Duration) -> Result<(Snapshot, Snapshot), RequestError> {
        let earlier = self.snapshot()?;
        thread::sleep(window);
        Ok((earlier, self.snapshot()?))
    }

    fn snapshot(&self) -> Result<Snapshot, RequestError> {
        let reports = self.reports()?;
        let cpu = self.threads().iter().map(|thread| thread.id.cpu_time()).collect();
        Ok(Snapshot { reports, cpu, at: Instant::now() })
    }

    /// Sends every shard the command to move those of `slots` that it owns.
    fn ask_to_move(&self, slots: &[u16], to: usize) -> Result<Vec<SlotsMoving>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Command::MoveSlots { slots: slots.into(), to, answer: answer.clone() })?;
        }
        Ok(self.collect(answer, &answers)?.into_iter().map(|(_, moving)| moving).collect())
    }

    /// The answers of all shards, in the order of the shards.
    pub(super) fn collect<T>(
        &self,
        answer: Sender<OfShard<T>>,
        answers: &Receiver<OfShard<T>>,
    ) -> Result<Vec<OfShard<T>>, RequestError> {
        // Without this sender, the channel closes if a shard ends without an answer.
        drop(answer);
        let deadline = Instant::now() + SHARD_TIMEOUT;
        let mut all: BTreeMap<usize, T> = BTreeMap::new();
        while all.len() < self.inboxes.len() {
            match answers.recv_deadline(deadline) {
                Ok((shard, answer)) => drop(all.insert(shard, answer)),
                Err(RecvTimeoutError::Disconnected) => return Err(RequestError::Stopped),
                Err(RecvTimeoutError::Timeout) => {
                    let shards = (0..self.inboxes.len()).filter(|shard| !all.contains_key(shard)).collect();
                    return Err(RequestError::Unanswered { shards });
                }
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// A move of slots to a shard, until all of them are there.
struct PendingMove {
    to: usize,
    moved: BTreeSet<u16>,
    already_there: Vec<u16>,
    /// The slots that are not completely there yet, ascending.
    left: Vec<u16>,
    slots: usize,
    sessions: u64,
    sessions_left: u64,
}

impl PendingMove {
    fn new(slots: &[u16], to: usize) -> Self {
        let mut left = slots.to_vec();
        left.sort_unstable();
        left.dedup();
        let slots = left.len();
        PendingMove {
            to,
            moved: BTreeSet::new(),
            already_there: Vec::new(),
            left,
            slots,
            sessions: 0,
            sessions_left: 0,
        }
    }

    /// Starts the move of the slots that have not begun to move, and updates the list of those that are left.
    fn update(&mut self, handle: &Handle) -> Result<(), RequestError> {
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

    fn finish(self, took: Duration) -> Moved {
        Moved {
            to: self.to,
            slots: self.moved.into_iter().collect(),
            already_there: self.already_there,
            sessions: self.sessions,
            seconds: took.as_secs_f64(),
        }
    }
}
