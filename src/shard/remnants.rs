//! What is left of sessions that have ended, and of connections, where it is too much for one turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::client::{ConnectionId, DropReason, EndReason, ExpiredReason, SubscriberId};
use crate::codec::QoS;
use crate::retained::Replay;
use crate::routing::Turn;
use crate::session::{Buffered, Filters, InFlight, Look, Outbound, OutgoingMessage, Session, Walk, Will};
use crate::topic::TopicFilter;

/// Why a session ends.
#[derive(Clone, Copy)]
pub(super) enum SessionEnd {
    /// It ends with its connection.
    Gone(EndReason),
    /// It was kept, and its client is offline.
    Expired(ExpiredReason),
}

/// What is left of sessions and connections.
pub(super) struct Remnants<S> {
    /// Memberships in shared subscriptions that follow clients who came or left, or end with sessions.
    pub memberships: Memberships,
    /// Subscriptions of sessions that are gone from the table.
    pub subscriptions: VecDeque<Remnant>,
    /// Their messages.
    pub messages: VecDeque<EndedSession<S>>,
    /// QoS 0 messages for clients that have left, and whose sessions are kept.
    pub qos0: VecDeque<AwayQos0>,
    /// Messages of shared subscriptions that members have whose clients have left, and whose sessions are kept.
    pub shared: VecDeque<AwayShared>,
    /// Sessions that have come, with messages that were buffered for them.
    pub coming: VecDeque<Coming>,
    /// Messages that were buffered for sessions that did not come.
    pub abandoned: VecDeque<Abandoned>,
    /// Ended sessions whose next messages are being read from the archive.
    pub waiting_for_page: VecDeque<EndedSession<S>>,
    /// Of messages of ended sessions, of members that are away, and of sessions that did not come: those that wait for room on the way to
    /// other members.
    pub without_room: (VecDeque<EndedSession<S>>, VecDeque<AwayShared>, VecDeque<Abandoned>),
    /// The kind of what was put off that comes next.
    kind: usize,
}

impl<S> Remnants<S> {
    pub fn new() -> Self {
        Remnants {
            memberships: Memberships::default(),
            subscriptions: VecDeque::new(),
            messages: VecDeque::new(),
            qos0: VecDeque::new(),
            shared: VecDeque::new(),
            coming: VecDeque::new(),
            abandoned: VecDeque::new(),
            waiting_for_page: VecDeque::new(),
            without_room: Default::default(),
            kind: 0,
        }
    }

    /// Which of so many kinds of what was put off comes next: each in its turn.
    pub fn next_kind(&mut self, kinds: usize) -> usize {
        self.kind = (self.kind + 1) % kinds;
        self.kind
    }

    /// The queue to a shard has room again: what waits for that goes on.
    pub fn there_is_room(&mut self) {
        let (messages, shared, abandoned) = &mut self.without_room;
        self.messages.append(messages);
        self.shared.append(shared);
        self.abandoned.append(abandoned);
    }

    /// A session that has ended, and has messages left.
    pub fn ended_mut(&mut self, instance: u64) -> Option<&mut Session<S>> {
        let all = self.waiting_for_page.iter_mut().chain(&mut self.messages).chain(&mut self.without_room.0);
        all.map(|ended| &mut *ended.session).find(|session| session.instance == instance)
    }

    /// A page has come for a session that has ended, or cannot: if it waits for that, it goes on.
    pub fn page_has_come(&mut self, instance: u64) {
        let at = self.waiting_for_page.iter().position(|ended| ended.session.instance == instance);
        self.messages.extend(at.and_then(|at| self.waiting_for_page.remove(at)));
    }

    /// Whether messages that were buffered for sessions on their way are in no queue yet.
    pub fn is_any_buffered(&self) -> bool {
        !(self.coming.is_empty() && self.abandoned.is_empty() && self.without_room.2.is_empty())
    }

