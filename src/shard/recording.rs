//! What is recorded on disk of the clients of a shard, and the answers that wait for that: see `persistence`. Nothing of it happens without a
//! store.

use super::clients::Clients;
use super::pubsub::PubSub;
use crate::client::ConnectionId;
use crate::codec::{Ack, AckKind, PacketId, Publish, QoS, ReasonCode};
use crate::config::{QueueType, StoredDurability};
use crate::connection::PauseReason;
use crate::delivery::Sending;
use crate::hooks::{Chain, StateWriter};
use crate::message::{Message, Publication};
use crate::numbers::{Decision, DecisionNumber};
use crate::persistence::{Adoption, Answer, Deferred, Durability, Persistence};
use crate::publishing;
use crate::records::Delivery;
use crate::retained::Retention;
use crate::session::{
    InFlight, Key, OutgoingMessage, QueueLimits, Recipient, Session, StoreNumber, Subscription, Will, packet_id,
};
use crate::sharding::ShardSet;
use crate::topic::TopicFilter;

/// So many messages of a queue may be retained ones that wait for the disk.
const RETAINED_AT_ONCE: usize = 64;
/// The broker's own topics: they are made anew at each start.
const OWN_TOPICS: &str = "$SYS/";

/// Whether a retained message is stored.
pub(super) fn is_stored(message: &Message) -> bool {
    !message.topic().as_str().starts_with(OWN_TOPICS)
}

/// The number of a session in the store, if it is stored.
fn number_of<C: Chain>(clients: &Clients<C>, index: u32) -> Option<StoreNumber> {
    clients.sessions.get(index)?.stored
}

/// Something is recorded when all that was sent to other shards so far is on disk there, and this decision is.
fn defer<C: Chain>(clients: &mut Clients<C>, deferred: Deferred, after: Option<DecisionNumber>) {
    if let Some(persistence) = up_to_date(clients) {
        persistence.defer(deferred, after);
    }
}

/// What is recorded, which knows of all that was sent to other shards so far.
fn up_to_date<C: Chain>(clients: &mut Clients<C>) -> Option<&mut Persistence> {
    let persistence = clients.persistence.as_mut()?;
    clients.agenda.letters.iter().enumerate().for_each(|(shard, sent)| persistence.sent_letters(shard, *sent));
    Some(persistence)
}

/// The same of something for which messages were published just now.
fn defer_behind_messages<C: Chain>(pubsub: &mut PubSub<C>, deferred: Deferred, after: Option<DecisionNumber>) {
    is_later(pubsub);
    defer(&mut pubsub.clients, deferred, after);
}

/// A session that is to be stored from now on has taken QoS 2 messages of its client before: it is not whole before others have them on disk.
#[cold]
pub(super) fn behind_messages<C: Chain>(pubsub: &mut PubSub<C>, adoption: Adoption) -> Adoption {
    is_later(pubsub);
    match up_to_date(&mut pubsub.clients) {
        Some(persistence) => persistence.behind_messages(adoption),
        None => adoption,
    }
}

/// A stored session decides something. In the same input it has to be said what, and that is recorded with it.
fn decide<S>(persistence: &mut Option<Box<Persistence>>, session: &mut Session<S>) -> Option<Decision> {
    let (persistence, number) = persistence.as_mut().zip(session.stored)?;
    let decision = persistence.decide(number, session.last_decision);
    session.last_decision = decision.number;
    Some(decision)
}

/// A decision as messages have it that depend on it.
fn in_messages(persistence: &Option<Box<Persistence>>, decision: Decision) -> Decision {
    persistence.as_ref().map_or(decision, |persistence| persistence.in_messages(decision))
}

/// What is recorded of a message follows from what its publisher is promised; and one of QoS 2, of a stored session, depends on being taken.
#[inline(never)]
pub(super) fn prepare<C: Chain>(clients: &mut Clients<C>, index: u32, publication: &mut Publication<'_>, qos: QoS) {
    if let Some(session) = clients.sessions.get_mut(index) {
        publication.is_to_be_synced = session.settings.durability == StoredDurability::Fsynced;
        if qos == QoS::ExactlyOnce {
            let decision = decide(&mut clients.persistence, session);
            publication.depend_on(decision.map(|decision| in_messages(&clients.persistence, decision)));
        }
    }
}

