//! The core without sockets: shards driven through their door, on one shard and on several.

mod client;
mod connecting;
mod heard;
mod messaging;
mod world;
