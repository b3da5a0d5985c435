//! Slots and sessions under way together.

use super::*;
use crate::client::{ConnectionId, SessionAction, SessionRequest};

/// An end of a session that nobody waits for.
const END: Waiting =
    Waiting::Request(SessionRequest { action: SessionAction::Disconnect { cleanup: true }, asked_by: None });

/// A subscriber id whose slot belongs to shard `owner`, and the slot.
fn subscriber_of(owner: usize, slots: &Slots) -> (SubscriberId, u16) {
    let ids = (0..).map(|number| SubscriberId::new("", format!("client-{number}")));
    let id = ids.into_iter().find(|id| slots.owner(id) == owner).expect("every shard owns some");
    let slot = slots.slot(&id);
    (id, slot)
}

#[test]
fn a_client_of_a_slot_that_comes_waits_until_the_old_owner_has_no_session_of_it() {
    let mut migration = Migration::new(0, 3, 7);
    let (id, slot) = subscriber_of(2, &migration.slots);
    let register = Waiting::Register(ConnectionId::new(4, 1));
    migration.slots.slots_moved(2, 0, &[slot]);
    assert_eq!(migration.must_wait(&id, Presence::Absent), Wait::Pull(2));
    migration.wait(id.clone(), register);
    assert_eq!(migration.must_wait(&id, Presence::Absent), Wait::Yes);
    assert_eq!(migration.not_here(&id, Presence::Absent), [register]);
    migration.slots.slot_emptied(slot);
    assert_eq!(migration.must_wait(&id, Presence::Absent), Wait::No);
    assert_eq!(migration.len(), 0);
}

#[test]
fn a_session_that_is_on_its_way_is_waited_for_even_if_it_is_not_at_the_old_owner() {
    let mut migration = Migration::new(0, 3, 7);
    let (id, slot) = subscriber_of(2, &migration.slots);
    migration.slots.slots_moved(2, 0, &[slot]);
    migration.wait(id.clone(), END);
    assert!(migration.not_here(&id, Presence::Arriving).is_empty());
    migration.slots.slot_emptied(slot);
    assert_eq!(migration.must_wait(&id, Presence::Arriving), Wait::Yes);
    assert_eq!(migration.release(&id), [END]);
}

#[test]
fn an_answer_is_about_a_session_that_leaves_or_about_one_that_ended() {
    let mut migration = Migration::new(0, 3, 7);
    let (id, slot) = subscriber_of(0, &migration.slots);
    migration.slots.move_slots(&[slot], 1);
    migration.outgoing.begin(9, 5, 1, &mut None);
    assert_eq!(migration.flushed(9), Flushed::Session);
    migration.outgoing.abandon(9);
    assert_eq!(migration.slots.session_ended(slot, &id), Some(1));
    migration.slots.expect_answers(10, 1, &[slot]);
    assert_eq!(migration.flushed(9), Flushed::Slots(Vec::new()), "the session is not here any more");
    assert_eq!(migration.flushed(10), Flushed::Slots(vec![slot]));
}

#[test]
fn everything_that_is_under_way_is_counted() {
    let mut migration = Migration::new(0, 3, 7);
    let (id, slot) = subscriber_of(0, &migration.slots);
    migration.slots.move_slots(&[slot], 1);
    migration.slots.expect_answers(1, 2, &[slot]);
    migration.slots.slots_moved(1, 0, &[slot + 1]);
    assert_eq!(migration.len(), 3);
    migration.outgoing.enqueue([id.clone()]);
    migration.outgoing.begin(2, 5, 1, &mut None);
    migration.incoming.expect(1, 3, 6);
    migration.incoming.expect(1, 4, 7);
    migration.incoming.arrived(1, 4);
    migration.wait(id, END);
    assert_eq!(migration.len(), 8);
}
