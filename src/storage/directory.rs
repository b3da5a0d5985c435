//! The directory of a store: made, checked, locked.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::syncfs;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use super::device;
use super::error::StorageError;
use super::names::{JournalFile, Listing};
use super::store_file::{LONGEST, STORE_VERSION, StoreFacts, Unreadable};
use crate::journal::{Floor, StoreId, Sync};
use crate::numbers::StoreNumber;

pub(super) const STORE: &str = "store";
const NEW_STORE: &str = "store.new";
pub(super) const LOCK: &str = "lock";
pub(super) const JOURNAL: &str = "journal";
const TRIED: &str = "direct.try";
/// Journals that are to take the place of those that are there.
pub const NEW_JOURNAL: &str = "journal.new";
pub const ARCHIVE: &str = "archive.redb";
/// A copy of a store that is not finished has it instead of the file `store`, which it becomes.
pub(super) const UNFINISHED: &str = "backup.unfinished";

/// What others may not do with the directory: anything at all; and those of the group may not write. (PostgreSQL asks for the same.)
const FORBIDDEN: u32 = 0o027;

/// The directory of a store, which no other process uses as long as this or something made from it lives.
#[derive(Debug)]
pub struct StoreDirectory {
    path: PathBuf,
    facts: StoreFacts,
    is_new: bool,
    sync: Sync,
    notes: Vec<String>,
    lock: Arc<File>,
}

/// Sessions have the number of the boot in theirs.
const OPENED_TOO_OFTEN: &str = "says that it was opened 16,777,215 times, and no broker can count further: move the directory away, and begin with nothing";

/// What a directory is, by the names in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    /// What a start leaves that ended before the store was made.
    Remains,
    Store,
    /// Journals, and no file that says whose.
    JournalsAlone,
    /// A copy of a store that was not finished.
    Unfinished,
    Other,
}

impl StoreDirectory {
    /// Opens the store at `path`; or makes one, if there is nothing or an empty directory. Its parent has to be there. `now` is the time of the
    /// wall clock in seconds since 1970.
    ///
    /// A directory that it makes is for its user alone (mode 0700), and an empty one becomes so.
    ///
    /// # Errors
    ///
    /// It is something else; it is another user's, or others may look into it; another process uses it; it was made by another version, or is
    /// damaged; or it cannot be read or written. The error says what to do. Nothing in it was changed then.
    pub fn open_or_create(path: &Path, now: u64) -> Result<Self, StorageError> {
        make_if_missing(path)?;
        let failed = |what: &'static str| move |error: io::Error| StorageError::io(path, what, &error);
        let path = &fs::canonicalize(path).map_err(failed("found"))?;
        let content = check(path)?;
        if content != Content::Store {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("closed to other users"))?;
        }
        let lock = Arc::new(take_lock(path)?);
        let mut notes = Vec::new();
        // Another process may have made it before this one had the lock.
        let (facts, is_new) = match look(path)? {
            Content::Store => (open(path, &mut notes)?, false),
            _ => (create(path, now)?, true),
        };
        let sync = device::best_sync(path, TRIED).map_err(failed("written"))?;
        Ok(StoreDirectory { path: path.clone(), facts, is_new, sync, notes, lock })
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its file `store` says.
    pub fn facts(&self) -> &StoreFacts {
        &self.facts
    }

    /// Whether it was made just now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// How commits become durable on its file system: by direct writes, if that has them.
    pub fn sync(&self) -> Sync {
        self.sync
    }

    /// What an operator should know of it, each in a sentence.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What keeps other processes out.
    pub(super) fn lock(&self) -> &Arc<File> {
        &self.lock
    }

    /// Where the archive is, or is to be made.
    pub fn archive(&self) -> PathBuf {
        self.path.join(ARCHIVE)
    }

    /// The directory of journal files.
    pub(super) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The files of journals: those of all shards that ever were, those that were set aside, and what else there is.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn journal_files(&self) -> Result<Listing, StorageError> {
        let directory = self.journal();
        Listing::of(&directory).map_err(|error| StorageError::io(&directory, "listed", &error))
    }

    /// A broker opens the store: the number of this boot, one more than that of the last.
    ///
    /// # Errors
    ///
    /// It cannot be written down; or it was opened [as often as can be counted](StoreNumber::LAST_BOOT).
    pub fn begin_boot(&mut self) -> Result<u32, StorageError> {
        let boots = self.facts.boots.checked_add(1).filter(|boot| *boot <= StoreNumber::LAST_BOOT);
        let boots = boots.ok_or_else(|| StorageError::new(&self.path, OPENED_TOO_OFTEN))?;
        let facts = StoreFacts { boots, ..self.facts.clone() };
        write_facts(&self.path, &facts)?;
        self.facts = facts;
        Ok(self.facts.boots)
    }

