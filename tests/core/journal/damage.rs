//! Files that are not as they were written: bad bits, bad blocks, files that are missing, cut, copied or somebody else's.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use moormq::journal::{
    BLOCK, Class, FileId, Finding, Identity, Journal, MOST_UNREADABLE, ReadAt, Reader, Settings, StoreId, Sync, What,
};
use moormq::random::Random;
use proptest::prelude::*;

use super::disk::{Disk, File};
use super::rig::{Entry, Rig, read, small};

/// A journal whose segments have all been used several times; what is not archived is `history`, what is comes before it.
struct Old {
    settings: Settings,
    disk: Disk,
    archived: Vec<Entry>,
    history: Vec<Entry>,
}

fn old() -> Old {
    let mut rig = Rig::new(small(Sync::Dsync), 5);
    rig.settle();
    for round in 0..260 {
        for _ in 0..rig.random.below(6) + 1 {
            let length = rig.random.below(900);
            rig.append(Class::Ordinary, length).expect("there is room");
        }
        rig.settle();
        if round < 250 {
            rig.settle_and_archive();
        }
    }
    let first =
        rig.history.iter().position(|entry| entry.generation >= Some(rig.released_below)).expect("some are live");
    let history = rig.history.split_off(first);
    assert!(history.iter().map(|entry| entry.mark).collect::<BTreeSet<_>>().len() > 20);
    assert!(history.iter().map(|entry| entry.generation).collect::<BTreeSet<_>>().len() > 2);
    Old { settings: rig.settings, disk: rig.disk, archived: rig.history, history }
}

impl Old {
    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.id).collect()
    }

    /// The ids of what is read of a disk, and what is found.
    fn read(&self, disk: &Disk) -> (Vec<u64>, Vec<(Option<FileId>, What)>) {
        let (records, _, findings) = read(&self.settings, disk.open());
        let all = [&self.archived[..], &self.history[..]].concat();
        let id_of = |(mark, kind, body): &(_, u8, Vec<u8>)| {
            let id = u64::from_le_bytes(*body.first_chunk().expect("a record that was written"));
            let entry = all.iter().find(|entry| entry.id == id).expect("a record that was written");
            assert_eq!((entry.mark, Entry::kind(id)), (*mark, *kind));
            assert!(*body == Entry::body(id, entry.length));
            id
        };
        (
            records.iter().map(id_of).collect(),
            findings.into_iter().map(|finding| (finding.file, finding.what)).collect(),
        )
    }

    /// The header and the records of the frame that an entry is in: its file, where that begins, and where it ends.
    fn frame(&self, entry: &Entry) -> (FileId, u64, u64) {
        let (file, offset, _) = entry.frame.expect("it was written");
        let header = &self.disk.files[&file].bytes[offset as usize..];
        (file, offset, offset + 40 + u64::from(u32::from_le_bytes(*header[8..].first_chunk().expect("a length"))))
    }
}

#[test]
fn bad_bits_cost_the_frames_they_are_in_and_nothing_else() {
    let old = old();
    assert_eq!(old.read(&old.disk).0, Old::ids(&old.history));
    let last = old.history.last().expect("there are some").mark;
    let bits = old.disk.files.len() * old.settings.segment_bytes as usize * 8;
    let check = |flips: Vec<usize>| {
        let mut disk = old.disk.clone();
        let places: Vec<(FileId, u64)> = flips
            .iter()
            .map(|bit| {
                let (file, bit) =
                    (bit / 8 / old.settings.segment_bytes as usize, bit % (old.settings.segment_bytes as usize * 8));
                let (id, file) = disk.files.iter_mut().nth(file).expect("it is there");
                file.bytes[bit / 8] ^= 1 << (bit % 8);
                (*id, bit as u64 / 8)
            })
            .collect();
        let is_hit = |entry: &&Entry| {
            let (file, from, end) = old.frame(entry);
            places.iter().any(|(hit, at)| *hit == file && (from..end).contains(at))
        };
        let (lost, left): (Vec<&Entry>, Vec<&Entry>) = old.history.iter().partition(|entry| is_hit(entry));
        let (read, findings) = old.read(&disk);
        assert_eq!(read, left.iter().map(|entry| entry.id).collect::<Vec<_>>());
        // What is lost in the middle is named.
        let names = |place: &Entry, (of, what): &(Option<FileId>, What)| {
            let (file, from, end) = old.frame(place);
            matches!(what, What::Damaged { offset, bytes } if *of == Some(file) && *offset <= from && end <= offset + bytes)
        };
        let last_left = left.last().map(|entry| entry.mark);
        for entry in lost.iter().filter(|entry| Some(entry.mark) < last_left && entry.mark < last) {
            assert!(findings.iter().any(|finding| names(entry, finding)), "{entry:?} is lost: {findings:?}");
        }
    };
    // The same bit twice is no damage.
    let flips = prop::collection::btree_set(0..bits, 1..5).prop_map(|flips| flips.into_iter().collect::<Vec<_>>());
    proptest!(ProptestConfig::with_cases(250), |(flips in flips)| check(flips));
    // Where it hurts most: the first blocks of segments, and headers of frames.
    let frames: BTreeSet<(FileId, u64, u64)> = old.history.iter().map(|entry| old.frame(entry)).collect();
    for (file, from, _) in frames {
        let file = old.disk.files.keys().position(|id| *id == file).expect("it is there");
        let at = file * old.settings.segment_bytes as usize + from as usize;
        for byte in 0..40 {
            check(vec![(at + byte) * 8 + byte % 8]);
        }
    }
    for byte in 0..80 {
        check(vec![byte * 8, (BLOCK / 2 + byte) * 8]);
    }
}

