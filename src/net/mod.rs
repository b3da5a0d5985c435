//! The runtime of the shards: threads, sockets, the mesh between shards, and the clock.
//!
//! Each shard has a thread with an `io_uring` for its sockets, driven by one task of a glommio executor. Shards
//! exchange messages through a mesh of queues. Only `ring` and the files `ring_*` contain unsafe code.
//!
//! Three words of this module are not common ones. A *mesh* is the set of queues between each pair of shards. A
//! *doorbell* wakes a sleeping shard; ringing it costs a system call only then. A *bell* is an eventfd that a task of
//! the executor waits for.
//!
//! | file | what |
//! |---|---|
//! | `thread`, `worker`, `hook_tasks` | a shard's thread, its event loop, and the futures of hooks that answer later |
//! | `mesh`, `command`, `doorbell`, `bell` | messages between shards, commands of other threads, and wake-ups |
//! | `sockets`, `socket`, `listeners`, `reading`, `closing` | connections: accepting, reading, writing, closing, handing over |
//! | `places` | how many connections there may be, on all shards together |
//! | `output` | the bytes and payloads that a connection sends next |
//! | `ring` and `ring_*` | `io_uring`, its memory and its eventfds: all of the unsafe code |
//! | `probe` | the check, at start, that this machine can run a broker |
//! | `descriptors` | the limit on open files, and memory for them |
//! | `clock`, `memory` | the clock of the broker, the memory of the process |

mod bell;
pub mod clock;
mod closing;
pub mod command;
mod costs;
pub mod descriptors;
pub mod doorbell;
mod hook_tasks;
pub mod listeners;
pub mod memory;
pub mod mesh;
pub mod opening;
pub mod output;
pub mod places;
pub mod port_holder;
pub mod probe;
mod reading;
mod requests;
pub mod ring;
mod ring_buffers;
mod ring_files;
mod ring_sends;
mod ring_tag;
pub mod ring_wakeup;
mod send_pace;
mod socket;
pub mod sockets;
pub mod thread;
pub mod worker;
