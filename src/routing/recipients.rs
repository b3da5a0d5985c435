//! The recipients of one message: gathered from all filters that match, each session once [MQTT-3.3.5-1].

use std::sync::Arc;

use super::group::Choice;
use super::roster::Roster;
use super::subscriber::Subscriber;
use super::subscribers::Subscribers;
use crate::config::SharedPolicy;
use crate::random::Random;
use crate::session::{PROGRAM, Recipient, SubscriptionIds};
use crate::sharding::ShardSet;
use crate::tables::Sparse;
use crate::topic::TopicFilter;

/// Where a message comes from, as far as routing cares.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The session that published it, if it is one of this shard.
    pub session: Option<u32>,
    /// A number that stands for the publisher: its slot.
    pub publisher: u16,
    /// How members of shared subscriptions are chosen.
    pub policy: SharedPolicy,
}

/// The recipients of one message. Used again and again, so that gathering costs no allocation.
#[derive(Default)]
pub struct Recipients {
    /// Those of this shard.
    pub local: Vec<Recipient>,
    /// Shards that have ordinary subscribers.
    pub remote: ShardSet,
    /// Shared subscriptions of which a member elsewhere was chosen; by shard when all have been added.
    pub shares: Vec<(usize, Arc<TopicFilter>)>,
    /// For each session, in which message it was last seen and at which place among the local ones.
    stamps: Sparse<(u64, u32)>,
    stamp: u64,
    /// Whether those so far have been stamped: not needed while they all come from one filter.
    stamped: bool,
    /// Whether there are shared subscriptions among the filters: the next message may go to other members.
    by_choice: bool,
}

impl Recipients {
    /// Begins a new message.
    pub fn clear(&mut self) {
        self.local.clear();
        self.remote = ShardSet::default();
        if !self.shares.is_empty() {
            self.shares.clear();
        }
        self.stamp += 1;
        self.stamped = false;
        self.by_choice = false;
    }

    /// Whether another message of the same topic may have other receivers, though nobody has subscribed or left.
    pub fn is_by_choice(&self) -> bool {
        self.by_choice
    }

    /// The other shards that get a copy.
    pub fn shards(&self) -> ShardSet {
        let mut shards = self.remote;
        self.shares.iter().for_each(|(shard, _)| shards.insert(*shard));
        shards
    }

    /// All have been added.
    #[inline]
    pub fn complete(&mut self) {
        if self.shares.len() > 1 {
            self.shares.sort_by_key(|(shard, _)| *shard);
        }
    }

    /// The shared subscriptions of which a member of `shard` was chosen. All must have been added.
    #[inline]
    pub fn groups_on(&self, shard: usize) -> Vec<Arc<TopicFilter>> {
        if self.shares.is_empty() {
            return Vec::new();
        }
        let begin = self.shares.partition_point(|(on, _)| *on < shard);
        self.shares[begin..].iter().take_while(|(on, _)| *on == shard).map(|(_, group)| group.clone()).collect()
    }

    /// Adds those who subscribe to one of the filters that match.
    pub fn add(&mut self, subscribers: &Subscribers, origin: Origin, home: usize, random: &mut Random) {
        self.remote.union(&subscribers.remote);
        let first = subscribers.local.first();
        if !first.is_empty() {
            if !self.local.is_empty() && !self.stamped {
                self.stamp_all();
            }
            for subscriber in first {
                if !(subscriber.no_local && Some(subscriber.session) == origin.session) {
                    self.add_local(subscriber);
                }
            }
            if subscribers.local.has_rest() {
                self.add_rest(&subscribers.local, origin.session);
            }
        }
        if !subscribers.has_groups() {
            return;
        }
        self.by_choice = true;
        for group in subscribers.groups() {
            match group.choose(origin.policy, origin.publisher, home, random) {
                Choice::Member(member) => self.add_member(&member, group.filter.clone()),
                Choice::Shard(shard) => self.shares.push((shard, group.filter.clone())),
                Choice::Nobody => {}
            }
        }
    }

