//! One message to one client, and what its connection waits for.

use super::super::delivering::{Portioning, Routed};
use super::super::testing::{
    NOW, clients, connection_of, filter, follow_ups, offline, online, outputs, posted, publication, texts,
};
use super::*;
use crate::client::DropReason;
use crate::codec::{ProtocolVersion, QoS};
use crate::hooks::{HookAnswer, NoHooks, PendingAnswer};
use crate::memory::Held;
use crate::message::Publication;
use crate::pending_hooks::Waiter;
use crate::session::{MigrationState, PROGRAM, PublicationId, Recipient, SubscriptionIds};
use crate::sharding::ShardSet;

fn recipient(session: u32) -> Recipient {
    let ids = SubscriptionIds::new();
    Recipient { session, qos: QoS::ExactlyOnce, retain_as_published: false, ids, group: None }
}

fn routed<'a>(publication: &'a Publication<'a>, publisher: Option<Publisher>) -> Routed<'a> {
    Routed {
        publication,
        id: PublicationId { shard: 0, sequence: 1 },
        publisher,
        is_moved: false,
        portioning: Portioning::AtOnce,
        at: 0,
    }
}

fn queued(clients: &Clients<NoHooks>, session: u32) -> usize {
    clients.sessions.get(session).map_or(0, |session| session.outbound.queue.len())
}

/// Has more wait for a client than it may.
fn fill_output(clients: &mut Clients<NoHooks>, id: ConnectionId) {
    let most = clients.flow.most();
    clients.connections.write_bytes(id, |out| out.resize(most, 0));
}

#[test]
fn a_message_reaches_clients_the_program_and_queues() {
    let mut clients = clients(1, "");
    let ((id, here), away) = (online(&mut clients, "here"), offline(&mut clients, "away"));
    let place = clients.program.add(77, 0, filter("#"));
    let message = publication("t", "x", QoS::AtLeastOnce);
    clients.deliver_all(&[recipient(here), recipient(away), recipient(place)], &routed(&message, None));
    assert_eq!((texts(&mut clients, id), queued(&clients, away)), (vec!["x".to_owned()], 1));
    assert!(matches!(outputs(&mut clients)[..], [Output::Deliver { subscription: 77, .. }]));
    assert_eq!(clients.statistics.counters.messages_out, 1, "what is queued was not sent");
}

#[test]
fn nobody_gets_what_is_for_a_place_that_is_empty() {
    let mut clients = clients(1, "");
    let message = publication("t", "x", QoS::AtLeastOnce);
    clients.deliver_all(&[recipient(5), recipient(PROGRAM | 5)], &routed(&message, None));
    assert!(outputs(&mut clients).is_empty() && !clients.connections.has_output());
}

#[test]
fn what_is_dropped_is_counted_by_reason() {
    let mut clients = clients(1, "");
    let (away, (_, here)) = (offline(&mut clients, "away"), online(&mut clients, "here"));
    clients.sessions.get_mut(here).expect("it is here").settings.maximum_outgoing = 3;
    let message = publication("t", "x", QoS::AtMostOnce);
    clients.deliver_all(&[recipient(away), recipient(here)], &routed(&message, None));
    let dropped = |reason| clients.statistics.counters.dropped[reason as usize];
    assert_eq!((dropped(DropReason::OfflineQos0), dropped(DropReason::PacketTooLarge)), (1, 1));
    assert_eq!(clients.statistics.counters.dropped.iter().sum::<u64>(), 2);
}

#[test]
fn a_batch_brings_each_recipient_all_of_it_in_order() {
    let mut clients = clients(1, "");
    let (one, other) = (online(&mut clients, "one"), online(&mut clients, "other"));
    let mut recipients = vec![recipient(one.1), recipient(other.1)];
    clients.delivery.batch.begin(0, None, &mut recipients, ShardSet::default(), 100);
    for (sequence, text) in (1..).zip(["1", "2", "3"]) {
        let message = publication("t", text, QoS::AtMostOnce);
        clients.delivery.batch.push(PublicationId { shard: 0, sequence }, &message);
    }
    clients.deliver_batch();
    for (id, _) in [one, other] {
        assert_eq!(texts(&mut clients, id), ["1", "2", "3"]);
    }
    assert!(clients.delivery.batch.is_empty());
}

