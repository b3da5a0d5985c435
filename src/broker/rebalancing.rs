//! The thread that has slots moved when a shard is busier than the others for long (see [`Balancer`]).

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::handle::Handle;
use super::operations::OperationError;
use crate::config::RebalanceConfig;
use crate::control::status::MoveProgress;
use crate::net::clock::Clock;
use crate::shard::{Balancer, SlotMove};

/// How long slots may take to move until the next look is due anyway.
const MOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// A thread that evens out the load. Dropping it waits for its end: it must have been told to, and the shards must have
/// stopped, lest a move that they do not end keeps it waiting.
pub(super) struct Rebalancing {
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rebalancing {
    /// Begins to look after the shards behind `handle`.
    pub fn start(config: RebalanceConfig, handle: Handle, clock: Clock) -> io::Result<Self> {
        let (running, ends) = channel::bounded(0);
        let run = move || run(config, &handle, clock, &ends);
        let thread = thread::Builder::new().name("moormq-balance".to_owned()).spawn(run)?;
        Ok(Rebalancing { running: Some(running), thread: Some(thread) })
    }

    /// Begins nothing more.
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
    // Whether the broker stops is asked each time that something has moved.
    let mut told = |_: MoveProgress| ends.try_recv() != Err(channel::TryRecvError::Disconnected);
    match handle.carry_out(moves, MOVE_TIMEOUT, &mut told) {
        Ok(()) | Err(OperationError::GivenUp(_)) => {}
        Err(error) => tracing::warn!(%error, "rebalancing"),
    }
}
