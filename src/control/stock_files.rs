//! The files of the stock hooks: their first reading, their watching, and the hooks that use them.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Instant;

pub use super::entry_file::{FileError, FileProblem};
pub use super::watch::Reloader;
use super::watch::{FirstReading, Watched, watch};
use crate::config::{Config, StockHook};
use crate::hooks::stock::{
    AclFile, AclRules, FaultyLines, HashWork, Live, Nonces, PasswordFile, PasswordTable, ScramFile, ScramTable, Stock,
    hash_queue,
};
use crate::threads;
use crate::time::Time;

/// The stock hooks of a configuration, and the threads that serve them: one that watches the files, and some that check
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
/// The files are watched until this value and every [`Reloader`] are dropped. Passwords are checked until the last copy
/// of the hooks is dropped.
#[derive(Debug)]
pub struct StockFiles {
    hooks: Stock,
    reloader: Reloader,
}

/// The reason why the stock hooks cannot be opened.
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
    /// A file cannot be read or has a line that is not valid, or the system has no thread or random numbers.
    pub fn open(config: &Config) -> Result<Self, StockError> {
        let mut files = Vec::new();
        let listeners =
            config.listeners.iter().map(|listener| (listener.name.as_str(), config.stock_hooks_of(listener)));
        let mut hooks = Stock::new(listeners);
        let (queue, work) = hash_queue(config.password_file.max_waiting, config.max_login_delay());
        let (password, scram) = (config.file_of(StockHook::Password), config.file_of(StockHook::Scram));
        let workers = if password.is_some() { config.password_file.threads } else { 0 };
        if password.or(scram).is_some() {
            start_hash_threads(work, workers).map_err(StockError::System)?;
        }
        if let Some(path) = password {
            let table = table("password_file.path", path, PasswordTable::parse, PasswordTable::len, &mut files)?;
            hooks = hooks.password(PasswordFile::new(table, queue.clone()));
        }
        if let Some(path) = config.file_of(StockHook::Acl) {
            hooks = hooks.acl(AclFile::new(table("acl_file.path", path, AclRules::parse, AclRules::len, &mut files)?));
        }
        if let Some(path) = scram {
            let secret = random()?;
            let parse = move |text: &str| ScramTable::parse(text, secret);
            let table = table("scram_file.path", path, parse, ScramTable::len, &mut files)?;
            hooks = hooks.scram(ScramFile::new(table, Nonces::new(random()?)).slowed_by(queue));
        }
        let reloader = watch(files, config.reload.interval).map_err(StockError::System)?;
        Ok(StockFiles { hooks, reloader })
    }

    /// What is wrong with the files that `config` names, each with its setting. Starts nothing.
    pub fn check(config: &Config) -> Vec<(&'static str, FileError)> {
        fn fault<T>(path: &str, parse: impl Fn(&str) -> Result<T, FaultyLines>) -> Option<FileError> {
            let first = FirstReading::of(Path::new(path));
            first.and_then(|first| parse(&first.text).map_err(|fault| first.fault(fault))).err()
        }
        let of = |hook| config.file_of(hook);
        let password = of(StockHook::Password).and_then(|path| fault(path, PasswordTable::parse));
        let acl = of(StockHook::Acl).and_then(|path| fault(path, AclRules::parse));
        let scram = of(StockHook::Scram).and_then(|path| fault(path, |text| ScramTable::parse(text, [0; 32])));
        let found = [("password_file.path", password), ("acl_file.path", acl), ("scram_file.path", scram)];
        found.into_iter().filter_map(|(setting, error)| Some((setting, error?))).collect()
    }

    /// The hooks, for a chain.
    pub fn hooks(&self) -> Stock {
        self.hooks.clone()
    }

    /// The handle that has the files read again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }
}

/// The table in the file at `path`, which `setting` names, read with `parse`. It is replaced whenever the file is read
/// again.
fn table<T: Send + Sync + 'static>(
    setting: &'static str,
    path: &str,
    parse: impl Fn(&str) -> Result<T, FaultyLines> + Send + 'static,
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

/// Starts the threads that check passwords, and one that says whose turn it is. They end when the last copy of the hooks is
/// dropped.
fn start_hash_threads(work: HashWork, threads: usize) -> io::Result<()> {
    for number in 0..threads {
        let worker = work.worker();
        threads::start(format!("moormq-hash-{number}"), || worker.run())?;
    }
    let start = Instant::now();
    let clock = move || Time::ZERO + start.elapsed();
    threads::start("moormq-logins", move || work.run(clock)).map(drop)
}

/// Secure random bytes.
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
