//! What a value in the archive belongs to.

use crate::session::{Key, StoreNumber};

/// What a value belongs to. As bytes it is one of the following; numbers have their highest byte first, so that keys are in the order of numbers.
///
/// | key | bytes |
/// |---|---|
/// | [`Session`](ArchiveKey::Session) | 1, number of the session (8), 0 |
/// | [`Subscription`](ArchiveKey::Subscription) | 1, number of the session (8), 1, filter |
/// | [`Summary`](ArchiveKey::Summary) | 1, number of the session (8), 2, key (6) |
/// | [`Retained`](ArchiveKey::Retained) | 2, length of the mountpoint (4), mountpoint, topic |
/// | [`Page`](ArchiveKey::Page) | 3, number of the session (8), key (6) |
///
/// What is small stands together, and pages elsewhere, so that a start reads all sessions without a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKey<'a> {
    /// The header of a session.
    Session(StoreNumber),
    /// A subscription of a session, with its filter as it was subscribed to.
    Subscription(StoreNumber, &'a str),
    /// A few words about the page that begins with this message: how many messages, how many bytes.
    Summary(StoreNumber, Key),
    /// The messages that wait for a session from this one on.
    Page(StoreNumber, Key),
    /// A retained message.
    Retained {
        /// Its mountpoint.
        mountpoint: &'a str,
        /// Its topic.
        topic: &'a str,
    },
}

/// The first bytes of keys.
pub(super) const STATE: u8 = 1;
pub(super) const RETAINED: u8 = 2;
pub(super) const PAGE: u8 = 3;

/// The bytes after the number of a session.
const HEADER: u8 = 0;
const SUBSCRIPTION: u8 = 1;
const SUMMARY: u8 = 2;

impl<'a> ArchiveKey<'a> {
    /// As bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            ArchiveKey::Session(session) => [&of_session(STATE, session)[..], &[HEADER]].concat(),
            ArchiveKey::Subscription(session, filter) => {
                [&of_session(STATE, session)[..], &[SUBSCRIPTION], filter.as_bytes()].concat()
            }
            ArchiveKey::Summary(session, first) => {
                [&of_session(STATE, session)[..], &[SUMMARY], &first.get().to_be_bytes()[2..]].concat()
            }
            ArchiveKey::Page(session, first) => {
                [&of_session(PAGE, session)[..], &first.get().to_be_bytes()[2..]].concat()
            }
            ArchiveKey::Retained { mountpoint, topic } => [&of_mountpoint(mountpoint)[..], topic.as_bytes()].concat(),
        }
    }

    /// The key that these bytes are; none if they are none.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            STATE => {
                let (session, rest) = split_session(rest)?;
                match rest.split_first()? {
                    (&HEADER, []) => Some(ArchiveKey::Session(session)),
                    (&SUBSCRIPTION, filter) => Some(ArchiveKey::Subscription(session, str::from_utf8(filter).ok()?)),
                    (&SUMMARY, first) => Some(ArchiveKey::Summary(session, message(first)?)),
                    _ => None,
                }
            }
            PAGE => {
                let (session, first) = split_session(rest)?;
                Some(ArchiveKey::Page(session, message(first)?))
            }
            RETAINED => {
                let (length, rest) = rest.split_first_chunk()?;
                let (mountpoint, topic) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                let (mountpoint, topic) = (str::from_utf8(mountpoint).ok()?, str::from_utf8(topic).ok()?);
                Some(ArchiveKey::Retained { mountpoint, topic })
            }
            _ => None,
        }
    }

    /// The session that it belongs to.
    pub fn session(self) -> Option<StoreNumber> {
        match self {
            ArchiveKey::Session(session)
            | ArchiveKey::Subscription(session, _)
            | ArchiveKey::Summary(session, _)
            | ArchiveKey::Page(session, _) => Some(session),
            ArchiveKey::Retained { .. } => None,
        }
    }
}

/// What all keys of this kind that belong to the session begin with.
pub(super) fn of_session(kind: u8, session: StoreNumber) -> [u8; 9] {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&session.get().to_be_bytes());
    bytes
}

/// What all keys of retained messages of the mountpoint begin with.
pub(super) fn of_mountpoint(mountpoint: &str) -> Vec<u8> {
    // Names of mountpoints are shorter than a packet.
    let length = mountpoint.len() as u32;
    [&[RETAINED][..], &length.to_be_bytes(), mountpoint.as_bytes()].concat()
}

fn split_session(bytes: &[u8]) -> Option<(StoreNumber, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((StoreNumber::from_u64(u64::from_be_bytes(*number))?, rest))
}

/// The number of a message, of six bytes.
fn message(bytes: &[u8]) -> Option<Key> {
    let bytes: [u8; 6] = bytes.try_into().ok()?;
    let number = bytes.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte));
    (number < Key::NONE.get()).then(|| Key::new(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(counter: u32) -> StoreNumber {
        StoreNumber::new(1, 0, counter)
    }

    fn in_order() -> Vec<ArchiveKey<'static>> {
        vec![
            ArchiveKey::Session(session(0)),
            ArchiveKey::Subscription(session(0), "a/#"),
            ArchiveKey::Subscription(session(0), "ä"),
            ArchiveKey::Summary(session(0), Key::new(0)),
            ArchiveKey::Summary(session(0), Key::new(256)),
            ArchiveKey::Session(session(255)),
            ArchiveKey::Session(session(256)),
            ArchiveKey::Session(StoreNumber::new(1, 1, 0)),
            ArchiveKey::Session(StoreNumber::new(StoreNumber::LAST_BOOT, 255, u32::MAX)),
            ArchiveKey::Retained { mountpoint: "", topic: "a" },
            ArchiveKey::Retained { mountpoint: "", topic: "a/b" },
            ArchiveKey::Retained { mountpoint: "a", topic: "/b" },
            ArchiveKey::Page(session(0), Key::new(7)),
            ArchiveKey::Page(session(0), Key::new(1 << 40)),
            ArchiveKey::Page(session(1), Key::new((1 << 48) - 2)),
        ]
    }

    #[test]
    fn bytes_are_in_the_order_of_keys_and_are_read_back() {
        let keys = in_order();
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key.to_bytes()).collect();
        assert!(bytes.is_sorted_by(|one, other| one < other), "{bytes:?}");
        for (key, bytes) in keys.iter().zip(&bytes) {
            assert_eq!(ArchiveKey::from_bytes(bytes), Some(*key));
        }
    }

    #[test]
    fn other_bytes_are_no_key() {
        let page = ArchiveKey::Page(session(1), Key::new(1)).to_bytes();
        let of_none = [&page[..9], &[255; 6]].concat();
        let of_no_session = [&[PAGE][..], &[0; 14]].concat();
        let too_long = [&page[..], &[0]].concat();
        let header = [&ArchiveKey::Session(session(1)).to_bytes()[..], &[0]].concat();
        let short_mountpoint = [RETAINED, 0, 0, 0, 5, b'a'];
        let no_text = [&ArchiveKey::Subscription(session(1), "a").to_bytes()[..], &[255]].concat();
        let others: [&[u8]; 11] = [
            &[],
            &[0],
            &[9, 1],
            &page[..14],
            &of_none,
            &of_no_session,
            &too_long,
            &header,
            &short_mountpoint,
            &no_text,
            &[STATE],
        ];
        for bytes in others {
            assert_eq!(ArchiveKey::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