/// A message was to be retained.
pub(super) fn record_retained<C: Chain>(
    pubsub: &mut PubSub<C>,
    mountpoint: u32,
    message: &Message,
    retention: Retention,
) {
    let Some(persistence) = &mut pubsub.clients.persistence else { return };
    if is_stored(message) {
        match retention {
            Retention::Kept => persistence.record_retained(pubsub.routing.name(mountpoint), message),
            Retention::Cleared | Retention::Refused => {
                persistence.record_cleared(pubsub.routing.name(mountpoint), message);
            }
        }
    }
}

/// Whether messages are under way here that are not delivered at once: what was published just now may be one of them. Then it counts as a letter to
/// this shard itself, which is open until they are.
fn is_later<C: Chain>(pubsub: &mut PubSub<C>) -> bool {
    let is_any_moving = pubsub.clients.persistence.as_ref().is_some_and(|one| one.is_any_moving());
    let is_later = is_any_moving || !pubsub.wills.is_empty() || !pubsub.clients.delivery.fan_outs.is_empty();
    if let Some(persistence) = pubsub.clients.persistence.as_mut().filter(|_| is_later) {
        persistence.write_to_self();
    }
    is_later
}

/// A client has subscribed to this filter.
pub(super) fn record_subscribed<C: Chain>(
    clients: &mut Clients<C>,
    index: u32,
    filter: &TopicFilter,
    subscription: Subscription,
) {
    let number = number_of(clients, index);
    if let Some((persistence, number)) = clients.persistence.as_mut().zip(number) {
        persistence.record_subscribed(number, filter, subscription);
    }
}

/// A client has unsubscribed from these filters.
pub(super) fn record_unsubscribed<C: Chain>(clients: &mut Clients<C>, index: u32, filters: &[TopicFilter]) {
    let number = number_of(clients, index);
    if let Some((persistence, number)) = clients.persistence.as_mut().zip(number) {
        filters.iter().for_each(|filter| persistence.record_unsubscribed(number, filter));
    }
}

/// A client has come to a session that is stored, or is new: its terms are recorded if it is to be stored. If it was and is no more, gives what has to be
/// on disk before its client sees anything: what that says from then on is not recorded, and the session as it was must not come back.
pub(super) fn record_client<C: Chain>(clients: &mut Clients<C>, index: u32) -> Option<DecisionNumber> {
    let (persistence, session) = clients.persistence.as_mut().zip(clients.sessions.get_mut(index))?;
    match (session.is_to_be_stored(), session.stored) {
        (true, stored) => {
            let number = stored.unwrap_or_else(|| persistence.next_number());
            session.stored = Some(number);
            persistence.promise(number, session.settings.durability);
            persistence.record_session(number, session, clients.agenda.now());
            persistence.client_came(number, (index, session.instance));
            // The will before is recorded still, and not that of this client.
            persistence.is_will_going(number).then_some(session.last_decision)
        }
        (false, Some(_)) => {
            // It ends with its connection, or with the broker.
            let decision = decide(&mut clients.persistence, session)?;
            session.stored = None;
            defer(clients, Deferred::KeptNoMore(decision), None);
            Some(decision.number)
        }
        // Its end on disk may be under way still, and the client that waited for that has been taken over.
        (false, None) => Some(session.last_decision).filter(|last| !persistence.is_made(*last)),
    }
}

/// What hooks keep with a session is recorded, if it is stored and they can write it.
#[inline]
pub(super) fn record_hook_state<C: Chain>(clients: &mut Clients<C>, index: u32) {
    if clients.persistence.is_some() && clients.chain.stores_state() {
        write_hook_state(clients, index);
    }
}

