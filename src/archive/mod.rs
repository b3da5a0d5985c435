//! The archive: what a store keeps beside its journals, by key. No I/O: the file is in `storage::archive`.
//!
//! A journal holds little, and for a short time. What is to stay, and need not be in memory, goes to the archive: sessions, subscriptions, retained
//! messages, and *pages*, which are runs of messages that wait for a session. All shards share one archive, so it does not matter to it which of them
//! owns what.
//!
//! It owns the form of keys, and the rules by which changes are taken, refused and told as persisted. It never knows what is in a value.
//!
//! | file | what |
//! |---|---|
//! | `key` | [`ArchiveKey`]: what a value belongs to, as bytes that are in order |
//! | `span` | [`Span`]: keys that are next to one another, such as all of a session |
//! | `batch` | [`Batch`]: what a shard wants to be changed |
//! | `contract` | [`Archive`]: the calls of an archive, and what they guarantee |
//! | `error` | [`ArchiveError`]: what went wrong |
//! | `in_memory` | [`MemoryArchive`]: one for simulators, that forgets, fails and fills |
//! | `order` | [`Order`] and [`Answer`]: what passes between a shard and the desk |
//! | `desk` | [`Desk`]: takes what shards want, in which order it is done, and what they are answered |
//! | `orders` | [`Orders`]: what one shard has asked for, and is not answered yet |
//!
//! # How it is used
//!
//! 1. At a start, before there is a desk, [`Archive::scan`] gives what is there.
//! 2. A shard gives [batches](Orders::write) and [reads](Orders::read) to its [`Orders`], which say no if too much is under way, and sends what it gets
//!    to the [`Desk`].
//! 3. The desk does a piece at a time, reads first, and answers with an [`Answer`], which the shard hands to [`Orders::answered`].
//! 4. What [`Answer::Persisted`] tells survives a loss of power: the journal may forget it.
//!
//! # Sizes
//!
//! A value of up to 1000 bytes shares blocks of 4 KiB with its neighbours. A larger one has a power of two of bytes for itself, key and some bytes
//! of bookkeeping included: one of 33,000 bytes takes 64 KiB. So pages should be a little shorter than a power of two: [`PAGE_BYTES`].
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | batches of a shard that are not persisted | [`Limits::bytes`] and [`Limits::batches`] |
//! | reads of a shard that are not answered | [`Limits::reads`] |
//! | work between two reads | [`STEP_BYTES`] of values, or [`STEP_KEYS`] keys, or one persist |
//! | changes of one persist | [`GATHERED_BYTES`] of values, one step more |

mod batch;
mod contract;
mod desk;
mod error;
mod in_memory;
mod key;
mod order;
mod orders;
mod span;
#[cfg(test)]
mod tests;

pub use batch::{Batch, Change};
pub use contract::{Archive, Found};
pub use desk::{Desk, GATHERED_BYTES, STEP_BYTES, STEP_KEYS};
pub use error::{ArchiveError, Trouble};
pub use in_memory::{Faults, MemoryArchive};
pub use key::ArchiveKey;
pub use order::{Answer, Order, Read, ReadResult, Ticket, What};
pub use orders::{Limits, Orders, Refused};
pub use span::Span;

/// The length of a page that takes 32 KiB: the best one, since it costs little for each message and wastes nothing.
pub const PAGE_BYTES: usize = 32_700;
