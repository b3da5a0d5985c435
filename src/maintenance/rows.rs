//! What is in a store as rows: each one thing, for programs one object of JSON, for people one line.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::codec::PublishProperties;
use crate::message::Message;
use crate::records::{StoredDelivery, StoredSession, StoredStage, WallClock, WallTime};
use crate::session::{Subscription, Will, packet_id};
use crate::storage::StoreFacts;
use crate::topic::TopicFilter;

/// A row.
#[derive(Debug, Serialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub(super) enum Row<'a> {
    /// Whose store it is. The first row.
    Store(StoreRow),
    /// A session. Its subscriptions, packet ids and messages follow.
    Session(Box<SessionRow<'a>>),
    Subscription(SubscriptionRow<'a>),
    /// Packet ids of QoS 2 messages from the client, taken and not released.
    Incoming(IncomingRow<'a>),
    Message(Box<DeliveryRow<'a>>),
    Retained(Box<RetainedRow<'a>>),
}

#[derive(Debug, Serialize)]
pub(super) struct StoreRow {
    pub store: String,
    pub made: String,
    pub boots: u32,
}

/// Whose something is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Owner<'a> {
    pub mountpoint: &'a str,
    pub client_id: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct SessionRow<'a> {
    #[serde(flatten)]
    owner: Owner<'a>,
    /// The number in the store: boot, shard, counter.
    number: String,
    protocol: String,
    username: Option<&'a str>,
    listener: &'a str,
    peer: String,
    connected_at: String,
    /// None: its client was connected when the last record was written.
    offline_since: Option<String>,
    /// When it ends, as far as that is known: it is offline, and not kept for ever.
    expires: Option<String>,
    /// For how long it is kept offline; none: for ever.
    expiry_seconds: Option<u64>,
    subscriptions: usize,
    messages: usize,
    message_bytes: usize,
    keep_alive: u16,
    send_maximum: u16,
    receive_maximum: u16,
    max_offline_messages: Option<usize>,
    will: Option<WillRow<'a>>,
    /// How many bytes the hooks keep with it.
    hook_state_bytes: Option<usize>,
}

#[derive(Debug, Serialize)]
struct WillRow<'a> {
    mountpoint: &'a str,
    delay_seconds: u64,
    /// None: it is not due yet.
    due: Option<String>,
    expiry_seconds: Option<u64>,
    #[serde(flatten)]
    message: MessageFields<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct SubscriptionRow<'a> {
    #[serde(flatten)]
    owner: Owner<'a>,
    filter: &'a str,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    id: Option<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct IncomingRow<'a> {
    #[serde(flatten)]
    owner: Owner<'a>,
    packet_ids: Vec<u16>,
}

#[derive(Debug, Serialize)]
pub(super) struct DeliveryRow<'a> {
    #[serde(flatten)]
    owner: Owner<'a>,
    /// `queued`, `sent`, or `received`: QoS 2, and the client has it.
    stage: &'static str,
    key: u64,
    /// Of one that was sent.
    packet_id: Option<u16>,
    delivered_qos: u8,
    delivered_retain: bool,
    subscription_ids: Vec<u32>,
    /// The shared subscription it came through.
    group: Option<&'a str>,
    #[serde(flatten)]
    message: Option<MessageFields<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct RetainedRow<'a> {
    mountpoint: &'a str,
    #[serde(flatten)]
    message: MessageFields<'a>,
}

/// A message as it was published.
#[derive(Debug, Serialize)]
struct MessageFields<'a> {
    topic: &'a str,
    qos: u8,
    retain: bool,
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<PropertiesFields<'a>>,
    /// If it is text that can be printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// Otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct PropertiesFields<'a> {
    payload_is_utf8: Option<bool>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data_base64: Option<String>,
    user: Vec<(&'a str, &'a str)>,
}

/// A moment of the calendar, as RFC 3339 has it.
pub(super) fn moment(time: WallTime) -> String {
    // humantime knows the years up to 9999.
    match time.to_system().filter(|_| time.as_millis() < 253_402_300_800_000) {
        Some(system) => humantime::format_rfc3339_millis(system).to_string(),
        None => format!("{} ms after 1970", time.as_millis()),
    }
}

/// A moment that may never come.
fn if_ever(time: WallTime) -> Option<String> {
    (time != WallTime::NEVER).then(|| moment(time))
}

/// Text that a terminal shows as it is.
fn printable(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let is_shown = |symbol: char| !symbol.is_control() || matches!(symbol, '\n' | '\t');
    text.chars().all(is_shown).then_some(text)
}

impl<'a> Row<'a> {
    pub fn store(facts: &StoreFacts) -> Self {
        let made = moment(WallTime::from_millis(facts.made.saturating_mul(1000)));
        Row::Store(StoreRow { store: facts.id.to_string(), made, boots: facts.boots })
    }

    pub fn session(session: &'a StoredSession, clock: WallClock) -> Self {
        let StoredSession { client, settings, offline, .. } = session;
        let will = session
            .will
            .as_ref()
            .map(|will| WillRow::of(will, offline.map_or(WallTime::NEVER, |offline| offline.will_due), clock));
        Row::Session(Box::new(SessionRow {
            owner: owner(session),
            number: session.number.to_string(),
            protocol: client.version.to_string(),
            username: client.username.as_deref(),
            listener: &client.listener,
            peer: client.peer.to_string(),
            connected_at: moment(WallTime::from_system(client.connected_at)),
            offline_since: offline.map(|offline| moment(offline.since)),
            expires: offline.and_then(|offline| if_ever(offline.expires)),
            expiry_seconds: settings.expiry.map(whole_seconds),
            subscriptions: session.subscriptions.len(),
            messages: session.messages().len(),
            message_bytes: message_bytes(session),
            keep_alive: settings.keep_alive,
            send_maximum: settings.send_maximum,
            receive_maximum: settings.receive_maximum,
            max_offline_messages: settings.queue.offline.get(),
            will,
            hook_state_bytes: session.hook_state.as_ref().map(|state| state.len()),
        }))
    }

    pub fn subscription(owner: Owner<'a>, filter: &'a TopicFilter, subscription: Subscription) -> Self {
        let Subscription { options, id } = subscription;
        Row::Subscription(SubscriptionRow {
            owner,
            filter: filter.as_str(),
            qos: options.qos as u8,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u8,
            id: (id > 0).then_some(id),
        })
    }

    /// None if there are none.
    pub fn incoming(session: &'a StoredSession) -> Option<Self> {
        let packet_ids: Vec<u16> = session.inbound.ids().map(|id| id.get()).collect();
        (!packet_ids.is_empty()).then(|| Row::Incoming(IncomingRow { owner: owner(session), packet_ids }))
    }

    pub fn delivery(session: &'a StoredSession, key: u64, delivery: &'a StoredDelivery, clock: WallClock) -> Self {
        let stage = session.stage(key).unwrap_or(delivery.stage);
        Row::Message(Box::new(DeliveryRow {
            owner: owner(session),
            stage: match stage {
                StoredStage::Queued => "queued",
                StoredStage::Sent => "sent",
                StoredStage::Received => "received",
            },
            key,
            packet_id: (stage != StoredStage::Queued).then(|| packet_id(key).get()),
            delivered_qos: delivery.qos as u8,
            delivered_retain: delivery.retain,
            subscription_ids: delivery.ids.to_vec(),
            group: delivery.group.as_ref().map(|group| group.as_str()),
            message: delivery.message.as_ref().map(|message| MessageFields::of(message, clock)),
        }))
    }

    pub fn retained(mountpoint: &'a str, message: &'a Message, clock: WallClock) -> Self {
        Row::Retained(Box::new(RetainedRow { mountpoint, message: MessageFields::of(message, clock) }))
    }
}

/// The bytes of topics, properties and payloads of the messages of a session.
pub(super) fn message_bytes(session: &StoredSession) -> usize {
    let messages = session.messages().iter().filter_map(|(_, delivery)| delivery.message.as_ref());
    messages.map(|message| message.topic_bytes().len() + message.properties().len() + message.payload().len()).sum()
}

/// Whose rows those of a session are.
pub(super) fn owner(session: &StoredSession) -> Owner<'_> {
    let subscriber = &session.client.subscriber;
    Owner { mountpoint: &subscriber.mountpoint, client_id: &subscriber.client_id }
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl<'a> WillRow<'a> {
    fn of(will: &'a Will, due: WallTime, clock: WallClock) -> Self {
        WillRow {
            mountpoint: &will.mountpoint,
            delay_seconds: whole_seconds(will.delay),
            due: if_ever(due),
            expiry_seconds: will.expiry.map(whole_seconds),
            message: MessageFields::of(&will.message, clock),
        }
    }
}

impl<'a> MessageFields<'a> {
    fn of(message: &'a Message, clock: WallClock) -> Self {
        let payload = printable(message.payload());
        MessageFields {
            topic: text(message.topic_bytes()),
            qos: message.qos() as u8,
            retain: message.retain(),
            expires: if_ever(clock.to_wall(message.expires())),
            properties: PropertiesFields::of(message.properties()),
            payload_base64: payload.is_none().then(|| STANDARD.encode(message.payload())),
            payload,
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

impl<'a> PropertiesFields<'a> {
    fn of(block: &'a [u8]) -> Option<Self> {
        let properties = PublishProperties::parse(block).ok().filter(|_| !block.is_empty())?;
        Some(PropertiesFields {
            payload_is_utf8: properties.payload_is_utf8,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation_data_base64: properties.correlation_data.map(|data| STANDARD.encode(data)),
            user: properties.user.iter().collect(),
        })
    }
}

/// For people.
impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Store(row) => write!(f, "store {}, made {}, opened {} times", row.store, row.made, row.boots),
            Row::Session(row) => row.fmt(f),
            Row::Subscription(row) => row.fmt(f),
            Row::Incoming(row) => write!(f, "  incoming QoS 2, not released: packet ids {:?}", row.packet_ids),
            Row::Message(row) => row.fmt(f),
            Row::Retained(row) => write!(f, "retained{} {}", In(row.mountpoint), row.message),
        }
    }
}

/// A mountpoint, if it is not the common one.
struct In<'a>(&'a str);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " in mountpoint {:?}", self.0) }
    }
}

