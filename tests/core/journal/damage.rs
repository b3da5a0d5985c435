//! Files that are not as they were written: bad bits, bad blocks, files that are missing, cut, copied or somebody else's.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use moormq::journal::{
    BLOCK, Class, FileId, Finding, Identity, MOST_UNREADABLE, ReadAt, Reader, Settings, StoreId, Sync, What,
};
use moormq::random::Random;
use proptest::prelude::*;

use super::rig::{Entry, Records, Rig, opened, read, small};
use crate::store::disk::{Disk, File};

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
    /// What is archived, and what is not.
    fn all(&self) -> Vec<Entry> {
        [&self.archived[..], &self.history[..]].concat()
    }

    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.id).collect()
    }

    /// The ids of what is read of a disk, and what is found.
    fn read(&self, disk: &Disk) -> (Vec<u64>, Vec<(Option<FileId>, What)>) {
        let (records, _, findings) = read(&self.settings, disk.open());
        let all = self.all();
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
        // So is the last frame, if that can be recognized: as a torn one.
        let of_last: Vec<&&Entry> = lost.iter().filter(|entry| Some(entry.mark) > last_left).collect();
        if let Some(entry) = of_last.first().filter(|_| of_last.iter().all(|entry| entry.mark == last)) {
            let (file, from, _) = old.frame(entry);
            let is_torn = |(of, what): &(Option<FileId>, What)| {
                *of == Some(file) && matches!(what, What::TornTail { offset, .. } if *offset == from)
            };
            let names_it = |at: u64| (from..from + 4).contains(&at) || (from + 32..from + 40).contains(&at);
            let is_recognized = !places.iter().any(|(hit, at)| *hit == file && names_it(*at));
            assert_eq!(findings.iter().any(is_torn), is_recognized, "{findings:?}");
        }
        // No loss is told that is none.
        for (of, what) in &findings {
            let of = of.expect("each is in a file");
            let is_lost = |from: u64, end: u64| {
                let overlaps = |entry: &&Entry| {
                    let (file, first, last) = old.frame(entry);
                    file == of && first < end && from < last
                };
                lost.iter().any(overlaps)
            };
            let is_right = match what {
                What::Damaged { offset, bytes } => is_lost(*offset, offset + bytes),
                What::TornTail { offset, .. } => is_lost(*offset, offset + 1),
                What::HeaderLost { .. } => places.iter().filter(|(hit, at)| *hit == of && *at < 4096).count() > 1,
                _ => false,
            };
            assert!(is_right, "{of:?} {what:?}: {places:?}");
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

/// The ids of records.
fn ids(records: &Records) -> Vec<u64> {
    records.iter().map(|(.., body)| u64::from_le_bytes(*body.first_chunk().expect("a record"))).collect()
}

#[test]
fn a_journal_goes_on_behind_damage() {
    let old = old();
    let mut disk = old.disk.clone();
    let middle = old.frame(&old.history[old.history.len() / 2]);
    let last = old.frame(old.history.last().expect("there are some"));
    for (file, at, _) in [middle, last] {
        disk.files.get_mut(&file).expect("it is there").bytes[at as usize + 50] ^= 4;
    }
    let (mut rig, before, findings) = Rig::over(old.settings, disk, &old.all());
    assert!(matches!(findings[0].what, What::Damaged { .. }) && matches!(findings[1].what, What::TornTail { .. }));
    // All segments are live, and nothing is archived: there is one more, for relief.
    for length in 500..508 {
        rig.settle();
        rig.append(Class::Relief, length).expect("there is room");
    }
    rig.settle();
    let (records, _, findings) = read(&old.settings, rig.disk.open());
    assert_eq!(ids(&records), rig.history.iter().map(|entry| entry.id).collect::<Vec<_>>());
    assert_eq!(records.len(), before.len() + 8);
    // The last frame was torn, for all that is known, and is no longer missed.
    assert!(matches!(findings[..], [Finding { what: What::Damaged { .. }, .. }]), "{findings:?}");
}

/// What a start cannot read is lost, and stays so if it can be read later: the journal has gone on without it.
#[test]
fn what_was_given_up_does_not_come_back_and_is_told_and_kept() {
    let old = old();
    let (file, from, _) = old.frame(&old.history[old.history.len() - 8]);
    let is_given_up = |entry: &&Entry| old.frame(entry).0 == file && old.frame(entry).1 >= from;
    let given_up: Vec<&Entry> = old.history.iter().filter(is_given_up).collect();
    assert!(given_up.len() >= 3 && old.history.last().is_some_and(|last| is_given_up(&last)));
    let end = given_up.last().and_then(|entry| entry.frame).map_or(0, |(_, at, bytes)| at + bytes as u64);
    let mut disk = old.disk.clone();
    disk.files.get_mut(&file).expect("it is there").unreadable.extend(from / BLOCK as u64..10);
    let (mut rig, before, findings) = Rig::over(old.settings, disk, &old.all());
    assert!(matches!(findings[..], [Finding { what: What::Unreadable { .. }, .. }]), "{findings:?}");
    rig.settle();
    let mark = rig.append(Class::Relief, 100).expect("there is room");
    rig.settle();
    rig.mend_blocks();
    // At each further start.
    for _ in 0..3 {
        let (records, _, findings) = read(&old.settings, rig.disk.open());
        let (last, others) = records.split_last().expect("there are some");
        assert!(last.0 == mark && *others == before);
        let [Finding { file: Some(of), what: What::GivenUp { offset, bytes } }] = findings[..] else {
            panic!("{findings:?}")
        };
        assert_eq!((of, offset, offset + bytes), (file, from, end));
        assert!(findings[0].is_loss());
        let history = rig.history.clone();
        rig.start_over(&history);
    }
    // It is archived in the end, and what is in the file is kept.
    rig.settle_and_archive();
    for _ in 0..200 {
        rig.append(Class::Ordinary, 3000).expect("there is room");
        rig.settle_and_archive();
    }
    let [(of, kept)] = &rig.aside[..] else { panic!("one is set aside") };
    assert!(*of == file && kept.bytes == old.disk.files[&file].bytes, "as it was");
}

/// The broker ends between the header by which a damaged segment is archived, and the setting aside of its file.
#[test]
fn a_damaged_file_is_kept_though_the_broker_ends_before_it_is_set_aside() {
    let old = old();
    let first = old.history.first().expect("there are some");
    let of_first = |entry: &&Entry| entry.generation == first.generation;
    let inside = old.frame(old.history.iter().filter(of_first).nth(2).expect("it is one of several"));
    let at_its_end = old.frame(old.history.iter().rfind(of_first).expect("it is one of several"));
    for (is_inside, (file, from, _)) in [(true, inside), (false, at_its_end)] {
        for at in [from + 20, from + 60] {
            let mut disk = old.disk.clone();
            disk.files.get_mut(&file).expect("it is there").bytes[at as usize] ^= 4;
            let (mut rig, _, findings) = Rig::over(old.settings, disk, &old.all());
            assert!(matches!(findings[..], [Finding { what: What::Damaged { .. }, .. }]), "{is_inside} {findings:?}");
            rig.settle();
            assert!(rig.archive());
            let bytes = rig.disk.files[&file].bytes.clone();
            // A header says that it is archived, and the broker ends.
            rig.take_effects();
            if rig.preparing.is_some() {
                rig.end_preparation();
            }
            let history = rig.history.clone();
            let findings = rig.start_over(&history);
            assert!(findings.is_empty(), "what is archived is not told again: {findings:?}");
            rig.settle_and_archive();
            for _ in 0..40 {
                rig.append(Class::Ordinary, 3000).expect("there is room");
                rig.settle_and_archive();
            }
            let [(of, kept)] = &rig.aside[..] else { panic!("one is set aside: {}", rig.aside.len()) };
            assert!(*of == file && kept.bytes == bytes, "as it was");
        }
    }
}

/// No frame is begun before the one before it is on the device: so all that is torn but the last is lost.
#[test]
fn a_lost_frame_before_a_torn_one_is_told() {
    let old = old();
    let mut frames: Vec<(FileId, u64, u64)> = old.history.iter().map(|entry| old.frame(entry)).collect();
    frames.dedup();
    let [.., (third, from, _), (file, lost, end), (same, torn, _)] = frames[..] else { panic!("there are some") };
    assert!(third == file && file == same);
    // In its header or in its records; and then two of them.
    for flips in [vec![lost + 20], vec![lost + 41], vec![lost + 41, from + 41], vec![lost + 20, from + 20]] {
        let mut disk = old.disk.clone();
        let bytes = &mut disk.files.get_mut(&file).expect("it is there").bytes;
        flips.iter().chain(&[torn + 41]).for_each(|at| bytes[*at as usize] ^= 1);
        let (_, findings) = old.read(&disk);
        let [(Some(of), What::Damaged { offset, bytes }), (Some(last), What::TornTail { offset: tail, .. })] =
            findings[..]
        else {
            panic!("{findings:?}")
        };
        let first = if flips.len() == 2 { from } else { lost };
        assert_eq!((of, offset, last, tail), (file, first, file, torn));
        assert!(end <= offset + bytes && offset + bytes <= torn);
        // It is told, and kept, at the next start, too.
        let (mut rig, before, _) = Rig::over(old.settings, disk, &old.all());
        rig.settle();
        rig.append(Class::Relief, 9).expect("there is room");
        rig.settle();
        let (records, _, findings) = read(&old.settings, rig.disk.open());
        assert_eq!(records.len(), before.len() + 1);
        assert!(
            matches!(findings[..], [Finding { file: Some(of), what: What::GivenUp { .. } }] if of == file),
            "{findings:?}"
        );
    }
    // Alone it is what the end of a process leaves, and no loss.
    let mut disk = old.disk.clone();
    disk.files.get_mut(&file).expect("it is there").bytes[torn as usize + 41] ^= 1;
    let (mut rig, _, findings) = Rig::over(old.settings, disk, &old.all());
    assert!(matches!(findings[..], [Finding { what: What::TornTail { .. }, .. }]), "{findings:?}");
    rig.settle();
    rig.append(Class::Relief, 9).expect("there is room");
    rig.settle();
    assert!(read(&old.settings, rig.disk.open()).2.is_empty());
}

/// A lost frame at the end of a segment, and a torn one in the next.
#[test]
fn a_lost_frame_at_the_end_of_a_segment_is_told_if_the_next_one_is_torn() {
    let old = old();
    let mut frames: Vec<(Option<u64>, (FileId, u64, u64))> =
        old.history.iter().map(|entry| (entry.generation, old.frame(entry))).collect();
    frames.dedup();
    let at = frames.iter().position(|(generation, _)| *generation == frames.last().expect("one").0).expect("one");
    let ((_, lost), (_, torn)) = (frames[at - 1], frames[at]);
    for byte in [20, 41] {
        let mut disk = old.disk.clone();
        disk.files.get_mut(&lost.0).expect("it is there").bytes[lost.1 as usize + byte] ^= 1;
        // Of the last segment the first frame is torn, and there is no other one.
        let bytes = &mut disk.files.get_mut(&torn.0).expect("it is there").bytes;
        bytes[torn.1 as usize + 41] ^= 1;
        let end = (torn.2 as usize).next_multiple_of(BLOCK);
        bytes[end..].fill(0);
        let (_, findings) = old.read(&disk);
        let [(Some(of), What::Damaged { offset, .. }), (Some(last), What::TornTail { offset: tail, .. })] =
            findings[..]
        else {
            panic!("{findings:?}")
        };
        assert_eq!((of, offset, last, tail), (lost.0, lost.1, torn.0, torn.1));
    }
}

/// A frame that was bad at one start, and is good at the next, has others before it by then that were written later.
#[test]
fn a_bad_bit_that_is_good_again_brings_nothing_back() {
    let old = old();
    let mut frames: Vec<(FileId, u64, u64)> = old.history.iter().map(|entry| old.frame(entry)).collect();
    frames.dedup();
    let [.., (file, from, _), (same, last, _)] = frames[..] else { panic!("there are some") };
    assert_eq!(file, same);
    let mut disk = old.disk.clone();
    let flip = |disk: &mut Disk, at: u64| disk.files.get_mut(&file).expect("it is there").bytes[at as usize + 20] ^= 1;
    flip(&mut disk, from);
    flip(&mut disk, last);
    let (mut rig, before, findings) = Rig::over(old.settings, disk, &old.all());
    assert!(
        matches!(findings[..], [Finding { what: What::TornTail { offset, .. }, .. }] if offset == from),
        "one has begun where the next was to be: {findings:?}"
    );
    rig.settle();
    let mark = rig.append(Class::Relief, 9).expect("there is room");
    rig.settle();
    let appended = rig.history.last().and_then(|entry| entry.frame);
    assert!(appended.is_some_and(|(other, ..)| other != file), "in a segment of its own");
    flip(&mut rig.disk, last);
    let (records, _, findings) = read(&old.settings, rig.disk.open());
    assert!(matches!(findings[..], [Finding { what: What::GivenUp { .. }, .. }]), "{findings:?}");
    assert_eq!((records.len(), records.last().map(|last| last.0)), (before.len() + 1, Some(mark)));
}

fn is_loss(what: &What) -> bool {
    !matches!(
        what,
        What::TornTail { .. } | What::HeaderLost { .. } | What::TooLong { .. } | What::SameGeneration { .. }
    )
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
        // What is missing before something that is read is told; if no header has gone that says what there was.
        let is_missing = |entry: &&Entry| read.last().is_some_and(|last| entry.id < *last) && !read.contains(&entry.id);
        let has_header_lost = findings.iter().any(|(_, what)| matches!(what, What::HeaderLost { .. }));
        let is_loss = findings.iter().any(|(_, what)| is_loss(what));
        let missing = old.history.iter().find(is_missing);
        assert!(missing.is_none() || is_loss || has_header_lost, "{missing:?} is missing: {findings:?}");
        // And nothing is told if nothing is missing, but what is wrong with files.
        let is_damage = |(_, what): &(Option<FileId>, What)| {
            matches!(what, What::Damaged { .. } | What::MissingFrames { .. } | What::GivenUp { .. })
        };
        let is_all_there = old.history.iter().all(|entry| read.contains(&entry.id));
        assert!(!is_all_there || read.len() > old.history.len() || !findings.iter().any(is_damage), "{findings:?}");
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
        let mut journal = opened(Settings { identity, ..old.settings }, recovered);
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
