//! Messages that a session leaves when it ends, or when its client does: few of them are seen to at once, many in portions. Those that go to
//! another member of their shared subscription wait until there is room on the way, as `offering` says.
//!
//! Until the last one is dropped or has gone to another member of its shared subscription, the hooks are not told of the end, and who comes
//! for the same subscriber id waits before it is registered: for hooks the order is the same, however many there are.

use std::sync::Arc;

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::tell_dropped;
use super::hooks;
use super::offering::{self, Offered, is_much_passed_on};
use super::paging;
use super::pubsub::PubSub;
use super::recording::{self, Passing};
use super::remnants::{AwayQos0, AwayShared, EndedSession, Leftover, SessionEnd};
use super::turn;
use super::wills::publish_of_ended;
use crate::client::{DropReason, SubscriberId};
use crate::hooks::{Chain, Notified};
use crate::message::Message;
use crate::routing::{Routing, Turn};
use crate::session::{Look, OutgoingMessage, Session};
use crate::topic::TopicFilter;

/// How long messages are seen to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The share of the turn is over, or there is no room on the way to who gets them.
    ShareIsOver,
    /// There is no such room: they are few.
    NoRoom,
    /// All are.
    End,
}

impl Until {
    pub(super) fn is_over<C: Chain>(self, clients: &Clients<C>) -> bool {
        self == Until::ShareIsOver && (clients.agenda.turn.is_share_over() || is_much_passed_on(clients))
    }
}

/// How far that has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenTo {
    All,
    /// The others have to wait for the next turn.
    Some,
    /// The others have to wait until the queue to a shard has room.
    NoRoom,
}

/// Messages that stay where they are, and are looked at in a unit of work.
const KEPT_IN_A_UNIT: u32 = 8;
/// Clients that are away, among which one is looked for in a unit of work.
const LOOKS_FOR_ONE: usize = 32;

/// A session has ended and is gone from the table, and so are its memberships in shared subscriptions: sees to what it leaves, and tells the
/// hooks of the end behind that.
pub(super) fn leave<C: Chain>(pubsub: &mut PubSub<C>, mut ended: EndedSession<C::State>) {
    let subscriber = ended.session.client.subscriber.clone();
    let away = stop_giving(&mut pubsub.clients, &subscriber);
    let was_giving = away.is_some();
    // It was the first of those that are left.
    let put_back = away.and_then(|away| away.put_back);
    ended.put_back = put_back.map(|message| Leftover { message, may_go: true, reason: DropReason::SessionEnded });
    ended.session.outbound.queue.paged_mut().unload();
    let outbound = &ended.session.outbound;
    if !is_much(&pubsub.clients, outbound.queue.len() + outbound.in_flight())
        && !outbound.queue.paged().is_any_archived()
        && see_to(pubsub, &mut ended, Until::NoRoom) == SeenTo::All
    {
        finish(pubsub, ended);
    } else {
        hooks::make_busy(&mut pubsub.clients, &subscriber);
        pubsub.clients.agenda.remnants.messages.push_back(ended);
    }
    if was_giving {
        hooks::done(&mut pubsub.clients, &subscriber);
    }
}

/// The session of a client that is away has ended: what was on its way from it to others while it was kept is for its end to see to.
fn stop_giving<C: Chain>(clients: &mut Clients<C>, subscriber: &SubscriberId) -> Option<AwayShared> {
    if !clients.pending_hooks.is_busy(subscriber) {
        return None;
    }
    let remnants = &mut clients.agenda.remnants;
    [&mut remnants.shared, &mut remnants.without_room.1].into_iter().find_map(|line| {
        clients.agenda.turn.did((line.len() / LOOKS_FOR_ONE) as u32);
        let at = line.iter().position(|away| away.subscriber == *subscriber)?;
        line.remove(at)
    })
}

/// QoS 0 messages do not wait for a client to come back: what its queue has of them is dropped. If the session ends, too, many are left to that.
pub(super) fn client_left<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some(session) = clients.sessions.get(index) else { return };
    if !session.is_kept() && is_much(clients, session.subscriptions.shared() as usize) {
        // The session ends later, and hooks are told of its drops then.
    } else if !is_much(clients, session.outbound.queue.qos0_len()) {
        drop_qos0(clients, index, Until::End);
    } else if session.is_kept() {
        let subscriber = session.client.subscriber.clone();
        hooks::make_busy(clients, &subscriber);
        let away = AwayQos0 { session: index, subscriber };
        clients.agenda.remnants.qos0.push_back(away);
    }
}

