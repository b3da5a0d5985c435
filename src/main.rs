//! The program: arguments, configuration, logs, broker, and a wait for the signal to stop.

mod cli;
mod logging;
mod stop;

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use moormq::Broker;
use moormq::config::Config;

use cli::{Args, Command};
use stop::StopSignals;

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Some(Command::CheckConfig { file }) => match Config::load(&file) {
            Ok(config) => print(&format!("{}: ok\n{}", file.display(), cli::summary(&config))),
            Err(error) => fail(error),
        },
        Some(Command::PrintConfig) => print(&Config::print_default()),
        None => match args.run.config() {
            Ok(config) => run(config),
            Err(error) => fail(error),
        },
    }
}

/// Runs a broker until it is told to stop.
fn run(config: Config) -> ExitCode {
    logging::init(&config.log);
    let signals = match StopSignals::arm() {
        Ok(signals) => signals,
        Err(error) => return fail(format_args!("moormq: cannot handle signals: {error}")),
    };
    let broker = match Broker::builder().config(config).start() {
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

/// Writes to standard output. A reader that has left is not worth a panic.
fn print(text: &str) -> ExitCode {
    match stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}
