//! A copy of the store while it is used: all shards cut their journals for it, see `persistence::copying`.
//!
//! Whoever hears of a copy first, from the runtime or from another shard, cuts at once, and tells all others before anything else that they hear of it.
//! Messages between two shards arrive in order: so none that was sent behind a cut comes before the other shard has cut, too.

use super::machine::Shard;
use super::output::Output;
use super::store_report::CutNews;
use crate::hooks::Chain;

/// The journal is cut for the copy with this number, if it was not before.
pub(super) fn cut<C: Chain>(shard: &mut Shard<C>, number: u64) {
    let clients = &mut shard.pubsub.clients;
    let Some(persistence) = &mut clients.persistence else { return };
    if persistence.cut(number) {
        clients.agenda.tell_of_cut(number);
        clients.agenda.output(Output::Cut(number, CutNews::Made));
        tell(shard);
    }
}

/// Tells the runtime when all that the copy has is on disk.
pub(super) fn tell<C: Chain>(shard: &mut Shard<C>) {
    let clients = &mut shard.pubsub.clients;
    if let Some((number, pieces)) = clients.persistence.as_mut().and_then(|persistence| persistence.next_cut()) {
        clients.agenda.output(Output::Cut(number, CutNews::OnDisk(pieces)));
    }
}

/// The copy with this number is made, or is not wanted any more.
pub(super) fn end<C: Chain>(shard: &mut Shard<C>, number: u64) {
    if let Some(persistence) = &mut shard.pubsub.clients.persistence {
        persistence.end_cut(number);
    }
}