#[test]
fn a_journal_goes_on_behind_damage() {
    let old = old();
    let (file, from, _) = old.frame(&old.history[old.history.len() / 2]);
    let (last_file, last_from, _) = old.frame(old.history.last().expect("there are some"));
    let mut rig = Rig::new(old.settings, 1);
    rig.disk = old.disk.clone();
    for (file, at) in [(file, from), (last_file, last_from)] {
        rig.disk.files.get_mut(&file).expect("it is there").bytes[at as usize + 50] ^= 4;
    }
    let (before, _) = old.read(&rig.disk);
    let (_, recovered, findings) = read(&old.settings, rig.disk.open());
    assert!(matches!(findings[0].what, What::Damaged { .. }) && matches!(findings[1].what, What::TornTail { .. }));
    // All segments are live, and nothing is archived.
    let more = Settings { segments: old.settings.segments + 2, ..old.settings };
    rig.journal = Journal::new(more.check().expect("they hold"), recovered, 0);
    rig.settle();
    for id in 0..10_u64 {
        let length = 500 + id as usize;
        rig.journal.append(Class::Relief, 255, &[&id.to_le_bytes(), &vec![7; length]]).expect("there is room");
        while let Some(moormq::journal::Effect::Write(write)) = rig.journal.next_effect(rig.now) {
            rig.disk.write(write.file, write.offset, write.data());
            rig.journal.written(write.buffer, Ok(write.bytes));
            rig.now += old.settings.commit_interval;
        }
    }
    let (records, _, findings) = read(&old.settings, rig.disk.open());
    let (first, second) = records.split_at(before.len());
    assert!(first.iter().all(|(_, kind, _)| *kind != 255));
    assert_eq!(second.iter().map(|(.., body)| body[0]).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    // The last frame was written over, and is no longer missed.
    assert!(findings.iter().all(|finding| matches!(finding.what, What::Damaged { .. })), "{findings:?}");
    assert_eq!(findings.len(), 1);
}

/// What a start cannot read is lost, and stays so if it can be read later: the journal has gone on without it.
#[test]
fn what_was_given_up_does_not_come_back() {
    let old = old();
    let (file, from, _) = old.frame(&old.history[old.history.len() - 8]);
    let is_given_up = |entry: &Entry| old.frame(entry).0 == file && old.frame(entry).1 >= from;
    assert!(
        old.history.iter().filter(|entry| is_given_up(entry)).count() >= 3
            && is_given_up(old.history.last().expect("one"))
    );
    let mut rig = Rig::new(old.settings, 1);
    rig.disk = old.disk.clone();
    let unreadable = &mut rig.disk.files.get_mut(&file).expect("it is there").unreadable;
    unreadable.extend(from / BLOCK as u64..10);
    let (before, _) = old.read(&rig.disk);
    let (_, recovered, findings) = read(&old.settings, rig.disk.open());
    assert!(matches!(findings[..], [Finding { what: What::Unreadable { .. }, .. }]), "{findings:?}");
    rig.journal = Journal::new(old.settings.check().expect("they hold"), recovered, 0);
    rig.settle_and_archive();
    let mark = rig.append(Class::Relief, 100).expect("there is room");
    rig.settle();
    rig.disk.files.values_mut().for_each(|file| file.unreadable.clear());
    let (records, _, findings) = read(&old.settings, rig.disk.open());
    assert!(findings.is_empty(), "{findings:?}");
    let (last, others) = records.split_last().expect("there are some");
    assert_eq!(last.0, mark);
    let ids: Vec<u64> =
        others.iter().map(|(.., body)| u64::from_le_bytes(*body.first_chunk().expect("a record"))).collect();
    assert!(before.ends_with(&ids) && ids.len() > 5, "{ids:?} of {before:?}");
}

/// A frame that was bad at one start, and is good at the next, has others before it by then that were written later.
#[test]
fn a_bad_bit_that_is_good_again_brings_nothing_back() {
    let old = old();
    let mut frames: Vec<(FileId, u64, u64)> = old.history.iter().map(|entry| old.frame(entry)).collect();
    frames.dedup();
    let [.., (file, from, _), (same, last, _)] = frames[..] else { panic!("there are some") };
    assert_eq!(file, same);
    let mut rig = Rig::new(old.settings, 1);
    rig.disk = old.disk.clone();
    let flip =
        |rig: &mut Rig, at: u64| rig.disk.files.get_mut(&file).expect("it is there").bytes[at as usize + 20] ^= 1;
    flip(&mut rig, from);
    flip(&mut rig, last);
    let (before, _) = old.read(&rig.disk);
    let (_, recovered, findings) = read(&old.settings, rig.disk.open());
    assert!(findings.is_empty(), "a tail without a header is none: {findings:?}");
    rig.journal = Journal::new(old.settings.check().expect("they hold"), recovered, 0);
    rig.settle();
    let mark = rig.append(Class::Relief, 9).expect("there is room");
    rig.settle();
    assert!(rig.history[0].frame.is_some_and(|(other, ..)| other != file), "in a segment of its own");
    flip(&mut rig, last);
    let (records, _, findings) = read(&old.settings, rig.disk.open());
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((records.len(), records.last().map(|last| last.0)), (before.len() + 1, Some(mark)));
}

/// Does something to the files.
fn mutate(disk: &mut Disk, random: &mut Random) {
    let ids: Vec<FileId> = disk.files.keys().copied().collect();
    let Some(&id) = ids.get(random.below(ids.len())) else { return };
    let other = ids[random.below(ids.len())];
    let spare = disk.files[&other].clone();
    let file = disk.files.get_mut(&id).expect("it is there");
    let length = file.bytes.len();
    let blocks = length / BLOCK;
    let block = random.below(blocks + 1) * BLOCK;
    let some = (random.below(3) + 1) * BLOCK;
    match random.below(10) {
        0 => file.bytes.iter_mut().skip(block).take(some).for_each(|byte| *byte = 0),
        1 => file.bytes.iter_mut().skip(block).take(some).for_each(|byte| *byte = random.u64() as u8),
        2 | 3 => {
            let to = random.below(blocks + 1) * BLOCK;
            let (from, place) = (spare.bytes.iter().skip(block), file.bytes.iter_mut().skip(to));
            place.zip(from).take(some).for_each(|(place, byte)| *place = *byte);
        }
        4 => file.bytes.truncate(random.below(length + 1)),
        5 => *file = spare,
        6 => drop(disk.files.remove(&id)),
        7 => drop(disk.files.insert(FileId(ids.len() as u32 + 70), spare)),
        8 => file.unreadable.extend([random.below(blocks + 1) as u64]),
        _ => {
            for _ in 0..20 {
                let at = random.below(length.max(1));
                file.bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8));
            }
        }
    }
}

