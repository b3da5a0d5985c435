//! The doorbell, which wakes a sleeping shard, and the inbox, in which other threads leave commands for it.
//!
//! Ringing a doorbell costs a system call only when its shard sleeps.
//!
//! **No wake-up is lost.** Sleeper and caller each write one word, then read the other's, with a sequentially
//! consistent fence in between. The sleeper sets `asleep`, fences, and looks for messages. The caller writes a message,
//! fences, and looks at `asleep`. Whichever fence comes second in their total order, the read behind it sees the write
//! before the other one. So either the sleeper finds the message and stays awake, or the caller finds `asleep` set and
//! rings. The caller must therefore write what the sleeper reads (the mesh's `posted` bits, the inbox) before it rings.

use std::collections::VecDeque;
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
///
/// Requests come out in order. While the shard has no room for those that hold on to bytes, these are set aside, in order, and others
/// overtake them. What is set aside counts as being in the inbox: so it is bounded as before, and who sends more hears that it is full. The
/// others have room of their own.
#[derive(Debug)]
pub struct Inbox<R> {
    requests: Receiver<(R, usize)>,
    aside: VecDeque<(R, usize)>,
    room: Arc<Room>,
    /// What is never refused.
    posted: Arc<SegQueue<R>>,
}

/// The sending end of a shard's [`Inbox`], for any thread.
#[derive(Debug)]
pub struct InboxSender<R> {
    requests: Sender<(R, usize)>,
    room: Arc<Room>,
    posted: Arc<SegQueue<R>>,
    doorbell: Arc<Doorbell>,
}

/// What is in an inbox, and how much may be.
#[derive(Debug)]
struct Room {
    /// Requests that hold on to bytes, and others.
    requests: [AtomicUsize; 2],
    /// As many of each kind may be in it.
    capacity: usize,
    /// The bytes that they hold on to, and how many that may be.
    load: AtomicUsize,
    most: usize,
}

