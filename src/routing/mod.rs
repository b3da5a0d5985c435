//! The organ that knows who gets what: mountpoints, topic filters, who subscribes to them here, which other shards have subscribers, and
//! members of shared subscriptions.
//!
//! Owns the filter trees, the numbers of publications that were routed here, and how far the publications of other shards have come.
//! Trusts that filters and topics have been checked. Never looks at a session: it knows sessions by their places in the shard's table.
//!
//! A shard has *interest* in a filter if it has a subscriber to it; the others note that, and send one copy of what matches.

mod group;
mod member_news;
mod mountpoints;
mod recipients;
mod roster;
mod rotation;
mod subscriber;
mod subscribers;

use std::sync::Arc;

pub use group::{Choice, MemberCounts, Room};
pub use member_news::MemberNews;
pub use recipients::{Origin, Recipients};
pub use subscriber::Subscriber;

use crate::config::SharedPolicy;
use crate::random::Random;
use crate::session::{PublicationId, Subscription};
use crate::sharding::ShardSet;
use crate::topic::{Shapes, TopicFilter, TopicName};

use mountpoints::Mountpoints;

/// How often a message for a shared subscription is sent on when the shard it came to has lost its members.
const MAX_HOPS: u8 = 8;

/// Who gets what; one for each shard.
pub struct Routing {
    /// The shard it is of.
    own: usize,
    mountpoints: Mountpoints,
    random: Random,
    /// How many publications were routed here.
    sequence: u64,
    /// Of each shard, up to which publication all that it sent here has come.
    received_up_to: Vec<u64>,
    /// Shared subscriptions of which the other shards are to know how many members they have here.
    pub member_news: MemberNews,
    /// Recipients that are not in use, kept to save allocations.
    spare: Option<Box<Recipients>>,
}

/// What the other shards must know of a subscription that came or went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// This shard gained or lost its interest in the filter; or, of a shared subscription, it has got its first member online.
    pub interest: bool,
    /// Of a subscription that came: the announcement after which the other shards know of the interest.
    pub announced: u64,
    /// It is a shared subscription, and the other shards have to know at once how many members there are here now.
    pub members: Option<MemberCounts>,
}

/// For a message that goes to one member of a shared subscription: how that is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The policy of the publisher.
    pub policy: SharedPolicy,
    /// The number that stands for the publisher.
    pub publisher: u16,
    /// How many shards it was sent to, this one included.
    pub hops: u8,
    /// Shards all of whose members had no room for it.
    pub passed_over: ShardSet,
    /// A member had it waiting, and leaves it to others: its place in memory goes with it.
    pub is_moved: bool,
}

impl Turn {
    /// That of a message that was sent to no shard.
    pub fn new(policy: SharedPolicy, publisher: u16) -> Self {
        Turn { policy, publisher, hops: 0, passed_over: ShardSet::default(), is_moved: false }
    }

    /// The same of what a member had waiting.
    pub fn of_moved(policy: SharedPolicy, publisher: u16) -> Self {
        Turn { is_moved: true, ..Turn::new(policy, publisher) }
    }
}

impl Routing {
    /// No subscriber yet, on shard `own` of `shards`.
    pub fn new(own: usize, shards: usize, seed: u64, random: Random) -> Self {
        Routing {
            own,
            mountpoints: Mountpoints::new(seed),
            random,
            sequence: 0,
            received_up_to: vec![0; shards],
            member_news: MemberNews::new(shards),
            spare: None,
        }
    }

    /// The number of a mountpoint; a new one if it was not met before.
    #[inline]
    pub fn mountpoint(&mut self, name: &Arc<str>) -> u32 {
        self.mountpoints.number(name)
    }

    /// The name of a mountpoint.
    #[inline]
    pub fn name(&self, mountpoint: u32) -> &Arc<str> {
        &self.mountpoints[mountpoint].name
    }

    /// How many filters there are in all mountpoints.
    pub fn filters(&self) -> usize {
        self.mountpoints.iter().map(|mountpoint| mountpoint.tree.len()).sum()
    }

    /// How many shapes of filters count in all mountpoints.
    pub fn all_shapes(&self) -> usize {
        self.mountpoints.iter().map(|mountpoint| mountpoint.tree.shapes().len()).sum()
    }

