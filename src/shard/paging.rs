//! Pages of queues: read when a client takes what waits for it, and let go when that is over. See `persistence`.

use super::clients::Clients;
use super::remnants::EndedSession;
use crate::config::QueueType;
use crate::hooks::Chain;
use crate::session::MigrationState;

/// The place of a session that has ended, which is in the table no more.
const ENDED: u32 = u32::MAX;

/// Messages were sent out of a queue, or dropped: pages of which nothing is left go, and the next is read if it comes next.
#[inline]
pub(super) fn queue_moved<C: Chain>(clients: &mut Clients<C>, index: u32) {
    if let Some(session) = clients.sessions.get(index)
        && session.outbound.queue.pages_id().is_some()
    {
        queue_with_pages_moved(clients, index);
    }
}

#[cold]
fn queue_with_pages_moved<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let Some((persistence, session)) = clients.persistence.as_mut().zip(clients.sessions.get_mut(index)) else {
        return;
    };
    persistence.let_go_emptied(session);
    // What is read for a session that leaves would come when it has gone, and its new owner would wait for it.
    let leaves = MigrationState::leaves(session.migration.as_ref()) && !clients.agenda.is_stopping();
    if session.connection.is_some() && !leaves {
        let order = session.settings.queue.order;
        persistence.read_next_page(index, session, order);
    }
}

/// The client of a session has left: nothing that was read for it stays in memory.
pub(super) fn unload<C: Chain>(clients: &mut Clients<C>, index: u32) {
    if let Some(session) = clients.sessions.get_mut(index) {
        session.outbound.queue.paged_mut().unload();
    }
}

/// A session that has ended is seen to, as far as its messages are in memory. If others are in the archive, the next page of them is asked for, and it
/// waits for that. Gives it back if nothing is left.
pub(super) fn wait_for_page<C: Chain>(
    clients: &mut Clients<C>,
    mut ended: EndedSession<C::State>,
) -> Option<EndedSession<C::State>> {
    let session = &mut *ended.session;
    let Some(persistence) = clients.persistence.as_mut().filter(|_| !clients.agenda.is_stopping()) else {
        return Some(ended);
    };
    if !session.outbound.queue.paged().is_any_archived() {
        return Some(ended);
    }
    persistence.read_next_page(ENDED, session, QueueType::Fifo);
    clients.agenda.remnants.waiting_for_page.push_back(ended);
    None
}
