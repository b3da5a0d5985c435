//! Sockets, clocks and threads: everything below is driven from here.
//!
//! A shard's sockets live on an `io_uring` of their own, driven by one task of a glommio executor; shards talk through a mesh
//! of queues. What lies above `ring` is safe code.
//!
//! | file | what |
//! |---|---|
//! | `thread`, `worker`, `hook_tasks` | a shard's thread, the loop on it, and the futures of hooks that answer later |
//! | `mesh`, `errand`, `doorbell`, `bell` | mail between shards, requests from other threads, and what wakes a sleeper |
//! | `sockets`, `socket`, `listeners`, `reading`, `parting` | connections: accepted, read, written, closed, handed over |
//! | `output` | what one connection is to send |
//! | `ring` and `ring_*` | `io_uring`, its memory and its eventfds: all the `unsafe` there is |
//! | `probe` | what this machine lacks, said at start |
//! | `descriptors` | how many files this process may have open |
//! | `clock` | the one clock |

mod bell;
pub mod clock;
pub mod descriptors;
pub mod doorbell;
pub mod errand;
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
