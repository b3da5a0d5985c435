//! What every payload begins with: who published it, as which of his messages, and when.

/// How many bytes a stamp takes.
pub const STAMP_LEN: usize = 16;

/// Where a message came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The number of the publisher.
    pub publisher: u32,
    /// How many messages he published before this one.
    pub sequence: u32,
    /// When it was published, or should have been if there is a schedule: nanoseconds since the run began.
    pub time: u64,
}

impl Stamp {
    /// Writes the stamp over the first [`STAMP_LEN`] bytes of a payload.
    ///
    /// # Panics
    ///
    /// If the payload is shorter.
    #[inline]
    pub fn put(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_le_bytes());
        payload[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        payload[8..STAMP_LEN].copy_from_slice(&self.time.to_le_bytes());
    }

    /// The stamp of a payload; none if it is too short to have one.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Stamp> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (time, _) = rest.split_first_chunk()?;
        Some(Stamp {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u32::from_le_bytes(*sequence),
            time: u64::from_le_bytes(*time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { publisher: 7, sequence: u32::MAX, time: u64::MAX - 1 };
        let mut payload = [0xAA; 20];
        stamp.put(&mut payload);
        assert_eq!(Stamp::of(&payload), Some(stamp));
        assert_eq!(payload[STAMP_LEN..], [0xAA; 4]);
        assert_eq!(Stamp::of(&payload[..STAMP_LEN - 1]), None);
    }
}
