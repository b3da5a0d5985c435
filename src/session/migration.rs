//! The migration state of a session.

use std::collections::VecDeque;

use super::{OutgoingMessage, QueueLimits};
use crate::sharding::Publisher;

/// Which publication of which shard a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationId {
    /// The shard that routed it.
    pub shard: usize,
    /// Its number there, which rises with every publication that the shard routes.
    pub sequence: u64,
}

impl PublicationId {
    /// Not a publication that was routed: the message was sent to this session alone, and once.
    pub const NONE: PublicationId = PublicationId { shard: 0, sequence: u64::MAX };
}

/// The state of a session that is under way to another shard, or has come from one not long ago.
#[derive(Debug)]
pub enum MigrationState {
    /// It is about to leave, and the new owner prepares for it. Messages are delivered to it here, but its connection's packets
    /// are not served.
    Leaving {
        /// The number of this migration on this shard.
        token: u64,
        /// The new owner.
        to: usize,
        /// A will of its client was published since the other shards were asked to flush, or since that was looked at.
        published: bool,
        /// As in [`MigrationState::Arrived`], if it was in that state before.
        delivered_up_to: Option<Box<[u64]>>,
    },
    /// It is to come, and this is its place; or it has come, and what was buffered for it is being delivered. Messages for it are buffered.
    Arriving(Arriving),
    /// It has come from another shard, where messages were delivered to it that may arrive here once more.
    Arrived {
        /// For each shard, the number of its last publication that was delivered, with all before it.
        delivered_up_to: Box<[u64]>,
    },
}

/// What is buffered for a session that is to come. It has no more bytes than its queue may have, and publishers wait before that bound is reached.
#[derive(Debug, Default)]
pub struct Arriving {
    /// Whether its client was there when it was announced: its memberships in shared subscriptions are as if it was.
    pub online: bool,
    /// In the order in which they came.
    pub buffered: VecDeque<Buffered>,
    /// Their bytes.
    pub bytes: usize,
    /// Publishers that wait until it has come.
    pub publishers: Vec<Publisher>,
    /// The first of those that were too many: the hooks can be told of them when it has come.
    pub dropped: Vec<Buffered>,
    /// As in [`MigrationState::Arrived`], when it has come.
    pub delivered_up_to: Option<Box<[u64]>>,
}

/// The hooks are told of so many messages that were too many for a session that was to come.
const MOST_TOLD: usize = 64;

impl Arriving {
    /// Adds a message, if the queue of the session allows it. Whether it does, or the message may be told of later.
    pub fn push(&mut self, buffered: Buffered, limits: &QueueLimits) -> bool {
        let bytes = self.bytes + buffered.delivery.size();
        if !limits.bytes.allows(bytes) {
            let is_told = self.dropped.len() < MOST_TOLD;
            if is_told {
                self.dropped.push(buffered);
            }
            return is_told;
        }
        self.bytes = bytes;
        self.buffered.push_back(buffered);
        true
    }

    /// The message that came first, taken out.
    pub fn pop(&mut self) -> Option<Buffered> {
        let first = self.buffered.pop_front()?;
        self.bytes -= first.delivery.size();
        Some(first)
    }

    /// Whether as much is buffered as the queue of the session may have, nearly.
    pub fn is_full(&self, limits: &QueueLimits) -> bool {
        !limits.online.allows(self.buffered.len() * 4 / 3 + 1) || !limits.bytes.allows(self.bytes.saturating_mul(2))
    }

    /// Whether `publisher` has to wait, and did not before: more than `most` bytes are buffered, or half of what the queue allows.
    pub fn waits(&mut self, publisher: Publisher, most: usize, limits: &QueueLimits) -> bool {
        let waits = self.is_much(most, limits) && !self.publishers.contains(&publisher);
        if waits {
            self.publishers.push(publisher);
        }
        waits
    }

    fn is_much(&self, most: usize, limits: &QueueLimits) -> bool {
        self.bytes > limits.bytes.get().map_or(most, |bytes| most.min(bytes / 2))
    }

    /// What has come so far is delivered where the session is still, but for what came through shared subscriptions: that alone stays. Gives
    /// the publishers that wait no more.
    pub fn forget_delivered(&mut self, most: usize, limits: &QueueLimits) -> Vec<Publisher> {
        let is_for_this_shard = |buffered: &Buffered| buffered.delivery.group.is_some();
        self.buffered.retain(is_for_this_shard);
        self.dropped.retain(is_for_this_shard);
        self.bytes = self.buffered.iter().map(|buffered| buffered.delivery.size()).sum();
        if self.is_much(most, limits) { Vec::new() } else { std::mem::take(&mut self.publishers) }
    }
}

/// A message that was buffered until its session comes.
#[derive(Debug)]
pub struct Buffered {
    /// Which publication it is.
    pub id: PublicationId,
    /// The message. Its QoS is that of the subscriptions; the session's settings and the publication's QoS are applied when it
    /// is delivered.
    pub delivery: OutgoingMessage,
}