#[test]
fn what_waits_is_sent_when_there_is_room() {
    let mut clients = clients(1, "");
    let (id, session) = online(&mut clients, "here");
    fill_output(&mut clients, id);
    let message = publication("t", "x", QoS::AtLeastOnce);
    clients.deliver_all(&[recipient(session)], &routed(&message, None));
    assert_eq!(queued(&clients, session), 1);
    clients.send_waiting(session);
    assert_eq!(queued(&clients, session), 1, "the output is full");
    clients.connections.get_mut(id).expect("it is there").outbox.take();
    clients.sent(id, Vec::new());
    assert_eq!((queued(&clients, session), texts(&mut clients, id)), (0, vec!["x".to_owned()]));
}

#[test]
fn a_message_for_a_session_that_is_to_come_is_buffered_and_delivered_when_it_has() {
    let mut clients = clients(1, "");
    let (id, session) = online(&mut clients, "moving");
    clients.sessions.get_mut(session).expect("it is there").migration =
        Some(MigrationState::Arriving(Default::default()));
    let message = publication("t", "x", QoS::AtMostOnce);
    clients.deliver_all(&[recipient(session)], &routed(&message, None));
    assert!(texts(&mut clients, id).is_empty());
    let state = clients.sessions.get_mut(session).and_then(|session| session.migration.take());
    let buffered = state.map(MigrationState::into_arriving).unwrap_or_default().buffered;
    buffered.into_iter().for_each(|one| clients.deliver_buffered(session, one));
    assert_eq!(texts(&mut clients, id), ["x"]);
}

#[test]
fn a_session_begins_under_a_number_that_no_other_ever_has() {
    let mut clients = clients(1, "");
    let at = offline(&mut clients, "one");
    let first = clients.sessions.remove(at).map(|session| session.instance);
    clients.sessions.free_place(at);
    assert_eq!(offline(&mut clients, "other"), at, "its place is used again");
    assert_ne!(clients.sessions.get(at).map(|session| session.instance), first);
}

/// How often a connection waits for a client.
fn consumers(clients: &Clients<NoHooks>, id: ConnectionId) -> u32 {
    clients.connections.get(id).map_or(0, |connection| connection.consumers)
}

#[test]
fn publishers_on_any_shard_wait_for_a_client_that_does_not_follow_until_it_goes() {
    let mut clients = clients(2, "");
    let ((slow, session), (publisher, _)) = (online(&mut clients, "slow"), online(&mut clients, "publisher"));
    fill_output(&mut clients, slow);
    let elsewhere = ConnectionId::new(9, 4);
    let much = "x".repeat(clients.flow.most());
    let message = publication("t", &much, QoS::AtMostOnce);
    for by in [Publisher { shard: 0, connection: publisher }, Publisher { shard: 1, connection: elsewhere }] {
        clients.deliver_all(&[recipient(session)], &routed(&message, Some(by)));
    }
    let waits = |message: &ShardMessage| match message {
        ShardMessage::Publisher { connection, wait, hold: Hold::WithCredit } => Some((*connection, *wait)),
        _ => None,
    };
    let told: Vec<_> = posted(&mut clients).iter().map(|(to, message)| (*to, waits(message))).collect();
    assert_eq!((consumers(&clients, publisher), told), (1, vec![(1, Some((elsewhere, true)))]));
    clients.close(slow);
    let told: Vec<_> = posted(&mut clients).iter().map(|(to, message)| (*to, waits(message))).collect();
    assert_eq!(told, [(1, Some((elsewhere, false)))]);
    assert!(
        matches!(follow_ups(&mut clients)[..], [FollowUp::ReleasePublisher(id, Hold::WithCredit)] if id == publisher)
    );
}

#[test]
fn a_publisher_goes_on_when_it_waits_for_nobody_any_more() {
    let mut clients = clients(1, "");
    let (publisher, _) = online(&mut clients, "publisher");
    clients.publisher_waits(publisher);
    clients.publisher_waits(publisher);
    clients.publisher_released(publisher);
    assert!(follow_ups(&mut clients).is_empty());
    clients.publisher_released(publisher);
    assert!(matches!(follow_ups(&mut clients)[..], [FollowUp::Serve(id)] if id == publisher));
    clients.publisher_released(publisher);
    assert!(follow_ups(&mut clients).is_empty() && consumers(&clients, publisher) == 0);
}

