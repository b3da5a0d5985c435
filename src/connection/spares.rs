//! The buffers that output is written into, and how they grow; one for each shard.

/// How many are kept for the next output, and of at most how many bytes each: their product bounds what idle connections cost.
const KEPT: usize = 1024;
const LARGEST_KEPT: usize = 16 * 1024;
/// From this size on, in bytes, those of different clients grow at different times. Each growth doubles them, so that they stay apart.
const LARGE: usize = 16 * 1024;
/// At how many.
const STAGES: usize = 16;

/// The buffers of outputs that have left. When very many clients get the same and read none of it, their buffers would all be full with the same
/// message, and be copied into larger ones then.
#[derive(Debug, Default)]
pub struct Spares {
    kept: Vec<Vec<u8>>,
    /// How many have become large.
    large: usize,
}

impl Spares {
    /// A buffer to write into.
    pub fn get(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_default()
    }

    /// What was in this buffer has left.
    #[inline]
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= LARGEST_KEPT && self.kept.len() < KEPT {
            buffer.clear();
            self.kept.push(buffer);
        }
    }

    /// This buffer has grown, from `before` bytes. The first time that it is large it grows somewhat more, each by another part of its size.
    pub fn has_grown(&mut self, buffer: &mut Vec<u8>, before: usize) {
        let size = buffer.capacity();
        if (LARGE..2 * LARGE).contains(&size) && before < LARGE {
            self.large = self.large.wrapping_add(1);
            let more = self.large % STAGES * (size / STAGES);
            buffer.reserve_exact(size + more - buffer.len());
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_and_no_larger_ones_are_kept_than_may_be() {
        let mut spares = Spares::default();
        spares.keep(Vec::with_capacity(LARGEST_KEPT + 1));
        spares.keep(Vec::new());
        assert_eq!((spares.count(), spares.get().capacity()), (0, 0));
        (0..=KEPT).for_each(|_| spares.keep(b"abc".to_vec()));
        assert_eq!(spares.count(), KEPT);
        assert!(spares.get().is_empty() && spares.count() == KEPT - 1);
    }

    #[test]
    fn large_ones_that_are_filled_alike_grow_at_different_times() {
        const BUFFERS: usize = 160;
        let mut spares = Spares::default();
        let mut buffers = vec![Vec::new(); BUFFERS];
        let mut most = 0;
        for _ in 0..4 * LARGE / 64 {
            let mut grown = 0;
            for buffer in &mut buffers {
                let before = buffer.capacity();
                buffer.extend_from_slice(&[0; 64]);
                if buffer.capacity() != before {
                    grown += usize::from(before >= LARGE);
                    spares.has_grown(buffer, before);
                }
            }
            most = most.max(grown);
        }
        assert!(most <= BUFFERS / STAGES, "{most} at a time");
        assert!(buffers.iter().all(|buffer| buffer.capacity() < 9 * LARGE), "none is much larger than it need be");
    }
}
