//! The threads of the shards, with one executor each.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::probe::{StartError, Surroundings};
use super::worker::{Worker, WorkerLimits, WorkerParts};
use crate::hooks::Chain;
use crate::threads;

/// The time after which the executor interrupts a thread's tasks to poll for events: in practice, never. Reason: the
/// timer may fire after it was set and before the first task runs, while the thread waits for its core. glommio 0.9
/// then takes the thread for one without tasks, and it sleeps for good. The worker gives the executor its turns itself.
const PREEMPTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A shard's thread.
pub struct ShardThread {
    thread: JoinHandle<io::Result<()>>,
    started: Receiver<Result<ThreadId, StartError>>,
}

/// The kernel's id of a thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(u32);

impl ThreadId {
    /// The calling thread. None without `/proc`.
    fn own() -> Option<Self> {
        let link = fs::read_link("/proc/thread-self").ok()?;
        link.file_name()?.to_str()?.parse().ok().map(ThreadId)
    }

    /// The processor time of the thread so far, user and system. None if it has ended, or without `/proc`.
    pub fn cpu_time(self) -> Option<Duration> {
        // `schedstat` has nanoseconds, but not every kernel counts them. `stat` has hundredths of a second.
        let read = |file| fs::read_to_string(format!("/proc/self/task/{}/{file}", self.0)).ok();
        match read("schedstat") {
            Some(text) => text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos),
            None => cpu_time_in(&read("stat")?),
        }
    }
}

/// The processor time in the text of a file `stat` below `/proc`. The name, in parentheses, may contain anything.
fn cpu_time_in(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

impl ShardThread {
    /// Starts the thread of shard `number`, pinned to core `cpu` if given. Several threads may share a core. `make`
    /// makes the worker's parts, on the new thread.
    ///
    /// # Errors
    ///
    /// The system has no more threads. Errors of the shard itself come from [`started`](Self::started).
    pub fn start<C: Chain>(
        number: usize,
        cpu: Option<usize>,
        limits: WorkerLimits,
        make: impl FnOnce() -> WorkerParts<C> + Send + 'static,
    ) -> io::Result<Self> {
        let (report, started) = sync_channel(1);
        let name = format!("shard-{number}");
        let thread = threads::start(name, move || {
            let ended = run(cpu, limits, make, &report);
            if let Err(error) = &ended {
                threads::die(error);
            }
            ended
        })?;
        Ok(ShardThread { thread, started })
    }

    /// Waits until the shard has started. Returns the id of its thread.
    ///
    /// # Errors
    ///
    /// The reason why it could not start.
    pub fn started(&self) -> Result<ThreadId, StartError> {
        let ended = |_| StartError::Other { doing: "starting a shard", reason: "its thread ended".to_owned() };
        self.started.recv().map_err(ended)?
    }

    /// Whether the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread has ended.
    ///
    /// # Errors
    ///
    /// The thread failed: by an error of its ring, or by a panic, which has been reported on standard error.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of a shard panicked")))
    }
}

fn run<C: Chain>(
    cpu: Option<usize>,
    limits: WorkerLimits,
    make: impl FnOnce() -> WorkerParts<C>,
    report: &SyncSender<Result<ThreadId, StartError>>,
) -> io::Result<()> {
    let report_start = |outcome| {
        // The receiver is gone if the start was given up meanwhile.
        let _ = report.send(outcome);
    };
    let executor = match executor(cpu) {
        Ok(executor) => executor,
        Err(error) => {
            report_start(Err(Surroundings::read().explain_executor(cpu, &error)));
            return Ok(());
        }
    };
    let Some(own) = ThreadId::own() else {
        let reason = "there is no /proc/thread-self: mount /proc".to_owned();
        report_start(Err(StartError::Other { doing: "starting a shard", reason }));
        return Ok(());
    };
    executor.run(async {
        match Worker::new(make(), limits) {
            Ok(worker) => {
                report_start(Ok(own));
                worker.run().await
            }
            Err((step, error)) => {
                report_start(Err(Surroundings::read().explain(step, &error)));
                Ok(())
            }
        }
    })
}

/// An executor for this thread, without memory for direct I/O: nothing here uses that.
fn executor(cpu: Option<usize>) -> Result<LocalExecutor, glommio::GlommioError<()>> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(0)
        .preempt_timer(PREEMPTION)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_knows_its_id_and_its_processor_time() {
        let own = ThreadId::own().expect("there is /proc");
        let other = thread::spawn(ThreadId::own).join().expect("it does not panic").expect("there is /proc");
        assert_ne!(own, other);
        let start = own.cpu_time().expect("it lives");
        while own.cpu_time().expect("it lives") == start {}
        // It has ended; the kernel may need a moment to see to it.
        while other.cpu_time().is_some() {}
    }

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "7 (a) 1 (b)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(cpu_time_in(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_time_in("7 (a) S 1"), None);
    }
}
