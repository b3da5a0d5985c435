//! Who gets what, and what the end of a connection means for that.

use std::sync::Arc;
use std::time::Duration;

use super::super::members::tell_some;
use super::super::message::ShardMessage;
use super::super::output::Output;
use super::super::publications::PublishContext;
use super::super::remnants::SessionEnd;
use super::super::subscriptions::News;
use super::super::testing::{NOW, filter, online, outputs, posted, publication, pubsub, texts};
use super::*;
use crate::client::{ConnectionId, EndReason, ExpiredReason, SubscriberId};
use crate::codec::{QoS, SubscriptionOptions};
use crate::flow::{Account, Backlog};
use crate::hooks::NoHooks;
use crate::message::Publication;
use crate::routing::MemberCounts;
use crate::session::testing::delivery;
use crate::session::{PublicationId, Subscription, Will};
use crate::sharding::Publisher;

/// Has a session subscribe, as SUBSCRIBE does.
fn subscribe(pubsub: &mut PubSub<NoHooks>, session: u32, text: &str) -> bool {
    let subscription = Subscription { options: SubscriptionOptions::new(QoS::ExactlyOnce), id: 0 };
    let known = pubsub.clients.sessions.get_mut(session).expect("it is there");
    let online = known.connection.is_some();
    known.subscriptions.put(filter(text), subscription);
    pubsub.clients.statistics.counters.subscriptions += 1;
    let mountpoint = pubsub.routing.mountpoint(&"".into());
    let mut news = News::default();
    pubsub.add_subscription(mountpoint, &filter(text), session, subscription, online, &mut news);
    !news.filters.is_empty()
}

/// Another shard has a subscriber.
fn subscribe_elsewhere(pubsub: &mut PubSub<NoHooks>, shard: usize, text: &str) {
    pubsub.take_in(shard, &"".into(), &[filter(text)]);
}

fn publish(pubsub: &mut PubSub<NoHooks>, publication: &Publication<'_>) -> usize {
    let (mountpoint, origin) = (pubsub.routing.mountpoint(&"".into()), pubsub.own_origin());
    pubsub.publish(mountpoint, publication, PublishContext::by_nobody(origin)).recipients
}

/// The filters that other shards are told to have lost a subscriber, and which shard is.
fn lost_interest(pubsub: &mut PubSub<NoHooks>) -> Vec<(usize, String)> {
    let lost = |(to, message)| match message {
        ShardMessage::Unsubscribe { filter, .. } => Some((to, filter.as_str().to_owned())),
        _ => None,
    };
    posted(&mut pubsub.clients).into_iter().filter_map(lost).collect()
}

/// What other shards get a copy of, and which shard does.
fn copies(pubsub: &mut PubSub<NoHooks>) -> Vec<(usize, Vec<u8>)> {
    let copy = |(to, message)| match message {
        ShardMessage::Publish { message, .. } => Some((to, message.payload().to_vec())),
        _ => None,
    };
    posted(&mut pubsub.clients).into_iter().filter_map(copy).collect()
}

/// How many members of a shared subscription this shard tells the others that it has, by shard.
fn members(pubsub: &mut PubSub<NoHooks>) -> Vec<(usize, MemberCounts)> {
    let count = |(to, message)| match message {
        ShardMessage::Group { members, .. } => Some((to, members)),
        _ => None,
    };
    posted(&mut pubsub.clients).into_iter().filter_map(count).collect()
}

#[test]
fn a_publication_goes_to_subscribers_here_and_once_to_every_shard_that_has_some() {
    let mut pubsub = pubsub(4, "");
    let (id, session) = online(&mut pubsub.clients, "here");
    assert!(subscribe(&mut pubsub, session, "a/+"));
    for (shard, text) in [(2, "a/b"), (2, "+/b"), (3, "a/#"), (1, "other")] {
        subscribe_elsewhere(&mut pubsub, shard, text);
    }
    posted(&mut pubsub.clients);
    assert_eq!(publish(&mut pubsub, &publication("a/b", "x", QoS::AtLeastOnce)), 3);
    assert_eq!(texts(&mut pubsub.clients, id), ["x"]);
    assert_eq!(copies(&mut pubsub), [(2, b"x".to_vec()), (3, b"x".to_vec())]);
    assert_eq!(publish(&mut pubsub, &publication("nobody", "x", QoS::AtLeastOnce)), 0);
}

