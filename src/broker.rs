//! The broker as a program embeds it: built, started, used from any thread, stopped.
//!
//! Owns the threads of the shards. Everything between the program and a shard goes through that shard's bounded inbox;
//! nothing here waits for a shard but [`Broker::stop`] and [`Broker::subscribe`].

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{self, Receiver, RecvTimeoutError};

use crate::client::SubscriberId;
use crate::codec::{PropertyBlock, QoS};
use crate::config::{Config, ConfigError, CpuSet};
use crate::hooks::{Chain, Hook, Linked, NoHooks};
use crate::message::Message;
use crate::net::clock::Clock;
use crate::net::listeners::listen;
use crate::net::mesh::{InboxSender, Mesh, inbox};
use crate::net::probe::{StartError as SystemError, probe};
use crate::net::ring::RingSize;
use crate::net::sockets::SocketLimits;
use crate::net::thread::ShardThread;
use crate::net::worker::{Errand, Told, WorkerLimits, WorkerParts};
use crate::shard::{MAX_SHARDS, Place, Request, Shard, owner_of};
use crate::topic::{TopicError, TopicFilter, TopicName};

/// How many requests of the program a shard's inbox holds.
const INBOX_CAPACITY: usize = 4096;
/// How long [`Broker::subscribe`] waits for the shards.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Puts a broker together: configuration, then hooks, then [`start`](Builder::start).
///
/// The hooks are part of its type, so that the compiler sees through them. Every shard gets a clone of the chain.
#[derive(Clone, Debug)]
pub struct Builder<C = NoHooks> {
    config: Config,
    chain: C,
}

/// A running broker. Dropping it stops it as [`Broker::stop`] does.
pub struct Broker {
    threads: Vec<ShardThread>,
    handle: Handle,
    addresses: Vec<(String, SocketAddr)>,
}

/// A way to a running broker for any thread. Messages published through one handle and its clones stay in order.
#[derive(Clone)]
pub struct Handle {
    inboxes: Arc<[InboxSender<Errand>]>,
    seed: u64,
    home: usize,
    next_subscription: Arc<AtomicU64>,
    max_topic_levels: usize,
}

/// Why a broker did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is not possible.
    Config(ConfigError),
    /// A listener's address cannot be listened on.
    Listen {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The system lacks something that is needed.
    System(SystemError),
    /// A thread, queue or file descriptor could not be had.
    Resources(io::Error),
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

impl Broker {
    /// A broker with the default configuration and no hooks yet: it listens on 127.0.0.1:1883, and refuses every client
    /// unless `allow_anonymous` is set or a hook accepts it.
    pub fn builder() -> Builder {
        Builder { config: Config::default(), chain: NoHooks }
    }

    /// The listeners and where they listen; with the port that was assigned where the configuration asked for port 0.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// How many shards it runs on.
    pub fn shards(&self) -> usize {
        self.threads.len()
    }

    /// A way to the broker for another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// As [`Handle::publish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn publish(&self, publish: Publish) -> Result<(), RequestError> {
        self.handle.publish(publish)
    }

    /// As [`Handle::subscribe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe(&self, mountpoint: &str, filter: &str, capacity: usize) -> Result<Subscription, RequestError> {
        self.handle.subscribe(mountpoint, filter, capacity)
    }

    /// Stops in an orderly way: clients are told (MQTT 5: DISCONNECT 0x8B), wills are published, every hook is called. Waits
    /// until that is done, at most `runtime.shutdown_timeout`.
    ///
    /// # Errors
    ///
    /// When a shard did not end as it should have: its ring failed, or it panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_threads()
    }

    fn stop_threads(&mut self) -> io::Result<()> {
        for inbox in self.handle.inboxes.iter() {
            let mut errand = Errand::Stop;
            while let Err(channel::TrySendError::Full(back)) = inbox.try_send(errand) {
                errand = back;
                std::thread::yield_now();
            }
        }
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            outcome = outcome.and(thread.join());
        }
        outcome
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Err(error) = self.stop_threads() {
            tracing::error!(%error, "a shard did not stop as it should have");
        }
    }
}

impl<C> Builder<C> {
    /// Takes another configuration than the default one.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }
}

impl<C: Chain> Builder<C> {
    /// Adds a link at the end of the chain of hooks.
    #[must_use]
    pub fn hook<H: Hook>(self, hook: H) -> Builder<Linked<C, H>> {
        Builder { config: self.config, chain: self.chain.hook(hook) }
    }
}

