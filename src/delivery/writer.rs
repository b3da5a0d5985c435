//! PUBLISH packets to one client, as the hooks leave them.

use super::Delivered;
use super::encoded::EncodedForms;
use crate::client::DropReason;
use crate::codec::{Ack, AckKind, Outgoing, PacketId, ProtocolVersion, QoS, ReasonCode};
use crate::config::QueueType;
use crate::connection::{
    Aliases, Connection, ConnectionStage, Outbox, OutgoingAlias, SPLICE_FROM, Spares, SplicedPart,
};
use crate::hooks::{Chain, DeliverModifiersM5, DeliveryM5};
use crate::message::{Message, Publication};
use crate::session::{Key, OutgoingMessage, Recipient, Session, Stage, SubscriptionIds, packet_id};
use crate::sharding::SlotTraffic;
use crate::time::Time;
use crate::topic::TopicName;

/// How much longer a Topic Alias makes a packet at most: the property, and each of two lengths that may need one byte more.
const ALIAS_COST: usize = 5;

/// So many Subscription Identifiers are sent in a unit of work.
const IDS: usize = 8;

/// A PUBLISH that is to be written: everything but who it goes to.
#[derive(Clone, Copy)]
struct Item<'a> {
    publication: &'a Publication<'a>,
    qos: QoS,
    retain: bool,
    /// It was sent before: DUP is set, and hooks have said what they make of it.
    again: bool,
    packet_id: Option<PacketId>,
    ids: &'a SubscriptionIds,
}

/// A PUBLISH that is larger than the client's Maximum Packet Size [MQTT-3.1.2-24].
struct TooLarge;

/// Writes PUBLISH packets into the outboxes of connections. What it needs of the shard is lent to it for one delivery.
pub struct PublishWriter<'a, C> {
    /// Asked for `on_deliver`.
    pub chain: &'a mut C,
    /// Counts what is written.
    pub traffic: &'a mut SlotTraffic,
    /// Empty output buffers.
    pub buffers: &'a mut Spares,
    /// The time.
    pub now: Time,
}

/// What became of messages that waited.
#[derive(Debug, Default)]
pub struct Sending {
    /// How many PUBLISH packets were written.
    pub messages: u64,
    /// How much work it was, in units: one for each packet, and more for messages with many Subscription Identifiers.
    pub work: u32,
    /// Whether anything was.
    pub wrote: bool,
    /// All the work was done that may be done, and perhaps there is more.
    pub is_enough: bool,
    /// The keys of stored messages that had waited and were put in flight: what they were, and what they are now.
    pub launched: Vec<(Key, Key)>,
    /// The same of those that are in pages of the archive.
    pub launched_of_pages: Vec<(Key, Key)>,
    /// It has to be on disk that they were sent before their client sees them.
    pub is_said_first: bool,
    /// The key of a stored message of QoS 2 that cannot be sent under it, and the one that it has got; and whether it is in a page.
    pub renumbered: Option<(Key, Key, bool)>,
    /// A message that will never be sent, and why.
    pub dropped: Option<(OutgoingMessage, DropReason)>,
}

