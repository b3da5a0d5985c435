//! The program: arguments, configuration, logs, the broker, and the wait for the signal to stop.

mod cli;
mod ctl;
mod hangup;
mod last_words;
mod logging;
mod passwd;
mod stop;
mod store;

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use moormq::Broker;
use moormq::broker::{Preflight, preflight};
use moormq::config::{Config, ConfigError, ConfigFile};
use moormq::control::stock_files::StockFiles;
use tikv_jemallocator::Jemalloc;

use cli::{Args, Command, RunArgs};
use hangup::Hangup;
use stop::StopSignals;

/// One that gives back what is not used any more: see `tuning.md`. Those who embed the library choose their own.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(Command::CheckConfig { file }) => match check(&file) {
            Ok(summary) => print(&summary),
            Err(error) => fail(error),
        },
        Some(Command::PrintConfig) => print(&Config::print_default()),
        Some(Command::Passwd(args)) => match passwd::run(&args) {
            Ok(done) => print(&done),
            Err(error) => fail(format_args!("moormq: {error}")),
        },
        Some(Command::Ctl(args)) => match ctl::run(args) {
            Ok(outcome) => match print(&outcome.text) {
                ExitCode::SUCCESS => ExitCode::from(outcome.code),
                failed => failed,
            },
            Err(error) => fail(format_args!("moormq: {error}")),
        },
        Some(Command::Store(args)) => match store::run(args) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(format_args!("moormq: {error}")),
        },
        None => match args.run.config() {
            Ok((config, notice)) => run(args.run, config, notice.as_deref()),
            Err(error) => fail(error),
        },
    }
}

/// Checks a configuration, and that this machine has what it names. Returns a summary of the broker that it describes.
fn check(file: &Path) -> Result<String, String> {
    let read = ConfigFile::load(file).map_err(|errors| errors.to_string())?;
    let Preflight { problems, notes } = preflight(&read.config);
    let lines = |errors: Vec<ConfigError>, what: &str| -> String {
        errors.into_iter().map(|error| format!("{what}{}\n", read.place(error))).collect()
    };
    let notes = lines(notes, "note: ");
    match problems.is_empty() {
        true => Ok(format!("{}: ok\n{}{notes}", file.display(), cli::summary(&read.config))),
        false => Err(format!("{}{notes}", lines(problems, "")).trim_end().to_owned()),
    }
}

/// Runs a broker until a signal stops it. `config` is what `args` make of it, `notice` is what is to be said first.
fn run(args: RunArgs, config: Config, notice: Option<&str>) -> ExitCode {
    let _log = match logging::init(&config.log) {
        Ok(log) => log,
        Err(error) => return fail(format_args!("moormq: no thread for the log: {error}")),
    };
    last_words::arm();
    notice.into_iter().for_each(logging::say);
    let (signals, hangup) = match StopSignals::arm().and_then(|signals| Ok((signals, Hangup::arm()?))) {
        Ok(signals) => signals,
        Err(error) => return fail(format_args!("moormq: cannot handle signals: {error}")),
    };
    let files = match StockFiles::open(&config) {
        Ok(files) => files,
        Err(error) => return fail(format_args!("moormq: {error}")),
    };
    if let Err(error) = hangup.pass_on(files.reloader(), args, config.clone()) {
        return fail(format_args!("moormq: cannot handle signals: {error}"));
    }
    for listener in config.listeners.iter().filter(|listener| !config.lets_anybody_in(listener)) {
        tracing::warn!(listener = listener.name, "{}", cli::NOBODY);
    }
    let broker = match Broker::builder().config(config).hook(files.hooks()).start() {
        Ok(broker) => broker,
        Err(error) => return fail(format_args!("moormq: {error}")),
    };
    for (listener, address) in broker.addresses() {
        tracing::info!(listener, %address, shards = broker.shards(), "listening");
    }
    let signal = signals.wait();
    tracing::info!(signal, "stopping");
    match broker.stop() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("moormq: a shard did not stop as it should have: {error}")),
    }
}

/// Writes to standard output. If the reader has closed it, the exit status says so, without a panic.
fn print(text: &str) -> ExitCode {
    match stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: impl std::fmt::Display) -> ExitCode {
    logging::say(&error.to_string());
    ExitCode::FAILURE
}
