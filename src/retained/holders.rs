//! Who has a message of one topic here that was not sent yet.

use smallvec::SmallVec;

use crate::tables::PartedMap;

/// With more than this they are looked up.
const FEW: usize = 32;

/// The readers that hold something of one topic; one that holds it for two subscriptions is there twice. Adding and taking out one costs the same
/// however many there are.
pub(super) enum Holders {
    Few(SmallVec<[u32; 2]>),
    /// How many times each is there.
    Many(Box<PartedMap<u32, u32>>),
}

impl Default for Holders {
    fn default() -> Self {
        Holders::Few(SmallVec::new())
    }
}

impl Holders {
    /// Whether nobody holds anything.
    pub fn is_empty(&self) -> bool {
        match self {
            Holders::Few(places) => places.is_empty(),
            Holders::Many(counts) => counts.is_empty(),
        }
    }

    /// One more of the reader at this place. Places are hashed with `hasher` if there are many.
    pub fn add(&mut self, place: u32, hasher: &ahash::RandomState) {
        match self {
            Holders::Few(places) if places.len() < FEW => places.push(place),
            Holders::Few(places) => {
                let mut counts = Box::new(PartedMap::with_hasher(hasher.clone()));
                places.iter().chain([&place]).for_each(|place| *counts.get_or_insert_with(*place, || 0) += 1);
                *self = Holders::Many(counts);
            }
            Holders::Many(counts) => *counts.get_or_insert_with(place, || 0) += 1,
        }
    }

    /// One less of it, if it is there.
    pub fn remove(&mut self, place: u32) {
        match self {
            Holders::Few(places) => {
                if let Some(at) = places.iter().position(|other| *other == place) {
                    places.swap_remove(at);
                }
            }
            Holders::Many(counts) => {
                let Some(count) = counts.get_mut(&place) else { return };
                *count -= 1;
                if *count == 0 {
                    counts.remove(&place);
                }
            }
        }
    }

    /// All of them: a reader as often as it is there.
    pub fn into_places(self) -> Vec<u32> {
        match self {
            Holders::Few(places) => places.into_vec(),
            Holders::Many(counts) => {
                counts.iter().flat_map(|(place, count)| std::iter::repeat_n(*place, *count as usize)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_there_as_often_as_it_was_added() {
        let hasher = ahash::RandomState::with_seed(1);
        for many in [1, FEW as u32, 5000] {
            let mut holders = Holders::default();
            (0..many).chain([0]).for_each(|place| holders.add(place, &hasher));
            holders.remove(many);
            (1..many).rev().for_each(|place| holders.remove(place));
            assert!(!holders.is_empty());
            holders.remove(0);
            assert!(!holders.is_empty());
            holders.add(7, &hasher);
            let mut places = std::mem::take(&mut holders).into_places();
            places.sort_unstable();
            assert_eq!(places, [0, 7], "{many}");
            assert!(holders.is_empty());
        }
    }
}
