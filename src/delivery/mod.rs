//! The organ that brings one message to one session: straight to the connection, into the window, into the queue, or dropped with a
//! reason.
//!
//! | the session is | QoS 0 | QoS 1 and 2 |
//! |---|---|---|
//! | online, nothing queued, window open | sent | sent, in flight |
//! | online, nothing queued, window full | sent: QoS 0 takes no place in it | queued |
//! | online, something queued or to be sent again | queued behind | queued |
//! | online, its output full | queued; dropped when nobody waits for it any more, see `flow` | queued |
//! | offline | dropped | queued |
//!
//! What is retained for a new subscription takes another way: it is sent when nothing is in its way, and waits where it is kept until then.
//!
//! How long a client may not read before it counts as lost is up to `flow`; queueing, and telling the hooks of what is stored or dropped, is
//! done by the shard, in `shard::delivering`. Acknowledgements of both directions are handled here, too: PUBREL, which ends an incoming QoS 2
//! message, among them.
//!
//! Owns the batch of publications that are delivered recipient by recipient, those that are delivered in portions, and the memory in which packets to many recipients are encoded
//! once. Sessions and connections are lent to it. It never says who is a recipient, and never drops silently: what is dropped is returned.

mod acks;
mod batch;
mod encoded;
mod fan_out;
mod writer;

pub use acks::acknowledge;
pub use batch::Batch;
pub use encoded::EncodedForms;
pub use fan_out::{FULL, FanOut, FanOuts};
pub use writer::{PublishWriter, Sending};

use crate::client::DropReason;
use crate::codec::QoS;
use crate::connection::Pace;
use crate::message::Publication;
use crate::session::{Buffered, MigrationState, PublicationId, QueueLimits, Recipient, Session};
use crate::sharding::SlotTraffic;

/// The organ; one for each shard.
pub struct Delivering {
    /// Publications that wait for more of the same.
    pub batch: Batch,
    /// Publications that are delivered in portions.
    pub fan_outs: FanOuts,
    /// Messages by the slot of the client that published or was sent them.
    pub traffic: SlotTraffic,
    /// Memory for encoded packets: as many as a batch has publications.
    forms: Vec<EncodedForms>,
}

/// What became of a message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It was written.
    Sent,
    /// It belongs into the queue.
    Queue {
        /// Whether the client is connected.
        online: bool,
    },
    /// It belongs into the queue of an offline session, and the hooks are told that it is stored.
    Store,
    /// It is dropped.
    Dropped(DropReason),
}

impl Delivering {
    /// Nothing gathered.
    pub fn new() -> Self {
        Delivering {
            batch: Batch::default(),
            fan_outs: FanOuts::default(),
            traffic: SlotTraffic::default(),
            forms: Vec::new(),
        }
    }

    /// Memory for the encoded packets of so many publications, empty. It comes back with [`give_back`](Self::give_back).
    #[inline]
    pub fn lend_forms(&mut self, publications: usize) -> Vec<EncodedForms> {
        let mut forms = std::mem::take(&mut self.forms);
        if forms.len() < publications {
            forms.resize_with(publications, EncodedForms::default);
        }
        forms[..publications].iter_mut().for_each(EncodedForms::clear);
        forms
    }

    /// Takes back what was lent.
    #[inline]
    pub fn give_back(&mut self, forms: Vec<EncodedForms>) {
        self.forms = forms;
    }
}

/// The QoS with which a session gets a message [MQTT-3.8.4-8].
#[inline]
pub fn qos_for<S>(session: &Session<S>, recipient: &Recipient, publication: &Publication<'_>) -> QoS {
    if session.settings.upgrade_qos { recipient.qos } else { recipient.qos.min(publication.qos) }
}

/// Where a message is delivered to a session that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// On this shard.
    Here,
    /// It was, where the session was before.
    Elsewhere,
    /// When the session has come.
    Buffered,
    /// Nowhere: too much waits for the session that is to come, and too many messages that were dropped for that.
    Dropped,
}

/// Where a message is delivered to a session that moves. It is not if it was delivered where the session was before; if the
/// session is still to come, the message is buffered here.
#[cold]
pub fn is_due_here(
    state: &mut MigrationState,
    recipient: &Recipient,
    publication: &Publication<'_>,
    id: PublicationId,
    retain: bool,
    limits: &QueueLimits,
) -> Due {
    if !state.is_new(id, recipient.group.is_some()) {
        return Due::Elsewhere;
    }
    if let MigrationState::Arriving(arriving) = state {
        // At the QoS of the subscription: what was agreed on with the client is not known yet.
        let buffered = Buffered { id, delivery: recipient.delivery(publication, recipient.qos, retain) };
        return if arriving.push(buffered, limits) { Due::Buffered } else { Due::Dropped };
    }
    Due::Here
}

