//! The files of journals, in memory: written by a journal, damaged, and read.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crc32c::{crc32c, crc32c_append};
use moormq::journal::{Answer, BLOCK, Effect, FileId, Identity, Journal, ReadAt, Reader};

use crate::choices::Choices;

/// The files of a journal.
#[derive(Clone, Default)]
pub struct Files(pub BTreeMap<FileId, Vec<u8>>);

/// What is read of a file.
pub struct Bytes<'a>(&'a [u8]);

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

impl Files {
    /// What reads them, as the journal of `identity`.
    pub fn reader(&self, identity: Identity) -> Reader<Bytes<'_>> {
        Reader::new(identity, self.0.iter().map(|(id, bytes)| (*id, Bytes(bytes))).collect())
    }

    /// Carries out an effect; what the journal is answered, if it is.
    pub fn carry_out(&mut self, effect: Effect) -> Option<Answer> {
        match effect {
            Effect::Write(write) => {
                let file = self.0.get_mut(&write.file).expect("it was prepared");
                file[write.offset as usize..][..write.bytes].copy_from_slice(write.data());
                Some(Answer::Written { buffer: write.buffer, result: Ok(write.bytes) })
            }
            Effect::Prepare(preparation) => {
                let file = self.0.entry(preparation.file).or_default();
                if preparation.fill {
                    *file = vec![0; preparation.bytes as usize];
                }
                file[..BLOCK].copy_from_slice(&preparation.header);
                Some(Answer::Prepared { file: preparation.file, result: Ok(()) })
            }
            Effect::Remove { file } | Effect::SetAside { file } => {
                self.0.remove(&file);
                None
            }
        }
    }

    /// Does all that a journal wants done. It commits without a sync.
    pub fn work(&mut self, journal: &mut Journal, now: &mut Duration) {
        while let Some(effect) = journal.next_effect(*now) {
            if let Some(answer) = self.carry_out(effect) {
                journal.answer(answer, *now);
            }
            *now += Duration::from_millis(1);
        }
    }

    /// Does something to the files that a disk, or who copies them, may do.
    pub fn damage(&mut self, choices: &mut Choices<'_>) {
        let (kind, ids) = (choices.byte(), self.0.keys().copied().collect::<Vec<FileId>>());
        if ids.is_empty() {
            return;
        }
        let (file, other) = (choices.one(&ids), choices.one(&ids));
        match kind % 8 {
            0 => self.with(file, |bytes| bytes.truncate(choices.word())),
            1 => {
                let (one, two) = (self.0.remove(&file), self.0.remove(&other));
                self.0.extend(one.map(|bytes| (other, bytes)));
                self.0.extend(two.map(|bytes| (file, bytes)));
            }
            2 => {
                let copy = self.0[&file].clone();
                self.0.insert(FileId(choices.byte().into()), copy);
            }
            3 => drop(self.0.remove(&file)),
            4 => {
                let (from, to) = (choices.below(16) * BLOCK, choices.below(16) * BLOCK);
                let block = self.0[&other].get(from..from + BLOCK).map(<[u8]>::to_vec);
                self.with(file, |bytes| {
                    if let Some((place, block)) = bytes.get_mut(to..to + BLOCK).zip(block) {
                        place.copy_from_slice(&block);
                    }
                });
            }
            _ => self.with(file, |bytes| choices.damage(bytes)),
        }
    }

    fn with(&mut self, file: FileId, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.0.entry(file).or_default());
    }

    /// Makes all checksums right that are where one is in a journal of this identity: whatever the files say then, somebody has meant it.
    pub fn forge_checksums(&mut self, identity: Identity) {
        for bytes in self.0.values_mut() {
            for header in [0, BLOCK / 2] {
                forge_header(bytes, header);
            }
            for frame in (BLOCK..bytes.len()).step_by(BLOCK) {
                forge_frame(&mut bytes[frame..], frame as u64, identity);
            }
        }
    }
}

/// Those of the header of a segment: see the tables of `moormq::journal`.
fn forge_header(bytes: &mut [u8], at: usize) {
    if let Some(header) = bytes.get_mut(at..at + 96).filter(|header| header.starts_with(b"moormq-J")) {
        let checksum = crc32c(&header[12..]);
        header[8..12].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Those of a frame at the front of `bytes`, which is at `offset` of its file.
fn forge_frame(bytes: &mut [u8], offset: u64, identity: Identity) {
    if bytes.len() < 40 || !bytes.starts_with(b"mqJf") {
        return;
    }
    let (header, records) = bytes.split_at_mut(40);
    let place = [&identity.store.0[..], &identity.shard.to_le_bytes(), &header[32..40], &offset.to_le_bytes()].concat();
    let seed = crc32c(&place);
    let length = header[8..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    if let Some(records) = records.get(..length) {
        header[12..16].copy_from_slice(&crc32c_append(seed, records).to_le_bytes());
    }
    let checksum = crc32c_append(seed, &header[8..]);
    header[4..8].copy_from_slice(&checksum.to_le_bytes());
}
