//! The program: arguments, configuration, logs, broker, and a wait for the signal to stop.

mod cli;
mod logging;
mod stop;

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
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
    match start(config) {
        Ok(()) => {
            let signal = signals.wait();
            tracing::info!(signal, "stopping");
            ExitCode::SUCCESS
        }
        Err(error) => fail(format_args!("moormq: {error}")),
    }
}

/// Starts the broker.
fn start(_: Config) -> Result<(), String> {
    Err("the configuration is ok, but the broker is not built yet".to_owned())
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
