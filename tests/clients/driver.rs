//! Runs the event loop of an asynchronous client on a thread of its own, and lets the test wait for what it reports.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::task::AbortHandle;

use crate::DEADLINE;

/// A running event loop that reports `E`s. Dropping it aborts the loop, and with it cuts the connection.
pub struct Driver<E> {
    events: Receiver<E>,
    /// Events that were passed over by waits for others, oldest first.
    backlog: VecDeque<E>,
    task: AbortHandle,
    thread: Option<JoinHandle<()>>,
}

impl<E: Debug + Send + 'static> Driver<E> {
    /// Runs the loop that `make` makes; it reports through the sender.
    pub fn spawn<F>(make: impl FnOnce(Sender<E>) -> F + Send + 'static) -> Driver<E>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (report, events) = mpsc::channel();
        let (started, task) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let task = tokio::spawn(make(report));
                started.send(task.abort_handle()).expect("the test waits for it");
                // It ends by itself, or is aborted, or panics: then the channel of events closes.
                let _ = task.await;
            });
        });
        let task = task.recv().expect("the thread starts");
        Driver { events, backlog: VecDeque::new(), task, thread: Some(thread) }
    }

    /// Waits for the oldest event that `pick` takes; the others stay for later waits.
    ///
    /// Panics when [`DEADLINE`] passes or the loop ends first.
    pub fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&E) -> Option<T>) -> T {
        for index in 0..self.backlog.len() {
            if let Some(picked) = pick(&self.backlog[index]) {
                self.backlog.remove(index);
                return picked;
            }
        }
        let start = Instant::now();
        loop {
            match self.events.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
                Ok(event) => match pick(&event) {
                    Some(picked) => return picked,
                    None => self.backlog.push_back(event),
                },
                Err(RecvTimeoutError::Timeout) => panic!("waited for {what} in vain; there was {:?}", self.backlog),
                Err(RecvTimeoutError::Disconnected) => panic!("no {what}: it ended with {:?}", self.backlog),
            }
        }
    }
}

impl<E> Driver<E> {
    /// Takes the events that waits have passed over, oldest first.
    pub fn passed_over(&mut self) -> impl Iterator<Item = E> + '_ {
        self.backlog.drain(..)
    }

    /// Takes all events that there are, oldest first.
    pub fn rest(&mut self) -> impl Iterator<Item = E> + '_ {
        self.backlog.drain(..).chain(self.events.try_iter())
    }

    /// Aborts the loop, and returns when its connection is closed.
    pub fn abort(&mut self) {
        self.task.abort();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl<E> Drop for Driver<E> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
