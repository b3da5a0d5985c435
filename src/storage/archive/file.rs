//! An archive in one file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, Error, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition, WriteTransaction,
};

use super::looking::Looking;
use super::snapshot::ArchiveSnapshot;
use super::trouble::{DAMAGED, guarded, told};
use crate::archive::{Archive, ArchiveError, ArchiveKey, Change, Found, Span, Trouble};
use crate::journal::StoreId;
use crate::storage::device;

/// The version of what is in the file, apart from the library's own format: the one that is written, and the only one that is read.
pub const ARCHIVE_VERSION: u32 = 1;

/// How often, and how far apart, a file is opened that another process uses: perhaps one that is about to end.
const OPENINGS: u32 = 100;
const REOPENED_AFTER: Duration = Duration::from_millis(10);

const VALUES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("values");
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");
const VERSION: &str = "version";
const STORE: &str = "store";
const BYTES: &str = "bytes";

/// The bytes of a checksum.
const CHECK: usize = 4;

/// How much an archive may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// Bytes of memory for parts of the file.
    pub cache: usize,
    /// Most bytes of keys and values.
    pub most: u64,
    /// Bytes of the disk that are left free, for what else is on it, and so that a persist does not fail halfway.
    pub reserve: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        ArchiveSettings { cache: 32 << 20, most: u64::MAX, reserve: 256 << 20 }
    }
}

/// An archive in one file. Of what was changed, all is lost in a crash that was not persisted.
pub struct ArchiveFile {
    path: PathBuf,
    settings: ArchiveSettings,
    /// What was changed since the last persist.
    open: Option<WriteTransaction>,
    /// How many bytes were put in it.
    unpersisted: u64,
    database: Option<Database>,
    /// Of all keys and values.
    bytes: u64,
    has_failed: bool,
    /// Key, value or what else is put together.
    buffer: Vec<u8>,
}

impl ArchiveFile {
    /// Opens the archive of a store, or makes it if there is no such file. Its directory has to be there.
    ///
    /// # Errors
    ///
    /// It is damaged, belongs to another store, was made by another version, or is used by another process; or it cannot be read or written. The error says
    /// what to do.
    pub fn open(path: &Path, store: StoreId, settings: ArchiveSettings) -> Result<Self, ArchiveError> {
        let failed = |what: &'static str| move |error: io::Error| told(path, what, &Error::Io(error));
        if !path.try_exists().map_err(failed("looked at"))? {
            make(path, store, settings)?;
        }
        let mut left = OPENINGS;
        loop {
            let file = device::open(path, false).map_err(failed("opened"))?;
            let opened = guarded(path, "opened", || Ok(FileBackend::new(file)?))
                .and_then(|backend| ArchiveFile::open_in(backend, path, store, settings));
            match opened {
                Err(error) if error.trouble == Trouble::InUse && left > 0 => {
                    left -= 1;
                    thread::sleep(REOPENED_AFTER);
                }
                opened => return opened,
            }
        }
    }

