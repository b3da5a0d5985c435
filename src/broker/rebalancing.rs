//! The rebalancing thread: it moves slots away from a shard that stays busier than the others (see [`Balancer`]).

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::handle::Handle;
use super::operations::OperationError;
use crate::config::RebalanceConfig;
use crate::control::status::MoveProgress;
use crate::net::clock::Clock;
use crate::shard::{Balancer, SlotMove};
use crate::threads;

/// The longest wait for a move. The shards are then checked again.
const MOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The rebalancing thread. A drop waits for its end. Call [`end`](Self::end) and stop the shards before: otherwise the
/// drop may wait for a move that takes long.
pub(super) struct Rebalancing {
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rebalancing {
    /// Starts the thread. It checks the shards behind `handle` every `config.interval`.
    pub fn start(config: RebalanceConfig, handle: Handle, clock: Clock) -> io::Result<Self> {
        let (running, ends) = channel::bounded(0);
        let run = move || run(config, &handle, clock, &ends);
        let thread = threads::start("moormq-balance", run)?;
        Ok(Rebalancing { running: Some(running), thread: Some(thread) })
    }

    /// Tells the thread to end: it starts no more moves.
    pub fn end(&mut self) {
        self.running = None;
    }
}

impl Drop for Rebalancing {
    fn drop(&mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error.
            let _ = thread.join();
        }
    }
}

fn run(config: RebalanceConfig, handle: &Handle, clock: Clock, ends: &Receiver<()>) {
    let interval = config.interval;
    let mut balancer = Balancer::new(config);
    while ends.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        match handle.reports() {
            Ok(reports) => carry_out(&balancer.look(reports, clock.now()), handle, ends),
            Err(error) => tracing::debug!(%error, "no reports of shards"),
        }
    }
}

fn carry_out(moves: &[SlotMove], handle: &Handle, ends: &Receiver<()>) {
    let Some(first) = moves.first() else { return };
    let slots: Vec<u16> = moves.iter().map(|one| one.slot).collect();
    let sessions: u64 = moves.iter().map(|one| one.sessions).sum();
    tracing::info!(from = first.from, slots = slots.len(), sessions, ?slots, "rebalancing");
    // Each change of the progress is an occasion to see whether the broker stops.
    let mut report = |_: MoveProgress| ends.try_recv() != Err(channel::TryRecvError::Disconnected);
    match handle.carry_out(moves, MOVE_TIMEOUT, &mut report) {
        Ok(()) | Err(OperationError::GivenUp(_)) => {}
        Err(error) => tracing::warn!(%error, "rebalancing"),
    }
}
