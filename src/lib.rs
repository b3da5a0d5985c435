//! moormq: an MQTT 3.1, 3.1.1 and 5.0 broker for one Linux machine.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod client;
pub mod codec;
pub mod config;
pub mod connection;
pub mod deadlines;
pub mod hooks;
pub mod message;
pub mod net;
pub mod random;
pub mod session;
pub mod shard;
pub mod time;
pub mod topic;
