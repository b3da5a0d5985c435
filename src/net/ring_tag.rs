//! User data: the 64 bits that a completion carries back from its operation.

/// The largest number of connections of one ring: the index of a [`ConnectionId`](crate::client::ConnectionId) must be
/// below it.
pub const MAX_CONNECTIONS: usize = 1 << 24;

/// The kind of an operation: the highest byte of its user data. Below it are 24 bits of index and 32 of generation.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept,
    Receive,
    Send,
    Watch,
    Cancel,
    Close,
    /// The write of a file, alone.
    FileWrite,
    /// The write of a file which the next operation, its sync, is linked to.
    FileLinkedWrite,
    FileSync,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Accept,
        Kind::Receive,
        Kind::Send,
        Kind::Watch,
        Kind::Cancel,
        Kind::Close,
        Kind::FileWrite,
        Kind::FileLinkedWrite,
        Kind::FileSync,
    ];

    /// The user data of an operation.
    pub fn tag(self, index: usize, generation: u32) -> u64 {
        assert!(index < MAX_CONNECTIONS, "index {index} does not fit into user data");
        u64::from(self as u8) << 56 | (index as u64) << 32 | u64::from(generation)
    }

    /// The reverse of [`tag`](Self::tag): kind, index and generation.
    pub fn of(user_data: u64) -> (Option<Kind>, usize, u32) {
        let kind = Kind::ALL.get((user_data >> 56) as usize).copied();
        (kind, (user_data >> 32) as usize & (MAX_CONNECTIONS - 1), user_data as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back_as_it_went_in() {
        for kind in Kind::ALL {
            for (index, generation) in [(0, 0), (MAX_CONNECTIONS - 1, 0), (7, u32::MAX)] {
                let (of, at, generation_back) = Kind::of(kind.tag(index, generation));
                assert!(of == Some(kind) && at == index && generation_back == generation);
            }
        }
        assert!(Kind::of(u64::MAX).0.is_none());
    }
}
