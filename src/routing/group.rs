//! A shared subscription: which member gets a message.
//!
//! Every shard knows its own members one by one and of the others how many they have. The publisher's shard chooses a place
//! among all members, online ones first; if that is on another shard, that shard chooses the member.

use std::cell::Cell;
use std::iter::once;
use std::sync::Arc;

use super::rotation::Rotation;
use super::subscriber::Subscriber;
use crate::config::SharedPolicy;
use crate::memory::{Held, MemoryKind, OF_SHARED_TEXT, allocated, allocated_for};
use crate::random::Random;
use crate::sharding::ShardSet;
use crate::topic::TopicFilter;

/// The members of one shared subscription.
#[derive(Debug)]
pub struct Group {
    /// The filter, with its share name.
    pub filter: Arc<TopicFilter>,
    /// The announcement after which the other shards know that there are members here.
    pub announced: u64,
    /// How many there are here is to be told to the other shards when there is time.
    pub is_news: bool,
    online: Rotation,
    offline: Rotation,
    /// Members of other shards, by shard.
    elsewhere: Vec<Elsewhere>,
    /// Whose turn it is among the shards.
    turn: Cell<ShardTurn>,
    held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// About what a group takes in the table of those of a filter, with its name.
const ENTRY: usize = 128;

/// How many members of a shared subscription a shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Members with a live connection.
    pub online: u32,
    /// Members without.
    pub offline: u32,
}

/// The members of one other shard.
#[derive(Clone, Copy, Debug)]
struct Elsewhere {
    shard: usize,
    online: u32,
    offline: u32,
}

/// The shard that has its turn, and how many of its members have had theirs.
#[derive(Clone, Copy, Debug, Default)]
struct ShardTurn {
    shard: usize,
    served: usize,
}

/// Where a message for a shared subscription goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To this member of this shard.
    Member(Subscriber),
    /// To a member of that shard.
    Shard(usize),
    /// There is no member.
    Nobody,
}

/// How much room a member has for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None: it takes nothing.
    Stalled,
    /// None: its queue is full.
    Full,
    /// It can be queued.
    Some,
    /// It would be sent at once.
    Ready,
}

/// So many members are looked at for one that has room.
const LOOKED_AT: usize = 64;

impl Group {
    pub fn new(filter: TopicFilter) -> Self {
        let mut group = Group {
            filter: Arc::new(filter),
            announced: 0,
            is_news: false,
            online: Rotation::default(),
            offline: Rotation::default(),
            elsewhere: Vec::new(),
            turn: Cell::default(),
            held: Held::default(),
        };
        group.count();
        group
    }

    /// Counts the memory it takes. That is also its name in the table of those of a filter, and the filter behind that name in the tree: two
    /// copies of parts of the text, which itself is the session's.
    fn count(&mut self) {
        let texts = self.filter.as_str().len() + OF_SHARED_TEXT;
        let own = allocated(size_of::<Self>()) + allocated(size_of::<TopicFilter>() + 2 * size_of::<usize>());
        self.held.set(own + ENTRY + texts + allocated_for::<Elsewhere>(self.elsewhere.capacity()));
    }

    /// Whether it has no member on any shard.
    pub fn is_empty(&self) -> bool {
        self.online.is_empty() && self.offline.is_empty() && self.elsewhere.is_empty()
    }

    /// How many members this shard has.
    pub fn counts(&self) -> MemberCounts {
        MemberCounts { online: self.online.len() as u32, offline: self.offline.len() as u32 }
    }

    /// Makes `subscriber` a member, or changes what it asked for. A member keeps its place.
    pub fn join(&mut self, subscriber: Subscriber, online: bool) {
        let members = if online { &mut self.online } else { &mut self.offline };
        members.join(subscriber);
    }

    /// The session is no member any more.
    pub fn leave(&mut self, session: u32) {
        self.online.leave(session);
        self.offline.leave(session);
    }

    /// The client of a member came or left.
    pub fn turn_online(&mut self, session: u32, online: bool) {
        let (from, to) =
            if online { (&mut self.offline, &mut self.online) } else { (&mut self.online, &mut self.offline) };
        if let Some(member) = from.leave(session) {
            to.join(member);
        }
    }

    /// Another shard has so many members now.
    pub fn set_elsewhere(&mut self, shard: usize, counts: MemberCounts) {
        let MemberCounts { online, offline } = counts;
        let at = self.elsewhere.partition_point(|other| other.shard < shard);
        let is_known = self.elsewhere.get(at).is_some_and(|other| other.shard == shard);
        match (is_known, online + offline > 0) {
            (true, true) => self.elsewhere[at] = Elsewhere { shard, online, offline },
            (true, false) => drop(self.elsewhere.remove(at)),
            (false, true) => self.elsewhere.insert(at, Elsewhere { shard, online, offline }),
            (false, false) => {}
        }
        self.count();
    }

