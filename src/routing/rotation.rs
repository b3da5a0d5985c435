//! The members of a shared subscription that are on this shard, online or not, and whose turn it is among them.

use std::cell::Cell;
use std::ops::Deref;

use super::roster::Roster;
use super::subscriber::Subscriber;

/// Members, with those in front that have had their turn in this round.
///
/// They come and go without a walk over the others, and without anybody being passed over or served twice in a round: who has had its turn
/// stays in front, who has not stays behind.
#[derive(Debug, Default)]
pub struct Rotation {
    members: Roster,
    /// How many have had their turn in this round.
    served: Cell<usize>,
}

impl Rotation {
    /// Makes `member` a member, or changes what it asked for. Who is new has its turn at the end of this round.
    pub fn join(&mut self, member: Subscriber) {
        self.members.put(member);
    }

    /// The session is no member any more.
    pub fn leave(&mut self, session: u32) -> Option<Subscriber> {
        let at = self.members.place_of(session)?;
        let served = self.served.get();
        if at < served {
            // The last comes to the place of who leaves, and may not have had its turn.
            self.members.swap(at, served - 1);
            self.served.set(served - 1);
        }
        self.members.remove(session)
    }

    /// The member whose turn it is.
    pub fn next(&self) -> Option<Subscriber> {
        let at = if self.served.get() < self.members.len() { self.served.get() } else { 0 };
        let member = self.members.get(at)?;
        self.served.set(at + 1);
        Some(*member)
    }
}

impl Deref for Rotation {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.members
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::QoS;

    fn member(session: u32) -> Subscriber {
        Subscriber { session, id: 0, qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false }
    }

    fn rotation(sessions: std::ops::Range<u32>) -> Rotation {
        let mut rotation = Rotation::default();
        sessions.for_each(|session| rotation.join(member(session)));
        rotation
    }

    fn served(rotation: &Rotation, times: usize) -> Vec<u32> {
        (0..times).filter_map(|_| rotation.next()).map(|member| member.session).collect()
    }

    #[test]
    fn who_leaves_takes_nobodys_turn() {
        let mut rotation = rotation(0..5);
        assert_eq!(served(&rotation, 2), [0, 1]);
        rotation.leave(0);
        let mut rest = served(&rotation, 3);
        rest.sort_unstable();
        assert_eq!(rest, [2, 3, 4], "the last one has not had its turn, though it came to a place in front");
        assert_eq!(served(&rotation, 1), [1], "the next round");
        assert!(rotation.leave(0).is_none() && rotation.len() == 4);
    }

    #[test]
    fn without_members_it_is_nobodys_turn() {
        let mut rotation = rotation(0..1);
        assert_eq!(served(&rotation, 2), [0, 0]);
        rotation.leave(0);
        assert!(rotation.next().is_none());
        rotation.join(member(7));
        assert_eq!(served(&rotation, 1), [7]);
    }

    proptest! {
        /// Ten members that stay, while others come and go at random: of any two that stay, one is served once more than the other at most.
        #[test]
        fn those_who_stay_are_served_as_often_whoever_comes_and_goes(
            steps in prop::collection::vec((10..30_u32, 0..3_u8), 0..400),
        ) {
            let mut rotation = rotation(0..10);
            let mut times: BTreeMap<u32, usize> = (0..10).map(|session| (session, 0)).collect();
            for (session, step) in steps {
                match step {
                    0 => rotation.join(member(session)),
                    1 => drop(rotation.leave(session)),
                    _ => {
                        let next = rotation.next().expect("there are ten at least").session;
                        times.entry(next).and_modify(|times| *times += 1);
                    }
                }
                let (least, most) = (times.values().min(), times.values().max());
                prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{times:?}");
            }
        }
    }
}