impl fmt::Display for SessionRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionRow { owner, number, protocol, listener, peer, connected_at, .. } = self;
        write!(f, "session {:?}{}, number {number}, MQTT {protocol}", owner.client_id, In(owner.mountpoint))?;
        if let Some(user) = self.username {
            write!(f, ", user {user:?}")?;
        }
        writeln!(f, "\n  last connected {connected_at} from {peer} by listener {listener:?}")?;
        match (&self.offline_since, &self.expires, self.expiry_seconds) {
            (Some(since), Some(expires), _) => write!(f, "  offline since {since}, expires {expires}")?,
            (Some(since), None, _) => write!(f, "  offline since {since}, kept for ever")?,
            (None, _, Some(seconds)) => write!(f, "  online, kept for {seconds} s when it is not")?,
            (None, _, None) => write!(f, "  online, kept for ever when it is not")?,
        }
        let SessionRow { subscriptions, messages, message_bytes, send_maximum, receive_maximum, .. } = self;
        write!(
            f,
            "\n  subscriptions {subscriptions}, messages {messages} ({message_bytes} bytes), at most {send_maximum} in flight to it and \
             {receive_maximum} from it"
        )?;
        if let Some(most) = self.max_offline_messages {
            write!(f, ", {most} offline")?;
        }
        if let Some(WillRow { delay_seconds, due, message, mountpoint, .. }) = &self.will {
            write!(f, "\n  will{}, delay {delay_seconds} s", In(mountpoint))?;
            if let Some(due) = due {
                write!(f, ", due {due}")?;
            }
            write!(f, ": {message}")?;
        }
        self.hook_state_bytes.iter().try_for_each(|bytes| write!(f, "\n  hooks keep {bytes} bytes with it"))
    }
}

