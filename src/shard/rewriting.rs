//! What is stored is written to the journal once more, in portions, so that older segments can be used again: see `persistence::rewriting`.

use super::agenda::PutOff;
use super::clients::Clients;
use super::pubsub::PubSub;
use super::recording::{self, is_stored};
use super::turn::{self, Turn};
use crate::hooks::Chain;
use crate::numbers::DecisionNumber;
use crate::persistence::{Adoption, Cursor, SessionCursor};
use crate::session::{Look, Walk};

/// So many sessions, messages or topics are looked at in one portion at most.
const LOOKS: usize = 256;
/// So many places of a queue are looked at for a page.
const PLACES: usize = 4096;
/// The work that a page is, but for its bytes.
const PAGE: u32 = 64;
/// The work that follows when something is on disk, at most: very many answers may come in a turn, and the next one goes on.
const BEGINNING: u32 = 1024;
/// The work of moving queues to the archive in a portion: nobody waits for it, unless it falls behind.
const MOVING: u32 = 4096;

/// Something is on disk, so that there may be room: begins with what is to be written again, or moved, unless the next turn goes on with that in any case.
pub(super) fn begin_to_rewrite<C: Chain>(pubsub: &mut PubSub<C>) {
    if !pubsub.clients.agenda.is_put_off(PutOff::Rewriting) {
        rewrite(pubsub, BEGINNING);
    }
}

/// Writes a portion of what is stored again, if the journal needs that, and moves queues to the archive if too much is in memory: as much as fits into
/// the share.
pub(super) fn rewrite_some<C: Chain>(pubsub: &mut PubSub<C>) {
    rewrite(pubsub, u32::MAX);
}

/// So much of it, in units of work, and no more than fits into the share.
fn rewrite<C: Chain>(pubsub: &mut PubSub<C>, most: u32) {
    let done = pubsub.clients.agenda.turn.done();
    let may_go_on = |turn: &Turn, most: u32| !turn.is_share_over() && turn.done() < done.saturating_add(most);
    let falls_behind = pubsub.clients.persistence.as_ref().is_some_and(|persistence| persistence.falls_behind());
    let most_moved = if falls_behind { most } else { most.min(MOVING) };
    let mut looks = 0;
    while looks < LOOKS
        && may_go_on(&pubsub.clients.agenda.turn, most_moved)
        && let Some(index) = pubsub.clients.persistence.as_mut().and_then(|persistence| persistence.next_to_move_out())
    {
        looks += 1;
        move_out(&mut pubsub.clients, index);
    }
    while looks < LOOKS && may_go_on(&pubsub.clients.agenda.turn, most) {
        let next = pubsub.clients.persistence.as_mut().and_then(|persistence| persistence.next_to_rewrite());
        let Some(cursor) = next else { return };
        looks += 1;
        pubsub.clients.agenda.turn.did(turn::LEFTOVER);
        let next = match cursor {
            Cursor::Session(index) => rewrite_session(&mut pubsub.clients, index),
            Cursor::RestOf(session) => rewrite_rest(&mut pubsub.clients, session),
            Cursor::Retained(mountpoint, from) => rewrite_retained(pubsub, mountpoint, &from),
            Cursor::End => Cursor::End,
        };
        if let Some(persistence) = &mut pubsub.clients.persistence {
            persistence.rewritten(next);
        }
    }
    pubsub.clients.agenda.next_turn(PutOff::Rewriting);
}

/// The next page of what waits for the session at this place.
fn move_out<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Clients { persistence: Some(persistence), sessions, agenda, .. } = clients else { return };
    agenda.turn.did(turn::LEFTOVER);
    if index >= sessions.places() {
        return persistence.moved_out(None);
    }
    if let Some(session) = sessions.get_mut(index)
        && let Some(number) = session.stored
        && let bytes = session.outbound.queue.paged().bytes_in_memory()
        && persistence.is_moved_out(number, session.connection.is_some(), bytes)
    {
        persistence.let_go_emptied(session);
        agenda.turn.did(PAGE);
        if let Some(bytes) = persistence.page_out(index, session, PLACES) {
            agenda.turn.did(turn::paged(bytes));
            return persistence.moved_out(Some(index));
        }
    }
    persistence.moved_out(Some(index + 1));
}