    /// What counts of earlier boots was written anew in this one: records of those count no more.
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    pub fn forget_earlier_boots(&mut self) -> Result<(), StorageError> {
        let facts = StoreFacts { first_boot: self.facts.boots, ..self.facts.clone() };
        write_facts(&self.path, &facts)?;
        self.facts = facts;
        Ok(())
    }

    /// Whether the store has an archive from here on: then one that is missing is missed.
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    pub fn set_archive(&mut self, has_archive: bool) -> Result<(), StorageError> {
        let facts = StoreFacts { has_archive, ..self.facts.clone() };
        if facts != self.facts {
            write_facts(&self.path, &facts)?;
            self.facts = facts;
        }
        Ok(())
    }

    /// Keeps the floors of journals: each rises to the one given, and none falls. To be called with [`Journal::floor`](crate::journal::Journal::floor)
    /// when journals are open, before anything is acknowledged; [`recover`](StoreDirectory::recover) gives them back at the next start.
    ///
    /// # Errors
    ///
    /// It cannot be written. What was written before holds.
    pub fn raise_floors(&mut self, floors: &BTreeMap<u32, Floor>) -> Result<(), StorageError> {
        let mut facts = self.facts.clone();
        for (shard, floor) in floors {
            let raised = facts.floors.entry(*shard).or_default();
            raised.generation = raised.generation.max(floor.generation);
            raised.number = raised.number.max(floor.number);
        }
        if facts != self.facts {
            write_facts(&self.path, &facts)?;
            self.facts = facts;
        }
        Ok(())
    }

    /// Removes the journal of a shard, in which nothing counts any more: one that does not exist any more, and is archived.
    ///
    /// # Errors
    ///
    /// A file cannot be removed. Others may be gone then.
    pub fn remove_journal(&self, shard: u32) -> Result<(), StorageError> {
        let directory = self.journal();
        // The newest first: the headers of those say of others that they do not count.
        let files = self.journal_files()?.journals.remove(&shard).unwrap_or_default();
        for file in files {
            let path = JournalFile { shard, file }.path(&directory);
            fs::remove_file(&path).map_err(|error| StorageError::io(&path, "removed", &error))?;
        }
        device::sync_directory(&directory).map_err(|error| StorageError::io(&directory, "synced", &error))
    }
}

pub(super) fn make_if_missing(path: &Path) -> Result<(), StorageError> {
    match fs::metadata(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StorageError::io(path, "looked at", &error)),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let problem = format!("cannot be made, because there is no directory {}: make that first", parent.display());
        return Err(StorageError::new(path, problem));
    }
    // Who may not list the parent can sync all of its file system.
    let sync_parent = || device::sync_directory(parent).or_else(|_| Ok(syncfs(File::open(path)?)?));
    let made = DirBuilder::new().mode(0o700).create(path).and_then(|()| sync_parent());
    made.map_err(|error| StorageError::io(path, "made", &error))
}

/// What there is at `path`, if this user may make or open a store of it.
pub(super) fn check(path: &Path) -> Result<Content, StorageError> {
    let content = look(path)?;
    let metadata = fs::metadata(path).map_err(|error| StorageError::io(path, "looked at", &error))?;
    check_access(path, &metadata, content == Content::Store).map(|()| content)
}

/// What there is at `path`, if it is a store or one can be made of it.
pub(super) fn look(path: &Path) -> Result<Content, StorageError> {
    let metadata = fs::metadata(path).map_err(|error| StorageError::io(path, "looked at", &error))?;
    if !metadata.is_dir() {
        return Err(StorageError::new(path, "is not a directory"));
    }
    match list(path)? {
        Content::Other => Err(StorageError::new(
            path,
            "is neither empty nor a store of this broker; it is left as it is. Name a directory that is empty, or does not exist yet: one in it, say",
        )),
        Content::Unfinished => Err(StorageError::new(
            path,
            "is a backup that was not finished, or is being made: it has not all that it should have. If nobody makes it any more, remove it, and make another one",
        )),
        Content::JournalsAlone => Err(StorageError::new(
            path,
            format!(
                "has journals, but the file {STORE} is missing, without which they cannot be read. Restore it from a backup; or move the \
                 directory away, and begin with nothing"
            ),
        )),
        content => Ok(content),
    }
}