/// A kept session waits for its client: messages of shared subscriptions that are not acknowledged go to members that are online.
pub(super) fn give_to_others<C: Chain>(pubsub: &mut PubSub<C>, index: u32) {
    if pubsub.clients.agenda.remnants.memberships.get_mut(index).is_some() {
        // Not before it counts as away: it would get them itself.
        return;
    }
    let Some(session) = pubsub.clients.sessions.get(index) else { return };
    let (subscriber, left) = (session.client.subscriber.clone(), AwayShared::len(&session.outbound));
    if left == 0 {
        return;
    }
    let turn = Turn::of_moved(session.settings.shared_policy, session.slot);
    let mut away = AwayShared::new(index, subscriber, turn);
    if is_much(&pubsub.clients, left) || give(pubsub, &mut away, Until::NoRoom) != SeenTo::All {
        hooks::make_busy(&mut pubsub.clients, &away.subscriber);
        pubsub.clients.agenda.remnants.shared.push_back(away);
    }
}

/// Whether a client would have to wait until it is registered, for what the end of the connection or session before it leaves.
pub(super) fn would_hold_up<C: Chain>(clients: &Clients<C>, subscriber: &SubscriberId, clean_start: bool) -> bool {
    let Some(session) = clients.sessions.of(subscriber) else { return false };
    let outbound = &session.outbound;
    let left = match session.is_kept() && !clean_start {
        // What it has still when its client is away stays with it.
        true if session.connection.is_none() => return false,
        true => outbound.queue.qos0_len().max(AwayShared::len(outbound)).max(session.subscriptions.shared() as usize),
        false => (outbound.queue.len() + outbound.in_flight()).max(session.subscriptions.shared() as usize),
    };
    let is_any_archived = clean_start && outbound.queue.paged().is_any_archived();
    is_much(clients, left) || is_any_archived || waits_for_room(clients, session)
}

/// Whether what a session has of shared subscriptions has perhaps to wait for room on the way to other members. Its will may come to that.
fn waits_for_room<C: Chain>(clients: &Clients<C>, session: &Session<C::State>) -> bool {
    let outbound = &session.outbound;
    let may_come = || session.will.is_some() && session.subscriptions.shared() > 0;
    let is_any_shared = || AwayShared::len(outbound) > 0 || may_come();
    let is_crowded = clients.flow.is_any_congested() || is_much_passed_on(clients);
    let is_large =
        || outbound.queue.shared() > 0 && outbound.queue.bytes() > clients.setup.config.runtime.mailbox_bytes;
    !clients.agenda.is_stopping() && (is_crowded && is_any_shared() || is_large())
}

/// Goes on with QoS 0 messages, as far as they fit into the share.
pub(super) fn drop_some<C: Chain>(pubsub: &mut PubSub<C>) {
    let until = Until::ShareIsOver;
    while !until.is_over(&pubsub.clients)
        && let Some(away) = pubsub.clients.agenda.remnants.qos0.pop_front()
    {
        go_on_dropping(&mut pubsub.clients, away, until);
    }
}

/// Goes on with messages of shared subscriptions, as far as they fit into the share.
pub(super) fn give_some<C: Chain>(pubsub: &mut PubSub<C>) {
    let until = Until::ShareIsOver;
    while !until.is_over(&pubsub.clients)
        && let Some(away) = pubsub.clients.agenda.remnants.shared.pop_front()
    {
        go_on_giving(pubsub, away, until);
    }
}

/// Goes on with what sessions leave that have ended, as far as it fits into the share.
pub(super) fn end_some<C: Chain>(pubsub: &mut PubSub<C>) {
    let until = Until::ShareIsOver;
    while !until.is_over(&pubsub.clients)
        && let Some(mut ended) = pubsub.clients.agenda.remnants.messages.pop_front()
    {
        match see_to(pubsub, &mut ended, until) {
            SeenTo::All => {
                if let Some(ended) = paging::wait_for_page(&mut pubsub.clients, ended) {
                    finish_held(pubsub, ended);
                }
            }
            SeenTo::Some => pubsub.clients.agenda.remnants.messages.push_back(ended),
            SeenTo::NoRoom => pubsub.clients.agenda.remnants.without_room.0.push_back(ended),
        }
    }
}

/// Sees to all that is left at once: the broker stops.
pub(super) fn finish_all<C: Chain>(pubsub: &mut PubSub<C>) {
    pubsub.clients.agenda.remnants.there_is_room();
    while let Some(away) = pubsub.clients.agenda.remnants.qos0.pop_front() {
        go_on_dropping(&mut pubsub.clients, away, Until::End);
    }
    while let Some(away) = pubsub.clients.agenda.remnants.shared.pop_front() {
        go_on_giving(pubsub, away, Until::End);
    }
    let remnants = &mut pubsub.clients.agenda.remnants;
    remnants.messages.append(&mut remnants.waiting_for_page);
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
        go_on_dropping(&mut pubsub.clients, away, Until::End);
    }
    let shared = &mut pubsub.clients.agenda.remnants.shared;
    if shared.back().is_some_and(|away| away.subscriber == *subscriber)
        && let Some(away) = shared.pop_back()
    {
        go_on_giving(pubsub, away, Until::End);
    }
    let messages = &mut pubsub.clients.agenda.remnants.messages;
    if messages.back().is_some_and(|ended| ended.session.client.subscriber == *subscriber)
        && let Some(ended) = messages.pop_back()
    {
        finish_at_once(pubsub, ended);
    }
}

