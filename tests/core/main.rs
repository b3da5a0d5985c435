//! The core without sockets: shards driven through their door, on one shard and on several.

mod client;
mod connack;
mod connecting;
mod heard;
mod messaging;
mod migrating;
mod passing_on;
mod publishing;
mod queues;
mod retained;
mod script;
mod sessions;
mod shared;
mod subscribing;
mod wills;
mod world;
