//! One publication to the recipients of this shard, and what waits for a client.

use std::collections::VecDeque;

use super::agenda::Deadline;
use super::clients::Clients;
use super::holding::{self, hold_without_end};
use super::message::Hold;
use super::output::Output;
use super::recording;
use super::turn;
use crate::client::{ConnectionId, DropReason};
use crate::codec::QoS;
use crate::connection::Pace;
use crate::delivery::{self, Batch, Delivered, Due, EncodedForms, FanOut, PublishWriter};
use crate::flow::{Account, Backlog, Flow};
use crate::hooks::{Chain, DroppedMessage, Notified, OfflineMessage};
use crate::message::Publication;
use crate::session::{Buffered, Insert, Key, OutgoingMessage, PublicationId, Recipient, Session, StallWatch};
use crate::sharding::Publisher;

/// Recipients that are found in a unit of work, when they are so many that they are written down.
const FOUND: usize = 8;
/// Publications under way that are looked at in a unit of work, by one that may have to go behind them.
const LOOKS: usize = 16;
/// How much sooner a member that is known to take nothing is looked at when publishers begin to wait for it.
const SOONER: u32 = 10;

/// A publication on its way to recipients of this shard.
pub(super) struct Routed<'a> {
    /// The message.
    pub publication: &'a Publication<'a>,
    /// Which of all publications it is.
    pub id: PublicationId,
    /// Who published it, if a client did, which is to wait when a recipient cannot follow.
    pub publisher: Option<Publisher>,
    /// A member of a shared subscription had it waiting, or it waited for one to come.
    pub is_moved: bool,
    /// How messages in a queue give way to it, if they are many.
    pub portioning: Portioning,
    /// Its place among publications that are delivered together.
    pub at: usize,
}

/// How messages give way to a publication, if they are many.
#[derive(Clone, Copy)]
pub(super) enum Portioning {
    /// At once.
    AtOnce,
    /// In portions: it goes behind what is under way so. It was published in this mountpoint.
    Behind { mountpoint: u32 },
    /// In portions, of which this is one: it stays before all others, with this number.
    InFront { mountpoint: u32, number: u64 },
}

impl<C: Chain> Clients<C> {
    /// Delivers a publication to everybody in `recipients`.
    pub(super) fn deliver_all(&mut self, recipients: &[Recipient], routed: &Routed<'_>) {
        self.agenda.turn.did(recipients.len() as u32);
        // For one alone, encoding straight into its output is cheaper. Of a large message that counted when it was read, or as a portion.
        if let [recipient] = recipients {
            self.deliver(recipient, routed, None);
            return recording::record_delivered(self, std::iter::once(routed.publication));
        }
        let bytes = routed.publication.bytes();
        if bytes >= turn::LARGE {
            self.agenda.turn.did(turn::output(bytes).saturating_mul(recipients.len() as u32));
        }
        let mut forms = self.delivery.lend_forms(1);
        let sends = self.connections.with_output();
        for recipient in recipients {
            self.deliver(recipient, routed, forms.first_mut());
        }
        self.delivery.give_back(forms);
        self.agenda.turn.did_sends(self.connections.with_output() - sends);
        recording::record_delivered(self, std::iter::once(routed.publication));
    }

    /// Delivers a publication to everybody in `recipients`, which it takes out: at once if they are few enough and nothing that is under way
    /// in portions holds it up, else behind that. Then its publisher is not served until it is delivered.
    #[inline]
    pub(super) fn deliver_in_turn(&mut self, mountpoint: u32, recipients: &mut Vec<Recipient>, routed: &Routed<'_>) {
        if recipients.is_empty() {
            return;
        }
        let is_many = self.agenda.turn.limits().is_to_many(recipients.len(), routed.publication);
        if !is_many && self.delivery.fan_outs.is_empty() || self.agenda.is_stopping() {
            return self.deliver_all(recipients, routed);
        }
        self.deliver_past_or_put_behind(mountpoint, recipients, routed);
    }