#[test]
fn a_connection_is_served_later_if_the_reason_was_one() {
    let mut clients = clients(1, "");
    let (id, _) = online(&mut clients, "here");
    clients.serve_later(id, PauseReason::Congestion);
    assert!(follow_ups(&mut clients).is_empty());
    clients.connections.pause(id, PauseReason::Congestion);
    clients.serve_later(id, PauseReason::Congestion);
    assert!(matches!(follow_ups(&mut clients)[..], [FollowUp::Serve(served)] if served == id));
}

#[test]
fn a_connection_that_is_closed_sends_its_last_words_and_is_gone_at_once() {
    let mut clients = clients(1, "");
    let (id, _) = online(&mut clients, "here");
    clients.connections.write_bytes(id, |out| out.extend_from_slice(b"bye"));
    clients.close(id);
    clients.close(id);
    assert!(clients.connections.get(id).is_none() && clients.connections.next_output().is_none());
    let outputs = outputs(&mut clients);
    let [Output::Close { connection, listener: Some(0), last: Some(last) }] = &outputs[..] else { panic!("one close") };
    assert_eq!((*connection, &*last.bytes, clients.statistics.counters.bytes_out), (id, &b"bye"[..], 3));
}

#[test]
fn nobody_waits_for_the_hook_of_a_connection_that_is_closed() {
    let mut clients = clients(1, "");
    let (id, _) = online(&mut clients, "here");
    let pending =
        PendingAnswer { hook: "auth_on_publish", link: 0, future: Box::pin(async { HookAnswer::Notification }) };
    let task = clients.run_hook(Waiter::Connection(id), pending);
    let connected = clients.connections.get_mut(id).and_then(|connection| connection.connected_mut());
    connected.expect("it is").pending = Some(Pending::Hook { task, link: 0, frame: Vec::new(), held: Held::default() });
    clients.close(id);
    assert_eq!(clients.pending_hooks.len(), 0);
    let outputs = outputs(&mut clients);
    let [Output::RunHook { .. }, Output::CancelHook { task: cancelled }, Output::Close { .. }] = &outputs[..] else {
        panic!("the hook is run, cancelled, and the connection closed")
    };
    assert_eq!(*cancelled, task);
}

#[test]
fn a_refusal_is_told_and_counted_and_the_connection_closed() {
    let mut clients = clients(1, "");
    let connection = connection_of(0, 0);
    let id = connection.id;
    clients.connections.insert(Connection { stage: ConnectionStage::Opening { due: NOW }, ..connection });
    let mut refusal = Refusal::new(ProtocolVersion::V5, None, ReasonCode::Banned);
    refusal.hook_failed = true;
    clients.refuse(id, &refusal);
    let counters = &clients.statistics.counters;
    assert_eq!((counters.refused, counters.hook_failures), (1, 1));
    let outputs = outputs(&mut clients);
    let [Output::Close { last: Some(last), .. }] = &outputs[..] else { panic!("one close") };
    assert_eq!(last.bytes[..4], [0x20, 3, 0, ReasonCode::Banned as u8]);
}

/// A shared subscription's copy in a session that is about to end goes to another member from its queue.
#[test]
fn a_member_whose_session_ends_keeps_its_copy_for_another() {
    let mut clients = clients(1, "");
    let session = offline(&mut clients, "member");
    clients.sessions.get_mut(session).expect("it is there").settings.kept = false;
    let group = Arc::new(filter("$share/g/t"));
    let message = publication("t", "x", QoS::AtLeastOnce);
    clients.deliver_all(&[Recipient { group: Some(group), ..recipient(session) }], &routed(&message, None));
    clients.deliver_all(&[recipient(session)], &routed(&message, None));
    assert_eq!(queued(&clients, session), 1, "the plain copy is dropped");
    assert_eq!(clients.statistics.counters.dropped[DropReason::SessionEnded as usize], 1);
}