#[cold]
fn write_hook_state<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get(index)) else { return };
    let Some(number) = session.stored else { return };
    let mut writer = StateWriter::default();
    clients.chain.store_state(&session.state, &mut writer);
    clients.statistics.counters.hook_states_left_out += u64::from(writer.left_out);
    persistence.record_hook_state(number, &writer.into_bytes());
}

/// That the will before was published is recorded of some sessions: what they are now is recorded behind that.
pub(super) fn record_new_wills<C: Chain>(clients: &mut Clients<C>) {
    while let Some((index, instance)) = clients.persistence.as_mut().and_then(|one| one.next_new_will()) {
        let session = clients.sessions.get(index).filter(|session| session.instance == instance);
        if let Some((persistence, session)) = clients.persistence.as_mut().zip(session)
            && let Some(number) = session.stored
        {
            persistence.record_session(number, session, clients.agenda.now());
        }
    }
}

/// What was recorded so far is on disk before a client is sent what its output has, and what comes behind that: what it is told with CONNACK, or that
/// QoS 2 messages of its queue were sent. Until then its [queue stays](is_output_held). `after`: this is on disk, too.
pub(super) fn hold_output<C: Chain>(
    clients: &mut Clients<C>,
    id: ConnectionId,
    index: u32,
    after: Option<DecisionNumber>,
) {
    let Some(session) = clients.sessions.get(index) else { return };
    let (is_stored, durability) = (session.stored.is_some(), awaited_of(session.settings.durability));
    let Some(persistence) = clients.persistence.as_mut().filter(|_| is_stored || after.is_some()) else { return };
    if persistence.answer((id, durability), (ShardSet::default(), false), after, Answer::Output).is_none() {
        clients.connections.pause(id, PauseReason::Commit);
    }
}

/// Whether the output of a client waits for the disk, and with it what its queue has: what that leads to would be recorded behind what is waited for.
pub(super) fn is_output_held<C: Chain>(clients: &Clients<C>, id: ConnectionId) -> bool {
    clients.connections.get(id).is_some_and(|connection| connection.pauses.contains(PauseReason::Commit))
}

/// The client of a kept session has gone.
pub(super) fn record_offline<C: Chain>(clients: &mut Clients<C>, index: u32, had_will: bool) {
    let now = clients.agenda.now();
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get(index)) else { return };
    let Some(number) = session.stored else { return };
    let will_due = match &session.will {
        Some(_) => Some(session.will_due),
        // It was published: until that is on disk it counts as one that is due.
        None => (had_will && persistence.is_anything_deferred()).then_some(now),
    };
    persistence.record_offline(number, (now, session.expires), will_due);
}

/// A will that is about to be published counts for those who are stored when it is on disk that it was.
pub(super) fn depend_on_will<S>(
    persistence: &mut Option<Box<Persistence>>,
    session: &mut Session<S>,
    will: &mut Will,
) -> Option<Decision> {
    let decision = decide(persistence, session)?;
    if let Some(persistence) = persistence {
        persistence.will_goes(decision.session, will);
    }
    will.message = depending(&will.message, in_messages(persistence, decision));
    Some(decision)
}

fn depending(message: &Message, decision: Decision) -> Message {
    let mut publication = message.publication();
    publication.depend_on(Some(decision));
    publication.keep()
}

/// The will of a session was published, of which stored messages depend on this decision.
pub(super) fn record_will_gone<C: Chain>(pubsub: &mut PubSub<C>, decision: Option<Decision>) {
    if let Some(decision) = decision {
        defer_behind_messages(pubsub, Deferred::WillGone(decision), None);
    }
}

/// A message of a session was acknowledged or dropped.
#[cold]
pub(super) fn record_removed<C: Chain>(clients: &mut Clients<C>, index: u32, key: Key) {
    let number = number_of(clients, index);
    if let Some((persistence, number)) = clients.persistence.as_mut().zip(number) {
        persistence.record_removed(number, key);
    }
}