impl<C: Chain + Clone> Builder<C> {
    /// Starts the shards. When it returns, clients can connect.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration or missing on this system, in one sentence.
    pub fn start(self) -> Result<Broker, StartError> {
        let Builder { config, chain } = self;
        config.check().map_err(StartError::Config)?;
        let layout = Layout::of(&config)?;
        probe(layout.limits.sockets.ring).map_err(StartError::System)?;
        let (listeners, addresses) = open_listeners(&config, layout.cpus.len())?;
        let config = Arc::new(config);
        let seed = random_seed();
        let clock = Clock::start();
        let connections: Arc<[AtomicUsize]> = config.listeners.iter().map(|_| AtomicUsize::new(0)).collect();
        let meshes = Mesh::new(layout.cpus.len(), config.runtime.mailbox_capacity).map_err(StartError::Resources)?;
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for ((id, mesh), listeners) in meshes.into_iter().enumerate().zip(listeners) {
            let (sender, receiver) = inbox(INBOX_CAPACITY, mesh.doorbell());
            inboxes.push(sender);
            let (config, chain, shards) = (config.clone(), chain.clone(), layout.cpus.len());
            let connections = connections.clone();
            let place = Place { id, shards, seed, version: env!("CARGO_PKG_VERSION") };
            let make = move || {
                let shard = Shard::new(place, config, chain, clock.now());
                WorkerParts { shard, mesh, inbox: receiver, listeners, connections, clock }
            };
            let thread = ShardThread::start(id, Some(layout.cpus[id]), layout.limits, make);
            threads.push(thread.map_err(StartError::Resources)?);
        }
        let handle = Handle {
            inboxes: inboxes.into(),
            seed,
            home: 0,
            next_subscription: Arc::new(AtomicU64::new(1)),
            max_topic_levels: config.limits.max_topic_levels,
        };
        let broker = Broker { threads, handle, addresses };
        for thread in &broker.threads {
            thread.started().map_err(StartError::System)?;
        }
        Ok(broker)
    }
}

impl Handle {
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
        subscribed.recv_timeout(SUBSCRIBE_TIMEOUT).map_err(|_| RequestError::Stopped)?;
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

    fn send(&self, shard: usize, errand: Errand) -> Result<(), RequestError> {
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

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Listen { name, address, error } => {
                write!(f, "listener {name}: cannot listen on {address}: {error}")
            }
            StartError::System(error) => error.fmt(f),
            StartError::Resources(error) => write!(f, "the system is out of resources: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

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

/// How shards are laid out on cores.
struct Layout {
    /// The core of each shard.
    cpus: Vec<usize>,
    limits: WorkerLimits,
}

impl Layout {
    fn of(config: &Config) -> Result<Self, StartError> {
        let allowed = allowed_cpus().map_err(StartError::Resources)?;
        let cores = config.cpus.as_ref().unwrap_or(&allowed).cores();
        if let Some(&cpu) = cores.iter().find(|cpu| !allowed.cores().contains(cpu)) {
            let reason = format!("this process may use cores {allowed} only");
            return Err(StartError::System(SystemError::Core { cpu, reason }));
        }
        let shards = config.shards.unwrap_or(cores.len()).min(MAX_SHARDS);
        let runtime = &config.runtime;
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).map_err(StartError::Resources)? as usize;
        let per_shard = config.limits.max_connections.map_or(descriptors, |most| most.div_ceil(shards));
        Ok(Layout {
            cpus: (0..shards).map(|shard| cores[shard % cores.len()]).collect(),
            limits: WorkerLimits {
                sockets: SocketLimits {
                    ring: RingSize {
                        submissions: runtime.ring_entries as u32,
                        completions: runtime.ring_entries as u32 * 8,
                        buffers: runtime.receive_buffers as u16,
                        buffer_bytes: runtime.receive_buffer_size as u32,
                    },
                    max_connections: per_shard.min(SocketLimits::default().max_connections),
                    ..SocketLimits::default()
                },
                spin: runtime.spin,
                shutdown_timeout: runtime.shutdown_timeout,
            },
        })
    }
}

/// The cores that this process may run on.
fn allowed_cpus() -> io::Result<CpuSet> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let unreadable = || io::Error::other("/proc/self/status does not tell which cores may be used");
    list.and_then(|list| list.trim().parse().ok()).ok_or_else(unreadable)
}

/// For each shard, a socket for each listener; and where they listen.
#[allow(clippy::type_complexity)]
fn open_listeners(
    config: &Config,
    shards: usize,
) -> Result<(Vec<Vec<OwnedFd>>, Vec<(String, SocketAddr)>), StartError> {
    let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        let failed = |address| move |error| StartError::Listen { name: listener.name.clone(), address, error };
        let mut address = listener.address;
        for shard in &mut sockets {
            let socket = listen(address, config.runtime.listen_backlog).map_err(failed(address))?;
            // Port 0 is chosen by the system once, for all shards.
            address = local_address(&socket).map_err(failed(address))?;
            shard.push(socket);
        }
        addresses.push((listener.name.clone(), address));
    }
    Ok((sockets, addresses))
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = socket2::SockRef::from(socket).local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::other("a listener has no IP address"))
}

/// A number nobody can guess: the standard library draws one for its hash maps.
fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
