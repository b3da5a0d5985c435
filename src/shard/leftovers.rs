//! Messages that a session leaves when it ends, or when its client does: few of them are seen to at once, many in portions.
//!
//! Until the last one is dropped or has gone to another member of its shared subscription, the hooks are not told of the end, and who comes
//! for the same subscriber id waits before it is registered: for hooks the order is the same, however many there are.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::tell_dropped;
use super::hooks;
use super::pubsub::PubSub;
use super::remnants::{AwayQos0, AwayShared, EndedSession, Leftover, SessionEnd};
use super::turn;
use super::wills::publish_of_ended;
use crate::client::{DropReason, SubscriberId};
use crate::hooks::{Chain, Notified};
use crate::routing::Turn;
use crate::session::{Look, Session};

/// Messages that stay where they are, and are looked at in a unit of work.
const LOOKS: u32 = 8;

/// A session has ended and is gone from the table, and so are its memberships in shared subscriptions: sees to what it leaves, and tells the
/// hooks of the end behind that.
pub(super) fn leave<C: Chain>(pubsub: &mut PubSub<C>, mut ended: EndedSession<C::State>) {
    let outbound = &ended.session.outbound;
    if !is_much(&pubsub.clients, outbound.queue.len() + outbound.in_flight()) {
        see_to(pubsub, &mut ended, |_| false);
        return finish(pubsub, ended);
    }
    hooks::hold(&mut pubsub.clients, &ended.session.client.subscriber);
    pubsub.clients.agenda.remnants.messages.push_back(ended);
}

/// QoS 0 messages do not wait for a client to come back: what its queue has of them is dropped. If the session ends, too, many are left to that.
pub(super) fn client_left<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some(session) = clients.sessions.get(index) else { return };
    if !is_much(clients, session.outbound.queue.qos0_len()) {
        drop_qos0(clients, index, |_| false);
    } else if session.is_kept() {
        let subscriber = session.client.subscriber.clone();
        hooks::hold(clients, &subscriber);
        let away = AwayQos0 { session: index, subscriber };
        clients.agenda.remnants.qos0.push_back(away);
    }
}

/// A kept session waits for its client: messages of shared subscriptions that are not acknowledged go to members that are online.
pub(super) fn give_to_others<C: Chain>(pubsub: &mut PubSub<C>, index: u32) {
    let Some(session) = pubsub.clients.sessions.get(index) else { return };
    let (subscriber, left) = (session.client.subscriber.clone(), AwayShared::len(&session.outbound));
    if left == 0 {
        return;
    }
    let mut away = AwayShared::new(index, subscriber);
    if is_much(&pubsub.clients, left) {
        hooks::hold(&mut pubsub.clients, &away.subscriber);
        pubsub.clients.agenda.remnants.shared.push_back(away);
    } else {
        give(pubsub, &mut away, |_| false);
    }
}

/// Whether a client would have to wait until it is registered, for what the end of the connection or session before it leaves.
pub(super) fn would_hold_up<C: Chain>(clients: &Clients<C>, subscriber: &SubscriberId, clean_start: bool) -> bool {
    let Some(session) = clients.sessions.of(subscriber) else { return false };
    let outbound = &session.outbound;
    let left = match session.is_kept() && !clean_start {
        // What it has still when its client is away stays with it.
        true if session.connection.is_none() => 0,
        true => outbound.queue.qos0_len().max(AwayShared::len(outbound)),
        false => outbound.queue.len() + outbound.in_flight(),
    };
    is_much(clients, left)
}

/// Goes on with what is left, as far as it fits into the share.
pub(super) fn go_on<C: Chain>(pubsub: &mut PubSub<C>) {
    let is_share_over = |clients: &Clients<C>| clients.agenda.turn.is_share_over();
    while !is_share_over(&pubsub.clients)
        && let Some(away) = pubsub.clients.agenda.remnants.qos0.pop_front()
    {
        go_on_dropping(&mut pubsub.clients, away, is_share_over);
    }
    while !is_share_over(&pubsub.clients)
        && let Some(away) = pubsub.clients.agenda.remnants.shared.pop_front()
    {
        go_on_giving(pubsub, away, is_share_over);
    }
    while !is_share_over(&pubsub.clients)
        && let Some(mut ended) = pubsub.clients.agenda.remnants.messages.pop_front()
    {
        if see_to(pubsub, &mut ended, is_share_over) {
            finish_held(pubsub, ended);
        } else {
            pubsub.clients.agenda.remnants.messages.push_back(ended);
        }
    }
}