fn check_access(path: &Path, metadata: &Metadata, is_used: bool) -> Result<(), StorageError> {
    let (owner, own) = (metadata.uid(), geteuid().as_raw());
    if owner != own {
        let problem = format!(
            "belongs to user {owner}, and the broker runs as user {own}: run it as that user, change the owner, or name a directory in it that \
             the broker makes itself"
        );
        return Err(StorageError::new(path, problem));
    }
    let mode = metadata.mode() & 0o777;
    // What others may have done to one that is empty does not matter.
    if is_used && mode & FORBIDDEN != 0 {
        let problem = format!(
            "is open to other users (mode {mode:03o}), and messages are in it: see who has used it, then close it (chmod 700 {})",
            path.display()
        );
        return Err(StorageError::new(path, problem));
    }
    Ok(())
}

fn list(path: &Path) -> Result<Content, StorageError> {
    let failed = |error: io::Error| StorageError::io(path, "listed", &error);
    let mut content = Content::Nothing;
    let (mut has_others, mut is_unfinished) = (false, false);
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_str() {
            Some(STORE) => return Ok(Content::Store),
            Some(LOCK | NEW_STORE | TRIED) => content = Content::Remains,
            Some(UNFINISHED) => is_unfinished = true,
            Some(JOURNAL) => has_others |= !is_empty(&entry.path()).map_err(failed)?,
            _ => has_others = true,
        }
    }
    let has_journals = || Listing::of(&path.join(JOURNAL)).is_ok_and(|listing| !listing.has_no_journal());
    Ok(match has_others {
        _ if is_unfinished => Content::Unfinished,
        true if has_journals() => Content::JournalsAlone,
        true => Content::Other,
        false => content,
    })
}

/// Whether there is an empty directory.
fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

/// The lock on the store, with the id of this process in it.
fn take_lock(directory: &Path) -> Result<File, StorageError> {
    let path = directory.join(LOCK);
    let failed = |what: &'static str| {
        let path = path.clone();
        move |error: io::Error| StorageError::io(&path, what, &error)
    };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let mut lock = options.open(&path).map_err(failed("opened"))?;
    let is_ours = device::lock(&lock, device::SHORT_PATIENCE).map_err(failed("locked"))?;
    if !is_ours {
        return Err(used(directory, &lock, "stop that broker first, or name another directory"));
    }
    // Whoever finds it locked is told who has it; on a full disk it is not.
    if lock.set_len(0).is_ok() {
        let _ = writeln!(lock, "{}", std::process::id());
    }
    Ok(lock)
}

/// The error for a store that another process has locked. `advice` is what to do.
pub(super) fn used(directory: &Path, lock: &File, advice: &str) -> StorageError {
    let mut text = String::new();
    let _ = lock.take(20).read_to_string(&mut text);
    // Who only looks at a store writes nothing into the lock: it has the id of the last broker then.
    let lives = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
    let who = match text.trim().parse::<u32>().ok().filter(lives) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    StorageError::in_use(directory, format!("is used by {who}: {advice}"))
}

/// Reads what is said of the store, and mends what can be.
fn open(directory: &Path, notes: &mut Vec<String>) -> Result<StoreFacts, StorageError> {
    let (facts, is_whole) = read_facts(&directory.join(STORE))?;
    if !is_whole {
        notes.push(format!(
            "one of the two copies in {} was damaged; it is written anew",
            directory.join(STORE).display()
        ));
        write_facts(directory, &facts)?;
    }
    remove_remains(&directory.join(NEW_JOURNAL))?;
    let journal = directory.join(JOURNAL);
    if !journal.is_dir() {
        make_journal(directory)?;
        notes.push(format!("there was no directory {}: all that was in journals is lost", journal.display()));
    }
    Ok(facts)
}

/// Removes journals that were to take the place of others and do not count, if there are such.
pub(super) fn remove_remains(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, "removed", &error)),
        _ => Ok(()),
    }
}

pub(super) fn read_facts(path: &Path) -> Result<(StoreFacts, bool), StorageError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|error| StorageError::io(path, "read", &error))?;
    StoreFacts::decode(&bytes).map_err(|unreadable| {
        let problem = match unreadable {
            Unreadable::Foreign => "was not written by this broker: name another directory".to_owned(),
            Unreadable::OtherVersion(version) => format!(
                "has version {version} of the format, and this program reads version {STORE_VERSION}: use the program that wrote it"
            ),
            Unreadable::Damaged => "is damaged in both its copies, and without it nothing can be read. Restore it from a backup; or move \
                                    the directory away, and begin with nothing"
                .to_owned(),
        };
        StorageError::new(path, problem)
    })
}

