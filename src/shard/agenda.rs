//! What is to be done: here and now, here and later, and by the runtime.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::{Hold, ShardMessage};
use super::output::Output;
use super::remnants::Remnants;
use super::stop::Stop;
use super::store_report::Counting;
use super::turn::{Turn, TurnLimits};
use crate::client::{ConnectionId, SubscriberId};
use crate::connection::Violation;
use crate::deadlines::Deadlines;
use crate::time::Time;

/// What a shard has to do. Also knows the time of the input that is being handled, and gives numbers that are never used twice.
pub(super) struct Agenda<S> {
    own: usize,
    /// The time of the input that is being handled.
    now: Time,
    deadlines: Deadlines<Deadline>,
    /// What has come and was not looked at yet.
    due: VecDeque<Deadline>,
    /// What goes on in the next turn.
    next: VecDeque<PutOff>,
    /// What was left for this turn, and has not gone on yet.
    left: VecDeque<PutOff>,
    /// What is left of sessions that are gone.
    pub remnants: Remnants<S>,
    /// What may be done yet before others have their turn.
    pub turn: Turn,
    /// What the input has set free, to be done before the next one.
    follow_ups: VecDeque<FollowUp>,
    /// What the runtime is to do, in order.
    outputs: VecDeque<Output<S>>,
    /// Connections that are handed to another shard when their output has been taken.
    hand_offs: VecDeque<(ConnectionId, usize)>,
    /// For each shard, how many messages it was sent that lead to records on disk there.
    pub letters: Box<[u64]>,
    /// For each shard, what it is told.
    messages: Vec<Vec<ShardMessage>>,
    /// Shards that are told something.
    addressed: VecDeque<usize>,
    /// Shards that are told of the cut of the journal for a copy, by its number, before anything else.
    cuts: VecDeque<(usize, u64)>,
    next_number: u64,
    /// How far an orderly stop is.
    pub stop: Stop,
    /// How far the search for what is to be forgotten is.
    pub swept: Swept,
    /// How far it is counted what is in the store, if that is under way.
    pub counting: Option<Counting>,
}

/// What a sweep has looked at to the end, and need not again before the next one.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub credits: bool,
    pub arrivals: bool,
}

/// How often a search for expired retained messages begins.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// So many entries of the timer wheel come due in one turn, others in the next one. Some more may move down a level.
const MOST_COLLECTED: usize = 4096;
/// How soon the next portion of sessions that came is looked at, until all were.
pub(super) const NEXT_PORTION: Duration = Duration::from_millis(10);

/// An entry in the timer wheel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deadline {
    /// Something of the connection at this index.
    Connection(usize),
    /// Something of the session at this index.
    Session(u32),
    /// A hook that answers later.
    Hook(u64),
    /// A client that publishers wait for.
    Consumer(ConnectionId),
    /// A member of shared subscriptions for which messages wait.
    Stalled(u32),
    /// `$SYS` is to be published.
    Sys,
    /// Retained messages that expired are to be forgotten, and what migrations have left behind.
    Sweep,
    /// Sessions that could not begin to leave are looked at again.
    Migrations,
    /// An orderly stop waits for the wills of other shards no longer.
    Stop,
}

/// What goes on in the next turn, so that others have theirs before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutOff {
    /// The search for retained messages that expired.
    Expiry,
    /// Retained messages that are to be sent, and questions about them that are to be answered.
    Replays,
    /// Wills that wait for room.
    Wills,
    /// The other shards are to know how many members shared subscriptions have here.
    Members,
    /// What is stored is to be written to the journal again.
    Rewriting,
    /// What is in the store is counted.
    Counting,
}

/// Something that an input has set free.
pub(super) enum FollowUp {
    /// What kept this connection from being served has gone.
    Serve(ConnectionId),
    /// The client of this connection did something it must not; its connection is paused.
    Violation(ConnectionId, Violation),
    /// This publisher, which is held so, waits for one client less.
    ReleasePublisher(ConnectionId, Hold),
    /// The client of this connection, which all have accepted, is to be registered.
    Register(ConnectionId),
    /// What waited for the session of this subscriber id goes on.
    SessionCame(SubscriberId),
    /// A session has ended: its slot, whose it was, and the number of its migration if it was about to leave.
    SessionEnded(u16, SubscriberId, Option<u64>),
    /// Nothing that notifications about this subscriber id left is to be done any more.
    TasksDone(SubscriberId),
    /// A session that is to leave may be ready: the number of its migration.
    SessionMayLeave(u64),
    /// Sessions that are to leave may begin to.
    BeginMigrations,
    /// A slot that left may have nothing here any more, and its new owner may be answered.
    SlotMayBeEmpty(u16),
    /// Retained messages may be sent, or questions about them answered.
    Replays,
    /// This session may have room for what is retained for it.
    Replay(u32),
}

