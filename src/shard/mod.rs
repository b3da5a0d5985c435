//! One core's share of the broker: a state machine with one door, [`Shard::handle`] for what happens and [`Shard::next_output`] for what the
//! runtime is to do then. Tests and simulators drive it as the runtime does.
//!
//! # Layout
//!
//! A shard is three layers, each of which owns the one below and calls down only. They lend what they own to *organs*, which do the work and
//! return what follows: an organ knows neither the layers nor another organ, and never calls back. Organs are modules of the crate; files
//! of the shard are called `shard::…` here.
//!
//! | layer | decides | organs |
//! |---|---|---|
//! | [`Shard`] | how clients come to their sessions, and sessions to other shards | `handshake`, `migration` |
//! | `PubSub` | who gets what; what the end of a connection or a session means | `routing`, `retained`, `subscribing`, `publishing` |
//! | `Clients` | what one client is sent, and when it is not served | `delivery`, `flow`, `pending_hooks`; the tables of connections and sessions |
//!
//! A *follow-up* is work of a higher layer, or work that has to wait until the current work is finished. It is queued on the agenda; the
//! door does all follow-ups before the next input, and before the next deadline.
//!
//! | what | layer | file |
//! |---|---|---|
//! | what the layers are made of | | `machine`, `pubsub`, `clients` |
//! | inputs, messages of other shards, follow-ups, outputs | `Shard` | `door`, with `input`, `message` and its `weight`, `output` |
//! | bytes to packets, AUTH | `Shard` | `serving` |
//! | CONNECT until all have accepted the client | `Shard` | `connecting` |
//! | from there to its session, on whichever shard that is | `Shard` | `registering` |
//! | what came for a connection before it is taken over | | `last_bytes`, with `takeovers` |
//! | slots and sessions that move | `Shard` | `migrating`, with `arriving`, `buffered` |
//! | deadlines that have come, what is done each second and each minute | `Shard` | `tick`, `sys` |
//! | requests of the program and of operators; reports | `Shard` | `requests`, `report` |
//! | a copy of the store while it is used: where the journal is cut | | `cutting` |
//! | what is in the store, counted in portions | | `counting`, with `store_report` |
//! | an orderly stop | `Shard` | `stopping`, with `stop`; `draining` |
//! | PUBLISH, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT | `PubSub` | `packets` |
//! | a publication to its recipients, retained messages | `PubSub` | `publications` |
//! | wills, which wait for room | `PubSub` | `wills`, `due_wills` |
//! | subscriptions, until every shard knows of them | `PubSub` | `subscriptions` |
//! | members of shared subscriptions: how many are here; one of them; those without room, or that take nothing | | `members`, `offering`, `passing_over`, `stalled` |
//! | what is retained, to new subscribers | | `replaying` |
//! | a client meets its session; takeover | `PubSub` | `sessions` |
//! | connections and sessions end, in time or by a packet | `PubSub` | `ending` |
//! | what is too much for one turn, in portions | `PubSub` | `portions`, with `remnants`, `leftovers`, `memberships` |
//! | keep alive, lifetimes, throttles, sending again: when they are due, and what then | | `due` |
//! | entries in the timer wheel for that | `Clients` | `timers` |
//! | connections of sessions: acknowledgements, pauses, throttles | `Clients` | `connected` |
//! | one message to one client; drops | `Clients` | `delivering` |
//! | what waits for a client, in shares of the turn | `Clients` | `sending` |
//! | hooks that are not done | `Clients` | `hooks` |
//! | publishers that are held for slow clients | `Clients` | `holding` |
//! | refusals, closing, publishers that wait | `Clients` | `clients` |
//! | what clients hold that are not accepted yet | `Clients` | `unaccepted` |
//! | what is to be done: now, later, by the runtime | | `agenda` |
//! | how much of it before others have their turn | | `turn` |
//! | subscriptions of the program | | `program` |
//! | counters and averages of them; how busy shards are, and which slots should move | | `counters`, `statistics`, `load_average`, `load`, `balance` |
//!
//! # The way of a PUBLISH
//!
//! 1. `shard::door`: [`Input::Received`] with the bytes that the runtime has read.
//! 2. `shard::serving`: `received`, `serve`, `serve_packet` cut off a packet; `on_packet` decodes it.
//! 3. `shard::packets`: `on_publish` has the organ `publishing` resolve the topic alias, check topic and packet id, and ask
//!    `auth_on_publish`. `accept_publish` has it make a publication of what the hooks left, and calls 4, which calls 5. When that has returned, it
//!    calls `on_publish` of the hooks and has `answer_publish` (`shard::connected`) write PUBACK or PUBREC into the outbox of the publisher, with
//!    the reason code that follows from the number of recipients.
//! 4. `shard::publications`: `publish` sends it to the owner of its topic if it is to be retained (`retained`), has `routing` gather the
//!    recipients, and queues a copy for each other shard that has some.
//! 5. `shard::delivering`: `deliver_all` goes through the recipients of this shard. For each, the organ `delivery` either asks
//!    `on_deliver` and writes the packet into the outbox, or returns that the message is to be queued, stored or dropped. Then it is, and the
//!    hooks are told if it was stored or dropped. What was queued is sent later: `send_waiting` of `sending`.
//! 6. `shard::door`: `next_output` gives the runtime the outboxes, and last the messages for other shards.
//!
//! On another shard the way is `door` ([`Input::Message`]), `publications` (`deliver_from_shard`, in which `routing` gathers the recipients of
//! that shard; if members of shared subscriptions are among them `deliver_share`, in which it chooses one, or another shard), 5 and 6.
//!
//! Small publications of one client to one topic that come in one read, and have four recipients here or more, none of them chosen from a
//! shared subscription, are gathered at 4. They go through 5 together (`deliver_batch`), when there are enough of them, and before anything
//! else is delivered or answered: see `delivery::batch`. When a hook answers later, its packet waits, and comes again at `on_packet` of
//! 2 with the answer.
//!
//! # The way of a takeover
//!
//! 1. `shard::door`: [`Input::Received`] with a CONNECT, on the shard that accepted the connection.
//! 2. `shard::serving`, then `shard::connecting`: `on_early_packet` has `handshake` parse the packet; `ask` goes through its stages, each of
//!    which asks its hooks.
//! 3. `shard::registering`: `accepted`, `register_when_possible`, `register`. If the session belongs to another shard, the connection goes
//!    there ([`Output::HandOff`]), and on from here when it has come ([`Input::HandedOff`]). If the session is still to come, or hooks that were
//!    told of something are not done, the connection waits. `why_not_registered` (`shard::sessions`) refuses a client
//!    for which there is no room, or that takes over too often. Before that the runtime is asked to read what the kernel has of the
//!    old connection ([`Output::Drain`], [`Input::Drained`]), which `last_bytes` serves: the client sent it first. After that, if too much for
//!    one turn would be left, `waits_for_leftovers` does 5 now, and the client comes to `register_when_possible` again when `shard::leftovers`
//!    has seen to that; what it needs to be let in then is kept for it (`handshake::ReplacedSession`).
//! 4. `shard::sessions`: `register` calls `on_register`, then 5, through `end_previous`, if there is something to end still, and makes a
//!    session if none is left; then 6, `on_client_wakeup`, CONNACK, and 7.
//! 5. `shard::ending`: `end_connection` sends the old client DISCONNECT with Session taken over (MQTT 5), and closes its connection;
//!    `connection_ended` drops queued QoS 0, publishes the will, unless it is delayed or suppressed, and calls `on_client_offline` for a session that is kept,
//!    `on_topic_unsubscribed` and `on_client_gone` for one that is not. With Clean Start, `end_session` ends what was kept:
//!    `on_topic_unsubscribed`, `on_session_expired`, and the will if it was delayed. Of sessions that leave a lot, `shard::leftovers` tells
//!    the end, and publishes the will, when all of that is dropped.
//! 6. `shard::connected`: `attach` joins connection and session, with what was agreed on in the handshake. A
//!    will that was delayed is forgotten.
//! 7. `shard::sending`: `send_waiting` sends again what was in flight, then what was queued, as far as window, outbox and turn allow.
//! 8. `shard::door`: `next_output` gives the runtime the outbox of the new connection to send, unless hooks that were told of something are
//!    not done, and the old connection to close.

