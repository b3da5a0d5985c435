//! The organ for hooks under way: questions that are answered later, and tasks that notifications left to be done.
//!
//! What notifications about one subscriber id want done is done one after the other, in the order of the calls, never two at a time.
//! Until it is, a live client is not served and sees nothing of what was written for it, and a connection that comes for
//! the id waits before it is registered. Others do not wait. Nor does what happens to the session in the meantime: its hooks
//! are called at once, and what these want done comes last.
//!
//! A will that is due and waits for room between shards is waited for likewise, and so is what a session has left.
//!
//! What notifications about *messages* want done holds up nobody: see [`MessageTasks`].
//!
//! Owns who waits for which answer. The futures are run by the runtime; the owner hands them on.

mod message_tasks;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use message_tasks::{Admitted, MessageTasks};

use crate::client::{ConnectionId, SubscriberId};
use crate::hooks::PendingAnswer;
use crate::sharding::slot_of;
use crate::time::Time;

/// Hooks under way; one for each shard.
pub struct PendingHooks {
    /// By the number under which each runs.
    tasks: BTreeMap<u64, Task>,
    /// What is to be done about a subscriber id, while there is something.
    notifications: BTreeMap<SubscriberId, Notifications>,
    /// How many of these ids there are in each slot that has some.
    in_slot: BTreeMap<u16, usize>,
    /// The seed of the hash from subscriber id to slot.
    seed: u64,
    /// What is to be done about messages.
    pub messages: MessageTasks,
}

/// A hook under way.
#[derive(Debug)]
pub struct Task {
    /// Who waits for it.
    pub waiter: Waiter,
    /// The name of the hook.
    pub hook: &'static str,
    /// The place of the link in the chain.
    pub link: usize,
    /// Since when it is under way.
    asked: Time,
}

impl Task {
    /// How long it has been under way.
    pub fn waited(&self, now: Time) -> Duration {
        now.since(self.asked)
    }
}

/// Who waits for a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A connection, whose packet it is asked about.
    Connection(ConnectionId),
    /// Everybody who has to do with this id: the hook was told of something.
    Subscriber(SubscriberId),
    /// Nobody but what else is to be done about messages of this id.
    Messages(SubscriberId),
}

/// What notifications about one subscriber id left to be done.
#[derive(Default)]
struct Notifications {
    /// Whether one is under way.
    is_under_way: bool,
    /// Behind that one.
    queue: VecDeque<PendingAnswer>,
    /// How much else is waited for: wills of its client that are not out, and what a session has left.
    others: u32,
    /// Connections that wait to be registered.
    waiting: Vec<ConnectionId>,
}

/// What comes next about a subscriber id.
#[derive(Debug)]
pub enum Next {
    /// This is to be run.
    Run(PendingAnswer),
    /// Something else is under way.
    Wait,
    /// All is done; these connections are to be registered, in order.
    Done(Vec<ConnectionId>),
}

impl PendingHooks {
    /// No hook is under way. `seed` is that of the hash from subscriber id to slot. At most `most_message_tasks` tasks may be there that are about
    /// messages.
    pub fn new(seed: u64, most_message_tasks: usize) -> Self {
        let messages = MessageTasks::new(most_message_tasks);
        let (tasks, notifications, in_slot) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        PendingHooks { tasks, notifications, in_slot, seed, messages }
    }

    /// How many hooks are under way, how many subscriber ids wait for some, and how many tasks are about messages.
    pub fn len(&self) -> usize {
        self.tasks.len() + self.notifications.len() + self.messages.len()
    }

    /// A hook is under way from now on, under the number `task`.
    pub fn begin(&mut self, task: u64, waiter: Waiter, pending: &PendingAnswer, now: Time) {
        let PendingAnswer { hook, link, .. } = *pending;
        self.tasks.insert(task, Task { waiter, hook, link, asked: now });
    }

    /// A hook has answered, or nobody waits for it any more.
    pub fn end(&mut self, task: u64) -> Option<Task> {
        self.tasks.remove(&task)
    }