/// Sees to all that is left at once: the broker stops.
pub(super) fn finish_all<C: Chain>(pubsub: &mut PubSub<C>) {
    while let Some(away) = pubsub.clients.agenda.remnants.qos0.pop_front() {
        go_on_dropping(&mut pubsub.clients, away, |_| false);
    }
    while let Some(away) = pubsub.clients.agenda.remnants.shared.pop_front() {
        go_on_giving(pubsub, away, |_| false);
    }
    while let Some(ended) = pubsub.clients.agenda.remnants.messages.pop_front() {
        finish_at_once(pubsub, ended);
    }
}

/// Sees at once to what a client has just left that is being registered anew.
// Rare: whoever would be held up has waited. But with the end of the connection before one message more may have come, the will.
pub(super) fn finish_last_of<C: Chain>(pubsub: &mut PubSub<C>, subscriber: &SubscriberId) {
    let qos0 = &mut pubsub.clients.agenda.remnants.qos0;
    if qos0.back().is_some_and(|away| away.subscriber == *subscriber)
        && let Some(away) = qos0.pop_back()
    {
        go_on_dropping(&mut pubsub.clients, away, |_| false);
    }
    let shared = &mut pubsub.clients.agenda.remnants.shared;
    if shared.back().is_some_and(|away| away.subscriber == *subscriber)
        && let Some(away) = shared.pop_back()
    {
        go_on_giving(pubsub, away, |_| false);
    }
    let messages = &mut pubsub.clients.agenda.remnants.messages;
    if messages.back().is_some_and(|ended| ended.session.client.subscriber == *subscriber)
        && let Some(ended) = messages.pop_back()
    {
        finish_at_once(pubsub, ended);
    }
}

/// Whether so many messages are too much to be seen to at once.
pub(super) fn is_much<C: Chain>(clients: &Clients<C>, messages: usize) -> bool {
    messages > clients.agenda.turn.limits().at_once && !clients.agenda.is_stopping()
}

/// Drops what a session leaves, or has it go to others, until `is_enough`. Whether that was all.
fn see_to<C: Chain>(
    pubsub: &mut PubSub<C>,
    ended: &mut EndedSession<C::State>,
    is_enough: impl Fn(&Clients<C>) -> bool,
) -> bool {
    let turn = Turn::of_moved(ended.session.settings.shared_policy, ended.session.slot);
    let mountpoint = pubsub.routing.mountpoint(&ended.session.client.subscriber.mountpoint);
    while !is_enough(&pubsub.clients) {
        let Some(Leftover { message, may_go, reason }) = ended.next() else { return true };
        pubsub.clients.agenda.turn.did(turn::LEFTOVER);
        match message.group.as_ref().filter(|_| may_go) {
            Some(group) if pubsub.routing.has_other_member(mountpoint, group, true) => {
                pubsub.offer_to_group(mountpoint, group, &message.message, turn, None);
            }
            _ => {
                let notified = tell_dropped(&mut pubsub.clients, &mut ended.session, &message, reason);
                pubsub.clients.notified_of_message_of(&ended.session.client.subscriber, notified);
            }
        }
    }
    false
}

/// Drops QoS 0 messages that wait for a session whose client is away, until `is_enough`.
fn drop_qos0<C: Chain>(clients: &mut Clients<C>, index: u32, is_enough: impl Fn(&Clients<C>) -> bool) -> bool {
    while !is_enough(clients) {
        let session = clients.sessions.get_mut(index);
        let Some(message) = session.and_then(|session| session.outbound.queue.take_qos0()) else { return true };
        clients.agenda.turn.did(turn::LEFTOVER);
        clients.report_dropped(index, &message, DropReason::OfflineQos0);
    }
    false
}

