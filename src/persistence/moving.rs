//! What goes to other shards by itself, and comes from them: sessions that move, and messages that are passed on.

use super::Persistence;
use super::adopting::Adoption;
use super::answers::Awaited;
use super::deferrals::Deferred;
use super::rewriting::Cursor;
use crate::client::ConnectionId;
use crate::session::StoreNumber;

impl Persistence {
    /// A session has gone to another shard, by this token: if it is stored, nothing of it counts here when it is on disk there. What it has decided is
    /// waited for there, also if that was to be stored no more.
    pub fn moved(&mut self, session: Option<StoreNumber>, token: u64) {
        self.on_disk.decisions.go_elsewhere();
        let Some(session) = session else { return };
        self.adoptions.forget(session);
        self.promises.forget(session);
        self.on_disk.elsewhere.send(token);
        self.deferrals.push(Awaited { token: Some(token), ..Awaited::default() }, Deferred::Ended(session));
    }

    /// Whether a session may go to another shard, whose client has this connection: nobody waits for anything that it has done, and if it is stored, and
    /// has come from another shard, that is on disk. The next one says that it replaces the number it has here, and knows no other.
    pub fn may_move(&self, session: Option<StoreNumber>, connection: Option<ConnectionId>) -> bool {
        let is_settled = |number| !self.on_disk.decisions.is_any_unwritten(number) && self.counts();
        session.is_none_or(is_settled) && connection.is_none_or(|id| !self.answers.has_for(id))
    }

    /// A message that came from another shard has gone on to a third one, by this token.
    pub fn passed_on(&mut self, token: u64) {
        self.on_disk.elsewhere.pass_on(token);
    }

    /// The token by which a message was passed on last.
    pub fn last_passed_on(&self) -> u64 {
        self.on_disk.elsewhere.last_passed_on()
    }

    /// A message has come by this token; what was passed on since another one was for it.
    pub fn owe(&mut self, to: usize, token: u64, since: u64) {
        self.on_disk.elsewhere.owe(to, token, since);
    }

    /// What went to another shard by this token is on disk there.
    pub fn stored_elsewhere(&mut self, token: u64) {
        self.on_disk.elsewhere.is_stored(token);
        self.write_those_deferred();
    }

    /// The next shard that is to be told that what came from it is on disk, and by which token it came.
    pub fn next_stored(&mut self) -> Option<(usize, u64)> {
        if !self.moves_count() {
            return None;
        }
        self.on_disk.elsewhere.next_answer(self.on_disk.records())
    }

    /// The session of this one has packet ids of QoS 2 messages of its client, which others got when it was not stored: it is not whole before these are on
    /// disk there. Its client would be told else that a message was taken that is lost.
    pub fn behind_messages(&self, adoption: Adoption) -> Adoption {
        adoption.behind(self.on_disk.letters.all_open())
    }

    /// A session has come from another shard, where it had the number `before`; or one is to be stored that was not.
    pub fn adopt(&mut self, adoption: Adoption, before: Option<StoreNumber>) {
        self.adoptions.begin(adoption, before);
    }

    /// What is to be recorded now of such a session, and its place in the table; [`adopted`](Self::adopted) has to follow.
    pub fn next_to_adopt(&mut self) -> Option<(u32, Cursor)> {
        let adoption = self.adoptions.next(&self.on_disk)?;
        Some((adoption.session.0, std::mem::replace(&mut adoption.at, Cursor::End)))
    }

    /// Whether sessions are to come here from other shards, or have come and are not recorded yet: what is published for them counts when they are whole.
    pub fn is_any_moving(&self) -> bool {
        self.is_any_arriving || self.adoptions.is_any_being_recorded()
    }

    /// Whether one of which all was recorded but that it is whole waits for nothing any more.
    pub fn is_any_adoption_due(&self) -> bool {
        self.adoptions.is_any_due(&self.on_disk)
    }

    /// The session at this place in the table, with this instance number, is the next of which something is recorded. False if all of it has been; if
    /// it only was not to be whole yet, it is not to be any more.
    pub fn adopt_first(&mut self, session: (u32, u64)) -> bool {
        self.adoptions.put_first(session, &self.on_disk)
    }

    /// It has been, up to here. Gives the session that is recorded but for its header, which has to be recorded once more, and
    /// [`is_adopted`](Self::is_adopted) to follow. None if there is more of it, or it has to wait for that.
    pub fn adopted(&mut self, up_to: Cursor) -> Option<Adoption> {
        if let Cursor::RestOf(_) = up_to {
            self.adoptions.first()?.at = up_to;
            return None;
        }
        self.adoptions.take_first(&self.on_disk)
    }

    /// All of a session is recorded.
    pub fn is_adopted(&mut self, adoption: &Adoption) {
        let records = self.recorded();
        self.adoptions.end(records, adoption.from.is_some());
        if let Some((from, token)) = adoption.from {
            self.on_disk.elsewhere.owe_at(from, token, records);
        }
    }
}