    /// Whether something about this subscriber id is to be done.
    #[inline]
    pub fn is_busy(&self, subscriber: &SubscriberId) -> bool {
        !self.notifications.is_empty() && self.notifications.contains_key(subscriber)
    }

    /// Whether something about a subscriber id in this slot is to be done.
    pub fn is_slot_busy(&self, slot: u16) -> bool {
        self.in_slot.contains_key(&slot)
    }

    /// Whether notifications left anything to be done.
    pub fn has_notifications(&self) -> bool {
        !self.notifications.is_empty() || self.messages.len() > 0
    }

    /// Notifications about a subscriber id left this to be done. Gives what is to be run at once; nothing if something is under way.
    #[cold]
    pub fn notified(&mut self, subscriber: &SubscriberId, pending: Vec<PendingAnswer>) -> Option<PendingAnswer> {
        if pending.is_empty() {
            return None;
        }
        let notifications = self.about(subscriber);
        notifications.queue.extend(pending);
        if notifications.is_under_way {
            return None;
        }
        notifications.is_under_way = true;
        notifications.queue.pop_front()
    }

    /// Something comes before those who wait for hooks about a subscriber id, and they wait for it, too, until [`done`](Self::done). It
    /// holds up no hook.
    pub fn make_busy(&mut self, subscriber: &SubscriberId) {
        self.about(subscriber).others += 1;
    }

    /// What [`make_busy`](Self::make_busy) was for is done.
    pub fn done(&mut self, subscriber: &SubscriberId) -> Next {
        let Some(notifications) = self.notifications.get_mut(subscriber) else { return Next::Done(Vec::new()) };
        notifications.others -= 1;
        if notifications.is_under_way { Next::Wait } else { self.next(subscriber) }
    }

    /// What is to be done about a subscriber id, which is busy from now on.
    fn about(&mut self, subscriber: &SubscriberId) -> &mut Notifications {
        if !self.notifications.contains_key(subscriber) {
            *self.in_slot.entry(slot_of(subscriber, self.seed)).or_default() += 1;
        }
        self.notifications.entry(subscriber.clone()).or_default()
    }

    /// What was under way about `subscriber` is done or was given up.
    pub fn next(&mut self, subscriber: &SubscriberId) -> Next {
        let Some(notifications) = self.notifications.get_mut(subscriber) else { return Next::Done(Vec::new()) };
        let next = notifications.queue.pop_front();
        notifications.is_under_way = next.is_some();
        match next {
            Some(pending) => Next::Run(pending),
            None if notifications.others > 0 => Next::Wait,
            None => {
                let done = self.notifications.remove(subscriber).unwrap_or_default();
                let slot = slot_of(subscriber, self.seed);
                if let Some(count) = self.in_slot.get_mut(&slot) {
                    *count -= 1;
                    if *count == 0 {
                        self.in_slot.remove(&slot);
                    }
                }
                Next::Done(done.waiting)
            }
        }
    }

    /// Whether a connection waits, or has waited, until nothing about this subscriber id is to be done.
    pub fn is_awaited(&self, subscriber: &SubscriberId) -> bool {
        self.notifications.get(subscriber).is_some_and(|notifications| !notifications.waiting.is_empty())
    }

