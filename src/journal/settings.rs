//! What a journal is told before it begins: whose it is, how large it may be, and when it commits.

use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use super::format::{BLOCK, FRAME_HEADER, Identity, LARGEST_FRAME, StoreId, largest_body};

/// How many segments there have to be: one that is written, one that is archived, and one that is kept for [`Class::Relief`](super::Class).
pub const FEWEST_SEGMENTS: u32 = 3;
/// How many segments there may be.
pub const MOST_SEGMENTS: u32 = 4096;
/// How large a segment may be, in bytes.
pub const LARGEST_SEGMENT: u64 = 1 << 32;
/// How far apart commits may be.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// How a commit becomes durable, if anything in it is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// A direct write with `RWF_DSYNC`: one operation, which is answered when the data is on the device.
    Dsync,
    /// A write, followed by an `fdatasync` that is linked to it: where a file system has no direct writes, and behind commits of which nothing was to
    /// be durable.
    Linked,
    /// None is asked for: what is written survives the end of the process, and a loss of power only by chance. For stores where
    /// nobody asks for more.
    Never,
}

/// What a journal is told; see [`Settings::new`] for the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store, and the shard, that the journal belongs to.
    pub identity: Identity,
    /// The length of a segment file in bytes, a multiple of 4096, at most [`LARGEST_SEGMENT`].
    pub segment_bytes: u64,
    /// How many segments there are, the one for relief among them, from [`FEWEST_SEGMENTS`] to [`MOST_SEGMENTS`].
    pub segments: u32,
    /// How many there may be when [what is needed takes more of them](super::Journal::fit_to_need), at most [`MOST_SEGMENTS`]; never fewer than
    /// `segments`.
    pub most_segments: u32,
    /// The length of the largest commit in bytes, a multiple of 4096. A record has to fit into one.
    pub frame_bytes: usize,
    /// How many bytes may wait for their commit. They are held in buffers of `frame_bytes`; one more may have begun with
    /// [`Class::Relief`](super::Class::Relief), and one be on its way to the disk.
    pub buffer_bytes: usize,
    /// The shortest time from the beginning of one commit to that of the next.
    pub commit_interval: Duration,
    /// How a commit becomes durable.
    pub sync: Sync,
}

/// [`Settings`] that a journal can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedSettings(Settings);

impl Deref for CheckedSettings {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl Settings {
    /// The defaults: 4 segments of 64 MiB and never more, commits of at most 1 MiB and at least 500 µs apart, 4 MiB that may wait, direct writes.
    pub fn new(store: StoreId, shard: u32) -> Self {
        Settings {
            identity: Identity { store, shard },
            segment_bytes: 64 << 20,
            segments: 4,
            most_segments: FEWEST_SEGMENTS,
            frame_bytes: 1 << 20,
            buffer_bytes: 4 << 20,
            commit_interval: Duration::from_micros(500),
            sync: Sync::Dsync,
        }
    }

    /// The same settings, if a journal can work with them.
    pub fn check(self) -> Result<CheckedSettings, SettingsError> {
        let Settings { segment_bytes, segments, frame_bytes, buffer_bytes, commit_interval, .. } = self;
        let block = BLOCK as u64;
        let in_blocks = |bytes: u64| bytes > 0 && bytes.is_multiple_of(block);
        if !in_blocks(segment_bytes) || segment_bytes > LARGEST_SEGMENT {
            return Err(SettingsError::SegmentBytes(segment_bytes));
        }
        if !(FEWEST_SEGMENTS..=MOST_SEGMENTS).contains(&segments) {
            return Err(SettingsError::Segments(segments));
        }
        if self.most_segments > MOST_SEGMENTS {
            return Err(SettingsError::Segments(self.most_segments));
        }
        if !in_blocks(frame_bytes as u64) || frame_bytes > LARGEST_FRAME {
            return Err(SettingsError::FrameBytes(frame_bytes));
        }
        if frame_bytes as u64 > segment_bytes - block {
            return Err(SettingsError::FrameBeyondSegment { frame_bytes, segment_bytes });
        }
        if buffer_bytes < frame_bytes {
            return Err(SettingsError::BufferBelowFrame { buffer_bytes, frame_bytes });
        }
        if commit_interval > LONGEST_INTERVAL {
            return Err(SettingsError::CommitInterval(commit_interval));
        }
        Ok(CheckedSettings(self))
    }
}

impl CheckedSettings {
    /// How many frames may wait for their commit.
    pub(super) fn most_waiting(&self) -> usize {
        self.buffer_bytes / self.frame_bytes
    }

