//! What is left of sessions that have ended, and of connections, where it is too much for one turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::client::{ConnectionId, DropReason, EndReason, ExpiredReason, SubscriberId};
use crate::codec::QoS;
use crate::retained::Replay;
use crate::routing::Turn;
use crate::session::{Buffered, Filters, InFlight, Look, Outbound, OutgoingMessage, Session, Stage, Walk, Will};
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
}

impl<S> Remnants<S> {
    pub fn new() -> Self {
        Remnants {
            subscriptions: VecDeque::new(),
            messages: VecDeque::new(),
            qos0: VecDeque::new(),
            shared: VecDeque::new(),
            coming: VecDeque::new(),
            abandoned: VecDeque::new(),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        let is_of_sessions_here = self.qos0.is_empty() && self.shared.is_empty() && self.coming.is_empty();
        is_of_sessions_here && self.subscriptions.is_empty() && self.messages.is_empty() && self.abandoned.is_empty()
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
}

impl AwayShared {
    pub fn new(session: u32, subscriber: SubscriberId) -> Self {
        AwayShared { session, subscriber, in_flight: 0, queue: Walk::default() }
    }

    /// How many messages are to be looked at.
    pub fn len(outbound: &Outbound) -> usize {
        let in_flight = if outbound.is_any_in_flight_shared() { outbound.in_flight() } else { 0 };
        let queued = if outbound.queue.shared() > 0 { outbound.queue.len() } else { 0 };
        in_flight + queued
    }

    /// Looks at the next message, and takes it out if it is to go; `has_other` says whether a member of its shared subscription is online.
    ///
    /// A QoS 2 message that was sent stays: the client may have it already, and nobody else may get it then [MQTT-4.8.2-5], [MQTT-4.8.2-6].
    /// Those of QoS 0 are dropped.
    pub fn look(
        &mut self,
        outbound: &mut Outbound,
        has_other: impl Fn(&Arc<TopicFilter>) -> bool,
    ) -> Look<OutgoingMessage> {
        let may_go = |entry: &InFlight| entry.stage() == Stage::AwaitingPuback && entry.group().is_some_and(&has_other);
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
}

/// A message that a session has left.
pub(super) struct Leftover {
    pub message: OutgoingMessage,
    /// Whether another member of its shared subscription may have it. A QoS 2 message that was sent stays with the client that may have
    /// it already [MQTT-4.8.2-5], [MQTT-4.8.2-6].
    pub may_go: bool,
    /// Why it is dropped, if none has it.
    pub reason: DropReason,
}

impl<S> EndedSession<S> {
    /// The next message that is left, taken out: what was QoS 0 and waited for a client that has just gone, what was in flight, what waited.
    /// A message that the client has received is no more one.
    pub fn next(&mut self) -> Option<Leftover> {
        let outbound = &mut self.session.outbound;
        if let SessionEnd::Gone(_) = self.end
            && let Some(message) = outbound.queue.take_qos0()
        {
            return Some(Leftover { message, may_go: false, reason: DropReason::OfflineQos0 });
        }
        let reason = DropReason::SessionEnded;
        while let Some(entry) = outbound.take_in_flight() {
            let may_go = entry.stage() == Stage::AwaitingPuback;
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
    use super::*;
    use crate::session::testing::{delivery, session};
    use crate::time::Time;

    fn left(end: SessionEnd) -> Vec<(String, bool, DropReason)> {
        let mut session = Box::new(session());
        for (text, qos) in [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce), ("had", QoS::ExactlyOnce)] {
            session.outbound.next_packet_id();
            session.outbound.put_in_flight(delivery(text, qos), None);
        }
        let had = crate::codec::PacketId::new(3).expect("not zero");
        assert!(session.outbound.received(had));
        for (text, qos) in [("waits", QoS::ExactlyOnce), ("zero", QoS::AtMostOnce)] {
            let limits = session.settings.queue;
            session.outbound.queue.push(delivery(text, qos), &limits, true, Time::ZERO);
        }
        let mut ended = EndedSession { session, end, will: None, leaving: None };
        let text = |left: &Leftover| String::from_utf8_lossy(left.message.message.publication().payload).into_owned();
        std::iter::from_fn(|| ended.next()).map(|left| (text(&left), left.may_go, left.reason)).collect()
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
}
