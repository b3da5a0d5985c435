//! The handle of a running broker, for any thread of the embedding program.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, RecvTimeoutError, TrySendError};

use super::open_store::OpenStore;
use crate::client::SubscriberId;
use crate::codec::{PropertyBlock, QoS};
use crate::config::{Config, Limit};
use crate::hooks::HookReport;
use crate::message::Message;
use crate::net::command::{Command, SubscriptionEvent};
use crate::net::memory::max_memory;
use crate::net::mesh::InboxSender;
use crate::net::thread::ThreadId;
use crate::shard::Request;
use crate::sharding::owner_of;
use crate::topic::{TopicError, TopicFilter, TopicName};

/// The longest wait for the answers of shards. A shard takes longer only if a hook blocks it.
pub(super) const SHARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of messages that wait for the program to receive them, for one subscription; or one message.
const SUBSCRIPTION_BYTES: usize = 16 << 20;

/// A handle of a running broker, for any thread. Messages published through one handle and its clones stay in order.
#[derive(Clone)]
pub struct Handle {
    pub(super) inboxes: Arc<[InboxSender<Command>]>,
    /// The threads of the shards, once all have started.
    threads: Arc<OnceLock<Box<[Thread]>>>,
    pub(super) seed: u64,
    /// The shard that gets its messages.
    home: usize,
    next_home: Arc<AtomicU64>,
    next_subscription: Arc<AtomicU64>,
    max_topic_levels: usize,
    pub(super) max_memory: Limit,
    /// The store, if there is one.
    store: Arc<OnceLock<OpenStore>>,
}

/// The handle of a broker that is yet to start, for those who are made before it: hooks. Clones get the same one.
///
/// ```
/// use moormq::Broker;
/// use moormq::broker::{LateHandle, Publish};
/// use moormq::hooks::{Hook, Notice};
///
/// /// Publishes who is there.
/// #[derive(Clone)]
/// struct Presence(LateHandle);
///
/// impl Hook for Presence {
///     type State = ();
///
///     fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, _: bool) {
///         let topic = format!("presence/{}", cx.client().subscriber.client_id);
///         let publish = Publish { topic, payload: "online".into(), retain: true, ..Publish::default() };
///         if let Err(error) = self.0.get().publish(publish) {
///             eprintln!("presence is not told: {error}");
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = moormq::config::Config::from_toml("allow_anonymous = true\nlisteners.default.address = '127.0.0.1:0'", "inline")?;
/// let handle = LateHandle::default();
/// let broker = Broker::builder().config(config).hook(Presence(handle.clone())).handle(&handle).start()?;
/// # broker.stop()?;
/// # Ok(())
/// # }
/// ```
///
/// In a hook, use what does not wait: [`Handle::publish`] and [`Handle::disconnect`]. What waits for a shard waits in vain on a
/// shard's own thread.
#[derive(Clone, Default)]
pub struct LateHandle(Arc<OnceLock<Handle>>);

impl LateHandle {
    /// The handle. A hook always finds it: it is there before the first client is.
    ///
    /// # Panics
    ///
    /// If no broker was started with it ([`Builder::handle`](super::Builder::handle)), or not yet.
    pub fn get(&self) -> &Handle {
        self.try_get().expect("a broker was started with this handle")
    }

    /// As [`LateHandle::get`]; none if no broker was started with it.
    pub fn try_get(&self) -> Option<&Handle> {
        self.0.get()
    }

    /// The broker has one now.
    pub(super) fn set(&self, handle: Handle) {
        // The first broker that is started with it stays.
        let _ = self.0.set(handle);
    }
}

impl fmt::Debug for LateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateHandle").field("is_there", &self.0.get().is_some()).finish()
    }
}

/// The thread and core of a shard.
pub(super) struct Thread {
    pub id: ThreadId,
    pub core: usize,
}

/// The reason why a request to the broker failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The topic name or filter is not valid.
    Topic(TopicError),
    /// Shared subscriptions are for clients only.
    Shared,
    /// The inbox of the shard is full: publish more slowly, or try again.
    Full,
    /// These shards have not answered in time: a hook may block them.
    Unanswered {
        /// Their numbers.
        shards: Vec<usize>,
    },
    /// The broker has stopped.
    Stopped,
}

/// A message from the embedding program; see [`Handle::publish`].
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// The mountpoint to publish into; empty is the default one.
    pub mountpoint: String,
    /// The topic name.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The highest QoS at which subscribers get it. QoS 0 by default.
    pub qos: Option<QoS>,
    /// Whether it is retained. With an empty payload, the retained message of the topic is removed.
    pub retain: bool,
    /// MQTT 5 properties that are forwarded to subscribers.
    pub properties: PropertyBlock,
    /// The Message Expiry Interval. None: it never expires.
    pub expiry: Option<Duration>,
}

/// A subscription of the embedding program. A drop ends it.
pub struct Subscription {
    messages: Receiver<Message>,
    waiting: Arc<WaitingBytes>,
    number: u64,
    shard: usize,
    handle: Handle,
}

