//! Sessions that leave this shard: those that have not begun to, and those that have, until they are packed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::client::SubscriberId;
use crate::session::MigrationState;
use crate::time::Time;

/// How many sessions are under way from one shard at a time. One that was pulled goes at once, whatever their number.
const AT_A_TIME: usize = 64;
/// After how long a session that could not begin to move is looked at again.
const LATER: Duration = Duration::from_millis(20);

/// Sessions that are to leave this shard.
pub(crate) struct OutgoingSessions {
    own: usize,
    shards: usize,
    /// Those that have not begun to.
    queue: VecDeque<SubscriberId>,
    /// When the queue is looked at again.
    looks_again: Time,
    /// Those that have begun to, by token.
    leaving: BTreeMap<u64, Outgoing>,
}

/// A session that leaves, while it is still here.
struct Outgoing {
    /// Its place in the table of sessions.
    index: u32,
    /// Its new owner.
    to: usize,
    /// How many answers are to come.
    unanswered: usize,
    /// A will of its client was published after the other shards were asked to flush.
    published: bool,
}

/// Whether a session can begin to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It can: see [`OutgoingSessions::begin`].
    Now,
    /// Something is in its way: it is to be queued.
    Later,
    /// It has begun to already.
    Done,
}

/// Whether a session that leaves can be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Answers are to come, or hooks are not done; or no such session leaves.
    NotYet,
    /// The shards of [`OutgoingSessions::flushing`] are to be asked once more.
    AskAgain {
        /// The new owner.
        to: usize,
    },
    /// The session goes now. It is not counted among those that leave any more.
    Pack {
        /// Its place in the table of sessions.
        index: u32,
        /// The new owner.
        to: usize,
    },
}

impl OutgoingSessions {
    /// None on shard `own` of `shards`.
    pub fn new(own: usize, shards: usize) -> Self {
        OutgoingSessions { own, shards, queue: VecDeque::new(), looks_again: Time::ZERO, leaving: BTreeMap::new() }
    }

    /// How many are to leave.
    pub fn len(&self) -> usize {
        self.queue.len() + self.leaving.len()
    }

    /// How many of them have not begun to.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Queues sessions, behind those that are.
    pub fn enqueue(&mut self, subscribers: impl IntoIterator<Item = SubscriberId>) {
        self.queue.extend(subscribers);
    }

    /// Queues a session that was pulled, before all others.
    pub fn enqueue_first(&mut self, subscriber: SubscriberId) {
        self.queue.push_front(subscriber);
    }

    /// Takes the session from the queue that is to begin next; none while there are as many under way as may be. One that cannot
    /// begin yet is to be queued again.
    pub fn next_to_begin(&mut self) -> Option<SubscriberId> {
        if self.leaving.len() >= AT_A_TIME { None } else { self.queue.pop_front() }
    }

    /// When the queue is to be looked at again, if it must be: nothing is under way whose departure would be the occasion. None
    /// if that was said before and is still to come.
    pub fn look_again(&mut self, now: Time) -> Option<Time> {
        if self.queue.is_empty() || !self.leaving.is_empty() || self.looks_again > now {
            return None;
        }
        self.looks_again = now + LATER;
        Some(self.looks_again)
    }

    /// Whether a session in this state can begin to move. `is_busy`: the shard stops, hooks of its subscriber id are not done, it
    /// is subscribing, or its connection waits for an answer, or was lost and is served still. It could not leave before that is over; until then it takes none
    /// of the places, and the new owner buffers nothing for it.
    pub fn may_begin(state: Option<&MigrationState>, is_busy: impl FnOnce() -> bool) -> Begin {
        match state {
            Some(MigrationState::Leaving { .. }) => Begin::Done,
            Some(MigrationState::Arriving { .. }) => Begin::Later,
            Some(MigrationState::Arrived { .. }) | None => {
                if is_busy() {
                    Begin::Later
                } else {
                    Begin::Now
                }
            }
        }
    }

    /// The session at `index`, which has this state, begins to move to shard `to` under the number `token`. The new owner is to be
    /// told, and the shards of [`OutgoingSessions::flushing`] asked.
    pub fn begin(&mut self, token: u64, index: u32, to: usize, state: &mut Option<MigrationState>) {
        *state = Some(MigrationState::leaving(token, to, state.take()));
        // Every other shard answers what the new owner announces, the new owner when it has all their answers.
        let unanswered = self.shards - 1 + self.flushing(to).count();
        self.leaving.insert(token, Outgoing { index, to, unanswered, published: false });
    }

