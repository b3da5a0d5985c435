//! The file `store`: whose store a directory is, and what all shards have in common.
//!
//! Numbers are little-endian. The content stands twice in the file, from its beginning and from its middle on, each padded with zeros to whole
//! blocks of 4096 bytes: a bad block costs nothing.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `moormq-S` |
//! | 8 | 4 | CRC-32C of the bytes from 12 up to the length |
//! | 12 | 4 | version of the format, 1. All versions have these first three at the same place |
//! | 16 | 4 | length |
//! | 20 | 3 | number of floors |
//! | 23 | 1 | 1 if it has an archive, in which messages may be; else 0 |
//! | 24 | 16 | id of the store |
//! | 40 | 8 | seed of the hash that puts subscriber ids into slots |
//! | 48 | 8 | when the store was made, in seconds since 1970 |
//! | 56 | 4 | how often a broker has opened it |
//! | 60 | 4 | the first boot whose records count |
//! | 64 | 24 each | floors: shard (4), zero (4), generation (8), number (8) |

use std::collections::BTreeMap;

use crc32c::crc32c;

use crate::journal::{BLOCK, Floor, StoreId};
use crate::sharding::MAX_SHARDS;

/// The version of the file `store` that is written, and the only one that is read.
pub const STORE_VERSION: u32 = 1;
/// The length of the longest file that is read: about 20,000 shards.
pub(super) const LONGEST: u64 = 1 << 20;

const MAGIC: [u8; 8] = *b"moormq-S";
const FIXED: usize = 64;
const FLOOR: usize = 24;
/// At which byte is said whether there is an archive.
const HAS_ARCHIVE: usize = 23;

/// What the file `store` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// The store: a random number, which is in each of its files.
    pub id: StoreId,
    /// The seed of the hash that puts subscriber ids into slots.
    pub slot_seed: u64,
    /// When the store was made, in seconds since 1970.
    pub made: u64,
    /// How often a broker has opened it.
    pub boots: u32,
    /// The first boot whose records count. What counted of earlier ones was written anew.
    pub first_boot: u32,
    /// Whether it has an archive, in which messages may be.
    pub has_archive: bool,
    /// Above what the journals of shards have reached; of none that never had one.
    pub floors: BTreeMap<u32, Floor>,
}

/// Why a file `store` does not say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is something else.
    Foreign,
    OtherVersion(u32),
    /// Both copies are.
    Damaged,
}

impl StoreFacts {
    /// The content of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = FIXED + self.floors.len() * FLOOR;
        let mut copy = Vec::with_capacity(length.next_multiple_of(BLOCK));
        copy.extend(MAGIC);
        copy.extend([0; 4]);
        copy.extend(STORE_VERSION.to_le_bytes());
        copy.extend((length as u32).to_le_bytes());
        copy.extend((self.floors.len() as u32).to_le_bytes());
        copy.extend(self.id.0);
        copy.extend(self.slot_seed.to_le_bytes());
        copy.extend(self.made.to_le_bytes());
        copy.extend(self.boots.to_le_bytes());
        copy.extend(self.first_boot.to_le_bytes());
        for (shard, Floor { generation, number }) in &self.floors {
            copy.extend(shard.to_le_bytes());
            copy.extend([0; 4]);
            copy.extend(generation.to_le_bytes());
            copy.extend(number.to_le_bytes());
        }
        copy[HAS_ARCHIVE] = self.has_archive.into();
        let checksum = crc32c(&copy[12..]);
        copy[8..12].copy_from_slice(&checksum.to_le_bytes());
        copy.resize(length.next_multiple_of(BLOCK), 0);
        copy.repeat(2)
    }

    /// What the content of a file says, and whether both copies do.
    pub(super) fn decode(bytes: &[u8]) -> Result<(StoreFacts, bool), Unreadable> {
        let copies = [bytes, &bytes[bytes.len() / 2..]].map(decode_copy);
        match copies {
            [Ok(first), second] => {
                let is_whole = second.as_ref() == Ok(&first);
                Ok((first, is_whole))
            }
            [Err(_), Ok(second)] => Ok((second, false)),
            [Err(first), Err(second)] => Err(match (first, second) {
                (Unreadable::OtherVersion(version), _) | (_, Unreadable::OtherVersion(version)) => {
                    Unreadable::OtherVersion(version)
                }
                (Unreadable::Foreign, Unreadable::Foreign) => Unreadable::Foreign,
                _ => Unreadable::Damaged,
            }),
        }
    }
}

