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
//! # The house
//!
//! Modules import only from floors below their own; those on one floor do not know each other.
//!
//! | floor | modules | what they own |
//! |---|---|---|
//! | 6 | [`broker`] | the public door: builder, start, publish, subscribe, stop |
//! | 5 | [`net`] | ring, listeners, sockets, the mesh between shards, clocks, threads |
//! | 5 | [`control`] | the socket for operators; the files and threads that serve the stock hooks |
//! | 4 | [`shard`] | sessions, subscriptions, retained messages, routing; a state machine with one door |
//! | 3 | [`hooks`], [`session`], [`connection`] | the questions to the program; what outlives a connection; what does not |
//! | 2 | [`message`], [`client`] | the application message; who clients are, and why things end |
//! | 1 | [`codec`], [`topic`] | packets as bytes; topic names, filters, and the trees that match them |
//! | 0 | [`config`], [`time`], [`random`], [`deadlines`] | plain values, handed in |
//!
//! Below `net` there is no I/O, no clock, no lock, no `async` and no `unsafe`: events and the time go in, effects come out.
//! That is what lets tests drive several shards without a socket.
//!
//! # Coined words
//!
//! * *Shard*: one core's part of the broker; it owns the sessions whose subscriber id hashes to it.
//! * *Subscriber id*: mountpoint and client id.
//! * *Slot*: one of 4096 groups of subscriber ids; slots belong to shards.
//! * *Realm*: a mountpoint as one shard sees it.
//! * *Mail*: what shards tell each other. *Hand-off*: a connection that goes to the shard that owns its client.
//! * *Hold*: a reason not to serve a connection's packets for the moment.
#![deny(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod broker;
pub mod client;
pub mod codec;
pub mod config;
pub mod connection;
pub mod control;
pub mod deadlines;
pub mod hooks;
pub mod message;
pub mod net;
pub mod random;
pub mod session;
pub mod shard;
pub mod sharding;
pub mod time;
pub mod topic;

pub use broker::Broker;
