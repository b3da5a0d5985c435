//! Values by keys that ascend as they come, as a rule.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::RangeInclusive;

/// Values by key. A key that is the highest so far costs hardly more than its place; the others are in a tree.
#[derive(Debug)]
pub struct ByKey<T> {
    /// Those that came in order, with gaps for those that were taken out.
    in_order: VecDeque<(u64, Option<T>)>,
    gaps: usize,
    others: BTreeMap<u64, T>,
}

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        ByKey { in_order: VecDeque::new(), gaps: 0, others: BTreeMap::new() }
    }
}

/// Until there are so many gaps, they are not worth the work.
const FEW_GAPS: usize = 16;

impl<T> ByKey<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.in_order.len() - self.gaps + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// That with this key.
    pub fn get(&self, key: u64) -> Option<&T> {
        match self.place(key) {
            Ok(at) => self.in_order[at].1.as_ref(),
            Err(_) => self.others.get(&key),
        }
    }

    /// Whether there is one with such a key.
    pub(super) fn has_any(&self, keys: RangeInclusive<u64>) -> bool {
        let from = self.in_order.partition_point(|(key, _)| key < keys.start());
        let mut in_order = self.in_order.range(from..).take_while(|(key, _)| key <= keys.end());
        in_order.any(|(_, value)| value.is_some()) || self.others.range(keys).next().is_some()
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let in_order = self.in_order.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?)));
        InOrder { one: in_order.peekable(), other: self.others.iter().map(|(key, value)| (*key, value)).peekable() }
    }

    /// All, in the order of their keys, taken out.
    pub fn into_all(self) -> impl Iterator<Item = (u64, T)> {
        let in_order = self.in_order.into_iter().filter_map(|(key, value)| Some((key, value?)));
        InOrder { one: in_order.peekable(), other: self.others.into_iter().peekable() }
    }

    /// Puts one in. Gives the one that had this key.
    pub(super) fn insert(&mut self, key: u64, value: T) -> Option<T> {
        match self.place(key) {
            Ok(at) => {
                let before = self.in_order[at].1.replace(value);
                self.gaps -= usize::from(before.is_none());
                before
            }
            Err(at) if at == self.in_order.len() && !self.others.contains_key(&key) => {
                self.in_order.push_back((key, Some(value)));
                None
            }
            Err(_) => self.others.insert(key, value),
        }
    }

    /// Takes out that with this key.
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        let Ok(at) = self.place(key) else { return self.others.remove(&key) };
        let removed = self.in_order[at].1.take()?;
        self.gaps += 1;
        while self.in_order.front().is_some_and(|(_, value)| value.is_none()) {
            self.in_order.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > FEW_GAPS + self.in_order.len() / 2 {
            self.in_order.retain(|(_, value)| value.is_some());
            self.gaps = 0;
        }
        Some(removed)
    }

    /// Where a key is among those that came in order, or would be.
    fn place(&self, key: u64) -> Result<usize, usize> {
        match self.in_order.back() {
            Some((last, _)) if *last >= key => self.in_order.binary_search_by_key(&key, |(key, _)| *key),
            _ => Err(self.in_order.len()),
        }
    }
}

/// What two have that are in order, in order.
struct InOrder<One: Iterator, Other: Iterator> {
    one: Peekable<One>,
    other: Peekable<Other>,
}

impl<T, One: Iterator<Item = (u64, T)>, Other: Iterator<Item = (u64, T)>> Iterator for InOrder<One, Other> {
    type Item = (u64, T);

    fn next(&mut self) -> Option<(u64, T)> {
        match (self.one.peek(), self.other.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => self.other.next(),
            (None, _) => self.other.next(),
            _ => self.one.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_a_tree_is() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..200 {
            let (mut by_key, mut tree, mut next) = (ByKey::default(), BTreeMap::new(), 0_u64);
            for step in 0..300_u32 {
                // In most rounds keys ascend, and the lowest go first.
                let any = random.u64(..next + 3);
                let first = tree.keys().next().copied().unwrap_or(any);
                match random.u8(..8) {
                    0..4 => {
                        next += random.u64(1..3);
                        let key = if round % 4 == 0 { any } else { next };
                        assert_eq!(by_key.insert(key, step), tree.insert(key, step));
                    }
                    4 => assert_eq!(by_key.insert(any, step), tree.insert(any, step)),
                    5 => assert_eq!(by_key.remove(any), tree.remove(&any)),
                    _ => assert_eq!(by_key.remove(first), tree.remove(&first)),
                }
                assert_eq!((by_key.len(), by_key.is_empty()), (tree.len(), tree.is_empty()));
                assert_eq!(by_key.get(any), tree.get(&any));
                assert_eq!(by_key.has_any(any..=any + 2), tree.range(any..=any + 2).next().is_some());
                assert!(by_key.gaps <= FEW_GAPS + by_key.in_order.len() / 2);
            }
            assert!(by_key.iter().eq(tree.iter().map(|(key, value)| (*key, value))));
            assert!(by_key.into_all().eq(tree));
        }
    }
}
