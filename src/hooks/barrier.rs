//! The barrier around what hooks do: a panic is caught, logged with the names of hook and link, and told as a value.
//!
//! It stands around every call of a hook, and around every poll, call and drop of what a hook left behind, so that a faulty
//! link cannot take its shard down. A link that panicked is called again the next time: whether its own
//! fields are still sound is its own affair.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::answer::{Answer, Finish, Later, Resolved};
use super::context::Task;
use super::hook::Hook;
use super::verdict::{Finished, HookAnswer, Unfinished};

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

/// What a hook left behind, behind the barrier: a panic ends it, now or when it is dropped.
struct Guarded<T> {
    left: Option<T>,
    place: Place,
}

/// A future of a hook's.
type GuardedFuture<T> = Guarded<Pin<Box<dyn Future<Output = T>>>>;

impl<T> GuardedFuture<T> {
    /// Polls the future; none once it has panicked, or been done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(future) = &mut self.left else { return Poll::Ready(None) };
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
}

impl<M, R> Guarded<Finish<M, R>> {
    /// Makes the answer, once; none if that panics.
    fn finish(&mut self, state: &mut dyn Any) -> Option<Answer<M, R>> {
        let finish = self.left.take()?;
        guard(|| finish(state)).map_err(|panic| self.place.report(panic)).ok()
    }
}

impl<T> Guarded<T> {
    fn discard(&mut self) {
        let left = self.left.take();
        if let Err(panic) = guard(|| drop(left)) {
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
    future: GuardedFuture<Resolved<M, R>>,
    variant: fn(Answer<M, R>) -> HookAnswer,
}

impl<M: 'static, R: 'static> LaterAnswer<M, R> {
    pub(super) fn new(later: Later<M, R>, place: Place, variant: fn(Answer<M, R>) -> HookAnswer) -> Self {
        LaterAnswer { future: Guarded { left: Some(later.into_future()), place }, variant }
    }

    /// An answer that is to be made with the state of the link.
    fn unfinished(&self, finish: Finish<M, R>) -> Unfinished {
        let (place, variant) = (self.future.place, self.variant);
        let mut finish = Guarded { left: Some(finish), place };
        Unfinished::new(place.hook, move |state| {
            Finished::Answer(Box::new(match finish.finish(state) {
                Some(Answer::Later(later)) => {
                    return Finished::Later(Box::pin(LaterAnswer::new(later, place, variant)));
                }
                Some(Answer::Absent) => variant(Answer::Next),
                Some(answer) => variant(answer),
                None => HookAnswer::Failed,
            }))
        })
    }
}

impl<M: 'static, R: 'static> Future for LaterAnswer<M, R> {
    type Output = HookAnswer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HookAnswer> {
        loop {
            return Poll::Ready(match std::task::ready!(self.future.poll(cx)) {
                Some(Resolved::Answer(Answer::Later(once_more))) => {
                    self.future.left = Some(once_more.into_future());
                    continue;
                }
                Some(Resolved::Answer(Answer::Absent)) => (self.variant)(Answer::Next),
                Some(Resolved::Answer(answer)) => (self.variant)(answer),
                Some(Resolved::Unfinished(finish)) => HookAnswer::Unfinished(self.unfinished(finish)),
                None => HookAnswer::Failed,
            });
        }
    }
}

/// The tasks of one call of a notification as the runtime gets them: behind the barrier, one after the other.
pub(super) struct NoticeTasks {
    tasks: VecDeque<GuardedFuture<()>>,
    panicked: bool,
}

impl NoticeTasks {
    pub(super) fn new(tasks: Vec<Task>, place: Place) -> Self {
        let tasks = tasks.into_iter().map(|task| Guarded { left: Some(task), place }).collect();
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
