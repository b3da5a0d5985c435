//! The mesh between shards: one first-in first-out queue for each ordered pair of shards, and a doorbell for each
//! shard.
//!
//! Nothing here blocks. The load of a queue is bounded. Messages beyond it stay in the sender's backlog, in order, and
//! the queue counts as congested: the sender can then stop reading from the clients that cause such messages. Ringing a
//! doorbell costs a system call only when its shard sleeps.
//!
//! The load is bytes, or the work (see `costs`) that messages are to their receiver, whichever fills more of the queue.
//!
//! A sender that waits for a congested queue is always woken. The proof is that of the doorbell (see there), with
//! `load` and `waiting` as the two words.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;

use super::costs::{Cost, Costs};
pub use super::doorbell::{Doorbell, Inbox, InboxSender, inbox};

/// The work that may wait in a queue, in the units of [`TurnLimits`](crate::shard::TurnLimits): about a millisecond.
const MOST_WORK: usize = 8 * 1024;
/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// One direction between two shards.
struct Pair<M> {
    queue: SegQueue<(M, usize)>,
    /// The sum of the weights in the queue.
    load: CachePadded<AtomicUsize>,
    /// What the last messages have cost their receiver, each.
    cost: Cost,
    /// The sender waits for the load to halve.
    waiting: AtomicBool,
}

struct Shared<M> {
    shards: usize,
    /// The load of a full queue.
    capacity: usize,
    /// From shard `from` to shard `to` at `from * shards + to`.
    pairs: Vec<Pair<M>>,
    /// By receiver: a bit for each sender that has posted since the receiver last looked.
    posted: Vec<CachePadded<Vec<AtomicU64>>>,
    doorbells: Vec<Arc<Doorbell>>,
    /// By receiver: its end of the mesh is gone, and with it all that is sent to it.
    gone: Vec<AtomicBool>,
}

/// One shard's end of the mesh.
pub struct Mesh<M> {
    shared: Arc<Shared<M>>,
    shard: usize,
    /// By receiver: messages that wait for room in its queue.
    outgoing: Vec<Outgoing<M>>,
    /// The number of congested queues.
    congested: usize,
    /// Receivers whose congestion changed since the last [`next_change`](Self::next_change).
    changed: Vec<usize>,
    costs: Costs,
    /// A bit for each sender whose queue may hold messages.
    senders: Vec<u64>,
    /// The sender of the last message. The others have their turn first.
    last: usize,
}

struct Outgoing<M> {
    backlog: VecDeque<(M, usize)>,
    congested: bool,
}

