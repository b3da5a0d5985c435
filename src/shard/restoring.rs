//! Sessions and retained messages that were on disk when the broker started. Nobody is connected before all of them are here.

use super::machine::Shard;
use super::rewriting::rewrite_some;
use super::subscriptions::News;
use crate::client::EndReason;
use crate::hooks::{Chain, StoredStates};
use crate::message::Message;
use crate::records::{StoredSession, WallClock};
use crate::session::Session;

impl<C: Chain> Shard<C> {
    /// Takes in a session of this shard that was on disk, whose client is away, at the time that `clock` makes of the calendar's.
    /// [`Input::Restored`](super::Input::Restored) has to follow when all shards have theirs.
    pub fn restore(&mut self, mut stored: StoredSession, clock: WallClock) {
        let slot = self.migration.slots.slot(&stored.client.subscriber);
        let pubsub = &mut self.pubsub;
        let clients = &mut pubsub.clients;
        let was_online = stored.offline.is_none();
        let hook_state = stored.hook_state.take().unwrap_or_default();
        let mut session: Session<C::State> = stored.into_session(slot, clients.agenda.number(), clock);
        if clients.chain.stores_state() {
            let mut states = StoredStates::read(&hook_state);
            clients.chain.restore_state(&mut states, &mut session.state);
            clients.statistics.counters.hook_states_restored += u64::from(states.restored);
            clients.statistics.counters.hook_states_anew += u64::from(states.anew);
        }
        clients.agenda.skip_numbers(session.client.session_number.saturating_add(1));
        clients.setup.quotas.sessions.take_anyway(clients.setup.id);
        let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
        let subscriptions = session.subscriptions.all().entries;
        let index = clients.sessions.insert(session);
        clients.statistics.counters.subscriptions += subscriptions.len() as u64;
        let mut news = News::default();
        for (filter, subscription) in subscriptions {
            pubsub.add_subscription(mountpoint, &filter, index, subscription, false, &mut news);
        }
        if news.is_any {
            pubsub.announce(mountpoint, news.filters, None);
        }
        if !was_online {
            pubsub.clients.sessions.went_offline(index);
        }
        self.restored.push((index, was_online));
    }

    /// Retains a message that was on disk, if this shard owns its topic.
    pub fn restore_retained(&mut self, mountpoint: &str, message: &Message) {
        let pubsub = &mut self.pubsub;
        let (own, publication) = (pubsub.clients.setup.id, message.publication());
        if pubsub.retained.owner(mountpoint, publication.topic) != own {
            return;
        }
        pubsub.retained.send(mountpoint, &publication);
        let mountpoint = pubsub.routing.mountpoint(&mountpoint.into());
        let limits = &pubsub.clients.setup.config.retained;
        pubsub.retained.apply(own, mountpoint, message.clone(), limits);
    }

    /// Whether the other shards know what restored sessions have subscribed to, and what this one had to record first is on disk: what does not count
    /// any more must not come back, whatever is decided from now on.
    pub fn is_restored(&self) -> bool {
        let is_settled = self.pubsub.clients.persistence.as_ref().is_none_or(|persistence| persistence.is_settled());
        is_settled && self.pubsub.subscribing.announcements.are_complete()
    }
}

/// All shards have their sessions: those whose clients were connected are offline from here on, for the broker has died.
pub(super) fn end_crashed<C: Chain>(shard: &mut Shard<C>) {
    if let Some(persistence) = &mut shard.pubsub.clients.persistence {
        persistence.is_renewed();
        persistence.crashed.clear();
    }
    for (index, was_online) in std::mem::take(&mut shard.restored) {
        let clients = &mut shard.pubsub.clients;
        if let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get(index)) {
            persistence.was_there(session);
        }
        if !was_online {
            // Its will may be due, which others are to have who are known only now.
            shard.pubsub.clients.arm_session(index);
            continue;
        }
        shard.pubsub.clients.statistics.counters.connected += 1;
        shard.pubsub.connection_ended(index, EndReason::ServerCrash, "");
    }
    rewrite_some(&mut shard.pubsub);
}