/// A message that goes on from a stored session to another one. There it counts when it is on disk that it has gone.
#[must_use]
pub(super) struct Passing {
    decision: Option<Decision>,
    key: Key,
    /// What it depended on before.
    before: Option<DecisionNumber>,
}

/// A message of a session is about to go on to another one: as this, of which it has to be said whether it [has](has_passed_on) or
/// [stays](stays).
pub(super) fn pass_on<S>(
    persistence: &mut Option<Box<Persistence>>,
    session: &mut Session<S>,
    delivery: &OutgoingMessage,
) -> (Message, Passing) {
    let (message, key) = (&delivery.message, delivery.key);
    let decision = if key.is_none() { None } else { decide(persistence, session) };
    let before = message.decision().map(|decision| decision.number);
    let named = decision.map(|decision| in_messages(persistence, decision));
    let message = named.map_or_else(|| message.clone(), |decision| depending(message, decision));
    (message, Passing { decision, key, before })
}

pub(super) fn has_passed_on<C: Chain>(pubsub: &mut PubSub<C>, passing: Passing) {
    if let Some(decision) = passing.decision {
        defer_behind_messages(pubsub, Deferred::PassedOn(decision, passing.key), passing.before);
    }
}

/// Nobody takes it now.
#[cold]
pub(super) fn stays<C: Chain>(clients: &mut Clients<C>, passing: Passing) {
    if let Some((persistence, decision)) = clients.persistence.as_mut().zip(passing.decision) {
        persistence.forget(decision);
    }
}

/// By which another shard answers when a message is on disk there that goes on to it: it may have come from a third one, which waits for that. Zero if
/// nobody waits.
pub(super) fn token_to_pass_on<C: Chain>(clients: &mut Clients<C>, message: &Message) -> u64 {
    match clients.persistence.as_mut().filter(|_| message.qos() > QoS::AtMostOnce) {
        None => 0,
        Some(persistence) => {
            let token = clients.agenda.number();
            persistence.passed_on(token);
            token
        }
    }
}

/// A session has ended, and what it left has gone.
pub(super) fn record_ended<C: Chain>(pubsub: &mut PubSub<C>, session: &Session<C::State>) {
    if let Some(persistence) = &mut pubsub.clients.persistence {
        persistence.pages_end(session);
    }
    if let Some(number) = session.stored {
        defer_behind_messages(pubsub, Deferred::Ended(number), None);
    }
}

/// Answers a client, now or when what that acknowledges is on disk: what was recorded so far, and what these shards have been sent. One of whom nothing is
/// to be stored is answered now.
pub(super) fn answer_when_stored<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, told: ShardSet, answer: Answer) {
    answer_of_message(clients, id, told, (answer, Taking::Nothing));
}

/// In which sense a client waits for the disk that is promised this. Of a session that is stored no more its client waits for the end on disk, which is
/// for ever.
fn awaited_of(durability: StoredDurability) -> Durability {
    match durability {
        StoredDurability::Flushed => Durability::Flushed,
        StoredDurability::Fsynced | StoredDurability::None => Durability::Fsynced,
    }
}

/// What is stored of the session of a client, and what it waits for.
fn durability_of<C: Chain>(clients: &Clients<C>, id: ConnectionId) -> StoredDurability {
    let session = clients.connections.get(id).and_then(|connection| clients.sessions.get(connection.session()?));
    session.map_or(StoredDurability::Fsynced, |session| session.settings.durability)
}

/// What is recorded of an incoming message with its answer.
enum Taking {
    Nothing,
    /// That it was taken, by this decision.
    New(Decision, PacketId),
    /// It has come before.
    Again(StoreNumber, PacketId),
}