fn rewrite_retained<C: Chain>(pubsub: &mut PubSub<C>, mountpoint: u32, from: &str) -> Cursor {
    let (messages, next) = pubsub.retained.portion(mountpoint, from, LOOKS);
    let Some(persistence) = &mut pubsub.clients.persistence else { return Cursor::End };
    pubsub.clients.agenda.turn.did(messages.len() as u32);
    // There may be no mountpoint at all yet.
    messages.iter().filter(|message| is_stored(message)).for_each(|message| {
        persistence.record_retained(pubsub.routing.name(mountpoint), message);
    });
    match next {
        Some((mountpoint, from)) => Cursor::Retained(mountpoint, from),
        None => Cursor::End,
    }
}

/// A session has come from another shard by this token: if it was stored there, it is recorded here, under a number of its own.
pub(super) fn adopt<C: Chain>(pubsub: &mut PubSub<C>, index: u32, from: (usize, u64)) {
    if pubsub.clients.sessions.get(index).is_some_and(|session| session.stored.is_some()) {
        record_all(pubsub, index, Some(from));
    }
}

/// A client has come to a session, which `was_there` before or is new. What that means for the disk; what has to be there before the client sees anything,
/// as [`recording::record_client`] says.
pub(super) fn client_came<C: Chain>(pubsub: &mut PubSub<C>, index: u32, was_there: bool) -> Option<DecisionNumber> {
    let session = pubsub.clients.sessions.get(index)?;
    match (session.is_to_be_stored(), session.stored.is_some()) {
        (true, false) if was_there => {
            // What it has by now is recorded nowhere.
            record_all(pubsub, index, None);
            return None;
        }
        // Of what it is no record may come behind that of its end.
        (false, true) => adopt_first(&mut pubsub.clients, index),
        _ => {}
    }
    recording::record_client(&mut pubsub.clients, index)
}

/// All of a session is recorded, under a new number.
fn record_all<C: Chain>(pubsub: &mut PubSub<C>, index: u32, from: Option<(usize, u64)>) {
    let clients = &mut pubsub.clients;
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get_mut(index)) else {
        return;
    };
    let (number, before) = (persistence.next_number(), session.stored);
    session.stored = Some(number);
    persistence.promise(number, session.settings.durability);
    session.outbound.is_on_disk_nowhere();
    let adoption = Adoption::new(number, (index, session.instance), from);
    let has_taken = from.is_none() && !session.inbound.is_empty();
    let adoption = if has_taken { recording::behind_messages(pubsub, adoption) } else { adoption };
    if let Some(persistence) = &mut pubsub.clients.persistence {
        persistence.adopt(adoption, before);
    }
    adopt_some(pubsub);
}

/// Goes on with sessions of which all is to be recorded, as far as that fits into the share.
pub(super) fn adopt_some<C: Chain>(pubsub: &mut PubSub<C>) {
    while let Some(recorded) = adopt_more(&mut pubsub.clients) {
        if recorded == Recorded::Part && pubsub.clients.agenda.turn.is_share_over() {
            return pubsub.clients.agenda.next_turn(PutOff::Rewriting);
        }
    }
}

/// The session at this place ends, or what is stored of it: if all of it is being recorded, the rest is first.
pub(super) fn adopt_first<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some(session) = clients.sessions.get(index).map(|session| (index, session.instance)) else { return };
    let is_first = |clients: &mut Clients<C>| clients.persistence.as_mut().is_some_and(|one| one.adopt_first(session));
    // Once more when it has been: it may have to wait, and is given up then.
    while is_first(clients) && adopt_more(clients) == Some(Recorded::Part) {}
    is_first(clients);
}

/// How much is recorded of a session of which all is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    Part,
    /// All but that it is whole, which has to wait.
    Contents,
    All,
}

