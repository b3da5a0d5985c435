//! A session as the records say it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::by_key::ByKey;
use super::delivery::Delivery;
use super::offline::Offline;
use super::reach::Reach;
use super::session_record::{SessionRecord, StoredWill};
use super::shared::Shared;
use super::wall_clock::{WallClock, WallTime};
use crate::client::{Client, SubscriberId};
use crate::codec::QoS;
use crate::message::Message;
use crate::numbers::{Decision, DecisionNumber};
use crate::session::{
    Inbound, Key, Outbound, OutgoingMessage, PageKeys, Restored, Session, SessionSettings, StoreNumber, StoredPage,
    SubscriptionIds, Subscriptions, Will,
};
use crate::time::Time;
use crate::topic::TopicFilter;

/// A session as the records say it is. One for each session of a store, while it is read.
pub struct StoredSession {
    /// Its number.
    pub number: StoreNumber,
    /// Its client as it connected last; without a certificate.
    pub client: Client,
    /// What holds for it.
    pub settings: SessionSettings,
    /// Its will.
    pub will: Option<Will>,
    /// Since when it is offline; none if its client was connected when the last record was written.
    pub offline: Option<Offline>,
    /// What the hooks keep with it, as they wrote it.
    pub hook_state: Option<Box<[u8]>>,
    /// What it subscribes to.
    pub subscriptions: Subscriptions,
    /// The packet ids of its client that are not released.
    pub inbound: Inbound,
    /// All its messages with keys below this one have been sent; of the others, those that [say so](StoredStage::Sent).
    pub launched_below: u64,
    /// The first key above all that it ever had.
    pub next_key: u64,
    /// Its decisions up to this one have been made.
    pub decided: DecisionNumber,
    /// The number that its header has for its pages, if that is not its own: see [`pages_id`](Self::pages_id).
    pub other_pages_id: Option<StoreNumber>,
    /// The pages in which something waits, in the order of their first keys, with what is gone of each.
    pub pages: Vec<StoredPage>,
    /// The keys of pages of which all are gone. As long as such a page is in the archive, records have to say so; it is to be deleted.
    pub gone_pages: Vec<PageKeys>,
    /// While it is read: keys that may be in its pages, and do not wait there any more.
    pub(super) gone: BTreeSet<u64>,
    /// While it is read: what it has in pages.
    pub(super) reach: Option<Reach>,
    messages: ByKey<StoredDelivery>,
    bytes: usize,
    /// Whether some of its messages depend on a decision, or did.
    pub(super) has_dependent: bool,
    /// Whether it is on its way from another number, and not all of it was written.
    pub(super) is_arriving: bool,
    /// And it had no other number: it was not stored before, and its client knows nothing of it yet.
    pub(super) is_incomplete: bool,
    /// Which of the records its header was.
    pub(super) place: u64,
    /// In which journal it is.
    pub(super) journal: u32,
}

/// How far a message of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredStage {
    /// In the queue, unless its key is [one of those that were launched](StoredSession::launched_below).
    Queued,
    /// Sent, not acknowledged.
    Sent,
    /// QoS 2, and the client has it.
    Received,
}

/// A message of a session.
#[derive(Debug)]
pub struct StoredDelivery {
    /// The message. None once the client has it.
    pub message: Option<Message>,
    /// The QoS it is delivered with.
    pub qos: QoS,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// How far it is.
    pub stage: StoredStage,
    /// The Subscription Identifiers of the subscriptions it matched.
    pub ids: SubscriptionIds,
    /// The shared subscription it came through.
    pub group: Option<Arc<TopicFilter>>,
}

impl StoredDelivery {
    /// How far it is, if it has this key and all below `launched_below` have been sent.
    fn stage_at(&self, key: u64, launched_below: u64) -> StoredStage {
        match self.stage {
            StoredStage::Queued if key < launched_below => StoredStage::Sent,
            stage => stage,
        }
    }

    fn restored(self, key: u64, launched_below: u64) -> Restored {
        let (stage, key) = (self.stage_at(key, launched_below), Key::new(key));
        let StoredDelivery { message, qos, retain, ids, group, .. } = self;
        let Some(message) = message else { return Restored::Received(key) };
        let message = OutgoingMessage { message, qos, retain, key, ids, group };
        if stage == StoredStage::Queued { Restored::Waiting(message) } else { Restored::Sent(message) }
    }

    /// What has to be decided before it counts, if anything has.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.message.as_ref()?.decision()
    }

    fn size(&self) -> usize {
        self.message.as_ref().map_or(0, Message::size) + self.ids.bytes()
    }
}