    /// Whether nothing is left, but for what waits for room or for the archive.
    pub fn is_empty(&self) -> bool {
        self.memberships.is_empty()
            && self.subscriptions.is_empty()
            && self.messages.is_empty()
            && self.qos0.is_empty()
            && self.shared.is_empty()
            && self.coming.is_empty()
            && self.abandoned.is_empty()
    }
}

/// Memberships in shared subscriptions that follow clients who came or left, or end with sessions: once for each session.
#[derive(Default)]
pub(super) struct Memberships {
    /// By the place of the session.
    changes: BTreeMap<u32, MembershipChange>,
    /// Places in the order in which they have their turn; of some that are finished, too.
    line: VecDeque<u32>,
}

/// Memberships of one session that are still to follow its client, or to end with it.
pub(super) struct MembershipChange {
    pub subscriber: SubscriberId,
    /// Those that are left.
    pub filters: std::vec::IntoIter<TopicFilter>,
    /// Why the session ends behind that, if it does.
    pub end: Option<SessionEnd>,
}

impl Memberships {
    /// Whether there is nothing left to be done.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds what is left of the memberships of the session at this place, behind all others.
    pub fn insert(&mut self, index: u32, change: MembershipChange) {
        self.changes.insert(index, change);
        self.line.push_back(index);
    }

    /// What is left of those of the session at this place.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut MembershipChange> {
        self.changes.get_mut(&index)
    }

    /// Takes that out.
    pub fn take(&mut self, index: u32) -> Option<MembershipChange> {
        self.changes.remove(&index)
    }

    /// Takes out what has its turn, with the place of the session.
    pub fn next(&mut self) -> Option<(u32, MembershipChange)> {
        while let Some(index) = self.line.pop_front() {
            if let Some(change) = self.take(index) {
                return Some((index, change));
            }
        }
        None
    }
}

/// Topic filters of a session that is gone, which are still to be removed; its place is free after that.
pub(super) struct Remnant {
    pub session: u32,
    pub mountpoint: u32,
    pub filters: Filters,
}

/// A session that has come, but not all of what was buffered for it is delivered.
pub(super) struct Coming {
    pub session: u32,
    /// Whether its client was connected when it left.
    pub was_online: bool,
    /// Its connection, if that has come, too.
    pub connection: Option<ConnectionId>,
    /// What its client is still to be sent of what is retained.
    pub replay: Option<Box<Replay>>,
}

/// What was buffered for a session that has ended where it was. Others may have what it would have got as a member of a shared subscription.
pub(super) struct Abandoned {
    pub mountpoint: u32,
    /// How others are chosen.
    pub turn: Turn,
    pub buffered: VecDeque<Buffered>,
}

/// QoS 0 messages in the queue of a session whose client has left. They are dropped before anybody is registered for this subscriber id.
pub(super) struct AwayQos0 {
    pub session: u32,
    pub subscriber: SubscriberId,
}

/// Messages of shared subscriptions that a session has whose client has left: those that it has not acknowledged go to a member that is online,
/// before anybody is registered for this subscriber id.
pub(super) struct AwayShared {
    pub session: u32,
    pub subscriber: SubscriberId,
    /// The sequence from which on those in flight were not looked at.
    in_flight: u64,
    /// How far the queue was looked at.
    queue: Walk,
    /// How members are chosen for them.
    pub turn: Turn,
    /// One that was taken out, and has to wait.
    pub put_back: Option<OutgoingMessage>,
}

impl AwayShared {
    pub fn new(session: u32, subscriber: SubscriberId, turn: Turn) -> Self {
        AwayShared { session, subscriber, in_flight: 0, queue: Walk::default(), turn, put_back: None }
    }

    /// How many messages are to be looked at.
    pub fn len(outbound: &Outbound) -> usize {
        let in_flight = if outbound.is_any_in_flight_shared() { outbound.in_flight() } else { 0 };
        let queued = if outbound.queue.shared() > 0 { outbound.queue.len() } else { 0 };
        in_flight + queued
    }

