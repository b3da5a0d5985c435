//! Sessions that come from another shard, from their announcement until they are served.
//!
//! Few subscriptions are added at once, many in portions: the next one is asked for when every other shard has taken in the one before. When
//! a session has come, few messages that were buffered for it are delivered at once, many in portions. Until the last one is, messages for
//! it are buffered behind those that are left, its client is not served, and whoever needs the session waits as if it were still to come:
//! so for all of them it is as if all were delivered at once, only later.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::watch_if_shared;
use super::input::{ArrivedConnection, Transfer};
use super::leftovers;
use super::machine::Shard;
use super::message::{Hold, ShardMessage};
use super::pubsub::PubSub;
use super::remnants::{Abandoned, Coming};
use super::replaying::Replaying;
use super::subscriptions::News;
use super::turn;
use crate::client::{ConnectionId, DropReason, EndReason};
use crate::codec::ReasonCode;
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::migration::{SessionAnnouncement, TakenIn};
use crate::routing::Turn;
use crate::session::{Arriving, Buffered, MigrationState, SubscriptionPortion};

/// Messages of an abandoned session that nobody else gets, and are looked at in a unit of work.
const LOOKS: u32 = 8;

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
pub(super) fn taken_in<C: Chain>(pubsub: &mut PubSub<C>, portion: TakenIn) {
    let TakenIn { from, token, rest } = portion;
    let message = match rest {
        Some(begin) => ShardMessage::AskSubscriptions { token, begin },
        None => ShardMessage::Flushed { token, sequence: pubsub.routing.sequence() },
    };
    pubsub.clients.agenda.post(from, message);
}

/// A session has come: with its connection, unless it has none or that broke.
pub(super) fn transferred<C: Chain>(
    shard: &mut Shard<C>,
    arrived: Option<ArrivedConnection<'_>>,
    transfer: Transfer<C::State>,
) {
    let Transfer { from, token, mut session, connection, delivered_up_to, replay } = transfer;
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
    if was_online != announced_online {
        pubsub.set_members_online(index, was_online);
    }
    let connection = arrived.map(|arrived| arrived.connection);
    let coming = Coming { session: index, was_online, connection, replay };
    if leftovers::is_much(&pubsub.clients, waiting) {
        if let Some(id) = connection {
            pubsub.clients.connections.pause(id, PauseReason::Migration);
        }
        pubsub.clients.agenda.remnants.coming.push_back(coming);
    } else {
        deliver_all(pubsub, coming);
    }
}

/// Goes on with what is buffered for sessions that have come, and with what was for such as did not, as far as it fits into the share.
pub(super) fn go_on<C: Chain>(pubsub: &mut PubSub<C>) {
    let is_share_over = |clients: &Clients<C>| clients.agenda.turn.is_share_over();
    while !is_share_over(&pubsub.clients)
        && let Some(coming) = pubsub.clients.agenda.remnants.coming.pop_front()
    {
        match deliver(&mut pubsub.clients, coming.session, is_share_over) {
            Some(delivered) => has_come(pubsub, coming, delivered),
            None => pubsub.clients.agenda.remnants.coming.push_back(coming),
        }
    }
    while !is_share_over(&pubsub.clients)
        && let Some(mut abandoned) = pubsub.clients.agenda.remnants.abandoned.pop_front()
    {
        if !pass_on(pubsub, &mut abandoned, is_share_over) {
            pubsub.clients.agenda.remnants.abandoned.push_back(abandoned);
        }
    }
}

/// Sees to all of that at once: the broker stops.
pub(super) fn finish_all<C: Chain>(pubsub: &mut PubSub<C>) {
    while let Some(coming) = pubsub.clients.agenda.remnants.coming.pop_front() {
        deliver_all(pubsub, coming);
    }
    while let Some(mut abandoned) = pubsub.clients.agenda.remnants.abandoned.pop_front() {
        pass_on(pubsub, &mut abandoned, |_| false);
    }
}

fn deliver_all<C: Chain>(pubsub: &mut PubSub<C>, coming: Coming) {
    if let Some(delivered) = deliver(&mut pubsub.clients, coming.session, |_| false) {
        has_come(pubsub, coming, delivered);
    }
}

/// Delivers what was buffered for a session that has come, and was not delivered where it was before, until `is_enough`. If that was all, gives
/// back what else waited for that.
fn deliver<C: Chain>(
    clients: &mut Clients<C>,
    index: u32,
    is_enough: impl Fn(&Clients<C>) -> bool,
) -> Option<Arriving> {
    let mut arriving = match clients.sessions.get_mut(index) {
        Some(session) => MigrationState::begin_delivery(&mut session.migration),
        None => Arriving::default(),
    };
    while !is_enough(clients) {
        let Some(buffered) = arriving.pop() else { return Some(arriving) };
        clients.deliver_buffered(index, buffered);
    }
    if let Some(session) = clients.sessions.get_mut(index) {
        MigrationState::pause_delivery(&mut session.migration, arriving);
    }
    None
}

