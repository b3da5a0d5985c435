//! moormq: an MQTT 3.1, 3.1.1 and 5.0 broker for one Linux machine.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod client;
pub mod net;
pub mod time;