impl fmt::Display for SubscriptionRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  subscription {:?} QoS {}", self.filter, self.qos)?;
        let marks = [(self.no_local, ", no local"), (self.retain_as_published, ", retain as published")];
        marks.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, mark)| f.write_str(mark))?;
        if self.retain_handling > 0 {
            write!(f, ", retain handling {}", self.retain_handling)?;
        }
        self.id.iter().try_for_each(|id| write!(f, ", identifier {id}"))
    }
}

impl fmt::Display for DeliveryRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} key {}", self.stage, self.key)?;
        self.packet_id.iter().try_for_each(|id| write!(f, " (packet id {id})"))?;
        let Some(message) = &self.message else { return f.write_str(": PUBREL is to be sent") };
        write!(f, " as QoS {}", self.delivered_qos)?;
        if self.delivered_retain {
            f.write_str(" retained")?;
        }
        if !self.subscription_ids.is_empty() {
            write!(f, " for identifiers {:?}", self.subscription_ids)?;
        }
        self.group.iter().try_for_each(|group| write!(f, " through {group:?}"))?;
        write!(f, ": {message}")
    }
}

impl fmt::Display for MessageFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} QoS {}{}", self.topic, self.qos, if self.retain { ", RETAIN" } else { "" })?;
        self.expires.iter().try_for_each(|expires| write!(f, ", expires {expires}"))?;
        if let Some(properties) = &self.properties {
            write!(f, ", {properties}")?;
        }
        match (self.payload, &self.payload_base64) {
            (Some(text), _) => write!(f, ", {text:?}"),
            (None, Some(base64)) => write!(f, ", base64 {base64}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for PropertiesFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("properties")?;
        self.payload_is_utf8.iter().try_for_each(|is_utf8| write!(f, " payload_is_utf8={is_utf8}"))?;
        self.content_type.iter().try_for_each(|value| write!(f, " content_type={value:?}"))?;
        self.response_topic.iter().try_for_each(|value| write!(f, " response_topic={value:?}"))?;
        self.correlation_data_base64.iter().try_for_each(|value| write!(f, " correlation_data={value}"))?;
        self.user.iter().try_for_each(|(name, value)| write!(f, " {name:?}={value:?}"))
    }
}