#[test]
fn what_another_shard_published_stays_here() {
    let mut pubsub = pubsub(3, "");
    let (id, session) = online(&mut pubsub.clients, "here");
    subscribe(&mut pubsub, session, "t");
    subscribe_elsewhere(&mut pubsub, 2, "t");
    posted(&mut pubsub.clients);
    let message = publication("t", "x", QoS::AtMostOnce).keep();
    pubsub.deliver_from_shard(PublicationId { shard: 1, sequence: 8 }, &"".into(), &message, 0, None);
    assert_eq!((texts(&mut pubsub.clients, id), pubsub.routing.received_up_to()), (vec!["x".into()], &[0, 8, 0][..]));
    assert!(posted(&mut pubsub.clients).is_empty());
}

#[test]
fn other_shards_hear_of_the_last_subscriber_that_leaves_a_filter() {
    let mut pubsub = pubsub(3, "");
    let sessions = ["one", "other"].map(|id| online(&mut pubsub.clients, id).1);
    assert_eq!(sessions.map(|session| subscribe(&mut pubsub, session, "t")), [true, false]);
    pubsub.remove_subscriptions(sessions[0], &[filter("t")]);
    assert!(lost_interest(&mut pubsub).is_empty());
    pubsub.remove_subscriptions(sessions[1], &[filter("t")]);
    assert_eq!(lost_interest(&mut pubsub), [(1, "t".to_owned()), (2, "t".to_owned())]);
    assert_eq!(pubsub.clients.statistics.counters.subscriptions, 0);
}

#[test]
fn other_shards_hear_of_members_of_shared_subscriptions_that_come_and_go() {
    let mut pubsub = pubsub(2, "");
    let (id, session) = online(&mut pubsub.clients, "member");
    let told = |online, offline| [(1, MemberCounts { online, offline })];
    assert!(!subscribe(&mut pubsub, session, "$share/g/t"), "a shared subscription is no interest");
    assert_eq!(members(&mut pubsub), told(1, 0));
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    assert_eq!(members(&mut pubsub), told(0, 1));
    pubsub.end_session(session, SessionEnd::Expired(ExpiredReason::Admin));
    assert_eq!(members(&mut pubsub), told(0, 0));
    assert_eq!(pubsub.routing.filters(), 0);
}

/// A thousand members that come in one turn are no thousand messages to each other shard.
#[test]
fn how_many_members_there_are_is_told_once_a_turn_and_that_there_are_some_at_once() {
    let mut pubsub = pubsub(3, "");
    let mut sessions: Vec<_> = (0..1000).map(|number| online(&mut pubsub.clients, &format!("m{number}"))).collect();
    let (first_id, first) = sessions.remove(0);
    let told = |online, offline| [(1, MemberCounts { online, offline }), (2, MemberCounts { online, offline })];
    let next_turn = |pubsub: &mut PubSub<NoHooks>| {
        pubsub.clients.agenda.turn.begin();
        tell_some(pubsub);
    };
    subscribe(&mut pubsub, first, "$share/g/t");
    assert_eq!(members(&mut pubsub), told(1, 0));
    for (_, session) in &sessions {
        subscribe(&mut pubsub, *session, "$share/g/t");
    }
    pubsub.end_connection(first_id, EndReason::ConnectionLost, None);
    assert!(members(&mut pubsub).is_empty() && pubsub.clients.agenda.is_behind());
    next_turn(&mut pubsub);
    assert_eq!(members(&mut pubsub), told(999, 1));
    next_turn(&mut pubsub);
    assert!(members(&mut pubsub).is_empty(), "it is no news any more");
    sessions.iter().for_each(|(id, _)| pubsub.end_connection(*id, EndReason::ConnectionLost, None));
    assert_eq!(members(&mut pubsub), told(0, 1000));
}

/// [MQTT-4.8.2-4]
#[test]
fn what_a_member_has_not_acknowledged_goes_to_another_but_qos_2_that_was_sent_stays() {
    let mut pubsub = pubsub(1, "shared.policy = 'sticky'");
    let ((first, leaves), (second, stays)) =
        (online(&mut pubsub.clients, "first"), online(&mut pubsub.clients, "second"));
    for session in [leaves, stays] {
        subscribe(&mut pubsub, session, "$share/g/t");
    }
    pubsub.clients.sessions.get_mut(leaves).expect("it is there").settings.send_maximum = 2;
    for (text, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce), ("3", QoS::AtLeastOnce)] {
        publish(&mut pubsub, &publication("t", text, qos));
    }
    assert_eq!(texts(&mut pubsub.clients, first), ["1", "2"]);
    pubsub.end_connection(first, EndReason::ConnectionLost, None);
    assert_eq!(texts(&mut pubsub.clients, second), ["1", "3"]);
    assert_eq!(pubsub.clients.sessions.get(leaves).map(|session| session.outbound.in_flight()), Some(1));
}

