//! What travels between shards: the announcement of a session, and the session itself.

use crate::client::Client;
use crate::connection::Connection;
use crate::session::{MigrationState, Session, SessionSettings, Subscription, SubscriptionPortion};
use crate::topic::TopicFilter;

/// What belongs to a topic filter in memory, but for its text.
pub(crate) const FILTER: usize = 64;

/// What the new owner of a session must know before the session comes.
#[derive(Debug)]
pub struct SessionAnnouncement {
    /// The number of the session's migration at its old owner.
    pub(crate) token: u64,
    pub(crate) client: Client,
    pub(crate) settings: SessionSettings,
    /// Whether its client is connected.
    pub(crate) online: bool,
    /// How many subscriptions it has.
    pub(crate) subscriptions: usize,
    /// All of them, or the first portion.
    pub(crate) portion: SubscriptionPortion,
}

impl SessionAnnouncement {
    /// About how many bytes of memory it holds on to.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.client.size() + weight_of(&self.portion)
    }

    /// Of `session`, which leaves under the number `token`. With all of its subscriptions if they are `few` at most, else with the first
    /// `portion` of them.
    pub(crate) fn of<S>(token: u64, session: &Session<S>, few: usize, portion: usize) -> Self {
        let (client, settings) = (session.client.clone(), session.settings.clone());
        let subscriptions = session.subscriptions.len();
        let is_much = subscriptions > few;
        let portion = if is_much { session.subscriptions.portion(0, portion) } else { session.subscriptions.all() };
        SessionAnnouncement { token, client, settings, online: session.connection.is_some(), subscriptions, portion }
    }
}

/// About how many bytes of memory these subscriptions hold on to.
pub(crate) fn weight_of(portion: &SubscriptionPortion) -> usize {
    /// A topic filter and its subscription, but for the text.
    const ENTRY: usize = size_of::<(TopicFilter, Subscription)>() + FILTER;
    portion.entries.iter().map(|(filter, _)| ENTRY + filter.as_str().len()).sum()
}

/// A session under way to its new owner, with its connection if it has one; without its subscriptions, which are there. `S` is what the hooks keep with it, `A` what is known
/// of a client that is still connecting, `R` what its client is still to be sent of what is retained.
pub struct SessionTransfer<S, A, R> {
    /// The old owner.
    pub(crate) from: usize,
    /// The number of the migration there.
    pub(crate) token: u64,
    pub(crate) session: Box<Session<S>>,
    pub(crate) connection: Option<Box<Connection<A>>>,
    /// Of each shard's publications, up to which the old owner has delivered them.
    pub(crate) delivered_up_to: Box<[u64]>,
    pub(crate) replay: Option<Box<R>>,
    /// The bytes of that.
    pub(crate) replay_bytes: usize,
}

impl<S, A, R> SessionTransfer<S, A, R> {
    /// Packs `session`, whose subscriptions have been taken out, and which leaves shard `from` under the number `token`. `routed` is how many publications were routed on that
    /// shard so far, and `received_up_to` says, by shard, up to which publication all that was sent there has come.
    pub(crate) fn pack(
        from: usize,
        token: u64,
        mut session: Box<Session<S>>,
        connection: Option<Box<Connection<A>>>,
        routed: u64,
        received_up_to: &[u64],
    ) -> Self {
        session.connection = None;
        let delivered_up_to = delivered_up_to(from, routed, received_up_to, session.migration.take());
        SessionTransfer { from, token, session, connection, delivered_up_to, replay: None, replay_bytes: 0 }
    }

    /// About how many bytes of memory it holds on to, those of shared messages included.
    pub fn weight(&self) -> usize {
        let of_connection = |connection: &Connection<A>| {
            size_of::<Connection<A>>() + connection.unread.len() + connection.outbox.waiting()
        };
        let will = self.session.will.as_ref().map_or(0, |will| will.message.size());
        let connection = self.connection.as_ref().map_or(0, |connection| of_connection(connection));
        self.session.memory() + self.session.client.size() + will + connection + self.replay_bytes
    }

    /// The listener that accepted its connection, by its place in the configuration; 0 without one.
    pub fn listener(&self) -> usize {
        self.connection.as_ref().map_or(0, |connection| connection.listener)
    }
}

/// Of each shard's publications, up to which they have been delivered to a session in this state that leaves shard `own`.
fn delivered_up_to(own: usize, routed: u64, received_up_to: &[u64], state: Option<MigrationState>) -> Box<[u64]> {
    let mut delivered: Box<[u64]> = received_up_to.into();
    delivered[own] = routed;
    if let Some(MigrationState::Leaving { delivered_up_to: Some(before), .. }) = state {
        // What was delivered even before the session came to this shard may still be on its way here.
        delivered.iter_mut().zip(before).for_each(|(delivered, before)| *delivered = (*delivered).max(before));
    }
    delivered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{QoS, SubscriptionOptions};
    use crate::session::testing::{delivery, session};

    #[test]
    fn a_session_weighs_what_it_takes_along() {
        type Transfer = SessionTransfer<(), (), ()>;
        let mut session = Box::new(session());
        let long = "x".repeat(60_000);
        let filter = TopicFilter::parse(&long, 8).expect("a valid filter");
        session.subscriptions.put(filter, Subscription { options: SubscriptionOptions::new(QoS::AtLeastOnce), id: 0 });
        session.outbound.launch(delivery(&long, QoS::AtLeastOnce));
        let limits = session.settings.queue;
        session.outbound.queue.push(delivery(&long, QoS::AtLeastOnce), &limits, true, crate::time::Time::ZERO);
        let mut transfer = Transfer::pack(0, 1, session, None, 0, &[0, 0]);
        let weight = transfer.weight();
        assert!((180_000..190_000).contains(&weight), "subscription, in flight, queued: {weight}");
        transfer.replay_bytes = 1000;
        assert_eq!(transfer.weight(), weight + 1000);
    }

    #[test]
    fn delivered_is_what_was_routed_here_and_what_was_received_of_others() {
        let leaving = Some(MigrationState::leaving(1, 0, None));
        assert_eq!(*delivered_up_to(1, 30, &[10, 0, 20], leaving), [10, 30, 20]);
    }

    #[test]
    fn delivered_is_also_what_was_before_the_session_came_here() {
        let leaving = Some(MigrationState::Leaving {
            token: 1,
            to: 0,
            published: false,
            delivered_up_to: Some([12, 4, 8].into()),
        });
        assert_eq!(*delivered_up_to(1, 30, &[10, 0, 20], leaving), [12, 30, 20]);
    }
}
