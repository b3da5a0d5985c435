//! The threads that shards run on, one executor each.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::probe::{StartError, Surroundings};
use super::worker::{Worker, WorkerLimits, WorkerParts};
use crate::hooks::Chain;

/// When the executor interrupts a thread's tasks to look for events: never, as far as anybody will notice. If that time
/// comes while a thread waits for its core, between setting the timer and the first task, glommio 0.9 takes it for a
/// thread without tasks and puts it to sleep for good. The worker sees to it that the executor gets its turn.
const PREEMPTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A shard's thread.
pub struct ShardThread {
    thread: JoinHandle<io::Result<()>>,
    started: Receiver<Result<(), StartError>>,
}

impl ShardThread {
    /// Starts the thread of shard `number`, pinned to core `cpu` if given; several may share one. `make` makes the worker's
    /// parts, on that thread.
    ///
    /// # Errors
    ///
    /// When the system has no more threads. Whether the shard itself could start, [`started`](Self::started) tells.
    pub fn start<C: Chain>(
        number: usize,
        cpu: Option<usize>,
        limits: WorkerLimits,
        make: impl FnOnce() -> WorkerParts<C> + Send + 'static,
    ) -> io::Result<Self> {
        let (report, started) = sync_channel(1);
        let name = format!("shard-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || run(cpu, limits, make, &report))?;
        Ok(ShardThread { thread, started })
    }

    /// Waits until the shard works.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn started(&self) -> Result<(), StartError> {
        let ended = |_| StartError::Other { doing: "starting a shard", reason: "its thread ended".to_owned() };
        self.started.recv().map_err(ended)?
    }

    /// Waits until the thread has ended.
    ///
    /// # Errors
    ///
    /// How it failed: by an error of its ring, or by a panic, which has been reported on standard error.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of a shard panicked")))
    }
}

fn run<C: Chain>(
    cpu: Option<usize>,
    limits: WorkerLimits,
    make: impl FnOnce() -> WorkerParts<C>,
    report: &SyncSender<Result<(), StartError>>,
) -> io::Result<()> {
    let tell = |outcome| {
        // Nobody listens if the start was given up meanwhile.
        let _ = report.send(outcome);
    };
    let executor = match executor(cpu) {
        Ok(executor) => executor,
        Err(error) => {
            tell(Err(Surroundings::read().explain_executor(cpu, &error)));
            return Ok(());
        }
    };
    executor.run(async {
        match Worker::new(make(), limits) {
            Ok(worker) => {
                tell(Ok(()));
                worker.run().await
            }
            Err((step, error)) => {
                tell(Err(Surroundings::read().explain(step, &error)));
                Ok(())
            }
        }
    })
}

/// An executor on this thread. It has next to no memory for direct I/O: its files are few.
fn executor(cpu: Option<usize>) -> Result<LocalExecutor, glommio::GlommioError<()>> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(0)
        .preempt_timer(PREEMPTION)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
}
