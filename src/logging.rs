//! Logs: lines on standard error. Whoever runs the broker (systemd, a container) takes them from there.

use std::io::{IsTerminal, stderr};

use moormq::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

/// Sends everything logged from now on, in all threads, to standard error. To be called once.
pub fn init(config: &LogConfig) {
    let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&config.filter)).with_writer(stderr);
    match config.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