    #[cold]
    fn deliver_past_or_put_behind(&mut self, mountpoint: u32, recipients: &mut Vec<Recipient>, routed: &Routed<'_>) {
        let Routed { publication, id, publisher, .. } = *routed;
        let (under_way, limits) = (&self.delivery.fan_outs, self.agenda.turn.limits());
        self.agenda.turn.did((under_way.len() / LOOKS) as u32);
        let is_many = limits.is_to_many(recipients.len(), publication);
        if !is_many && !under_way.holds_up(mountpoint, publication, publisher) {
            return self.deliver_all(recipients, routed);
        }
        let known = recipients.drain(..).filter_map(|recipient| {
            let number = self.instance_of(&recipient)?;
            Some((recipient, number))
        });
        let (message, recipients): (_, VecDeque<_>) = (publication.keep(), known.collect());
        // That they were found is work, too.
        self.agenda.turn.did((recipients.len() / FOUND) as u32);
        self.delivery.fan_outs.push(FanOut { message, id, publisher, mountpoint, is_moved: false, recipients });
        if let Some(Publisher { shard, connection }) = publisher
            && shard == self.setup.id
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.publishes_to_many = true;
        }
        waits_for_portions(self, publisher);
    }

    /// The instance number of a recipient's session, or the number of the program's subscription.
    pub(super) fn instance_of(&self, recipient: &Recipient) -> Option<u64> {
        if recipient.is_program() {
            return self.program.number(recipient.session);
        }
        self.sessions.get(recipient.session).map(|session| session.instance)
    }

    /// Delivers the publications that were gathered.
    #[inline]
    pub(super) fn deliver_batch(&mut self) {
        if !self.delivery.batch.is_empty() {
            let mut batch = std::mem::take(&mut self.delivery.batch);
            self.deliver_by_recipient(&batch);
            batch.clear();
            self.delivery.batch = batch;
        }
    }

    /// Delivers the publications of a batch, recipient by recipient.
    #[inline(never)]
    fn deliver_by_recipient(&mut self, batch: &Batch) {
        let (publications, publisher) = (batch.publications(), batch.publisher());
        let routed =
            // They are small: few give way to one.
            publications.iter().enumerate().map(|(at, (id, publication))| {
                Routed { publication, id: *id, publisher, is_moved: false, portioning: Portioning::AtOnce, at }
            });
        let routed: Vec<_> = routed.collect();
        let mut forms = self.delivery.lend_forms(routed.len());
        let sends = self.connections.with_output();
        for recipient in batch.recipients() {
            for (routed, forms) in routed.iter().zip(&mut forms) {
                self.deliver(recipient, routed, Some(forms));
            }
        }
        self.delivery.give_back(forms);
        self.agenda.turn.did_sends(self.connections.with_output() - sends);
        recording::record_delivered(self, publications.iter().map(|(_, publication)| publication));
    }

    /// Delivers a publication to one recipient. `encoded` has what was encoded for others; none if there is this one only.
    fn deliver(&mut self, recipient: &Recipient, routed: &Routed<'_>, encoded: Option<&mut EncodedForms>) {
        let Routed { publication, .. } = *routed;
        if recipient.is_program() {
            if let Some(subscription) = self.program.number(recipient.session) {
                self.agenda.output(Output::Deliver { subscription, message: publication.keep() });
            }
            return;
        }
        let retain = recipient.retain_as_published && publication.retain;
        let Some(session) = self.sessions.get_mut(recipient.session) else { return };
        if let Some(state) = &mut session.migration {
            let limits = &session.settings.queue;
            match delivery::is_due_here(state, recipient, publication, routed.id, retain, limits) {
                Due::Here => {}
                Due::Elsewhere => return,
                Due::Buffered => return holding::hold_for_arriving(self, recipient.session, routed.publisher),
                Due::Dropped => {
                    // Its hooks cannot be told: what they keep with the session has not come.
                    self.statistics.counters.drop(DropReason::QueueFull);
                    return holding::hold_for_arriving(self, recipient.session, routed.publisher);
                }
            }
        }
        let qos = delivery::qos_for(session, recipient, publication);
        let Some(id) = session.connection else {
            let outcome = delivery::offline(session, recipient, qos);
            return self.settle(recipient, routed, (qos, retain, false), outcome);
        };
        let Some(mut to) = self.connections.writable(id) else { return };
        // A message of QoS 2 for a stored session waits for the disk.
        let is_free = !session.outbound.is_anything_waiting()
            && to.connection.outbox.waiting() < self.flow.most()
            && !(qos == QoS::ExactlyOnce && session.stored.is_some());
        if !is_free {
            return deliver_to_busy(self, id, (recipient, routed), (qos, retain));
        }
        let (chain, traffic, now) = (&mut self.chain, &mut self.delivery.traffic, self.agenda.now());
        let mut writer = PublishWriter { chain, traffic, buffers: to.buffers, now };
        let outcome = writer.deliver(session, to.connection, recipient, publication, (qos, retain), encoded);
        if outcome != Delivered::Sent {
            let keeps = keeps_for_group(&self.flow, (to.connection.id, qos), recipient, routed);
            return self.settle(recipient, routed, (qos, retain, keeps), outcome);
        }
        self.statistics.counters.messages_out += 1;
        to.queue_for_output();
        if qos > QoS::AtMostOnce && session.stored.is_some() {
            let as_ = (qos, retain, publication.decision);
            recording::note_sent(&mut self.persistence, session, (recipient, routed.at), as_);
        }
    }

    /// Queues, stores or drops a message that was not sent.
    pub(super) fn settle(
        &mut self,
        recipient: &Recipient,
        routed: &Routed<'_>,
        (qos, retain, keeps): (QoS, bool, bool),
        outcome: Delivered,
    ) {
        let (index, publication) = (recipient.session, routed.publication);
        match outcome {
            Delivered::Sent => {}
            Delivered::Queue { online } => {
                if online && qos > QoS::AtMostOnce && recipient.group.is_some() {
                    watch(self, index);
                }
                self.enqueue((recipient, routed), (qos, retain), online, keeps);
            }
            Delivered::Dropped(reason) => self.report_drop(index, publication, qos, retain, reason),
            Delivered::Store => {
                if self.enqueue((recipient, routed), (qos, retain), false, false)
                    && let Some(session) = self.sessions.get_mut(index)
                {
                    let (topic, payload) = (publication.topic.as_str(), publication.payload);
                    let message = OfflineMessage { topic, payload, qos, retain };
                    let notified = self.chain.on_offline_message(&session.client, &mut session.state, &message);
                    self.notified_of_message(index, notified);
                }
            }
        }
    }

    /// Puts a message into the queue of a session; says whether it is in it. `keeps`: the queue takes more of its kind than its limits say.
    fn enqueue(
        &mut self,
        (recipient, routed): (&Recipient, &Routed<'_>),
        (qos, retain): (QoS, bool),
        online: bool,
        keeps: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(recipient.session) else { return false };
        let mut delivery = recipient.delivery(routed.publication, qos, retain);
        if qos > QoS::AtMostOnce && session.stored.is_some() {
            delivery.key = session.outbound.take_key();
        }
        let key = delivery.key;
        let limits = session.settings.queue;
        let limits = if keeps { limits.while_publishers_wait(self.setup.under_way()) } else { limits };
        let most = match routed.portioning {
            Portioning::Behind { .. } | Portioning::InFront { .. } if !self.agenda.is_stopping() => {
                self.agenda.turn.limits().give_way()
            }
            _ => usize::MAX,
        };
        let mut insert = session.outbound.queue.push_in_portions(delivery, &limits, online, self.agenda.now(), most);
        let stored = insert.stored;
        if !stored && !key.is_none() {
            // It was never recorded.
            let itself = insert.dropped.iter_mut().filter(|(dropped, _)| dropped.key == key);
            itself.for_each(|(dropped, _)| dropped.key = Key::NONE);
        }
        if stored && !key.is_none() {
            let (persistence, as_) = (&mut self.persistence, (qos, retain, routed.publication.decision));
            recording::note(persistence, session, (recipient, routed.at), (key, false), as_);
        }
        if !insert.dropped.is_empty() {
            gave_way(self, (recipient, routed), insert);
        }
        stored
    }

    /// Counts a dropped message and tells the hooks.
    pub(super) fn report_dropped(&mut self, index: u32, delivery: &OutgoingMessage, reason: DropReason) {
        if !delivery.key.is_none() {
            recording::record_removed(self, index, delivery.key);
        }
        self.report_drop(index, &delivery.message.publication(), delivery.qos, delivery.retain, reason);
    }

    fn report_drop(&mut self, index: u32, publication: &Publication<'_>, qos: QoS, retain: bool, reason: DropReason) {
        self.statistics.counters.drop(reason);
        self.agenda.turn.did(turn::DROP);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let notified = tell(&mut self.chain, session, publication, (qos, retain), reason);
        self.notified_of_message(index, notified);
    }

    /// Something was added to what waits for `consumer`: if that is full, whoever published it waits.
    #[cold]
    fn hold_publisher(&mut self, consumer: ConnectionId, index: u32, qos: QoS, routed: &Routed<'_>) {
        let Some(publisher) = routed.publisher else { return };
        let Some((session, connection)) = self.sessions.get(index).zip(self.connections.get(consumer)) else { return };
        let (backlog, account) = (Backlog::of(session, connection), Account::of(session, connection));
        if !self.flow.is_full(backlog, qos) {
            return;
        }
        let by = (publisher, routed.publication.bytes());
        let follows = self.flow.backlog_is_full(consumer, account, (backlog, qos), by, self.agenda.now());
        if let Some(at) = follows.look_at {
            self.agenda.arm(at, Deadline::Consumer(consumer));
            hurry(self, index);
        }
        if follows.publisher_waits {
            holding::hold(self, publisher, Hold::WithCredit);
        }
    }

    /// Delivers a message that was buffered, unless it has been delivered where the session was before.
    pub(super) fn deliver_buffered(&mut self, index: u32, buffered: Buffered) {
        let Buffered { id, delivery: OutgoingMessage { message, qos, retain, ids, group, key: _ } } = buffered;
        let recipient = Recipient { session: index, qos, retain_as_published: retain, ids, group };
        let publication = message.publication();
        let is_moved = recipient.group.is_some();
        let portioning = Portioning::AtOnce;
        self.deliver_all(
            &[recipient],
            &Routed { publication: &publication, id, publisher: None, is_moved, portioning, at: 0 },
        );
    }
}