fn answer_of_message<C: Chain>(
    clients: &mut Clients<C>,
    id: ConnectionId,
    told: ShardSet,
    (answer, taking): (Answer, Taking),
) {
    let is_gathered = !clients.delivery.batch.is_empty();
    let durability = durability_of(clients, id);
    let now = match &mut clients.persistence {
        None => Some(answer),
        Some(_) if durability == StoredDurability::None => Some(answer),
        Some(persistence) => {
            told.iter().for_each(|shard| persistence.sent_letters(shard, clients.agenda.letters[shard]));
            let decision = match taking {
                Taking::Nothing => None,
                Taking::New(decision, packet_id) => {
                    persistence.take_incoming(decision, packet_id, (told, is_gathered));
                    Some(decision.number)
                }
                Taking::Again(session, packet_id) => persistence.incoming(session, packet_id),
            };
            persistence.answer((id, awaited_of(durability)), (told, is_gathered), decision, answer)
        }
    };
    if let Some(answer) = now {
        give_answer(clients, id, answer);
    }
}

/// PUBACK or PUBREC for a message that was published here, which these shards have been sent, and which depends on this decision.
#[inline(never)]
pub(super) fn answer_accepted<C: Chain>(
    pubsub: &mut PubSub<C>,
    (id, index): (ConnectionId, u32),
    publish: &Publish<'_>,
    code: ReasonCode,
    (mut told, decision): (ShardSet, Option<Decision>),
) {
    if publish.qos == QoS::AtMostOnce {
        return;
    }
    if is_later(pubsub) {
        told.insert(pubsub.clients.setup.id);
    }
    let clients = &mut pubsub.clients;
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let Some((kind, packet_id)) = publishing::answer(session, publish, code) else { return };
    // The message may name a number that the session had before.
    let decision = decision.zip(session.stored).map(|(decision, session)| Decision { session, ..decision });
    let taking = decision.map_or(Taking::Nothing, |decision| Taking::New(decision, packet_id));
    answer_of_message(clients, id, told, (Answer::Ack(kind, packet_id, code), taking));
}

/// PUBREC for a QoS 2 message that has come before: whatever was sent to other shards for it then, it is on disk.
#[cold]
pub(super) fn answer_repeated<C: Chain>(
    clients: &mut Clients<C>,
    (id, index): (ConnectionId, u32),
    publish: &Publish<'_>,
) {
    let told = all_shards(clients);
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let Some((kind, packet_id)) = publishing::answer(session, publish, ReasonCode::Success) else { return };
    let taking = session.stored.map_or(Taking::Nothing, |number| Taking::Again(number, packet_id));
    answer_of_message(clients, id, told, (Answer::Ack(kind, packet_id, ReasonCode::Success), taking));
}

/// PUBACK or PUBREC for a message that nobody gets. That a QoS 2 message was taken is recorded nevertheless, if it was not refused.
#[inline(never)]
pub(super) fn answer_publish<C: Chain>(
    clients: &mut Clients<C>,
    (id, index): (ConnectionId, u32),
    answer: (AckKind, PacketId),
    (code, reason): (ReasonCode, Option<&str>),
) {
    let (kind, packet_id) = answer;
    let is_taken = kind == AckKind::Pubrec && !code.is_error();
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let decision = if is_taken { decide(&mut clients.persistence, session) } else { None };
    let taking = decision.map_or(Taking::Nothing, |decision| Taking::New(decision, packet_id));
    let answer = match reason {
        None => Answer::Ack(kind, packet_id, code),
        Some(reason) => {
            let mut packet = Vec::new();
            let version = session.client.version;
            publishing::write_explained(answer, code, reason, &session.settings, version, &mut packet);
            Answer::Packet(packet.into())
        }
    };
    answer_of_message(clients, id, ShardSet::default(), (answer, taking));
}

/// A retained message of QoS 2 for a stored session waits in its queue until that is on disk, whatever the limits of that are. False if
/// enough do.
pub(super) fn store_retained<C: Chain>(
    clients: &mut Clients<C>,
    recipient: &Recipient,
    publication: &Publication<'_>,
) -> bool {
    let now = clients.agenda.now();
    let Some(session) = clients.sessions.get_mut(recipient.session) else { return true };
    if session.outbound.has_unsent() || session.outbound.queue.len() >= RETAINED_AT_ONCE {
        return false;
    }
    let qos = QoS::ExactlyOnce;
    let key = session.outbound.take_key();
    let delivery = OutgoingMessage { key, ..recipient.delivery(publication, qos, true) };
    let order = session.settings.queue.order;
    session.outbound.queue.push_in_portions(delivery, &QueueLimits::unlimited(order), true, now, usize::MAX);
    note(&mut clients.persistence, session, (recipient, 0), (key, false), (qos, true, publication.decision));
    record_delivered(clients, std::iter::once(publication));
    true
}