impl MigrationState {
    /// That of a session that leaves for shard `to` under this number and had the state `before`.
    pub fn leaving(token: u64, to: usize, before: Option<MigrationState>) -> Self {
        let delivered_up_to = match before {
            Some(MigrationState::Arrived { delivered_up_to }) => Some(delivered_up_to),
            _ => None,
        };
        MigrationState::Leaving { token, to, published: false, delivered_up_to }
    }

    /// Whether a will of its client was published while it leaves; not asked about again.
    pub fn take_published(&mut self) -> bool {
        match self {
            MigrationState::Leaving { published, .. } => std::mem::take(published),
            MigrationState::Arriving { .. } | MigrationState::Arrived { .. } => false,
        }
    }

    /// The number under which it leaves, if it does.
    pub fn leaves_as(&self) -> Option<u64> {
        match self {
            MigrationState::Leaving { token, .. } => Some(*token),
            MigrationState::Arriving { .. } | MigrationState::Arrived { .. } => None,
        }
    }

    /// Whether a session in this state leaves for another shard.
    pub fn leaves(state: Option<&MigrationState>) -> bool {
        state.is_some_and(|state| state.leaves_as().is_some())
    }

    /// Whether a message is to be delivered to this session here: not if it was delivered at the old owner. A message of a shared
    /// subscription was sent to one shard only.
    pub fn is_new(&self, source: PublicationId, shared: bool) -> bool {
        match self {
            MigrationState::Arrived { delivered_up_to }
            | MigrationState::Arriving(Arriving { delivered_up_to: Some(delivered_up_to), .. })
            | MigrationState::Leaving { delivered_up_to: Some(delivered_up_to), .. } => {
                shared || source.sequence > delivered_up_to[source.shard]
            }
            MigrationState::Leaving { delivered_up_to: None, .. } | MigrationState::Arriving { .. } => true,
        }
    }

    /// Whether the session has come, and shard `own` has received everything that was delivered at the old owner: nothing comes
    /// once more. `received_up_to` is, for each shard, the number of a publication that has come with all before it.
    pub fn is_over(&self, own: usize, received_up_to: &[u64]) -> bool {
        let MigrationState::Arrived { delivered_up_to } = self else { return false };
        let mut shards = delivered_up_to.iter().zip(received_up_to).enumerate();
        shards.all(|(shard, (delivered, received))| shard == own || received >= delivered)
    }

    /// Whether nothing is left of a move of a session that had come to shard `own`. That is forgotten when all that was delivered before has
    /// come from the other shards, which have sent up to `received`.
    pub fn forget_arrival(state: &mut Option<MigrationState>, own: usize, received: &[u64]) -> bool {
        match state {
            Some(arrived @ MigrationState::Arrived { .. }) => {
                let is_over = arrived.is_over(own, received);
                if is_over {
                    *state = None;
                }
                is_over
            }
            // It is Arrived when what was buffered is delivered; the place may be that of another one by now, which is still to come.
            Some(arriving @ MigrationState::Arriving(_)) => !arriving.has_come(),
            Some(MigrationState::Leaving { .. }) | None => true,
        }
    }

    /// Of a session that has come: what is buffered for it is delivered from here on, as to one that has; until
    /// [`pause_delivery`](Self::pause_delivery), if not all of it is.
    pub fn begin_delivery(state: &mut Option<MigrationState>) -> Arriving {
        let Some(MigrationState::Arriving(mut arriving)) = state.take_if(|state| state.has_come()) else {
            return Arriving::default();
        };
        *state = arriving.delivered_up_to.take().map(|delivered_up_to| MigrationState::Arrived { delivered_up_to });
        arriving
    }

    /// Some is left: messages for the session are buffered behind that.
    pub fn pause_delivery(state: &mut Option<MigrationState>, left: Arriving) {
        if let Some(MigrationState::Arrived { delivered_up_to }) = state.take() {
            let delivered_up_to = Some(delivered_up_to);
            *state = Some(MigrationState::Arriving(Arriving { delivered_up_to, ..left }));
        }
    }

    /// Whether it is the state of a session that has come, and for which messages are buffered still.
    fn has_come(&self) -> bool {
        matches!(self, MigrationState::Arriving(Arriving { delivered_up_to: Some(_), .. }))
    }