    /// Adds only the ordinary subscribers of this shard: what another shard routed has been sent to the others already.
    pub fn add_plain(&mut self, subscribers: &Subscribers) {
        if !self.local.is_empty() && !self.stamped {
            self.stamp_all();
        }
        subscribers.local.first().iter().for_each(|subscriber| self.add_local(subscriber));
        if subscribers.local.has_rest() {
            self.add_rest(&subscribers.local, None);
        }
    }

    /// Adds those behind the first, of which there are some if there are many. One that wants nothing of its own gets nothing of
    /// session `from`.
    #[cold]
    #[inline(never)]
    fn add_rest(&mut self, roster: &Roster, from: Option<u32>) {
        for piece in roster.rest() {
            let get_it = piece.iter().filter(|one| !(one.no_local && Some(one.session) == from));
            get_it.for_each(|subscriber| self.add_local(subscriber));
        }
    }

    /// Adds a member of a shared subscription. It gets its copy even if it subscribes to the topic by itself, too.
    pub fn add_member(&mut self, member: &Subscriber, group: Arc<TopicFilter>) {
        self.local.push(recipient(member, Some(group)));
    }

    /// Another member gets it than the one that is the local recipient at this place.
    pub fn replace_member(&mut self, at: usize, member: &Subscriber, group: Arc<TopicFilter>) {
        self.local[at] = recipient(member, Some(group));
    }

    /// Of what members on these shards were chosen for, others get what `other` chooses. All must have been added.
    pub fn pass_over(&mut self, shards: ShardSet, mut other: impl FnMut(&TopicFilter) -> Option<Choice>) {
        for at in (0..self.shares.len()).rev() {
            let (shard, filter) = &mut self.shares[at];
            if !shards.contains(*shard) {
                continue;
            }
            match other(filter) {
                Some(Choice::Shard(other)) => *shard = other,
                Some(Choice::Member(member)) => {
                    let (_, filter) = self.shares.swap_remove(at);
                    self.add_member(&member, filter);
                }
                Some(Choice::Nobody) | None => {}
            }
        }
        self.complete();
    }

    fn add_local(&mut self, subscriber: &Subscriber) {
        // A subscription of the program has one filter, so it is never met twice.
        if self.stamped && subscriber.session & PROGRAM == 0 {
            let (stamp, at) = self.stamps.get(subscriber.session as usize);
            if stamp == self.stamp {
                let known = &mut self.local[at as usize];
                known.qos = known.qos.max(subscriber.qos);
                known.retain_as_published |= subscriber.retain_as_published;
                known.ids.push(subscriber.id);
                return;
            }
            self.set_stamp(subscriber.session, self.local.len());
        }
        self.local.push(recipient(subscriber, None));
    }

    // Where several filters match, once: most messages do without.
    #[inline(never)]
    fn stamp_all(&mut self) {
        self.stamped = true;
        for at in 0..self.local.len() {
            let Recipient { session, group: None, .. } = self.local[at] else { continue };
            if session & PROGRAM == 0 {
                self.set_stamp(session, at);
            }
        }
    }

    fn set_stamp(&mut self, session: u32, at: usize) {
        self.stamps.set(session as usize, (self.stamp, at as u32));
    }
}

