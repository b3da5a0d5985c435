//! Sessions that come from another shard, from their announcement until they have come.
//!
//! Few subscriptions are added at once, many in portions: the next one is asked for when every other shard has taken in the one before.

use super::buffered;
use super::input::{ArrivedConnection, Transfer};
use super::machine::Shard;
use super::memberships;
use super::message::{Hold, ShardMessage};
use super::pubsub::PubSub;
use super::remnants::{Abandoned, Coming};
use super::rewriting::adopt;
use super::subscriptions::News;
use crate::hooks::Chain;
use crate::migration::{SessionAnnouncement, TakenIn};
use crate::routing::Turn;
use crate::session::{Arriving, MigrationState, SubscriptionPortion};

/// A session is to come from shard `from`: from now on what is published for it is buffered here, as far as its subscriptions are known.
pub(super) fn comes<C: Chain>(shard: &mut Shard<C>, from: usize, announcement: SessionAnnouncement) {
    let PubSub { clients, .. } = &mut shard.pubsub;
    if clients.agenda.is_stopping() {
        // It stays where it is: nothing leaves before it is expected.
        return;
    }
    let SessionAnnouncement { token, client, settings, online, subscriptions, portion } = announcement;
    let (slot, now) = (shard.migration.slots.slot(&client.subscriber), clients.agenda.now());
    let index = clients.new_session(client, settings, slot, (0, now));
    if let Some(session) = clients.sessions.get_mut(index) {
        session.subscriptions.reserve(subscriptions);
        session.migration = Some(MigrationState::Arriving(Arriving { online, ..Arriving::default() }));
    }
    shard.migration.incoming.expect(from, token, index);
    add(shard, (from, token), index, portion);
}

/// The next portion of the subscriptions of a session that is to come.
pub(super) fn come_on<C: Chain>(shard: &mut Shard<C>, from: usize, token: u64, portion: SubscriptionPortion) {
    if let Some(index) = shard.migration.incoming.place_of(from, token) {
        add(shard, (from, token), index, portion);
    }
}

fn add<C: Chain>(shard: &mut Shard<C>, (from, token): (usize, u64), index: u32, portion: SubscriptionPortion) {
    let pubsub = &mut shard.pubsub;
    let Some(session) = pubsub.clients.sessions.get_mut(index) else { return };
    let SubscriptionPortion { entries, rest } = portion;
    let online = matches!(&session.migration, Some(MigrationState::Arriving(arriving)) if arriving.online);
    entries.iter().for_each(|(filter, subscription)| session.subscriptions.put(filter.clone(), *subscription));
    let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
    pubsub.clients.statistics.counters.subscriptions += entries.len() as u64;
    let mut news = News::default();
    for (filter, subscription) in entries {
        pubsub.add_subscription(mountpoint, &filter, index, subscription, online, &mut news);
    }
    // Known filters or not: the old owner must know that all that was published before has come. All that was before the last portion was
    // known is all that was before any other.
    let flush = rest.is_none().then_some((from, token));
    let announcement = pubsub.announce(mountpoint, news.filters, flush);
    shard.migration.incoming.announced(announcement, TakenIn { from, token, rest });
}

/// All other shards have taken in a portion of the subscriptions of a session that is to come.
pub(super) fn taken_in<C: Chain>(shard: &mut Shard<C>, portion: TakenIn) {
    let TakenIn { from, token, rest } = portion;
    let message = match rest {
        Some(begin) => {
            if let Some(index) = shard.migration.incoming.place_of(from, token) {
                buffered::forget_delivered(&mut shard.pubsub.clients, index);
            }
            ShardMessage::AskSubscriptions { token, begin }
        }
        None => ShardMessage::Flushed { token, sequence: shard.pubsub.routing.sequence() },
    };
    shard.pubsub.clients.agenda.post(from, message);
}

/// A session has come: with its connection, unless it has none or that broke.
pub(super) fn transferred<C: Chain>(
    shard: &mut Shard<C>,
    arrived: Option<ArrivedConnection<'_>>,
    transfer: Transfer<C::State>,
) {
    let Transfer { from, token, mut session, connection, delivered_up_to, replay, .. } = transfer;
    let Some(index) = shard.migration.incoming.arrived(from, token) else { return };
    let pubsub = &mut shard.pubsub;
    let clients = &mut pubsub.clients;
    let Some(place) = clients.sessions.get_mut(index) else { return };
    let arriving = place.migration.take().map(MigrationState::into_arriving).unwrap_or_default();
    let (was_online, announced_online, waiting) = (connection.is_some(), arriving.online, arriving.buffered.len());
    session.connection = arrived.map(|arrived| arrived.connection).filter(|_| was_online);
    session.migration = Some(MigrationState::Arriving(Arriving { delivered_up_to: Some(delivered_up_to), ..arriving }));
    session.instance = place.instance;
    // They have come before it.
    session.subscriptions = place.subscriptions.take();
    clients.agenda.skip_numbers(session.client.session_number + 1);
    *place = *session;
    clients.statistics.counters.connected += u64::from(was_online);
    clients.statistics.counters.sessions_moved += 1;
    if let (Some(arrived), Some(connection)) = (arrived, connection) {
        clients.settle_in(arrived, index, *connection);
    }
    adopt(pubsub, index, (from, token));
    let connection = arrived.map(|arrived| arrived.connection);
    if announced_online != (was_online && connection.is_some()) {
        memberships::follow_client(pubsub, index);
    }
    buffered::begin(pubsub, Coming { session: index, was_online, connection, replay }, waiting);
}

/// A session that was to come has ended where it was. Who waits for it is served when the old owner says that nothing of it is left there: its
/// hooks may not be done yet. Messages that it would have got as a member of a shared subscription go to others.
pub(super) fn abandoned<C: Chain>(shard: &mut Shard<C>, from: usize, token: u64) {
    let Some(index) = shard.migration.incoming.abandoned(from, token) else { return };
    let pubsub = &mut shard.pubsub;
    let Some(session) = pubsub.clients.sessions.get_mut(index) else { return };
    let Arriving { buffered, publishers, .. } =
        session.migration.take().map(MigrationState::into_arriving).unwrap_or_default();
    let turn = Turn::of_moved(session.settings.shared_policy, session.slot);
    let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
    publishers.into_iter().for_each(|one| pubsub.clients.release_publisher(one, Hold::WithoutEnd));
    let Some(remnant) = pubsub.begin_to_clear_up(index) else { return };
    let Some(session) = pubsub.clients.sessions.remove(index) else { return };
    pubsub.clear_up(remnant);
    buffered::give_away(pubsub, Abandoned { mountpoint, turn, buffered });
    shard.session_left(session.slot, None);
}
