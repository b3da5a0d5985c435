//! Memberships of a session in shared subscriptions, which follow its client and end with the session: few of them at once, many in portions.
//!
//! A client that comes is answered when all of its memberships know: a message that is published behind CONNACK is its own as much as anybody's.
//! When it leaves, the member is passed over from that moment on, by [`passing_over`](super::passing_over), if somebody else is there on any
//! shard. What comes for it nevertheless waits in its queue, and goes to others with the rest when no membership counts as online any more. A
//! session ends when it has no membership any more: until then it is in the table, so that nothing is lost that comes for it.
//!
//! Meanwhile who comes for the same subscriber id waits before it is registered, and the session does not move.

use super::clients::Clients;
use super::hooks;
use super::leftovers;
use super::members;
use super::pubsub::PubSub;
use super::remnants::{MembershipChange, SessionEnd};
use super::turn;
use crate::hooks::Chain;
use crate::time::Time;
use crate::topic::TopicFilter;

/// The client of a session came or left: its memberships follow. Behind that, what a member has whose client is away goes to others.
pub(super) fn follow_client<C: Chain>(pubsub: &mut PubSub<C>, index: u32) {
    let clients = &mut pubsub.clients;
    let Some(session) = clients.sessions.get(index) else { return };
    if session.subscriptions.shared() == 0 {
        return;
    }
    let (filters, is_much) = (session.subscriptions.shared_filters(), is_much(clients, index));
    if let Some(change) = clients.agenda.remnants.memberships.get_mut(index) {
        // It came and left: from the beginning.
        change.filters = filters.into_iter();
        return;
    }
    if is_much {
        return begin(clients, index, filters, None);
    }
    let mountpoint = pubsub.routing.mountpoint(&session.client.subscriber.mountpoint);
    let online = session.connection.is_some();
    for filter in filters {
        set_online(pubsub, mountpoint, &filter, (index, online));
    }
}

/// A session is to end. If it has many memberships, these end first, and it behind them: true.
pub(super) fn end_first<C: Chain>(pubsub: &mut PubSub<C>, index: u32, end: SessionEnd) -> bool {
    let clients = &mut pubsub.clients;
    let is_much = is_much(clients, index);
    let Some(session) = clients.sessions.get_mut(index) else { return false };
    let filters = || session.subscriptions.shared_filters();
    match clients.agenda.remnants.memberships.get_mut(index) {
        // It ends already.
        Some(MembershipChange { end: Some(_), .. }) => return true,
        Some(change) => (change.end, change.filters) = (Some(end), filters().into_iter()),
        None if is_much => {
            let filters = filters();
            begin(clients, index, filters, Some(end));
        }
        None => return false,
    }
    // It need not be ended once more, neither when its time is up nor to make room.
    clients.sessions.came_online(index);
    if let Some(session) = clients.sessions.get_mut(index) {
        session.expires = Time::NEVER;
    }
    true
}

/// Whether a session has so many memberships that they follow its client in portions.
pub(super) fn is_much<C: Chain>(clients: &Clients<C>, index: u32) -> bool {
    let shared = clients.sessions.get(index).map_or(0, |session| session.subscriptions.shared());
    leftovers::is_much(clients, shared as usize)
}

/// Goes on with what has begun, as far as it fits into the share.
pub(super) fn go_on<C: Chain>(pubsub: &mut PubSub<C>) {
    let is_share_over = |clients: &Clients<C>| clients.agenda.turn.is_share_over();
    while !is_share_over(&pubsub.clients)
        && let Some((index, mut change)) = pubsub.clients.agenda.remnants.memberships.next()
    {
        if go_through(pubsub, index, &mut change, is_share_over) {
            finish(pubsub, index, change);
        } else {
            pubsub.clients.agenda.remnants.memberships.insert(index, change);
        }
    }
}

/// Finishes all that has begun at once: the broker stops.
pub(super) fn finish_all<C: Chain>(pubsub: &mut PubSub<C>) {
    while let Some((index, mut change)) = pubsub.clients.agenda.remnants.memberships.next() {
        go_through(pubsub, index, &mut change, |_| false);
        finish(pubsub, index, change);
    }
}

fn begin<C: Chain>(clients: &mut Clients<C>, index: u32, filters: Vec<TopicFilter>, end: Option<SessionEnd>) {
    let Some(session) = clients.sessions.get(index) else { return };
    let subscriber = session.client.subscriber.clone();
    hooks::make_busy(clients, &subscriber);
    let change = MembershipChange { subscriber, filters: filters.into_iter(), end };
    clients.agenda.remnants.memberships.insert(index, change);
}

/// Has memberships follow, or end, until `is_enough`. Whether those were all.
fn go_through<C: Chain>(
    pubsub: &mut PubSub<C>,
    index: u32,
    change: &mut MembershipChange,
    is_enough: impl Fn(&Clients<C>) -> bool,
) -> bool {
    let mountpoint = pubsub.routing.mountpoint(&change.subscriber.mountpoint);
    while !is_enough(&pubsub.clients)
        && let Some(filter) = change.filters.next()
    {
        let Some(session) = pubsub.clients.sessions.get_mut(index) else { return true };
        debug_assert_eq!(session.client.subscriber, change.subscriber, "it neither moves nor ends before that");
        if change.end.is_none() {
            let online = session.connection.is_some();
            set_online(pubsub, mountpoint, &filter, (index, online));
        } else if session.subscriptions.remove(&filter) {
            pubsub.clients.statistics.counters.subscriptions -= 1;
            pubsub.remove_subscription(mountpoint, &filter, index);
        }
    }
    change.filters.len() == 0
}

/// All memberships have followed, or ended.
fn finish<C: Chain>(pubsub: &mut PubSub<C>, index: u32, change: MembershipChange) {
    let is_away = pubsub.clients.sessions.get(index).is_some_and(|session| session.connection.is_none());
    match change.end {
        Some(end) => pubsub.end_session(index, end),
        None if is_away => leftovers::give_to_others(pubsub, index),
        None => {}
    }
    hooks::done(&mut pubsub.clients, &change.subscriber);
}

fn set_online<C: Chain>(pubsub: &mut PubSub<C>, mountpoint: u32, filter: &TopicFilter, (index, online): (u32, bool)) {
    let news = pubsub.routing.set_online(mountpoint, filter, index, online);
    pubsub.clients.agenda.turn.did(turn::FILTER);
    members::tell(pubsub, mountpoint, filter, news);
}
