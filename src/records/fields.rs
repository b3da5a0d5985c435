//! Tagged fields: what a session record is made of, so that later versions can add to it.

use super::bytes::{Cursor, Wrong, put_number};

/// Writes fields, in ascending order of their tags.
pub(super) struct FieldWriter<'b> {
    out: &'b mut Vec<u8>,
    /// For values whose length is not known before.
    value: Vec<u8>,
    last: u8,
}

impl<'b> FieldWriter<'b> {
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        FieldWriter { out, value: Vec::new(), last: 0 }
    }

    /// Writes a field with this value.
    pub fn put(&mut self, tag: u8, value: &[u8]) {
        debug_assert!(tag > self.last, "fields are in order");
        self.last = tag;
        self.out.push(tag);
        put_number(value.len() as u64, self.out);
        self.out.extend_from_slice(value);
    }

    /// Writes a field whose value `write` writes.
    pub fn put_with(&mut self, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        write(&mut value);
        self.put(tag, &value);
        self.value = value;
    }

    /// Writes a field that is a number.
    pub fn put_number(&mut self, tag: u8, number: u64) {
        self.put_with(tag, |out| put_number(number, out));
    }
}

/// The next field: its tag, which is greater than `last`, and its value.
pub(super) fn read_field<'a>(cursor: &mut Cursor<'a>, last: u8) -> Result<(u8, Cursor<'a>), Wrong> {
    let tag = cursor.byte()?;
    if tag <= last {
        return Err("the fields of a session are not in order");
    }
    let length = cursor.length()?;
    Ok((tag, Cursor::new(cursor.take(length)?)))
}

/// A value that is a number, and nothing else.
pub(super) fn whole_number(mut value: Cursor<'_>) -> Result<u64, Wrong> {
    let number = value.number()?;
    if value.is_empty() { Ok(number) } else { Err("a field of a session is longer than its number") }
}
