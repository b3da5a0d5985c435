//! What a shard wants of the runtime around it: the other way of its door.

use super::input::Transfer;
use super::message::ShardMessage;
use super::store_report::{CutNews, StoreReport};
use crate::archive::Order;
use crate::client::{ConnectionId, SessionFound};
use crate::connection::SendBuffer;
use crate::handshake::AcceptedConnect;
use crate::hooks::HookFuture;
use crate::journal::Effect;
use crate::message::Message;
use crate::migration::SlotsMoving;

/// Something the runtime is to do, in the order in which they are taken. `S` is what the hooks keep with a session.
pub enum Output<S> {
    /// Send this to the client, and say with [`Input::Sent`](super::Input::Sent) when all of it has left. There is nothing else to send
    /// for the connection before that.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// What is sent.
        buffer: SendBuffer,
    },
    /// The connection belongs here for good: read from it as long as it lives.
    ReadContinuously(ConnectionId),
    /// Read no more from the connection for now. What was read already may still be handed in.
    Pause(ConnectionId),
    /// Read from the connection again.
    Resume(ConnectionId),
    /// Hand in what the kernel has of this connection now, whether it is paused or not, and say so with
    /// [`Input::Drained`](super::Input::Drained): one read at most, and without waiting.
    Drain(ConnectionId),
    /// Send what is under way and then `last`, and close the connection. The shard knows it no more.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Its listener, which has one connection less now. None if there was no place for it: see [`Admission`](super::Admission).
        listener: Option<usize>,
        /// The end of its output.
        last: Option<SendBuffer>,
    },
    /// Hand the connection over to the shard that owns its client, see [`Input::HandedOff`](super::Input::HandedOff). This shard knows it no
    /// more.
    HandOff {
        /// The connection.
        connection: ConnectionId,
        /// The shard.
        to: usize,
        /// What that shard needs to know.
        accepted: Box<AcceptedConnect<S>>,
    },
    /// Send a session to the shard that owns its slot now, with its connection if it has one; then it is handed in there
    /// with [`Input::Transferred`](super::Input::Transferred). A connection whose client has left goes,
    /// too: what it sent is still to be served.
    Transfer {
        /// The connection.
        connection: Option<ConnectionId>,
        /// The shard.
        to: usize,
        /// The session.
        transfer: Box<Transfer<S>>,
    },
    /// Run a hook's answer to its end, and say what came of it with [`Input::HookAnswered`](super::Input::HookAnswered).
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
    /// The answer to [`Request::MoveSlots`](super::Request::MoveSlots); they are answered in the order in which they were made.
    SlotsMoving(SlotsMoving),
    /// The answer to [`Request::Session`](super::Request::Session).
    SessionAnswer {
        /// The number of the request.
        ticket: u64,
        /// The session as it was when the request came to it; none if there is none.
        found: Option<Box<SessionFound>>,
    },
    /// The answer to each [`Request::CountStored`](super::Request::CountStored) since the last one.
    StoreReport(StoreReport),
    /// To [`Request::Cut`](super::Request::Cut): the number of the copy, and what has become of the cut. It may be told before that was asked for here,
    /// since another shard was asked.
    Cut(u64, CutNews),
    /// Messages for another shard, in order; behind all that it was sent before.
    Messages {
        /// The shard.
        to: usize,
        /// The messages.
        messages: Vec<ShardMessage>,
    },
    /// Do something for the journal of this shard, and say with [`Input::Journal`](super::Input::Journal) what became of it, if it has an
    /// answer.
    Journal(Effect),
    /// Give this to the desk of the archive, and hand its answers in with [`Input::Archive`](super::Input::Archive). No more comes than the
    /// [`Limits`](crate::archive::Limits) of the shard allow.
    Archive(Order),
    /// After [`Input::Stop`](super::Input::Stop), once: all connections are closed, all hooks were called, and the tasks
    /// that notifications left are done.
    Stopped,
}
