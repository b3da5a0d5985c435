//! Publications and subscriptions of the clients of a shard.
//!
//! The middle one of the three layers of a shard. It knows who gets what, here and on other shards, and what the end of a connection or
//! session means for that; CONNECT and sessions that move are above.

use super::clients::Clients;
use crate::hooks::Chain;
use crate::publishing::DueWills;
use crate::random::Random;
use crate::retained::Retained;
use crate::routing::{Origin, Routing};
use crate::sharding::hasher;
use crate::subscribing::Subscribing;

/// Publications and subscriptions on one shard.
pub struct PubSub<C: Chain> {
    pub(super) clients: Clients<C>,
    pub(super) routing: Routing,
    pub(super) retained: Retained,
    pub(super) subscribing: Subscribing,
    pub(super) wills: DueWills,
}

impl<C: Chain> PubSub<C> {
    /// Nobody subscribes. `random` chooses members of shared subscriptions.
    pub(super) fn new(clients: Clients<C>, random: Random) -> Self {
        let (id, shards, seed) = (clients.setup.id, clients.setup.shards, clients.setup.seed);
        let (quotas, config) = (clients.setup.quotas.clone(), &clients.setup.config.retained);
        let retained = Retained::new((id, shards), hasher(seed), quotas, config);
        PubSub {
            routing: Routing::new(id, shards, seed, random),
            retained,
            subscribing: Subscribing::new(shards),
            // With what goes in the turn that comes before it is known to be full, a queue has as much as it may.
            wills: DueWills::new(clients.setup.config.runtime.mailbox_bytes / 2),
            clients,
        }
    }

    /// Where what no client publishes comes from, as far as routing cares.
    pub(super) fn own_origin(&self) -> Origin {
        Origin { session: None, publisher: 0, policy: self.clients.setup.config.shared.policy }
    }
}

#[cfg(test)]
mod tests;