#[test]
fn whatever_is_done_to_the_files_nothing_is_read_that_was_not_written() {
    let old = old();
    let mut random = Random::from_seed(11);
    let mut counts = [0; 2];
    for _ in 0..800 {
        let mut disk = old.disk.clone();
        for _ in 0..random.below(5) + 1 {
            mutate(&mut disk, &mut random);
        }
        let (read, findings) = old.read(&disk);
        assert!(read.is_sorted_by(|a, b| a < b), "in order, and none twice");
        findings.iter().for_each(|(_, what)| assert!(!format!("{what:?}").is_empty()));
        counts[0] += read.len();
        counts[1] += usize::from(!findings.is_empty());
    }
    assert!(counts[0] > 800 * old.history.len() / 5 && counts[1] > 500, "{counts:?} of {}", old.history.len());
}

#[test]
fn a_frame_in_the_wrong_place_is_none() {
    let old = old();
    let (file, from, _) = old.frame(old.history.last().expect("there are some"));
    let mut disk = old.disk.clone();
    let bytes = &mut disk.files.get_mut(&file).expect("it is there").bytes;
    bytes.copy_within(from as usize..from as usize + BLOCK, BLOCK);
    let (read, findings) = old.read(&disk);
    let is_hit = |entry: &&Entry| old.frame(entry).0 == file && old.frame(entry).1 == BLOCK as u64;
    assert_eq!(read.len(), old.history.len() - old.history.iter().filter(is_hit).count());
    assert!(matches!(findings[..], [(Some(_), What::Damaged { offset: 4096, .. })]), "{findings:?}");
}