impl<M: Send> Mesh<M> {
    /// The ends of a mesh of `shards` shards, in order. A queue takes messages until their weights sum up to `capacity`
    /// (1 at least).
    ///
    /// # Errors
    ///
    /// When the process has no file descriptors left.
    pub fn new(shards: usize, capacity: usize) -> std::io::Result<Vec<Mesh<M>>> {
        let pair = || Pair {
            queue: SegQueue::new(),
            load: CachePadded::new(AtomicUsize::new(0)),
            cost: Cost::default(),
            waiting: AtomicBool::new(false),
        };
        let doorbells = (0..shards).map(|_| Doorbell::new().map(Arc::new)).collect::<Result<_, _>>()?;
        let pairs = (0..shards * shards).map(|_| pair()).collect();
        let words = shards.div_ceil(WORD);
        let posted = || CachePadded::new((0..words).map(|_| AtomicU64::new(0)).collect());
        let posted = (0..shards).map(|_| posted()).collect();
        let gone = (0..shards).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared { shards, capacity: capacity.max(1), pairs, posted, doorbells, gone });
        let outgoing = || (0..shards).map(|_| Outgoing { backlog: VecDeque::new(), congested: false }).collect();
        let end = |shard| Mesh {
            shared: Arc::clone(&shared),
            shard,
            outgoing: outgoing(),
            congested: 0,
            changed: Vec::new(),
            costs: Costs::new(shards),
            senders: vec![0; words],
            last: 0,
        };
        Ok((0..shards).map(end).collect())
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shared.shards
    }

    /// The number of the shard that this end belongs to.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The doorbell of this shard.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.shared.doorbells[self.shard]
    }

    /// Sends a message of some weight (the bytes it holds on to; nothing weighs less than one) to shard `to`, after all that
    /// was sent to it before.
    pub fn send(&mut self, to: usize, message: M, weight: usize) {
        let weight = weight.max(1);
        let outgoing = &mut self.outgoing[to];
        if outgoing.backlog.is_empty() && self.shared.pair(self.shard, to).load() < self.shared.capacity {
            self.shared.post(self.shard, to, message, weight);
            return;
        }
        outgoing.backlog.push_back((message, weight));
        if !outgoing.congested {
            outgoing.congested = true;
            self.congested += 1;
            self.changed.push(to);
        }
        self.push_on(to);
    }

    /// What so many messages to shard `to` weigh, which hold on to so many bytes together.
    pub fn weight(&mut self, to: usize, bytes: usize, messages: usize) -> usize {
        let cost = self.costs.of(to, &self.shared.pair(self.shard, to).cost);
        let work = messages.saturating_mul(cost as usize);
        bytes.max(work.saturating_mul(self.shared.capacity / MOST_WORK))
    }

    /// The next shard to which messages cost another amount of work than was said before, and how much each does.
    pub fn next_cost(&mut self) -> Option<(usize, u32)> {
        self.costs.next_change()
    }

    /// A message of shard `from` was so much work.
    pub fn was_work(&mut self, from: usize, work: u32) {
        self.costs.was_work(from, work);
    }

    /// Has shard `from` know what its messages cost. Called when some have been handed in.
    pub fn tell_cost(&self, from: usize) {
        self.costs.say(from, &self.shared.pair(from, self.shard).cost);
    }

    /// Sends messages of the backlog, as far as queues have room. Called once per turn.
    pub fn flush(&mut self) {
        if self.congested == 0 {
            return;
        }
        for to in 0..self.shards() {
            if self.outgoing[to].congested {
                self.push_on(to);
            }
        }
    }

    fn push_on(&mut self, to: usize) {
        let pair = self.shared.pair(self.shard, to);
        let (full, relieved) = (self.shared.capacity, self.shared.relieved());
        let outgoing = &mut self.outgoing[to];
        if self.shared.is_gone(to) {
            outgoing.backlog.clear();
            outgoing.congested = false;
            self.congested -= 1;
            self.changed.push(to);
            return;
        }
        loop {
            while pair.load() < full
                && let Some((message, weight)) = outgoing.backlog.pop_front()
            {
                self.shared.post(self.shard, to, message, weight);
            }
            if outgoing.backlog.is_empty() && pair.load() <= relieved {
                outgoing.congested = false;
                self.congested -= 1;
                self.changed.push(to);
                return;
            }
            // Set `waiting`, then look again: see the doorbell's proof. A relieved queue takes at least one message, so
            // the loop ends.
            pair.waiting.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if pair.load() > relieved {
                return;
            }
            pair.waiting.store(false, Ordering::Relaxed);
        }
    }

    /// Whether messages to shard `to` have to wait: from the moment its queue was full until its load has halved.
    pub fn congested(&self, to: usize) -> bool {
        self.outgoing[to].congested
    }

    /// The next shard whose [`congested`](Self::congested) has changed, and its new value.
    pub fn next_change(&mut self) -> Option<(usize, bool)> {
        let to = self.changed.pop()?;
        self.changed.retain(|changed| *changed != to);
        Some((to, self.congested(to)))
    }

    /// The next message and its sender. Senders take turns.
    pub fn receive(&mut self) -> Option<(usize, M)> {
        loop {
            let Some(from) = self.next_sender() else {
                if self.look() {
                    continue;
                }
                return None;
            };
            self.last = from;
            if let Some(message) = self.take_from(from) {
                return Some((from, message));
            }
            self.senders[from / WORD] &= !(1 << (from % WORD));
        }
    }

    /// The next sender, in a circle after the last one, that may have messages for this shard.
    fn next_sender(&self) -> Option<usize> {
        let words = self.senders.len();
        let start = self.last + 1;
        (0..=words).find_map(|step| {
            let word = (start / WORD + step) % words;
            // The first word comes twice: its end first, its beginning last.
            let skipped = if step == 0 && start / WORD < words { start % WORD } else { 0 };
            let bits = self.senders[word] >> skipped << skipped;
            (bits != 0).then(|| word * WORD + bits.trailing_zeros() as usize)
        })
    }

    /// Collects the senders that have posted. Returns whether there are any.
    fn look(&mut self) -> bool {
        let mut found = false;
        for (senders, posted) in self.senders.iter_mut().zip(self.shared.posted[self.shard].iter()) {
            if posted.load(Ordering::Relaxed) != 0 {
                *senders |= posted.swap(0, Ordering::Acquire);
                found = true;
            }
        }
        found
    }

    fn take_from(&self, from: usize) -> Option<M> {
        let pair = self.shared.pair(from, self.shard);
        let (message, weight) = pair.queue.pop()?;
        let load = pair.load.fetch_sub(weight, Ordering::AcqRel) - weight;
        fence(Ordering::SeqCst);
        let relieved = load <= self.shared.relieved();
        if relieved && pair.waiting.load(Ordering::Relaxed) && pair.waiting.swap(false, Ordering::Relaxed) {
            self.shared.doorbells[from].ring();
        }
        Some(message)
    }

    /// Whether all that was sent is in the queues, where it outlives this end.
    pub fn has_sent_all(&self) -> bool {
        self.congested == 0 || self.outgoing.iter().all(|outgoing| outgoing.backlog.is_empty())
    }

    /// Whether a message may have arrived, or the load of a congested queue has halved.
    pub fn has_work(&self) -> bool {
        let posted = || self.shared.posted[self.shard].iter().any(|posted| posted.load(Ordering::Relaxed) != 0);
        let relieved =
            |to: usize| self.shared.pair(self.shard, to).load() <= self.shared.relieved() || self.shared.is_gone(to);
        self.senders.iter().any(|senders| *senders != 0)
            || posted()
            || self.congested > 0 && (0..self.shards()).any(|to| self.congested(to) && relieved(to))
    }
}