impl StoredSession {
    /// One that has just been made. `place` is that of the record.
    pub(super) fn new(
        record: &SessionRecord<'_>,
        place: u64,
        shared: &mut Shared,
        clock: WallClock,
        hasher: ahash::RandomState,
    ) -> Self {
        let client = Client {
            subscriber: SubscriberId::new(shared.text(record.mountpoint), record.client_id),
            peer: record.peer,
            listener: shared.text(record.listener),
            version: record.version,
            username: record.username.map(Into::into),
            certificate: None,
            connected_at: record.connected_at.to_system().unwrap_or(SystemTime::UNIX_EPOCH),
            session_number: record.session_number,
        };
        StoredSession {
            number: record.number,
            client,
            settings: record.settings.clone(),
            will: record.will.as_ref().map(|will| kept_will(will, shared, clock)),
            offline: record.offline,
            hook_state: record.hook_state.map(Into::into),
            subscriptions: Subscriptions::new(hasher),
            inbound: Inbound::default(),
            launched_below: 0,
            next_key: 0,
            decided: record.decided,
            other_pages_id: record.pages_id,
            pages: Vec::new(),
            gone_pages: Vec::new(),
            gone: BTreeSet::new(),
            reach: None,
            messages: ByKey::default(),
            bytes: 0,
            has_dependent: false,
            is_arriving: record.is_arriving,
            is_incomplete: record.is_arriving && record.replaces.is_none(),
            place,
            journal: 0,
        }
    }

    /// Has the header of `new`, and keeps the rest.
    pub(super) fn replace_header(&mut self, new: StoredSession) {
        let subscriptions = std::mem::replace(&mut self.subscriptions, new.subscriptions);
        let (inbound, messages) = (std::mem::take(&mut self.inbound), std::mem::take(&mut self.messages));
        let (launched_below, next_key, bytes) = (self.launched_below, self.next_key, self.bytes);
        let decided = self.decided.max(new.decided);
        let (gone, has_dependent) = (std::mem::take(&mut self.gone), self.has_dependent);
        let hook_state = self.hook_state.take();
        let mut new = StoredSession { subscriptions, inbound, messages, launched_below, next_key, bytes, ..new };
        new.hook_state = new.hook_state.or(hook_state);
        *self = StoredSession { decided, gone, has_dependent, ..new };
    }

    /// It has made a decision, if this is one, and with that all before.
    pub(super) fn decide(&mut self, decision: Option<DecisionNumber>) {
        self.decided = self.decided.max(decision.unwrap_or_default());
    }

    pub(super) fn go_offline(&mut self, offline: Offline) {
        if !offline.has_will {
            self.will = None;
        }
        self.offline = Some(offline);
    }

    pub(super) fn forget_will(&mut self) {
        self.will = None;
        if let Some(offline) = &mut self.offline {
            (offline.has_will, offline.will_due) = (false, WallTime::NEVER);
        }
    }

    /// Puts in what `delivery` says, of `message`.
    pub(super) fn put(&mut self, delivery: &Delivery<'_>, message: Message, group: Option<Arc<TopicFilter>>) {
        let &Delivery { key, qos, retain, is_sent, ids, .. } = delivery;
        let stage = if is_sent { StoredStage::Sent } else { StoredStage::Queued };
        self.has_dependent |= message.decision().is_some();
        self.insert(key.get(), StoredDelivery { message: Some(message), qos, retain, stage, ids: ids.to_ids(), group });
    }

    /// Takes out the message with this key.
    pub(super) fn remove(&mut self, key: u64) -> Option<StoredDelivery> {
        self.saw(key);
        let removed = self.messages.remove(key)?;
        self.bytes -= removed.size();
        Some(removed)
    }

    /// The client has the message with this key; it counts from now on if it did not before.
    pub(super) fn receive(&mut self, key: u64) {
        let (message, ids, group) = (None, SubscriptionIds::new(), None);
        let (qos, retain, stage) = (QoS::ExactlyOnce, false, StoredStage::Received);
        self.insert(key, StoredDelivery { message, qos, retain, stage, ids, group });
    }

    /// The message with a key was sent under another one.
    pub(super) fn renumber(&mut self, before: u64, now: u64) {
        self.saw(now);
        if let Some(delivery) = self.remove(before) {
            self.insert(now, StoredDelivery { stage: StoredStage::Sent, ..delivery });
        }
    }

    pub(super) fn launch(&mut self, key: u64) {
        self.launched_below = self.launched_below.max(key + 1);
        self.saw(key);
    }

    /// It has had this key.
    pub(super) fn saw(&mut self, key: u64) {
        self.next_key = self.next_key.max(key + 1);
    }

    fn insert(&mut self, key: u64, delivery: StoredDelivery) {
        self.saw(key);
        self.bytes += delivery.size();
        if let Some(replaced) = self.messages.insert(key, delivery) {
            self.bytes -= replaced.size();
        }
    }

