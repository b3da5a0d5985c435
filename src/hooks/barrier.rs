//! The barrier around what hooks do: a panic is caught, logged with the names of hook and link, and told as a value.
//!
//! It stands around every call of a hook and around every poll and the drop of a future that a hook left behind, so
//! that a faulty link cannot take its shard down. A link that panicked is called again the next time: whether its own
//! fields are still sound is its own affair.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::answer::{Answer, HookAnswer, Later};
use super::context::Task;
use super::hook::Hook;

/// Which hook of which link something happened in: for logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    hook: &'static str,
    link: &'static str,
}

impl Place {
    /// `hook` of `link`, which is asked its name.
    #[cold]
    pub(super) fn of<H: Hook>(hook: &'static str, link: &H) -> Self {
        Place { hook, link: guard(|| link.name()).unwrap_or("(its name panics)") }
    }

    /// The name of the hook.
    pub(super) fn hook(self) -> &'static str {
        self.hook
    }

    /// The name of the link.
    pub(super) fn link(self) -> &'static str {
        self.link
    }

    /// Logs the panic.
    #[cold]
    pub(super) fn report(self, panic: Box<dyn Any + Send>) {
        let message = panic.downcast_ref::<&'static str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let known = message.is_some();
        let message = message.unwrap_or("(not a text)");
        tracing::error!(hook = self.hook, link = self.link, panic = message, "a hook panicked");
        if !known {
            // Dropping what is not a text runs code of the hook's, which may panic again, out here.
            std::mem::forget(panic);
        }
    }
}

/// Runs `call` behind the barrier.
#[inline]
pub(super) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(call))
}

/// A future of a hook's, behind the barrier: a panic ends it, now or when it is dropped.
struct Guarded<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    place: Place,
}

impl<T> Guarded<T> {
    /// Polls the future; none once it has panicked, or been done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        let value = match guard(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Some(value),
            Err(panic) => {
                self.place.report(panic);
                None
            }
        };
        self.discard();
        Poll::Ready(value)
    }

    fn discard(&mut self) {
        let future = self.future.take();
        if let Err(panic) = guard(|| drop(future)) {
            self.place.report(panic);
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        self.discard();
    }
}

/// A later answer as the runtime gets it: behind the barrier, settled, and in the variant of its hook.
pub(super) struct LaterAnswer<M, R> {
    answer: Guarded<Answer<M, R>>,
    variant: fn(Answer<M, R>) -> HookAnswer,
}

impl<M, R> LaterAnswer<M, R> {
    pub(super) fn new(future: Later<M, R>, place: Place, variant: fn(Answer<M, R>) -> HookAnswer) -> Self {
        LaterAnswer { answer: Guarded { future: Some(future), place }, variant }
    }
}

impl<M, R> Future for LaterAnswer<M, R> {
    type Output = HookAnswer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HookAnswer> {
        loop {
            return Poll::Ready(match std::task::ready!(self.answer.poll(cx)) {
                Some(Answer::Later(once_more)) => {
                    self.answer.future = Some(once_more);
                    continue;
                }
                Some(Answer::Absent) => (self.variant)(Answer::Next),
                Some(answer) => (self.variant)(answer),
                None => HookAnswer::Failed,
            });
        }
    }
}

/// The tasks of one call of a notification as the runtime gets them: behind the barrier, one after the other.
pub(super) struct NoticeTasks {
    tasks: VecDeque<Guarded<()>>,
    panicked: bool,
}

impl NoticeTasks {
    pub(super) fn new(tasks: Vec<Task>, place: Place) -> Self {
        let tasks = tasks.into_iter().map(|task| Guarded { future: Some(task), place }).collect();
        NoticeTasks { tasks, panicked: false }
    }
}

impl Future for NoticeTasks {
    type Output = HookAnswer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HookAnswer> {
        while let Some(first) = self.tasks.front_mut() {
            let done = std::task::ready!(first.poll(cx));
            self.panicked |= done.is_none();
            self.tasks.pop_front();
        }
        Poll::Ready(if self.panicked { HookAnswer::Failed } else { HookAnswer::Notification })
    }
}