    /// The shapes of the filters of a mountpoint, of all shards as far as this one has heard of them: a publication is compared with no others.
    pub fn shapes(&self, mountpoint: u32) -> &Shapes {
        self.mountpoints[mountpoint].tree.shapes()
    }

    /// The number of a publication that is routed here now.
    #[inline]
    pub fn next_publication(&mut self) -> PublicationId {
        self.sequence += 1;
        PublicationId { shard: self.own, sequence: self.sequence }
    }

    /// How many publications were routed here.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// All that shard `from` sent here of its publications up to `sequence` has come.
    #[inline]
    pub fn received(&mut self, from: usize, sequence: u64) {
        self.received_up_to[from] = self.received_up_to[from].max(sequence);
    }

    /// Of each shard, up to which publication all that it sent here has come.
    pub fn received_up_to(&self) -> &[u64] {
        &self.received_up_to
    }

    /// Recipients to gather into, empty. They come back with [`give_back`](Self::give_back).
    #[inline]
    pub fn lend(&mut self) -> Box<Recipients> {
        let mut recipients = self.spare.take().unwrap_or_default();
        recipients.clear();
        recipients
    }

    /// Takes back what was lent.
    #[inline]
    pub fn give_back(&mut self, recipients: Box<Recipients>) {
        self.spare = Some(recipients);
    }

    /// Gathers everybody who gets a publication that was made on this shard. Gives how many nodes of the tree of filters it looked at.
    #[inline]
    pub fn gather(&mut self, mountpoint: u32, topic: TopicName<'_>, origin: Origin, into: &mut Recipients) -> usize {
        let Routing { own, mountpoints, random, .. } = self;
        let tree = &mountpoints[mountpoint].tree;
        let looked_at = tree.matching(topic, &mut |subscribers| into.add(subscribers, origin, *own, random));
        into.complete();
        looked_at
    }

    /// Gathers the ordinary subscribers of this shard: another shard made the publication and has sent it to the others. Gives
    /// how many nodes it looked at.
    pub fn gather_own(&mut self, mountpoint: u32, topic: TopicName<'_>, into: &mut Recipients) -> usize {
        self.mountpoints[mountpoint].tree.matching(topic, &mut |subscribers| into.add_plain(subscribers))
    }

    /// The member of a shared subscription that gets a message: an online one if there is one on any shard. Which shard's turn it is
    /// is asked once: one that it was sent to does not send it on if it has a member that will do. A message that has been sent on
    /// too often, because members left while it was on its way, is nobody's.
    pub fn choose_member(&mut self, mountpoint: u32, filter: &TopicFilter, turn: Turn) -> Choice {
        let Routing { own, mountpoints, random, .. } = self;
        let Some(group) = mountpoints[mountpoint].group(filter) else { return Choice::Nobody };
        let Turn { policy, publisher, hops, .. } = turn;
        let stays = group.has_online() || hops > 0 && !group.has_online_anywhere() || hops >= MAX_HOPS;
        let member = if stays { group.choose_own(policy, publisher, random) } else { None };
        match member.map_or_else(|| group.choose(policy, publisher, *own, random), Choice::Member) {
            Choice::Shard(_) if hops >= MAX_HOPS => {
                let filter = filter.as_str();
                tracing::warn!(filter, "no member of the shared subscription was found: message dropped");
                Choice::Nobody
            }
            choice => choice,
        }
    }

    /// The member of this shard that is online and has most room, as far as a look at some tells; always the same one of equals if `keeps_to_one`.
    pub fn roomiest(
        &mut self,
        mountpoint: u32,
        filter: &TopicFilter,
        keeps_to_one: bool,
        room: &impl Fn(u32) -> Room,
    ) -> Option<(Subscriber, Room)> {
        let Routing { mountpoints, random, .. } = self;
        let start = if keeps_to_one { 0 } else { random.below(usize::MAX) };
        mountpoints[mountpoint].group(filter)?.roomiest(start, room)
    }

