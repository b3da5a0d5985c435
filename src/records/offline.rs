//! Since when a session is offline, and what is due then.

use super::bytes::{Cursor, Wrong, put_number};
use super::wall_clock::WallTime;

/// A session is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offline {
    /// Since when.
    pub since: WallTime,
    /// When it ends; [`WallTime::NEVER`]: it is kept for ever.
    pub expires: WallTime,
    /// When its delayed will is due; [`WallTime::NEVER`] if it has none.
    pub will_due: WallTime,
    /// Whether it has a will still, which is delayed.
    pub has_will: bool,
}

/// What the first byte says.
const HAS_WILL: u8 = 1;

impl Offline {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(if self.has_will { HAS_WILL } else { 0 });
        [self.since, self.expires, self.will_due].iter().for_each(|time| put_number(time.as_millis(), out));
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let flags = cursor.byte()?;
        if flags & !HAS_WILL != 0 {
            return Err("a session is offline with flags that there are not");
        }
        let mut time = || cursor.number().map(WallTime::from_millis);
        Ok(Offline { since: time()?, expires: time()?, will_due: time()?, has_will: flags & HAS_WILL != 0 })
    }
}
