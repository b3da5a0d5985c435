//! What waits for clients, sent as far as it fits into a share of the turn. Who has more waits for the next share in a line of its own, in
//! which very many may stand: all clients that had not read and do so again.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::delivering::queue_is_shorter;
use super::paging;
use super::recording;
use super::turn::{self, Line};
use crate::client::{ConnectionId, DropReason};
use crate::delivery::PublishWriter;
use crate::hooks::Chain;
use crate::session::OutgoingMessage;

impl<C: Chain> Clients<C> {
    /// Sends what waits for a client, if there is room for it in the window or on the connection, and as far as it fits into the share.
    #[inline]
    pub(super) fn send_waiting(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if session.outbound.replay_waits {
            // What was queued before goes first, the rest behind it.
            session.outbound.replay_waits = false;
            self.agenda.follow_up(FollowUp::Replay(index));
        } else if session.outbound.is_anything_waiting() {
            send(self, index);
        }
    }
}

/// What was handed over for a connection has left, and something waits for its client, of session `index`.
#[cold]
pub(super) fn has_room<C: Chain>(clients: &mut Clients<C>, index: u32) {
    clients.agenda.turn.begin_share();
    if clients.agenda.turn.is_share_over() { wait(clients, index) } else { clients.send_waiting(index) }
}

/// It is the turn of a connection that has waited in the line for that.
pub(super) fn go_on<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    let Some(connection) = clients.connections.get_mut(id) else { return };
    connection.waits_to_send = false;
    if let Some(session) = connection.session() {
        clients.agenda.turn.begin_share();
        clients.send_waiting(session);
    }
}

/// Sends at once what waits for a share: the broker stops.
pub(super) fn finish_all<C: Chain>(clients: &mut Clients<C>) {
    while let Some(id) = clients.agenda.turn.next_to_send() {
        go_on(clients, id);
    }
}

/// The client of a session waits for the next share of what is sent to it, unless it does so already.
#[cold]
pub(super) fn wait<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let id = clients.sessions.get(index).and_then(|session| session.connection);
    if let Some(connection) = id.and_then(|id| clients.connections.get_mut(id))
        && !std::mem::replace(&mut connection.waits_to_send, true)
    {
        clients.agenda.turn.wait(connection.id, Line::Sending);
    }
}

/// Whether a client has to wait for what comes next: it is in a page of the archive, of which all is recorded that is sent, and the journal has no room.
fn waits_for_room<C: Chain>(clients: &mut Clients<C>, index: u32, id: ConnectionId) -> bool {
    let Clients { persistence: Some(persistence), sessions, connections, .. } = clients else { return false };
    let Some(session) = sessions.get(index) else { return false };
    let outbound = &session.outbound;
    let is_of_page = || outbound.queue.is_next_of_page(session.settings.queue.order) && !outbound.has_unsent();
    if outbound.queue.pages_id().is_none() || persistence.may_send_pages() || !is_of_page() {
        return false;
    }
    if let Some(connection) = connections.get_mut(id)
        && !std::mem::replace(&mut connection.waits_to_send, true)
    {
        persistence.wait_to_send(id);
    }
    true
}

/// There is room for what a client has waited for.
pub(super) fn wait_no_more<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    if let Some(connection) = clients.connections.get_mut(id) {
        connection.waits_to_send = true;
        clients.agenda.turn.wait(id, Line::Sending);
    }
}

#[inline(never)]
fn send<C: Chain>(clients: &mut Clients<C>, index: u32) {
    let mut is_shorter = false;
    while let Some((message, reason)) = send_until_a_drop(clients, index) {
        clients.agenda.turn.did(turn::LEFTOVER);
        clients.report_dropped(index, &message, reason);
        is_shorter = true;
    }
    if is_shorter {
        queue_is_shorter(clients, index);
    }
    paging::queue_moved(clients, index);
}

fn send_until_a_drop<C: Chain>(clients: &mut Clients<C>, index: u32) -> Option<(OutgoingMessage, DropReason)> {
    let id = clients.sessions.get(index)?.connection?;
    if clients.persistence.is_some() && (recording::is_output_held(clients, id) || waits_for_room(clients, index, id)) {
        return None;
    }
    let session = clients.sessions.get_mut(index)?;
    let mut to = clients.connections.writable(id)?;
    // Nothing is put off when the broker stops.
    let work = if clients.agenda.is_stopping() { u32::MAX } else { clients.agenda.turn.left() };
    let (chain, traffic, now) = (&mut clients.chain, &mut clients.delivery.traffic, clients.agenda.now());
    let mut writer = PublishWriter { chain, traffic, buffers: to.buffers, now };
    let before = to.connection.outbox.waiting();
    let progress = writer.send_waiting(session, to.connection, clients.flow.most(), work);
    clients.statistics.counters.messages_out += progress.messages;
    clients.agenda.turn.did(progress.work + turn::output(to.connection.outbox.waiting() - before));
    if progress.wrote && to.queue_for_output() {
        clients.agenda.turn.did_sends(1);
    }
    if progress.is_enough {
        wait(clients, index);
    }
    let is_any_launched = !progress.launched.is_empty() || !progress.launched_of_pages.is_empty();
    if is_any_launched || progress.renumbered.is_some() {
        recording::record_launched(clients, index, &progress);
        if progress.is_said_first {
            recording::hold_output(clients, id, index, None);
        }
    }
    progress.dropped
}
