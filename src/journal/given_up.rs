//! The numbers of frames that do not count: an earlier opening could not read them, and went on without.

/// Numbers of frames, in stretches that do not overlap.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// Each between the last frame that counted and the first that followed, in order.
    stretches: Vec<[u64; 2]>,
}

impl GivenUp {
    /// Those between each pair.
    pub fn new(pairs: impl IntoIterator<Item = [u64; 2]>) -> Self {
        let mut pairs: Vec<[u64; 2]> = pairs.into_iter().filter(|[last, first]| last < first).collect();
        pairs.sort_unstable();
        let mut stretches: Vec<[u64; 2]> = Vec::new();
        for [last, first] in pairs {
            match stretches.last_mut() {
                // The number at which they meet counts.
                Some(before) if last < before[1] => before[1] = before[1].max(first),
                _ => stretches.push([last, first]),
            }
        }
        GivenUp { stretches }
    }

    pub fn has(&self, number: u64) -> bool {
        let behind = self.stretches.partition_point(|[last, _]| *last < number);
        behind.checked_sub(1).is_some_and(|at| number < self.stretches[at][1])
    }

    /// The highest number with which an opening went on, 0 if none is known.
    pub fn reached(&self) -> u64 {
        self.stretches.last().map_or(0, |[_, first]| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_two_numbers_is_given_up_and_they_are_not() {
        let pairs = [[20, 30], [3, 6], [25, 40], [40, 44], [0, 0], [50, 50], [5, 4], [3, 6]];
        let given_up = GivenUp::new(pairs);
        let plainly = |number: u64| pairs.iter().any(|[last, first]| *last < number && number < *first);
        for number in 0..60 {
            assert_eq!(given_up.has(number), plainly(number), "{number}");
        }
        assert_eq!(given_up.reached(), 44);
        assert!(!GivenUp::default().has(1) && GivenUp::default().reached() == 0);
    }

    #[test]
    fn many_stretches_are_searched_and_not_walked() {
        let given_up = GivenUp::new((0..4096).map(|at| [at * 10, at * 10 + 5]));
        assert_eq!((0..40_960).filter(|number| given_up.has(*number)).count(), 4096 * 4);
    }
}