/// Delivers a publication to a client that is connected and not free: something waits for it, or it has to wait itself. Nothing is sent;
/// if what waits is too much, the publisher waits.
// A function of its own: what it looks at would take registers from the delivery to a client that is free.
#[cold]
fn deliver_to_busy<C: Chain>(
    clients: &mut Clients<C>,
    id: ConnectionId,
    (recipient, routed): (&Recipient, &Routed<'_>),
    (qos, retain): (QoS, bool),
) {
    let index = recipient.session;
    let Some((session, connection)) = clients.sessions.get(index).zip(clients.connections.get(id)) else { return };
    let (topic, listener) = (routed.publication.topic, connection.listener);
    let is_lossless = routed.publisher.is_some() && clients.flow.lossless.applies(topic, listener);
    let mut pace = clients.flow.pace(id, Backlog::of(session, connection), qos, clients.agenda.now());
    if is_lossless && pace == Pace::Lost {
        pace = Pace::Full;
    }
    let keeps = is_lossless || keeps_for_group(&clients.flow, (id, qos), recipient, routed);
    clients.settle(recipient, routed, (qos, retain, keeps), delivery::busy(qos, pace));
    if pace == Pace::Full {
        match routed.publisher {
            Some(publisher) if is_lossless => hold_without_end(clients, (id, index), qos, publisher),
            _ => clients.hold_publisher(id, index, qos, routed),
        }
    }
}

/// Messages have given way to another one in the queue of a session, or that has been dropped itself. If more have to, it goes into line, and
/// its publisher is not served until it has room.
#[cold]
fn gave_way<C: Chain>(clients: &mut Clients<C>, (recipient, routed): (&Recipient, &Routed<'_>), insert: Insert) {
    clients.agenda.turn.did(turn::LEFTOVER * insert.dropped.len() as u32);
    for (dropped, reason) in insert.dropped {
        clients.report_dropped(recipient.session, &dropped, reason);
    }
    let Some(instance) = clients.instance_of(recipient).filter(|_| insert.is_unfinished) else { return };
    let Routed { publication, id, publisher, is_moved, portioning, at: _ } = *routed;
    let (mountpoint, number) = match portioning {
        Portioning::AtOnce => return,
        Portioning::Behind { mountpoint } => (mountpoint, None),
        Portioning::InFront { mountpoint, number } => (mountpoint, Some(number)),
    };
    let (message, recipients) = (publication.keep(), [(recipient.clone(), instance)].into());
    let rest = FanOut { message, id, publisher, mountpoint, is_moved, recipients };
    match number {
        Some(number) => clients.delivery.fan_outs.put_back(number, rest),
        None => {
            clients.delivery.fan_outs.push(rest);
            waits_for_portions(clients, publisher);
        }
    }
}

/// What a client has published is under way in portions: it has had its share, and is not served before that is delivered.
fn waits_for_portions<C: Chain>(clients: &mut Clients<C>, publisher: Option<Publisher>) {
    clients.agenda.turn.end_share();
    if let Some(Publisher { shard, connection }) = publisher
        && shard == clients.setup.id
    {
        clients.share_is_over(connection);
    }
}

/// Counts a dropped message of a session that is not in the table any more, and tells the hooks.
pub(super) fn tell_dropped<C: Chain>(
    clients: &mut Clients<C>,
    session: &mut Session<C::State>,
    delivery: &OutgoingMessage,
    reason: DropReason,
) -> Notified {
    clients.statistics.counters.drop(reason);
    let publication = delivery.message.publication();
    tell(&mut clients.chain, session, &publication, (delivery.qos, delivery.retain), reason)
}

fn tell<C: Chain>(
    chain: &mut C,
    session: &mut Session<C::State>,
    publication: &Publication<'_>,
    (qos, retain): (QoS, bool),
    reason: DropReason,
) -> Notified {
    let message = DroppedMessage { topic: publication.topic.as_str(), payload: publication.payload, qos, retain };
    tracing::debug!(client = %session.client.subscriber, topic = message.topic, reason = reason.name(), "message dropped");
    chain.on_message_drop(&session.client, &mut session.state, &message, reason)
}

/// Whether a message for a member of a shared subscription is kept although the queue of that one is full: as long as its publisher is held
/// for that, or if it has waited for a member before. No other has room: it was passed over else.
#[cold]
fn keeps_for_group(flow: &Flow, (id, qos): (ConnectionId, QoS), recipient: &Recipient, routed: &Routed<'_>) -> bool {
    let waits = || routed.publisher.is_some() && !flow.is_given_up(id);
    recipient.group.is_some() && qos > QoS::AtMostOnce && (routed.is_moved || waits())
}

/// Messages have left a queue and were not sent: perhaps no output follows, and it is enough for those who wait for the client.
#[cold]
pub(super) fn queue_is_shorter<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let connection = clients.sessions.get(index).and_then(|session| session.connection);
    if let Some(id) = connection.filter(|_| clients.flow.has_slow_clients()) {
        holding::backlog_shrank(clients, id, index);
    }
}

/// Has a member of a shared subscription looked at for which something waits: others can process that.
fn watch<C: Chain>(clients: &mut Clients<C>, index: u32) {
    if let Some(session) = clients.sessions.get_mut(index)
        && session.outbound.stall_watch.is_none()
    {
        let next = clients.agenda.now() + clients.flow.stall_patience();
        session.outbound.stall_watch =
            Some(StallWatch { taken: session.outbound.queue.taken(), is_stalled: false, next });
        clients.agenda.arm(next, Deadline::Stalled(index));
    }
}

/// Publishers begin to wait for such a member: it is looked at soon, and at once nearly if it is known to take nothing.
fn hurry<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let is_stalled = session.outbound.is_stalled();
    let patience = clients.flow.stall_patience();
    let soon = clients.agenda.now() + if is_stalled { patience / SOONER } else { patience };
    if let Some(watch) = session.outbound.stall_watch.as_mut().filter(|watch| watch.next > soon) {
        watch.next = soon;
        clients.agenda.arm(soon, Deadline::Stalled(index));
    }
}

/// The same of a session that has come with what waits for it, if it may be a member.
pub(super) fn watch_if_shared<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let may_be = |session: &Session<C::State>| !session.outbound.queue.is_empty() && session.subscriptions.shared() > 0;
    if clients.sessions.get(index).is_some_and(may_be) {
        watch(clients, index);
    }
}