mod agenda;
mod arriving;
mod balance;
mod buffered;
mod clients;
mod committing;
mod connected;
mod connecting;
mod counters;
mod counting;
mod cutting;
mod delivering;
mod door;
mod draining;
mod due;
mod due_wills;
mod ending;
mod holding;
mod hooks;
mod input;
mod last_bytes;
mod leftovers;
mod load;
mod load_average;
mod machine;
mod members;
mod memberships;
mod message;
mod migrating;
mod offering;
mod output;
mod packets;
mod page_answers;
mod paging;
mod passing_over;
mod portions;
mod program;
mod publications;
mod pubsub;
mod recording;
mod registering;
mod remnants;
mod replaying;
mod report;
mod requests;
mod restoring;
mod rewriting;
mod sending;
mod serving;
mod sessions;
mod stalled;
mod standings;
mod statistics;
mod stop;
mod stopping;
mod store_report;
mod subscriptions;
mod sys;
mod takeovers;
#[cfg(test)]
mod testing;
mod tick;
mod timers;
mod turn;
mod unaccepted;
mod weight;
mod wills;

pub use balance::{BalanceLimits, Balancer, SlotMove, plan};
pub use clients::Setup;
pub use counters::{Counted, Counters};
pub use input::{Admission, ArrivedConnection, Input, Transfer};
pub use load::{Load, ShardLoad, SlotLoad};
pub use machine::Shard;
pub use message::{Hold, ShardMessage, Share, SlotsMoved};
pub use output::Output;
pub use program::Request;
#[doc(hidden)]
pub use report::bound_that_is_exceeded;
pub use report::{Report, ResourceCounts, SlotReport};
#[doc(hidden)]
pub use standings::{Standing, standings};
pub use statistics::MemoryGauge;
pub use store_report::{CutNews, StoreReport};
pub use turn::{TurnLimits, TurnState};

pub use crate::handshake::AcceptedConnect;
pub use crate::migration::{SlotMigration, SlotsMoving};
