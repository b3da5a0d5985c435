//! Hooks that answer later: their futures, run as tasks of the shard's executor.
//!
//! Owns the futures of one shard and the answers that nobody has fetched yet. It never polls a future itself.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::Task;

use crate::hooks::{HookAnswer, HookFuture};

/// The hooks of a shard that have not answered, by number.
#[derive(Default)]
pub(super) struct HookTasks {
    running: HashMap<u64, Task<()>>,
    answers: Rc<Answers>,
}

#[derive(Default)]
struct Answers {
    ready: RefCell<VecDeque<(u64, HookAnswer)>>,
    waiter: Cell<Option<Waker>>,
}

impl HookTasks {
    /// Runs `future` to its end as task number `task`. Only inside a glommio executor.
    pub fn run(&mut self, task: u64, future: HookFuture) {
        let answers = Rc::clone(&self.answers);
        let running = glommio::spawn_local(async move {
            let answer = future.await;
            answers.ready.borrow_mut().push_back((task, answer));
            if let Some(waiter) = answers.waiter.take() {
                waiter.wake();
            }
        });
        self.running.insert(task, running);
    }

    /// Drops the future of a task. An answer that it has given already may still be fetched.
    pub fn cancel(&mut self, task: u64) {
        self.running.remove(&task);
    }

    /// Whether no hook is under way.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next answer.
    pub fn next_answer(&mut self) -> Option<(u64, HookAnswer)> {
        let answered = self.answers.ready.borrow_mut().pop_front()?;
        self.running.remove(&answered.0);
        Some(answered)
    }

    /// Ready when there is an answer to fetch.
    pub fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.answers.ready.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.answers.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