    /// What was buffered.
    pub fn into_arriving(self) -> Arriving {
        match self {
            MigrationState::Arriving(arriving) => arriving,
            MigrationState::Leaving { .. } | MigrationState::Arrived { .. } => Arriving::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limit;

    fn arrived() -> MigrationState {
        MigrationState::Arrived { delivered_up_to: [5, 7].into() }
    }

    #[test]
    fn what_was_delivered_at_the_old_owner_is_not_new() {
        let source = |shard, sequence| PublicationId { shard, sequence };
        for state in [arrived(), MigrationState::leaving(1, 0, Some(arrived()))] {
            assert!(!state.is_new(source(0, 5), false) && !state.is_new(source(1, 7), false));
            assert!(state.is_new(source(0, 6), false));
            assert!(state.is_new(source(0, 5), true), "of a shared subscription");
            assert!(state.is_new(PublicationId::NONE, false));
        }
        assert!(MigrationState::leaving(1, 0, None).is_new(source(0, 1), false));
        assert!(MigrationState::Arriving(Arriving::default()).is_new(source(0, 1), false));
    }

    #[test]
    fn what_the_old_owner_delivers_is_forgotten_and_publishers_go_on_if_that_is_enough() {
        let limits = QueueLimits { bytes: Limit::at_most(2000), ..crate::session::testing::session().settings.queue };
        let group = std::sync::Arc::new(crate::topic::TopicFilter::parse("$share/g/t", 8).expect("a valid filter"));
        for (members, goes_on) in [(1, true), (3, false)] {
            let mut arriving = Arriving::default();
            for sequence in 0..6 {
                let group = (sequence < members).then(|| group.clone());
                let delivery = crate::session::testing::delivery(&"x".repeat(400), crate::codec::QoS::AtMostOnce);
                let id = PublicationId { shard: 0, sequence };
                assert!(arriving.push(Buffered { id, delivery: OutgoingMessage { group, ..delivery } }, &limits));
            }
            let publisher = Publisher { shard: 1, connection: crate::client::ConnectionId::new(1, 1) };
            assert!(arriving.waits(publisher, 10_000, &limits));
            let released = arriving.forget_delivered(10_000, &limits);
            assert_eq!((released.len(), arriving.publishers.len()), if goes_on { (1, 0) } else { (0, 1) });
            assert_eq!(
                arriving.buffered.iter().map(|one| one.id.sequence).collect::<Vec<_>>(),
                Vec::from_iter(0..members)
            );
            let bytes: usize = arriving.buffered.iter().map(|one| one.delivery.size()).sum();
            assert!(arriving.dropped.is_empty() && arriving.bytes == bytes);
        }
    }

    #[test]
    fn a_session_that_has_come_is_arriving_until_all_that_was_buffered_is_delivered() {
        let limits = crate::session::testing::session().settings.queue;
        let buffered = |sequence| Buffered {
            id: PublicationId { shard: 0, sequence },
            delivery: crate::session::testing::delivery("payload", crate::codec::QoS::AtMostOnce),
        };
        let mut arriving = Arriving::default();
        (6..9).for_each(|sequence| assert!(arriving.push(buffered(sequence), &limits)));
        let each = arriving.bytes / 3;
        let mut state = Some(MigrationState::Arriving(arriving));
        let nothing = MigrationState::begin_delivery(&mut state);
        assert!(nothing.buffered.is_empty(), "it has not come");
        let is_forgotten = |state: &mut Option<MigrationState>| MigrationState::forget_arrival(state, 0, &[9, 9]);
        assert!(is_forgotten(&mut state), "there is no arrival to be forgotten");
        let Some(MigrationState::Arriving(arriving)) = &mut state else { panic!("{state:?}") };
        arriving.delivered_up_to = Some([5, 7].into());
        let is_new = |state: &Option<MigrationState>, sequence| {
            state.as_ref().is_some_and(|state| state.is_new(PublicationId { shard: 0, sequence }, false))
        };
        assert!(is_new(&state, 6) && !is_new(&state, 5));
        let mut left = MigrationState::begin_delivery(&mut state);
        assert!(matches!(state, Some(MigrationState::Arrived { .. })));
        assert_eq!((left.pop().map(|one| one.id.sequence), left.bytes), (Some(6), 2 * each));
        MigrationState::pause_delivery(&mut state, left);
        assert!(!is_forgotten(&mut state), "it is to be looked at again when all is delivered");
        let Some(MigrationState::Arriving(arriving)) = &mut state else { panic!("{state:?}") };
        assert!(arriving.push(buffered(9), &limits));
        let mut left = MigrationState::begin_delivery(&mut state);
        let order: Vec<_> = std::iter::from_fn(|| left.pop()).map(|one| one.id.sequence).collect();
        assert_eq!((order, left.bytes), (vec![7, 8, 9], 0));
        assert!(!is_new(&state, 5) && is_new(&state, 6));
        assert!(is_forgotten(&mut state) && state.is_none());
    }

    #[test]
    fn a_migration_is_over_when_all_that_was_delivered_before_has_come_from_other_shards() {
        assert!(!arrived().is_over(0, &[0, 6]));
        assert!(arrived().is_over(0, &[0, 7]), "shard 0 sends itself nothing");
        assert!(!arrived().is_over(1, &[4, 7]));
        assert!(!MigrationState::leaving(1, 0, Some(arrived())).is_over(0, &[9, 9]), "it leaves again");
    }
}
