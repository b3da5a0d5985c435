//! A running broker as the embedding program uses it, from any thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, RecvTimeoutError};

use crate::client::SubscriberId;
use crate::codec::{PropertyBlock, QoS};
use crate::config::Config;
use crate::hooks::HookReport;
use crate::message::Message;
use crate::net::errand::{Errand, Told};
use crate::net::mesh::InboxSender;
use crate::net::thread::ThreadId;
use crate::shard::{Request, owner_of};
use crate::topic::{TopicError, TopicFilter, TopicName};

/// How long shards may take to answer. They take longer only if they are stuck in a hook.
pub(super) const SHARD_TIMEOUT: Duration = Duration::from_secs(30);

/// A way to a running broker for any thread. Messages published through one handle and its clones stay in order.
#[derive(Clone)]
pub struct Handle {
    pub(super) inboxes: Arc<[InboxSender<Errand>]>,
    /// The threads of the shards.
    pub(super) threads: Arc<[Thread]>,
    pub(super) seed: u64,
    /// The shard by which its messages go.
    home: usize,
    next_home: Arc<AtomicU64>,
    next_subscription: Arc<AtomicU64>,
    max_topic_levels: usize,
}

/// Where a shard runs.
pub(super) struct Thread {
    pub id: ThreadId,
    pub core: usize,
}

/// Why a message was not published or a subscription not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The topic name or filter is not valid.
    Topic(TopicError),
    /// Shared subscriptions are for clients only.
    Shared,
    /// The inbox of the shard is full: publish more slowly, or try again.
    Full,
    /// The broker has stopped, or did not answer in time.
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
    /// The QoS at which subscribers may get it at most. QoS 0 by default.
    pub qos: Option<QoS>,
    /// Whether it is retained; with an empty payload, a retained message is forgotten.
    pub retain: bool,
    /// MQTT 5 properties that are forwarded to subscribers.
    pub properties: PropertyBlock,
    /// Message Expiry Interval; none: it never expires.
    pub expiry: Option<Duration>,
}

/// A subscription of the embedding program. Dropping it ends it.
pub struct Subscription {
    messages: Receiver<Message>,
    number: u64,
    shard: usize,
    handle: Handle,
}

impl Handle {
    /// A way to the shards behind `inboxes`, whose hashes have this seed.
    pub(super) fn new(inboxes: Vec<InboxSender<Errand>>, seed: u64, config: &Config) -> Self {
        Handle {
            inboxes: inboxes.into(),
            threads: Arc::new([]),
            seed,
            home: 0,
            next_home: Arc::new(AtomicU64::new(0)),
            next_subscription: Arc::new(AtomicU64::new(1)),
            max_topic_levels: config.limits.max_topic_levels,
        }
    }

    /// The same, by the next shard.
    pub(super) fn with_another_home(&self) -> Self {
        let home = self.next_home.fetch_add(1, Ordering::Relaxed) as usize % self.inboxes.len();
        Handle { home, ..self.clone() }
    }

    /// Tells every shard to stop.
    pub(super) fn stop(&self) {
        for inbox in self.inboxes.iter() {
            while let Err(channel::TrySendError::Full(_)) = inbox.try_send(Errand::Stop) {
                std::thread::yield_now();
            }
        }
    }