impl<C: Chain> PublishWriter<'_, C> {
    /// Sends a publication to an online session whose client is free, if the window has room. `encoded` has what was encoded for other
    /// recipients; none if there is this one only.
    #[inline]
    pub fn deliver<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        recipient: &Recipient,
        publication: &Publication<'_>,
        (qos, retain): (QoS, bool),
        encoded: Option<&mut EncodedForms>,
    ) -> Delivered {
        debug_assert!(!session.outbound.is_anything_waiting());
        let item = Item { publication, qos, retain, again: false, packet_id: None, ids: &recipient.ids };
        let sent = if qos == QoS::AtMostOnce {
            self.write(session, connection, &item, encoded).is_ok()
        } else if session.outbound.has_room(session.settings.send_maximum) {
            let keep = || recipient.delivery(publication, qos, retain);
            let sequence = session.outbound.next_sequence();
            self.put_in_flight(session, connection, &item, sequence, encoded, keep)
        } else {
            return Delivered::Queue { online: true };
        };
        if sent { Delivered::Sent } else { Delivered::Dropped(DropReason::PacketTooLarge) }
    }

    /// Sends a message that is retained, as such, if window and connection take it, whatever is queued. `most` is how many bytes of output
    /// may wait. None if there is no room.
    pub fn send_retained<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        recipient: &Recipient,
        publication: &Publication<'_>,
        qos: QoS,
        most: usize,
    ) -> Option<Delivered> {
        if connection.outbox.waiting() >= most || session.outbound.has_unsent() {
            return None;
        }
        let item = Item { publication, qos, retain: true, again: false, packet_id: None, ids: &recipient.ids };
        let sent = if qos == QoS::AtMostOnce {
            self.write(session, connection, &item, None).is_ok()
        } else if session.outbound.has_room(session.settings.send_maximum) {
            let sequence = session.outbound.next_sequence();
            let keep = || recipient.delivery(publication, qos, true);
            self.put_in_flight(session, connection, &item, sequence, None, keep)
        } else {
            return None;
        };
        Some(if sent { Delivered::Sent } else { Delivered::Dropped(DropReason::PacketTooLarge) })
    }

    /// Sends what waits, as long as window and connection take it: first what is to be sent again, then the queue. `most` is how many
    /// bytes of output may wait, `work` how much work may be done. Stops at a message that is dropped, so that the hooks hear of it before they
    /// are asked about the next one: then this is to be called again.
    pub fn send_waiting<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        most: usize,
        work: u32,
    ) -> Sending {
        let mut progress = Sending::default();
        while progress.dropped.is_none() && connection.outbox.waiting() < most {
            progress.is_enough = progress.work >= work;
            if progress.is_enough
                || !self.send_again(session, connection, &mut progress)
                    && !self.send_queued(session, connection, &mut progress)
            {
                break;
            }
        }
        progress
    }

    /// Sends again the next message in flight for which that is to be done, with the same packet id and in the same order: DUP is set,
    /// and PUBREL stands for what the client has already [MQTT-4.4.0-1]. False if there is none, or the client's Receive Maximum does not
    /// allow it.
    fn send_again<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        progress: &mut Sending,
    ) -> bool {
        let Some(entry) = session.outbound.next_unsent(session.settings.send_maximum) else { return false };
        let packet_id = entry.packet_id();
        let Some(delivery) = entry.delivery() else {
            debug_assert_eq!(entry.stage(), Stage::AwaitingPubcomp, "only what the client has is not kept");
            session.outbound.sent_again();
            let pubrel = Ack::new(packet_id, ReasonCode::Success);
            pubrel.encode(AckKind::Pubrel, session.client.version, connection.outbox.bytes(self.buffers));
            progress.wrote = true;
            progress.work += 1;
            return true;
        };
        let OutgoingMessage { qos, retain, .. } = delivery;
        let message = entry.rewritten().unwrap_or(&delivery.message).clone();
        let publication = message.publication();
        let packet_id = Some(packet_id);
        let item = Item { publication: &publication, qos, retain, again: true, packet_id, ids: &delivery.ids };
        if self.write(session, connection, &item, None).is_ok() {
            session.outbound.sent_again();
            progress.sent(&delivery.ids);
        } else {
            session.outbound.drop_unsent();
            progress.dropped = Some((delivery, DropReason::PacketTooLarge));
        }
        true
    }

    /// Sends the next message of the queue. False if there is none, or no room in the window.
    fn send_queued<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        progress: &mut Sending,
    ) -> bool {
        let order = session.settings.queue.order;
        let Some(next) = session.outbound.queue.next(order) else { return false };
        let fits = match next.qos {
            QoS::AtMostOnce => !session.outbound.has_unsent(),
            qos => {
                session.outbound.has_room(session.settings.send_maximum)
                    && (qos == QoS::AtLeastOnce || session.outbound.is_on_disk(next.key))
            }
        };
        if !fits {
            return false;
        }
        let (qos, key) = (next.qos, next.key);
        let is_paged = session.outbound.queue.paged().has_copy(key);
        if qos == QoS::ExactlyOnce
            && !key.is_none()
            && session.stored.is_some()
            && session.outbound.next_sequence_for(key) != key.get()
        {
            // That it gets another packet id is to be on disk, too, before the client sees it.
            progress.renumbered = Some((key, session.outbound.renumber_next(order), is_paged));
            return false;
        }
        let Some(delivery) = session.outbound.queue.take(order) else { return false };
        if delivery.message.expires() <= self.now {
            progress.dropped = Some((delivery, DropReason::Expired));
            return true;
        }
        let message = delivery.message.clone();
        let (publication, ids) = (message.publication(), delivery.ids.clone());
        let (qos, retain, key) = (delivery.qos, delivery.retain, delivery.key);
        // After a crash another one may go before it, and it would get another packet id; or it goes to another member.
        let is_said_first = qos == QoS::ExactlyOnce
            && session.stored.is_some()
            && (order == QueueType::Lifo || delivery.group.is_some());
        let item = Item { publication: &publication, qos, retain, again: false, packet_id: None, ids: &ids };
        let mut waiting = Some(delivery);
        let sent = match qos {
            QoS::AtMostOnce => self.write(session, connection, &item, None).is_ok(),
            _ => {
                let sequence = session.outbound.next_sequence_for(key);
                let keep = || waiting.take().expect("a message is put in flight once");
                let is_sent = self.put_in_flight(session, connection, &item, sequence, None, keep);
                if is_sent && !key.is_none() {
                    let launched = if is_paged { &mut progress.launched_of_pages } else { &mut progress.launched };
                    launched.push((key, Key::new(sequence)));
                    progress.is_said_first |= is_said_first;
                }
                is_sent
            }
        };
        match (sent, waiting) {
            (false, Some(delivery)) => progress.dropped = Some((delivery, DropReason::PacketTooLarge)),
            _ => progress.sent(&ids),
        }
        true
    }

    /// Writes a QoS 1 or 2 message and puts it in flight under this sequence, as what `keep` gives. There must be room in the window. False if it is
    /// larger than the client's Maximum Packet Size, and not written.
    #[inline]
    fn put_in_flight<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        item: &Item<'_>,
        sequence: u64,
        encoded: Option<&mut EncodedForms>,
        keep: impl FnOnce() -> OutgoingMessage,
    ) -> bool {
        let item = Item { packet_id: Some(packet_id(sequence)), ..*item };
        let Ok(rewritten) = self.write(session, connection, &item, encoded) else { return false };
        session.outbound.put_in_flight(sequence, keep(), rewritten);
        true
    }

    /// Writes a PUBLISH into the outbox, and gives what a hook made of its message, if one did. Fails if it is larger than
    /// the client's Maximum Packet Size.
    // Always inline, with what it calls before `write_own`: nearly all recipients of a message to many are sent what was encoded for the
    // first of them, and need no more than this.
    #[inline(always)]
    fn write<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        item: &Item<'_>,
        encoded: Option<&mut EncodedForms>,
    ) -> Result<Option<Message>, TooLarge> {
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return Ok(None) };
        let version = connected.version;
        let rewritten = if item.again { None } else { self.ask_on_deliver(session, item) };
        if let Some(forms) = encoded.as_deref()
            && rewritten.is_none()
            && self.write_encoded(forms, session, version, &mut connection.outbox, item)
        {
            return Ok(None);
        }
        // Copies that are made here alone: those they are made of stay in registers as long as they do not come this far.
        let (chain, traffic, buffers, now) = (&mut *self.chain, &mut *self.traffic, &mut *self.buffers, self.now);
        let (mut writer, item) = (PublishWriter { chain, traffic, buffers, now }, *item);
        writer.write_own(session, connection, &item, encoded, rewritten)
    }

    /// Writes a PUBLISH for which no packet was encoded that suits: see [`write`](Self::write). The hooks have been asked.
    #[inline(never)]
    fn write_own<A>(
        &mut self,
        session: &mut Session<C::State>,
        connection: &mut Connection<A>,
        item: &Item<'_>,
        encoded: Option<&mut EncodedForms>,
        rewritten: Option<Message>,
    ) -> Result<Option<Message>, TooLarge> {
        let ConnectionStage::Connected(connected) = &mut connection.stage else { return Ok(None) };
        let version = connected.version;
        let shown = rewritten.as_ref().map(Message::publication);
        let publication = shown.as_ref().unwrap_or(item.publication);
        let topic = publication.topic.as_str();
        let mut outgoing = Outgoing {
            dup: item.again,
            qos: item.qos,
            retain: item.retain,
            topic,
            packet_id: item.packet_id,
            alias: None,
            message_expiry: publication.remaining_expiry(self.now),
            subscription_ids: &item.ids[..],
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
        let out = connection.outbox.bytes(self.buffers);
        let suits_others = rewritten.is_none() && item.ids.is_none() && outgoing.alias.is_none();
        if outgoing.properties.len() >= SPLICE_FROM && version.is_v5() {
            self.write_with_large_properties(&mut connection.outbox, &outgoing, publication);
        } else if outgoing.payload.len() >= SPLICE_FROM {
            outgoing.encode_head(version, out);
            connection.outbox.splice(publication.keep(), SplicedPart::Payload);
        } else if let Some(forms) = encoded.filter(|_| suits_others) {
            let first_byte = Outgoing::first_byte(item.again, item.qos, item.retain);
            forms.encode(&outgoing, version).append(first_byte, item.packet_id, out);
        } else {
            outgoing.encode(version, out);
        }
        Ok(rewritten)
    }

    /// Writes a packet whose properties stay where they are, as large payloads do: a copy for each recipient would be memory
    /// that nobody has asked for.
    #[cold]
    fn write_with_large_properties(
        &mut self,
        outbox: &mut Outbox,
        outgoing: &Outgoing<'_>,
        publication: &Publication<'_>,
    ) {
        outgoing.encode_own_head(outbox.bytes(self.buffers));
        outbox.splice(publication.keep(), SplicedPart::Properties);
        if outgoing.payload.len() >= SPLICE_FROM {
            outbox.splice(publication.keep(), SplicedPart::Payload);
        } else {
            outbox.bytes(self.buffers).extend_from_slice(outgoing.payload);
        }
    }

    /// Writes the packet that another recipient was sent, but for its flags and packet id. False if nothing was encoded that suits
    /// this recipient. To make up the whole packet first would cost several times as much.
    #[inline(always)]
    fn write_encoded(
        &mut self,
        forms: &EncodedForms,
        session: &Session<C::State>,
        version: ProtocolVersion,
        outbox: &mut Outbox,
        item: &Item<'_>,
    ) -> bool {
        let settings = &session.settings;
        let Some(form) = forms.encoded(version, item.packet_id) else { return false };
        if form.len() > settings.maximum_outgoing || !item.ids.is_none() || settings.alias_maximum_out > 0 {
            return false;
        }
        self.traffic.count(session.slot);
        let first_byte = Outgoing::first_byte(item.again, item.qos, item.retain);
        form.append(first_byte, item.packet_id, outbox.bytes(self.buffers));
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

impl Sending {
    fn sent(&mut self, ids: &SubscriptionIds) {
        self.messages += 1;
        self.work += 1;
        if matches!(ids, SubscriptionIds::Many(_)) {
            self.work += (ids.len() / IDS) as u32;
        }
        self.wrote = true;
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

#[cfg(test)]
mod tests;
