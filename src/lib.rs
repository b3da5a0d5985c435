//! moormq: an MQTT 3.1, 3.1.1 and 5.0 broker for one Linux machine, as a library.
//!
//! One shard per core, sockets on io_uring, and the session lifecycle of VerneMQ as hooks that are compiled in. The name:
//! clients *moor* at their shard, and keep their berth when they leave.
//!
//! A broker with a hook of its own, a message published by the program, and one received:
//!
//! ```
//! use moormq::Broker;
//! use moormq::broker::Publish;
//! use moormq::client::EndReason;
//! use moormq::config::Config;
//! use moormq::hooks::{Hook, Notice};
//!
//! /// Says who leaves.
//! #[derive(Clone)]
//! struct Doorman;
//!
//! impl Hook for Doorman {
//!     type State = ();
//!
//!     fn on_client_gone(&mut self, cx: &mut Notice<'_, ()>, reason: EndReason) {
//!         println!("{} has left: {reason:?}", cx.client().subscriber);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::from_toml("allow_anonymous = true\nlisteners.default.address = '127.0.0.1:0'", "inline")?;
//! let broker = Broker::builder().config(config).hook(Doorman).start()?;
//!
//! let news = broker.subscribe("", "news/#", 16)?;
//! broker.publish(Publish { topic: "news/today".into(), payload: "good morning".into(), ..Publish::default() })?;
//! assert_eq!(news.recv()?.payload(), b"good morning");
//!
//! drop(news);
//! broker.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | module | what a program needs it for |
//! |---|---|
//! | [`broker`] | build, start and stop a broker; publish and subscribe; ask how it is and end connections, from any thread |
//! | [`hooks`] | decide who may do what, and be told of it: the trait [`Hook`](hooks::Hook), its questions and answers |
//! | [`hooks::stock`] | the hooks of the program: passwords, access rules, SCRAM |
//! | [`config`] | all settings, as values or as TOML |
//! | [`client`] | who a client is, and why connections and sessions end and messages are dropped |
//! | [`codec`] | the words of MQTT in questions and answers: versions, QoS, reason codes, properties |
//! | [`message`] | the message that a subscription of the program receives |
//! | [`topic`] | topic names and filters, checked: for rules of your own |
//! | [`control`] | the files of the stock hooks; the socket for operators, and what it tells |
//! | [`time`] | the time that checks of passwords are handed, where a program runs them on threads of its own |
//! | [`threads`] | be told of a thread of the broker that dies |
//!
//! # How it runs
//!
//! A *shard* is one core's part of the broker, a thread of its own. It has a clone of the hooks, which are called there and must not
//! block. A client belongs to the shard that its *subscriber id*, mountpoint and client id, hashes to, by way of one of 4096 *slots*; slots may move
//! from shard to shard, with their sessions, and hooks are not told of it.
//!
//! In which order hooks are called, and what each answer does, is said at [`Hook`](hooks::Hook); the rules, each with the tests that check it,
//! are in `tests/lifecycle.md` of the source. What is inside is described in `src/README.md`.
//!
//! # Features
//!
//! * `stock`: [`hooks::stock`], and the files that these hooks read.
//! * `archive`: the file that keeps what outlives the journals of a store.
//! * `cli`, on by default: what the program of this crate needs besides, `stock` and `archive` included. A library that is embedded does without, by
//!   `default-features = false`.
#![deny(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

#[doc(hidden)]
pub mod archive;
pub mod broker;
pub mod client;
pub mod codec;
pub mod config;
#[doc(hidden)]
pub mod connection;
pub mod control;
#[doc(hidden)]
pub mod credit;
#[doc(hidden)]
pub mod deadlines;
pub mod hooks;
#[doc(hidden)]
pub mod journal;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod maintenance;
#[doc(hidden)]
pub mod memory;
pub mod message;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod numbers;
pub(crate) mod octets;
#[doc(hidden)]
pub mod persistence;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod records;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod shard;
#[doc(hidden)]
pub mod sharding;
#[doc(hidden)]
pub mod storage;
#[doc(hidden)]
pub mod tables;
pub mod threads;
pub mod time;
pub mod topic;

// The organs of the shard.
pub(crate) mod delivery;
pub(crate) mod flow;
pub(crate) mod handshake;
pub(crate) mod migration;
pub(crate) mod pending_hooks;
pub(crate) mod publishing;
pub(crate) mod retained;
pub(crate) mod routing;
pub(crate) mod subscribing;

pub use broker::Broker;
