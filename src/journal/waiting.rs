//! Frames that wait for their commit. What is waiting is written into buffers that are used again and again.

use std::collections::VecDeque;

use super::aligned::Aligned;
use super::effect::Class;
use super::format::{BLOCK, FRAME_HEADER, FrameHeader, Identity, record_bytes, write_record};
use super::segment::Place;

/// A frame that is being filled, or waits.
pub(super) struct Frame {
    buffer: Aligned,
    /// How long it is, with its header.
    pub used: usize,
    /// How long it may become.
    limit: usize,
    pub place: Place,
    pub number: u64,
    /// How many records are in it.
    pub records: u64,
    /// Whether any of them is to survive a loss of power.
    pub is_to_be_synced: bool,
}

impl Frame {
    /// How many bytes it takes in its segment.
    pub fn whole(&self) -> u64 {
        self.used.next_multiple_of(BLOCK) as u64
    }

    /// The bytes to write, and how many of them.
    pub fn finish(mut self, identity: Identity, previous: u64) -> (Aligned, usize) {
        let numbers = [self.number, previous];
        let length = FrameHeader::finish(&mut self.buffer, self.used, identity, &self.place, numbers);
        (self.buffer, length)
    }
}

/// The frames that wait, in order. The last one may be open: it takes further records.
pub(super) struct Waiting {
    frames: VecDeque<Frame>,
    is_open: bool,
    spare: Vec<Aligned>,
    /// How many frames may wait, and one more that has begun with relief.
    most: usize,
    frame_bytes: usize,
}

impl Waiting {
    /// None, with room for `most` frames of at most `frame_bytes`, and one more for relief.
    pub fn new(most: usize, frame_bytes: usize) -> Self {
        Waiting { frames: VecDeque::new(), is_open: false, spare: Vec::new(), most, frame_bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn may_begin(&self, class: Class) -> bool {
        self.frames.len() < self.most + usize::from(class == Class::Relief)
    }

    /// The frame that takes records.
    fn open(&self) -> Option<&Frame> {
        self.frames.back().filter(|_| self.is_open)
    }

    /// How many bytes of records of that class the open frame has room for.
    pub fn open_room(&self, class: Class) -> usize {
        let is_kept = class == Class::Ordinary && self.frames.len() > self.most;
        self.open().filter(|_| !is_kept).map_or(0, |frame| frame.limit - frame.used)
    }

    /// How many bytes the open frame takes in its segment by now.
    pub fn open_bytes(&self) -> u64 {
        self.open().map_or(0, Frame::whole)
    }

    /// No more records go into the open frame. Which frame that was.
    pub fn close(&mut self) -> Option<&Frame> {
        std::mem::take(&mut self.is_open).then(|| self.frames.back())?
    }

    /// Opens a frame, which may become as long as its place has room.
    pub fn begin(&mut self, place: Place, number: u64) {
        debug_assert!(!self.is_open && self.may_begin(Class::Relief));
        let buffer = self.spare.pop().unwrap_or_else(|| Aligned::zeroed(self.frame_bytes));
        let limit = usize::try_from(place.room).map_or(self.frame_bytes, |room| room.min(self.frame_bytes));
        self.frames.push_back(Frame {
            buffer,
            used: FRAME_HEADER,
            limit,
            place,
            number,
            records: 0,
            is_to_be_synced: false,
        });
        self.is_open = true;
    }

    /// Writes a record into the open frame, which has room for it; the number of that frame.
    pub fn push(&mut self, kind: u8, length: usize, parts: &[&[u8]], is_to_be_synced: bool) -> Option<u64> {
        let frame = self.frames.back_mut().filter(|_| self.is_open)?;
        debug_assert!(record_bytes(length) <= frame.limit - frame.used);
        frame.used += write_record(&mut frame.buffer[frame.used..], kind, length, parts);
        frame.records += 1;
        frame.is_to_be_synced |= is_to_be_synced;
        Some(frame.number)
    }

    /// The frame to be written next. It must not be open.
    pub fn pop(&mut self) -> Option<Frame> {
        debug_assert!(!self.is_open || self.frames.len() > 1);
        self.frames.pop_front()
    }

    /// Whether the frame to be written next is open.
    pub fn first_is_open(&self) -> bool {
        self.is_open && self.frames.len() == 1
    }

    /// A buffer that came back.
    pub fn give_back(&mut self, buffer: Aligned) {
        self.spare.push(buffer);
    }

    /// Forgets everything, and gives its memory back.
    pub fn clear(&mut self) {
        *self = Waiting::new(self.most, self.frame_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::FileId;
    use super::*;

    const O: Class = Class::Ordinary;

    fn place(room: u64) -> Place {
        Place { file: FileId(0), generation: 1, offset: 4096, room }
    }

    #[test]
    fn a_frame_takes_records_up_to_its_limit_and_none_once_it_is_closed() {
        let mut waiting = Waiting::new(2, 8192);
        assert_eq!((waiting.open_room(O), waiting.open_bytes(), waiting.may_begin(O)), (0, 0, true));
        waiting.begin(place(4096), 5);
        assert_eq!((waiting.open_room(O), waiting.open_bytes()), (4096 - FRAME_HEADER, 4096));
        assert_eq!(waiting.push(1, 100, &[&[0; 60], &[0; 40]], true), Some(5));
        assert_eq!(waiting.open_room(O), 4096 - FRAME_HEADER - 102);
        assert!(waiting.first_is_open() && waiting.may_begin(O));
        assert_eq!(waiting.close().map(Frame::whole), Some(4096));
        assert!(waiting.close().is_none() && waiting.push(1, 0, &[], true).is_none());
        waiting.begin(place(1 << 40), 6);
        assert_eq!(waiting.open_room(O), 8192 - FRAME_HEADER, "no more than its buffer");
        assert!(!waiting.may_begin(O) && !waiting.first_is_open());
        waiting.push(1, 10, &[&[0; 10]], true);
        waiting.close();
        assert!(waiting.may_begin(Class::Relief), "there is another one for relief");
        waiting.begin(place(4096), 7);
        assert!(!waiting.may_begin(Class::Relief) && waiting.open_room(Class::Relief) == 4096 - FRAME_HEADER);
        assert_eq!(waiting.open_room(O), 0, "and for nothing else");
        assert_eq!(waiting.pop().map(|frame| (frame.number, frame.records)), Some((5, 1)));
        assert_eq!(waiting.open_room(O), 4096 - FRAME_HEADER, "as long as others wait");
        waiting.close();
        assert_eq!(waiting.pop().map(|frame| (frame.number, frame.records)), Some((6, 1)));
        assert!(waiting.may_begin(O));
    }

    #[test]
    fn buffers_are_used_again() {
        let mut waiting = Waiting::new(1, 4096);
        waiting.begin(place(4096), 1);
        waiting.close();
        let (buffer, length) = waiting
            .pop()
            .expect("there is one")
            .finish(Identity { store: super::super::StoreId([0; 16]), shard: 0 }, 0);
        let address = buffer.as_ptr();
        assert_eq!(length, 4096);
        waiting.give_back(buffer);
        waiting.begin(place(4096), 2);
        waiting.close();
        let again = waiting.pop().expect("there is one");
        assert_eq!(again.buffer.as_ptr(), address);
        waiting.give_back(again.buffer);
        waiting.clear();
        assert!(waiting.is_empty() && waiting.spare.is_empty());
    }
}
