//! The names of journal files, and which there are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::FileId;
use crate::sharding::MAX_SHARDS;

/// How many names of files that are no segments are listed, of each kind.
pub const MOST_LISTED: usize = 100;

/// What is behind the name of a file that was set aside.
const SET_ASIDE: &str = ".bad";

/// A segment file. Its name is shown: four digits of the shard, and eight of the file, or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalFile {
    /// The shard whose journal it belongs to.
    pub shard: u32,
    /// Its number.
    pub file: FileId,
}

impl fmt::Display for JournalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:08}", self.shard, self.file.0)
    }
}

impl JournalFile {
    /// The file of that name. None if no file is called so: there are [no more shards](MAX_SHARDS), and who reads a store reads the journals of all up to
    /// the last one that has files.
    pub fn parse(name: &str) -> Option<Self> {
        let (shard, file) = name.split_once('-')?;
        let parsed = JournalFile { shard: shard.parse().ok()?, file: FileId(file.parse().ok()?) };
        // No second name for it: `+1`, or other zeros.
        ((parsed.shard as usize) < MAX_SHARDS && parsed.to_string() == name).then_some(parsed)
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.to_string())
    }

    /// Names for it once it is set aside; the first that is free is used, since numbers of files come again.
    pub(super) fn set_aside_names(&self) -> impl Iterator<Item = String> {
        let name = self.to_string();
        (1..u32::MAX).map(move |n| if n == 1 { format!("{name}{SET_ASIDE}") } else { format!("{name}{SET_ASIDE}.{n}") })
    }
}

/// Whether a file of that name was set aside.
fn is_set_aside(name: &str) -> bool {
    let (of, number) = match name.rsplit_once(SET_ASIDE) {
        Some((of, "")) => (of, Some(1)),
        Some((of, more)) => (of, more.strip_prefix('.').and_then(|number| number.parse().ok())),
        None => return false,
    };
    JournalFile::parse(of).is_some() && number.is_some_and(|number: u32| number > 0)
}

/// The files in the directory of journals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The segments of each shard that has some, in the order of their numbers; of shards, too, that do not exist any more.
    pub journals: BTreeMap<u32, Vec<FileId>>,
    /// The names of files that were set aside, up to [`MOST_LISTED`].
    pub set_aside: Vec<String>,
    /// The names of whatever else there is, up to [`MOST_LISTED`]: it is left alone.
    pub strange: Vec<String>,
    /// How many further files of those two kinds there are.
    pub further: usize,
}

impl Listing {
    /// The files in `directory`.
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let mut listing = Listing::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_file = entry.file_type()?.is_file();
            match JournalFile::parse(&name).filter(|_| is_file) {
                Some(JournalFile { shard, file }) => listing.journals.entry(shard).or_default().push(file),
                None if is_file && is_set_aside(&name) => listing.note(name, true),
                None => listing.note(name, false),
            }
        }
        listing.journals.values_mut().for_each(|files| files.sort_unstable());
        listing.set_aside.sort_unstable();
        listing.strange.sort_unstable();
        Ok(listing)
    }

    fn note(&mut self, name: String, is_set_aside: bool) {
        let names = if is_set_aside { &mut self.set_aside } else { &mut self.strange };
        match names.len() < MOST_LISTED {
            true => names.push(name),
            false => self.further += 1,
        }
    }

    /// Whether there is no file of a journal.
    pub fn has_no_journal(&self) -> bool {
        self.journals.is_empty() && self.set_aside.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        for (shard, file) in [(0, 0), (3, 42), (254, 99_999_999), (255, 100_000_000), (255, u32::MAX)] {
            let file = JournalFile { shard, file: FileId(file) };
            assert_eq!(JournalFile::parse(&file.to_string()), Some(file));
            let mut names = file.set_aside_names();
            assert!(names.by_ref().take(3).all(|name| is_set_aside(&name) && JournalFile::parse(&name).is_none()));
        }
        assert_eq!(JournalFile { shard: 3, file: FileId(42) }.to_string(), "0003-00000042");
        for name in [
            "",
            "0000",
            "0-0",
            "0000-0000000",
            "+000-00000001",
            "0000-000000001",
            "0000-0000000x",
            "a-b",
            "0256-00000000",
        ] {
            assert_eq!(JournalFile::parse(name), None, "{name}");
        }
        for name in
            [".bad", "x.bad", "0000-00000001", "0000-00000001.bad.", "0000-00000001.bad.x", "0000-00000001.bad2"]
        {
            assert!(!is_set_aside(name), "{name}");
        }
    }

    #[test]
    fn all_files_are_listed_by_what_they_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["0002-00000010", "0002-00000009", "0000-00000000", "0000-00000000.bad", "0000-00000000.bad.2", "x"]
        {
            fs::write(at(name), "").expect("it can be written");
        }
        fs::create_dir(at("0001-00000001")).expect("it can be made");
        // A shard that there cannot be: a broker that has read the journals of all up to it would have no memory left, and no thread.
        fs::write(at("4294967295-00000000"), "").expect("it can be written");
        let listing = Listing::of(directory.path()).expect("it can be listed");
        assert_eq!(listing.journals, [(0, vec![FileId(0)]), (2, vec![FileId(9), FileId(10)])].into());
        assert_eq!(listing.set_aside, ["0000-00000000.bad", "0000-00000000.bad.2"]);
        assert_eq!(listing.strange, ["0001-00000001", "4294967295-00000000", "x"]);
        for number in 0..MOST_LISTED {
            fs::write(at(&format!("y{number}")), "").expect("it can be written");
        }
        let listing = Listing::of(directory.path()).expect("it can be listed");
        assert_eq!((listing.strange.len(), listing.further), (MOST_LISTED, 3));
    }
}