/// All shards: what they have been sent is waited for.
fn all_shards<C: Chain>(clients: &Clients<C>) -> ShardSet {
    let mut all = ShardSet::default();
    (0..clients.setup.shards).for_each(|shard| all.insert(shard));
    all
}

pub(super) fn give_answer<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, answer: Answer) {
    match answer {
        Answer::Ack(kind, packet_id, code) => {
            clients.connections.write(id, |version, out| Ack::new(packet_id, code).encode(kind, version, out));
        }
        Answer::Packet(packet) => clients.connections.write(id, |_, out| out.extend_from_slice(&packet)),
        Answer::Output => {
            clients.serve_later(id, PauseReason::Commit);
            clients.connections.requeue_for_output(id);
        }
    }
}

/// Messages that had waited for a client were sent, and one cannot be under its key.
#[cold]
pub(super) fn record_launched<C: Chain>(clients: &mut Clients<C>, index: u32, progress: &Sending) {
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get(index)) else { return };
    let Some(number) = session.stored else { return };
    let order = session.settings.queue.order;
    for (before, now) in &progress.launched_of_pages {
        let entry = session.outbound.under(packet_id(now.get()));
        if let Some(delivery) = entry.and_then(InFlight::delivery) {
            persistence.record_launched_of_page(number, *before, &delivery);
        }
    }
    persistence.record_launched(number, &progress.launched, order == QueueType::Fifo);
    if let Some((before, now, is_paged)) = progress.renumbered {
        let waits = (index, session.instance);
        match session.outbound.queue.next(order).filter(|_| is_paged) {
            Some(delivery) => persistence.record_renumbered_of_page(number, before, delivery, waits),
            None => persistence.record_renumbered(number, (before, now), waits),
        }
    }
}

/// Publications that were delivered together have been, to all recipients here.
#[inline]
pub(super) fn record_delivered<'p, C: Chain>(
    clients: &mut Clients<C>,
    publications: impl Iterator<Item = &'p Publication<'p>>,
) {
    if clients.persistence.is_some() {
        record_noted(clients, publications);
    }
}

#[inline(never)]
fn record_noted<'p, C: Chain>(clients: &mut Clients<C>, publications: impl Iterator<Item = &'p Publication<'p>>) {
    if let Some(persistence) = &mut clients.persistence {
        persistence.record_noted(publications);
    }
}

/// A message was put in flight to a stored session.
#[inline(never)]
pub(super) fn note_sent<S>(
    persistence: &mut Option<Box<Persistence>>,
    session: &Session<S>,
    recipient: (&Recipient, usize),
    as_: (QoS, bool, Option<Decision>),
) {
    if let Some(key) = session.outbound.last_key() {
        note(persistence, session, recipient, (key, true), as_);
    }
}

/// A message was sent to a stored session, or put into its queue, for this recipient; it is that at this place of those that are delivered
/// together.
#[inline(never)]
pub(super) fn note<S>(
    persistence: &mut Option<Box<Persistence>>,
    session: &Session<S>,
    (recipient, at): (&Recipient, usize),
    (key, is_sent): (Key, bool),
    (qos, retain, decision): (QoS, bool, Option<Decision>),
) {
    let Some((persistence, number)) = persistence.as_mut().zip(session.stored) else { return };
    let group = recipient.group.as_ref().map(|group| group.as_str());
    let ids = recipient.ids[..].into();
    let delivery = Delivery { session: number, key, qos, retain, is_sent, ids, group };
    persistence.note(at, &delivery, (recipient.session, session.instance), decision.map(|decision| decision.number));
}
