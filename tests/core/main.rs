//! The core without sockets: shards driven through their door, on one shard and on several.

mod client;
mod messaging;
mod world;