/// Whether so many messages, or shared subscriptions, are too much to be seen to at once.
pub(super) fn is_much<C: Chain>(clients: &Clients<C>, many: usize) -> bool {
    many > clients.agenda.turn.limits().at_once && !clients.agenda.is_stopping()
}

/// Drops what a session leaves, or has it go to others.
fn see_to<C: Chain>(pubsub: &mut PubSub<C>, ended: &mut EndedSession<C::State>, until: Until) -> SeenTo {
    let turn = Turn::of_moved(ended.session.settings.shared_policy, ended.session.slot);
    let mountpoint = pubsub.routing.mountpoint(&ended.session.client.subscriber.mountpoint);
    while !until.is_over(&pubsub.clients) {
        let Some(left) = ended.next() else { return SeenTo::All };
        pubsub.clients.agenda.turn.did(turn::LEFTOVER);
        let Leftover { message, may_go, reason } = &left;
        match message.group.as_ref().filter(|_| *may_go) {
            Some(group) if pubsub.routing.has_other_member(mountpoint, group, true) => {
                let passing = recording::pass_on(&mut pubsub.clients.persistence, &mut ended.session, message);
                let seen_to = pass_on(pubsub, (mountpoint, group), passing, turn, until);
                if seen_to != SeenTo::All {
                    ended.put_back = Some(left);
                    return seen_to;
                }
            }
            _ => {
                let notified = tell_dropped(&mut pubsub.clients, &mut ended.session, message, *reason);
                pubsub.clients.notified_of_message_of(&ended.session.client.subscriber, notified);
            }
        }
    }
    SeenTo::Some
}

/// Gives a message that a member leaves to another one, if there is room or it must not wait.
fn pass_on<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, group): (u32, &Arc<TopicFilter>),
    (message, passing): (Message, Passing),
    turn: Turn,
    until: Until,
) -> SeenTo {
    let seen_to = offer(pubsub, (mountpoint, group), &message, turn, until);
    match seen_to {
        SeenTo::All => recording::has_passed_on(pubsub, passing),
        SeenTo::Some | SeenTo::NoRoom => recording::stays(&mut pubsub.clients, passing),
    }
    seen_to
}

/// Gives a message to a member of a shared subscription, if there is room or it must not wait.
pub(super) fn offer<C: Chain>(
    pubsub: &mut PubSub<C>,
    (mountpoint, group): (u32, &Arc<TopicFilter>),
    message: &Message,
    turn: Turn,
    until: Until,
) -> SeenTo {
    if until == Until::End || pubsub.clients.agenda.is_stopping() {
        pubsub.offer_to_group(mountpoint, group, message, turn, None);
        return SeenTo::All;
    }
    match offering::pass_on(pubsub, (mountpoint, group), message, turn) {
        Offered::Gone => SeenTo::All,
        Offered::NextTurn => SeenTo::Some,
        Offered::NoRoom => SeenTo::NoRoom,
    }
}

/// Drops QoS 0 messages that wait for a session whose client is away. Whether those were all.
fn drop_qos0<C: Chain>(clients: &mut Clients<C>, index: u32, until: Until) -> bool {
    while !until.is_over(clients) {
        let Some(session) = clients.sessions.get_mut(index) else { return true };
        let Some(message) = session.outbound.queue.take_qos0() else {
            session.outbound.queue.settle();
            return true;
        };
        clients.agenda.turn.did(turn::LEFTOVER);
        clients.report_dropped(index, &message, DropReason::OfflineQos0);
    }
    false
}

fn go_on_dropping<C: Chain>(clients: &mut Clients<C>, away: AwayQos0, until: Until) {
    // If the session has ended meanwhile, that sees to the rest.
    let is_there = clients.sessions.find(&away.subscriber) == Some(away.session);
    if !is_there || drop_qos0(clients, away.session, until) {
        hooks::done(clients, &away.subscriber);
    } else {
        clients.agenda.remnants.qos0.push_back(away);
    }
}