fn go_on_dropping<C: Chain>(clients: &mut Clients<C>, away: AwayQos0, is_enough: impl Fn(&Clients<C>) -> bool) {
    // If the session has ended meanwhile, that sees to the rest.
    let is_there = clients.sessions.find(&away.subscriber) == Some(away.session);
    if !is_there || drop_qos0(clients, away.session, is_enough) {
        hooks::release(clients, &away.subscriber);
    } else {
        clients.agenda.remnants.qos0.push_back(away);
    }
}

/// Gives messages of shared subscriptions to members that are online, until `is_enough`. Whether those were all.
fn give<C: Chain>(pubsub: &mut PubSub<C>, away: &mut AwayShared, is_enough: impl Fn(&Clients<C>) -> bool) -> bool {
    let mountpoint = pubsub.routing.mountpoint(&away.subscriber.mountpoint);
    let mut kept = 0;
    while !is_enough(&pubsub.clients) {
        let Some(session) = pubsub.clients.sessions.get_mut(away.session) else { return true };
        let turn = Turn::of_moved(session.settings.shared_policy, session.slot);
        let routing = &pubsub.routing;
        match away.look(&mut session.outbound, |filter| routing.has_other_member(mountpoint, filter, false)) {
            Look::Taken(message) => {
                pubsub.clients.agenda.turn.did(turn::LEFTOVER);
                if let Some(group) = message.group {
                    pubsub.offer_to_group(mountpoint, &group, &message.message, turn, None);
                }
            }
            Look::Kept => {
                kept += 1;
                pubsub.clients.agenda.turn.did(u32::from(kept % LOOKS == 0));
            }
            Look::End => return true,
        }
    }
    false
}

fn go_on_giving<C: Chain>(pubsub: &mut PubSub<C>, mut away: AwayShared, is_enough: impl Fn(&Clients<C>) -> bool) {
    // As above.
    let is_there = pubsub.clients.sessions.find(&away.subscriber) == Some(away.session);
    if !is_there || give(pubsub, &mut away, is_enough) {
        hooks::release(&mut pubsub.clients, &away.subscriber);
    } else {
        pubsub.clients.agenda.remnants.shared.push_back(away);
    }
}

/// Sees to all that a session leaves whose end has held up others.
fn finish_at_once<C: Chain>(pubsub: &mut PubSub<C>, mut ended: EndedSession<C::State>) {
    see_to(pubsub, &mut ended, |_| false);
    finish_held(pubsub, ended);
}

/// As [`finish`], for a session whose end has held up others.
fn finish_held<C: Chain>(pubsub: &mut PubSub<C>, ended: EndedSession<C::State>) {
    let subscriber = ended.session.client.subscriber.clone();
    finish(pubsub, ended);
    hooks::release(&mut pubsub.clients, &subscriber);
}

/// Nothing is left of a session: the hooks are told of its end, and its will is published if there is one still.
fn finish<C: Chain>(pubsub: &mut PubSub<C>, ended: EndedSession<C::State>) {
    let EndedSession { mut session, end, will, leaving } = ended;
    let subscriber = session.client.subscriber.clone();
    let notified = tell_end(&mut pubsub.clients.chain, &mut session, end);
    pubsub.clients.notified_about(&subscriber, notified);
    if let Some(will) = will {
        publish_of_ended(pubsub, &mut session, will);
    }
    pubsub.clients.agenda.follow_up(FollowUp::SessionEnded(session.slot, subscriber, leaving));
}

/// `on_client_gone` or `on_session_expired`.
fn tell_end<C: Chain>(chain: &mut C, session: &mut Session<C::State>, end: SessionEnd) -> Notified {
    match end {
        SessionEnd::Gone(reason) => chain.on_client_gone(&session.client, &mut session.state, reason),
        SessionEnd::Expired(reason) => chain.on_session_expired(&session.client, &mut session.state, reason),
    }
}
