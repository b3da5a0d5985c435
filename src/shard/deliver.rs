//! One message to one session: straight to the connection, into the window, into the queue, or dropped with a reason.
//!
//! | the session is | QoS 0 | QoS 1 and 2 |
//! |---|---|---|
//! | online, nothing queued, window open | sent | sent, in flight |
//! | online, something queued or window full | queued behind | queued |
//! | online, its client does not read | dropped after a while, see `consumers`; what is retained: queued | queued |
//! | offline | dropped | queued |

use super::audience::Target;
use super::frames::Frames;
use crate::sharding::SlotTraffic;
use super::{Attempt, Shard};
use crate::client::{ConnectionId, DropReason};
use crate::codec::{Outgoing, PacketId, ProtocolVersion, QoS};
use crate::connection::{Aliases, Connection, ConnectionStage, Outbox, OutgoingAlias, SPLICE_FROM};
use crate::hooks::{Chain, DeliverModifiersM5, DeliveryM5, DroppedMessage, OfflineMessage};
use crate::message::{Message, Publication};
use crate::session::{Buffered, Delivery, MigrationState, Session, Stage};
use crate::time::Time;
use crate::topic::TopicName;

/// A PUBLISH that is to be written: everything but who it goes to.
struct Item<'a> {
    publication: &'a Publication<'a>,
    qos: QoS,
    retain: bool,
    /// It was sent before: DUP is set, and hooks have said what they make of it.
    again: bool,
    ids: &'a [u32],
}

/// A PUBLISH that is larger than the client's Maximum Packet Size [MQTT-3.1.2-24].
struct TooLarge;

impl Target {
    /// `publication` as it waits for this receiver.
    // Always inline, so that it is built where it stays: a copy reads in large pieces what was just written in small ones, and
    // waits for them.
    #[inline(always)]
    fn delivery(&self, publication: &Publication<'_>, qos: QoS, retain: bool) -> Delivery {
        let (ids, group) = (self.ids.clone(), self.group.clone());
        Delivery { message: publication.keep(), qos, retain, ids, group, initial: self.initial }
    }
}

/// How much longer a Topic Alias makes a packet at most: the property, and each of two lengths that may need one byte more.
const ALIAS_COST: usize = 5;

/// The pen of a shard, which leaves its sessions and connections free to be borrowed.
macro_rules! pen {
    ($shard:ident) => {
        Pen {
            chain: &mut $shard.chain,
            frames: &mut $shard.frames,
            traffic: &mut $shard.traffic,
            spare: &mut $shard.spare,
            now: $shard.now,
        }
    };
}

