//! One message to one session: straight to the connection, into the window, into the queue, or dropped with a reason.
//!
//! | the session is | QoS 0 | QoS 1 and 2 |
//! |---|---|---|
//! | online, nothing queued, window open | sent | sent, in flight |
//! | online, something queued or window full | queued behind | queued |
//! | online, its client does not read | dropped | queued |
//! | offline | dropped | queued |

use super::audience::Target;
use super::frames::Frames;
use super::{Attempt, Shard};
use crate::client::{ConnectionId, DropReason};
use crate::codec::{Outgoing, PacketId, QoS};
use crate::connection::{Aliases, Connection, ConnectionStage, OutgoingAlias, SPLICE_FROM};
use crate::hooks::{Chain, DeliverModifiersM5, DeliveryM5, DroppedMessage, OfflineMessage};
use crate::message::Publication;
use crate::session::{Delivery, InFlight, Session, Stage};
use crate::time::Time;
use crate::topic::TopicName;

/// A PUBLISH that is to be written: everything but who it goes to.
#[derive(Clone, Copy)]
struct Item<'a> {
    publication: &'a Publication<'a>,
    qos: QoS,
    retain: bool,
    dup: bool,
    ids: &'a [u32],
    packet_id: Option<PacketId>,
}

/// The pen of a shard, which leaves its sessions and connections free to be borrowed.
macro_rules! pen {
    ($shard:ident) => {
        Pen {
            chain: &mut $shard.chain,
            frames: &mut $shard.frames,
            spare: &mut $shard.spare,
            max_topic_levels: $shard.config.limits.max_topic_levels,
            now: $shard.now,
        }
    };
}

