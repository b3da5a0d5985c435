//! Hooks that answer later: their futures, and what wakes them.
//!
//! Owns the futures of one shard and polls them in its turns. What a future waits for may be anywhere: it is woken by a
//! thread of the embedding program as a rule, at any time, perhaps when its client is long gone. So its waker holds nothing
//! of the shard's but a number, and a queue and a doorbell that are made for other threads; the executor's own wakers are
//! not handed out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam::queue::SegQueue;

use super::doorbell::Doorbell;
use crate::hooks::{HookAnswer, HookFuture};

/// The hooks of a shard that have not answered, by number.
pub(super) struct HookTasks {
    running: HashMap<u64, Running>,
    woken: Arc<Woken>,
}

struct Running {
    future: HookFuture,
    waker: Arc<HookWaker>,
}

/// The tasks that were woken, in order, each at most once. Those that are gone may be among them.
struct Woken {
    tasks: SegQueue<u64>,
    doorbell: Arc<Doorbell>,
}

/// Wakes one task, from any thread.
struct HookWaker {
    task: u64,
    /// It is in the queue.
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
    /// No hooks yet. `doorbell` is that of their shard.
    pub fn new(doorbell: &Arc<Doorbell>) -> Self {
        let woken = Woken { tasks: SegQueue::new(), doorbell: Arc::clone(doorbell) };
        HookTasks { running: HashMap::new(), woken: Arc::new(woken) }
    }

    /// Takes `future` as task number `task`, to be polled at the next turn.
    pub fn run(&mut self, task: u64, future: HookFuture) {
        let waker = HookWaker { task, queued: AtomicBool::new(false), woken: Arc::clone(&self.woken) };
        let waker = Arc::new(waker);
        waker.wake_by_ref();
        self.running.insert(task, Running { future, waker });
    }

    /// Drops the future of a task.
    pub fn cancel(&mut self, task: u64) {
        self.running.remove(&task);
    }

    /// Whether no hook is under way.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether a hook can go on.
    pub fn has_woken(&self) -> bool {
        !self.woken.tasks.is_empty()
    }

    /// How many wake-ups are to be looked at. Those that come while they are, a hook that wakes itself among them, have
    /// their turn later.
    pub fn woken(&self) -> usize {
        self.woken.tasks.len()
    }

    /// Lets the hook that was woken first go on; its answer, if it has one now.
    pub fn go_on(&mut self) -> Option<(u64, HookAnswer)> {
        let task = self.woken.tasks.pop()?;
        let Running { future, waker } = self.running.get_mut(&task)?;
        // Before the poll: what wakes it from here on wakes it again.
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

    /// Polls what was woken so far.
    fn turn(tasks: &mut HookTasks) -> Vec<u64> {
        let woken = tasks.woken();
        (0..woken).filter_map(|_| tasks.go_on()).map(|(task, _)| task).collect()
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
    fn who_is_woken_when_it_is_gone_is_not_missed() {
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
