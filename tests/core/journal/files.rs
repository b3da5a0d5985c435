//! A journal in real files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use moormq::journal::{
    Class, Effect, FileId, Journal, Preparation, ReadAt, Reader, Recovered, Settings, StoreId, Sync,
};

struct OnDisk(File);

impl ReadAt for OnDisk {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

fn path(directory: &Path, FileId(file): FileId) -> PathBuf {
    directory.join(format!("{file:08}.journal"))
}

/// A file to be written, around the cache if the file system can do that.
fn open(path: &Path) -> File {
    let open = |flags| OpenOptions::new().write(true).custom_flags(flags).open(path);
    open(libc::O_DIRECT).or_else(|_| open(0)).expect("it can be opened")
}

fn prepare(directory: &Path, preparation: &Preparation) -> io::Result<()> {
    let path = path(directory, preparation.file);
    if preparation.fill {
        fs::write(&path, vec![0; preparation.bytes as usize])?;
        File::open(&path)?.sync_all()?;
    }
    let file = OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(&preparation.header, 0)?;
    file.sync_all()
}

/// Does what there is to do.
fn work(directory: &Path, journal: &mut Journal, now: Duration) {
    while let Some(effect) = journal.next_effect(now) {
        match effect {
            Effect::Write(write) => {
                let file = open(&path(directory, write.file));
                let result = file.write_at(write.data(), write.offset);
                journal.written(write.buffer, result);
                journal.synced(file.sync_data());
            }
            Effect::Prepare(preparation) => {
                let result = prepare(directory, &preparation);
                journal.prepared(preparation.file, result, now);
            }
            Effect::Remove { file } | Effect::SetAside { file } => {
                fs::remove_file(path(directory, file)).expect("it is there");
            }
        }
    }
}

fn read(settings: &Settings, directory: &Path) -> (Vec<u64>, Recovered) {
    let name =
        |entry: io::Result<fs::DirEntry>| entry.expect("it can be read").file_name().into_string().expect("a name");
    let names = fs::read_dir(directory).expect("it is there").map(name);
    let files = names
        .map(|name| {
            let id = FileId(name.strip_suffix(".journal").and_then(|id| id.parse().ok()).expect("a number"));
            (id, OnDisk(File::open(directory.join(name)).expect("it can be opened")))
        })
        .collect();
    let mut reader = Reader::new(settings.identity, files);
    let mut numbers = Vec::new();
    while let Some(record) = reader.next() {
        assert!(record.kind == 7 && record.body.len() == 182);
        numbers.push(u64::from_le_bytes(*record.body.first_chunk().expect("a number")));
    }
    let (recovered, findings) = reader.finish();
    assert!(findings.is_empty(), "{findings:?}");
    (numbers, recovered)
}

#[test]
fn a_journal_goes_on_in_real_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = Settings {
        segment_bytes: 1 << 20,
        frame_bytes: 64 << 10,
        buffer_bytes: 256 << 10,
        sync: Sync::Linked,
        ..Settings::new(StoreId([3; 16]), 0)
    };
    let (mut next, mut recovered) = (0, Recovered::nothing());
    for _ in 0..3 {
        let mut journal = Journal::new(settings.check().expect("they hold"), recovered, 0).expect("its own");
        let mut now = Duration::ZERO;
        work(directory.path(), &mut journal, now);
        for _ in 0..100 {
            for _ in 0..100_u64 {
                journal.append(Class::Ordinary, 7, &[&u64::to_le_bytes(next), &[1; 174]]).expect("there is room");
                next += 1;
            }
            now += settings.commit_interval;
            work(directory.path(), &mut journal, now);
            if let Some(oldest) = journal.oldest() {
                assert!(journal.release(oldest));
            }
        }
        assert!(journal.is_settled() && journal.failure().is_none());
        let (numbers, found) = read(&settings, directory.path());
        let first = next - numbers.len() as u64;
        assert!(numbers.len() > 5000 && numbers.iter().copied().eq(first..next), "{}", numbers.len());
        recovered = found;
    }
    assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 4);
}
