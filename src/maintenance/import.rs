//! Sessions and retained messages from elsewhere, put into a store.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::mosquitto::{BadFile, MosquittoFile};
use super::mosquitto_import::Taking;
use super::report::StoreReport;
use super::rewriting::{Layout, Rewritten, rewrite};
use super::terms::{Known, Taken, Terms};
use super::view::{StoreView, calendar};
use super::writing::Owners;
use crate::records::{Contents, Image, WallTime};
use crate::session::{StoreNumber, StoredPage};
use crate::sharding::hasher;
use crate::storage::{ReadOnlyStore, StorageError, StoreDirectory};

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// Of each kind that there was, how many were taken.
    pub taken: BTreeMap<&'static str, u64>,
    /// Of each reason, how many were left out for it.
    pub left_out: BTreeMap<&'static str, u64>,
    /// What is in the store now.
    pub rewritten: Rewritten,
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum ImportError {
    /// The file to import from is not what it should be.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence that begins with the path.
        problem: String,
    },
    /// The broker to import from does not give what it should.
    Broker {
        /// Its address.
        address: String,
        /// What is wrong, as the rest of a sentence that begins with the address.
        problem: String,
    },
    /// The store cannot be used.
    Storage(StorageError),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            ImportError::Broker { address, problem } => write!(f, "the broker at {address} {problem}"),
            ImportError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

impl From<StorageError> for ImportError {
    fn from(error: StorageError) -> Self {
        ImportError::Storage(error)
    }
}

/// Puts what a persistence file of Mosquitto has into the store at `path`, which is made if it is not there. `now` is the time in seconds since 1970.
///
/// # Errors
///
/// The file is not such a file, or is damaged; a broker uses the store, or something is in it and `terms` do not allow that; the disk is full or
/// fails. The store is as it was then, or is not made.
pub fn import_mosquitto(file: &Path, path: &Path, terms: Terms<'_>, now: u64) -> Result<Imported, ImportError> {
    let told = |error: BadFile| ImportError::File { path: file.to_owned(), problem: problem(&error) };
    let input = File::open(file).map_err(|error| told(BadFile::Io(error)))?;
    let length = input.metadata().map_err(|error| told(BadFile::Io(error)))?.len();
    // Whether it is such a file at all is seen before anything is made.
    let mut input = MosquittoFile::open(BufReader::with_capacity(1 << 20, input), length).map_err(told)?;
    import_into(path, terms, now, |image, Place { known, boot, owners, now }| {
        let mut taking = Taking::new(boot, owners, terms, known, now);
        while let Some(chunk) = input.next().map_err(told)? {
            taking.take(&chunk, image);
        }
        Ok(taking.finish(image))
    })
}

/// Where something is imported to.
pub(super) struct Place {
    /// What is there, and stays.
    pub known: Known,
    /// Which boot of the store it is.
    pub boot: u32,
    pub owners: Owners,
    pub now: WallTime,
}

/// Has something put into what the store at `path` has, and writes that.
pub(super) fn import_into(
    path: &Path,
    terms: Terms<'_>,
    now: u64,
    take: impl FnOnce(&mut Image, Place) -> Result<Taken, ImportError>,
) -> Result<Imported, ImportError> {
    let target = Target::look(path, &terms)?;
    let mut directory = StoreDirectory::open_or_create(path, now)?;
    if target.boots.is_some_and(|boots| boots != directory.facts().boots) {
        return Err(StorageError::new(path, "was used by a broker meanwhile: nothing was changed, try again").into());
    }
    let (boot, seed) = (directory.facts().boots + 1, directory.facts().slot_seed);
    let known = target.known();
    let (clock, wall) = calendar();
    let mut image = match target.contents {
        Some(contents) => Image::of(contents, clock, hasher(seed)),
        None => Image::new(clock, hasher(seed)),
    };
    let owners = Owners { shards: target.layout.shards as usize, seed };
    let taken = take(&mut image, Place { known, boot, owners, now: wall })?;
    let largest = target.largest_record.max(taken.largest_record);
    let boot = directory.begin_boot()?;
    let rewritten = rewrite(directory, boot, (image.finish(), clock), &target.pages, largest, target.layout, false)?;
    Ok(Imported { taken: taken.taken, left_out: taken.left_out, rewritten })
}

fn problem(error: &BadFile) -> String {
    match error {
        BadFile::Foreign => "is not a persistence file of Mosquitto (mosquitto.db)".to_owned(),
        BadFile::Version(version) => {
            format!("has version {version} of Mosquitto's persistence format, and 3 to 6 can be read")
        }
        BadFile::CutOff(offset) => format!(
            "ends within what begins at byte {offset}: it is damaged, or Mosquitto writes it just now. Stop Mosquitto first, or take the last whole copy"
        ),
        BadFile::Malformed(offset, what) => format!("what begins at byte {offset} is damaged: {what}"),
        BadFile::Io(error) => format!("cannot be read: {error}"),
    }
}

/// The store that is imported into, as it is before.
struct Target {
    contents: Option<Contents>,
    pages: Vec<(StoreNumber, StoredPage)>,
    boots: Option<u32>,
    largest_record: usize,
    layout: Layout,
}

impl Target {
    fn look(path: &Path, terms: &Terms<'_>) -> Result<Self, StorageError> {
        let layout = Layout { shards: terms.shards, segment_bytes: terms.config.storage.segment_size as u64 };
        let store = match ReadOnlyStore::open_if_any(path)? {
            Some(store) => store,
            None => return Ok(Target { contents: None, pages: Vec::new(), boots: None, largest_record: 0, layout }),
        };
        let view = StoreView::read(&store)?;
        let counts = view.contents.counts();
        if !terms.merges && counts.sessions + counts.retained > 0 {
            let problem = format!(
                "has {} sessions and {} retained messages already: with --merge others are added to them, or name a new directory",
                counts.sessions, counts.retained
            );
            return Err(StorageError::new(path, problem));
        }
        if StoreReport::new(&store, &view).is_damaged {
            let problem = "is damaged, as `moormq store verify` tells: compact it first, with --despite-damage, or name a new directory";
            return Err(StorageError::new(path, problem));
        }
        let layout = match view.journals.last() {
            Some(last) => Layout { shards: last.shard + 1, ..layout },
            None => layout,
        };
        let (boots, largest_record) = (Some(store.facts().boots), view.largest_record());
        let pages = view.archive.map_or_else(Vec::new, |archive| archive.pages);
        Ok(Target { contents: Some(view.contents), pages, boots, largest_record, layout })
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        if let Some(contents) = &self.contents {
            known.clients = contents.left().iter().map(|session| session.client.subscriber.clone()).collect();
            known.retained = contents
                .retained()
                .map(|(mountpoint, message)| (mountpoint.into(), message.topic().as_str().into()))
                .collect();
        }
        known
    }
}