    /// Looks at the next message, and takes it out if it is to go; `has_other` says whether a member of its shared subscription is online.
    ///
    /// Those of QoS 0 are dropped instead.
    pub fn look(
        &mut self,
        outbound: &mut Outbound,
        has_other: impl Fn(&Arc<TopicFilter>) -> bool,
    ) -> Look<OutgoingMessage> {
        let may_go = |entry: &InFlight| entry.may_go_to_others() && entry.group().is_some_and(&has_other);
        match outbound.look_in_flight(&mut self.in_flight, may_go) {
            Look::Taken(entry) => return entry.delivery().map_or(Look::Kept, Look::Taken),
            Look::Kept => return Look::Kept,
            Look::End if outbound.queue.shared() == 0 => return Look::End,
            Look::End => {}
        }
        let waits = |message: &OutgoingMessage| message.qos > QoS::AtMostOnce;
        let may_go = |message: &OutgoingMessage| waits(message) && message.group.as_ref().is_some_and(&has_other);
        outbound.queue.look(&mut self.queue, may_go)
    }
}

/// A session that has ended, and whose end the hooks have not been told yet.
pub(super) struct EndedSession<S> {
    /// It, with the messages that are left.
    pub session: Box<Session<S>>,
    /// Why it has ended.
    pub end: SessionEnd,
    /// Its will, if that is to be published still.
    pub will: Option<Will>,
    /// The number of its migration if it was about to leave.
    pub leaving: Option<u64>,
    /// A message that was taken out, and has to wait.
    pub put_back: Option<Leftover>,
}

/// A message that a session has left.
pub(super) struct Leftover {
    pub message: OutgoingMessage,
    /// Whether another member of its shared subscription may have it.
    pub may_go: bool,
    /// Why it is dropped, if none has it.
    pub reason: DropReason,
}

impl<S> EndedSession<S> {
    /// The next message that is left, taken out: what was QoS 0 and waited for a client that has just gone, what was in flight, what waited.
    /// A message that the client has received is no more one.
    pub fn next(&mut self) -> Option<Leftover> {
        if let Some(left) = self.put_back.take() {
            return Some(left);
        }
        let outbound = &mut self.session.outbound;
        if let SessionEnd::Gone(_) = self.end
            && let Some(message) = outbound.queue.take_qos0()
        {
            return Some(Leftover { message, may_go: false, reason: DropReason::OfflineQos0 });
        }
        let reason = DropReason::SessionEnded;
        while let Some(entry) = outbound.take_in_flight() {
            let may_go = entry.may_go_to_others();
            if let Some(message) = entry.delivery() {
                return Some(Leftover { message, may_go, reason });
            }
        }
        let message = outbound.queue.take_oldest()?;
        let may_go = message.qos > QoS::AtMostOnce;
        Some(Leftover { message, may_go, reason })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::codec::PacketId;
    use crate::config::SharedPolicy;
    use crate::session::Stage;
    use crate::session::testing::{delivery, session};
    use crate::time::Time;

    fn left(end: SessionEnd) -> Vec<(String, bool, DropReason)> {
        let mut session = Box::new(session());
        for (text, qos) in [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce), ("had", QoS::ExactlyOnce)] {
            session.outbound.launch(delivery(text, qos));
        }
        let had = PacketId::new(3).expect("not zero");
        assert!(session.outbound.received(had));
        for (text, qos) in [("waits", QoS::ExactlyOnce), ("zero", QoS::AtMostOnce)] {
            let limits = session.settings.queue;
            session.outbound.queue.push(delivery(text, qos), &limits, true, Time::ZERO);
        }
        let mut ended = EndedSession { session, end, will: None, leaving: None, put_back: None };
        let text = |left: &Leftover| String::from_utf8_lossy(left.message.message.publication().payload).into_owned();
        std::iter::from_fn(|| ended.next()).map(|left| (text(&left), left.may_go, left.reason)).collect()
    }

