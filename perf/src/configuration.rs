//! What brokers are configured with.

use crate::scenario::{Limits, Storage};

/// moormq, listening on `port`.
pub fn moormq(port: u16, limits: Limits) -> String {
    let limits = match limits {
        Limits::Default => "",
        Limits::Lifted => {
            r#"
[limits]
receive_maximum = 65535
max_inflight_messages = 65535

[queue]
max_online_messages = "unlimited"
max_offline_messages = "unlimited"
max_queue_bytes = "unlimited"
max_waiting_output_bytes = "1GiB"
"#
        }
    };
    format!(
        r#"allow_anonymous = true

[log]
filter = "error"

[listeners.default]
address = "127.0.0.1:{port}"
{limits}
[sys]
interval = "0s"
"#
    )
}

/// moormq without a command line: so many shards, on the cores that the process may use, and a store at `path`.
pub fn embedded(port: u16, limits: Limits, shards: usize, storage: Storage, path: &str) -> String {
    let storage = match storage {
        Storage::Memory => String::new(),
        Storage::Flushed => format!("\n[storage]\npath = \"{path}\"\ndurability = \"flushed\"\n"),
        Storage::Fsynced => format!("\n[storage]\npath = \"{path}\"\n"),
    };
    format!("shards = {shards}\n{}{storage}", moormq(port, limits))
}

/// Mosquitto, listening on `port`, which saves all that it has to `path` every so many seconds.
pub fn saving_mosquitto(port: u16, limits: Limits, path: &str, seconds: u32) -> String {
    // As root it would be another user, who may not write there.
    let saves = format!("user root\npersistence true\npersistence_location {path}/\nautosave_interval {seconds}\n");
    mosquitto(port, limits).replace("persistence false\n", &saves)
}

/// Mosquitto, listening on `port`.
pub fn mosquitto(port: u16, limits: Limits) -> String {
    let limits = match limits {
        Limits::Default => "",
        Limits::Lifted => {
            "max_inflight_messages 0
max_inflight_bytes 0
max_queued_messages 0
max_queued_bytes 0
"
        }
    };
    format!(
        "listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type none
sys_interval 0
set_tcp_nodelay true
{limits}"
    )
}

#[cfg(test)]
mod tests {
    use moormq::config::Config;

    use super::*;

    #[test]
    fn moormq_accepts_its_configuration() {
        let config = Config::from_toml(&embedded(1883, Limits::Lifted, 2, Storage::Flushed, "/s"), "test").unwrap();
        assert!(config.allow_anonymous && config.queue.max_online_messages.allows(usize::MAX));
        assert_eq!((config.shards, config.cpus), (Some(2), None));
        assert_eq!(config.storage.path.as_deref(), Some("/s"));
        let config = Config::from_toml(&moormq(1883, Limits::Default), "test").unwrap();
        assert_eq!(config.queue, Config::default().queue);
    }
}