    /// Opens the archive of a store to look at it: what is changed from then on stays in memory.
    ///
    /// # Errors
    ///
    /// As of [`open`](Self::open).
    pub fn look_at(path: &Path, store: StoreId) -> Result<Self, ArchiveError> {
        let failed = |error: io::Error| told(path, "opened", &Error::Io(error));
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed)?;
        let looking = Looking::new(file).map_err(failed)?;
        ArchiveFile::open_in(looking, path, store, ArchiveSettings::default())
    }

    /// Opens what is in a file, or in whatever takes its place.
    pub(super) fn open_in(
        backend: impl StorageBackend,
        path: &Path,
        store: StoreId,
        settings: ArchiveSettings,
    ) -> Result<Self, ArchiveError> {
        if guarded(path, "read", || Ok(backend.len()?))? == 0 {
            return Err(told(path, "opened", &Error::Corrupted("it is empty".to_owned())));
        }
        let mut archive = ArchiveFile::over(backend, path, settings)?;
        archive.check_facts(store)?;
        Ok(archive)
    }

    /// Makes one in an empty file, or in whatever takes its place.
    pub(super) fn create_in(
        backend: impl StorageBackend,
        path: &Path,
        store: StoreId,
        settings: ArchiveSettings,
    ) -> Result<Self, ArchiveError> {
        let mut archive = ArchiveFile::over(backend, path, settings)?;
        archive.write_facts(store)?;
        Ok(archive)
    }

    fn over(backend: impl StorageBackend, path: &Path, settings: ArchiveSettings) -> Result<Self, ArchiveError> {
        let open = || Ok(Builder::new().set_cache_size(settings.cache).create_with_backend(backend)?);
        let database = Some(guarded(path, "opened", open)?);
        let path = path.to_owned();
        Ok(ArchiveFile {
            path,
            settings,
            open: None,
            unpersisted: 0,
            database,
            bytes: 0,
            has_failed: false,
            buffer: Vec::new(),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it has any value.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn has_values(&mut self) -> Result<bool, ArchiveError> {
        let mut is_any = false;
        for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
            self.scan(&span, &mut |_| {
                is_any = true;
                ControlFlow::Break(())
            })?;
        }
        Ok(is_any)
    }

    /// How much the value of a key counts in [`bytes`](Self::bytes).
    pub fn size(key: ArchiveKey<'_>, value: &[u8]) -> u64 {
        (key.to_bytes().len() + value.len() + CHECK) as u64
    }

    /// Looks at all that the library has written, which takes as long as reading the file; what was changed before is persisted first. Whether it is whole:
    /// if not, it has mended what it could. Values are not compared with their checksums here, but by [`scan`](Archive::scan).
    ///
    /// # Errors
    ///
    /// It is damaged and cannot be mended; or it cannot be read or written.
    pub fn verify(&mut self) -> Result<bool, ArchiveError> {
        self.persist()?;
        let ArchiveFile { path, database, .. } = self;
        let check = || Ok(database.as_mut().ok_or(Error::DatabaseClosed)?.check_integrity()?);
        guarded(path, "verified", check).map_err(|error| self.fail(error))
    }

    /// Puts keys and values as they are in another archive: each value with its checksum behind it.
    pub(super) fn put_entries(&mut self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), ArchiveError> {
        self.change(|transaction, counted| {
            let mut values = transaction.open_table(VALUES)?;
            for (key, value) in entries {
                values.insert(&key[..], &value[..])?;
                *counted.bytes += (key.len() + value.len()) as u64;
            }
            Ok(())
        })
    }

    /// Closes it. What was not persisted is forgotten.
    ///
    /// # Errors
    ///
    /// It cannot be written that it was closed: the next start finds out by itself.
    pub fn close(mut self) -> Result<(), ArchiveError> {
        let (open, database) = (self.open.take(), self.database.take());
        guarded(&self.path, "closed", || {
            drop(open);
            database.map_or(Ok(()), |database| Ok(database.close()?))
        })
    }

    fn check_facts(&mut self, store: StoreId) -> Result<(), ArchiveError> {
        let read = |archive: &ArchiveFile| {
            let Some(database) = &archive.database else { return Err(Error::DatabaseClosed) };
            let facts = database.begin_read()?.open_table(FACTS)?;
            let fact = |name| Ok::<_, Error>(facts.get(name)?.map(|value| value.value().to_vec()));
            Ok((fact(VERSION)?, fact(STORE)?, fact(BYTES)?))
        };
        let (version, of, bytes) = guarded(&self.path, "read", || read(self))?;
        let wrong = |trouble, why: &str| {
            Err(ArchiveError::new(trouble, format!("archive {} cannot be used: {why}", self.path.display())))
        };
        let version = version.and_then(|version| Some(u32::from_le_bytes(version.try_into().ok()?)));
        let bytes = bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        match (version, of.as_deref(), bytes) {
            (Some(version), ..) if version != ARCHIVE_VERSION => wrong(
                Trouble::Foreign,
                &format!(
                    "it has version {version} of the format, and this program reads version {ARCHIVE_VERSION}: use the program that wrote it"
                ),
            ),
            (_, Some(of), _) if of != store.0 => {
                wrong(Trouble::Foreign, "it belongs to another store: put back the one that was here, or set it aside")
            }
            (Some(_), Some(_), Some(bytes)) => {
                self.bytes = bytes;
                Ok(())
            }
            _ => wrong(Trouble::Damaged, &format!("it does not say whose it is, so it is damaged: {DAMAGED}")),
        }
    }

    fn write_facts(&mut self, store: StoreId) -> Result<(), ArchiveError> {
        self.change(|transaction, _| {
            drop(transaction.open_table(VALUES)?);
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert(VERSION, &ARCHIVE_VERSION.to_le_bytes()[..])?;
            facts.insert(STORE, &store.0[..])?;
            Ok(())
        })?;
        self.persist()
    }

    /// Changes something in the transaction that is open, and the bytes of all. An error ends all writing.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&WriteTransaction, &mut Counted<'_>) -> Result<T, Error>,
    ) -> Result<T, ArchiveError> {
        self.check_alive()?;
        let ArchiveFile { path, open, database, bytes, buffer, .. } = self;
        let changed = guarded(path, "written", || {
            let transaction = match open.take() {
                Some(transaction) => transaction,
                None => {
                    let mut transaction = database.as_ref().ok_or(Error::DatabaseClosed)?.begin_write()?;
                    transaction.set_quick_repair(true);
                    transaction
                }
            };
            let changed = change(&transaction, &mut Counted { bytes, buffer });
            *open = Some(transaction);
            changed
        });
        changed.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: ArchiveError) -> ArchiveError {
        self.has_failed = true;
        let open = self.open.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
        ArchiveError::new(Trouble::Failed, error.to_string())
    }

    fn check_alive(&self) -> Result<(), ArchiveError> {
        if self.has_failed {
            let problem = format!(
                "archive {} cannot be written, because that has failed before: start the broker again",
                self.path.display()
            );
            return Err(ArchiveError::new(Trouble::Failed, problem));
        }
        Ok(())
    }

    /// Looks at values, those that are not persisted included.
    fn look<T>(&self, look: impl FnOnce(&dyn Values) -> T) -> Result<T, ArchiveError> {
        let mut look = Some(look);
        let mut seen = None;
        if let Some(transaction) = &self.open {
            let table = guarded(&self.path, "read", || Ok(transaction.open_table(VALUES)?))?;
            seen = look.take().map(|look| look(&table));
        } else if let Some(database) = &self.database {
            let table = guarded(&self.path, "read", || Ok(database.begin_read()?.open_table(VALUES)?))?;
            seen = look.take().map(|look| look(&table));
        }
        seen.ok_or_else(|| told(&self.path, "read", &Error::DatabaseClosed))
    }

    fn damaged(&self, key: &[u8]) -> ArchiveError {
        let what = match ArchiveKey::from_bytes(key) {
            Some(key) => format!("{key:?}"),
            None => format!("an unknown key ({})", key.escape_ascii()),
        };
        let problem = format!("archive {}: the value of {what} is damaged", self.path.display());
        ArchiveError::new(Trouble::Lost, problem)
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        let (open, database) = (self.open.take(), self.database.take());
        // The library may find damage, as ever.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(open);
            drop(database);
        }));
    }
}

