//! The broker for embedding programs: its builder, its start, its use from any thread, and its stop.
//!
//! Owns the threads of the shards. Requests of the program go through the bounded inbox of a shard. Only
//! [`Broker::stop`], [`Broker::subscribe`], [`Broker::hooks`] and the operations of [`Handle`] wait for a shard.

mod backup;
mod handle;
mod layout;
mod open_store;
mod operations;
mod operator;
mod preflight;
mod rebalancing;
mod store;

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

pub use handle::{Handle, LateHandle, Publish, RequestError, Subscription};
pub use layout::{StartError, shards_of};
pub use open_store::StoreError;
pub use operations::OperationError;
pub use preflight::{Preflight, preflight};

#[doc(inline)]
pub use crate::control::socket::SocketError;
#[doc(inline)]
pub use crate::net::probe::StartError as SystemError;

use crate::config::Config;
use crate::control::server::ControlServer;
use crate::control::socket::ControlSocket;
use crate::hooks::{Chain, Hook, HookClock, HookReport, Linked, NoHooks};
use crate::memory::MemoryHeld;
use crate::net::clock::{Clock, nanos};
use crate::net::command::Command;
use crate::net::memory::resident;
use crate::net::mesh::{Mesh, inbox};
use crate::net::opening::Step;
use crate::net::places::Places;
use crate::net::probe::probe;
use crate::net::thread::ShardThread;
use crate::net::worker::WorkerParts;
use crate::shard::{MemoryGauge, Setup, Shard, TurnLimits};
use crate::sharding::Quotas;
use crate::storage::archive::{ArchiveDoor, ArchiveThread};
use crate::storage::{JournalFiles, StoreThread};

use handle::Thread;
use layout::{Layout, Listening, open_listeners};
use open_store::OpenStore;
use rebalancing::Rebalancing;
use store::Store;

/// The number of commands that the inbox of a shard holds.
const INBOX_CAPACITY: usize = 4096;
/// Bytes of messages that the program publishes and a shard has not taken yet.
const INBOX_BYTES: usize = 16 << 20;

/// The builder of a broker: configuration, then hooks, then [`start`](Builder::start).
///
/// The hooks are part of its type, so the compiler can inline them. Every shard gets a clone of the chain.
#[derive(Clone, Debug)]
pub struct Builder<C = NoHooks> {
    config: Config,
    chain: C,
    handles: Vec<LateHandle>,
}

/// A running broker. A drop stops it as [`Broker::stop`] does.
pub struct Broker {
    threads: Vec<ShardThread>,
    handle: Handle,
    addresses: Vec<(String, SocketAddr)>,
    control: Option<ControlServer>,
    rebalancing: Option<Rebalancing>,
    /// It makes files for the shards, and ends after them.
    storage: Option<StoreThreads>,
}

impl Broker {
    /// A builder with the default configuration and no hooks. Such a broker listens on 127.0.0.1:1883, and refuses
    /// every client unless `allow_anonymous` is set or a hook accepts it.
    pub fn builder() -> Builder {
        Builder { config: Config::default(), chain: NoHooks, handles: Vec::new() }
    }

    /// The names and addresses of the listeners. If the configuration has port 0, the address has the port that the
    /// system chose.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.threads.len()
    }

    /// A handle of the broker, for another thread. Each handle publishes through another shard, in turn.
    pub fn handle(&self) -> Handle {
        self.handle.with_another_home()
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

    /// As [`Handle::hooks`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn hooks(&self) -> Result<Vec<HookReport>, RequestError> {
        self.handle.hooks()
    }

    /// Stops in an orderly way: clients are disconnected (MQTT 5: DISCONNECT 0x8B), wills are published, every hook is
    /// called. Waits until that is done, including pending hooks, at most for `runtime.shutdown_timeout`.
    ///
    /// # Errors
    ///
    /// A shard failed: by an error of its ring, or by a panic.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_threads()
    }

    fn stop_threads(&mut self) -> io::Result<()> {
        drop(self.control.take());
        if let Some(rebalancing) = &mut self.rebalancing {
            rebalancing.end();
        }
        if let Some(store) = self.handle.open_store() {
            store.backups.stop();
        }
        self.handle.stop();
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            outcome = outcome.and(thread.join());
        }
        self.rebalancing = None;
        self.storage = None;
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
    /// Sets the configuration.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Has the broker put its handle there, before it serves anybody: for hooks that publish or disconnect.
    #[must_use]
    pub fn handle(mut self, handle: &LateHandle) -> Self {
        self.handles.push(handle.clone());
        self
    }
}

impl<C: Chain> Builder<C> {
    /// Adds a link at the end of the chain of hooks.
    #[must_use]
    pub fn hook<H: Hook>(self, hook: H) -> Builder<Linked<C, H>> {
        Builder { config: self.config, chain: self.chain.hook(hook), handles: self.handles }
    }
}

