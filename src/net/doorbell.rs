//! What wakes a sleeping shard, and the inbox by which other threads reach it.
//!
//! A doorbell costs a system call only when its shard sleeps.
//!
//! **No wake-up is lost.** Sleeper and caller each write one word, then read the other's, with a sequentially consistent
//! fence in between: the sleeper sets `asleep`, fences, and looks for mail; the caller puts mail in, fences, and looks at
//! `asleep`. Whichever fence comes second in their total order, the read behind it sees the write before the other one. So
//! either the sleeper finds the mail and stays awake, or the caller finds it asleep and rings. What the sleeper reads (the
//! mesh's `posted` bits, the inbox) the caller must therefore have written before it rings.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::channel::{self, Receiver, Sender, TrySendError};
use crossbeam::utils::CachePadded;

use super::ring_wakeup::Eventfd;

/// What wakes a sleeping shard. Others call, the shard alone sleeps.
#[derive(Debug)]
pub struct Doorbell {
    asleep: CachePadded<AtomicBool>,
    eventfd: Eventfd,
}

impl Doorbell {
    /// The doorbell of a shard that is awake.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptors left.
    pub fn new() -> std::io::Result<Self> {
        Ok(Doorbell { asleep: CachePadded::new(AtomicBool::new(false)), eventfd: Eventfd::new()? })
    }

    /// Wakes the shard if it sleeps. To be called after what it is to find is in its place.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.eventfd.raise();
        }
    }

    /// Goes to sleep unless `found` says that something is there to be done; whether it did. From then on a call raises the
    /// eventfd, until [`awake`](Self::awake).
    pub fn sleep_unless(&self, found: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let stay_up = found();
        if stay_up {
            self.awake();
        }
        !stay_up
    }

    /// What a call raises.
    pub(super) fn eventfd(&self) -> &Eventfd {
        &self.eventfd
    }

    /// The shard is awake; calls cost nothing from here on.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

impl AsFd for Doorbell {
    /// The eventfd that a call raises.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// Where other threads leave requests for a shard: those of the embedding program, of the control plane.
#[derive(Debug)]
pub struct Inbox<R> {
    requests: Receiver<R>,
}

/// The way to a shard's [`Inbox`], from any thread.
#[derive(Debug)]
pub struct InboxSender<R> {
    requests: Sender<R>,
    doorbell: Arc<Doorbell>,
}

impl<R> Clone for InboxSender<R> {
    fn clone(&self) -> Self {
        InboxSender { requests: self.requests.clone(), doorbell: Arc::clone(&self.doorbell) }
    }
}

/// An inbox that holds up to `capacity` requests (1 at least) and rings `doorbell` for each.
pub fn inbox<R>(capacity: usize, doorbell: &Arc<Doorbell>) -> (InboxSender<R>, Inbox<R>) {
    let (sender, requests) = channel::bounded(capacity.max(1));
    (InboxSender { requests: sender, doorbell: Arc::clone(doorbell) }, Inbox { requests })
}

impl<R> InboxSender<R> {
    /// Leaves a request, without waiting.
    ///
    /// # Errors
    ///
    /// The request, when the inbox is full or its shard has ended.
    pub fn try_send(&self, request: R) -> Result<(), TrySendError<R>> {
        self.requests.try_send(request)?;
        self.doorbell.ring();
        Ok(())
    }
}

impl<R> Inbox<R> {
    /// The next request.
    pub fn receive(&self) -> Option<R> {
        self.requests.try_recv().ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_refuses_what_it_cannot_hold() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, inbox) = inbox(1, &doorbell);
        assert!(sender.try_send(1).is_ok());
        assert_eq!(sender.clone().try_send(2).unwrap_err().into_inner(), 2);
        assert_eq!((inbox.receive(), inbox.is_empty()), (Some(1), true));
        drop(inbox);
        assert!(sender.try_send(3).is_err());
    }
}