/// Records a piece of such a session. None if there is none that does not wait.
fn adopt_more<C: Chain>(clients: &mut Clients<C>) -> Option<Recorded> {
    let (index, at) = clients.persistence.as_mut()?.next_to_adopt()?;
    clients.agenda.turn.did(turn::LEFTOVER);
    let next = match at {
        Cursor::RestOf(session) => rewrite_rest(clients, session),
        Cursor::End => Cursor::End,
        _ => rewrite_session(clients, index),
    };
    let so_far = if matches!(next, Cursor::RestOf(_)) { Recorded::Part } else { Recorded::Contents };
    let Clients { persistence: Some(persistence), sessions, agenda, .. } = clients else { return None };
    let Some(adoption) = persistence.adopted(next) else { return Some(so_far) };
    if let Some(session) = sessions.get(index) {
        persistence.record_session(adoption.number, session, agenda.now());
        if let Some(last) = session.outbound.last_given()
            && session.outbound.queue.paged().is_any_archived()
        {
            // What is in pages is on disk, and waits for the session alone.
            persistence.launch_up_to((index, session.instance), last);
        }
    }
    persistence.is_adopted(&adoption);
    Some(Recorded::All)
}

/// Begins with the session at this place.
fn rewrite_session<C: Chain>(clients: &mut Clients<C>, index: u32) -> Cursor {
    if index >= clients.sessions.places() {
        return Cursor::Retained(0, "".into());
    }
    let next = rewrite_header(clients, index);
    recording::record_hook_state(clients, index);
    next
}

fn rewrite_header<C: Chain>(clients: &mut Clients<C>, index: u32) -> Cursor {
    let Clients { persistence: Some(persistence), sessions, agenda, .. } = clients else { return Cursor::End };
    let Some(session) = sessions.get_mut(index) else { return Cursor::Session(index + 1) };
    let Some(number) = session.stored else { return Cursor::Session(index + 1) };
    persistence.record_session(number, session, agenda.now());
    for id in session.inbound.ids() {
        if persistence.incoming(number, id).is_none() {
            persistence.record_incoming(number, id);
        }
    }
    persistence.record_gone(number, session);
    persistence.let_go_emptied(session);
    let waiting = session.outbound.queue.paged().bytes_in_memory();
    // What has come from another shard is whole when the journal has it.
    let is_paged_out = !persistence.is_arriving(number) && persistence.is_paged_out(waiting);
    let filters: Vec<_> = session.subscriptions.all().entries.into_iter().map(|(filter, _)| filter).collect();
    agenda.turn.did((filters.len() / LOOKS) as u32);
    Cursor::RestOf(Box::new(SessionCursor {
        session: (index, session.instance),
        filters: filters.into_iter(),
        in_flight: 0,
        is_paged_out,
        queue: Walk::default(),
    }))
}

/// Goes on with a session, by one piece.
fn rewrite_rest<C: Chain>(clients: &mut Clients<C>, mut cursor: Box<SessionCursor>) -> Cursor {
    let (index, instance) = cursor.session;
    let next = Cursor::Session(index + 1);
    let Clients { persistence: Some(persistence), sessions, agenda, .. } = clients else { return Cursor::End };
    let Some(session) = sessions.get_mut(index).filter(|session| session.instance == instance) else { return next };
    let Some(number) = session.stored else { return next };
    if let Some(filter) = cursor.filters.next() {
        if let Some(subscription) = session.subscriptions.get(&filter) {
            persistence.record_subscribed(number, &filter, *subscription);
        }
        return Cursor::RestOf(cursor);
    }
    if let Some(entry) = session.outbound.next_in_flight(&mut cursor.in_flight) {
        let key = entry.key();
        match entry.delivery() {
            Some(delivery) => persistence.record_delivery(number, &delivery, true),
            // Of QoS 2, and the client has it.
            None => persistence.record_received(number, key),
        }
        return Cursor::RestOf(cursor);
    }
    if cursor.is_paged_out {
        persistence.let_go_emptied(session);
        let page = persistence.page_out(index, session, PLACES);
        agenda.turn.did(PAGE + turn::paged(page.unwrap_or(0)));
        cursor.is_paged_out = page.is_some();
        return Cursor::RestOf(cursor);
    }
    // What has a new number counts as soon as it is whole, whatever becomes of pages that are under way.
    let does_any_count = !persistence.is_arriving(number);
    match session.outbound.queue.paged().look_outside_pages(&mut cursor.queue, does_any_count) {
        Look::End => return next,
        Look::Taken(delivery) => persistence.record_waiting(number, delivery, (index, instance)),
        Look::Kept => {}
    }
    Cursor::RestOf(cursor)
}
