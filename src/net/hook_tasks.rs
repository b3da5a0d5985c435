//! The pending hooks of one shard: their futures and wakers.
//!
//! Owns the futures and polls them in the shard's turns. A future may be woken by any thread, mostly one of the
//! embedding program, and at any time, also after its client has gone. Its waker therefore holds only a number, and a
//! queue and a doorbell that other threads may use. The executor's own wakers are not handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam::queue::SegQueue;

use super::doorbell::Doorbell;
use crate::hooks::{HookAnswer, HookFuture};
use crate::sharding::hasher;
use crate::tables::PartedMap;

/// The pending hooks of a shard, by task number.
pub(super) struct HookTasks {
    /// At most a few for each client, and as many about messages as there may be; the numbers are the shard's own, and need no secret seed.
    running: PartedMap<u64, Running>,
    woken: Arc<Woken>,
}

struct Running {
    future: HookFuture,
    waker: Arc<HookWaker>,
}

/// The woken tasks, in order, each at most once. Cancelled tasks may be among them.
struct Woken {
    tasks: SegQueue<u64>,
    doorbell: Arc<Doorbell>,
}

/// The waker of one task, for any thread.
struct HookWaker {
    task: u64,
    /// The task is in the queue of woken tasks.
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for HookWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.woken.tasks.push(self.task);
            self.woken.doorbell.ring();
        }
    }
}

impl HookTasks {
    /// An empty set. `doorbell` is that of the shard.
    pub fn new(doorbell: &Arc<Doorbell>) -> Self {
        let woken = Woken { tasks: SegQueue::new(), doorbell: Arc::clone(doorbell) };
        HookTasks { running: PartedMap::with_hasher(hasher(0)), woken: Arc::new(woken) }
    }

    /// Adds `future` as task number `task`. It is polled in the next turn.
    pub fn run(&mut self, task: u64, future: HookFuture) {
        let waker = HookWaker { task, queued: AtomicBool::new(false), woken: Arc::clone(&self.woken) };
        let waker = Arc::new(waker);
        waker.wake_by_ref();
        self.running.insert(task, Running { future, waker });
    }

    /// Cancels a task: its future is dropped.
    pub fn cancel(&mut self, task: u64) {
        self.running.remove(&task);
    }

    /// Whether no hook is pending.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a task has been woken.
    pub fn has_woken(&self) -> bool {
        !self.woken.tasks.is_empty()
    }

    /// The number of woken tasks. A turn polls as many; tasks woken meanwhile, also by themselves, wait for the next
    /// turn.
    pub fn woken(&self) -> usize {
        self.woken.tasks.len()
    }

    /// Polls the first of the woken tasks. Returns its number and answer if it has finished.
    pub fn poll_next(&mut self) -> Option<(u64, HookAnswer)> {
        let task = self.woken.tasks.pop()?;
        let Running { future, waker } = self.running.get_mut(&task)?;
        // Before the poll, so that a wake-up during the poll queues the task again.
        waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(waker));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => None,
            Poll::Ready(answer) => {
                self.running.remove(&task);
                Some((task, answer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    fn tasks() -> HookTasks {
        HookTasks::new(&Arc::new(Doorbell::new().unwrap()))
    }

    /// Polls the tasks woken so far.
    fn turn(tasks: &mut HookTasks) -> Vec<u64> {
        let woken = tasks.woken();
        (0..woken).filter_map(|_| tasks.poll_next()).map(|(task, _)| task).collect()
    }

    /// A future that leaves its waker behind and counts its polls.
    fn waiting(wakers: &Arc<Mutex<Vec<Waker>>>, polls: &Arc<AtomicUsize>) -> HookFuture {
        let (wakers, polls) = (Arc::clone(wakers), Arc::clone(polls));
        Box::pin(poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            wakers.lock().unwrap().push(cx.waker().clone());
            Poll::<HookAnswer>::Pending
        }))
    }

    #[test]
    fn a_hook_is_polled_when_it_is_woken_and_not_otherwise() {
        let (mut tasks, wakers, polls) = (tasks(), Arc::default(), Arc::default());
        tasks.run(7, waiting(&wakers, &polls));
        assert!(tasks.has_woken(), "it is polled once at first");
        assert_eq!((turn(&mut tasks), turn(&mut tasks)), (vec![], vec![]));
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        let waker = wakers.lock().unwrap().pop().unwrap();
        (0..100).for_each(|_| waker.wake_by_ref());
        assert_eq!(tasks.woken(), 1, "the queue does not grow with the wake-ups");
        turn(&mut tasks);
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_hook_that_wakes_itself_leaves_others_their_turn() {
        let mut tasks = tasks();
        tasks.run(
            1,
            Box::pin(poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::<HookAnswer>::Pending
            })),
        );
        tasks.run(2, Box::pin(async { HookAnswer::Notification }));
        assert_eq!(turn(&mut tasks), [2]);
        assert!(tasks.has_woken());
    }

    #[test]
    fn a_wake_up_of_a_task_that_is_gone_does_nothing() {
        let (mut tasks, wakers, polls) = (tasks(), Arc::<Mutex<Vec<Waker>>>::default(), Arc::default());
        tasks.run(1, waiting(&wakers, &polls));
        turn(&mut tasks);
        tasks.cancel(1);
        let waker = wakers.lock().unwrap().pop().unwrap();
        thread::spawn(move || waker.wake()).join().unwrap();
        assert_eq!((turn(&mut tasks), polls.load(Ordering::SeqCst)), (vec![], 1));
        tasks.run(2, waiting(&wakers, &polls));
        turn(&mut tasks);
        drop(tasks);
        let waker = wakers.lock().unwrap().pop().unwrap();
        thread::spawn(move || waker.wake()).join().unwrap();
    }
}
