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
//! | 11 | [`broker`] | the public door: builder, start, publish, subscribe, stop |
//! | 10 | [`net`] | ring, listeners, sockets, the mesh between shards, clocks, threads |
//! | 10 | [`control`] | the socket for operators; the files and threads that serve the stock hooks |
//! | 9 | [`threads`] | threads with names, whose death is told |
//! | 8 | [`shard`] | one core's share of the broker: a state machine with one door, made of organs |
//! | 7 | `handshake`, `publishing`, `subscribing` | what becomes of a CONNECT, a PUBLISH, a SUBSCRIBE: the rules, the hooks, the answer |
//! | 7 | `routing`, `retained`, `delivery` | who gets what; what is retained; one message to one session |
//! | 7 | `migration`, `flow`, `pending_hooks` | sessions that change their shard; publishers that wait; hooks that are not done |
//! | 6 | [`hooks`], [`session`], [`connection`] | the questions to the program; what outlives a connection; what does not |
//! | 5 | [`sharding`] | slots of subscriber ids, and the shards that own them |
//! | 4 | [`message`], [`client`] | the application message; who clients are, why connections and sessions end and messages are dropped |
//! | 3 | [`config`] | plain values, too, read from text and checked |
//! | 2 | [`codec`], [`topic`] | packets as bytes; topic names, filters, and the trees that match them |
//! | 1 | [`random`], [`deadlines`] | plain values, handed in |
//! | 1 | [`memory`] | what is held in memory, by kind |
//! | 0 | [`time`], `octets` | the time, handed in, too; bytes that may not be in a text |
//!
//! Below `net` there is no I/O, no clock, no lock, no `async` and no `unsafe`: inputs and the time go in, outputs come out.
//! That is what lets tests drive several shards without a socket. (What is held in memory is counted by thread, in [`memory`]: a shard
//! adds to it and never looks at it.) How a shard works, and the way of a packet through it, is told in
//! [`shard`].
//!
//! # Where to find what
//!
//! | of MQTT | state | rules |
//! |---|---|---|
//! | CONNECT, CONNACK, enhanced authentication | `handshake::stages`, `exchange` | `handshake`; on a live connection `handshake::reauthentication` |
//! | client id, Clean Start, Receive Maximum | `session::settings` | `handshake::settings` |
//! | Session Expiry Interval | `session::settings` | `handshake::settings`; when it is over: `shard::ending` |
//! | Maximum Packet Size | `session::settings` | incoming `shard::serving`, outgoing `delivery::writer` |
//! | Keep Alive | `connection` | `handshake::settings`, `connection::patience`, `shard::due` |
//! | takeover | | `shard::sessions`, `shard::ending` |
//! | will | `session::will` | `handshake::will` when it comes, `publishing::will` whether it is published now, `shard::ending` when its delay is over; room for it between shards: `shard::wills`, `publishing::due_wills` |
//! | Topic Alias | `connection::aliases` | incoming `publishing::check`, outgoing `delivery::writer` |
//! | packet ids, QoS 1 and 2 | outgoing `session::outbound`, incoming `session::inbound` | `publishing`, `delivery::writer`; PUBACK to PUBCOMP from clients: `delivery::acks` |
//! | queue of a session, Message Expiry Interval | `session::queue` | `delivery`, `shard::delivering` |
//! | Subscription Identifier | `session::Subscription`, `routing::subscriber` | `subscribing::grants`, `routing::recipients`, `delivery::writer` |
//! | SUBSCRIBE, UNSUBSCRIBE, Retain Handling | `subscribing` | `subscribing::grants`, `shard::subscriptions` |
//! | No Local, Retain As Published | `routing::subscriber` | `routing::recipients` |
//! | shared subscriptions | `routing::group` | `routing`; what a member leaves to others: `shard::ending` |
//! | retained messages | `retained::store` | limits `retained::store`; order among shards `retained`, `shard::publications` |
//! | a client that reads slowly, QoS 0 for it | `flow` | `delivery::writer`, `shard::delivering` |
//! | a limit of memory for the whole broker | `memory`; `shard::holding` | `net::memory` finds the stage, `shard::serving`, `shard::sessions` and `retained::store` keep to it |
//! | why a connection is not served | `connection::pauses` | where each reason begins and ends: its name in `shard` |
//! | reason codes | `codec` | of a refused PUBLISH: `publishing::check`, by a hook `publishing::decision` |
//!
//! | to change | begin in |
//! |---|---|
//! | a setting, or a limit | `config::sections`, `config::limits`; the check is in the organ whose duty it is |
//! | a hook | `hooks::hook`, `hooks::list`, `hooks::v3_only`, `config::sections`; what v3 and v5 have in common: `hooks::ask` |
//! | what waits for a hook: a CONNECT, another packet | `shard::connecting`, `shard::hooks` |
//! | a reason for which messages are dropped, or connections end | `client`: counters and `$SYS` topics follow from it |
//! | a message between shards | `shard::message`, `shard::door` |
//! | something the runtime is to do | `shard::output`, `net::worker` |
//! | which slots move, and when | `shard::balance` |
//!
//! # Coined words
//!
//! * *Shard*: one core's part of the broker; it owns the sessions whose subscriber id hashes to it.
//! * *Subscriber id*: mountpoint and client id.
//! * *Slot*: one of 4096 groups of subscriber ids; slots belong to shards.
//! * *Hand-off*: a connection goes to the shard that owns its client. *Migration*: a session goes to another shard, with its connection.
//! * *Layer*: one of the three parts of a shard, each of which owns the next. *Organ*: a part with one duty, owned by a layer. It has state
//!   of its own, is lent everything else, and returns what follows. *Follow-up*: see [`shard`].
//! * *Interest*: a shard has subscribers to a filter, and the others know it. *Owner* of a topic: the shard that retains its message.
//! * *Batch*: publications to one topic that are delivered together. *Instance*: which of the sessions it is that had a place in the table.
#![deny(missing_docs)]
#![forbid(unsafe_op_in_unsafe_fn)]

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
pub mod memory;
pub mod message;
#[doc(hidden)]
pub mod net;
pub(crate) mod octets;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod shard;
#[doc(hidden)]
pub mod sharding;
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
