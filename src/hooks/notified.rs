//! What a chain makes of a notification: the links that panicked, and the tasks the others handed over.

use std::any::Any;
use std::fmt;

use super::barrier::{NoticeTasks, Place};
use super::context::Task;
use super::verdict::PendingAnswer;

/// What came of calling every link for a notification.
#[derive(Default)]
#[must_use]
pub struct Notified {
    // `None` and not an empty list: the compiler sees at once that there is nothing to drop.
    pending: Option<Vec<PendingAnswer>>,
    failed: u32,
    has_state_changed: bool,
}

impl Notified {
    /// Whether a link says that what it keeps has changed.
    #[inline]
    pub fn has_state_changed(&self) -> bool {
        self.has_state_changed
    }

    /// A link says so.
    #[cold]
    pub(super) fn state_changed(&mut self) {
        self.has_state_changed = true;
    }

    /// How many links panicked; each has been logged and given up, the others were called.
    #[inline]
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// What the links want done before the client goes on, to be done one after the other. Nothing, as a rule. Each resolves to
    /// [`HookAnswer::Notification`](super::HookAnswer::Notification), or to [`HookAnswer::Failed`](super::HookAnswer::Failed) if some of it panicked.
    #[inline]
    pub fn into_pending(self) -> Option<Vec<PendingAnswer>> {
        self.pending
    }

    /// The link at this place handed these tasks over.
    #[cold]
    pub(super) fn add_tasks(&mut self, link: usize, tasks: Vec<Task>, place: Place) {
        let (hook, future) = (place.hook(), Box::pin(NoticeTasks::new(tasks, place)));
        self.pending.get_or_insert_default().push(PendingAnswer { hook, link, future });
    }

    /// A link panicked, perhaps after it had handed tasks over: they are given up with it.
    #[cold]
    pub(super) fn add_failed(&mut self, panic: Box<dyn Any + Send>, tasks: Option<Vec<Task>>, place: Place) {
        self.failed += 1;
        place.report(panic);
        drop(NoticeTasks::new(tasks.unwrap_or_default(), place));
    }
}

impl fmt::Debug for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.pending.as_ref().map_or(0, Vec::len);
        f.debug_struct("Notified").field("pending", &pending).field("failed", &self.failed).finish()
    }
}
