//! What was buffered for sessions that come from another shard, when they have come, or have ended there.
//!
//! Few messages are delivered at once, many in portions. Until the last one is, messages for the session are buffered behind those that are
//! left, its client is not served, and whoever needs the session waits as if it were still to come: so for all of them it is as if all were
//! delivered at once, only later.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::watch_if_shared;
use super::leftovers::{self, SeenTo, Until};
use super::message::Hold;
use super::pubsub::PubSub;
use super::remnants::{Abandoned, Coming};
use super::replaying::Replaying;
use super::turn;
use crate::client::{ConnectionId, DropReason, EndReason};
use crate::codec::ReasonCode;
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::session::{Arriving, Buffered, MigrationState};

/// Messages that nobody gets from here, and that are looked at in a unit of work.
const LOOKS: u32 = 8;

/// More subscriptions of a session are to come. What was published before all shards know them is delivered by the old owner, which sends the
/// session later than that: it need not be kept here, and nobody has to wait for it.
pub(super) fn forget_delivered<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let most = clients.setup.config.runtime.mailbox_bytes;
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let Some(MigrationState::Arriving(arriving)) = &mut session.migration else { return };
    clients.agenda.turn.did(arriving.buffered.len() as u32 / LOOKS);
    let released = arriving.forget_delivered(most, &session.settings.queue);
    released.into_iter().for_each(|one| clients.release_publisher(one, Hold::WithoutEnd));
}

/// A session has come, for which so many messages are buffered.
pub(super) fn begin<C: Chain>(pubsub: &mut PubSub<C>, coming: Coming, messages: usize) {
    // If there was no room for its connection, what is dropped for that is told together with the end of the connection.
    let is_broken = coming.was_online && coming.connection.is_none();
    if is_broken || !leftovers::is_much(&pubsub.clients, messages) {
        return deliver_all(pubsub, coming);
    }
    if let Some(id) = coming.connection {
        pubsub.clients.connections.pause(id, PauseReason::Migration);
    }
    pubsub.clients.agenda.remnants.coming.push_back(coming);
}

/// A session has ended before it came.
pub(super) fn give_away<C: Chain>(pubsub: &mut PubSub<C>, mut abandoned: Abandoned) {
    if leftovers::is_much(&pubsub.clients, abandoned.buffered.len())
        || pass_on(pubsub, &mut abandoned, Until::NoRoom) != SeenTo::All
    {
        pubsub.clients.agenda.remnants.abandoned.push_back(abandoned);
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
    while !Until::ShareIsOver.is_over(&pubsub.clients)
        && let Some(mut abandoned) = pubsub.clients.agenda.remnants.abandoned.pop_front()
    {
        match pass_on(pubsub, &mut abandoned, Until::ShareIsOver) {
            SeenTo::All => {}
            SeenTo::Some => pubsub.clients.agenda.remnants.abandoned.push_back(abandoned),
            SeenTo::NoRoom => pubsub.clients.agenda.remnants.without_room.2.push_back(abandoned),
        }
    }
}

/// Sees to all of that at once: the broker stops.
pub(super) fn finish_all<C: Chain>(pubsub: &mut PubSub<C>) {
    while let Some(coming) = pubsub.clients.agenda.remnants.coming.pop_front() {
        deliver_all(pubsub, coming);
    }
    pubsub.clients.agenda.remnants.there_is_room();
    while let Some(mut abandoned) = pubsub.clients.agenda.remnants.abandoned.pop_front() {
        pass_on(pubsub, &mut abandoned, Until::End);
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

/// Passes messages of shared subscriptions on to other members, as far as there is room on the way to them.
fn pass_on<C: Chain>(pubsub: &mut PubSub<C>, abandoned: &mut Abandoned, until: Until) -> SeenTo {
    let Abandoned { mountpoint, turn, buffered } = abandoned;
    let mut others = 0;
    while !until.is_over(&pubsub.clients) {
        let Some(Buffered { id, delivery }) = buffered.pop_front() else { return SeenTo::All };
        let Some(group) = &delivery.group else {
            others += 1;
            pubsub.clients.agenda.turn.did(u32::from(others % LOOKS == 0));
            continue;
        };
        pubsub.clients.agenda.turn.did(turn::LEFTOVER);
        let seen_to = leftovers::offer(pubsub, (*mountpoint, group), &delivery.message, *turn, until);
        if seen_to != SeenTo::All {
            buffered.push_front(Buffered { id, delivery });
            return seen_to;
        }
    }
    SeenTo::Some
}