impl<C: Chain> Shard<C> {
    /// Delivers `publication` to one receiver, with this RETAIN flag.
    pub(super) fn deliver(&mut self, target: &Target, publication: &Publication<'_>, retain: bool) {
        let Some(session) = self.sessions.get_mut(target.session) else { return };
        if let Some(journey) = &mut session.migration {
            if !journey.is_new(self.source, target.group.is_some()) {
                return;
            }
            if let MigrationState::Arriving { buffered } = journey {
                let qos = target.qos;
                buffered.push(Buffered { source: self.source, delivery: target.delivery(publication, qos, retain) });
                return;
            }
        }
        let qos = if session.settings.upgrade_qos { target.qos } else { target.qos.min(publication.qos) };
        let Some(id) = session.connection else {
            return self.keep_for_later(target, publication, qos, retain);
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (waiting, most) = (connection.outbox.waiting(), self.config.queue.max_waiting_output_bytes);
        let is_full = waiting >= most;
        let slow = is_full
            && (qos != QoS::AtMostOnce || target.initial || self.slow_consumers.takes_no_more(id, waiting, most));
        let publisher_waits = is_full && !slow;
        let straight = session.outbound.queue.is_empty() && !session.outbound.has_unsent() && !slow;
        let item = Item { publication, qos, retain, again: false, ids: &target.ids };
        if qos == QoS::AtMostOnce && straight {
            let sent = pen!(self).write(session, connection, &item, None).is_ok();
            self.wrote(target.session, id, publication, qos, retain, sent);
        } else if qos == QoS::AtMostOnce && slow && !target.initial {
            self.report_drop(target.session, publication, qos, retain, DropReason::SlowConsumer);
        } else if straight && session.outbound.has_room(session.settings.send_maximum) {
            let sent = pen!(self).launch(session, connection, &item, || target.delivery(publication, qos, retain));
            self.wrote(target.session, id, publication, qos, retain, sent);
        } else {
            self.enqueue(target.session, target.delivery(publication, qos, retain), true);
        }
        if publisher_waits {
            self.wait_for_consumer(id);
        }
    }

    /// A message for a session without a connection.
    fn keep_for_later(&mut self, target: &Target, publication: &Publication<'_>, qos: QoS, retain: bool) {
        if self.sessions.get(target.session).is_some_and(|session| !session.is_kept()) {
            // It is about to go, and its will found it among its own receivers.
            if target.group.is_some() && qos != QoS::AtMostOnce {
                // Which lets another member have it in a moment.
                self.enqueue(target.session, target.delivery(publication, qos, retain), false);
                return;
            }
            return self.report_drop(target.session, publication, qos, retain, DropReason::SessionEnded);
        }
        if qos == QoS::AtMostOnce {
            return self.report_drop(target.session, publication, qos, retain, DropReason::OfflineQos0);
        }
        let index = target.session;
        if self.enqueue(index, target.delivery(publication, qos, retain), false) {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let message =
                OfflineMessage { topic: publication.topic.as_str(), payload: publication.payload, qos, retain };
            let notified = self.chain.on_offline_message(&session.client, &mut session.state, &message);
            self.notified(index, notified, "on_offline_message");
        }
    }

    /// Puts a message into the queue of a session; says whether it is in it.
    pub(super) fn enqueue(&mut self, index: u32, delivery: Delivery, online: bool) -> bool {
        let Some(session) = self.sessions.get_mut(index) else { return false };
        let insert = session.outbound.queue.push(delivery, &session.settings.queue, online, self.now);
        for (dropped, reason) in insert.dropped {
            self.report_dropped(index, &dropped, reason);
        }
        insert.stored
    }

    /// There is room again in the window or on the connection: what waits for it goes.
    #[inline]
    pub(super) fn send_more(&mut self, index: u32) {
        let Some(session) = self.sessions.get(index) else { return };
        if session.outbound.has_unsent() {
            self.go_on_resending(index);
        }
        if self.sessions.get(index).is_some_and(|session| !session.outbound.queue.is_empty()) {
            self.pump(index);
        }
    }

    /// Sends what waits in the queue as long as window and connection take it.
    pub(super) fn pump(&mut self, index: u32) {
        self.frames.begin(false);
        loop {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let Some(id) = session.connection else { return };
            let Some(connection) = self.connections.get(id) else { return };
            let order = session.settings.queue.order;
            let Some(next) = session.outbound.queue.next(order) else { return };
            let fits = match next.qos {
                QoS::AtMostOnce => !session.outbound.has_unsent(),
                _ => session.outbound.has_room(session.settings.send_maximum),
            };
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
        let Some(session) = self.sessions.get_mut(index) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (qos, retain, ids) = (delivery.qos, delivery.retain, delivery.ids.clone());
        let item = Item { publication, qos, retain, again: false, ids: &ids };
        let sent = match qos {
            QoS::AtMostOnce => pen!(self).write(session, connection, &item, None).is_ok(),
            _ => pen!(self).launch(session, connection, &item, || delivery),
        };
        self.wrote(index, id, publication, qos, retain, sent);
    }

    /// Sends again what is in flight, with the same packet ids and in the same order: DUP is set, and PUBREL stands for
    /// what the client has already [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self, index: u32) {
        if let Some(session) = self.sessions.get_mut(index) {
            session.outbound.send_again();
            self.go_on_resending(index);
        }
    }

    /// Goes on with what is to be sent again, as far as the client's Receive Maximum and its reading allow.
    pub(super) fn go_on_resending(&mut self, index: u32) {
        self.frames.begin(false);
        loop {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let Some(id) = session.connection else { return };
            let Some(connection) = self.connections.get_mut(id) else { return };
            if connection.outbox.waiting() >= self.config.queue.max_waiting_output_bytes {
                return;
            }
            let Some(entry) = session.outbound.next_unsent(session.settings.send_maximum) else { return };
            let packet_id = entry.packet_id();
            let Some(delivery) = entry.delivery() else {
                debug_assert_eq!(entry.stage(), Stage::AwaitingPubcomp, "only what the client has is not kept");
                session.outbound.sent_again();
                self.write_pubrel(id, packet_id);
                continue;
            };
            let Delivery { qos, retain, .. } = delivery;
            let message = entry.rewritten().unwrap_or(&delivery.message).clone();
            let publication = message.publication();
            let item = Item { publication: &publication, qos, retain, again: true, ids: &delivery.ids };
            if pen!(self).write(session, connection, &item, Some(packet_id)).is_ok() {
                session.outbound.sent_again();
                self.wrote(index, id, &publication, qos, retain, true);
            } else {
                session.outbound.drop_unsent();
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
        self.notified(index, notified, "on_message_drop");
    }
}

/// Writes PUBLISH packets, as the hooks leave them.
struct Pen<'a, C> {
    chain: &'a mut C,
    frames: &'a mut Frames,
    traffic: &'a mut SlotTraffic,
    spare: &'a mut Vec<Vec<u8>>,
    now: Time,
}

impl<C: Chain> Pen<'_, C> {
    /// Writes a QoS 1 or 2 message and puts it in flight, as what `keep` gives. There must be room in the window. False if it is
    /// larger than the client's Maximum Packet Size, and not written.
    #[inline]
    fn launch(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<Attempt<C::State>>,
        item: &Item<'_>,
        keep: impl FnOnce() -> Delivery,
    ) -> bool {
        let packet_id = session.outbound.next_packet_id();
        let Ok(rewritten) = self.write(session, connection, item, Some(packet_id)) else { return false };
        session.outbound.put_in_flight(keep(), rewritten);
        true
    }

    /// Writes a PUBLISH into the outbox, and gives what a hook made of its message, if one did. Fails if it is larger than
    /// the client's Maximum Packet Size.
    fn write(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<Attempt<C::State>>,
        item: &Item<'_>,
        packet_id: Option<PacketId>,
    ) -> Result<Option<Message>, TooLarge> {
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return Ok(None) };
        let version = connected.version;
        let rewritten = if item.again { None } else { self.ask_on_deliver(session, item) };
        if rewritten.is_none() && self.write_encoded(session, version, &mut connection.outbox, item, packet_id) {
            return Ok(None);
        }
        let shown = rewritten.as_ref().map(Message::publication);
        let publication = shown.as_ref().unwrap_or(item.publication);
        let topic = publication.topic.as_str();
        let mut outgoing = Outgoing {
            dup: item.again,
            qos: item.qos,
            retain: item.retain,
            topic,
            packet_id,
            alias: None,
            message_expiry: publication.remaining_expiry(self.now),
            subscription_ids: item.ids,
            properties: publication.properties,
            payload: publication.payload,
        };
        let limit = session.settings.maximum_outgoing;
        if limit < usize::MAX && outgoing.encoded_len(version) > limit {
            return Err(TooLarge);
        }
        let most = session.settings.alias_maximum_out;
        // The packet that introduces an alias is longer for it.
        let fits = || limit == usize::MAX || outgoing.encoded_len(version) + ALIAS_COST <= limit;
        if most > 0 && fits() {
            let aliases = connected.aliases.get_or_insert_with(|| Aliases::new(session.subscriptions.hasher()));
            match aliases.outgoing.name(topic, most) {
                OutgoingAlias::None => {}
                OutgoingAlias::Introduce(alias) => outgoing.alias = Some(alias),
                OutgoingAlias::Use(alias) => (outgoing.alias, outgoing.topic) = (Some(alias), ""),
            }
        }
        self.traffic.count(session.slot);
        let out = connection.outbox.bytes(self.spare);
        if outgoing.payload.len() >= SPLICE_FROM {
            outgoing.encode_head(version, out);
            connection.outbox.splice(publication.keep());
        } else if self.frames.enabled() && rewritten.is_none() && item.ids.is_empty() && outgoing.alias.is_none() {
            let first_byte = Outgoing::first_byte(item.again, item.qos, item.retain);
            self.frames.encode(&outgoing, version).append(first_byte, packet_id, out);
        } else {
            outgoing.encode(version, out);
        }
        Ok(rewritten)
    }

