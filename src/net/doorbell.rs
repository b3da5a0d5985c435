//! The doorbell, which wakes a sleeping shard, and the inbox, in which other threads leave commands for it.
//!
//! Ringing a doorbell costs a system call only when its shard sleeps.
//!
//! **No wake-up is lost.** Sleeper and caller each write one word, then read the other's, with a sequentially
//! consistent fence in between. The sleeper sets `asleep`, fences, and looks for messages. The caller writes a message,
//! fences, and looks at `asleep`. Whichever fence comes second in their total order, the read behind it sees the write
//! before the other one. So either the sleeper finds the message and stays awake, or the caller finds `asleep` set and
//! rings. The caller must therefore write what the sleeper reads (the mesh's `posted` bits, the inbox) before it rings.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam::channel::{self, Receiver, Sender, TrySendError};
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;

use super::ring_wakeup::Eventfd;

/// The doorbell of a shard: any thread may ring it, the shard's thread alone sleeps.
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

    /// Wakes the shard if it sleeps. Call it after writing what the shard is to find.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.eventfd.raise();
        }
    }

    /// Marks the shard as asleep unless `found` finds work. Returns whether it is asleep now: from then on
    /// [`ring`](Self::ring) raises the eventfd, until [`awake`](Self::awake).
    pub fn sleep_unless(&self, found: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let stay_up = found();
        if stay_up {
            self.awake();
        }
        !stay_up
    }

    /// The eventfd that [`ring`](Self::ring) raises.
    pub(super) fn eventfd(&self) -> &Eventfd {
        &self.eventfd
    }

    /// Marks the shard as awake: from here on [`ring`](Self::ring) costs no system call.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

impl AsFd for Doorbell {
    /// The eventfd that [`Doorbell::ring`] raises.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// The inbox of a shard: a bounded queue of requests from threads of the embedding program and of the control plane.
#[derive(Debug)]
pub struct Inbox<R> {
    requests: Receiver<(R, usize)>,
    load: Arc<AtomicUsize>,
    /// What is never refused.
    posted: Arc<SegQueue<R>>,
}

/// The sending end of a shard's [`Inbox`], for any thread.
#[derive(Debug)]
pub struct InboxSender<R> {
    requests: Sender<(R, usize)>,
    /// The bytes that the requests in it hold on to, and how many that may be.
    load: Arc<AtomicUsize>,
    most: usize,
    posted: Arc<SegQueue<R>>,
    doorbell: Arc<Doorbell>,
}

impl<R> Clone for InboxSender<R> {
    fn clone(&self) -> Self {
        InboxSender {
            requests: self.requests.clone(),
            load: Arc::clone(&self.load),
            most: self.most,
            posted: Arc::clone(&self.posted),
            doorbell: Arc::clone(&self.doorbell),
        }
    }
}

/// An inbox that holds up to `capacity` requests (1 at least), of `most` bytes together or one, and rings `doorbell` for each.
pub fn inbox<R>(capacity: usize, most: usize, doorbell: &Arc<Doorbell>) -> (InboxSender<R>, Inbox<R>) {
    let (sender, requests) = channel::bounded(capacity.max(1));
    let (load, posted) = (Arc::new(AtomicUsize::new(0)), Arc::new(SegQueue::new()));
    let inbox = Inbox { requests, load: Arc::clone(&load), posted: Arc::clone(&posted) };
    (InboxSender { requests: sender, load, most, posted, doorbell: Arc::clone(doorbell) }, inbox)
}

impl<R> InboxSender<R> {
    /// Puts a request into the inbox, which holds on to so many bytes, without waiting.
    ///
    /// # Errors
    ///
    /// The inbox is full, or its shard has ended. The error holds the request.
    pub fn try_send(&self, request: R, bytes: usize) -> Result<(), TrySendError<R>> {
        let before = self.load.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(bytes) > self.most {
            self.load.fetch_sub(bytes, Ordering::Relaxed);
            return Err(TrySendError::Full(request));
        }
        if let Err(error) = self.requests.try_send((request, bytes)) {
            self.load.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match error {
                TrySendError::Full((request, _)) => TrySendError::Full(request),
                TrySendError::Disconnected((request, _)) => TrySendError::Disconnected(request),
            });
        }
        self.doorbell.ring();
        Ok(())
    }

    /// Puts a request into the inbox, be it full or not. It overtakes those that came with [`try_send`](Self::try_send). Only for requests of
    /// which something else bounds the number: that a thing ends, say, which began with a request that found room.
    pub fn post(&self, request: R) {
        self.posted.push(request);
        self.doorbell.ring();
    }
}

impl<R> Inbox<R> {
    /// The next request, if there is one. Does not wait.
    pub fn receive(&self) -> Option<R> {
        if let Some(posted) = self.posted.pop() {
            return Some(posted);
        }
        let (request, bytes) = self.requests.try_recv().ok()?;
        self.load.fetch_sub(bytes, Ordering::Relaxed);
        Some(request)
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty() && self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_refuses_what_it_cannot_hold() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, inbox) = inbox(1, 100, &doorbell);
        assert!(sender.try_send(1, 0).is_ok());
        assert_eq!(sender.clone().try_send(2, 0).unwrap_err().into_inner(), 2);
        assert_eq!((inbox.receive(), inbox.is_empty()), (Some(1), true));
        drop(inbox);
        assert!(sender.try_send(3, 0).is_err());
    }

    #[test]
    fn an_inbox_is_full_in_bytes_too_and_takes_one_request_however_large() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, inbox) = inbox(9, 100, &doorbell);
        assert!(sender.try_send(1, 1000).is_ok());
        assert!(matches!(sender.try_send(2, 1), Err(TrySendError::Full(2))));
        assert_eq!(inbox.receive(), Some(1));
        assert!(sender.try_send(3, 60).is_ok() && sender.try_send(4, 40).is_ok() && sender.try_send(5, 1).is_err());
        assert_eq!((inbox.receive(), inbox.receive(), inbox.receive()), (Some(3), Some(4), None));
        assert!(sender.try_send(6, 100).is_ok(), "what was refused does not count");
    }

    #[test]
    fn what_is_posted_finds_room_in_a_full_inbox_and_comes_first() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, inbox) = inbox(1, 100, &doorbell);
        assert!(sender.try_send(1, 0).is_ok() && sender.try_send(2, 0).is_err());
        (3..5).for_each(|request| sender.post(request));
        assert!(!inbox.is_empty());
        assert_eq!(std::iter::from_fn(|| inbox.receive()).collect::<Vec<_>>(), [3, 4, 1]);
        sender.post(5);
        assert_eq!((inbox.is_empty(), inbox.receive(), inbox.is_empty()), (false, Some(5), true));
    }
}
