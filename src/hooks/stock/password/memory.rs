//! The memory that a hash is computed in.

use argon2::Block;

/// The least that is asked of the allocator at once, in blocks: more than 32 MiB. So large a piece is a mapping of its own
/// for every allocator in use, and goes back to the system when it is freed; pages that are not touched cost nothing. A
/// smaller one the C library keeps for later, one for each thread.
const LEAST: usize = 33 << 10;

/// Memory for Argon2, used again from one password to the next. Each thread that checks passwords has one.
#[derive(Debug, Default)]
pub struct HashMemory(Vec<Block>);

/// There is no memory to compute a hash in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl HashMemory {
    /// At least `count` blocks of 1 KiB; what is in them is left from before.
    pub(super) fn blocks(&mut self, count: usize) -> Result<&mut [Block], NoMemory> {
        if self.0.capacity() < count {
            // What is there is of no use to anybody: freed first, it need not be there twice.
            self.0 = Vec::new();
            self.0.try_reserve_exact(count.max(LEAST)).map_err(|_| NoMemory)?;
        }
        if self.0.len() < count {
            self.0.resize(count, Block::new());
        }
        Ok(&mut self.0)
    }

    /// Gives it back to the system.
    pub fn release(&mut self) {
        self.0 = Vec::new();
    }

    /// How many bytes it holds of the system's.
    pub fn held(&self) -> usize {
        self.0.len() * Block::SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_given_back() {
        let mut memory = HashMemory::default();
        let first = memory.blocks(64).unwrap().as_ptr();
        assert_eq!(memory.blocks(19 << 10).unwrap().as_ptr(), first, "it grows where it is");
        assert_eq!(memory.blocks(64).unwrap().as_ptr(), first);
        assert_eq!(memory.held(), 19 << 20);
        memory.release();
        assert_eq!((memory.held(), memory.0.capacity()), (0, 0));
        assert_eq!(memory.blocks(usize::MAX / 2048).err(), Some(NoMemory));
        assert!(memory.blocks(8).is_ok(), "and goes on afterwards");
    }
}