/// Makes the file, under another name first: one that is there is whole.
fn make(path: &Path, store: StoreId, settings: ArchiveSettings) -> Result<(), ArchiveError> {
    let mut name = OsString::from(path);
    name.push(".new");
    let new = PathBuf::from(name);
    let failed = |error: io::Error| told(path, "made", &Error::Io(error));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = device::create(&new, false).map_err(failed)?;
    let backend = guarded(&new, "made", || Ok(FileBackend::new(file)?))?;
    ArchiveFile::create_in(backend, &new, store, settings)?.close()?;
    fs::rename(&new, path).map_err(failed)?;
    path.parent().map_or(Ok(()), device::sync_directory).map_err(failed)
}

/// What is done with a key and its value.
type Look<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The values of a transaction.
trait Values {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;
    fn keys(&self) -> Result<u64, Error>;
    fn scan(&self, path: &Path, span: &Span, each: &mut Look<'_>) -> Result<(), ArchiveError>;
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Values for T {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(ReadableTable::get(self, key)?.map(|value| value.value().to_vec()))
    }

    fn keys(&self) -> Result<u64, Error> {
        Ok(self.len()?)
    }

    fn scan(&self, path: &Path, span: &Span, each: &mut Look<'_>) -> Result<(), ArchiveError> {
        let mut range = guarded(path, "read", || Ok(self.range(span.start()..span.end())?))?;
        loop {
            let next = || {
                let next = range.next().transpose()?;
                // In a damaged block a value may be said to be where there is nothing.
                if let Some((key, value)) = &next {
                    let _ = (key.value(), value.value());
                }
                Ok(next)
            };
            // What is done with a value is no affair of the library.
            match guarded(path, "read", next)? {
                Some((key, value)) if each(key.value(), value.value()).is_continue() => {}
                _ => return Ok(()),
            }
        }
    }
}

/// How many bytes there are of all, while they are changed.
struct Counted<'a> {
    bytes: &'a mut u64,
    buffer: &'a mut Vec<u8>,
}

impl Counted<'_> {
    fn put(&mut self, values: &mut Table<'_, &[u8], &[u8]>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.buffer.clear();
        self.buffer.extend_from_slice(value);
        self.buffer.extend_from_slice(&check(key, value));
        let before = values.insert(key, &self.buffer[..])?.map_or(0, |before| key.len() + before.value().len());
        *self.bytes = (*self.bytes + (key.len() + self.buffer.len()) as u64).saturating_sub(before as u64);
        Ok(())
    }

    fn delete(&mut self, values: &mut Table<'_, &[u8], &[u8]>, key: &[u8]) -> Result<(), Error> {
        if let Some(before) = values.remove(key)? {
            self.less(key.len() + before.value().len());
        }
        Ok(())
    }

    /// Whether all of the span is gone.
    fn delete_some(&mut self, values: &mut Table<'_, &[u8], &[u8]>, span: &Span, most: usize) -> Result<bool, Error> {
        let mut deleted = 0;
        for entry in values.extract_from_if(span.start()..span.end(), |_, _| true)?.take(most) {
            let (key, value) = entry?;
            self.less(key.value().len() + value.value().len());
            deleted += 1;
        }
        Ok(deleted < most)
    }

    fn less(&mut self, bytes: usize) {
        *self.bytes = self.bytes.saturating_sub(bytes as u64);
    }
}