fn create(directory: &Path, now: u64) -> Result<StoreFacts, StorageError> {
    let mut random = [0_u8; 24];
    // So few come at once, or not at all.
    getrandom(&mut random, GetRandomFlags::empty())
        .map_err(|error| StorageError::io(directory, "given a random name", &error.into()))?;
    let (id, seed) = random.split_at(16);
    let facts = StoreFacts {
        id: StoreId(id.try_into().unwrap_or_default()),
        slot_seed: seed.try_into().map_or(0, u64::from_le_bytes),
        made: now,
        boots: 0,
        first_boot: 0,
        has_archive: false,
        floors: BTreeMap::new(),
    };
    make_journal(directory)?;
    write_facts(directory, &facts)?;
    Ok(facts)
}

pub(super) fn make_journal(directory: &Path) -> Result<(), StorageError> {
    let path = directory.join(JOURNAL);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => device::sync_directory(directory),
    }
    .map_err(|error| StorageError::io(&path, "made", &error))
}

/// Writes what is said of the store: after a loss of power the file has this or what was there before.
fn write_facts(directory: &Path, facts: &StoreFacts) -> Result<(), StorageError> {
    let (path, new) = (directory.join(STORE), directory.join(NEW_STORE));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&facts.encode())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        device::sync_directory(directory)
    };
    write().map_err(|error| StorageError::io(&path, "written", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn temporary() -> TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn refused(path: &Path) -> String {
        StoreDirectory::open_or_create(path, 7).expect_err("it is refused").to_string()
    }

    fn opened(path: &Path) -> StoreDirectory {
        StoreDirectory::open_or_create(path, 7).expect("it can be opened")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("it can be listed").map(|entry| entry.expect("an entry"));
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_store_is_made_for_its_user_alone_and_is_the_same_the_next_time() {
        let parent = temporary();
        let path = parent.path().join("data");
        let made = opened(&path);
        assert!(made.is_new() && made.notes().is_empty() && made.facts().made == 7);
        assert_eq!((mode(&path), mode(&path.join(JOURNAL)), mode(&path.join(STORE))), (0o700, 0o700, 0o600));
        assert_eq!(names(&path), [JOURNAL, LOCK, STORE]);
        let facts = made.facts().clone();
        drop(made);
        let again = StoreDirectory::open_or_create(&path, 99).expect("it can be opened");
        assert!(!again.is_new() && *again.facts() == facts && again.notes().is_empty());
        let other = opened(&parent.path().join("other"));
        assert!(other.facts().id != facts.id && other.facts().slot_seed != facts.slot_seed, "each is another");
    }

    #[test]
    fn an_empty_directory_becomes_one_and_what_an_ended_start_left_does() {
        let parent = temporary();
        let path = parent.path();
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
        fs::write(path.join(LOCK), "1\n").expect("it can be written");
        fs::write(path.join(NEW_STORE), "half of i").expect("it can be written");
        fs::create_dir(path.join(JOURNAL)).expect("it can be made");
        assert!(opened(path).is_new());
        assert_eq!((mode(path), names(path)), (0o700, [JOURNAL, LOCK, STORE].map(String::from).to_vec()));
    }

    /// A number that is wrong with a right checksum: the next one would be no boot at all.
    #[test]
    fn a_store_that_was_opened_as_often_as_can_be_counted_is_not_opened_again() {
        let parent = temporary();
        let path = parent.path();
        let mut store = opened(path);
        for boots in [StoreNumber::LAST_BOOT - 1, StoreNumber::LAST_BOOT, u32::MAX] {
            store.facts.boots = boots;
            let begun = store.begin_boot();
            assert_eq!(begun.as_ref().ok(), (boots < StoreNumber::LAST_BOOT).then_some(&StoreNumber::LAST_BOOT));
            assert!(
                begun.is_ok() || begun.is_err_and(|error| error.to_string().contains("no broker can count further"))
            );
        }
    }

    #[test]
    fn a_second_process_is_told_who_has_it() {
        let parent = temporary();
        let path = parent.path();
        let first = opened(path);
        let error = StoreDirectory::open_or_create(path, 7).expect_err("it is locked");
        assert!(error.is_in_use());
        assert_eq!(
            error.to_string(),
            format!(
                "storage {}: is used by process {}: stop that broker first, or name another directory",
                path.display(),
                std::process::id()
            )
        );
        let lock = Arc::clone(first.lock());
        drop(first);
        refused(path);
        drop(lock);
        opened(path);
    }

    #[test]
    fn what_is_no_store_is_left_as_it_is() {
        let parent = temporary();
        let path = parent.path();
        for foreign in ["lost+found", "store.bak", "journals"] {
            fs::create_dir(path.join(foreign)).expect("it can be made");
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
            assert!(refused(path).contains("is neither empty nor a store of this broker"));
            assert_eq!((names(path), mode(path)), (vec![foreign.to_owned()], 0o755));
            fs::remove_dir(path.join(foreign)).expect("it is there");
        }
        fs::create_dir(path.join(JOURNAL)).expect("it can be made");
        fs::write(path.join(JOURNAL).join("notes"), "").expect("it can be written");
        assert!(refused(path).contains("is neither empty nor a store of this broker"));
        let file = path.join("file");
        fs::write(&file, "").expect("it can be written");
        assert!(refused(&file).contains("is not a directory"));
        assert!(refused(&path.join("a/b")).contains("make that first"));
        assert!(refused(Path::new("/proc/moormq")).contains("cannot be made"));
    }

    #[test]
    fn what_others_could_read_or_another_user_owns_is_refused() {
        let parent = temporary();
        let path = parent.path();
        drop(opened(path));
        for (mode, told) in [(0o755, true), (0o770, true), (0o701, true), (0o750, false), (0o700, false)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
            match told {
                true => assert!(refused(path).contains(&format!("is open to other users (mode {mode:o})"))),
                false => drop(opened(path)),
            }
        }
        if geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(12345), None).expect("root may do that");
            assert!(refused(path).contains("belongs to user 12345, and the broker runs as user 0"));
        }
    }

    #[test]
    fn a_store_file_that_says_nothing_is_explained() {
        let parent = temporary();
        let path = parent.path();
        drop(opened(path));
        let store = path.join(STORE);
        let whole = fs::read(&store).expect("it is there");
        let damaged = |places: &[usize], byte: u8| {
            let mut bytes = whole.clone();
            places.iter().for_each(|at| bytes[*at] = byte);
            fs::write(&store, bytes).expect("it can be written");
        };
        let half = whole.len() / 2;
        damaged(&[0, half], b'x');
        assert!(refused(path).contains("was not written by this broker"));
        damaged(&[12, half + 12], 9);
        assert!(refused(path).contains("has version 9 of the format, and this program reads version 1"));
        damaged(&[30, half + 31], whole[30].wrapping_add(1));
        assert!(refused(path).contains("is damaged in both its copies"));
        fs::write(&store, &whole[..20]).expect("it can be written");
        assert!(refused(path).contains("is damaged in both its copies"), "torn");
        damaged(&[30], whole[30].wrapping_add(1));
        assert!(opened(path).notes()[0].contains("one of the two copies"));
        assert_eq!(fs::read(&store).expect("it is there"), whole, "and mended");

        fs::remove_file(&store).expect("it is there");
        assert!(opened(path).is_new(), "without journals nothing is lost");
        fs::write(path.join(JOURNAL).join("0000-00000000"), "").expect("it can be written");
        assert!(!opened(path).is_new());
        fs::remove_file(&store).expect("it is there");
        assert!(refused(path).contains("has journals, but the file store is missing"));
        assert!(!store.exists());
    }

    #[test]
    fn floors_rise_and_journals_that_vanished_are_told() {
        let parent = temporary();
        let path = parent.path();
        let mut store = opened(path);
        let floor = |generation, number| Floor { generation, number };
        store.raise_floors(&[(0, floor(5, 9)), (2, floor(1, 1))].into()).expect("it can be written");
        store.raise_floors(&[(0, floor(4, 10))].into()).expect("it can be written");
        drop(store);
        fs::remove_dir(path.join(JOURNAL)).expect("it is empty");
        let store = opened(path);
        assert_eq!(store.facts().floors, [(0, floor(5, 10)), (2, floor(1, 1))].into());
        assert!(store.notes()[0].contains("all that was in journals is lost"));
        assert!(store.journal_files().expect("it can be listed").has_no_journal());
    }

    #[test]
    fn the_journal_of_a_shard_that_is_gone_is_removed_and_no_other() {
        let parent = temporary();
        let store = opened(parent.path());
        for name in ["0000-00000000", "0001-00000000", "0001-00000007", "0001-00000003.bad"] {
            fs::write(store.journal().join(name), "").expect("it can be written");
        }
        store.remove_journal(1).expect("they are there");
        assert_eq!(names(&store.journal()), ["0000-00000000", "0001-00000003.bad"]);
    }
}