    /// Another shard that has members online and is none of these, from this one on.
    pub fn other_shard(&mut self, mountpoint: u32, filter: &TopicFilter, passed_over: ShardSet) -> Option<usize> {
        let Routing { own, mountpoints, .. } = self;
        mountpoints[mountpoint].group(filter)?.other_shard(*own, passed_over)
    }

    /// Whether a shared subscription has another member for what one of its members leaves: any if its session `ends`, else an online
    /// one.
    pub fn has_other_member(&self, mountpoint: u32, filter: &TopicFilter, ends: bool) -> bool {
        self.mountpoints[mountpoint].group(filter).is_some_and(|group| ends || group.has_online_anywhere())
    }

    /// Adds or changes a subscription of a session here; `online` says whether its client is connected. If that is news to the other
    /// shards, they are told of it with the announcement `next`.
    pub fn subscribe(
        &mut self,
        mountpoint: u32,
        filter: &TopicFilter,
        session: u32,
        subscription: Subscription,
        online: bool,
        next: u64,
    ) -> Change {
        let subscriber = Subscriber::new(session, subscription);
        let subscribers = self.mountpoints[mountpoint].subscribers(filter);
        if filter.share_name().is_some() {
            let group = subscribers.group(filter);
            let before = group.counts();
            group.join(subscriber, online);
            let members = group.counts();
            let interest = before.online == 0 && (members.online > 0 || before.offline == 0);
            if interest {
                group.announced = next;
            }
            let announced = group.announced;
            return Change { interest, announced, members: self.member_news.of(mountpoint, group, before) };
        }
        let interest = subscribers.local.is_empty();
        if interest {
            subscribers.announced = next;
        }
        subscribers.local.put(subscriber);
        Change { interest, announced: subscribers.announced, members: None }
    }

    /// Ends a subscription of a session here.
    pub fn unsubscribe(&mut self, mountpoint: u32, filter: &TopicFilter, session: u32) -> Change {
        let Some(subscribers) = self.mountpoints[mountpoint].tree.get_mut(filter) else { return Change::default() };
        if filter.share_name().is_some() {
            let members = subscribers.known_group_mut(filter).and_then(|group| {
                let before = group.counts();
                group.leave(session);
                self.member_news.of(mountpoint, group, before)
            });
            self.forget_if_empty(mountpoint, filter);
            return Change { members, ..Change::default() };
        }
        let interest = subscribers.local.remove(session).is_some() && subscribers.local.is_empty();
        if interest {
            self.mountpoints[mountpoint].prune(filter);
        }
        Change { interest, ..Change::default() }
    }

    /// The client of a member of a shared subscription came or left. Says how many members there are here, if the other shards have to
    /// know at once.
    pub fn set_online(
        &mut self,
        mountpoint: u32,
        filter: &TopicFilter,
        session: u32,
        online: bool,
    ) -> Option<MemberCounts> {
        let subscribers = self.mountpoints[mountpoint].tree.get_mut(filter)?;
        let group = subscribers.known_group_mut(filter)?;
        let before = group.counts();
        group.turn_online(session, online);
        self.member_news.of(mountpoint, group, before)
    }

    /// The next shared subscription of which the other shards are to know how many members it has here: its mountpoint, its filter, and how
    /// many it has.
    pub fn next_member_news(&mut self) -> Option<(u32, Arc<TopicFilter>, MemberCounts)> {
        loop {
            let (mountpoint, filter) = self.member_news.pop()?;
            // One that lost its last member was told at once, and may be gone.
            let Some(subscribers) = self.mountpoints[mountpoint].tree.get_mut(&filter) else { continue };
            if let Some(group) = subscribers.known_group_mut(&filter) {
                group.is_news = false;
                return Some((mountpoint, filter, group.counts()));
            }
        }
    }

    /// Another shard has so many members of a shared subscription.
    pub fn set_members(&mut self, shard: usize, mountpoint: u32, filter: &TopicFilter, counts: MemberCounts) {
        self.mountpoints[mountpoint].subscribers(filter).group(filter).set_elsewhere(shard, counts);
        self.forget_if_empty(mountpoint, filter);
    }

    /// Another shard has interest in a filter.
    pub fn add_interest(&mut self, shard: usize, mountpoint: u32, filter: &TopicFilter) {
        self.mountpoints[mountpoint].subscribers(filter).remote.insert(shard);
    }