fn decode_copy(bytes: &[u8]) -> Result<StoreFacts, Unreadable> {
    let word = |at: usize| bytes[at..].first_chunk().map(|word| u32::from_le_bytes(*word));
    let long = |at: usize| bytes[at..].first_chunk().map(|long| u64::from_le_bytes(*long));
    if bytes.len() < FIXED {
        return Err(if bytes.starts_with(&MAGIC) { Unreadable::Damaged } else { Unreadable::Foreign });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(Unreadable::Foreign);
    }
    let version = word(12).ok_or(Unreadable::Damaged)?;
    if version != STORE_VERSION {
        return Err(Unreadable::OtherVersion(version));
    }
    let length = word(16).ok_or(Unreadable::Damaged)? as usize;
    let copy = bytes.get(..length).filter(|copy| copy.len() >= FIXED).ok_or(Unreadable::Damaged)?;
    if Some(crc32c(&copy[12..])) != word(8) {
        return Err(Unreadable::Damaged);
    }
    let floors = copy[FIXED..].as_chunks::<FLOOR>().0.iter().map(|floor| {
        let long = |at: usize| floor[at..].first_chunk().map_or(0, |long| u64::from_le_bytes(*long));
        let shard = floor.first_chunk().map_or(0, |shard| u32::from_le_bytes(*shard));
        (shard, Floor { generation: long(8), number: long(16) })
    });
    let floors: BTreeMap<u32, Floor> = floors.collect();
    if floors.keys().any(|shard| *shard as usize >= MAX_SHARDS) {
        return Err(Unreadable::Damaged);
    }
    let id = *copy[24..].first_chunk().ok_or(Unreadable::Damaged)?;
    let (slot_seed, made) = (long(40).ok_or(Unreadable::Damaged)?, long(48).ok_or(Unreadable::Damaged)?);
    let boots = word(56).ok_or(Unreadable::Damaged)?;
    let first_boot = word(60).ok_or(Unreadable::Damaged)?;
    let has_archive = copy[HAS_ARCHIVE] != 0;
    Ok(StoreFacts { id: StoreId(id), slot_seed, made, boots, first_boot, has_archive, floors })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(shards: u32) -> StoreFacts {
        let floor = |shard: u32| (shard, Floor { generation: u64::from(shard) + 5, number: 7 });
        StoreFacts {
            id: StoreId([9; 16]),
            slot_seed: 0x1234,
            made: 55,
            boots: 7,
            first_boot: 3,
            has_archive: shards % 2 == 1,
            floors: (0..shards).map(floor).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_however_many_shards_there_are() {
        for shards in [0, 1, 4, 167, 168, 169, MAX_SHARDS as u32] {
            let bytes = facts(shards).encode();
            assert!(bytes.len().is_multiple_of(2 * BLOCK) && (bytes.len() as u64) < LONGEST);
            assert_eq!(StoreFacts::decode(&bytes), Ok((facts(shards), true)));
        }
    }

    #[test]
    fn a_bad_bit_costs_one_copy_and_is_noticed() {
        let bytes = facts(3).encode();
        let half = bytes.len() / 2;
        for at in (0..FIXED + 3 * FLOOR).flat_map(|at| [at, at + half]) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(StoreFacts::decode(&bad), Ok((facts(3), false)), "byte {at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let bytes = facts(3).encode();
        let half = bytes.len() / 2;
        let with = |at: usize, byte: u8| {
            let mut other = bytes.clone();
            (other[at], other[half + at]) = (byte, byte);
            StoreFacts::decode(&other)
        };
        assert_eq!(with(0, b'x'), Err(Unreadable::Foreign));
        assert_eq!(with(12, 2), Err(Unreadable::OtherVersion(2)));
        assert_eq!(with(30, 0), Err(Unreadable::Damaged));
        assert_eq!(with(19, 255), Err(Unreadable::Damaged), "a length beyond the end");
        assert_eq!(with(16, 0), Err(Unreadable::Damaged), "a length that is too short");
        assert_eq!(StoreFacts::decode(&bytes[..50]), Err(Unreadable::Damaged));
        assert_eq!(StoreFacts::decode(&[]), Err(Unreadable::Foreign));
        let beyond = facts(MAX_SHARDS as u32 + 1).encode();
        assert_eq!(StoreFacts::decode(&beyond), Err(Unreadable::Damaged), "a shard that there cannot be");
        assert!(
            (0..bytes.len())
                .all(|length| StoreFacts::decode(&bytes[..length]).is_ok() == (length >= FIXED + 3 * FLOOR))
        );
    }
}
