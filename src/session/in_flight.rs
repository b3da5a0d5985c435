//! One message in flight: its state until the client has acknowledged it.

use std::sync::Arc;

use super::{Key, OutgoingMessage, SubscriptionIds};
use crate::codec::{PacketId, QoS};
use crate::memory::{Held, MemoryKind, allocated};
use crate::message::Message;
use crate::topic::TopicFilter;

/// What a message in flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// QoS 1, sent.
    AwaitingPuback,
    /// QoS 2, sent.
    AwaitingPubrec,
    /// QoS 2, received by the client, PUBREL sent. The message itself is no longer needed.
    AwaitingPubcomp,
}

/// One message in flight.
#[derive(Debug)]
pub struct InFlight {
    /// The message; gone once the client has it.
    message: Option<Message>,
    details: Details,
    sequence: Key,
    stage: Stage,
    retain: bool,
}

// A window full of them per busy session is more than the caches hold, and every delivery writes one.
const _: () = assert!(size_of::<InFlight>() <= 32, "two of them share a line of the cache");

/// What differs between deliveries of one message. The usual ones take no memory of their own.
#[derive(Debug)]
enum Details {
    /// Through ordinary subscriptions, with at most one Subscription Identifier: zero if there is none.
    Plain(u32),
    /// Through a shared subscription, with its Subscription Identifier.
    Shared(u32, Arc<TopicFilter>),
    Rare(Box<Rare>),
}

#[derive(Debug)]
struct Rare {
    ids: SubscriptionIds,
    group: Option<Arc<TopicFilter>>,
    rewritten: Option<Message>,
    _held: Held<{ MemoryKind::InFlight as u8 }>,
}

impl InFlight {
    /// `delivery`, of QoS 1 or 2, sent with the packet id that follows from `sequence`, as what a hook made of it.
    // Always inline, so that it is built where it stays.
    #[inline(always)]
    pub(super) fn new(sequence: u64, delivery: OutgoingMessage, rewritten: Option<Message>) -> Self {
        let OutgoingMessage { message, qos, retain, ids, group, key: _ } = delivery;
        let stage = match qos {
            QoS::ExactlyOnce => Stage::AwaitingPubrec,
            _ => Stage::AwaitingPuback,
        };
        let details = match (ids, group, rewritten) {
            (SubscriptionIds::AtMostOne(id), None, None) => Details::Plain(id),
            (SubscriptionIds::AtMostOne(id), Some(group), None) => Details::Shared(id, group),
            (ids, group, rewritten) => Details::rare(ids, group, rewritten),
        };
        InFlight { message: Some(message), details, sequence: Key::new(sequence), stage, retain }
    }

    /// The place of a message that is acknowledged, between others that are not.
    pub(super) fn gap(sequence: u64) -> Self {
        let (stage, sequence) = (Stage::AwaitingPuback, Key::new(sequence));
        InFlight { message: None, details: Details::Plain(0), sequence, stage, retain: false }
    }

    /// Whether it is such a place. Of QoS 2 messages the client has something is waited for still.
    pub(super) fn is_gap(&self) -> bool {
        self.message.is_none() && self.stage != Stage::AwaitingPubcomp
    }

    /// A QoS 2 message that the client has, under this sequence: PUBCOMP is waited for.
    pub(super) fn received_before(sequence: u64) -> Self {
        InFlight { stage: Stage::AwaitingPubcomp, ..InFlight::gap(sequence) }
    }

    /// Which of the messages that were sent to this client it is.
    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Its number among the messages of the session.
    pub fn key(&self) -> Key {
        self.sequence
    }

    /// Its packet id.
    pub fn packet_id(&self) -> PacketId {
        packet_id(self.sequence())
    }

    /// What it waits for.
    #[inline]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether another member may have it, if it came through a shared subscription and its client is away. A QoS 2 message may not: the
    /// client may have it already, and nobody else may get it then [MQTT-4.8.2-5], [MQTT-4.8.2-6].
    pub fn may_go_to_others(&self) -> bool {
        self.stage == Stage::AwaitingPuback
    }

    /// The client has it: only the end of the handshake is waited for.
    pub(super) fn received(&mut self) {
        self.stage = Stage::AwaitingPubcomp;
        (self.message, self.details) = (None, Details::Plain(0));
    }