impl<C: Chain> Shard<C> {
    /// Delivers `publication` to one receiver, with this RETAIN flag.
    pub(super) fn deliver(&mut self, target: Target, publication: &Publication<'_>, retain: bool) {
        let Some(session) = self.sessions.get_mut(target.session) else { return };
        let qos = if session.terms.upgrade_qos { target.qos } else { target.qos.min(publication.qos) };
        let Some(id) = session.connection else {
            return self.keep_for_later(target, publication, qos, retain);
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let slow = connection.outbox.waiting() >= self.config.queue.max_waiting_output_bytes;
        let straight = session.outbound.queue.is_empty() && !slow;
        if qos == QoS::AtMostOnce && straight {
            let item = Item { publication, qos, retain, dup: false, ids: &target.ids, packet_id: None };
            let sent = pen!(self).write(session, connection, item);
            self.wrote(target.session, id, publication, qos, retain, sent);
        } else if qos == QoS::AtMostOnce && slow {
            self.report_drop(target.session, publication, qos, retain, DropReason::SlowConsumer);
        } else if straight && session.outbound.has_room(session.terms.send_maximum) {
            let delivery = Delivery { message: publication.keep(), qos, retain, ids: target.ids, group: target.group };
            self.launch(target.session, id, delivery, publication);
        } else {
            let delivery = Delivery { message: publication.keep(), qos, retain, ids: target.ids, group: target.group };
            self.enqueue(target.session, delivery, true);
        }
    }

    /// Puts a QoS 1 or 2 message in flight and writes it. There must be room in the window.
    fn launch(&mut self, index: u32, id: ConnectionId, delivery: Delivery, publication: &Publication<'_>) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (qos, retain, ids) = (delivery.qos, delivery.retain, delivery.ids.clone());
        let packet_id = session.outbound.launch(delivery);
        let item = Item { publication, qos, retain, dup: false, ids: &ids, packet_id: Some(packet_id) };
        let sent = pen!(self).write(session, connection, item);
        if !sent {
            session.outbound.take_back_last();
        }
        self.wrote(index, id, publication, qos, retain, sent);
    }

    /// A message for a session without a connection.
    fn keep_for_later(&mut self, target: Target, publication: &Publication<'_>, qos: QoS, retain: bool) {
        if qos == QoS::AtMostOnce {
            return self.report_drop(target.session, publication, qos, retain, DropReason::OfflineQos0);
        }
        let delivery = Delivery { message: publication.keep(), qos, retain, ids: target.ids, group: target.group };
        if self.enqueue(target.session, delivery, false) {
            let Some(session) = self.sessions.get_mut(target.session) else { return };
            let message =
                OfflineMessage { topic: publication.topic.as_str(), payload: publication.payload, qos, retain };
            let notified = self.chain.on_offline_message(&session.client, &mut session.state, &message);
            self.notified(target.session, notified);
        }
    }

    /// Puts a message into the queue of a session; says whether it is in it.
    pub(super) fn enqueue(&mut self, index: u32, delivery: Delivery, online: bool) -> bool {
        let Some(session) = self.sessions.get_mut(index) else { return false };
        let insert = session.outbound.queue.push(delivery, &session.terms.queue, online, self.now);
        for (dropped, reason) in insert.dropped {
            self.report_dropped(index, &dropped, reason);
        }
        insert.stored
    }

    /// Sends what waits in the queue as long as window and connection take it.
    pub(super) fn pump(&mut self, index: u32) {
        self.frames.begin(false);
        loop {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let Some(id) = session.connection else { return };
            let Some(connection) = self.connections.get(id) else { return };
            let order = session.terms.queue.order;
            let Some(next) = session.outbound.queue.next(order) else { return };
            let fits = next.qos == QoS::AtMostOnce || session.outbound.has_room(session.terms.send_maximum);
            if !fits || connection.outbox.waiting() >= self.config.queue.max_waiting_output_bytes {
                return;
            }
            let Some(delivery) = session.outbound.queue.take(order) else { return };
            if delivery.message.expires() <= self.now {
                self.report_dropped(index, &delivery, DropReason::Expired);
                continue;
            }
            let message = delivery.message.clone();
            self.send_queued(index, id, delivery, &message.publication());
        }
    }

    fn send_queued(&mut self, index: u32, id: ConnectionId, delivery: Delivery, publication: &Publication<'_>) {
        if delivery.qos != QoS::AtMostOnce {
            return self.launch(index, id, delivery, publication);
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (qos, retain) = (delivery.qos, delivery.retain);
        let item = Item { publication, qos, retain, dup: false, ids: &delivery.ids, packet_id: None };
        let sent = pen!(self).write(session, connection, item);
        self.wrote(index, id, publication, qos, retain, sent);
    }

    /// Sends again what is in flight, with the same packet ids and in the same order: DUP is set, and PUBREL stands for
    /// what the client has already [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self, index: u32) {
        self.frames.begin(false);
        let mut too_large = Vec::new();
        for at in 0.. {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let Some(id) = session.connection else { return };
            let Some(connection) = self.connections.get_mut(id) else { return };
            let Some(entry) = session.outbound.at(at) else { break };
            let packet_id = entry.packet_id();
            let Some(Delivery { message, qos, retain, ids, .. }) = entry.delivery.clone() else {
                debug_assert_eq!(entry.stage, Stage::AwaitingPubcomp, "only what the client has is not kept");
                self.write_pubrel(id, packet_id);
                continue;
            };
            let publication = message.publication();
            let item =
                Item { publication: &publication, qos, retain, dup: true, ids: &ids, packet_id: Some(packet_id) };
            let sent = pen!(self).write(session, connection, item);
            if sent {
                self.wrote(index, id, &publication, qos, retain, true);
            } else {
                too_large.push(packet_id);
            }
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        let dropped = session.outbound.extract(|entry| too_large.contains(&entry.packet_id()));
        for InFlight { delivery, .. } in dropped {
            if let Some(delivery) = delivery {
                self.report_dropped(index, &delivery, DropReason::PacketTooLarge);
            }
        }
    }

    /// Takes note of a PUBLISH that was written, or was not because the client takes no packet of that size
    /// [MQTT-3.1.2-24], [MQTT-3.1.2-25].
    fn wrote(
        &mut self,
        index: u32,
        id: ConnectionId,
        publication: &Publication<'_>,
        qos: QoS,
        retain: bool,
        sent: bool,
    ) {
        if sent {
            self.counters.messages_out += 1;
            self.mark_dirty(id);
        } else {
            self.report_drop(index, publication, qos, retain, DropReason::PacketTooLarge);
        }
    }

    pub(super) fn report_dropped(&mut self, index: u32, delivery: &Delivery, reason: DropReason) {
        let message = delivery.message.clone();
        self.report_drop(index, &message.publication(), delivery.qos, delivery.retain, reason);
    }

    /// Counts a dropped message and tells the hooks.
    fn report_drop(&mut self, index: u32, publication: &Publication<'_>, qos: QoS, retain: bool, reason: DropReason) {
        self.counters.drop(reason);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let message = DroppedMessage { topic: publication.topic.as_str(), payload: publication.payload, qos, retain };
        tracing::debug!(client = %session.client.subscriber, topic = message.topic, reason = reason.name(), "message dropped");
        let notified = self.chain.on_message_drop(&session.client, &mut session.state, &message, reason);
        self.notified(index, notified);
    }
}

/// Writes PUBLISH packets, as the hooks leave them.
struct Pen<'a, C> {
    chain: &'a mut C,
    frames: &'a mut Frames,
    spare: &'a mut Vec<Vec<u8>>,
    max_topic_levels: usize,
    now: Time,
}

impl<C: Chain> Pen<'_, C> {
    /// Writes a PUBLISH into the outbox; false if it is larger than the client's Maximum Packet Size.
    fn write(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<Attempt<C::State>>,
        item: Item<'_>,
    ) -> bool {
        let version = session.client.version;
        let rewritten = self.ask_on_deliver(session, &item);
        let by = rewritten.as_ref();
        let publication = item.publication;
        let payload = by.and_then(|by| by.payload.as_deref()).unwrap_or(publication.payload);
        let mut outgoing = Outgoing {
            dup: item.dup,
            qos: item.qos,
            retain: item.retain,
            topic: by.and_then(|by| by.topic.as_deref()).unwrap_or(publication.topic.as_str()),
            packet_id: item.packet_id,
            alias: None,
            message_expiry: publication.remaining_expiry(self.now),
            subscription_ids: item.ids,
            properties: by
                .and_then(|by| by.properties.as_ref())
                .map_or(publication.properties, |block| block.as_bytes()),
            payload,
        };
        let limit = session.terms.maximum_outgoing;
        if limit < usize::MAX && outgoing.encoded_len(version) > limit {
            return false;
        }
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return true };
        if session.terms.alias_maximum_out > 0 {
            let aliases = connected.aliases.get_or_insert_with(|| Aliases::new(session.subscriptions.hasher()));
            match aliases.outgoing.name(outgoing.topic, session.terms.alias_maximum_out) {
                OutgoingAlias::None => {}
                OutgoingAlias::Introduce(alias) => outgoing.alias = Some(alias),
                OutgoingAlias::Use(alias) => (outgoing.alias, outgoing.topic) = (Some(alias), ""),
            }
        }
        let out = connection.outbox.bytes(self.spare);
        if by.is_none() && payload.len() >= SPLICE_FROM {
            outgoing.encode_head(version, out);
            connection.outbox.splice(publication.keep());
        } else if self.frames.enabled() && by.is_none() && item.ids.is_empty() && outgoing.alias.is_none() {
            self.frames.append(&outgoing, version, out);
        } else {
            outgoing.encode(version, out);
        }
        true
    }

    /// `on_deliver` or `on_deliver_m5`: what the hooks put in the place of what was published, if they change anything.
    #[inline]
    fn ask_on_deliver(&mut self, session: &mut Session<C::State>, item: &Item<'_>) -> Option<DeliverModifiersM5> {
        let publication = item.publication;
        let delivery = DeliveryM5 {
            topic: publication.topic.as_str(),
            payload: publication.payload,
            qos: item.qos,
            retain: item.retain,
            properties: publication.properties,
        };
        let by = if session.client.version.is_v5() {
            self.chain.on_deliver_m5(&session.client, &mut session.state, &delivery)
        } else {
            self.chain.on_deliver(&session.client, &mut session.state, &delivery.without_properties()).map(Into::into)
        };
        let by = by.filter(|by| !by.is_unchanged())?;
        match by.topic.as_deref().map(|topic| TopicName::parse(topic, self.max_topic_levels)) {
            Some(Err(error)) => {
                tracing::error!(client = %session.client.subscriber, topic = by.topic, "on_deliver gave a topic that is not valid, message unchanged: {error}");
                None
            }
            _ => Some(by),
        }
    }
}