impl<M> Shared<M> {
    fn pair(&self, from: usize, to: usize) -> &Pair<M> {
        &self.pairs[from * self.shards + to]
    }

    /// The load at which a queue is no longer congested.
    fn relieved(&self) -> usize {
        self.capacity / 2
    }

    fn is_gone(&self, to: usize) -> bool {
        self.gone[to].load(Ordering::Acquire)
    }

    fn post(&self, from: usize, to: usize, message: M, weight: usize) {
        let pair = self.pair(from, to);
        pair.load.fetch_add(weight, Ordering::AcqRel);
        pair.queue.push((message, weight));
        self.posted[to][from / WORD].fetch_or(1 << (from % WORD), Ordering::Release);
        self.doorbells[to].ring();
    }
}

impl<M> Drop for Mesh<M> {
    /// Whoever waits for room in a queue to this end goes on.
    fn drop(&mut self) {
        self.shared.gone[self.shard].store(true, Ordering::Release);
        self.shared.doorbells.iter().for_each(|doorbell| doorbell.ring());
    }
}

impl<M> Pair<M> {
    fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }
}

impl<M> fmt::Debug for Mesh<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({} of {})", self.shard, self.shared.shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::thread;

    fn pair_of(capacity: usize) -> (Mesh<u32>, Mesh<u32>) {
        let mut ends = Mesh::new(2, capacity).unwrap().into_iter();
        (ends.next().unwrap(), ends.next().unwrap())
    }

    fn next(mesh: &mut Mesh<u32>) -> Option<u32> {
        mesh.receive().map(|(_, message)| message)
    }

    fn all(mesh: &mut Mesh<u32>) -> Vec<u32> {
        std::iter::from_fn(|| next(mesh)).collect()
    }

    #[test]
    fn what_finds_no_room_waits_in_order_and_is_congestion() {
        let (mut a, mut b) = pair_of(4);
        for message in 0..10 {
            a.send(1, message, 1);
        }
        assert_eq!((a.next_change(), a.next_change()), (Some((1, true)), None));
        assert_eq!(all(&mut b), [0, 1, 2, 3]);
        assert!(a.has_work(), "relief is work");
        a.flush();
        assert!(a.congested(1));
        a.send(1, 10, 1);
        assert_eq!(next(&mut b), Some(4));
        a.flush();
        assert_eq!((a.congested(1), all(&mut b)), (true, vec![5, 6, 7, 8]));
        a.flush();
        assert_eq!((a.next_change(), all(&mut b)), (Some((1, false)), vec![9, 10]));
    }

    /// A message of a few bytes that is a lot of work to its receiver counts for as much.
    #[test]
    fn what_is_a_lot_of_work_fills_a_queue_with_few_messages() {
        const CAPACITY: usize = 1 << 20;
        let (mut a, mut b) = pair_of(CAPACITY);
        let mut send_until_congested = || {
            let mut sent = 0;
            while !a.congested(1) {
                let weight = a.weight(1, 100, 1);
                a.send(1, sent, weight);
                sent += 1;
            }
            let cost = a.next_cost();
            while let Some((from, _)) = b.receive() {
                a.flush();
                b.was_work(from, 500);
            }
            b.tell_cost(0);
            a.flush();
            (sent as usize, cost)
        };
        let (sent, cost) = send_until_congested();
        assert!(sent > CAPACITY / 100 && cost.is_none(), "{sent}: nothing is known of them, but their bytes");
        let (sent, cost) = send_until_congested();
        assert_eq!(cost, Some((1, 500)));
        assert_eq!(sent, MOST_WORK / 500 + 2, "the last one finds the queue full");
        let (_, cost) = send_until_congested();
        assert_eq!(cost, None, "it has been said");
        (0..100).for_each(|_| b.was_work(0, 2));
        b.tell_cost(0);
        assert_eq!((a.weight(1, 100, 1), a.next_cost()), (2 * CAPACITY / MOST_WORK, Some((1, 2))));
    }

    #[test]
    fn nobody_waits_for_room_at_an_end_that_is_gone() {
        let (mut a, b) = pair_of(4);
        (0..10).for_each(|message| a.send(1, message, 1));
        assert!(!a.has_sent_all() && !a.has_work());
        drop(b);
        assert!(a.has_work(), "that is work");
        a.flush();
        assert_eq!((a.next_change(), a.has_sent_all(), a.congested(1)), (Some((1, false)), true, false));
        (0..10).for_each(|message| a.send(1, message, 1));
        assert!(a.has_sent_all(), "the rest vanishes");
    }

    #[test]
    fn senders_take_turns_however_many_there_are() {
        const SHARDS: usize = 130;
        let mut ends: Vec<Mesh<u32>> = Mesh::new(SHARDS, 4).unwrap();
        let senders = [0, 1, 62, 63, 64, 127, 128, 129];
        for message in 0..2 {
            for sender in senders {
                ends[sender].send(5, message, 1);
            }
        }
        let received: Vec<_> = std::iter::from_fn(|| ends[5].receive()).collect();
        for (message, round) in received.chunks(senders.len()).enumerate() {
            let mut from: Vec<_> = round.iter().map(|(from, _)| *from).collect();
            from.sort_unstable();
            assert_eq!(from, senders);
            assert!(round.iter().all(|(_, this)| *this as usize == message));
        }
        assert_eq!(received.len(), 2 * senders.len());
        assert!(!ends[5].has_work());
    }

    #[test]
    fn a_message_heavier_than_a_queue_still_goes() {
        let (mut a, mut b) = pair_of(4);
        a.send(1, 1, 100);
        a.send(1, 2, 0);
        assert_eq!((next(&mut b), next(&mut b)), (Some(1), None));
        a.flush();
        assert_eq!((next(&mut b), a.congested(1)), (Some(2), false));
    }

    #[test]
    fn a_shard_may_send_to_itself() {
        let (mut a, _) = pair_of(4);
        a.send(0, 7, 1);
        assert!(a.has_work());
        assert_eq!(all(&mut a), [7]);
        assert!(!a.has_work());
    }

    /// Sleeps as a shard does, unless there is work.
    fn sleep(mesh: &Mesh<u32>) {
        let doorbell = mesh.doorbell();
        if doorbell.sleep_unless(|| mesh.has_work()) {
            let mut eventfd = File::from(doorbell.as_fd().try_clone_to_owned().unwrap());
            eventfd.read_exact(&mut [0; 8]).unwrap();
            doorbell.awake();
        }
    }

    /// A lost wake-up, of the receiver or of the sender of a congested queue, hangs this test.
    #[test]
    fn no_wake_up_is_lost_and_messages_stay_in_order() {
        const MESSAGES: u32 = 200_000;
        let (mut a, mut b) = pair_of(8);
        let sender = thread::spawn(move || {
            for message in 0..MESSAGES {
                a.send(1, message, 1 + message as usize % 3);
                while a.congested(1) {
                    sleep(&a);
                    a.flush();
                }
            }
        });
        let mut expected = 0;
        while expected < MESSAGES {
            while let Some(message) = next(&mut b) {
                assert_eq!(message, expected);
                expected += 1;
            }
            if expected < MESSAGES {
                sleep(&b);
            }
        }
        sender.join().unwrap();
    }
}