    /// Publishes a message, without hooks and without waiting.
    ///
    /// # Errors
    ///
    /// [`RequestError::Topic`] for an invalid topic name, [`RequestError::Full`] when the shard is that far behind,
    /// [`RequestError::Stopped`] after the broker has stopped. The message was not published then.
    pub fn publish(&self, publish: Publish) -> Result<(), RequestError> {
        TopicName::parse(&publish.topic, self.max_topic_levels).map_err(RequestError::Topic)?;
        self.send(
            self.home,
            Errand::Request(Request::Publish {
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

    /// Subscribes to `filter`, retained messages included. When it returns, no message that matches is missed, until
    /// `capacity` of them wait to be taken: those that come then are dropped.
    ///
    /// # Errors
    ///
    /// [`RequestError::Topic`] for an invalid filter, [`RequestError::Shared`] for a shared one, [`RequestError::Full`] when
    /// the shard is far behind, [`RequestError::Stopped`] when the broker has stopped or does not answer.
    pub fn subscribe(&self, mountpoint: &str, filter: &str, capacity: usize) -> Result<Subscription, RequestError> {
        let filter = TopicFilter::parse(filter, self.max_topic_levels).map_err(RequestError::Topic)?;
        if filter.share_name().is_some() {
            return Err(RequestError::Shared);
        }
        let number = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let shard = number as usize % self.inboxes.len();
        let (sender, messages) = channel::bounded(capacity.max(1));
        let (told, subscribed) = channel::bounded(1);
        let sink = Box::new(move |what| match what {
            Told::Subscribed => drop(told.try_send(())),
            Told::Message(message) => drop(sender.try_send(message)),
        });
        self.send(shard, Errand::Open { subscription: number, sink })?;
        let subscription = Subscription { messages, number, shard, handle: self.clone() };
        let request = Request::Subscribe { subscription: number, mountpoint: mountpoint.into(), filter };
        self.send(shard, Errand::Request(request))?;
        subscribed.recv_timeout(SHARD_TIMEOUT).map_err(|_| RequestError::Stopped)?;
        Ok(subscription)
    }

    /// Ends the connection of a client (MQTT 5: DISCONNECT 0x98); with `cleanup`, its session too. Nothing happens if there
    /// is none.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] when the shard is far behind, [`RequestError::Stopped`] after the broker has stopped.
    pub fn disconnect(&self, mountpoint: &str, client_id: &str, cleanup: bool) -> Result<(), RequestError> {
        let subscriber = SubscriberId::new(mountpoint, client_id);
        let shard = owner_of(&subscriber, self.inboxes.len(), self.seed);
        self.send(shard, Errand::Request(Request::Disconnect { subscriber, cleanup }))
    }

    /// What was counted of the hooks since the start, all shards together: one entry for each hook that was called of each
    /// link, in the order of the chain. `$SYS/broker/hooks/LINK/HOOK/COUNTER` shows the same. Waits for every shard.
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
    /// [`RequestError::Full`] when a shard is far behind, [`RequestError::Stopped`] when the broker has stopped or does not
    /// answer.
    pub fn hooks(&self) -> Result<Vec<HookReport>, RequestError> {
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Errand::Hooks { answer: answer.clone() })?;
        }
        let mut all = Vec::new();
        self.collect(answer, &answers)?.iter().for_each(|of_shard| HookReport::add(&mut all, of_shard));
        Ok(all)
    }

    pub(super) fn send(&self, shard: usize, errand: Errand) -> Result<(), RequestError> {
        self.inboxes[shard].try_send(errand).map_err(|error| match error {
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
        self.messages.recv().map_err(|_| RequestError::Stopped)
    }

    /// Waits for the next message, at most `timeout`. None if there was none.
    ///
    /// # Errors
    ///
    /// [`RequestError::Stopped`] when the broker has stopped.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, RequestError> {
        match self.messages.recv_timeout(timeout) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RequestError::Stopped),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let number = self.number;
        // If the inbox is full or the broker gone, nobody takes the messages, which is all that matters.
        let _ = self.handle.send(self.shard, Errand::Request(Request::Unsubscribe { subscription: number }));
        let _ = self.handle.send(self.shard, Errand::Close { subscription: number });
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Topic(error) => error.fmt(f),
            RequestError::Shared => f.write_str("the embedding program cannot take part in shared subscriptions"),
            RequestError::Full => f.write_str("the inbox of the shard is full"),
            RequestError::Stopped => f.write_str("the broker has stopped"),
        }
    }
}

impl std::error::Error for RequestError {}