    /// Whom of all members the next message goes to, seen from shard `home`.
    pub fn choose(&self, policy: SharedPolicy, publisher: u16, home: usize, random: &mut Random) -> Choice {
        if policy == SharedPolicy::LocalFirst && !self.online.is_empty() {
            return Choice::Member(self.online[random.below(self.online.len())]);
        }
        if self.elsewhere.is_empty() && policy != SharedPolicy::RoundRobin {
            // The usual case has a cheap way of its own.
            let here = if self.online.is_empty() { &self.offline } else { &self.online };
            if here.is_empty() {
                return Choice::Nobody;
            }
            return Choice::Member(here[place(policy, publisher, here.len(), random)]);
        }
        let online = self.online.len() + self.elsewhere.iter().map(|other| other.online as usize).sum::<usize>();
        let (here, count): (&Rotation, fn(&Elsewhere) -> u32) =
            if online > 0 { (&self.online, |other| other.online) } else { (&self.offline, |other| other.offline) };
        if policy == SharedPolicy::RoundRobin {
            return match self.next_shard(home, here.len(), count) {
                Some(shard) if shard == home => here.next().map_or(Choice::Nobody, Choice::Member),
                Some(shard) => Choice::Shard(shard),
                None => Choice::Nobody,
            };
        }
        let total = here.len() + self.elsewhere.iter().map(|other| count(other) as usize).sum::<usize>();
        if total == 0 {
            return Choice::Nobody;
        }
        let mut place = place(policy, publisher, total, random);
        // Shards count their members in the order of their numbers, so that all of them agree on whose place it is.
        for other in self.elsewhere.iter().filter(|other| other.shard < home) {
            match place.checked_sub(count(other) as usize) {
                Some(rest) => place = rest,
                None => return Choice::Shard(other.shard),
            }
        }
        if let Some(member) = here.get(place) {
            return Choice::Member(*member);
        }
        place -= here.len();
        for other in self.elsewhere.iter().filter(|other| other.shard > home) {
            match place.checked_sub(count(other) as usize) {
                Some(rest) => place = rest,
                None => return Choice::Shard(other.shard),
            }
        }
        Choice::Nobody
    }

    /// The shard whose turn it is: as many times in a row as it has members, then the next one that has some. So it is nobody's loss
    /// when members come and go elsewhere.
    fn next_shard(&self, home: usize, here: usize, count: fn(&Elsewhere) -> u32) -> Option<usize> {
        let ShardTurn { shard: current, served } = self.turn.get();
        let others = |which: fn(usize, usize) -> bool| {
            let shards = self.elsewhere.iter().filter(move |other| which(other.shard, home));
            shards.map(move |other| (other.shard, count(other) as usize))
        };
        let all =
            || others(|shard, home| shard < home).chain(once((home, here))).chain(others(|shard, home| shard > home));
        let goes_on = all().any(|(shard, members)| shard == current && served < members);
        let turn = match goes_on {
            true => ShardTurn { shard: current, served: served + 1 },
            false => {
                let mut with_members = all().filter(|(_, members)| *members > 0).map(|(shard, _)| shard);
                let first = with_members.next()?;
                let next = once(first).chain(with_members).find(|shard| *shard > current);
                ShardTurn { shard: next.unwrap_or(first), served: 1 }
            }
        };
        self.turn.set(turn);
        Some(turn.shard)
    }

    /// Whom of the members of this shard a message goes to that another shard sent here; an online one if there is one.
    pub fn choose_own(&self, policy: SharedPolicy, publisher: u16, random: &mut Random) -> Option<Subscriber> {
        let here = if self.online.is_empty() { &self.offline } else { &self.online };
        match policy {
            SharedPolicy::RoundRobin => here.next(),
            _ if here.is_empty() => None,
            _ => Some(here[place(policy, publisher, here.len(), random)]),
        }
    }

    /// The member of this shard that is online and has most room, from place `start` on, round the end.
    pub fn roomiest(&self, start: usize, room: impl Fn(u32) -> Room) -> Option<(Subscriber, Room)> {
        let count = self.online.len();
        let start = start.checked_rem(count)?;
        let mut best: Option<(Subscriber, Room)> = None;
        for at in 0..count.min(LOOKED_AT) {
            let member = self.online[(start + at) % count];
            let found = room(member.session);
            if best.is_none_or(|(_, best)| found > best) {
                best = Some((member, found));
            }
            if found == Room::Ready {
                break;
            }
        }
        best
    }

    /// Another shard than `home` that has members online and is none of `passed_over`: the next one.
    pub fn other_shard(&self, home: usize, passed_over: ShardSet) -> Option<usize> {
        let fits = |other: &&Elsewhere| other.online > 0 && other.shard != home && !passed_over.contains(other.shard);
        let next = self.elsewhere.iter().filter(fits).find(|other| other.shard > home);
        next.or_else(|| self.elsewhere.iter().find(fits)).map(|other| other.shard)
    }