impl<S> Agenda<S> {
    pub fn new(own: usize, shards: usize, limits: TurnLimits, now: Time) -> Self {
        Agenda {
            own,
            now,
            deadlines: Deadlines::new(now),
            due: VecDeque::new(),
            next: VecDeque::new(),
            left: VecDeque::new(),
            remnants: Remnants::new(),
            turn: Turn::new(limits),
            follow_ups: VecDeque::new(),
            outputs: VecDeque::new(),
            hand_offs: VecDeque::new(),
            letters: vec![0; shards].into(),
            messages: (0..shards).map(|_| Vec::new()).collect(),
            addressed: VecDeque::new(),
            cuts: VecDeque::new(),
            next_number: 1,
            stop: Stop::new(shards),
            swept: Swept::default(),
            counting: None,
        }
    }

    /// The time of the input that is being handled.
    #[inline]
    pub fn now(&self) -> Time {
        self.now
    }

    /// An input is handled at this time.
    #[inline]
    pub fn begin(&mut self, now: Time) {
        if now != self.now {
            self.turn.begin_after(now.since(self.now));
            self.now = now;
        }
    }

    /// A number for a hook, a subscription, a session or a migration: never used twice.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// The number that comes next.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Numbers below this one have been used elsewhere. Nobody gets to half of all there are: a number beyond was damaged, and others have to be left.
    pub fn skip_numbers(&mut self, below: u64) {
        self.next_number = self.next_number.max(below.min(u64::MAX / 2));
    }

    /// Has something looked at when `at` has come.
    pub fn arm(&mut self, at: Time, deadline: Deadline) {
        self.deadlines.arm(at, deadline);
    }

    /// Has something go on in the next turn, once, however often this is said.
    pub fn next_turn(&mut self, put_off: PutOff) {
        if !self.is_put_off(put_off) {
            self.next.push_back(put_off);
        }
    }

    /// Whether this goes on in this turn, or in the next one.
    pub fn is_put_off(&self, put_off: PutOff) -> bool {
        self.next.contains(&put_off) || self.left.contains(&put_off)
    }

    /// Collects the deadlines that have come by now, and what was left for this turn.
    pub fn collect_due(&mut self) {
        self.left.append(&mut self.next);
        let most = MOST_COLLECTED.saturating_sub(self.due.len());
        self.deadlines.expire(self.now, most, &mut |deadline| self.due.push_back(deadline));
    }

    /// A deadline that has come, unless what was due had its share of this turn.
    pub fn next_due(&mut self) -> Option<Deadline> {
        self.turn.begin_due();
        if self.turn.is_share_over() { None } else { self.due.pop_front() }
    }

    /// What was left for this turn and has waited longest.
    pub fn next_left(&mut self) -> Option<PutOff> {
        self.left.pop_front()
    }

    /// Whether anything was put off.
    pub fn has_put_off(&self) -> bool {
        !self.next.is_empty() || !self.left.is_empty() || !self.remnants.is_empty()
    }

    /// Whether deadlines have come that nobody has looked at, something was put off, or clients wait for their share.
    pub fn is_behind(&self) -> bool {
        !self.due.is_empty() || self.deadlines.is_under_way() || self.has_put_off() || self.turn.waiting() > 0
    }

    /// When something is due next, at the latest.
    pub fn next_deadline(&self) -> Time {
        self.deadlines.next()
    }

    /// How many entries the timer wheel has.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Has something done when what is being done is done, in the order of the calls. But that a session has ended comes before all else:
    /// whatever looks at what is left of a slot must know of it. (Of several the last comes first: they have nothing to do with each other.)
    pub fn follow_up(&mut self, follow_up: FollowUp) {
        match follow_up {
            FollowUp::SessionEnded(..) => self.follow_ups.push_front(follow_up),
            _ => self.follow_ups.push_back(follow_up),
        }
    }

    /// The next follow-up.
    #[inline]
    pub fn next_follow_up(&mut self) -> Option<FollowUp> {
        self.follow_ups.pop_front()
    }

    /// Has the runtime do something.
    #[inline]
    pub fn output(&mut self, output: Output<S>) {
        self.outputs.push_back(output);
    }

    /// The next thing for the runtime to do. A session that goes to another shard comes behind the messages to that shard: what its client
    /// published here, its will perhaps, is to be there first.
    #[inline]
    pub fn next_output(&mut self) -> Option<Output<S>> {
        match self.outputs.front() {
            Some(Output::Transfer { to, .. }) if !self.messages[*to].is_empty() => {
                let to = *to;
                Some(Output::Messages { to, messages: std::mem::take(&mut self.messages[to]) })
            }
            _ => self.outputs.pop_front(),
        }
    }

    /// Has a connection handed to shard `to`. What comes behind its CONNECT until then goes with it.
    pub fn hand_off(&mut self, id: ConnectionId, to: usize) {
        self.hand_offs.push_back((id, to));
    }

    /// The next connection to be handed to another shard.
    #[inline]
    pub fn next_hand_off(&mut self) -> Option<(ConnectionId, usize)> {
        self.hand_offs.pop_front()
    }

