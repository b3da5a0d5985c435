//! The tables of a shard: connections by the index the runtime gave them, sessions by an index of their own and by
//! subscriber id.

use hashbrown::HashMap;

use crate::sharding::SLOTS;
use crate::client::{ConnectionId, SubscriberId};
use crate::connection::Connection;
use crate::session::Session;
use crate::time::Time;

/// The moments at which the timer wheel holds entries of one owner, as far as they count: so that it is not armed for a
/// moment for which there is an entry already.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    next: Time,
    /// An entry behind the next one: when that has fired, this is the next.
    after: Time,
}

impl Due {
    const NEVER: Due = Due { next: Time::NEVER, after: Time::NEVER };

    /// The owner wants to be looked at when `at` has come; says whether an entry must be armed for that.
    pub fn wants(&mut self, at: Time) -> bool {
        if at >= self.next {
            return false;
        }
        *self = Due { next: at, after: self.next };
        true
    }

    /// An entry of this owner has fired; says whether it is one that counts.
    pub fn fires(&mut self, now: Time) -> bool {
        if self.next > now {
            return false;
        }
        *self = if self.after > now { Due { next: self.after, after: Time::NEVER } } else { Due::NEVER };
        true
    }
}

/// The connections of a shard. The runtime assigns indices; a stale id finds nothing.
pub struct Connections<A> {
    records: Vec<Option<Box<Connection<A>>>>,
    /// For each index, when its next look at the clock is due. Outlives the connection: the entry in the timer wheel does.
    due: Vec<Due>,
}

impl<A> Connections<A> {
    pub fn new() -> Self {
        Connections { records: Vec::new(), due: Vec::new() }
    }

    pub fn insert(&mut self, connection: Connection<A>) {
        let at = connection.id.index();
        if self.records.len() <= at {
            self.records.resize_with(at + 1, || None);
            self.due.resize(at + 1, Due::NEVER);
        }
        debug_assert!(self.records[at].is_none(), "an index is assigned again only when its connection is gone");
        self.records[at] = Some(Box::new(connection));
    }

    #[inline]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<A>> {
        self.records.get(id.index())?.as_deref().filter(|connection| connection.id == id)
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<A>> {
        self.records.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection<A>>> {
        self.get(id)?;
        self.records[id.index()].take()
    }

    /// The connection at `index`, whichever it is now.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        Some(self.records.get(index)?.as_deref()?.id)
    }

    /// When the clock is looked at next for `index`.
    pub fn due_mut(&mut self, index: usize) -> Option<&mut Due> {
        self.due.get_mut(index)
    }

    /// The ids of all connections.
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.records.iter().flatten().map(|connection| connection.id).collect()
    }
}

/// The sessions of a shard.
pub struct Sessions<S> {
    records: Vec<Option<Box<Session<S>>>>,
    due: Vec<Due>,
    free: Vec<u32>,
    by_id: HashMap<SubscriberId, u32, ahash::RandomState>,
    /// How many there are in each slot.
    in_slot: Box<[u32]>,
}

impl<S> Sessions<S> {
    pub fn new(hasher: ahash::RandomState) -> Self {
        Sessions {
            records: Vec::new(),
            due: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::with_hasher(hasher),
            in_slot: vec![0; SLOTS].into(),
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn insert(&mut self, session: Session<S>) -> u32 {
        let id = session.client.subscriber.clone();
        self.in_slot[usize::from(session.slot)] += 1;
        let session = Some(Box::new(session));
        let index = match self.free.pop() {
            Some(index) => {
                self.records[index as usize] = session;
                index
            }
            None => {
                self.records.push(session);
                self.due.push(Due::NEVER);
                u32::try_from(self.records.len() - 1).expect("a shard has fewer than 2^32 sessions")
            }
        };
        let before = self.by_id.insert(id, index);
        debug_assert!(before.is_none(), "a subscriber id has one session");
        index
    }

    pub fn find(&self, id: &SubscriberId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&Session<S>> {
        self.records.get(index as usize)?.as_deref()
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Session<S>> {
        self.records.get_mut(index as usize)?.as_deref_mut()
    }

    pub fn remove(&mut self, index: u32) -> Option<Box<Session<S>>> {
        let session = self.records.get_mut(index as usize)?.take()?;
        self.by_id.remove(&session.client.subscriber);
        self.in_slot[usize::from(session.slot)] -= 1;
        self.free.push(index);
        if self.by_id.is_empty() {
            self.by_id.shrink_to_fit();
        }
        Some(session)
    }

    /// How many there are in `slot`.
    pub fn in_slot(&self, slot: u16) -> u32 {
        self.in_slot[usize::from(slot)]
    }

    /// The sessions for which `which` holds. Looks at every session.
    pub fn which(&self, which: impl Fn(&Session<S>) -> bool) -> Vec<u32> {
        let pauses = |index: &u32| self.get(*index).is_some_and(&which);
        (0..self.due.len() as u32).filter(pauses).collect()
    }

    /// The subscriber ids of the sessions in the slots for which `which` holds, in no order. Looks at every session.
    pub fn ids_in_slots(&self, which: impl Fn(u16) -> bool) -> Vec<SubscriberId> {
        let found = self.records.iter().flatten().filter(|session| which(session.slot));
        found.map(|session| session.client.subscriber.clone()).collect()
    }

    /// When the clock is looked at next for `index`.
    pub fn due_mut(&mut self, index: u32) -> Option<&mut Due> {
        self.due.get_mut(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_there_is_not_armed_again() {
        let at = Time::from_millis;
        let mut due = Due::NEVER;
        assert!(due.wants(at(60)) && !due.wants(at(60)) && !due.wants(at(70)));
        assert!(due.wants(at(10)), "sooner");
        assert!(!due.fires(at(9)), "a stale entry");
        assert!(due.fires(at(10)));
        assert!(!due.wants(at(60)) && !due.wants(at(100)), "the entry at 60 is there still");
        assert!(due.wants(at(20)) && due.fires(at(20)) && due.fires(at(60)));
        assert!(!due.fires(at(200)) && due.wants(at(300)));
    }
}
