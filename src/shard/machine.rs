//! The shard: what it is made of.

use super::agenda::{Agenda, Deadline, SWEEP};
use super::clients::{Clients, Setup};
use super::pubsub::PubSub;
use super::takeovers::Takeovers;
use crate::handshake::Handshake;
use crate::hooks::Chain;
use crate::migration::Migration;
use crate::random::Random;
use crate::sharding::MAX_SHARDS;
use crate::time::Time;

/// One shard. `C` is the chain of hooks.
pub struct Shard<C: Chain> {
    pub(super) pubsub: PubSub<C>,
    pub(super) handshake: Handshake,
    pub(super) migration: Migration,
    pub(super) takeovers: Takeovers,
    /// Sessions that were on disk, by their places, and whether their clients were connected when the last broker ended.
    pub(super) restored: Vec<(u32, bool)>,
}

impl<C: Chain> Shard<C> {
    /// A shard without clients.
    ///
    /// # Panics
    ///
    /// If there is no such shard, or there are more than [`MAX_SHARDS`].
    pub fn new(setup: Setup, chain: C, now: Time) -> Self {
        let Setup { id, shards, seed, ref config, .. } = setup;
        assert!(id < shards && shards <= MAX_SHARDS, "shard {id} of {shards}");
        let mut random = Random::from_seed(seed ^ (id as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut agenda = Agenda::new(id, shards, setup.turn, now);
        if !config.sys.interval.is_zero() {
            agenda.arm(now + config.sys.interval, Deadline::Sys);
        }
        agenda.arm(now + SWEEP, Deadline::Sweep);
        let handshake = Handshake::new(config.clone(), Random::from_seed(random.u64()));
        let clients = Clients::new(setup, chain, agenda);
        Shard {
            pubsub: PubSub::new(clients, random),
            handshake,
            migration: Migration::new(id, shards, seed),
            takeovers: Takeovers::default(),
            restored: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
