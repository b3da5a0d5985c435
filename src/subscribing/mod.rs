//! The organ for SUBSCRIBE and UNSUBSCRIBE: what is granted, and subscriptions that other shards have not taken in yet.
//!
//! A subscription takes effect on this shard at once. If its filter is new to the shard, the others are told; when all of them have taken it
//! in, and the shards that own what is retained have answered, the hooks are told, SUBACK goes out, and retained messages follow. So
//! after SUBACK nothing is missed, whichever shard a publisher is on. Until then the client's next packets wait.
//!
//! Owns the subscriptions that are being made, and the numbers of what is announced. It changes the subscriptions of the session that is
//! lent to it, and knows neither filter trees nor other shards.

mod announcements;
mod grants;
mod packets;

use std::collections::{BTreeMap, BTreeSet};

pub use announcements::Announcements;
pub use grants::{Granted, admit, grant, requested, wanted};
pub use packets::{suback, to_remove, unsuback, unsubscribe};

use crate::client::ConnectionId;
use crate::codec::{KeptUserProperties, PacketId, ReasonCode};
use crate::hooks::{RequestedFilter, SubscribeModifiersM5, SubscribedM5};

/// Subscriptions that are being made; one for each shard.
pub struct Subscribing {
    /// What other shards are told of filters.
    pub announcements: Announcements,
    /// By the number of the subscription.
    pending: BTreeMap<u64, PendingSubscribe>,
    /// Those that wait for an announcement, by its number.
    announced: BTreeSet<(u64, u64)>,
    /// The same by session.
    of_session: BTreeSet<(u32, u64)>,
}

/// A SUBSCRIBE between taking effect here and SUBACK.
pub struct PendingSubscribe {
    /// Whose it is.
    pub by: SubscribeSource,
    /// The session, or the place of the program's subscription, in the filter trees.
    pub session: u32,
    /// Which session it was at that place: its [`instance`](crate::session::Session::instance); of the embedding program, the number of the
    /// subscription.
    pub instance: u64,
    /// The mountpoint.
    pub mountpoint: u32,
    /// The Subscription Identifier; zero without one.
    pub subscription_id: u32,
    /// For each filter, what was granted.
    pub granted: Vec<Result<Granted, ReasonCode>>,
    /// How many filters came behind those, more than one packet may have: they are refused with 0x97, Quota exceeded.
    pub beyond: usize,
    /// The announcement that all other shards must have answered before anything else; zero if there is none.
    after: u64,
}

/// Whose subscription it is.
pub enum SubscribeSource {
    /// A client's, by this packet.
    Client(ClientSubscribe),
    /// The embedding program's.
    Program,
}

/// What a SUBACK and the hooks need to know of a SUBSCRIBE.
pub struct ClientSubscribe {
    /// Where it came from.
    pub connection: ConnectionId,
    /// Its packet id.
    pub packet_id: PacketId,
    /// Its user properties.
    pub user: KeptUserProperties,
    /// What the hooks want to be told in SUBACK.
    pub modifiers: SubscribeModifiersM5,
    /// The connection has ended, and the hooks were told of the subscription before that: there is no SUBACK. By then the session may
    /// be another connection's, or gone and its place taken: see [`PendingSubscribe::instance`].
    pub connection_ended: bool,
}

impl PendingSubscribe {
    /// A subscription of a session, or of the program, at this place of the table.
    pub fn new(by: SubscribeSource, session: u32, instance: u64, mountpoint: u32, subscription_id: u32) -> Self {
        PendingSubscribe {
            by,
            session,
            instance,
            mountpoint,
            subscription_id,
            granted: Vec::new(),
            beyond: 0,
            after: 0,
        }
    }

    /// The connection that waits for SUBACK.
    pub fn connection(&self) -> Option<ConnectionId> {
        match &self.by {
            SubscribeSource::Client(client) => Some(client.connection),
            SubscribeSource::Program => None,
        }
    }

    /// The packet of a client whose hooks and SUBACK have not been told yet.
    pub fn client(&self) -> Option<&ClientSubscribe> {
        match &self.by {
            SubscribeSource::Client(client) if !client.connection_ended => Some(client),
            SubscribeSource::Client(_) | SubscribeSource::Program => None,
        }
    }

    /// The connection has ended, and the hooks have been told.
    pub fn connection_ended(&mut self) {
        if let SubscribeSource::Client(client) = &mut self.by {
            client.connection_ended = true;
        }
    }

    /// Calls `tell` with what the hooks are told: unless every filter was refused.
    pub fn tell<T>(&self, tell: impl FnOnce(&SubscribedM5<'_>) -> T) -> Option<T> {
        let client = self.client()?;
        let granted: Vec<RequestedFilter<'_>> = self
            .granted
            .iter()
            .flatten()
            .map(|granted| RequestedFilter { filter: granted.filter.as_str(), options: granted.options })
            .collect();
        let subscribed = SubscribedM5 {
            filters: &granted,
            subscription_id: Some(self.subscription_id).filter(|id| *id > 0),
            user_properties: client.user.get(),
        };
        (!granted.is_empty()).then(|| tell(&subscribed))
    }
}

impl Subscribing {
    /// None is being made, on one of `shards`.
    pub fn new(shards: usize) -> Self {
        Subscribing {
            announcements: Announcements::new(shards),
            pending: BTreeMap::new(),
            announced: BTreeSet::new(),
            of_session: BTreeSet::new(),
        }
    }

