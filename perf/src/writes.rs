//! What a broker has written to its store: bytes by the kernel's account, and how many commits those were, by the frames in its journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What frames begin at, in bytes.
const BLOCK: u64 = 4096;
/// As much of the header of a frame as is needed: what says that it is one, the length of what follows the header, and its number.
const HEADER: usize = 24;
const HEADER_LENGTH: u64 = 40;
const MAGIC: &[u8] = b"mqJf";

/// What was written in a window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Writes {
    /// Bytes, as the kernel counts them for the processes.
    pub bytes: u64,
    /// Bytes of a commit, in the mean over what is in the journal; none if the store is not moormq's.
    pub each: Option<f64>,
}

impl Writes {
    /// How many commits.
    pub fn commits(&self) -> Option<f64> {
        self.each.map(|each| self.bytes as f64 / each)
    }
}

/// Bytes of a commit in the journal of the store at `path`, in the mean; none if there are none.
pub fn bytes_of_a_commit(path: &Path) -> Option<f64> {
    let (mut frames, mut bytes) = (0_u64, 0_u64);
    // Files come and go while it is looked at; one that is gone has no frames.
    for entry in std::fs::read_dir(path.join("journal")).ok()?.flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        let Ok((more, of)) = frames_of(&file) else { continue };
        (frames, bytes) = (frames + more, bytes + of);
    }
    (frames > 0).then(|| bytes as f64 / frames as f64)
}

/// The frames at the front of a segment, one behind the other: how many, and their bytes.
fn frames_of(file: &File) -> io::Result<(u64, u64)> {
    let (mut offset, mut frames, mut last) = (BLOCK, 0, 0);
    let mut header = [0; HEADER];
    loop {
        match file.read_exact_at(&mut header, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let number = header[16..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        // Behind the last one there may be those of an earlier use of the file.
        if !header.starts_with(MAGIC) || number <= last {
            break;
        }
        let length = header[8..].first_chunk().copied().map_or(0, u32::from_le_bytes);
        last = number;
        frames += 1;
        offset += (HEADER_LENGTH + u64::from(length)).next_multiple_of(BLOCK);
    }
    Ok((frames, offset - BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_up_to_those_of_an_earlier_use() {
        let path = std::env::temp_dir().join(format!("moormq-perf-frames-{}", std::process::id()));
        let mut bytes = vec![0; 6 * BLOCK as usize];
        for (block, length, number) in [(1, 100_u32, 7_u64), (2, 5000, 8), (4, 10, 3)] {
            let at = block * BLOCK as usize;
            bytes[at..at + 4].copy_from_slice(MAGIC);
            bytes[at + 8..at + 12].copy_from_slice(&length.to_le_bytes());
            bytes[at + 16..at + 24].copy_from_slice(&number.to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        let counted = frames_of(&File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(counted.unwrap(), (2, 3 * BLOCK));
    }
}