    /// Another shard has lost its interest in a filter.
    pub fn remove_interest(&mut self, shard: usize, mountpoint: u32, filter: &TopicFilter) {
        if let Some(subscribers) = self.mountpoints[mountpoint].tree.get_mut(filter) {
            subscribers.remote.remove(shard);
        }
        self.mountpoints[mountpoint].prune(filter);
    }

    /// Forgets a shared subscription if it has no member on any shard.
    fn forget_if_empty(&mut self, mountpoint: u32, filter: &TopicFilter) {
        if let Some(subscribers) = self.mountpoints[mountpoint].tree.get_mut(filter) {
            subscribers.forget_group_if_empty(filter);
        }
        self.mountpoints[mountpoint].prune(filter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::codec::{QoS, SubscriptionOptions};

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 8).expect("a valid filter")
    }

    fn subscription() -> Subscription {
        Subscription { options: SubscriptionOptions::new(QoS::AtLeastOnce), id: 0 }
    }

    fn routing() -> (Routing, u32) {
        let mut routing = Routing::new(1, 3, 7, Random::from_seed(1));
        let mountpoint = routing.mountpoint(&"".into());
        (routing, mountpoint)
    }

    fn gathered(routing: &mut Routing, mountpoint: u32, topic: &str) -> (Vec<u32>, Vec<usize>) {
        let origin = Origin { session: None, publisher: 0, policy: SharedPolicy::Random };
        let mut recipients = routing.lend();
        routing.gather(mountpoint, TopicName::trusted(topic), origin, &mut recipients);
        let found = (
            recipients.local.iter().map(|recipient| recipient.session).collect(),
            recipients.shards().iter().collect(),
        );
        routing.give_back(recipients);
        found
    }

    #[test]
    fn the_first_subscriber_to_a_filter_brings_interest_and_the_last_takes_it_away() {
        let (mut routing, at) = routing();
        let a = filter("a/+");
        assert!(routing.subscribe(at, &a, 4, subscription(), true, 1).interest);
        assert!(!routing.subscribe(at, &a, 5, subscription(), true, 1).interest);
        assert_eq!(gathered(&mut routing, at, "a/b"), (vec![4, 5], vec![]));
        assert!(!routing.unsubscribe(at, &a, 4).interest);
        assert!(routing.unsubscribe(at, &a, 5).interest);
        assert!(!routing.unsubscribe(at, &a, 5).interest, "it is gone already");
        assert_eq!((gathered(&mut routing, at, "a/b"), routing.filters()), ((vec![], vec![]), 0));
    }

    #[test]
    fn other_shards_get_a_copy_while_they_have_interest() {
        let (mut routing, at) = routing();
        let a = filter("a");
        routing.add_interest(0, at, &a);
        routing.add_interest(2, at, &filter("#"));
        assert_eq!(gathered(&mut routing, at, "a"), (vec![], vec![0, 2]));
        routing.remove_interest(0, at, &a);
        assert_eq!((gathered(&mut routing, at, "a"), routing.filters()), ((vec![], vec![2]), 1));
    }

    /// Whosever they are, and for each mountpoint by itself.
    #[test]
    fn shapes_of_all_filters_count() {
        let (mut routing, at) = routing();
        let other = routing.mountpoint(&"other".into());
        let deep = |text: &str| TopicFilter::parse(text, 32).expect("a valid filter");
        let (plain, shared) = (deep("+/+/+/4/5/6/7/8/9"), deep("$share/g/+/+/+/+/5/6/7/8/9"));
        routing.subscribe(at, &plain, 4, subscription(), true, 1);
        routing.add_interest(0, at, &plain);
        routing.set_members(2, at, &shared, MemberCounts { online: 0, offline: 1 });
        assert_eq!([at, other].map(|mountpoint| routing.shapes(mountpoint).len()), [2, 0]);
        routing.unsubscribe(at, &plain, 4);
        assert_eq!(routing.shapes(at).len(), 2, "another shard has it still");
        routing.remove_interest(0, at, &plain);
        assert_eq!(routing.shapes(at).len(), 1);
        routing.set_members(2, at, &shared, MemberCounts::default());
        assert!(routing.shapes(at).is_empty());
    }