#[test]
fn a_retained_message_is_with_the_shard_that_owns_its_topic() {
    let mut pubsub = pubsub(2, "");
    for number in 0..20 {
        let topic = format!("t{number}");
        let mut message = publication(&topic, "x", QoS::AtMostOnce);
        message.retain = true;
        publish(&mut pubsub, &message);
    }
    let told = posted(&mut pubsub.clients);
    assert!(told.iter().all(|(to, message)| *to == 1 && matches!(message, ShardMessage::Retain { .. })));
    assert_eq!(pubsub.retained.len() + told.len(), 20);
    assert!((1..20).contains(&pubsub.retained.len()), "each of two shards has some");
}

#[test]
fn the_program_is_told_that_it_subscribes_and_then_what_is_retained() {
    let mut pubsub = pubsub(1, "");
    let mut message = publication("t", "x", QoS::AtMostOnce);
    message.retain = true;
    publish(&mut pubsub, &message);
    let mountpoint = pubsub.routing.mountpoint(&"".into());
    pubsub.subscribe_program(mountpoint, 77, filter("#"));
    pubsub.replay_some();
    publish(&mut pubsub, &publication("t", "y", QoS::AtMostOnce));
    let outputs = outputs(&mut pubsub.clients);
    let [
        Output::Subscribed { subscription: 77 },
        Output::Deliver { message: first, .. },
        Output::Deliver { message, .. },
    ] = &outputs[..]
    else {
        panic!("subscribed, and two messages")
    };
    assert_eq!((first.payload(), message.payload()), (&b"x"[..], &b"y"[..]));
}

#[test]
fn publications_that_come_together_are_gathered_until_something_else_is_published() {
    let mut pubsub = pubsub(2, "");
    let clients = ["1", "2", "3", "4"].map(|id| online(&mut pubsub.clients, id));
    for (_, session) in clients {
        subscribe(&mut pubsub, session, "#");
    }
    subscribe_elsewhere(&mut pubsub, 1, "t");
    posted(&mut pubsub.clients);
    let (mountpoint, origin) = (pubsub.routing.mountpoint(&"".into()), pubsub.own_origin());
    let by = PublishContext { origin, connection: Some(ConnectionId::new(50, 1)), more_follows: true };
    for text in ["1", "2"] {
        let published = pubsub.publish(mountpoint, &publication("t", text, QoS::AtMostOnce), by);
        assert_eq!(published.recipients, 5);
    }
    assert!(!pubsub.clients.delivery.batch.is_empty() && texts(&mut pubsub.clients, clients[0].0).is_empty());
    assert_eq!(copies(&mut pubsub), [(1, b"1".to_vec()), (1, b"2".to_vec())], "other shards do not wait for it");
    let single = PublishContext { more_follows: false, ..by };
    pubsub.publish(mountpoint, &publication("other", "3", QoS::AtMostOnce), single);
    for (id, _) in clients {
        assert_eq!(texts(&mut pubsub.clients, id), ["1", "2", "3"]);
    }
    assert_eq!(pubsub.routing.sequence(), 3, "each has a number of its own");
}

#[test]
fn nothing_is_gathered_while_publishers_wait_for_anybody() {
    let mut pubsub = pubsub(1, "");
    let clients = ["1", "2", "3", "4"].map(|id| online(&mut pubsub.clients, id));
    for (_, session) in clients {
        subscribe(&mut pubsub, session, "#");
    }
    let connection = ConnectionId::new(50, 1);
    let full = Backlog { output: usize::MAX, queued: 0, most_queued: usize::MAX, is_long: false };
    let by = (Publisher { shard: 0, connection }, usize::MAX);
    pubsub.clients.flow.backlog_is_full(
        clients[0].0,
        Account::of_session(1, std::net::Ipv4Addr::LOCALHOST.into()),
        (full, QoS::AtMostOnce),
        by,
        NOW,
    );
    let (mountpoint, origin) = (pubsub.routing.mountpoint(&"".into()), pubsub.own_origin());
    let by = PublishContext { origin, connection: Some(connection), more_follows: true };
    pubsub.publish(mountpoint, &publication("t", "x", QoS::AtMostOnce), by);
    assert!(pubsub.clients.delivery.batch.is_empty());
    assert_eq!(texts(&mut pubsub.clients, clients[3].0), ["x"]);
}

fn will(delay: u64) -> Will {
    let message = publication("will", "gone", QoS::AtMostOnce).keep();
    Will { message, mountpoint: Arc::from(""), delay: Duration::from_secs(delay), expiry: None }
}