    /// The shards that are asked to answer when all that clients published here has come to them: all but this one and `to`.
    pub fn flushing(&self, to: usize) -> impl Iterator<Item = usize> + use<> {
        let own = self.own;
        (0..self.shards).filter(move |shard| *shard != own && *shard != to)
    }

    /// A shard has answered about the session with this number. Says whether such a session leaves.
    pub fn flushed(&mut self, token: u64) -> bool {
        let Some(outgoing) = self.leaving.get_mut(&token) else { return false };
        outgoing.unanswered -= 1;
        true
    }

    /// The will of a session that leaves was published. What its client publishes at the new owner may not overtake it: the shards
    /// that have flushed have to do so again.
    pub fn published_while_leaving(&mut self, token: u64) {
        if let Some(outgoing) = self.leaving.get_mut(&token) {
            outgoing.published = true;
        }
    }

    /// The place in the table of sessions of the one that leaves under this number.
    pub fn place_of(&self, token: u64) -> Option<u32> {
        self.leaving.get(&token).map(|outgoing| outgoing.index)
    }

    /// Whether the session with this number can go. `hooks_pending`: hooks of its subscriber id are not done.
    pub fn ready(&mut self, token: u64, hooks_pending: bool) -> Ready {
        let Some(outgoing) = self.leaving.get(&token) else { return Ready::NotYet };
        let Outgoing { index, to, published, .. } = *outgoing;
        if outgoing.unanswered > 0 || hooks_pending {
            return Ready::NotYet;
        }
        // The new owner has what was published before the session comes; the others may not.
        let asked = self.flushing(to).count();
        if published && asked > 0 {
            self.leaving.insert(token, Outgoing { index, to, unanswered: asked, published: false });
            return Ready::AskAgain { to };
        }
        self.leaving.remove(&token);
        Ready::Pack { index, to }
    }

    /// The session with this number has ended here.
    pub fn abandon(&mut self, token: u64) {
        self.leaving.remove(&token);
    }

