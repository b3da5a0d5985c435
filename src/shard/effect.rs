//! What a shard asks of the runtime around it.

use crate::client::ConnectionId;
use crate::connection::Output;
use crate::hooks::HookFuture;
use crate::message::Message;
use crate::shard::{Arrival, Transfer};

/// Something the runtime is to do. `S` is what the hooks keep with a session.
pub enum Effect<S> {
    /// The connection belongs here for good: read from it as long as it lives.
    ReadContinuously(ConnectionId),
    /// Read no more from the connection for now. What was read already may still be handed in.
    Pause(ConnectionId),
    /// Read from the connection again.
    Resume(ConnectionId),
    /// Send what is under way and then `last`, and close the connection. The shard knows it no more.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Its listener, which has one connection less now.
        listener: usize,
        /// The end of its output.
        last: Option<Output>,
    },
    /// Hand the connection over to the shard that owns its client. This shard knows it no more.
    HandOff {
        /// The connection.
        connection: ConnectionId,
        /// The shard.
        to: usize,
        /// What that shard needs to know.
        arrival: Box<Arrival<S>>,
    },
    /// Send a session to the shard that owns its slot now, with its connection if it has one; then it is handed in there
    /// with [`Shard::transferred`](super::Shard::transferred). If the connection breaks on the way, it goes without.
    Transfer {
        /// The connection.
        connection: Option<ConnectionId>,
        /// The shard.
        to: usize,
        /// The session.
        transfer: Box<Transfer<S>>,
    },
    /// Run a hook's answer to its end, and say what came of it with [`Shard::hook_answered`](super::Shard::hook_answered).
    RunHook {
        /// The number to say it with.
        task: u64,
        /// The answer.
        future: HookFuture,
    },
    /// Nobody waits for this answer any more: drop it.
    CancelHook {
        /// Its number.
        task: u64,
    },
    /// A message for a subscription of the embedding program.
    Deliver {
        /// The number that the program gave the subscription.
        subscription: u64,
        /// The message.
        message: Message,
    },
    /// All shards have taken in a subscription of the embedding program: nothing is missed from here on.
    Subscribed {
        /// Its number.
        subscription: u64,
    },
    /// After [`Shard::stop`](super::Shard::stop), once: all connections are closed, all hooks were called, and the tasks
    /// that notifications left are done.
    Stopped,
}