    /// A page has the message with this key, which waits.
    pub(super) fn leave_to_page(&mut self, key: u64) {
        if let Some(left) = self.messages.remove(key) {
            self.bytes -= left.size();
        }
    }

    /// The number under which its pages are in the archive.
    pub fn pages_id(&self) -> StoreNumber {
        self.other_pages_id.unwrap_or(self.number)
    }

    /// Whether it has pages, or had them under another number.
    fn has_pages(&self) -> bool {
        self.other_pages_id.is_some() || !self.pages.is_empty() || !self.gone_pages.is_empty()
    }

    /// How many messages wait in its pages, and their bytes, as if all of a page were of one size.
    pub fn waiting_in_pages(&self) -> (usize, usize) {
        self.pages.iter().fold((0, 0), |(messages, bytes), page| (messages + page.left(), bytes + page.bytes_left()))
    }

    /// The keys that are gone from pages which are in the archive still. Who writes all of the session anew says of each that it is removed.
    pub fn gone_from_pages(&self) -> impl Iterator<Item = Key> {
        let of_pages = self.pages.iter().flat_map(|page| page.gone.iter().copied());
        of_pages.chain(self.gone_pages.iter().flat_map(PageKeys::iter))
    }

    /// What waits in pages is among its messages from here on.
    pub fn unpage(&mut self, messages: impl IntoIterator<Item = OutgoingMessage>) {
        for OutgoingMessage { message, qos, retain, key, ids, group } in messages {
            let stage = StoredStage::Queued;
            self.insert(key.get(), StoredDelivery { message: Some(message), qos, retain, stage, ids, group });
        }
    }

    /// Its messages by key. What waits in pages is not among them.
    pub fn messages(&self) -> &ByKey<StoredDelivery> {
        &self.messages
    }

    /// The size of these messages and of their identifiers, in bytes, shared or not.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How far a message of it is, all that was launched considered.
    pub fn stage(&self, key: u64) -> Option<StoredStage> {
        self.messages.get(key).map(|delivery| delivery.stage_at(key, self.launched_below))
    }

    /// The record of its header, as if it never had another number.
    pub fn header(&self, clock: WallClock) -> SessionRecord<'_> {
        let StoredSession { client, settings, offline, will, hook_state, is_arriving, decided, .. } = self;
        let pages_id = self.other_pages_id;
        SessionRecord {
            peer: client.peer,
            listener: &client.listener,
            version: client.version,
            username: client.username.as_deref(),
            connected_at: WallTime::from_system(client.connected_at),
            session_number: client.session_number,
            settings: settings.clone(),
            will: will.as_ref().map(|will| StoredWill::of(will, clock)),
            offline: *offline,
            is_arriving: *is_arriving,
            hook_state: hook_state.as_deref(),
            decided: *decided,
            pages_id,
            ..SessionRecord::new(self.number, &client.subscriber.mountpoint, &client.subscriber.client_id)
        }
    }

    /// It as a session of a shard, offline, with all that is in flight to be sent again. `slot` is that of its subscriber id, `instance` a number that
    /// no other session of the shard has.
    ///
    /// What it was offline for counts: it expires, and its will is due, when that was said. If its client was connected, both are
    /// [`Time::NEVER`], and it has to go offline now as any other does. Its [state of the hooks](Self::hook_state) is the caller's.
    pub fn into_session<S: Default>(self, slot: u16, instance: u64, clock: WallClock) -> Session<S> {
        let pages_id = self.pages_id();
        let (has_pages, pages) = (self.has_pages(), self.pages);
        let StoredSession { number, client, settings, will, offline, subscriptions, inbound, decided, .. } = self;
        let hasher = subscriptions.hasher().clone();
        let (launched_below, next_key) = (self.launched_below, self.next_key);
        let messages = self.messages.into_all().map(|(key, delivery)| delivery.restored(key, launched_below));
        let when = |time: fn(&Offline) -> WallTime| offline.as_ref().map_or(Time::NEVER, |at| clock.to_time(time(at)));
        let new = Session::new(client, settings, slot, instance, (0, Time::ZERO), hasher);
        let mut outbound = Outbound::restored(messages, next_key);
        if has_pages {
            outbound.queue.restore_pages(pages_id, pages);
        }
        Session {
            outbound,
            inbound,
            subscriptions,
            will,
            stored: Some(number),
            last_decision: decided,
            expires: when(|offline| offline.expires),
            will_due: when(|offline| offline.will_due),
            ..new
        }
    }
}

fn kept_will(will: &StoredWill<'_>, shared: &mut Shared, clock: WallClock) -> Will {
    let StoredWill { message, mountpoint, delay, expiry } = *will;
    Will { message: message.publication(clock).keep(), mountpoint: shared.text(mountpoint), delay, expiry }
}
