//! The command line, and the configuration that follows from it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use moormq::config::{Config, ConfigError, ConfigErrors, CpuSet, ListenerConfig, parse_address};
use moormq::net::memory::max_memory;

use crate::ctl::CtlArgs;
use crate::passwd::PasswdArgs;
use crate::store::StoreArgs;

/// An MQTT 3.1, 3.1.1 and 5.0 broker. Without a configuration it listens on 127.0.0.1:1883 and lets everybody on this
/// machine in.
#[derive(Parser)]
#[command(name = "moormq", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The arguments for running a broker.
#[derive(Clone, clap::Args)]
pub struct RunArgs {
    /// The configuration file; `moormq print-config` writes one to start from
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the default listener listens, instead of 127.0.0.1:1883
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// How many shards to run, instead of one per core
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Keep sessions, what waits for them and retained messages in this directory, so that they survive a restart; it is made if it is not
    /// there
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The cores to run on, such as 0-3,6, instead of all that the process may use
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuSet>,
}

/// The other commands of the program.
#[derive(Subcommand)]
pub enum Command {
    /// Check a configuration file and what it names on this machine: files, folders, cores, ports. Say what a broker would do with
    /// it
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    /// Print every setting with its default, as a configuration file
    PrintConfig,
    /// Add a user to a password file, change the password of one, or remove one. Asks for the password, or takes the
    /// first line of standard input if that is not a terminal
    Passwd(PasswdArgs),
    /// Ask a running broker how its shards and hooks are doing, and move clients between its shards
    Ctl(CtlArgs),
    /// Look at what a broker has on disk, while it does not run
    Store(StoreArgs),
}

impl RunArgs {
    /// The configuration of the file, overridden by the arguments. Without a file, the quick-start configuration, and a
    /// line that says so.
    pub fn config(&self) -> Result<(Config, Option<String>), ConfigErrors> {
        let config = self.overridden()?;
        let notice = self.config.is_none().then(|| {
            let address = config.listeners[0].address;
            format!("moormq: no configuration: listening on {address} only, anonymous clients are allowed")
        });
        Ok((config, notice))
    }

    /// The same, without the line.
    pub fn overridden(&self) -> Result<Config, ConfigErrors> {
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::quick_start(),
        };
        if let Some(address) = self.listen {
            self.default_listener(&mut config)?.address = address;
        }
        config.shards = self.shards.or(config.shards);
        config.cpus = self.cpus.clone().or(config.cpus);
        config.storage.path = self.data.clone().or(config.storage.path);
        config.check().map_err(of_command_line)?;
        Ok(config)
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The listener whose address `--listen` sets.
    fn default_listener<'a>(&self, config: &'a mut Config) -> Result<&'a mut ListenerConfig, ConfigErrors> {
        config.listeners.iter_mut().find(|listener| listener.name == "default").ok_or_else(|| {
            let problem = "moves [listeners.default], which the file does not have: set the address in the file";
            of_command_line(ConfigError::new("--listen", problem).into())
        })
    }
}

/// The error as one of the command line. The file was valid, so an error after it comes from the arguments.
fn of_command_line(errors: ConfigErrors) -> ConfigErrors {
    errors.in_file("command line")
}

/// The warning for a listener that refuses every client, which is hardly intended.
pub const NOBODY: &str =
    "every client is refused: set allow_anonymous = true, or the path of a password_file or scram_file";

/// A summary of a broker with this configuration, in a few lines.
pub fn summary(config: &Config) -> String {
    let mut lines = String::new();
    for listener in &config.listeners {
        let protocols: Vec<String> = listener.protocols.iter().map(|protocol| protocol.to_string()).collect();
        let (name, address, protocols) = (&listener.name, listener.address, protocols.join(", "));
        let whom = match (config.lets_anybody_in(listener), config.allows_anonymous(listener)) {
            (false, _) => NOBODY,
            (true, true) => "anonymous clients are allowed",
            (true, false) => "anonymous clients are refused",
        };
        // Writing to a string does not fail.
        let _ = writeln!(lines, "listens on {address} ({name}): MQTT {protocols}; {whom}");
    }
    let shards = match config.shards {
        None => "one shard per core".to_owned(),
        Some(1) => "one shard".to_owned(),
        Some(shards) => format!("{shards} shards"),
    };
    let cores = config.cpus.as_ref().map_or("all cores it may use".to_owned(), |cpus| format!("cores {cpus}"));
    let _ = writeln!(lines, "runs {shards} on {cores}");
    let memory = match (config.limits.max_memory, max_memory(&config.limits).get()) {
        (_, None) => "any amount of memory".to_owned(),
        (Some(_), Some(most)) => format!("at most {} MiB of memory", most >> 20),
        (None, Some(most)) => format!("at most {} MiB of memory (auto: 70 % of what there is)", most >> 20),
    };
    let _ = writeln!(lines, "holds {memory}");
    match &config.storage.path {
        None => lines.push_str("keeps sessions and retained messages in memory alone: a restart forgets them\n"),
        Some(path) => {
            let storage = &config.storage;
            let mib = (storage.segments as usize * storage.segment_size) >> 20;
            let _ = writeln!(
                lines,
                "keeps sessions and retained messages in {path}, {}: {mib} MiB on disk for each shard",
                storage.durability
            );
        }
    }
    if let Some(socket) = &config.control.socket {
        let _ = writeln!(lines, "answers `moormq ctl --socket {socket}`");
    }
    let _ = writeln!(lines, "logs {} as {}", config.log.filter, config.log.format);
    lines
}
