//! The order of segments, and which of them count.

use super::finding::{Findings, What};
use super::segment::FileId;
use super::source::Source;

/// The segments that count, and those that do not, both by generation. The latter are those that are archived, and those that an opening has
/// prepared and not written, if a later one has gone on without them. Of two of one generation the second is `left_alone`.
pub(super) fn order<F>(
    mut sources: Vec<Source<F>>,
    left_alone: &mut Vec<FileId>,
    findings: &mut Findings,
) -> [Vec<Source<F>>; 2] {
    sources.sort_by_key(|source| (source.generation, source.condition, source.id));
    let oldest = sources.iter().map(|source| source.oldest).max().unwrap_or(0);
    let mut steps = Steps::new(sources.iter().map(|source| [source.after, source.generation]).collect());
    let (mut counting, mut others) = (Vec::<Source<F>>::new(), Vec::new());
    for source in sources {
        if source.generation < oldest || steps.pass_over(source.generation) {
            others.push(source);
        } else if counting.last().is_some_and(|before| before.generation == source.generation) {
            findings.add(Some(source.id), What::SameGeneration { generation: source.generation });
            left_alone.push(source.id);
        } else {
            counting.push(source);
        }
    }
    for source in &counting {
        if source.bytes < source.of {
            findings.add(Some(source.id), What::TooShort { bytes: source.bytes, of: source.of });
        }
        if source.after >= oldest && is_missing_before(&counting, source) {
            findings.add(None, What::MissingSegment { generation: source.after });
        }
    }
    [counting, others]
}

/// Whether the segment before `source` is not among those that are read, which are in order.
pub(super) fn is_missing_before<F>(counting: &[Source<F>], source: &Source<F>) -> bool {
    source.after > 0 && counting.binary_search_by_key(&source.after, |other| other.generation).is_err()
}

/// From which generation to which each segment steps.
struct Steps {
    /// The highest first, so that the lowest is taken off first.
    left: Vec<[u64; 2]>,
    /// How far those step that begin below where it is asked.
    furthest: u64,
}

impl Steps {
    fn new(mut steps: Vec<[u64; 2]>) -> Self {
        // The first segment of all steps over none.
        steps.retain(|[after, _]| *after > 0);
        steps.sort_unstable_by(|one, other| other.cmp(one));
        Steps { left: steps, furthest: 0 }
    }

    /// Whether a segment steps over this generation. They are asked for in order.
    fn pass_over(&mut self, generation: u64) -> bool {
        while let Some([_, next]) = self.left.pop_if(|[after, _]| *after < generation) {
            self.furthest = self.furthest.max(next);
        }
        generation < self.furthest
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::Condition;
    use super::*;

    fn source(id: u32, generation: u64, after: u64, oldest: u64) -> Source<()> {
        let condition = Condition::Sound;
        Source {
            id: FileId(id),
            file: (),
            bytes: 8192,
            of: 8192,
            generation,
            after,
            oldest,
            given_up: [0, 0],
            opened: 1,
            condition,
        }
    }

    fn ordered(sources: Vec<Source<()>>) -> (Vec<u32>, Vec<u32>, Vec<String>) {
        let mut findings = Findings::default();
        let [counting, others] = order(sources, &mut Vec::new(), &mut findings);
        (
            counting.iter().map(|source| source.id.0).collect(),
            others.iter().map(|source| source.id.0).collect(),
            findings.listed().iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn archived_segments_and_those_that_were_stepped_over_do_not_count() {
        // 4 is archived, 7 and 8 were prepared by an opening that wrote no frame into them.
        let sources = vec![
            source(0, 4, 3, 3),
            source(1, 70, 6, 5),
            source(2, 8, 7, 4),
            source(3, 5, 4, 4),
            source(4, 7, 6, 4),
            source(5, 6, 5, 4),
        ];
        assert_eq!(ordered(sources), (vec![3, 5, 1], vec![0, 4, 2], vec![]));
    }

    #[test]
    fn a_segment_that_is_missing_is_told_unless_it_is_archived() {
        let sources = vec![source(0, 5, 4, 5), source(1, 8, 7, 5)];
        assert_eq!(ordered(sources), (vec![0, 1], vec![], vec!["the segment of generation 7 is missing".to_owned()]));
    }

    #[test]
    fn so_many_segments_as_there_may_be_are_ordered_in_a_moment() {
        let many = 4096;
        let sources = (1..=many).rev().map(|at| source(at, u64::from(at), u64::from(at) - 1, 1)).collect();
        let (counting, idle, findings) = ordered(sources);
        assert!(counting.is_sorted() && counting.len() == many as usize && idle.is_empty() && findings.is_empty());
    }
}