impl<C: Chain + Clone> Builder<C> {
    /// Starts the broker. When it returns, clients can connect.
    ///
    /// # Errors
    ///
    /// A fault of the configuration, or something that this system lacks, in one sentence.
    pub fn start(self) -> Result<Broker, StartError> {
        let Builder { config, chain, handles } = self;
        config.check().map_err(StartError::Config)?;
        let layout = Layout::of(&config)?;
        probe(layout.limits.sockets.ring).map_err(StartError::System)?;
        // Before the listeners, because these would take clients from another broker that is running.
        let socket = config.control.socket.as_ref().map(|path| ControlSocket::bind(Path::new(path))).transpose();
        let socket = socket.map_err(StartError::Control)?;
        let Listening { sockets, addresses } = open_listeners(&config, layout.cpus.len())?;
        let config = Arc::new(config);
        let clock = Clock::start();
        let shards = layout.cpus.len();
        let path = config.storage.path.as_ref();
        let store = path.map(|path| Store::open(path, &config, shards, clock)).transpose()?;
        let seed = store.as_ref().map_or_else(random_seed, Store::seed);
        let places = Arc::new(Places::new(&config, layout.cpus.len(), layout.sockets));
        let quotas = Quotas::new(&config, layout.cpus.len());
        let meshes = Mesh::new(layout.cpus.len(), config.runtime.mailbox_bytes).map_err(StartError::Resources)?;
        let (inboxes, receivers): (Vec<_>, Vec<_>) =
            meshes.iter().map(|mesh| inbox(INBOX_CAPACITY, INBOX_BYTES, mesh.doorbell())).unzip();
        let handle = Handle::new(inboxes, seed, &config);
        let (storage, mut parts, mut opening) = match store {
            None => (None, Vec::new(), None),
            Some(mut store) => {
                let (threads, files, door, open) = start_store(&mut store, &handle).map_err(StartError::Resources)?;
                let (parts, opening, renewal) = store.into_parts();
                let parts = parts.into_iter().zip(files).map(|(part, files)| Some((part, files, door.clone())));
                (Some(threads), parts.collect(), Some((opening, renewal, open)))
            }
        };
        handles.iter().for_each(|late| late.set(handle.with_another_home()));
        let mut threads = Vec::new();
        for (((id, mesh), listeners), receiver) in meshes.into_iter().enumerate().zip(sockets).zip(receivers) {
            let (config, chain, shards) = (config.clone(), chain.clone(), layout.cpus.len());
            let places = places.clone();
            let quotas = quotas.clone();
            let most = layout.limits.max_memory;
            let (turn, version) = (TurnLimits::default(), env!("CARGO_PKG_VERSION"));
            let setup = Setup { id, shards, seed, turn, version, config, quotas };
            let part = parts.get_mut(id).and_then(Option::take);
            let opening = opening.as_ref().map(|(opening, ..)| Arc::clone(opening));
            let make = move || {
                let mut shard = Shard::new(setup, chain, clock.now());
                shard.measure_by(HookClock(nanos), Some(MemoryGauge { resident, held: MemoryHeld::in_process, most }));
                let store = part.map(|(part, files, door)| {
                    part.restore(&mut shard, clock);
                    (files, door)
                });
                let (journal, archive) = store.map_or((None, None), |(files, door)| (Some(files), door));
                WorkerParts { shard, mesh, inbox: receiver, listeners, places, clock, journal, archive, opening }
            };
            let thread = ShardThread::start(id, Some(layout.cpus[id]), layout.limits, make);
            threads.push(thread.map_err(StartError::Resources)?);
        }
        let mut broker = Broker { threads, handle, addresses, control: None, rebalancing: None, storage };
        let started = broker.threads.iter().zip(&layout.cpus);
        let started = started.map(|(thread, core)| thread.started().map(|id| Thread { id, core: *core }));
        broker.handle.started(started.collect::<Result<_, _>>().map_err(StartError::System)?);
        if let Some((opening, renewal, open)) = opening.take() {
            let is_any_dead = || broker.threads.iter().any(ShardThread::has_ended);
            opening.wait(Step::Restored, is_any_dead);
            if let Some(renewal) = renewal.filter(|_| opening.is_reached(Step::Restored)) {
                renewal.finish().map_err(StartError::Storage)?;
            }
            opening.go_on();
            opening.wait(Step::Open, is_any_dead);
            broker.handle.has_store(open);
        }
        if let Some(socket) = socket {
            let control = ControlServer::start(socket, broker.handle());
            broker.control = Some(control.map_err(StartError::Resources)?);
        }
        if config.rebalance.enabled {
            let rebalancing = Rebalancing::start(config.rebalance.clone(), broker.handle(), clock);
            broker.rebalancing = Some(rebalancing.map_err(StartError::Resources)?);
        }
        Ok(broker)
    }
}

/// The threads that work for the shards of a broker with a store. A drop stops them.
struct StoreThreads {
    _files: StoreThread,
    _archive: Option<ArchiveThread>,
}

/// Starts the thread that makes files for the shards and that of the archive, and gives the files of each shard, the door to the archive, and what operators
/// use.
fn start_store(
    store: &mut Store,
    handle: &Handle,
) -> io::Result<(StoreThreads, Vec<JournalFiles>, Option<ArchiveDoor>, OpenStore)> {
    let (files_thread, files) =
        StoreThread::for_shards(&store.directory, store.sync, store.reserve, answers_to(handle, Command::Prepared))?;
    let (archive, door, control) = match store.start_archive(answers_to(handle, Command::Archived))? {
        Some((thread, door, control)) => (Some(thread), Some(door), Some(control)),
        None => (None, None, None),
    };
    let open = OpenStore::new(&store.directory, control);
    Ok((StoreThreads { _files: files_thread, _archive: archive }, files, door, open))
}

/// By shard, what puts the answers of a thread into its inbox.
fn answers_to<T: 'static>(handle: &Handle, command: fn(T) -> Command) -> Vec<Box<dyn Fn(T) + Send>> {
    let answers = handle.inboxes.iter().map(|inbox| {
        let inbox = inbox.clone();
        Box::new(move |answer| inbox.post(command(answer))) as Box<dyn Fn(T) + Send>
    });
    answers.collect()
}

/// A random number that nobody can guess. The standard library has one for its hash maps.
fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