/// The checksum of a value, which also knows whose it is.
fn check(key: &[u8], value: &[u8]) -> [u8; CHECK] {
    crc32c_append(crc32c(key), value).to_le_bytes()
}

/// The value, if it is what was put.
fn checked<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, found) = value.split_last_chunk::<CHECK>()?;
    (*found == check(key, value)).then_some(value)
}

impl Archive for ArchiveFile {
    type Snapshot = ArchiveSnapshot;

    fn check_room(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.check_alive()?;
        let full = |why: String| {
            Err(ArchiveError::new(Trouble::Full, format!("archive {} is full: {why}", self.path.display())))
        };
        let ArchiveSettings { most, reserve, .. } = self.settings;
        if self.bytes.saturating_add(bytes as u64) > most {
            return full(format!(
                "it has {} bytes of {most}: set storage.archive.max_size higher, or end sessions that nobody wants",
                self.bytes
            ));
        }
        let free = device::free_bytes(self.path.parent().unwrap_or(Path::new("."))).unwrap_or(u64::MAX);
        // What is put is written with what is around it.
        let wanted = reserve.saturating_add(2 * (self.unpersisted + bytes as u64));
        match free < wanted {
            true => full(format!(
                "its disk has {free} bytes left, and {reserve} are to be left free: make room there, or set storage.archive.min_free lower"
            )),
            false => Ok(()),
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), ArchiveError> {
        let put: usize = changes.iter().map(Change::bytes).sum();
        self.unpersisted += put as u64;
        self.change(|transaction, counted| {
            let mut values = transaction.open_table(VALUES)?;
            for change in changes {
                match change {
                    Change::Put(key, value) => counted.put(&mut values, key, value)?,
                    Change::Delete(key) => counted.delete(&mut values, key)?,
                    Change::DeleteAll(span) => drop(counted.delete_some(&mut values, span, usize::MAX)?),
                }
            }
            Ok(())
        })
    }

    fn delete_some(&mut self, span: &Span, most: usize) -> Result<bool, ArchiveError> {
        if span.is_empty() {
            return self.check_alive().map(|()| true);
        }
        self.change(|transaction, counted| counted.delete_some(&mut transaction.open_table(VALUES)?, span, most))
    }

    fn persist(&mut self) -> Result<(), ArchiveError> {
        self.check_alive()?;
        let (Some(transaction), bytes) = (self.open.take(), self.bytes) else { return Ok(()) };
        let commit = || {
            transaction.open_table(FACTS)?.insert(BYTES, &bytes.to_le_bytes()[..])?;
            Ok(transaction.commit()?)
        };
        guarded(&self.path, "written", commit).map_err(|error| self.fail(error))?;
        self.unpersisted = 0;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<ArchiveSnapshot, ArchiveError> {
        let database = self.database.as_ref().ok_or_else(|| told(&self.path, "read", &Error::DatabaseClosed))?;
        let values = guarded(&self.path, "read", || Ok(database.begin_read()?.open_table(VALUES)?))?;
        Ok(ArchiveSnapshot { path: self.path.clone(), values, bytes: self.bytes })
    }

    fn read(&mut self, key: ArchiveKey<'_>) -> Result<Option<Bytes>, ArchiveError> {
        let key = key.to_bytes();
        let Some(mut value) = self.look(|values| guarded(&self.path, "read", || values.get(&key)))?? else {
            return Ok(None);
        };
        let Some(length) = checked(&key, &value).map(<[u8]>::len) else { return Err(self.damaged(&key)) };
        value.truncate(length);
        Ok(Some(value.into()))
    }

    fn scan(&mut self, span: &Span, each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<(), ArchiveError> {
        if span.is_empty() {
            return Ok(());
        }
        self.look(|values| {
            values.scan(&self.path, span, &mut |key, value| match ArchiveKey::from_bytes(key) {
                Some(name) => each((name, checked(key, value).ok_or_else(|| self.damaged(key)))),
                None => {
                    tracing::error!("{}", self.damaged(key));
                    ControlFlow::Continue(())
                }
            })
        })?
    }

    fn bytes_on_disk(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| 512 * metadata.blocks())
    }

    fn keys(&mut self) -> Result<u64, ArchiveError> {
        self.look(|values| guarded(&self.path, "read", || values.keys()))?
    }
}