    /// Queues a message to shard `to`, behind those before it.
    pub fn post(&mut self, to: usize, message: ShardMessage) {
        debug_assert_ne!(to, self.own, "a shard does not write to itself");
        if self.messages[to].is_empty() {
            self.addressed.push_back(to);
        }
        self.turn.did_send(to);
        self.letters[to] += u64::from(message.leads_to_records());
        self.messages[to].push(message);
    }

    /// Queues a message to each other shard.
    pub fn tell_others(&mut self, message: impl Fn() -> ShardMessage) {
        let own = self.own;
        (0..self.messages.len()).filter(|shard| *shard != own).for_each(|shard| self.post(shard, message()));
    }

    /// All other shards are told that the journal is cut for this copy.
    pub fn tell_of_cut(&mut self, number: u64) {
        let own = self.own;
        self.cuts.extend((0..self.messages.len()).filter(|shard| *shard != own).map(|shard| (shard, number)));
    }

    /// The next shard that is to be told of a cut.
    #[inline]
    pub fn next_cut(&mut self) -> Option<(usize, u64)> {
        self.cuts.pop_front()
    }

    /// The next shard that there are messages for, and these, in order.
    #[inline]
    pub fn next_messages(&mut self) -> Option<(usize, Vec<ShardMessage>)> {
        loop {
            let to = self.addressed.pop_front()?;
            // None are left if they went before a session.
            if !self.messages[to].is_empty() {
                return Some((to, std::mem::take(&mut self.messages[to])));
            }
        }
    }

    /// Whether an orderly stop has begun.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.stop.has_begun()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agenda() -> Agenda<()> {
        Agenda::new(0, 3, TurnLimits::default(), Time::ZERO)
    }

    #[test]
    fn messages_go_out_shard_by_shard_in_order() {
        let mut agenda = agenda();
        for (to, token) in [(2, 1), (1, 2), (2, 3)] {
            agenda.post(to, ShardMessage::Leaving { token });
        }
        let tokens = |messages: Vec<ShardMessage>| {
            let token = |message| match message {
                ShardMessage::Leaving { token } => token,
                other => panic!("{other:?}"),
            };
            messages.into_iter().map(token).collect::<Vec<_>>()
        };
        let taken = std::iter::from_fn(|| agenda.next_messages()).map(|(to, messages)| (to, tokens(messages)));
        assert_eq!(taken.collect::<Vec<_>>(), [(2, vec![1, 3]), (1, vec![2])]);
    }

    #[test]
    fn that_a_session_ended_comes_before_what_else_follows() {
        let mut agenda = agenda();
        let subscriber = SubscriberId::new("", "a");
        agenda.follow_up(FollowUp::TasksDone(subscriber.clone()));
        agenda.follow_up(FollowUp::SlotMayBeEmpty(1));
        agenda.follow_up(FollowUp::SessionEnded(1, subscriber, None));
        assert!(matches!(agenda.next_follow_up(), Some(FollowUp::SessionEnded(..))));
        assert!(matches!(agenda.next_follow_up(), Some(FollowUp::TasksDone(_))));
        assert!(matches!(agenda.next_follow_up(), Some(FollowUp::SlotMayBeEmpty(1))));
        assert!(agenda.next_follow_up().is_none());
    }

    #[test]
    fn numbers_are_never_used_twice() {
        let mut agenda = agenda();
        assert_eq!([agenda.number(), agenda.number()], [1, 2]);
        agenda.skip_numbers(10);
        agenda.skip_numbers(5);
        assert_eq!((agenda.next_number(), agenda.number()), (10, 10));
        agenda.skip_numbers(u64::MAX);
        assert!(agenda.number() < agenda.number());
    }

    #[test]
    fn what_is_put_off_goes_on_once_and_not_in_the_same_turn() {
        let mut agenda = agenda();
        [PutOff::Wills, PutOff::Replays, PutOff::Wills].into_iter().for_each(|one| agenda.next_turn(one));
        assert!(agenda.next_left().is_none() && agenda.is_behind());
        agenda.collect_due();
        agenda.next_turn(PutOff::Replays);
        assert_eq!(agenda.next_left(), Some(PutOff::Wills));
        agenda.next_turn(PutOff::Wills);
        assert_eq!(agenda.next_left(), Some(PutOff::Replays));
        assert!(agenda.next_left().is_none() && agenda.has_put_off());
        agenda.collect_due();
        assert_eq!((agenda.next_left(), agenda.next_left()), (Some(PutOff::Wills), None));
        assert!(!agenda.is_behind());
    }

    #[test]
    fn what_is_armed_is_due_at_its_time() {
        let mut agenda = agenda();
        let at = Time::from_millis(100);
        agenda.arm(at, Deadline::Hook(7));
        agenda.collect_due();
        assert!(agenda.next_due().is_none() && agenda.next_deadline() <= Time::from_millis(104));
        agenda.begin(Time::from_millis(108));
        agenda.collect_due();
        assert!(agenda.is_behind());
        assert!(matches!(agenda.next_due(), Some(Deadline::Hook(7))) && !agenda.is_behind());
        assert_eq!((agenda.deadlines(), agenda.now()), (0, Time::from_millis(108)));
    }
}
