//! What follows when something is on disk: answers go out, messages that waited are sent, other shards are told.

use std::time::Duration;

use super::clients::Clients;
use super::machine::Shard;
use super::message::ShardMessage;
use super::page_answers;
use super::recording;
use super::rewriting::{adopt_some, begin_to_rewrite, rewrite_some};
use super::sending;
use crate::archive;
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::journal;
use crate::persistence::{self, Persistence, PersistenceSetup, StoreFailure};

impl<C: Chain> Shard<C> {
    /// Has sessions and messages kept on disk from here on. Nobody is connected yet.
    pub fn persist(&mut self, setup: PersistenceSetup) {
        let clients = &mut self.pubsub.clients;
        let (own, shards) = (clients.setup.id, clients.setup.shards);
        let mut persistence = Box::new(Persistence::new(setup, own, shards));
        let crashed = self.restored.iter().filter(|(_, was_online)| *was_online);
        persistence.crashed = crashed.filter_map(|(index, _)| clients.sessions.get(*index)?.stored).collect();
        for (index, _) in &self.restored {
            if let Some(session) = clients.sessions.get(*index)
                && let Some(number) = session.stored
            {
                persistence.restored(number, session.settings.durability);
            }
        }
        clients.persistence = Some(persistence);
        // There may be no room for anything, so that no answer of the journal would be an occasion.
        rewrite_some(&mut self.pubsub);
    }

    /// When there is something to be done for the journal, at the latest; since the start of the broker.
    ///
    /// # Errors
    ///
    /// The journal takes nothing more, or the archive: this shard is of no use then, and is to end.
    pub fn journal_wake_up(&self) -> Result<Option<Duration>, StoreFailure<'_>> {
        let Some(persistence) = &self.pubsub.clients.persistence else { return Ok(None) };
        persistence.failure().map_or_else(|| Ok(persistence.wake_up()), Err)
    }
}

/// Something was done for the journal, or could not be.
pub(super) fn journal_answered<C: Chain>(shard: &mut Shard<C>, answer: journal::Answer) {
    if let Some(persistence) = &mut shard.pubsub.clients.persistence {
        persistence.done(answer);
        serve_uncrowded(&mut shard.pubsub.clients);
        begin_to_rewrite(&mut shard.pubsub);
    }
}

/// The desk of the archive has answered.
pub(super) fn archive_answered<C: Chain>(shard: &mut Shard<C>, answer: archive::Answer) {
    page_answers::archive_answered(shard, answer);
    serve_uncrowded(&mut shard.pubsub.clients);
    begin_to_rewrite(&mut shard.pubsub);
}

/// All that follows from an input has been done: what it has brought to the disk is told.
#[cold]
pub(super) fn settle<C: Chain>(shard: &mut Shard<C>) {
    if shard.pubsub.clients.persistence.as_ref().is_some_and(|persistence| persistence.is_any_adoption_due()) {
        adopt_some(&mut shard.pubsub);
    }
    // What was buffered for a session is recorded when it is in its queue.
    let is_any_arriving =
        shard.migration.incoming.is_any_arriving() || shard.pubsub.clients.agenda.remnants.is_any_buffered();
    let are_wills_waiting = !shard.pubsub.wills.is_empty();
    let clients = &mut shard.pubsub.clients;
    let fan_outs = &clients.delivery.fan_outs;
    let portions = (!is_any_arriving && !are_wills_waiting).then(|| (fan_outs.begun(), fan_outs.done()));
    let Some(persistence) = &mut clients.persistence else { return };
    persistence.is_any_arriving = is_any_arriving;
    persistence.end_input(portions);
    while let Some((to, committed)) = clients.persistence.as_mut().and_then(|one| one.next_news()) {
        clients.agenda.post(to, ShardMessage::Committed(committed));
    }
    recording::record_new_wills(clients);
    while let Some((to, token)) = clients.persistence.as_mut().and_then(|one| one.next_stored()) {
        clients.agenda.post(to, ShardMessage::Stored { token });
    }
    if let Some(below) = clients.persistence.as_mut().and_then(|one| one.next_decisions()) {
        let others = (0..clients.setup.shards).filter(|shard| *shard != clients.setup.id);
        others.for_each(|shard| clients.agenda.post(shard, ShardMessage::Decided(below)));
    }
    while let Some((id, answer)) = clients.persistence.as_mut().and_then(|one| one.next_answer()) {
        let was_held = answer == persistence::Answer::Output;
        recording::give_answer(clients, id, answer);
        if was_held && let Some(index) = clients.connections.get(id).and_then(|connection| connection.session()) {
            clients.send_waiting(index);
        }
    }
    while let Some(launch) = clients.persistence.as_mut().and_then(|one| one.next_launch()) {
        let (index, instance) = launch.session;
        if let Some(session) = clients.sessions.get_mut(index).filter(|session| session.instance == instance) {
            session.outbound.on_disk_below = session.outbound.on_disk_below.max(launch.key.get() + 1);
            clients.send_waiting(index);
        }
    }
}

/// Clients that waited for the journal are served, if it has room.
fn serve_uncrowded<C: Chain>(clients: &mut Clients<C>) {
    let Some(persistence) = &mut clients.persistence else { return };
    let (may_send, waiting) = (persistence.may_send(), persistence.have_room());
    may_send.into_iter().for_each(|id| sending::wait_no_more(clients, id));
    waiting.into_iter().for_each(|id| clients.serve_later(id, PauseReason::Disk));
}
