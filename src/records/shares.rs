//! What of a store each shard goes on with.

use super::image::Contents;
use super::stored_session::StoredSession;
use crate::numbers::StoreNumber;
use crate::session::Key;
use crate::sharding::owner_of;

/// What of a store a shard goes on with.
#[derive(Default)]
pub struct Share {
    /// Its sessions.
    pub sessions: Vec<StoredSession>,
    /// Of the [displaced](Contents::displaced) numbers, those of which it says that they have ended.
    pub displaced: Vec<StoreNumber>,
    /// Of the [undecided](Contents::undecided) messages, those of which it says that they are removed.
    pub undecided: Vec<(StoreNumber, Key)>,
}

impl Contents {
    /// Gives the sessions out to so many shards, as subscriber ids are hashed with this seed, with what each has to record at once.
    pub fn shares(&mut self, shards: usize, seed: u64) -> Vec<Share> {
        let mut shares: Vec<Share> = std::iter::repeat_with(Share::default).take(shards).collect();
        for number in self.displaced() {
            shares[usize::from(number.shard()) % shards].displaced.push(*number);
        }
        let undecided = self.undecided().to_vec();
        for session in self.sessions() {
            let share = &mut shares[owner_of(&session.client.subscriber, shards, seed)];
            let from = undecided.partition_point(|(number, _)| *number < session.number);
            let own = undecided[from..].iter().take_while(|(number, _)| *number == session.number);
            share.undecided.extend(own);
            share.sessions.push(*session);
        }
        shares
    }
}
