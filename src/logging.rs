//! Logs: lines on standard error, for systemd or the container that runs the broker.

use std::io::{IsTerminal, stderr};

use moormq::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Sends the log of all threads to standard error from now on. Call it once.
pub fn init(config: &LogConfig) {
    let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&config.filter)).with_writer(stderr);
    match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