    /// Whether this shard has a member with a live connection.
    pub fn has_online(&self) -> bool {
        !self.online.is_empty()
    }

    /// Whether any shard has one.
    pub fn has_online_anywhere(&self) -> bool {
        self.has_online() || self.elsewhere.iter().any(|other| other.online > 0)
    }
}

/// The place among so many members that is chosen without regard to turns.
fn place(policy: SharedPolicy, publisher: u16, total: usize, random: &mut Random) -> usize {
    match policy {
        SharedPolicy::Random | SharedPolicy::LocalFirst => random.below(total),
        SharedPolicy::Sticky | SharedPolicy::RoundRobin => 0,
        SharedPolicy::HashPublisher => usize::from(publisher) % total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::memory::MemoryHeld;

    fn member(session: u32) -> Subscriber {
        Subscriber { session, id: 0, qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false }
    }

    fn group() -> Group {
        Group::new(TopicFilter::parse("$share/g/a", 8).expect("a valid filter"))
    }

    /// A filter of 60 KB is there twice for each shard: the name in the table of groups, and what is behind it in the tree.
    #[test]
    fn long_names_and_shards_count() {
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Subscriptions);
        let (before, mut group) = (held(), group());
        let short = held() - before;
        let long =
            Group::new(TopicFilter::parse(&format!("$share/{}/a", "g".repeat(60_000)), 8).expect("a valid filter"));
        assert!((60_000..66_000).contains(&(held() - before - short)), "{}", held() - before - short);
        drop(long);
        (1..=64).for_each(|shard| group.set_elsewhere(shard, MemberCounts { online: 1, offline: 0 }));
        assert!(held() - before >= short + 64 * size_of::<Elsewhere>());
        drop(group);
        assert_eq!(held(), before);
    }

    fn sessions(group: &Group, policy: SharedPolicy, rounds: u16) -> Vec<Choice> {
        let mut random = Random::from_seed(1);
        (0..rounds).map(|publisher| group.choose(policy, publisher, 1, &mut random)).collect()
    }

    #[test]
    fn online_members_come_first_wherever_they_are() {
        let mut group = group();
        group.join(member(1), false);
        assert_eq!(sessions(&group, SharedPolicy::Random, 1), [Choice::Member(member(1))]);
        group.set_elsewhere(0, MemberCounts { online: 1, offline: 5 });
        assert!(sessions(&group, SharedPolicy::Random, 20).iter().all(|choice| *choice == Choice::Shard(0)));
        group.set_elsewhere(0, MemberCounts { online: 0, offline: 0 });
        group.turn_online(1, true);
        assert_eq!(sessions(&group, SharedPolicy::LocalFirst, 1), [Choice::Member(member(1))]);
        group.leave(1);
        assert_eq!(sessions(&group, SharedPolicy::Random, 1), [Choice::Nobody]);
        assert!(group.is_empty());
    }

    #[test]
    fn round_robin_and_hash_visit_every_place_in_shard_order() {
        let mut group = group();
        group.join(member(7), true);
        group.join(member(8), true);
        group.set_elsewhere(2, MemberCounts { online: 1, offline: 0 });
        group.set_elsewhere(0, MemberCounts { online: 1, offline: 0 });
        let expected = [Choice::Shard(0), Choice::Member(member(7)), Choice::Member(member(8)), Choice::Shard(2)];
        assert_eq!(sessions(&group, SharedPolicy::RoundRobin, 4), expected);
        assert_eq!(sessions(&group, SharedPolicy::HashPublisher, 4), expected);
        assert_eq!(sessions(&group, SharedPolicy::Sticky, 4), [Choice::Shard(0); 4]);
    }

    /// Of members that stay, on three shards, each is chosen as often as the others, though one of another shard comes and goes between
    /// any two messages.
    #[test]
    fn a_member_that_comes_and_goes_takes_nobodys_turn() {
        let mut group = group();
        (0..3).for_each(|session| group.join(member(session), true));
        group.set_elsewhere(2, MemberCounts { online: 2, offline: 0 });
        let (mut random, mut chosen) = (Random::from_seed(1), std::collections::BTreeMap::new());
        for message in 0..600 {
            group.set_elsewhere(0, MemberCounts { online: message % 2, offline: 0 });
            let choice = match group.choose(SharedPolicy::RoundRobin, 0, 1, &mut random) {
                Choice::Member(member) => Ok(member.session),
                Choice::Shard(shard) => Err(shard),
                Choice::Nobody => panic!("there are five at least"),
            };
            *chosen.entry(choice).or_insert(0) += 1;
        }
        let own: Vec<u32> = (0..3).map(|session| chosen[&Ok(session)]).collect();
        assert!(own.iter().all(|times| times.abs_diff(own[0]) <= 1), "{chosen:?}");
        assert!(chosen[&Err(2)].abs_diff(2 * own[0]) <= 2, "{chosen:?}");
    }
}
