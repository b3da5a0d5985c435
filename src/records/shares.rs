//! What of a store each shard goes on with.

use super::image::Contents;
use super::stored_session::StoredSession;
use crate::numbers::{DecisionNumber, StoreNumber};
use crate::session::{Key, PageKeys};
use crate::sharding::owner_of;

/// What of a store a shard goes on with.
pub struct Share {
    /// Its sessions.
    pub sessions: Vec<StoredSession>,
    /// What it has to see to first.
    pub beginning: Beginning,
}

/// What earlier boots have left to a shard.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Of the [displaced](Contents::displaced) numbers, those of which it says that they have ended: they would come back when those have that replaced
    /// them.
    pub displaced: Vec<StoreNumber>,
    /// Of the [undecided](Contents::undecided) messages, those of which it says that they are removed.
    pub undecided: Vec<(StoreNumber, Key)>,
    /// Numbers of [orphans](Contents::orphans), all pages of which it has to delete once what it records at first is on disk.
    pub orphans: Vec<StoreNumber>,
    /// Pages of its sessions of which nothing is left: it has to delete them likewise.
    pub gone_pages: Vec<GonePage>,
    /// The last decision there was.
    pub last_decision: DecisionNumber,
    /// Something is not, or not only, in the journal of the shard that it belongs to: each shard writes all that it has once, before clients come, and
    /// then nothing counts any more that was written by earlier boots.
    pub renews: bool,
}

/// A page in the archive of which nothing is left. As long as it is there, the records of the session have to say of each key that it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GonePage {
    /// The session.
    pub session: StoreNumber,
    /// The number under which the page is in the archive.
    pub pages_id: StoreNumber,
    /// Its keys; the first one is that of the page.
    pub keys: PageKeys,
}

impl Contents {
    /// Gives the sessions out to so many shards, as subscriber ids are hashed with this seed, with what each has to record at once. `renews`: that is all
    /// it has.
    pub fn shares(&mut self, shards: usize, seed: u64, renews: bool) -> Vec<Share> {
        let beginning = Beginning { last_decision: self.last_decision(), renews, ..Beginning::default() };
        let mut shares: Vec<Share> =
            (0..shards).map(|_| Share { sessions: Vec::new(), beginning: beginning.clone() }).collect();
        for number in self.displaced() {
            shares[usize::from(number.shard()) % shards].beginning.displaced.push(*number);
        }
        // Which shard does that does not matter: nobody else knows of them.
        if let Some(first) = shares.first_mut() {
            first.beginning.orphans = self.orphans().to_vec();
        }
        let undecided = self.undecided().to_vec();
        for mut session in self.sessions() {
            let share = &mut shares[owner_of(&session.client.subscriber, shards, seed)];
            let from = undecided.partition_point(|(number, _)| *number < session.number);
            let own = undecided[from..].iter().take_while(|(number, _)| *number == session.number);
            share.beginning.undecided.extend(own);
            let (number, pages_id) = (session.number, session.pages_id());
            let gone_pages = std::mem::take(&mut session.gone_pages).into_iter();
            share.beginning.gone_pages.extend(gone_pages.map(|keys| GonePage { session: number, pages_id, keys }));
            share.sessions.push(*session);
        }
        shares
    }
}
