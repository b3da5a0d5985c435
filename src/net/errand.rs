//! What other threads have a shard do: the embedding program, and what serves operators.
//!
//! Errands wait in the shard's inbox, which is bounded, and are run in order. None of them makes the shard wait.

use std::sync::Arc;

use crossbeam::channel::Sender;

use crate::hooks::HookReport;
use crate::message::Message;
use crate::shard::{Report, Request, SlotsMoving};

/// What other threads ask of a shard.
pub enum Errand {
    /// Accept no more connections, end those that are there, and then the thread.
    Stop,
    /// Something for the core.
    Request(Request),
    /// How is the shard doing? The answer is dropped if there is no room for it in `answer`.
    Report {
        /// Where to say so.
        answer: Sender<Report>,
    },
    /// Move those of these slots that are the shard's own. The answer is dropped as that to a report is.
    MoveSlots {
        /// Which.
        slots: Arc<[u16]>,
        /// To which shard.
        to: usize,
        /// Where to say what became of it.
        answer: Sender<SlotsMoving>,
    },
    /// What was counted of the hooks? The answer is dropped if there is no room for it in `answer`.
    Hooks {
        /// Where to say so.
        answer: Sender<Vec<HookReport>>,
    },
    /// Messages of the embedding program's subscription `subscription` go to `sink` from here on.
    Open {
        /// The number of the subscription.
        subscription: u64,
        /// What takes them.
        sink: Sink,
    },
    /// Nobody takes the messages of this subscription any more.
    Close {
        /// The number of the subscription.
        subscription: u64,
    },
}

/// What a subscription of the embedding program is told. It must not block.
pub type Sink = Box<dyn FnMut(Told) + Send>;

/// Something that a [`Sink`] is told.
pub enum Told {
    /// Nothing is missed from here on.
    Subscribed,
    /// A message.
    Message(Message),
}