fn recipient(subscriber: &Subscriber, group: Option<Arc<TopicFilter>>) -> Recipient {
    Recipient {
        session: subscriber.session,
        qos: subscriber.qos,
        retain_as_published: subscriber.retain_as_published,
        ids: SubscriptionIds::from(subscriber.id),
        group,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::group::MemberCounts;
    use super::*;
    use crate::codec::QoS;

    fn subscriber(session: u32, qos: QoS, id: u32) -> Subscriber {
        Subscriber { session, id, qos, no_local: session == 9, retain_as_published: id == 2 }
    }

    fn subscribers(subscribers: &[Subscriber]) -> Subscribers {
        let mut found = Subscribers::default();
        subscribers.iter().for_each(|subscriber| found.local.put(*subscriber));
        found
    }

    fn origin() -> Origin {
        Origin { session: Some(9), publisher: 0, policy: SharedPolicy::Random }
    }

    #[test]
    fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_ids() {
        let (mut recipients, mut random) = (Recipients::default(), Random::from_seed(1));
        for _ in 0..2 {
            recipients.clear();
            recipients.add(
                &subscribers(&[subscriber(1, QoS::AtMostOnce, 1), subscriber(2, QoS::AtLeastOnce, 0)]),
                origin(),
                0,
                &mut random,
            );
            recipients.add(
                &subscribers(&[subscriber(1, QoS::ExactlyOnce, 2), subscriber(3, QoS::AtMostOnce, 0)]),
                origin(),
                0,
                &mut random,
            );
            recipients.add(&subscribers(&[subscriber(3, QoS::AtMostOnce, 7)]), origin(), 0, &mut random);
            let seen: Vec<_> =
                recipients.local.iter().map(|t| (t.session, t.qos, t.ids.to_vec(), t.retain_as_published)).collect();
            assert_eq!(
                seen,
                [
                    (1, QoS::ExactlyOnce, vec![1, 2], true),
                    (2, QoS::AtLeastOnce, vec![], false),
                    (3, QoS::AtMostOnce, vec![7], false)
                ]
            );
        }
    }

    #[test]
    fn no_local_keeps_a_publisher_from_hearing_itself() {
        let (mut recipients, mut random) = (Recipients::default(), Random::from_seed(1));
        recipients.clear();
        recipients.add(&subscribers(&[subscriber(9, QoS::AtMostOnce, 0)]), origin(), 0, &mut random);
        assert!(recipients.local.is_empty());
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 8).expect("a valid filter")
    }

    fn sessions(recipients: &Recipients) -> Vec<u32> {
        recipients.local.iter().map(|recipient| recipient.session).collect()
    }

    /// Nobody here, but subscribers on these shards.
    fn elsewhere(shards: &[usize]) -> Subscribers {
        let mut found = Subscribers::default();
        shards.iter().for_each(|shard| found.remote.insert(*shard));
        found
    }

    /// A shared subscription with one member, on this shard.
    fn shared_by_one_on(shard: usize, text: &str) -> Subscribers {
        let mut found = Subscribers::default();
        found.group(&filter(text)).set_elsewhere(shard, MemberCounts { online: 1, offline: 0 });
        found
    }

    fn shared_by(session: u32, text: &str) -> Subscribers {
        let mut found = Subscribers::default();
        found.group(&filter(text)).join(subscriber(session, QoS::AtLeastOnce, 5), true);
        found
    }

    fn gathered(all: &[Subscribers]) -> Recipients {
        let (mut recipients, mut random) = (Recipients::default(), Random::from_seed(1));
        recipients.clear();
        all.iter().for_each(|found| recipients.add(found, origin(), 0, &mut random));
        recipients.complete();
        recipients
    }

    #[test]
    fn every_shard_gets_one_copy_for_all_its_subscribers_and_members() {
        let recipients = gathered(&[
            elsewhere(&[1, 3]),
            elsewhere(&[3]),
            shared_by_one_on(3, "$share/g/a"),
            shared_by_one_on(200, "$share/h/a"),
            shared_by_one_on(200, "$share/i/a"),
        ]);
        assert_eq!(recipients.shards().iter().collect::<Vec<_>>(), [1, 3, 200]);
        assert_eq!(recipients.remote.iter().collect::<Vec<_>>(), [1, 3], "200 has chosen members alone");
        assert!(recipients.local.is_empty());
    }

    #[test]
    fn a_shard_is_told_of_which_shared_subscriptions_its_members_were_chosen() {
        let recipients = gathered(&[
            shared_by_one_on(1, "$share/g/a"),
            shared_by_one_on(2, "$share/h/a"),
            shared_by_one_on(1, "$share/i/+"),
        ]);
        let groups_on = |shard| {
            let groups = recipients.groups_on(shard);
            groups.iter().map(|group| group.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(groups_on(1), ["$share/g/a", "$share/i/+"]);
        assert_eq!(groups_on(2), ["$share/h/a"]);
        assert!(groups_on(3).is_empty());
    }

    #[test]
    fn who_is_in_a_shared_subscription_gets_its_copy_beside_that_of_its_own_subscription() {
        let plain = subscribers(&[subscriber(1, QoS::AtMostOnce, 1)]);
        let again = subscribers(&[subscriber(1, QoS::ExactlyOnce, 2)]);
        let recipients = gathered(&[plain, shared_by(1, "$share/g/a"), again]);
        let seen: Vec<_> =
            recipients.local.iter().map(|one| (one.group.is_some(), one.qos, one.ids.to_vec())).collect();
        assert_eq!(
            seen,
            [(false, QoS::ExactlyOnce, vec![1, 2]), (true, QoS::AtLeastOnce, vec![5])],
            "what it subscribes to by itself is one copy"
        );
    }

    #[test]
    fn a_message_is_by_choice_if_a_shared_subscription_matches() {
        assert!(!gathered(&[elsewhere(&[1]), subscribers(&[subscriber(1, QoS::AtMostOnce, 0)])]).is_by_choice());
        let mut recipients = gathered(&[shared_by_one_on(1, "$share/g/a")]);
        assert!(recipients.is_by_choice());
        recipients.clear();
        assert!(!recipients.is_by_choice() && recipients.shards().is_empty() && recipients.groups_on(1).is_empty());
    }

    /// Such a message was made on another shard, which chose members and sent copies.
    #[test]
    fn of_a_message_from_another_shard_the_ordinary_subscribers_here_get_a_copy_and_nobody_else() {
        let mut first = subscribers(&[subscriber(1, QoS::AtMostOnce, 1), subscriber(2, QoS::AtMostOnce, 0)]);
        first.remote.insert(2);
        first.group(&filter("$share/g/a")).join(subscriber(7, QoS::AtLeastOnce, 0), true);
        let second = subscribers(&[subscriber(1, QoS::ExactlyOnce, 2), subscriber(9, QoS::AtMostOnce, 0)]);
        let mut recipients = Recipients::default();
        recipients.clear();
        recipients.add_plain(&first);
        recipients.add_plain(&second);
        assert_eq!(sessions(&recipients), [1, 2, 9], "each once; no local does not matter to what others publish");
        assert_eq!((recipients.local[0].qos, &*recipients.local[0].ids), (QoS::ExactlyOnce, &[1, 2][..]));
        assert!(recipients.shards().is_empty() && !recipients.is_by_choice());
    }

    #[test]
    fn a_subscription_of_the_program_is_a_recipient_of_its_own() {
        let program = |number| subscriber(PROGRAM | number, QoS::ExactlyOnce, 0);
        let recipients = gathered(&[
            subscribers(&[program(0), subscriber(1, QoS::AtMostOnce, 0)]),
            subscribers(&[program(1), subscriber(1, QoS::AtMostOnce, 0)]),
        ]);
        assert_eq!(sessions(&recipients), [PROGRAM, 1, PROGRAM | 1]);
        assert_eq!(
            recipients.stamps.allocated(),
            2 * size_of::<(u64, u32)>(),
            "no memory for places that stand for no session"
        );
    }

    proptest! {
        /// [MQTT-3.3.4-2], [MQTT-3.3.4-4]: of any filters that match, every session is a recipient once, at the highest QoS, with every identifier.
        #[test]
        fn every_session_is_a_recipient_once(
            found in prop::collection::vec(prop::collection::btree_map(0..8_u32, (0..3_u8, 0..4_u32), 0..6), 0..6),
            messages in 1..3_usize,
        ) {
            let (mut recipients, mut random) = (Recipients::default(), Random::from_seed(1));
            let qos = |qos| QoS::from_u8(qos).expect("0 to 2");
            for _ in 0..messages {
                recipients.clear();
                let mut expected = BTreeMap::<u32, (QoS, Vec<u32>)>::new();
                for of_filter in &found {
                    let all: Vec<_> = of_filter.iter().map(|(at, (sent, id))| subscriber(*at, qos(*sent), *id)).collect();
                    for subscriber in &all {
                        let (highest, ids) = expected.entry(subscriber.session).or_default();
                        *highest = subscriber.qos.max(*highest);
                        ids.extend(Some(subscriber.id).filter(|id| *id > 0));
                    }
                    recipients.add(&subscribers(&all), Origin { session: None, ..origin() }, 0, &mut random);
                }
                let seen: BTreeMap<_, _> =
                    recipients.local.iter().map(|one| (one.session, (one.qos, one.ids.to_vec()))).collect();
                prop_assert_eq!(seen.len(), recipients.local.len());
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
