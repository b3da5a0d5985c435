//! What the journal costs: instructions per record of 182 bytes, appended and committed, and read again.
//!
//! `cargo bench --bench journal`. Needs valgrind, which counts: so it does not matter what else the machine does. `... -- run BATCH COMMITS READS` does
//! the same once, for a profiler; nothing is written to a disk. Of a large copy valgrind counts every byte: that is most of what reading seems to cost.

use std::hint::black_box;
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

use moormq::journal::{Class, Effect, FileId, Journal, Preparation, ReadAt, Reader, Recovered, Settings, StoreId};

const KIND: u8 = 4;
/// A record: who it is for, and the message.
const PARTS: [&[u8]; 2] = [&[1; 30], &[2; 152]];
/// How many commits are counted.
const COMMITS: u64 = 200;

/// Segments of which nothing is kept, or the first one alone.
struct Rig {
    journal: Journal,
    settings: Settings,
    now: Duration,
    file: Option<Vec<u8>>,
}

impl Rig {
    fn new(keeps: bool) -> Self {
        let settings = Settings::new(StoreId([7; 16]), 0);
        let journal = Journal::new(settings.check().expect("the defaults hold"), Recovered::nothing(), 0)
            .expect("there was none before");
        let file = keeps.then(|| vec![0; settings.segment_bytes as usize]);
        let mut rig = Rig { journal, settings, now: Duration::ZERO, file };
        rig.turn(0);
        rig
    }

    /// A turn in which so many records are appended, and committed.
    fn turn(&mut self, records: u64) {
        for _ in 0..records {
            black_box(self.journal.append(Class::Ordinary, KIND, black_box(&PARTS)).expect("there is room"));
        }
        self.now += self.settings.commit_interval;
        while let Some(effect) = self.journal.next_effect(self.now) {
            match effect {
                Effect::Write(write) => {
                    if let Some(file) = self.file.as_mut().filter(|_| write.file == FileId(0)) {
                        file[write.offset as usize..][..write.bytes].copy_from_slice(write.data());
                    }
                    self.journal.written(write.buffer, Ok(write.bytes));
                }
                Effect::Prepare(Preparation { file, header, .. }) => {
                    if let Some(bytes) = self.file.as_mut().filter(|_| file == FileId(0)) {
                        bytes[..header.len()].copy_from_slice(&header);
                    }
                    self.journal.prepared(file, Ok(()), self.now);
                }
                Effect::Remove { .. } | Effect::SetAside { .. } => {}
            }
        }
        if let Some(oldest) = self.journal.oldest() {
            self.journal.release(oldest);
        }
    }
}

/// A file of which there is only what was written, as one of a process that ended.
struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = &self.0[offset as usize..];
        let length = buffer.len().min(from.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }
}

/// Commits so often, and reads that so often.
fn run(batch: u64, commits: u64, reads: u64) {
    let mut rig = Rig::new(reads > 0);
    for _ in 0..commits {
        rig.turn(batch);
    }
    let mut file = rig.file.unwrap_or_default();
    // Not what is unused: what is looked at in vain does not depend on how much was written.
    file.truncate(file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    for _ in 0..reads {
        let mut reader = Reader::new(rig.settings.identity, vec![(FileId(0), Bytes(&file))]);
        let mut records = 0;
        while let Some(record) = reader.next() {
            records += u64::from(black_box(record).kind == KIND);
        }
        assert_eq!(records, batch * commits);
    }
}

/// The instructions of the whole process.
fn counted(batch: u64, commits: u64, reads: u64) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("run")
        .args([batch, commits, reads].map(|number| number.to_string()))
        .output()
        .map_err(|error| format!("valgrind: {error} (apt-get install valgrind)"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("Collected :")).filter(|_| output.status.success());
    let count = line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
    count.ok_or(text)
}

fn measure() -> Result<(), String> {
    for batch in [64, 1024] {
        let records = (batch * COMMITS) as f64;
        let written = (counted(batch, 2 * COMMITS, 0)? - counted(batch, COMMITS, 0)?) / records;
        let read = (counted(batch, COMMITS, 2)? - counted(batch, COMMITS, 1)?) / records;
        println!(
            "{batch:>5} records a commit: {written:>4.0} instructions to append and commit one, {read:>4.0} to read it"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if let ([first, ..], [batch, commits, reads]) = (&args[..], &numbers[..])
        && first == "run"
    {
        run(*batch, *commits, *reads);
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