    /// How many are being made.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether a subscription of this session is being made.
    pub fn is_subscribing(&self, session: u32) -> bool {
        self.of_session.range((session, 0)..=(session, u64::MAX)).next().is_some()
    }

    /// Whether this subscription is being made.
    pub fn is_pending(&self, token: u64) -> bool {
        self.pending.contains_key(&token)
    }

    /// A subscription goes on when all other shards have answered this announcement; zero: it waits for something else. It comes back with
    /// [`next_announced`](Self::next_announced) or [`take`](Self::take).
    pub fn insert(&mut self, token: u64, mut pending: PendingSubscribe, after: u64) {
        pending.after = after;
        self.put_back(token, pending);
    }

    /// The subscriptions that wait for this announcement.
    pub fn waiting_for(&self, announcement: u64) -> impl Iterator<Item = u64> {
        self.announced.range((announcement, 0)..=(announcement, u64::MAX)).map(|(_, token)| *token)
    }

    /// Takes out the next subscription whose announcement all other shards have answered.
    pub fn next_announced(&mut self) -> Option<(u64, PendingSubscribe)> {
        let (after, token) = *self.announced.first()?;
        let pending = if self.announcements.is_complete(after) { self.take(token) } else { None };
        pending.map(|pending| (token, pending))
    }

    /// Takes out the subscription with this number. It comes back with [`put_back`](Self::put_back).
    pub fn take(&mut self, token: u64) -> Option<PendingSubscribe> {
        let pending = self.pending.remove(&token)?;
        self.of_session.remove(&(pending.session, token));
        self.announced.remove(&(pending.after, token));
        Some(pending)
    }

    /// Puts back what was taken out: it waits for what it waited for.
    pub fn put_back(&mut self, token: u64, pending: PendingSubscribe) {
        self.of_session.insert((pending.session, token));
        if pending.after > 0 {
            self.announced.insert((pending.after, token));
        }
        self.pending.insert(token, pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{QoS, SubscriptionOptions};
    use crate::topic::TopicFilter;

    fn pending() -> PendingSubscribe {
        let client = ClientSubscribe {
            connection: ConnectionId::new(1, 1),
            packet_id: PacketId::MIN,
            user: crate::codec::UserProperties::from(&[("name".to_owned(), "value".to_owned())][..]).into(),
            modifiers: SubscribeModifiersM5::default(),
            connection_ended: false,
        };
        PendingSubscribe::new(SubscribeSource::Client(client), 7, 70, 0, 5)
    }

    fn granted(filter: &str) -> Granted {
        let filter = TopicFilter::parse(filter, 8).expect("a valid filter");
        Granted { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce), wants_retained: true }
    }

    #[test]
    fn it_goes_on_when_all_other_shards_have_answered_its_announcement() {
        let mut subscribing = Subscribing::new(3);
        let numbers = [(); 2].map(|()| subscribing.announcements.make());
        for (token, after) in [(1, numbers[1]), (2, numbers[0]), (3, 0)] {
            subscribing.insert(token, pending(), after);
        }
        assert!(subscribing.is_subscribing(7) && !subscribing.is_subscribing(8));
        assert_eq!(subscribing.waiting_for(numbers[1]).collect::<Vec<_>>(), [1]);
        subscribing.announcements.answered(0);
        assert!(subscribing.next_announced().is_none());
        // Its connection ends meanwhile.
        let taken = subscribing.take(2).expect("it is there");
        subscribing.put_back(2, taken);
        subscribing.announcements.answered(2);
        let next = |subscribing: &mut Subscribing| subscribing.next_announced().map(|(token, _)| token);
        assert_eq!((next(&mut subscribing), next(&mut subscribing)), (Some(2), None));
        assert_eq!([0, 2].map(|from| subscribing.announcements.answered(from)), numbers[1..].repeat(2)[..]);
        assert_eq!((next(&mut subscribing), next(&mut subscribing)), (Some(1), None));
        assert!(subscribing.is_pending(3) && subscribing.take(3).is_some_and(|pending| pending.instance == 70));
        assert!(subscribing.take(3).is_none() && !subscribing.is_subscribing(7));
        assert_eq!(subscribing.len(), 0);
    }

    #[test]
    fn hooks_are_told_what_was_granted_unless_that_is_nothing() {
        let mut pending = pending();
        pending.granted = vec![Err(ReasonCode::NotAuthorized)];
        assert_eq!(pending.tell(|_| ()), None);
        pending.granted.push(Ok(granted("a/#")));
        let told = pending.tell(|told| (told.filters[0].filter.to_owned(), told.filters.len(), told.subscription_id));
        assert_eq!(told, Some(("a/#".to_owned(), 1, Some(5))));
    }

    #[test]
    fn hooks_are_told_once_if_the_connection_ends_first() {
        let mut pending = pending();
        pending.granted = vec![Ok(granted("a"))];
        pending.connection_ended();
        assert_eq!(pending.tell(|_| ()), None);
        assert_eq!((pending.client().is_none(), pending.connection()), (true, Some(ConnectionId::new(1, 1))));
    }
}
