//! Memory that direct writes can be made from.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::format::BLOCK;

/// A buffer that begins at a multiple of [`BLOCK`] in memory and is so many blocks long, as direct writes want it.
///
/// It is part of a larger allocation, which does not move; so nothing unsafe is needed. Of what is never written to, nothing is resident.
pub struct Aligned {
    memory: Box<[u8]>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// Zeros, `bytes` of them, or as many more as make whole blocks.
    pub fn zeroed(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK);
        let memory = vec![0; bytes + BLOCK - 1].into_boxed_slice();
        let start = memory.as_ptr().addr().next_multiple_of(BLOCK) - memory.as_ptr().addr();
        Aligned { memory, start, bytes }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aligned({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_wherever_memory_comes_from_and_stays_so() {
        let mut kept = Vec::new();
        for bytes in (0..40).map(|n| n * 1000) {
            let mut buffer = Aligned::zeroed(bytes);
            assert!(buffer.len() >= bytes && buffer.len() < bytes + BLOCK && buffer.len().is_multiple_of(BLOCK));
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(1);
            kept.push((buffer, vec![0_u8; bytes / 3]));
        }
        assert!(kept.iter().all(|(buffer, _)| buffer.as_ptr().addr().is_multiple_of(BLOCK)));
        assert!(kept.iter().all(|(buffer, _)| buffer.iter().all(|byte| *byte == 1)));
    }
}