/// What becomes of a message for a client that is connected and not free.
pub fn busy(qos: QoS, pace: Pace) -> Delivered {
    match (qos, pace) {
        (QoS::AtMostOnce, Pace::Lost) => Delivered::Dropped(DropReason::SlowConsumer),
        _ => Delivered::Queue { online: true },
    }
}

/// What becomes of a message for a session without a connection.
pub fn offline<S>(session: &Session<S>, recipient: &Recipient, qos: QoS) -> Delivered {
    match (session.is_kept(), qos) {
        (true, QoS::AtMostOnce) => Delivered::Dropped(DropReason::OfflineQos0),
        (true, _) => Delivered::Store,
        // It is about to end, and its will found it among its own recipients. In the queue, another member gets it in a moment.
        (false, QoS::AtLeastOnce | QoS::ExactlyOnce) if recipient.group.is_some() => Delivered::Queue { online: false },
        (false, _) => Delivered::Dropped(DropReason::SessionEnded),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::client::ConnectionId;
    use crate::config::Limit;
    use crate::session::testing::session;
    use crate::session::{Arriving, SubscriptionIds};
    use crate::sharding::Publisher;
    use crate::topic::{TopicFilter, TopicName};

    const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

    fn recipient(qos: QoS) -> Recipient {
        let ids = SubscriptionIds::from(3);
        Recipient { session: 0, qos, retain_as_published: false, ids, group: None }
    }

    fn member(qos: QoS) -> Recipient {
        let group = Arc::new(TopicFilter::parse("$share/g/t", 8).expect("a valid filter"));
        Recipient { group: Some(group), ..recipient(qos) }
    }

    fn publication(qos: QoS) -> Publication<'static> {
        let mut publication = Publication::new(TopicName::trusted("t"), b"payload");
        publication.qos = qos;
        publication
    }

    fn id(shard: usize, sequence: u64) -> PublicationId {
        PublicationId { shard, sequence }
    }

    /// [MQTT-3.8.4-8]
    #[test]
    fn a_message_has_the_lower_qos_of_publication_and_subscription() {
        let session = session();
        let got = QOS.map(|granted| QOS.map(|sent| qos_for(&session, &recipient(granted), &publication(sent))));
        let [zero, one, two] = QOS;
        assert_eq!(got, [[zero, zero, zero], [zero, one, one], [zero, one, two]]);
    }

    #[test]
    fn a_session_that_upgrades_has_the_qos_of_its_subscription() {
        let mut session = session();
        session.settings.upgrade_qos = true;
        for granted in QOS {
            assert_eq!(QOS.map(|sent| qos_for(&session, &recipient(granted), &publication(sent))), [granted; 3]);
        }
    }

    #[test]
    fn everything_is_queued_for_a_client_that_is_not_free() {
        for pace in [Pace::Keeping, Pace::Full] {
            assert_eq!(QOS.map(|qos| busy(qos, pace)), [Delivered::Queue { online: true }; 3]);
        }
    }

    #[test]
    fn a_client_that_does_not_read_loses_qos_0_and_nothing_else() {
        let queued = Delivered::Queue { online: true };
        let lost = Delivered::Dropped(DropReason::SlowConsumer);
        assert_eq!(QOS.map(|qos| busy(qos, Pace::Lost)), [lost, queued, queued]);
    }

    #[test]
    fn qos_0_does_not_wait_for_a_client_that_is_away() {
        let mut session = session();
        assert_eq!(offline(&session, &recipient(QOS[0]), QOS[0]), Delivered::Dropped(DropReason::OfflineQos0));
        assert_eq!(offline(&session, &member(QOS[0]), QOS[0]), Delivered::Dropped(DropReason::OfflineQos0));
        session.settings.kept = false;
        assert_eq!(offline(&session, &member(QOS[0]), QOS[0]), Delivered::Dropped(DropReason::SessionEnded));
    }

    /// [MQTT-4.5.0-1]
    #[test]
    fn a_kept_session_stores_qos_1_and_2_while_its_client_is_away() {
        let session = session();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(offline(&session, &recipient(qos), qos), Delivered::Store);
            assert_eq!(offline(&session, &member(qos), qos), Delivered::Store);
        }
    }

    /// Such a session is about to end, and its will is among what is published.
    #[test]
    fn a_session_that_ends_keeps_nothing_but_what_another_member_may_get() {
        let mut session = session();
        session.settings.kept = false;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let dropped = Delivered::Dropped(DropReason::SessionEnded);
            assert_eq!(offline(&session, &recipient(qos), qos), dropped);
            assert_eq!(offline(&session, &member(qos), qos), Delivered::Queue { online: false });
        }
    }

    /// For a session whose queue takes little.
    fn due_at(
        state: &mut MigrationState,
        recipient: &Recipient,
        publication: &Publication<'_>,
        id: PublicationId,
        retain: bool,
    ) -> Due {
        let limits = QueueLimits { bytes: Limit::at_most(QUEUE), ..session().settings.queue };
        is_due_here(state, recipient, publication, id, retain, &limits)
    }

    const QUEUE: usize = 100 * 1024;

    #[test]
    fn no_more_is_buffered_than_the_queue_may_have_and_publishers_wait_before() {
        let mut arriving = MigrationState::Arriving(Arriving::default());
        let payload = vec![b'x'; 10 * 1024];
        let published = Publication::new(TopicName::trusted("t"), &payload);
        let publisher = Publisher { shard: 1, connection: ConnectionId::new(1, 1) };
        let mut outcomes = Vec::new();
        for sequence in 0..15 {
            let due = due_at(&mut arriving, &recipient(QoS::AtLeastOnce), &published, id(0, sequence), false);
            let MigrationState::Arriving(arriving) = &mut arriving else { panic!("it has not come") };
            let limits = QueueLimits { bytes: Limit::at_most(QUEUE), ..session().settings.queue };
            outcomes.push((due, arriving.waits(publisher, 1024 * 1024, &limits)));
        }
        let first_wait = outcomes.iter().position(|(_, waits)| *waits);
        assert_eq!((first_wait, outcomes.iter().filter(|(_, waits)| *waits).count()), (Some(4), 1), "{outcomes:?}");
        let buffered = outcomes.iter().filter(|(due, _)| *due == Due::Buffered).count();
        assert_eq!(buffered, outcomes.len(), "what is too much is told of later");
        for sequence in 15..100 {
            let due = due_at(&mut arriving, &recipient(QoS::AtLeastOnce), &published, id(0, sequence), false);
            assert_ne!(due, Due::Here);
        }
        let last = due_at(&mut arriving, &recipient(QoS::AtLeastOnce), &published, id(0, 100), false);
        let arriving = arriving.into_arriving();
        assert!(arriving.bytes <= QUEUE && (8..=10).contains(&arriving.buffered.len()));
        assert_eq!((arriving.dropped.len(), last), (64, Due::Dropped));
    }

    #[test]
    fn what_was_delivered_where_the_session_was_before_is_not_due_here() {
        let mut arrived = MigrationState::Arrived { delivered_up_to: [5, 7].into() };
        let mut due = |recipient: &Recipient, id| {
            due_at(&mut arrived, recipient, &publication(QoS::AtLeastOnce), id, false) == Due::Here
        };
        let plain = recipient(QoS::AtLeastOnce);
        assert_eq!([due(&plain, id(0, 5)), due(&plain, id(1, 7))], [false; 2]);
        assert_eq!([due(&plain, id(0, 6)), due(&plain, id(1, 8))], [true; 2]);
        assert!(due(&plain, PublicationId::NONE), "it was sent to this session alone");
        assert!(due(&member(QoS::AtLeastOnce), id(0, 5)), "a shared subscription sends to one shard only");
    }

    #[test]
    fn a_session_that_leaves_is_still_delivered_to() {
        let mut leaving = MigrationState::leaving(1, 1, None);
        let plain = recipient(QoS::AtMostOnce);
        assert_eq!(due_at(&mut leaving, &plain, &publication(QoS::AtMostOnce), id(0, 1), false), Due::Here);
    }

    #[test]
    fn messages_for_a_session_that_is_still_to_come_are_buffered_in_order() {
        let mut arriving = MigrationState::Arriving(Arriving::default());
        let published = publication(QoS::AtMostOnce);
        let wanted = [(recipient(QoS::ExactlyOnce), id(1, 4), true), (member(QoS::AtLeastOnce), id(0, 9), false)];
        for (recipient, id, retain) in &wanted {
            assert_eq!(due_at(&mut arriving, recipient, &published, *id, *retain), Due::Buffered);
        }
        let buffered = arriving.into_arriving().buffered;
        assert_eq!(buffered.len(), wanted.len());
        for (Buffered { id, delivery }, (recipient, wanted, retain)) in buffered.iter().zip(&wanted) {
            assert_eq!((id, delivery.retain), (wanted, *retain));
            assert_eq!(delivery.qos, recipient.qos, "that of the subscription: the rest is applied when it has come");
            assert_eq!((&delivery.group, &*delivery.ids), (&recipient.group, &*recipient.ids));
            assert!(delivery.message.same_as(&published.keep()), "one copy for all");
        }
    }

    #[test]
    fn memory_for_encoded_packets_is_lent_empty_and_comes_back() {
        use crate::codec::{Outgoing, ProtocolVersion};
        let mut delivery = Delivering::new();
        let mut forms = delivery.lend_forms(2);
        assert_eq!(forms.len(), 2);
        forms[1].encode(&Outgoing { topic: "t", ..Outgoing::default() }, ProtocolVersion::V5);
        delivery.give_back(forms);
        let forms = delivery.lend_forms(1);
        assert_eq!(forms.len(), 2, "there is as much as was needed most");
        delivery.give_back(forms);
        let forms = delivery.lend_forms(2);
        assert!(forms.iter().all(|forms| forms.encoded(ProtocolVersion::V5, None).is_none()));
    }
}