    #[test]
    fn each_kind_of_what_was_put_off_has_its_turn() {
        let mut remnants = Remnants::<()>::new();
        assert_eq!([(); 6].map(|()| remnants.next_kind(3)), [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn what_is_left_comes_in_order_and_says_what_may_become_of_it() {
        let ended = DropReason::SessionEnded;
        let [one, two, waits] =
            [("one", true), ("two", false), ("waits", true)].map(|(text, may_go)| (text.to_owned(), may_go, ended));
        let zero = |reason| ("zero".to_owned(), false, reason);
        let gone = left(SessionEnd::Gone(EndReason::ConnectionLost));
        assert_eq!(gone, [zero(DropReason::OfflineQos0), one.clone(), two.clone(), waits.clone()]);
        let expired = left(SessionEnd::Expired(ExpiredReason::Admin));
        assert_eq!(expired, [one, two, waits, zero(ended)]);
    }

    /// A session with so many messages in flight, which came through a shared subscription; of these, the client has acknowledged those whose
    /// place among them `is_gone`.
    fn in_flight(many: u16, qos: fn(u16) -> QoS, is_gone: fn(u16) -> bool) -> Box<Session<()>> {
        let mut session = Box::new(session());
        let group = Arc::new(TopicFilter::parse("$share/g/t", 8).expect("a valid filter"));
        let message = delivery("x", QoS::AtLeastOnce);
        for at in 0..many {
            let message = OutgoingMessage { qos: qos(at), group: Some(group.clone()), ..message.clone() };
            session.outbound.launch(message);
        }
        for at in (0..many).filter(|at| is_gone(*at)) {
            let id = PacketId::new(at + 1).expect("not zero");
            assert!(session.outbound.complete(id, Stage::AwaitingPuback));
        }
        session.outbound.send_again();
        session
    }

    /// Printed, not asserted: a walk over the others for each would take this test minutes.
    #[test]
    fn what_is_in_flight_costs_the_same_however_much_it_is() {
        type Case = (&'static str, fn(u16) -> QoS, fn(u16) -> bool);
        let cases: [Case; 4] = [
            ("nothing acknowledged", |_| QoS::AtLeastOnce, |_| false),
            ("every second one acknowledged", |_| QoS::AtLeastOnce, |at| at % 2 == 1),
            ("all but the first and the last tenth acknowledged", |_| QoS::AtLeastOnce, |at| at > 0 && at < 58_000),
            ("every second one stays", |at| if at % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }, |_| false),
        ];
        for (what, qos, is_gone) in cases {
            for many in [1_000, u16::MAX] {
                let session = in_flight(many, qos, is_gone);
                let left = session.outbound.in_flight();
                let end = SessionEnd::Expired(ExpiredReason::Admin);
                let mut ended = EndedSession { session, end, will: None, leaving: None, put_back: None };
                let began = Instant::now();
                assert_eq!(std::iter::from_fn(|| ended.next()).count(), left);
                let ends = began.elapsed();

                let mut session = in_flight(many, qos, is_gone);
                let mut away = AwayShared::new(0, SubscriberId::new("", "c"), Turn::of_moved(SharedPolicy::Random, 0));
                let (began, mut given) = (Instant::now(), 0);
                loop {
                    match away.look(&mut session.outbound, |_| true) {
                        Look::Taken(_) => given += 1,
                        Look::Kept => {}
                        Look::End => break,
                    }
                }
                let goes = began.elapsed();
                let stay = (0..many).filter(|at| qos(*at) == QoS::ExactlyOnce).count();
                assert_eq!((given, session.outbound.in_flight()), (left - stay, stay));
                println!("{what}, {left} in flight: {ends:?} when the session ends, {goes:?} when its client leaves");
            }
        }
    }
}