    #[test]
    fn mountpoints_do_not_see_each_other() {
        let (mut routing, at) = routing();
        let other = routing.mountpoint(&"other".into());
        routing.subscribe(at, &filter("a"), 4, subscription(), true, 1);
        assert_eq!(gathered(&mut routing, other, "a"), (vec![], vec![]));
        assert_eq!(&**routing.name(other), "other");
    }

    #[test]
    fn members_of_a_shared_subscription_are_counted_by_shard() {
        let (mut routing, at) = routing();
        let shared = filter("$share/g/a");
        let turn = |hops| Turn { hops, ..Turn::new(SharedPolicy::Random, 0) };
        let counts = |online, offline| Some(MemberCounts { online, offline });
        assert_eq!(routing.subscribe(at, &shared, 4, subscription(), true, 1).members, counts(1, 0));
        assert_eq!(routing.set_online(at, &shared, 4, false), counts(0, 1));
        assert!(!routing.has_other_member(at, &shared, false) && routing.has_other_member(at, &shared, true));
        routing.set_members(2, at, &shared, MemberCounts { online: 1, offline: 0 });
        assert_eq!(routing.choose_member(at, &shared, turn(0)), Choice::Shard(2));
        assert_eq!(routing.choose_member(at, &shared, turn(1)), Choice::Shard(2), "the online one");
        assert!(
            matches!(routing.choose_member(at, &shared, turn(MAX_HOPS)), Choice::Member(_)),
            "it is sent on no more"
        );
        assert_eq!(routing.unsubscribe(at, &shared, 4).members, counts(0, 0));
        assert_eq!(routing.choose_member(at, &shared, turn(MAX_HOPS)), Choice::Nobody);
        routing.set_members(2, at, &shared, MemberCounts::default());
        assert_eq!((routing.choose_member(at, &shared, turn(0)), routing.filters()), (Choice::Nobody, 0));
    }

    #[test]
    fn how_far_publications_have_come_only_rises() {
        let (mut routing, _) = routing();
        routing.received(0, 7);
        routing.received(0, 5);
        assert_eq!(routing.next_publication(), PublicationId { shard: 1, sequence: 1 });
        assert_eq!((routing.sequence(), routing.received_up_to()), (1, &[7, 0, 0][..]));
    }

    /// Clients that come, subscribe and leave, each while all the others are there: the same cost each, however many there are. Printed, not
    /// asserted; a walk over the others would take this test hours.
    #[test]
    fn coming_and_going_costs_the_same_however_many_there_are() {
        type Text = fn(u32) -> String;
        let one: Text = |_| "a/b".to_owned();
        let shared: Text = |_| "$share/g/a/b".to_owned();
        let shared_by_one: Text = |session| format!("$share/{session}/a/b");
        let cases =
            [("one filter", one), ("one shared subscription", shared), ("a shared subscription each", shared_by_one)];
        for (what, text) in cases {
            for clients in [1_000, 100_000_u32] {
                let (mut routing, at) = routing();
                let filters: Vec<_> = (0..clients).map(|session| filter(&text(session))).collect();
                let began = Instant::now();
                for (session, filter) in (0..).zip(&filters) {
                    routing.subscribe(at, filter, session, subscription(), true, 1);
                }
                for (session, filter) in (0..).zip(&filters) {
                    routing.set_online(at, filter, session, false);
                    routing.unsubscribe(at, filter, session);
                    routing.subscribe(at, filter, session, subscription(), true, 1);
                }
                let each = began.elapsed().as_nanos() / u128::from(4 * clients);
                let found = gathered(&mut routing, at, "a/b").0;
                assert_eq!(found.len(), if what == "one shared subscription" { 1 } else { clients as usize });
                for (session, filter) in (0..).zip(&filters) {
                    routing.unsubscribe(at, filter, session);
                }
                println!("{what}: {each} ns for each step of {clients} clients");
                assert_eq!((gathered(&mut routing, at, "a/b").0, routing.filters()), (vec![], 0));
            }
        }
    }
}