    /// No session leaves any more: the shard stops. Gives the numbers of those that were about to, and who waits for them.
    pub fn abandon_all(&mut self) -> Vec<(u64, usize)> {
        self.queue.clear();
        std::mem::take(&mut self.leaving).into_iter().map(|(token, outgoing)| (token, outgoing.to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SubscriberId {
        SubscriberId::new("", format!("client-{number}"))
    }

    /// Shard 0 of so many, from which the session at place 5 leaves for shard 1 with token 9.
    fn one_leaves(shards: usize) -> OutgoingSessions {
        let mut sessions = OutgoingSessions::new(0, shards);
        let mut state = None;
        sessions.begin(9, 5, 1, &mut state);
        assert!(matches!(state, Some(MigrationState::Leaving { token: 9, delivered_up_to: None, .. })));
        sessions
    }

    fn flushed(sessions: &mut OutgoingSessions, times: usize) {
        (0..times).for_each(|_| assert!(sessions.flushed(9)));
    }

    #[test]
    fn at_most_64_are_under_way_at_a_time() {
        let mut sessions = OutgoingSessions::new(0, 2);
        sessions.enqueue((0..70).map(id));
        for token in 0..64 {
            assert_eq!(sessions.next_to_begin(), Some(id(token)));
            sessions.begin(token as u64, token as u32, 1, &mut None);
        }
        assert_eq!((sessions.next_to_begin(), sessions.queued(), sessions.len()), (None, 6, 70));
        assert!(sessions.flushed(3));
        assert_eq!(sessions.ready(3, false), Ready::Pack { index: 3, to: 1 });
        assert_eq!(sessions.next_to_begin(), Some(id(64)));
    }

    #[test]
    fn a_session_that_was_pulled_is_first() {
        let mut sessions = OutgoingSessions::new(0, 2);
        sessions.enqueue([id(1), id(2)]);
        sessions.enqueue_first(id(3));
        let order: Vec<_> = std::iter::from_fn(|| sessions.next_to_begin()).collect();
        assert_eq!(order, [id(3), id(1), id(2)]);
    }

    #[test]
    fn the_queue_is_looked_at_again_while_nothing_is_under_way() {
        let at = Time::from_millis;
        let mut sessions = OutgoingSessions::new(0, 2);
        assert_eq!(sessions.look_again(at(100)), None, "nothing is queued");
        sessions.enqueue([id(1)]);
        assert_eq!(sessions.look_again(at(100)), Some(at(120)));
        assert_eq!(sessions.look_again(at(119)), None, "it will be");
        assert_eq!(sessions.look_again(at(120)), Some(at(140)));
        sessions.begin(9, 5, 1, &mut None);
        assert_eq!(sessions.look_again(at(200)), None, "it is looked at when that one has left");
    }

    #[test]
    fn a_session_begins_unless_something_is_in_its_way() {
        let may_begin = |state, is_busy: bool| OutgoingSessions::may_begin(state, || is_busy);
        let arrived = MigrationState::Arrived { delivered_up_to: [1, 2].into() };
        let arriving = MigrationState::Arriving(Default::default());
        let leaving = MigrationState::leaving(1, 0, None);
        assert_eq!(may_begin(None, false), Begin::Now);
        assert_eq!(may_begin(None, true), Begin::Later);
        assert_eq!(may_begin(Some(&arrived), false), Begin::Now);
        assert_eq!(may_begin(Some(&arrived), true), Begin::Later);
        assert_eq!(may_begin(Some(&arriving), false), Begin::Later);
        assert_eq!(may_begin(Some(&leaving), true), Begin::Done);
    }

    #[test]
    fn what_was_delivered_before_it_came_here_is_kept_when_it_leaves_again() {
        let mut state = Some(MigrationState::Arrived { delivered_up_to: [1, 2].into() });
        OutgoingSessions::new(0, 2).begin(9, 5, 1, &mut state);
        let Some(MigrationState::Leaving { token: 9, delivered_up_to: Some(before), .. }) = state else {
            panic!("{state:?}")
        };
        assert_eq!(*before, [1, 2]);
    }

    #[test]
    fn a_session_goes_when_all_shards_have_answered() {
        let mut sessions = one_leaves(4);
        assert_eq!(sessions.flushing(1).collect::<Vec<_>>(), [2, 3]);
        // Shards 2 and 3 twice, the new owner once.
        flushed(&mut sessions, 4);
        assert_eq!(sessions.ready(9, false), Ready::NotYet);
        flushed(&mut sessions, 1);
        assert_eq!(sessions.ready(9, true), Ready::NotYet, "its hooks are not done");
        assert_eq!(sessions.ready(9, false), Ready::Pack { index: 5, to: 1 });
        assert_eq!(sessions.ready(9, false), Ready::NotYet, "it has gone");
        assert!(!sessions.flushed(9));
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn of_two_shards_the_new_owner_answers_alone() {
        let mut sessions = one_leaves(2);
        assert_eq!(sessions.flushing(1).count(), 0);
        sessions.published_while_leaving(9);
        flushed(&mut sessions, 1);
        assert_eq!(sessions.ready(9, false), Ready::Pack { index: 5, to: 1 }, "nobody else is to have the will");
    }

    #[test]
    fn a_will_that_is_published_while_the_session_leaves_makes_the_others_flush_again() {
        let mut sessions = one_leaves(3);
        flushed(&mut sessions, 2);
        sessions.published_while_leaving(9);
        assert_eq!(sessions.ready(9, false), Ready::NotYet, "the first answers are not complete");
        flushed(&mut sessions, 1);
        assert_eq!(sessions.ready(9, false), Ready::AskAgain { to: 1 });
        assert_eq!(sessions.ready(9, false), Ready::NotYet);
        flushed(&mut sessions, 1);
        assert_eq!(sessions.ready(9, false), Ready::Pack { index: 5, to: 1 });
    }

    #[test]
    fn nobody_waits_for_a_session_that_ended() {
        let mut sessions = one_leaves(3);
        sessions.abandon(9);
        sessions.abandon(9);
        assert_eq!((sessions.place_of(9), sessions.ready(9, false)), (None, Ready::NotYet));
        sessions.published_while_leaving(9);
        assert!(!sessions.flushed(9));
    }

    #[test]
    fn none_leaves_a_shard_that_stops() {
        let mut sessions = one_leaves(3);
        sessions.begin(10, 6, 2, &mut None);
        sessions.enqueue([id(1)]);
        assert_eq!(sessions.abandon_all(), [(9, 1), (10, 2)]);
        assert_eq!(sessions.len(), 0);
    }
}