    /// How many segments there may be, at least and at most.
    pub(super) fn between(&self) -> RangeInclusive<usize> {
        self.segments as usize..=self.segments.max(self.most_segments) as usize
    }

    /// The largest body of a record, in bytes: it fits into a frame of its own.
    pub fn largest_body(&self) -> usize {
        largest_body(self.frame_bytes - FRAME_HEADER)
    }
}

/// Why a journal cannot work with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The length of a segment.
    SegmentBytes(u64),
    /// The number of segments.
    Segments(u32),
    /// The length of the largest commit.
    FrameBytes(usize),
    /// A commit that no segment has room for.
    FrameBeyondSegment {
        /// The largest commit.
        frame_bytes: usize,
        /// The length of a segment.
        segment_bytes: u64,
    },
    /// Not even one commit may wait.
    BufferBelowFrame {
        /// What may wait.
        buffer_bytes: usize,
        /// The largest commit.
        frame_bytes: usize,
    },
    /// The time between two commits.
    CommitInterval(Duration),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::SegmentBytes(bytes) => {
                write!(f, "a segment of {bytes} bytes: it must be a multiple of {BLOCK}, up to {LARGEST_SEGMENT}")
            }
            SettingsError::Segments(segments) => {
                write!(f, "{segments} segments: there must be {FEWEST_SEGMENTS} to {MOST_SEGMENTS}")
            }
            SettingsError::FrameBytes(bytes) => {
                write!(f, "commits of up to {bytes} bytes: that must be a multiple of {BLOCK}, up to {LARGEST_FRAME}")
            }
            SettingsError::FrameBeyondSegment { frame_bytes, segment_bytes } => write!(
                f,
                "commits of up to {frame_bytes} bytes do not fit into a segment of {segment_bytes}, of which {BLOCK} are its header"
            ),
            SettingsError::BufferBelowFrame { buffer_bytes, frame_bytes } => {
                write!(f, "{buffer_bytes} bytes may wait for a commit: that is less than one commit of {frame_bytes}")
            }
            SettingsError::CommitInterval(interval) => {
                write!(f, "{interval:?} between commits: that must be at most {LONGEST_INTERVAL:?}")
            }
        }
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(StoreId([7; 16]), 1)
    }

    #[test]
    fn the_defaults_hold_and_each_border_does() {
        assert!(settings().check().is_ok());
        let smallest = Settings {
            segment_bytes: 8192,
            segments: FEWEST_SEGMENTS,
            frame_bytes: 4096,
            buffer_bytes: 4096,
            commit_interval: Duration::ZERO,
            ..settings()
        };
        assert!(smallest.check().is_ok());
        let largest = Settings {
            segment_bytes: LARGEST_SEGMENT,
            segments: MOST_SEGMENTS,
            frame_bytes: LARGEST_FRAME,
            buffer_bytes: LARGEST_FRAME,
            commit_interval: LONGEST_INTERVAL,
            ..settings()
        };
        assert!(largest.check().is_ok());
    }

    #[test]
    fn what_does_not_work_is_explained() {
        let refused = [
            (Settings { segment_bytes: 0, ..settings() }, "a segment of 0 bytes"),
            (Settings { segment_bytes: 5000, ..settings() }, "a segment of 5000 bytes"),
            (Settings { segment_bytes: LARGEST_SEGMENT + 4096, ..settings() }, "a segment of 4294971392 bytes"),
            (Settings { segments: 2, ..settings() }, "2 segments"),
            (Settings { segments: MOST_SEGMENTS + 1, ..settings() }, "4097 segments"),
            (Settings { most_segments: MOST_SEGMENTS + 1, ..settings() }, "4097 segments"),
            (Settings { frame_bytes: 100, ..settings() }, "commits of up to 100 bytes"),
            (Settings { frame_bytes: LARGEST_FRAME + BLOCK, ..settings() }, "commits of up to 67112960 bytes"),
            (Settings { segment_bytes: 4096, frame_bytes: 4096, ..settings() }, "do not fit into a segment of 4096"),
            (Settings { buffer_bytes: 4096, ..settings() }, "4096 bytes may wait"),
            (Settings { commit_interval: Duration::from_secs(2), ..settings() }, "2s between commits"),
        ];
        for (settings, told) in refused {
            let error = settings.check().expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn the_largest_record_fills_a_frame() {
        let checked = Settings { frame_bytes: 4096, ..settings() }.check().expect("they hold");
        assert_eq!(FRAME_HEADER + super::super::format::record_bytes(checked.largest_body()), 4096);
    }
}
