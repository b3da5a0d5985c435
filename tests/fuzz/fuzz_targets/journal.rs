//! Files of a journal with pieces of them written over, cut off, copied or swapped: reading ends, what is read was written, in order, and a journal goes
//! on from there. With checksums that are right nevertheless, what is read is anything, and all else is the same.
//!
//! `tests/fuzz/run journal`

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moormq::journal::{Class, Journal, Recovered, Settings, StoreId};
use moormq_fuzz::choices::Choices;
use moormq_fuzz::files::Files;

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
    let length = 8 + (number % 300) as usize * 37 % 300;
    number.to_le_bytes().into_iter().chain((8..length).map(|at| (at as u64 ^ number) as u8)).collect()
}

/// Appends records from `first` on, with a commit for every three. The last that was taken.
fn append(journal: &mut Journal, files: &mut Files, first: u64, count: u64) -> Option<u64> {
    let (mut now, mut last) = (Duration::ZERO, None);
    for number in first..first + count {
        let taken = journal.append(Class::Relief, number as u8, &[&body(number)]).is_ok();
        last = taken.then_some(number).or(last);
        if number % 3 == 0 {
            files.work(journal, &mut now);
        }
        // A segment has room for three of those.
        if number % 9 == 0
            && let Some(oldest) = journal.oldest()
        {
            journal.release(oldest);
            files.work(journal, &mut now);
        }
    }
    files.work(journal, &mut now);
    last
}

/// Reads everything: the numbers of the records that were written, and what a journal goes on from.
fn read(files: &Files, is_forged: bool) -> (Vec<u64>, Recovered) {
    let mut reader = files.reader(settings().identity);
    let (mut numbers, mut last) = (Vec::new(), None);
    while let Some(record) = reader.next() {
        assert!(last <= Some(record.mark), "in order");
        last = Some(record.mark);
        let number = record.body.first_chunk().map(|number| u64::from_le_bytes(*number));
        let number =
            number.filter(|number| *number < 2000 && record.kind == *number as u8 && record.body == body(*number));
        assert!(is_forged || number.is_some(), "it was written");
        numbers.extend(number);
    }
    assert!(is_forged || numbers.is_sorted_by(|a, b| a < b), "in order, and none twice");
    let (recovered, findings) = reader.finish();
    findings.iter().for_each(|finding| drop(finding.to_string()));
    (numbers, recovered)
}

/// Files that were used several times.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut files = Files::default();
    let settings = settings().check().expect("they hold");
    let mut journal = Journal::new(settings, Recovered::nothing(), 1).expect("there was none before");
    let mut now = Duration::ZERO;
    files.work(&mut journal, &mut now);
    append(&mut journal, &mut files, 1, 60);
    let (numbers, _) = read(&files, false);
    assert!(numbers.len() > 5);
    files
});

// A byte says whether checksums are made right; then come pieces of damage.
fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    let is_forged = choices.flag();
    let mut files = FILES.clone();
    while !choices.0.is_empty() {
        files.damage(&mut choices);
    }
    if is_forged {
        files.forge_checksums(settings().identity);
    }
    let (numbers, recovered) = read(&files, is_forged);
    let journal = Journal::new(settings().check().expect("they hold"), recovered, 2);
    assert!(is_forged || journal.is_ok(), "there are numbers");
    let Ok(mut journal) = journal else { return };
    let last = append(&mut journal, &mut files, 1000, 20);
    let (again, _) = read(&files, is_forged);
    let old: Vec<u64> = again.iter().copied().filter(|number| *number < 1000).collect();
    assert!(numbers.ends_with(&old), "what is read again was read before");
    assert!(last.is_none() || again.last().copied() == last, "what is appended then is there");
});