    /// Writes the packet that another receiver was sent, but for its flags and packet id. False if nothing was encoded that suits
    /// this receiver. To make up the whole packet first would cost several times as much.
    #[inline]
    fn write_encoded(
        &mut self,
        session: &Session<C::State>,
        version: ProtocolVersion,
        outbox: &mut Outbox,
        item: &Item<'_>,
        packet_id: Option<PacketId>,
    ) -> bool {
        let terms = &session.settings;
        let Some(frame) = self.frames.encoded(version, packet_id) else { return false };
        if frame.len() > terms.maximum_outgoing || !item.ids.is_empty() || terms.alias_maximum_out > 0 {
            return false;
        }
        self.traffic.count(session.slot);
        let first_byte = Outgoing::first_byte(item.again, item.qos, item.retain);
        frame.append(first_byte, packet_id, outbox.bytes(self.spare));
        true
    }

    /// `on_deliver` or `on_deliver_m5`: the message that the hooks put in the place of what was published.
    #[inline]
    fn ask_on_deliver(&mut self, session: &mut Session<C::State>, item: &Item<'_>) -> Option<Message> {
        let publication = item.publication;
        let delivery = DeliveryM5 {
            topic: publication.topic.as_str(),
            payload: publication.payload,
            qos: item.qos,
            retain: item.retain,
            properties: publication.properties,
        };
        let modifiers = if session.client.version.is_v5() {
            self.chain.on_deliver_m5(&session.client, &mut session.state, &delivery)
        } else {
            self.chain.on_deliver(&session.client, &mut session.state, &delivery.without_properties()).map(Into::into)
        };
        rewrite(publication, &modifiers?)
    }
}

/// `publication` as a hook wants one client to see it; none if nothing changes. A topic that is not valid is ignored.
#[cold]
fn rewrite(publication: &Publication<'_>, by: &DeliverModifiersM5) -> Option<Message> {
    let topic = by.topic.as_deref().and_then(|topic| TopicName::parse(topic, usize::MAX).ok());
    if by.is_unchanged() {
        return None;
    }
    let mut shown =
        Publication::new(topic.unwrap_or(publication.topic), by.payload.as_deref().unwrap_or(publication.payload));
    shown.properties = by.properties.as_ref().map_or(publication.properties, |block| block.as_bytes());
    (shown.qos, shown.retain, shown.expires) = (publication.qos, publication.retain, publication.expires);
    Some(shown.keep())
}