    /// The delivery, as it was before it was sent. None once the client has it.
    pub fn delivery(&self) -> Option<OutgoingMessage> {
        let qos = match self.stage {
            Stage::AwaitingPuback => QoS::AtLeastOnce,
            Stage::AwaitingPubrec | Stage::AwaitingPubcomp => QoS::ExactlyOnce,
        };
        let ids = match &self.details {
            Details::Plain(id) | Details::Shared(id, _) => SubscriptionIds::from(*id),
            Details::Rare(rare) => rare.ids.clone(),
        };
        let (retain, group) = (self.retain, self.group().cloned());
        Some(OutgoingMessage { message: self.message.clone()?, qos, retain, key: self.sequence, ids, group })
    }

    /// The memory of what is sent again if it has to be, in bytes, shared or not.
    pub(super) fn size(&self) -> usize {
        let of_details = match &self.details {
            Details::Rare(rare) => rare.ids.bytes() + rare.rewritten.as_ref().map_or(0, Message::size),
            Details::Plain(_) | Details::Shared(..) => 0,
        };
        self.message.as_ref().map_or(0, Message::size) + of_details
    }

    /// The shared subscription it came through.
    pub fn group(&self) -> Option<&Arc<TopicFilter>> {
        match &self.details {
            Details::Plain(_) => None,
            Details::Shared(_, group) => Some(group),
            Details::Rare(rare) => rare.group.as_ref(),
        }
    }

    /// What a hook made of the message for this client, if one did: every transmission is the same.
    pub fn rewritten(&self) -> Option<&Message> {
        match &self.details {
            Details::Rare(rare) => rare.rewritten.as_ref(),
            Details::Plain(_) | Details::Shared(..) => None,
        }
    }
}

impl Details {
    #[cold]
    fn rare(ids: SubscriptionIds, group: Option<Arc<TopicFilter>>, rewritten: Option<Message>) -> Self {
        let _held = Held::new(allocated(size_of::<Rare>()));
        Details::Rare(Box::new(Rare { ids, group, rewritten, _held }))
    }
}

/// How many packet ids there are.
pub(super) const IDS: u64 = 65535;

/// The packet id of the message with this sequence.
#[inline]
pub fn packet_id(sequence: u64) -> PacketId {
    PacketId::new((sequence % IDS) as u16 + 1).expect("one more than a remainder is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::queue::tests::delivery;

    fn group() -> Arc<TopicFilter> {
        Arc::new(TopicFilter::parse("$share/g/t", 8).expect("a valid filter"))
    }

    #[test]
    fn a_delivery_comes_back_as_it_was_sent() {
        let many = SubscriptionIds::from([1, 2]);
        let rewritten = delivery("as the hook has it", QoS::AtLeastOnce).message;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for ids in [SubscriptionIds::new(), SubscriptionIds::from(268_435_455), many.clone()] {
                for group in [None, Some(group())] {
                    for rewritten in [None, Some(rewritten.clone())] {
                        let sent = OutgoingMessage {
                            retain: true,
                            ids: ids.clone(),
                            group: group.clone(),
                            ..delivery("t", qos)
                        };
                        let entry = InFlight::new((1 << 48) - 2, sent.clone(), rewritten.clone());
                        let came = entry.delivery().expect("the client does not have it");
                        assert!(came.message.same_as(&sent.message));
                        assert_eq!((came.qos, came.retain, &*came.ids, &came.group), (qos, true, &*ids, &group));
                        assert_eq!(entry.group(), group.as_ref());
                        assert_eq!(entry.rewritten().map(Message::address), rewritten.as_ref().map(Message::address));
                        assert_eq!((entry.sequence(), came.key.get()), ((1 << 48) - 2, (1 << 48) - 2));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_kept_of_what_the_client_has() {
        let sent = delivery("t", QoS::ExactlyOnce);
        let mut entry = InFlight::new(0, OutgoingMessage { group: Some(group()), ..sent.clone() }, Some(sent.message));
        assert_eq!(entry.stage(), Stage::AwaitingPubrec);
        entry.received();
        assert_eq!(entry.stage(), Stage::AwaitingPubcomp);
        assert!(entry.delivery().is_none() && entry.group().is_none() && entry.rewritten().is_none());
    }
}
