//! The files of the stock hooks: read at start, watched, and the hooks that go by them.

use std::fmt;
use std::io;
use std::path::Path;
use std::thread;

use super::entry_file::FileError;
pub use super::watch::Reloader;
use super::watch::{FirstReading, Watched, watch};
use crate::config::{Config, StockHook};
use crate::hooks::stock::{
    AclFile, AclRules, FaultyLine, HashWork, Live, Nonces, PasswordFile, PasswordTable, ScramFile, ScramTable, Stock,
    hash_queue,
};

/// The stock hooks of a configuration, and the threads that serve them: one that watches the files, and those that check
/// passwords.
///
/// ```no_run
/// # use moormq::{Broker, config::Config, control::stock_files::StockFiles};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::load("moormq.toml")?;
/// let files = StockFiles::open(&config)?;
/// let broker = Broker::builder().config(config).hook(files.hooks()).start()?;
/// files.reloader().reload();
/// # broker.stop()?;
/// # Ok(())
/// # }
/// ```
///
/// The files are watched until this and every [`Reloader`] is dropped; passwords are checked until the last copy of the
/// hooks is.
#[derive(Debug)]
pub struct StockFiles {
    hooks: Stock,
    reloader: Reloader,
}

/// Why the stock hooks cannot be had.
#[derive(Debug)]
pub enum StockError {
    /// The file that this setting names cannot be used.
    File(&'static str, FileError),
    /// The system has no thread, or no random numbers.
    System(io::Error),
}

impl StockFiles {
    /// Reads the files that `config` names, and begins to watch them.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or has a line that is not valid, or the system lacks something.
    pub fn open(config: &Config) -> Result<Self, StockError> {
        let mut files = Vec::new();
        let listeners =
            config.listeners.iter().map(|listener| (listener.name.as_str(), config.stock_hooks_of(listener)));
        let mut hooks = Stock::new(listeners);
        if let Some(path) = config.file_of(StockHook::Password) {
            let table = table("password_file.path", path, PasswordTable::parse, PasswordTable::len, &mut files)?;
            let (queue, work) = hash_queue(config.password_file.max_waiting);
            work_on(&work, config.password_file.threads).map_err(StockError::System)?;
            hooks = hooks.password(PasswordFile::new(table, queue));
        }
        if let Some(path) = config.file_of(StockHook::Acl) {
            hooks = hooks.acl(AclFile::new(table("acl_file.path", path, AclRules::parse, AclRules::len, &mut files)?));
        }
        if let Some(path) = config.file_of(StockHook::Scram) {
            let secret = random()?;
            let parse = move |text: &str| ScramTable::parse(text, secret);
            let table = table("scram_file.path", path, parse, ScramTable::len, &mut files)?;
            hooks = hooks.scram(ScramFile::new(table, Nonces::new(random()?)));
        }
        let reloader = watch(files, config.reload.interval).map_err(StockError::System)?;
        Ok(StockFiles { hooks, reloader })
    }

    /// The hooks, to be put into a chain.
    pub fn hooks(&self) -> Stock {
        self.hooks.clone()
    }

    /// What has the files read again when told to.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }
}

/// Reads the file at `path`, which `setting` names, with `parse`. The table that comes of it is replaced whenever the file is read again.
fn table<T: Send + Sync + 'static>(
    setting: &'static str,
    path: &str,
    parse: impl Fn(&str) -> Result<T, FaultyLine> + Send + 'static,
    len: fn(&T) -> usize,
    files: &mut Vec<Watched>,
) -> Result<Live<T>, StockError> {
    let first = FirstReading::of(Path::new(path)).map_err(|error| StockError::File(setting, error))?;
    let table = parse(&first.text).map_err(|fault| StockError::File(setting, first.fault(fault)))?;
    let (live, mut replacer) = Live::new(table);
    files.push(first.watched(move |text| {
        let table = parse(text)?;
        let entries = len(&table);
        replacer.replace(table);
        Ok(entries)
    }));
    Ok(live)
}

/// Starts threads that check passwords. They end when nobody can hand in any more.
fn work_on(work: &HashWork, threads: usize) -> io::Result<()> {
    (0..threads).try_for_each(|number| {
        let work = work.clone();
        thread::Builder::new().name(format!("moormq-hash-{number}")).spawn(|| work.run()).map(drop)
    })
}

/// Random bytes that nobody can guess.
fn random() -> Result<[u8; 32], StockError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StockError::System(error.into()))?;
    Ok(bytes)
}

impl fmt::Display for StockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StockError::File(setting, error) => write!(f, "{setting}: {error}"),
            StockError::System(error) => write!(f, "the system is out of resources: {error}"),
        }
    }
}

impl std::error::Error for StockError {}
