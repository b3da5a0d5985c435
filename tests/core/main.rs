//! The core without sockets: shards driven through their door, on one shard and on several.

mod answers;
mod bytes_in;
mod client;
mod connack;
mod connecting;
mod deadlines;
mod enhanced_auth;
mod heard;
mod hook_counts;
mod lifecycle;
mod messaging;
mod migrating;
mod modifiers;
mod notices;
mod passing_on;
mod program;
mod publishing;
mod queues;
mod retained;
mod script;
mod sessions;
mod shared;
mod subscribing;
mod terms;
mod wills;
mod world;
