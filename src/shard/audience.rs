//! Who receives one message: gathered from all filters that match, each session once [MQTT-3.3.5-1].

use std::sync::Arc;

use super::realm::{PROGRAM, Routes, Subscriber};
use crate::sharding::ShardSet;
use super::share::Choice;
use crate::codec::QoS;
use crate::config::SharedPolicy;
use crate::random::Random;
use crate::session::SubscriptionIds;
use crate::topic::TopicFilter;

/// One receiver of a message on this shard.
#[derive(Clone, Debug)]
pub struct Target {
    /// The session; or, with `PROGRAM` set, a subscription of the embedding program.
    pub session: u32,
    /// The highest QoS of its matching subscriptions [MQTT-3.3.5-1].
    pub qos: QoS,
    /// Whether one of them wants the RETAIN flag as published.
    pub retain_as_published: bool,
    /// The identifiers of all of them.
    pub ids: SubscriptionIds,
    /// The shared subscription through which it was chosen.
    pub group: Option<Arc<TopicFilter>>,
    /// The message was retained when the client subscribed.
    pub initial: bool,
}

impl Target {
    fn new(subscriber: &Subscriber, group: Option<Arc<TopicFilter>>) -> Self {
        Target {
            session: subscriber.session,
            qos: subscriber.qos,
            retain_as_published: subscriber.retain_as_published,
            ids: SubscriptionIds::from(subscriber.id),
            group,
            initial: false,
        }
    }
}

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

/// The receivers of one message. Used again and again, so that gathering costs no allocation.
#[derive(Default)]
pub struct Audience {
    /// Receivers on this shard.
    pub targets: Vec<Target>,
    /// Shards that have ordinary subscribers.
    pub remote: ShardSet,
    /// Shared subscriptions of which a member elsewhere was chosen.
    pub shares: Vec<(usize, Arc<TopicFilter>)>,
    /// For each session, in which message it was last seen and at which place among the targets.
    stamps: Vec<(u64, u32)>,
    stamp: u64,
    /// Whether the targets so far have been stamped: not needed while they all come from one filter.
    stamped: bool,
    /// Whether there are shared subscriptions among the filters: the next message may go to other members.
    by_choice: bool,
}

impl Audience {
    /// Begins a new message.
    pub fn clear(&mut self) {
        self.targets.clear();
        self.remote = ShardSet::default();
        self.shares.clear();
        self.stamp += 1;
        self.stamped = false;
        self.by_choice = false;
    }

    /// Whether another message of the same topic may have other receivers, though nobody has subscribed or left.
    pub fn is_by_choice(&self) -> bool {
        self.by_choice
    }

    /// Adds those who subscribe to one of the filters that match.
    pub fn add(&mut self, routes: &Routes, origin: Origin, home: usize, random: &mut Random) {
        self.remote.union(&routes.remote);
        if !routes.local.is_empty() {
            if !self.targets.is_empty() && !self.stamped {
                self.stamp_all();
            }
            for subscriber in &routes.local {
                if !(subscriber.no_local && Some(subscriber.session) == origin.session) {
                    self.add_local(subscriber);
                }
            }
        }
        self.by_choice |= !routes.groups.is_empty();
        for group in &routes.groups {
            match group.choose(origin.policy, origin.publisher, home, random) {
                Choice::Member(member) => self.add_member(&member, group.filter.clone()),
                Choice::Shard(shard) => self.shares.push((shard, group.filter.clone())),
                Choice::Nobody => {}
            }
        }
    }

    /// Adds only the ordinary subscribers of this shard: what another shard routed has been sent to the others already.
    pub fn add_plain(&mut self, routes: &Routes) {
        if !self.targets.is_empty() && !self.stamped {
            self.stamp_all();
        }
        for subscriber in &routes.local {
            self.add_local(subscriber);
        }
    }

    /// Adds a member of a shared subscription. It gets its copy even if it subscribes to the topic by itself, too.
    pub fn add_member(&mut self, member: &Subscriber, group: Arc<TopicFilter>) {
        self.targets.push(Target::new(member, Some(group)));
    }

    fn add_local(&mut self, subscriber: &Subscriber) {
        // A subscription of the program has one filter, so it is never met twice.
        if self.stamped && subscriber.session & PROGRAM == 0 {
            let (stamp, at) = self.stamps.get(subscriber.session as usize).copied().unwrap_or_default();
            if stamp == self.stamp {
                let target = &mut self.targets[at as usize];
                target.qos = target.qos.max(subscriber.qos);
                target.retain_as_published |= subscriber.retain_as_published;
                target.ids.push(subscriber.id);
                return;
            }
            self.set_stamp(subscriber.session, self.targets.len());
        }
        self.targets.push(Target::new(subscriber, None));
    }

    fn stamp_all(&mut self) {
        self.stamped = true;
        for at in 0..self.targets.len() {
            let Target { session, group: None, .. } = self.targets[at] else { continue };
            if session & PROGRAM == 0 {
                self.set_stamp(session, at);
            }
        }
    }

    fn set_stamp(&mut self, session: u32, at: usize) {
        let slot = session as usize;
        if self.stamps.len() <= slot {
            self.stamps.resize(slot + 1, (0, 0));
        }
        self.stamps[slot] = (self.stamp, at as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(session: u32, qos: QoS, id: u32) -> Subscriber {
        Subscriber { session, id, qos, no_local: session == 9, retain_as_published: id == 2 }
    }

    fn routes(subscribers: &[Subscriber]) -> Routes {
        Routes { local: subscribers.iter().copied().collect(), ..Routes::default() }
    }

    fn origin() -> Origin {
        Origin { session: Some(9), publisher: 0, policy: SharedPolicy::Random }
    }

    #[test]
    fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_ids() {
        let (mut audience, mut random) = (Audience::default(), Random::from_seed(1));
        for _ in 0..2 {
            audience.clear();
            audience.add(
                &routes(&[subscriber(1, QoS::AtMostOnce, 1), subscriber(2, QoS::AtLeastOnce, 0)]),
                origin(),
                0,
                &mut random,
            );
            audience.add(
                &routes(&[subscriber(1, QoS::ExactlyOnce, 2), subscriber(3, QoS::AtMostOnce, 0)]),
                origin(),
                0,
                &mut random,
            );
            audience.add(&routes(&[subscriber(3, QoS::AtMostOnce, 7)]), origin(), 0, &mut random);
            let seen: Vec<_> =
                audience.targets.iter().map(|t| (t.session, t.qos, t.ids.to_vec(), t.retain_as_published)).collect();
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
        let (mut audience, mut random) = (Audience::default(), Random::from_seed(1));
        audience.clear();
        audience.add(&routes(&[subscriber(9, QoS::AtMostOnce, 0)]), origin(), 0, &mut random);
        assert!(audience.targets.is_empty());
    }
}
