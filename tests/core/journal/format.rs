//! The format, as files that were made by this version and are kept: later versions have to read them.

use std::collections::BTreeMap;
use std::fmt::Write;

use moormq::journal::{Class, FileId, Settings, StoreId, Sync};

use super::rig::{Entry, Rig, read};
use crate::store::disk::Disk;

/// The files of version 1, as text: the length of each file, and of each 64 bytes the number of the file, where they
/// are, and those up to the last that is not zero.
const VERSION_1: &str = include_str!("format_1.txt");

fn settings() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        segments: 3,
        frame_bytes: 8 << 10,
        buffer_bytes: 8 << 10,
        ..Settings::new(StoreId(*b"moormq format 1."), 258)
    }
}

/// Records of all sorts: empty, with lengths of one byte, two and three; several in a frame; over recycled segments.
fn made_now() -> Rig {
    let settings = Settings { sync: Sync::Dsync, ..settings() };
    let mut rig = Rig::new(settings, 0);
    rig.settle();
    let archived: [&[usize]; 6] = [&[8, 127, 128], &[200], &[300, 8, 8], &[5000], &[90], &[200, 100]];
    let kept: [&[usize]; 4] = [&[10], &[8, 9], &[4200], &[130, 8]];
    for (at, lengths) in archived.iter().chain(&kept).enumerate() {
        for length in *lengths {
            rig.append(Class::Ordinary, *length).expect("there is room");
        }
        rig.settle();
        if at < archived.len() {
            rig.settle_and_archive();
        }
    }
    rig
}

fn to_text(disk: &Disk) -> String {
    let mut text = String::new();
    for (FileId(id), file) in &disk.files {
        let _ = writeln!(text, "{id} {}", file.bytes.len());
        for (at, piece) in file.bytes.chunks(64).enumerate() {
            let Some(last) = piece.iter().rposition(|byte| *byte != 0) else { continue };
            let _ = write!(text, "{id} {} ", at * 64);
            piece[..=last].iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
            text.push('\n');
        }
    }
    text
}

fn from_text(text: &str) -> Disk {
    let mut files: BTreeMap<FileId, Vec<u8>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).expect("a number");
        let (id, at) = (number(), number());
        let file = files.entry(FileId(id as u32)).or_default();
        let Some(hex) = words.next() else {
            file.resize(at, 0);
            continue;
        };
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("a text"), 16).expect("a byte");
        hex.as_bytes().chunks(2).enumerate().for_each(|(place, pair)| file[at + place] = byte(pair));
    }
    let mut disk = Disk::default();
    files.into_iter().for_each(|(id, bytes)| disk.write(id, 0, &bytes));
    disk
}

#[test]
fn files_of_version_1_can_be_read() {
    let (records, recovered, findings) = read(&settings(), from_text(VERSION_1).open());
    assert!(findings.is_empty(), "{findings:?}");
    assert!(recovered.live() >= 2, "{}", recovered.live());
    let made = made_now();
    let last = &made.history[made.history.len() - records.len()..];
    assert!(records.len() >= 6 && records.len() < made.history.len(), "{}", records.len());
    for ((mark, kind, body), entry) in records.iter().zip(last) {
        assert_eq!((mark.to_string(), *kind), (entry.mark.to_string(), Entry::kind(entry.id)));
        assert!(*body == Entry::body(entry.id, entry.length));
    }
}

#[test]
fn files_are_made_as_version_1_says() {
    let text = to_text(&made_now().disk);
    let now = concat!(env!("CARGO_TARGET_TMPDIR"), "/format_1.txt");
    std::fs::write(now, &text).expect("it can be written");
    assert!(
        text == VERSION_1,
        "the bytes have changed, see {now}: that needs another number of the version, and another file"
    );
}