impl Room {
    /// Takes the room for a request, if there is any.
    fn take(&self, bytes: usize) -> bool {
        let requests = &self.requests[usize::from(bytes == 0)];
        if requests.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            requests.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let before = self.load.fetch_add(bytes, Ordering::Relaxed);
        if bytes > 0 && before > 0 && before.saturating_add(bytes) > self.most {
            self.give_back(bytes);
            return false;
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.requests[usize::from(bytes == 0)].fetch_sub(1, Ordering::Relaxed);
        self.load.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl<R> Clone for InboxSender<R> {
    fn clone(&self) -> Self {
        InboxSender {
            requests: self.requests.clone(),
            room: Arc::clone(&self.room),
            posted: Arc::clone(&self.posted),
            doorbell: Arc::clone(&self.doorbell),
        }
    }
}

/// An inbox that rings `doorbell` for each request. It holds up to `capacity` (1 at least) that hold on to bytes, of `most` bytes together or
/// one, and as many others.
pub fn inbox<R>(capacity: usize, most: usize, doorbell: &Arc<Doorbell>) -> (InboxSender<R>, Inbox<R>) {
    let capacity = capacity.max(1);
    let (sender, requests) = channel::bounded(2 * capacity);
    let room = Arc::new(Room { requests: Default::default(), capacity, load: AtomicUsize::new(0), most });
    let posted = Arc::new(SegQueue::new());
    let inbox = Inbox { requests, aside: VecDeque::new(), room: Arc::clone(&room), posted: Arc::clone(&posted) };
    (InboxSender { requests: sender, room, posted, doorbell: Arc::clone(doorbell) }, inbox)
}

impl<R> InboxSender<R> {
    /// Puts a request into the inbox, which holds on to so many bytes, without waiting.
    ///
    /// # Errors
    ///
    /// The inbox is full, or its shard has ended. The error holds the request.
    pub fn try_send(&self, request: R, bytes: usize) -> Result<(), TrySendError<R>> {
        if !self.room.take(bytes) {
            return Err(TrySendError::Full(request));
        }
        if let Err(error) = self.requests.try_send((request, bytes)) {
            self.room.give_back(bytes);
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
    /// The next request, if there is one; with `sets_aside` the next that holds on to no bytes. Does not wait.
    pub fn receive(&mut self, sets_aside: bool) -> Option<R> {
        if let Some(posted) = self.posted.pop() {
            return Some(posted);
        }
        if !sets_aside && let Some(request) = self.take_aside() {
            return Some(request);
        }
        loop {
            let (request, bytes) = self.requests.try_recv().ok()?;
            if !sets_aside || bytes == 0 {
                self.room.give_back(bytes);
                return Some(request);
            }
            self.aside.push_back((request, bytes));
        }
    }

    /// The first of those that were set aside.
    pub fn take_aside(&mut self) -> Option<R> {
        let (request, bytes) = self.aside.pop_front()?;
        if self.aside.is_empty() {
            self.aside = VecDeque::new();
        }
        self.room.give_back(bytes);
        Some(request)
    }

    /// Whether there is no request; with `sets_aside` none but those that were set aside.
    pub fn is_empty(&self, sets_aside: bool) -> bool {
        self.posted.is_empty() && self.requests.is_empty() && (sets_aside || self.aside.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_refuses_what_it_cannot_hold() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, mut inbox) = inbox(1, 100, &doorbell);
        assert!(sender.try_send(1, 0).is_ok());
        assert_eq!(sender.clone().try_send(2, 0).unwrap_err().into_inner(), 2);
        assert_eq!((inbox.receive(false), inbox.is_empty(false)), (Some(1), true));
        drop(inbox);
        assert!(sender.try_send(3, 0).is_err());
    }

    #[test]
    fn an_inbox_is_full_in_bytes_too_and_takes_one_request_however_large() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, mut inbox) = inbox(9, 100, &doorbell);
        assert!(sender.try_send(1, 1000).is_ok());
        assert!(matches!(sender.try_send(2, 1), Err(TrySendError::Full(2))));
        assert_eq!(inbox.receive(false), Some(1));
        assert!(sender.try_send(3, 60).is_ok() && sender.try_send(4, 40).is_ok() && sender.try_send(5, 1).is_err());
        assert_eq!((inbox.receive(false), inbox.receive(false), inbox.receive(false)), (Some(3), Some(4), None));
        assert!(sender.try_send(6, 100).is_ok(), "what was refused does not count");
    }

    #[test]
    fn what_is_posted_finds_room_in_a_full_inbox_and_comes_first() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, mut inbox) = inbox(1, 100, &doorbell);
        assert!(sender.try_send(1, 0).is_ok() && sender.try_send(2, 0).is_err());
        (3..5).for_each(|request| sender.post(request));
        assert!(!inbox.is_empty(false));
        assert_eq!(std::iter::from_fn(|| inbox.receive(false)).collect::<Vec<_>>(), [3, 4, 1]);
        sender.post(5);
        assert_eq!((inbox.is_empty(false), inbox.receive(false), inbox.is_empty(false)), (false, Some(5), true));
    }

    #[test]
    fn what_is_set_aside_keeps_its_order_and_its_room_and_others_overtake_it() {
        let doorbell = Arc::new(Doorbell::new().unwrap());
        let (sender, mut inbox) = inbox(3, 100, &doorbell);
        let send = |request, bytes| sender.try_send(request, bytes).is_ok();
        assert!(send(1, 40) && send(2, 0) && send(3, 60) && !send(4, 1));
        assert_eq!((inbox.receive(true), inbox.receive(true)), (Some(2), None));
        assert!(inbox.is_empty(true) && !inbox.is_empty(false));
        assert!(!send(4, 1), "it is full of what was set aside");
        assert!((5..8).all(|request| send(request, 0)) && !send(8, 0), "others have room of their own");
        assert_eq!(inbox.receive(true), Some(5));
        assert_eq!((inbox.receive(false), send(9, 40)), (Some(1), true));
        assert_eq!(std::iter::from_fn(|| inbox.receive(false)).collect::<Vec<_>>(), [3, 6, 7, 9]);
        assert!((10..13).all(|request| send(request, 1)) && !send(13, 1), "in number, too");
    }
}
