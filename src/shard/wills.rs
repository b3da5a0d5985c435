//! Wills on their way to everybody. Very many may be due at the same moment; those for shards to which the queue is full wait, and all do while
//! as many recipients as may be wait here for messages to very many. So do those behind them, and what else is published to their topics here.
//! Until its will is out a client id counts as one about which hooks are not done: nobody is registered for it, and it does not move. The hooks
//! are told of a will when it is due.

use super::agenda::FollowUp;
use super::due_wills::{are_many_under_way, await_room, release_publishers, wait};
use super::hooks;
use super::publications::{self, PublishContext};
use super::pubsub::PubSub;
use super::recording;
use super::turn::PACKET;
use crate::client::SubscriberId;
use crate::hooks::Chain;
use crate::publishing::{DueWill, tell_will, will_publication};
use crate::routing::Origin;
use crate::session::{MigrationState, Session, Will};
use crate::sharding::ShardSet;
use crate::time::Time;

impl<C: Chain> PubSub<C> {
    /// Publishes the will of a session.
    pub(super) fn publish_will_of(&mut self, index: u32) {
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        session.will_due = Time::NEVER;
        let Some(mut will) = session.will.take() else { return };
        let client = session.client.clone();
        note_published(session);
        let decision = recording::depend_on_will(&mut self.clients.persistence, session, &mut will);
        let due = due(session, Some(index), will.clone());
        route(self, due);
        recording::record_will_gone(self, decision);
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        let notified = tell_will(&mut self.clients.chain, &client, &mut session.state, &will);
        self.clients.notified(index, notified);
    }
}

/// The will of a session, at this place if it is in the table.
fn due<S>(session: &Session<S>, place: Option<u32>, will: Will) -> DueWill {
    DueWill {
        subscriber: Some(session.client.subscriber.clone()),
        connection: None,
        slot: session.slot,
        session: place.map(|index| (index, session.instance)),
        policy: session.settings.shared_policy,
        will,
    }
}

/// Routes the will of a session that has ended, and is not in the table any more.
pub(super) fn publish_of_ended<C: Chain>(pubsub: &mut PubSub<C>, session: &mut Session<C::State>, mut will: Will) {
    let decision = recording::depend_on_will(&mut pubsub.clients.persistence, session, &mut will);
    route(pubsub, due(session, None, will.clone()));
    recording::record_will_gone(pubsub, decision);
    let clients = &mut pubsub.clients;
    let notified = tell_will(&mut clients.chain, &session.client, &mut session.state, &will);
    clients.notified_about(&session.client.subscriber, notified);
}

/// A will of a session that leaves was published: others are to have it before its client publishes elsewhere.
fn note_published<S>(session: &mut Session<S>) {
    if let Some(MigrationState::Leaving { published, .. }) = &mut session.migration {
        *published = true;
    }
}

/// Routes a will that is due, now or when there is room.
fn route<C: Chain>(pubsub: &mut PubSub<C>, due: DueWill) {
    if pubsub.wills.is_empty() && may_go(pubsub, &due) {
        send(pubsub, &due);
    } else {
        wait(pubsub, due);
    }
}

/// Whether a will may go now: there is room on its ways.
fn may_go<C: Chain>(pubsub: &mut PubSub<C>, due: &DueWill) -> bool {
    if pubsub.clients.agenda.is_stopping() {
        return true;
    }
    if are_many_under_way(&pubsub.clients) {
        return false;
    }
    if !pubsub.clients.flow.is_any_congested() && !pubsub.wills.is_turn_over() {
        return true;
    }
    let (shards, is_by_choice) = shards_of(pubsub, due);
    if pubsub.wills.is_turn_over() {
        // Another choice may be one of another shard.
        return shards.is_empty() && !is_by_choice;
    }
    pubsub.clients.flow.congested_among(shards).is_empty()
}

/// The other shards that get a will, and whether others may, as members of shared subscriptions are chosen.
fn shards_of<C: Chain>(pubsub: &mut PubSub<C>, due: &DueWill) -> (ShardSet, bool) {
    let will = &due.will;
    let (mountpoint, publication) = (pubsub.routing.mountpoint(&will.mountpoint), will.message.publication());
    publications::shards_of(pubsub, mountpoint, &publication, origin(place_of(pubsub, due), due))
}

/// The place of the session whose will it is, if that is there still.
fn place_of<C: Chain>(pubsub: &PubSub<C>, due: &DueWill) -> Option<u32> {
    let (index, instance) = due.session?;
    let session = pubsub.clients.sessions.get(index)?;
    (session.instance == instance).then_some(index)
}

/// With No Local a client whose session is still in the table does not get its own will, which belongs to its ClientID like all that it
/// publishes [MQTT-3.8.3-3].
fn origin(session: Option<u32>, due: &DueWill) -> Origin {
    Origin { session, publisher: due.slot, policy: due.policy }
}

fn send<C: Chain>(pubsub: &mut PubSub<C>, due: &DueWill) {
    let mountpoint = pubsub.routing.mountpoint(&due.will.mountpoint);
    let publication = will_publication(&due.will, pubsub.clients.agenda.now());
    let origin = origin(place_of(pubsub, due), due);
    let by = PublishContext { origin, connection: due.connection, more_follows: false };
    pubsub.clients.agenda.turn.did(PACKET);
    let published = pubsub.publish_now(mountpoint, &publication, by);
    pubsub.clients.delivery.fan_outs.note_will();
    if !published.told.is_empty() {
        pubsub.wills.sent(due.will.message.size());
    }
}

/// Another turn begins: wills that wait go on.
pub(super) fn begin_turn<C: Chain>(pubsub: &mut PubSub<C>) {
    pubsub.wills.begin_turn();
    go_on(pubsub);
}

/// There may be room for wills that wait: another turn begins, a queue has room again, or the broker stops, which waits for none. They have what
/// is left of the share.
pub(super) fn go_on<C: Chain>(pubsub: &mut PubSub<C>) {
    pubsub.clients.delivery.fan_outs.keep_no_room();
    while let Some(due) = pubsub.wills.pop() {
        let agenda = &pubsub.clients.agenda;
        if agenda.turn.is_share_over() && !agenda.is_stopping() || !may_go(pubsub, &due) {
            pubsub.wills.put_back(due);
            await_room(pubsub);
            if are_many_under_way(&pubsub.clients) {
                pubsub.clients.delivery.fan_outs.keep_room();
            }
            break;
        }
        send(pubsub, &due);
        if let Some(subscriber) = &due.subscriber {
            is_out(pubsub, due.slot, subscriber);
        }
    }
    for newcomer in pubsub.wills.admitted() {
        pubsub.clients.agenda.follow_up(FollowUp::Register(newcomer));
    }
    if !pubsub.wills.is_full() {
        release_publishers(&mut pubsub.clients);
    }
}

/// A will that waited is out: whoever waited for that goes on.
fn is_out<C: Chain>(pubsub: &mut PubSub<C>, slot: u16, subscriber: &SubscriberId) {
    let clients = &mut pubsub.clients;
    match clients.sessions.find(subscriber).and_then(|index| clients.sessions.get_mut(index)) {
        Some(session) => note_published(session),
        // If its slot leaves, the others are to have the will before the new owner goes on.
        None => clients.agenda.follow_up(FollowUp::SessionEnded(slot, subscriber.clone(), None)),
    }
    hooks::done(clients, subscriber);
}
