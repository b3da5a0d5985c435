//! How many members shared subscriptions have here, for the other shards.

use super::agenda::PutOff;
use super::message::ShardMessage;
use super::pubsub::PubSub;
use super::turn::FILTER;
use crate::hooks::Chain;
use crate::routing::MemberCounts;
use crate::topic::TopicFilter;

/// Tells the other shards how many members a shared subscription has: at once if they have to know, else in the next turn what has changed
/// in this one.
pub(super) fn tell<C: Chain>(
    pubsub: &mut PubSub<C>,
    mountpoint: u32,
    filter: &TopicFilter,
    at_once: Option<MemberCounts>,
) {
    await_turn(pubsub);
    if let Some(members) = at_once {
        post(pubsub, mountpoint, filter, members);
    }
}

/// Tells of what has changed, as far as the turn goes.
pub(super) fn tell_some<C: Chain>(pubsub: &mut PubSub<C>) {
    pubsub.routing.member_news.begin_turn();
    while !pubsub.clients.agenda.turn.is_share_over()
        && let Some((mountpoint, filter, members)) = pubsub.routing.next_member_news()
    {
        pubsub.clients.agenda.turn.did(FILTER);
        post(pubsub, mountpoint, &filter, members);
    }
    await_turn(pubsub);
}

fn await_turn<C: Chain>(pubsub: &mut PubSub<C>) {
    if pubsub.routing.member_news.await_turn() {
        pubsub.clients.agenda.next_turn(PutOff::Members);
    }
}

fn post<C: Chain>(pubsub: &mut PubSub<C>, mountpoint: u32, filter: &TopicFilter, members: MemberCounts) {
    let mountpoint = pubsub.routing.name(mountpoint).clone();
    pubsub.clients.agenda.tell_others(|| ShardMessage::Group {
        mountpoint: mountpoint.clone(),
        filter: filter.clone(),
        members,
    });
}