/// Gives messages of shared subscriptions to members that are online.
fn give<C: Chain>(pubsub: &mut PubSub<C>, away: &mut AwayShared, until: Until) -> SeenTo {
    let mountpoint = pubsub.routing.mountpoint(&away.subscriber.mountpoint);
    let has_other = |routing: &Routing, group: &TopicFilter| routing.has_other_member(mountpoint, group, false);
    let mut kept = 0;
    while !until.is_over(&pubsub.clients) {
        let found = match away.put_back.take() {
            Some(message) if !message.group.as_ref().is_some_and(|group| has_other(&pubsub.routing, group)) => {
                keep(&mut pubsub.clients, away.session, message);
                continue;
            }
            Some(message) => Look::Taken(message),
            None => {
                let is_there = pubsub.clients.sessions.find(&away.subscriber) == Some(away.session);
                let session = pubsub.clients.sessions.get_mut(away.session).filter(|_| is_there);
                // If it has ended meanwhile, that sees to the rest.
                let Some(session) = session else { return SeenTo::All };
                away.look(&mut session.outbound, |group| has_other(&pubsub.routing, group))
            }
        };
        match found {
            Look::Taken(message) => {
                pubsub.clients.agenda.turn.did(turn::LEFTOVER);
                let session = pubsub.clients.sessions.get_mut(away.session);
                let Some((group, session)) = message.group.as_ref().zip(session) else { continue };
                let passing = recording::pass_on(&mut pubsub.clients.persistence, session, &message);
                let seen_to = pass_on(pubsub, (mountpoint, group), passing, away.turn, until);
                if seen_to != SeenTo::All {
                    away.put_back = Some(message);
                    return seen_to;
                }
            }
            Look::Kept => {
                kept += 1;
                pubsub.clients.agenda.turn.did(u32::from(kept % KEPT_IN_A_UNIT == 0));
            }
            Look::End => {
                if let Some(session) = pubsub.clients.sessions.get_mut(away.session) {
                    session.outbound.queue.settle();
                }
                return SeenTo::All;
            }
        }
    }
    SeenTo::Some
}

/// A message that was taken out for others stays with its session: none of them is there any more. It is the last one now.
#[cold]
fn keep<C: Chain>(clients: &mut Clients<C>, index: u32, message: OutgoingMessage) {
    let (now, under_way) = (clients.agenda.now(), clients.setup.under_way());
    let Some(session) = clients.sessions.get_mut(index) else { return };
    let limits = session.settings.queue.while_publishers_wait(under_way);
    let insert = session.outbound.queue.push_in_portions(message, &limits, false, now, usize::MAX);
    for (dropped, reason) in insert.dropped {
        clients.report_dropped(index, &dropped, reason);
    }
}

fn go_on_giving<C: Chain>(pubsub: &mut PubSub<C>, mut away: AwayShared, until: Until) {
    match give(pubsub, &mut away, until) {
        SeenTo::All => hooks::done(&mut pubsub.clients, &away.subscriber),
        SeenTo::Some => pubsub.clients.agenda.remnants.shared.push_back(away),
        SeenTo::NoRoom => pubsub.clients.agenda.remnants.without_room.1.push_back(away),
    }
}

/// Sees to all that a session leaves whose end has held up others.
fn finish_at_once<C: Chain>(pubsub: &mut PubSub<C>, mut ended: EndedSession<C::State>) {
    see_to(pubsub, &mut ended, Until::End);
    finish_held(pubsub, ended);
}

/// As [`finish`], for a session whose end has held up others.
fn finish_held<C: Chain>(pubsub: &mut PubSub<C>, ended: EndedSession<C::State>) {
    let subscriber = ended.session.client.subscriber.clone();
    finish(pubsub, ended);
    hooks::done(&mut pubsub.clients, &subscriber);
}

/// Nothing is left of a session: the hooks are told of its end, and its will is published if there is one still.
fn finish<C: Chain>(pubsub: &mut PubSub<C>, ended: EndedSession<C::State>) {
    let EndedSession { mut session, end, will, leaving, put_back: _ } = ended;
    let subscriber = session.client.subscriber.clone();
    let notified = tell_end(&mut pubsub.clients.chain, &mut session, end);
    pubsub.clients.notified_about(&subscriber, notified);
    if let Some(will) = will {
        publish_of_ended(pubsub, &mut session, will);
    }
    recording::record_ended(pubsub, &session);
    pubsub.clients.agenda.follow_up(FollowUp::SessionEnded(session.slot, subscriber, leaving));
}

/// `on_client_gone` or `on_session_expired`.
fn tell_end<C: Chain>(chain: &mut C, session: &mut Session<C::State>, end: SessionEnd) -> Notified {
    match end {
        SessionEnd::Gone(reason) => chain.on_client_gone(&session.client, &mut session.state, reason),
        SessionEnd::Expired(reason) => chain.on_session_expired(&session.client, &mut session.state, reason),
    }
}