impl Handle {
    /// A handle of the shards behind `inboxes`. `seed` is that of the hash from subscriber id to slot.
    pub(super) fn new(inboxes: Vec<InboxSender<Command>>, seed: u64, config: &Config) -> Self {
        Handle {
            inboxes: inboxes.into(),
            threads: Arc::default(),
            seed,
            home: 0,
            next_home: Arc::new(AtomicU64::new(0)),
            next_subscription: Arc::new(AtomicU64::new(1)),
            max_topic_levels: config.limits.max_topic_levels,
            max_memory: max_memory(&config.limits),
            store: Arc::default(),
        }
    }

    /// The broker has this store.
    pub(super) fn has_store(&self, store: OpenStore) {
        // Nobody else says so.
        let _ = self.store.set(store);
    }

    /// The store of the broker, if it has one.
    pub(super) fn open_store(&self) -> Option<&OpenStore> {
        self.store.get()
    }

    /// All shards have started, on these threads.
    pub(super) fn started(&self, threads: Box<[Thread]>) {
        // Nobody else says so.
        let _ = self.threads.set(threads);
    }

    /// The threads of the shards; none while they start.
    pub(super) fn threads(&self) -> &[Thread] {
        self.threads.get().map_or(&[], |threads| threads)
    }

    /// The same, but its messages go to the next shard.
    pub(super) fn with_another_home(&self) -> Self {
        let home = self.next_home.fetch_add(1, Ordering::Relaxed) as usize % self.inboxes.len();
        Handle { home, ..self.clone() }
    }

    /// Sends every shard the command to stop.
    pub(super) fn stop(&self) {
        for inbox in self.inboxes.iter() {
            while let Err(channel::TrySendError::Full(_)) = inbox.try_send(Command::Stop, 0) {
                std::thread::yield_now();
            }
        }
    }

    /// Publishes a message, without hooks and without waiting. While the broker has no room for it (clients that publish would be held for
    /// memory, or because another shard does not follow), it waits in the inbox of the shard, which holds 16 MiB and 4096 messages.
    ///
    /// # Errors
    ///
    /// [`RequestError::Topic`] for an invalid topic name, [`RequestError::Full`] when the inbox of the shard is
    /// full, [`RequestError::Stopped`] after the broker has stopped. The message was not published then.
    pub fn publish(&self, publish: Publish) -> Result<(), RequestError> {
        TopicName::parse(&publish.topic, self.max_topic_levels).map_err(RequestError::Topic)?;
        self.send(
            self.home,
            Command::Request(Request::Publish {
                mountpoint: publish.mountpoint.into(),
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos.unwrap_or(QoS::AtMostOnce),
                retain: publish.retain,
                properties: publish.properties,
                expiry: publish.expiry,
            }),
        )
    }

    /// Subscribes to `filter`, retained messages included. After it has returned, the subscription gets every matching
    /// message. At most `capacity` messages wait to be received, and at most 16 MiB of them, or one that is larger; further messages are
    /// dropped meanwhile, and counted in `$SYS/broker/program/messages/dropped`. `limits.max_wildcard_shapes` does not refuse the program
    /// anything; shapes of its filters count for others. Waits for the shard.
    ///
    /// # Errors
    ///
    /// [`RequestError::Topic`] for an invalid filter, [`RequestError::Shared`] for a shared one, [`RequestError::Full`]
    /// when the inbox of the shard is full, [`RequestError::Unanswered`] when it does not answer, [`RequestError::Stopped`] when
    /// the broker has stopped.
    pub fn subscribe(&self, mountpoint: &str, filter: &str, capacity: usize) -> Result<Subscription, RequestError> {
        let filter = TopicFilter::parse(filter, self.max_topic_levels).map_err(RequestError::Topic)?;
        if filter.share_name().is_some() {
            return Err(RequestError::Shared);
        }
        let number = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let shard = number as usize % self.inboxes.len();
        let (sender, messages) = channel::bounded(capacity.max(1));
        let (ready, subscribed) = channel::bounded(1);
        let waiting = Arc::new(WaitingBytes::default());
        let coming = Arc::clone(&waiting);
        // Nobody misses a message for which there is no receiver any more.
        let sink = Box::new(move |event| match event {
            SubscriptionEvent::Subscribed => ready.try_send(()).is_ok(),
            SubscriptionEvent::Message(message) => {
                let bytes = size(&message);
                if !coming.take(bytes, SUBSCRIPTION_BYTES) {
                    return false;
                }
                let sent = sender.try_send(message);
                if sent.is_err() {
                    coming.give_back(bytes);
                }
                !matches!(sent, Err(TrySendError::Full(_)))
            }
        });
        self.send(shard, Command::Subscribe { subscription: number, mountpoint: mountpoint.into(), filter, sink })?;
        let subscription = Subscription { messages, waiting, number, shard, handle: self.clone() };
        subscribed.recv_timeout(SHARD_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => RequestError::Unanswered { shards: vec![shard] },
            RecvTimeoutError::Disconnected => RequestError::Stopped,
        })?;
        Ok(subscription)
    }

    /// Ends the connection of a client (MQTT 5: DISCONNECT 0x98), and with `cleanup` its session, too. Does nothing if
    /// there is none. Returns before it has happened.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] when the inbox of the shard is full, [`RequestError::Stopped`] after the broker has
    /// stopped.
    pub fn disconnect(&self, mountpoint: &str, client_id: &str, cleanup: bool) -> Result<(), RequestError> {
        let subscriber = SubscriberId::new(mountpoint, client_id);
        let shard = owner_of(&subscriber, self.inboxes.len(), self.seed);
        self.send(shard, Command::Request(Request::Disconnect { subscriber, cleanup }))
    }

    /// The counters of the hooks since the start, summed over all shards: one entry for each hook of each link that was
    /// called, in the order of the chain. `$SYS/broker/hooks/LINK/HOOK/COUNTER` shows the same. Waits for every shard.
    ///
    /// ```
    /// # fn show(handle: &moormq::broker::Handle) -> Result<(), moormq::broker::RequestError> {
    /// for report in handle.hooks()? {
    ///     let counts = report.counts;
    ///     println!("{}.{}: {} calls, {} refused", report.link, report.hook, counts.calls, counts.refusals);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] when the inbox of a shard is full, [`RequestError::Unanswered`] when one does not answer,
    /// [`RequestError::Stopped`] when the broker has stopped.
    pub fn hooks(&self) -> Result<Vec<HookReport>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Command::Hooks { answer: answer.clone() })?;
        }
        let mut all = Vec::new();
        self.collect(answer, &answers)?.iter().for_each(|(_, of_shard)| HookReport::add(&mut all, of_shard));
        Ok(all)
    }

    pub(super) fn send(&self, shard: usize, command: Command) -> Result<(), RequestError> {
        let bytes = command.bytes();
        self.inboxes[shard].try_send(command, bytes).map_err(|error| match error {
            channel::TrySendError::Full(_) => RequestError::Full,
            channel::TrySendError::Disconnected(_) => RequestError::Stopped,
        })
    }
}