/// All that was buffered for a session is delivered: it is as here as any other.
fn has_come<C: Chain>(pubsub: &mut PubSub<C>, coming: Coming, delivered: Arriving) {
    let Coming { session: index, was_online, connection, replay } = coming;
    for Buffered { id, delivery } in delivered.dropped {
        let state = pubsub.clients.sessions.get(index).and_then(|session| session.migration.as_ref());
        if state.is_none_or(|state| state.is_new(id, delivery.group.is_some())) {
            pubsub.clients.report_dropped(index, &delivery, DropReason::QueueFull);
        }
    }
    delivered.publishers.into_iter().for_each(|one| pubsub.clients.release_publisher(one, Hold::WithoutEnd));
    let Some(session) = pubsub.clients.sessions.get(index) else { return };
    let subscriber = session.client.subscriber.clone();
    if let Some(replay) = replay {
        pubsub.retained.reader_arrived(index, replay, connection.is_some() && was_online);
        Replaying::of(pubsub).soon();
    }
    // Perhaps all of its output left on the way: there is no other occasion for what waited behind that.
    pubsub.clients.send_waiting(index);
    watch_if_shared(&mut pubsub.clients, index);
    if was_online && connection.is_none() {
        pubsub.connection_ended(index, EndReason::ConnectionLost, "");
    } else if !was_online {
        // What was buffered for a member that was still online when it was announced.
        leftovers::give_to_others(pubsub, index);
        if pubsub.clients.agenda.is_stopping() {
            pubsub.publish_will_of(index);
        }
        pubsub.clients.sessions.went_offline(index);
        pubsub.clients.arm_session(index);
    }
    if let Some(id) = connection {
        serve(pubsub, index, id);
    }
    pubsub.clients.agenda.follow_up(FollowUp::SessionCame(subscriber));
}

/// The client of a session that has come is served, unless the broker stops.
fn serve<C: Chain>(pubsub: &mut PubSub<C>, index: u32, id: ConnectionId) {
    if let Some(connection) = pubsub.clients.connections.get_mut(id) {
        connection.pauses.remove(PauseReason::Migration);
    }
    pubsub.clients.arm_connected(id);
    if pubsub.clients.agenda.stop.is_closing() {
        pubsub.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
    } else if pubsub.clients.agenda.is_stopping() {
        pubsub.publish_last_will(index);
    }
    pubsub.clients.agenda.follow_up(FollowUp::Serve(id));
}

/// A session that was to come has ended where it was. Who waits for it is served when the old owner says that nothing of it is left there: its
/// hooks may not be done yet. Messages that it would have got as a member of a shared subscription go to others.
pub(super) fn abandoned<C: Chain>(shard: &mut Shard<C>, from: usize, token: u64) {
    let Some(index) = shard.migration.incoming.abandoned(from, token) else { return };
    let pubsub = &mut shard.pubsub;
    let Some(session) = pubsub.clients.sessions.get_mut(index) else { return };
    let Arriving { buffered, publishers, .. } =
        session.migration.take().map(MigrationState::into_arriving).unwrap_or_default();
    let turn = Turn::new(session.settings.shared_policy, session.slot);
    let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
    publishers.into_iter().for_each(|one| pubsub.clients.release_publisher(one, Hold::WithoutEnd));
    let Some(remnant) = pubsub.begin_to_clear_up(index) else { return };
    let Some(session) = pubsub.clients.sessions.remove(index) else { return };
    pubsub.clear_up(remnant);
    let mut abandoned = Abandoned { mountpoint, turn, buffered };
    if leftovers::is_much(&pubsub.clients, abandoned.buffered.len()) {
        pubsub.clients.agenda.remnants.abandoned.push_back(abandoned);
    } else {
        pass_on(pubsub, &mut abandoned, |_| false);
    }
    shard.session_left(session.slot, None);
}

/// Passes messages of shared subscriptions on to other members, until `is_enough`. Whether those were all.
fn pass_on<C: Chain>(
    pubsub: &mut PubSub<C>,
    abandoned: &mut Abandoned,
    is_enough: impl Fn(&Clients<C>) -> bool,
) -> bool {
    let Abandoned { mountpoint, turn, buffered } = abandoned;
    let mut others = 0;
    while !is_enough(&pubsub.clients) {
        let Some(Buffered { delivery, .. }) = buffered.pop_front() else { return true };
        if let Some(group) = delivery.group {
            pubsub.clients.agenda.turn.did(turn::LEFTOVER);
            pubsub.offer_to_group(*mountpoint, &group, &delivery.message, *turn, None);
        } else {
            others += 1;
            pubsub.clients.agenda.turn.did(u32::from(others % LOOKS == 0));
        }
    }
    false
}
