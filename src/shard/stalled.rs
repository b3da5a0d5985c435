//! What waits for a member of a shared subscription that takes nothing any more is others' to process: it goes to those that can.

use super::agenda::Deadline;
use super::holding::backlog_shrank;
use super::offering::is_much_passed_on;
use super::passing_over::PassingOver;
use super::publications::{give_to_member, send_on};
use super::pubsub::PubSub;
use super::recording;
use crate::codec::QoS;
use crate::config::SharedPolicy;
use crate::hooks::Chain;
use crate::routing::Turn;
use crate::session::{MigrationState, OutgoingMessage, StallWatch};

/// So many messages leave a member at once; the next as much later again.
const MOST: usize = 256;
/// How much later a member that takes nothing is looked at again, if nobody waits for it: perhaps somebody else can take something then.
const AGAIN: u32 = 10;

/// Looks at a member for which messages of QoS 1 or 2 have waited for a while: if it has been sent none since, other members get those that
/// have not been sent, as long as there are some that can take them now.
pub(super) fn look<C: Chain>(pubsub: &mut PubSub<C>, index: u32) {
    let clients = &mut pubsub.clients;
    let now = clients.agenda.now();
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let Some(StallWatch { taken, .. }) = session.outbound.stall_watch.take_if(|watch| watch.next <= now) else {
        return;
    };
    let queue = &session.outbound.queue;
    if session.connection.is_none()
        || queue.is_empty()
        || matches!(session.migration, Some(MigrationState::Leaving { .. }))
    {
        return;
    }
    let is_stalled = queue.taken() == taken;
    let mut soon = !is_stalled || pass_on(pubsub, index);
    let clients = &mut pubsub.clients;
    if let Some(id) = clients.sessions.get(index).and_then(|session| session.connection) {
        // Also if nobody waits any more: those who did publish more now.
        soon |= clients.flow.is_slow(id) && !clients.flow.is_given_up(id);
        backlog_shrank(clients, id, index);
    }
    let patience = clients.flow.stall_patience();
    let next = now + if soon { patience } else { patience * AGAIN };
    clients.agenda.arm(next, Deadline::Stalled(index));
    if let Some(session) = pubsub.clients.sessions.get_mut(index) {
        session.outbound.stall_watch = Some(StallWatch { taken: session.outbound.queue.taken(), is_stalled, next });
    }
}

/// Passes on what others can take. Whether that were members of this shard, which may take more soon.
fn pass_on<C: Chain>(pubsub: &mut PubSub<C>, index: u32) -> bool {
    let mut took = false;
    let Some(session) = pubsub.clients.sessions.get(index) else { return false };
    // Whoever can take it: the policy has chosen this one.
    let mut turn = Turn::of_moved(SharedPolicy::Random, session.slot);
    turn.passed_over.insert(pubsub.clients.setup.id);
    let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
    for _ in 0..MOST {
        if is_much_passed_on(&pubsub.clients) {
            return took;
        }
        let Some(session) = pubsub.clients.sessions.get(index) else { return took };
        let next =
            session.outbound.queue.find_first(|delivery| delivery.qos > QoS::AtMostOnce && delivery.group.is_some());
        let Some(group) = next.and_then(|delivery| delivery.group.clone()) else { return took };
        let mut choosing = PassingOver::of(pubsub);
        let here = choosing.other_than(index, (mountpoint, &group), QoS::AtLeastOnce);
        let shard = if here.is_some() { None } else { choosing.other_shard((mountpoint, &group), turn) };
        if here.is_none() && shard.is_none() {
            return took;
        }
        let Some(session) = pubsub.clients.sessions.get_mut(index) else { return took };
        let is_next =
            |delivery: &OutgoingMessage| delivery.qos > QoS::AtMostOnce && delivery.group.as_ref() == Some(&group);
        let taken = session.outbound.queue.take_first(is_next);
        let Some(delivery) = taken else { return took };
        let (message, passing) = recording::pass_on(&mut pubsub.clients.persistence, session, &delivery);
        if let Some(member) = here {
            took = true;
            give_to_member(pubsub, (mountpoint, &group), &member, &message, (turn, None));
        } else if let Some(shard) = shard {
            send_on(pubsub, shard, (mountpoint, &group), message, turn, None);
        }
        recording::has_passed_on(pubsub, passing);
    }
    took
}
