//! What is kept on disk: what waits for that, what is there after a crash, and what must not come back.

mod classes;
mod crash;
mod gone;
mod homes;
mod hook_state;
mod moving_pages;
mod pages;
mod room;
mod shared;
mod waiting;

use std::time::Duration;

use moormq::codec::{Packet, ProtocolVersion, QoS};
use moormq::hooks::{Chain, NoHooks};

use crate::client::{Client, ConnectOptions, V5};
use crate::received::ReceivedPublish;
use crate::stores::{Last, stored_world};
use crate::world::{World, open_config};

/// Stored worlds of one, two and four shards without hooks.
fn worlds() -> impl Iterator<Item = World<NoHooks>> {
    [1, 2, 4].into_iter().map(|shards| stored_world(shards, open_config(), || NoHooks))
}

/// The last shard.
fn last<C: Chain>(world: &World<C>) -> usize {
    world.shards.len() - 1
}

/// The broker is killed, and starts again at once.
fn killed(world: World<NoHooks>) -> World<NoHooks> {
    let shards = world.shards.len();
    world.restarted((Last::Lost, Duration::ZERO), shards, open_config(), || NoHooks)
}

/// A client with a session that is kept, owned by `shard`. Whether the session was there.
fn kept<C: Chain>(world: &mut World<C>, shard: usize, name: &str) -> Client {
    Client::on(world, shard, name, ConnectOptions::kept(V5))
}

/// A client with a session that ends with its connection, owned by the first shard.
fn passing<C: Chain>(world: &mut World<C>) -> Client {
    Client::on(world, 0, "passing", ConnectOptions::clean(V5))
}

/// Several packets in one piece.
fn piece(version: ProtocolVersion, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
    bytes
}

/// Payload, QoS, packet id and DUP of publishes.
fn seen(received: &[ReceivedPublish]) -> Vec<(&str, QoS, Option<u16>, bool)> {
    received.iter().map(|one| (one.text(), one.qos, one.id, one.dup)).collect()
}