#[test]
fn files_of_others_are_told_and_left_alone() {
    let old = old();
    let as_other = |identity: Identity| {
        let (records, recovered, findings) = read(&Settings { identity, ..old.settings }, old.disk.open());
        assert!(records.is_empty() && recovered.live() == 0 && recovered.files_to_sync().count() == 0);
        assert_eq!(findings.len(), old.disk.files.len());
        // The journal that goes on from there takes files of its own.
        let settings = Settings { identity, ..old.settings }.check().expect("they hold");
        let mut journal = Journal::new(settings, recovered, 0);
        let Some(moormq::journal::Effect::Prepare(preparation)) = journal.next_effect(Default::default()) else {
            panic!("there is something to prepare")
        };
        assert!(preparation.fill && !old.disk.files.contains_key(&preparation.file));
        findings
    };
    let store = StoreId([1; 16]);
    let findings = as_other(Identity { store, ..old.settings.identity });
    assert!(
        findings.iter().all(|finding| matches!(finding.what, What::OtherStore { store } if store == StoreId([9; 16])))
    );
    let findings = as_other(Identity { shard: 3, ..old.settings.identity });
    assert!(findings.iter().all(|finding| matches!(finding.what, What::OtherShard { shard: 2 }) && !finding.is_loss()));
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let old = old();
    let by_generation = |at: usize| {
        let mut generations: Vec<_> =
            old.history.iter().map(|entry| (entry.generation, entry.frame.map(|frame| frame.0))).collect();
        generations.dedup();
        let (generation, file) = generations[at];
        (generation.expect("it was written"), file.expect("it was written"))
    };
    let found = |change: &dyn Fn(&mut Disk)| {
        let mut disk = old.disk.clone();
        change(&mut disk);
        let (read, findings) = old.read(&disk);
        (read.len(), findings)
    };
    let file =
        |disk: &mut Disk, id: FileId, change: &dyn Fn(&mut File)| change(disk.files.get_mut(&id).expect("it is there"));
    let all = old.history.len();
    let of_generation =
        |generation: u64| old.history.iter().filter(|entry| entry.generation == Some(generation)).count();

    let (generation, id) = by_generation(1);
    let (read, findings) = found(&|disk| drop(disk.files.remove(&id)));
    assert_eq!(read, all - of_generation(generation));
    assert!(
        matches!(findings[0].1, What::MissingSegment { generation: missing } if missing == generation),
        "{findings:?}"
    );
    assert!(matches!(findings[1].1, What::MissingFrames { .. }) && findings.len() == 2, "{findings:?}");

    let (read, findings) = found(&|disk| {
        let copy = disk.files[&id].clone();
        disk.files.insert(FileId(99), copy);
    });
    assert!(read == all && matches!(findings[..], [(Some(FileId(99)), What::SameGeneration { .. })]), "{findings:?}");

    let (read, findings) = found(&|disk| file(disk, id, &|file| file.bytes[..BLOCK].fill(0)));
    assert!(
        read == all && matches!(findings[..], [(Some(_), What::HeaderLost { generation: of })] if of == generation)
    );

    let (read, findings) = found(&|disk| file(disk, id, &|file| file.bytes.fill(3)));
    assert!(read < all && matches!(findings[0], (Some(of), What::NoSegment) if of == id), "{findings:?}");

    let (read, findings) = found(&|disk| file(disk, id, &|file| file.bytes.truncate(5 * BLOCK)));
    assert!(read < all && matches!(findings[0].1, What::TooShort { bytes: 20_480, of: 40_960 }), "{findings:?}");

    let (read, findings) = found(&|disk| file(disk, id, &|file| file.unreadable.extend([2])));
    assert!(read < all && read > all - of_generation(generation), "{read}");
    assert!(matches!(findings[0].1, What::Unreadable { offset: 8192, .. }), "{findings:?}");
    assert!(findings.iter().any(|(_, what)| matches!(what, What::Damaged { .. })), "{findings:?}");

    let (read, findings) = found(&|disk| drop(disk.files.insert(FileId(50), File::default())));
    assert!(read == all && findings.is_empty(), "one that was just made");
}

/// A file of which nothing can be read; counts how often that is tried.
struct Broken<'a>(&'a Cell<u32>, u64);

impl ReadAt for Broken<'_> {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.1)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        self.0.set(self.0.get() + 1);
        Err(io::Error::other("no"))
    }
}

#[test]
fn a_file_of_bad_blocks_is_given_up() {
    let tries = Cell::new(0);
    let settings = small(Sync::Dsync);
    let mut reader = Reader::new(settings.identity, vec![(FileId(4), Broken(&tries, 1 << 40))]);
    assert!(reader.next().is_none());
    let (recovered, findings) = reader.finish();
    assert!(tries.get() <= 2 * MOST_UNREADABLE + 2, "{} reads", tries.get());
    assert!(matches!(findings[0].what, What::Unreadable { offset: 0, .. }), "{findings:?}");
    assert!(matches!(findings.last().map(|last| &last.what), Some(What::NoSegment)));
    assert_eq!(recovered.live(), 0);
}