    /// Has a connection wait until nothing about its subscriber id is to be done. False if there is nothing to wait for.
    pub fn wait(&mut self, subscriber: &SubscriberId, connection: ConnectionId) -> bool {
        let notifications = self.notifications.get_mut(subscriber);
        notifications.map(|notifications| notifications.waiting.push(connection)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::HookAnswer;

    fn pending(link: usize) -> PendingAnswer {
        PendingAnswer { hook: "on_client_wakeup", link, future: Box::pin(async { HookAnswer::Notification }) }
    }

    fn link(next: Next) -> Option<usize> {
        match next {
            Next::Run(pending) => Some(pending.link),
            Next::Wait | Next::Done(_) => None,
        }
    }

    #[test]
    fn what_is_to_be_done_about_one_id_is_done_one_after_the_other() {
        let (mut hooks, ann, bob) =
            (PendingHooks::new(7, 9), SubscriberId::new("", "ann"), SubscriberId::new("", "bob"));
        assert_eq!(hooks.notified(&ann, vec![pending(0), pending(1)]).map(|first| first.link), Some(0));
        assert!(hooks.notified(&ann, vec![pending(2)]).is_none(), "something is under way");
        assert_eq!(hooks.notified(&bob, vec![pending(3)]).map(|first| first.link), Some(3), "others do not wait");
        assert!(hooks.is_busy(&ann) && hooks.is_slot_busy(slot_of(&bob, 7)));
        assert_eq!(link(hooks.next(&ann)), Some(1));
        assert_eq!(link(hooks.next(&ann)), Some(2));
        assert_eq!(link(hooks.next(&ann)), None);
        assert!(!hooks.is_busy(&ann) && hooks.has_notifications());
        assert!(!hooks.is_slot_busy(slot_of(&ann, 7)) && hooks.is_slot_busy(slot_of(&bob, 7)));
        assert_eq!((link(hooks.next(&bob)), hooks.is_slot_busy(slot_of(&bob, 7))), (None, false));
    }

    #[test]
    fn connections_wait_in_order_until_all_is_done() {
        let (mut hooks, ann) = (PendingHooks::new(7, 9), SubscriberId::new("", "ann"));
        let ids = [1, 2].map(|index| ConnectionId::new(index, 1));
        assert!(!hooks.wait(&ann, ids[0]), "there is nothing to wait for");
        hooks.notified(&ann, vec![pending(0)]);
        assert!(ids.iter().all(|id| hooks.wait(&ann, *id)));
        assert!(matches!(hooks.next(&ann), Next::Done(waiting) if waiting == ids));
        assert_eq!(hooks.len(), 0);
    }

    #[test]
    fn what_else_is_waited_for_holds_up_no_hook() {
        let (mut hooks, ann) = (PendingHooks::new(7, 9), SubscriberId::new("", "ann"));
        let id = ConnectionId::new(1, 1);
        hooks.make_busy(&ann);
        assert!(hooks.is_busy(&ann) && hooks.is_slot_busy(slot_of(&ann, 7)) && hooks.wait(&ann, id));
        assert_eq!(hooks.notified(&ann, vec![pending(0)]).map(|first| first.link), Some(0));
        assert!(matches!(hooks.next(&ann), Next::Wait), "what it is busy with");
        hooks.make_busy(&ann);
        assert!(matches!(hooks.done(&ann), Next::Wait), "the other one");
        assert_eq!(hooks.notified(&ann, vec![pending(1)]).map(|first| first.link), Some(1));
        assert!(matches!(hooks.done(&ann), Next::Wait), "the hook");
        assert!(matches!(hooks.next(&ann), Next::Done(waiting) if waiting == [id]));
        assert!(!hooks.is_busy(&ann) && !hooks.is_slot_busy(slot_of(&ann, 7)));
    }

    #[test]
    fn a_question_ends_once_and_knows_how_long_it_took() {
        let mut hooks = PendingHooks::new(7, 9);
        let waiter = Waiter::Connection(ConnectionId::new(1, 1));
        hooks.begin(7, waiter.clone(), &pending(2), Time::from_millis(100));
        assert_eq!(hooks.len(), 1);
        let task = hooks.end(7).expect("it is under way");
        assert_eq!((task.waiter, task.hook, task.link), (waiter, "on_client_wakeup", 2));
        let task = Task {
            waiter: Waiter::Connection(ConnectionId::new(1, 1)),
            hook: "",
            link: 0,
            asked: Time::from_millis(100),
        };
        assert_eq!(task.waited(Time::from_millis(130)), Duration::from_millis(30));
        assert!(hooks.end(7).is_none());
    }
}