/// A client that hears of wills, and one that has one.
fn with_will(delay: u64) -> (PubSub<NoHooks>, ConnectionId, (ConnectionId, u32)) {
    let mut pubsub = pubsub(1, "");
    let ((hears, session), dies) = (online(&mut pubsub.clients, "hears"), online(&mut pubsub.clients, "dies"));
    subscribe(&mut pubsub, session, "will");
    pubsub.clients.sessions.get_mut(dies.1).expect("it is there").will = Some(will(delay));
    (pubsub, hears, dies)
}

/// [MQTT-3.1.2-8]
#[test]
fn a_will_is_published_when_the_connection_ends_and_the_session_goes_on() {
    let (mut pubsub, hears, (id, session)) = with_will(0);
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    assert_eq!(texts(&mut pubsub.clients, hears), ["gone"]);
    let kept = pubsub.clients.sessions.get(session).expect("it is kept");
    assert!(kept.connection.is_none() && kept.will.is_none());
    assert_eq!(pubsub.clients.statistics.counters.connected, 1);
}

/// [MQTT-3.1.3-9]
#[test]
fn a_delayed_will_is_published_when_the_session_ends_before_it_is_due() {
    let (mut pubsub, hears, (id, session)) = with_will(60);
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    assert!(texts(&mut pubsub.clients, hears).is_empty());
    assert_eq!(
        pubsub.clients.sessions.get(session).map(|session| session.will_due),
        Some(NOW + Duration::from_secs(60))
    );
    pubsub.end_session(session, SessionEnd::Expired(ExpiredReason::Admin));
    assert_eq!(texts(&mut pubsub.clients, hears), ["gone"]);
}

#[test]
fn what_was_gathered_comes_before_the_will_of_its_publisher() {
    let (mut pubsub, hears, (id, _)) = with_will(0);
    for number in 0..3 {
        let (_, session) = online(&mut pubsub.clients, &number.to_string());
        subscribe(&mut pubsub, session, "will");
    }
    let (mountpoint, origin) = (pubsub.routing.mountpoint(&"".into()), pubsub.own_origin());
    let by = PublishContext { origin, connection: Some(id), more_follows: true };
    pubsub.publish(mountpoint, &publication("will", "before", QoS::AtMostOnce), by);
    assert!(!pubsub.clients.delivery.batch.is_empty());
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    assert_eq!(texts(&mut pubsub.clients, hears), ["before", "gone"]);
}

#[test]
fn a_session_that_is_not_kept_ends_with_its_connection_and_leaves_nothing() {
    let mut pubsub = pubsub(1, "");
    let (id, session) = online(&mut pubsub.clients, "here");
    subscribe(&mut pubsub, session, "t");
    let settings = &mut pubsub.clients.sessions.get_mut(session).expect("it is there").settings;
    settings.kept = false;
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    assert_eq!((pubsub.clients.sessions.len(), pubsub.routing.filters()), (0, 0));
    let counters = &pubsub.clients.statistics.counters;
    assert_eq!((counters.connected, counters.subscriptions), (0, 0));
}

#[test]
fn a_kept_session_drops_the_qos_0_that_waits_and_expires_when_it_was_agreed() {
    let mut pubsub = pubsub(1, "");
    let (id, index) = online(&mut pubsub.clients, "here");
    let session = pubsub.clients.sessions.get_mut(index).expect("it is there");
    session.settings.expiry = Some(Duration::from_secs(5));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        assert!(session.outbound.queue.push(delivery("x", qos), &session.settings.queue, true, NOW).stored);
    }
    pubsub.end_connection(id, EndReason::ConnectionLost, None);
    let session = pubsub.clients.sessions.get(index).expect("it is kept");
    assert_eq!((session.outbound.queue.len(), session.expires), (1, NOW + Duration::from_secs(5)));
}

#[test]
fn the_session_longest_offline_makes_room_if_it_is_configured_to() {
    let settings = "limits.max_sessions = 2\nlimits.sessions_full = 'expire'";
    let mut pubsub = pubsub(1, settings);
    for id in ["first", "second"] {
        assert!(pubsub.make_room());
        let (connection, _) = online(&mut pubsub.clients, id);
        pubsub.end_connection(connection, EndReason::ConnectionLost, None);
    }
    assert!(pubsub.make_room());
    let is_here = |id: &str| pubsub.clients.sessions.find(&SubscriberId::new("", id)).is_some();
    assert_eq!([is_here("first"), is_here("second")], [false, true]);
}
