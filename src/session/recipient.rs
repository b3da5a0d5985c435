//! One receiver of one message.

use std::sync::Arc;

use super::{Key, OutgoingMessage, SubscriptionIds};
use crate::codec::QoS;
use crate::message::Publication;
use crate::topic::TopicFilter;

/// Marks the places that stand for subscriptions of the embedding program, among those that stand for sessions.
pub const PROGRAM: u32 = 1 << 31;

/// One receiver of a message on this shard.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The session, by its place in the table; with [`PROGRAM`] set, a subscription of the embedding program.
    pub session: u32,
    /// The highest QoS of its matching subscriptions [MQTT-3.3.5-1].
    pub qos: QoS,
    /// Whether one of them wants the RETAIN flag as published.
    pub retain_as_published: bool,
    /// The identifiers of all of them.
    pub ids: SubscriptionIds,
    /// The shared subscription of which it is the chosen member.
    pub group: Option<Arc<TopicFilter>>,
}

impl Recipient {
    /// Whether it is a subscription of the embedding program.
    #[inline]
    pub fn is_program(&self) -> bool {
        self.session & PROGRAM != 0
    }

    /// `publication` as it waits for this recipient.
    // Always inline, so that it is built where it stays: a copy reads in large pieces what was just written in small ones, and
    // waits for them.
    #[inline(always)]
    pub fn delivery(&self, publication: &Publication<'_>, qos: QoS, retain: bool) -> OutgoingMessage {
        let (ids, group) = (self.ids.clone(), self.group.clone());
        OutgoingMessage { message: publication.keep(), qos, retain, key: Key::NONE, ids, group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::TopicName;

    fn recipient(session: u32) -> Recipient {
        let group = Arc::new(TopicFilter::parse("$share/g/t", 8).expect("a valid filter"));
        Recipient {
            session,
            qos: QoS::ExactlyOnce,
            retain_as_published: true,
            ids: SubscriptionIds::from([1, 2]),
            group: Some(group),
        }
    }

    #[test]
    fn the_program_and_sessions_share_no_place() {
        assert!(![0, PROGRAM - 1].into_iter().any(|place| recipient(place).is_program()));
        assert!([PROGRAM, u32::MAX].into_iter().all(|place| recipient(place).is_program()));
    }

    #[test]
    fn a_delivery_has_what_was_agreed_on_and_what_the_recipient_asked_for() {
        let (recipient, publication) = (recipient(0), Publication::new(TopicName::trusted("t"), b"payload"));
        for retain in [false, true] {
            let delivery = recipient.delivery(&publication, QoS::AtLeastOnce, retain);
            assert_eq!((delivery.qos, delivery.retain), (QoS::AtLeastOnce, retain));
            assert_eq!((&*delivery.ids, &delivery.group), (&[1, 2][..], &recipient.group));
            assert!(delivery.message.same_as(&publication.keep()), "all recipients share one message");
        }
    }
}
