//! Files of a journal with pieces of them written over, cut off or swapped: reading ends, what is read was written, in order, and a journal goes
//! on from there.
//!
//! `tests/fuzz/run journal`

#![no_main]

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moormq::journal::{Class, Effect, FileId, Journal, ReadAt, Reader, Recovered, Settings, StoreId};

type Files = Vec<Vec<u8>>;

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = &self.0[(offset as usize).min(self.0.len())..];
        let length = buffer.len().min(from.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }
}

fn settings() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        segments: 3,
        frame_bytes: 8 << 10,
        buffer_bytes: 8 << 10,
        ..Settings::new(StoreId([7; 16]), 0)
    }
}

/// The body of a record.
fn body(number: u64) -> Vec<u8> {
    let length = 8 + number as usize * 37 % 300;
    number.to_le_bytes().into_iter().chain((8..length).map(|at| (at as u64 ^ number) as u8)).collect()
}

/// Does all that a journal wants done to its files.
fn work(journal: &mut Journal, files: &mut Files, now: &mut Duration) {
    while let Some(effect) = journal.next_effect(*now) {
        match effect {
            Effect::Write(write) => {
                files[write.file.0 as usize][write.offset as usize..][..write.bytes].copy_from_slice(write.data());
                journal.written(write.buffer, Ok(write.bytes));
            }
            Effect::Prepare(preparation) => {
                let file = preparation.file.0 as usize;
                files.resize(files.len().max(file + 1), Vec::new());
                if preparation.fill {
                    files[file] = vec![0; preparation.bytes as usize];
                }
                files[file][..4096].copy_from_slice(&preparation.header);
                journal.prepared(preparation.file, Ok(()), *now);
            }
            Effect::Remove { file } | Effect::SetAside { file } => files[file.0 as usize].clear(),
        }
        *now += settings().commit_interval;
    }
    if let Some(oldest) = journal.oldest() {
        journal.release(oldest);
    }
}

/// Appends records from `first` on, with a commit for every three. The last that was taken.
fn append(journal: &mut Journal, files: &mut Files, first: u64, count: u64) -> Option<u64> {
    let (mut now, mut last) = (Duration::ZERO, None);
    for number in first..first + count {
        let taken = journal.append(Class::Relief, number as u8, &[&body(number)]).is_ok();
        last = taken.then_some(number).or(last);
        if number % 3 == 0 {
            work(journal, files, &mut now);
            work(journal, files, &mut now);
        }
    }
    work(journal, files, &mut now);
    last
}

/// Reads everything: the numbers of the records, and what a journal goes on from.
fn read(files: &Files) -> (Vec<u64>, Recovered) {
    let open = files.iter().enumerate().map(|(id, bytes)| (FileId(id as u32), Bytes(bytes))).collect();
    let mut reader = Reader::new(settings().identity, open);
    let mut numbers = Vec::new();
    while let Some(record) = reader.next() {
        let number = u64::from_le_bytes(*record.body.first_chunk().expect("a number"));
        assert!(record.kind == number as u8 && record.body == body(number), "it was written");
        numbers.push(number);
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice");
    let (recovered, findings) = reader.finish();
    findings.iter().for_each(|finding| drop(finding.to_string()));
    (numbers, recovered)
}

/// Files that were used several times.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut files = Files::new();
    let settings = settings().check().expect("they hold");
    let mut journal = Journal::new(settings, Recovered::nothing(), 0).expect("there was none before");
    let mut now = Duration::ZERO;
    work(&mut journal, &mut files, &mut now);
    append(&mut journal, &mut files, 1, 60);
    let (numbers, _) = read(&files);
    assert!(numbers.len() > 5);
    files
});

// Pieces of: what is done, file, place (two bytes, in eighths of a block's 4096th), length, and as many bytes to write there.
fuzz_target!(|input: &[u8]| {
    let mut files = FILES.clone();
    let mut rest = input;
    while let [kind, high, low, length, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let (file, other) = (usize::from(kind >> 4) % files.len(), usize::from(*length) % files.len());
        let place = usize::from(*high) << 8 | usize::from(*low);
        let bytes = &mut files[file];
        match kind & 7 {
            0 => bytes.iter_mut().skip(place).zip(piece).for_each(|(byte, piece)| *byte ^= piece),
            1 => bytes.truncate(place),
            2 => files.swap(file, other),
            3 => {
                let spare = files[other].clone();
                let block = place / 4096 * 4096;
                let from = usize::from(*low) % 4 * 4096;
                files[file]
                    .iter_mut()
                    .skip(block)
                    .zip(spare.iter().skip(from))
                    .take(4096)
                    .for_each(|(to, from)| *to = *from);
            }
            _ => bytes.iter_mut().skip(place).zip(piece).for_each(|(byte, piece)| *byte = *piece),
        }
    }
    let (numbers, recovered) = read(&files);
    let mut journal = Journal::new(settings().check().expect("they hold"), recovered, 1).expect("there are numbers");
    let last = append(&mut journal, &mut files, 1000, 20);
    let (again, _) = read(&files);
    let old: Vec<u64> = again.iter().copied().filter(|number| *number < 1000).collect();
    assert!(numbers.ends_with(&old), "what is read again was read before");
    assert!(last.is_none() || again.last().copied() == last, "what is appended then is there");
});
