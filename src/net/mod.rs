//! Sockets, clocks and threads: everything below is driven from here.
//!
//! A shard's sockets live on an `io_uring` of their own ([`ring`], [`sockets`]), driven by one task of a glommio
//! executor ([`worker`]); shards talk through a [`mesh`] of queues.

pub mod clock;
mod hook_tasks;
pub mod listeners;
pub mod mesh;
pub mod output;
mod parting;
pub mod probe;
mod reading;
pub mod ring;
mod ring_buffers;
mod ring_sends;
mod ring_tag;
pub mod ring_wakeup;
mod socket;
pub mod sockets;
pub mod thread;
pub mod worker;