impl Subscription {
    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// [`RequestError::Stopped`] when the broker has stopped.
    pub fn recv(&self) -> Result<Message, RequestError> {
        self.messages.recv().map(|message| self.received(message)).map_err(|_| RequestError::Stopped)
    }

    /// Waits for the next message, at most for `timeout`. None if there was none.
    ///
    /// # Errors
    ///
    /// [`RequestError::Stopped`] when the broker has stopped.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, RequestError> {
        match self.messages.recv_timeout(timeout) {
            Ok(message) => Ok(Some(self.received(message))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RequestError::Stopped),
        }
    }
}

impl Subscription {
    fn received(&self, message: Message) -> Message {
        self.waiting.give_back(size(&message));
        message
    }
}

/// The bytes of the messages that wait for the program.
#[derive(Default)]
struct WaitingBytes(AtomicUsize);

impl WaitingBytes {
    /// Takes room for a message. Returns whether there is any: up to `most` bytes, and for one message however large.
    fn take(&self, bytes: usize, most: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before.saturating_add(bytes) <= most;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The bytes that count for a message.
fn size(message: &Message) -> usize {
    size_of::<Message>() + message.size()
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.inboxes[self.shard].post(Command::Unsubscribe { subscription: self.number });
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Topic(error) => error.fmt(f),
            RequestError::Shared => f.write_str("the embedding program cannot take part in shared subscriptions"),
            RequestError::Full => f.write_str("the inbox of the shard is full"),
            RequestError::Unanswered { shards } => {
                let s = if shards.len() == 1 { "" } else { "s" };
                let numbers: Vec<String> = shards.iter().map(usize::to_string).collect();
                let (numbers, seconds) = (numbers.join(", "), SHARD_TIMEOUT.as_secs());
                write!(
                    f,
                    "no answer from shard{s} {numbers} within {seconds} s: a hook may block it, or the machine is overloaded"
                )
            }
            RequestError::Stopped => f.write_str("the broker has stopped"),
        }
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_with_all_that_it_holds() {
        use crate::message::Publication;
        let long = vec![b'x'; 60_000];
        let topic = "t".repeat(60_000);
        let mut publication = Publication::new(TopicName::trusted(&topic), &long);
        publication.properties = &long;
        let size = size(&publication.keep());
        assert!((180_000..181_000).contains(&size), "{size}");
    }

    #[test]
    fn messages_wait_up_to_so_many_bytes_or_one_of_them() {
        let waiting = WaitingBytes::default();
        assert!(waiting.take(1000, 100), "one, however large");
        assert!(!waiting.take(1, 100));
        waiting.give_back(1000);
        assert!(waiting.take(60, 100) && waiting.take(40, 100) && !waiting.take(1, 100));
        waiting.give_back(40);
        assert!(waiting.take(40, 100), "what was refused does not count");
    }
}
