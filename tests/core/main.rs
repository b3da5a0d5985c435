//! The core without sockets: shards driven through their door, on one shard and on several.

mod client;
mod connack;
mod connecting;
mod heard;
mod messaging;
mod migrating;
mod publishing;
mod script;
mod world;
