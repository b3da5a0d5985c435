//! Configuration: plain values with names, units, limits and defaults.
//!
//! Owns what can be set, how it is written in a TOML file, and what makes sense. A [`Config`] that was read from a file
//! or passed [`Config::check`] is within all limits; the rest of the broker does not check again. Knows nothing of
//! sockets, cores or protocols beyond their names, and resolves nothing: "one shard per core" stays just that until the
//! broker starts.

mod check;
mod error;
mod kinds;
mod limits;
mod numbers;
mod operating;
mod parse;
mod print;
mod sections;
mod stock;
mod values;
mod walk;

use std::path::Path;
use std::time::Duration;

pub use error::ConfigError;
pub use limits::{LimitsConfig, QueueConfig, RetainedConfig, RuntimeConfig, SharedConfig, SysConfig};
pub use operating::{ControlConfig, RebalanceConfig};
pub use sections::{Config, HOOKS, HookConfig, HookDeadline, ListenerConfig, LogConfig, SessionConfig};
pub use stock::{AclFileConfig, PasswordFileConfig, ReloadConfig, ScramFileConfig};
pub use values::{
    CpuSet, Limit, LogFormat, OnDeadline, Protocol, QueueType, SessionsFull, SharedPolicy, StockHook,
    UnauthorizedPublish,
};

impl Config {
    /// What the broker runs with when nobody configured anything: the defaults, and whoever is on this machine may
    /// connect to 127.0.0.1:1883.
    pub fn quick_start() -> Self {
        Config { allow_anonymous: true, ..Config::default() }
    }

    /// Reads TOML text; `file_name` is what errors call it. Settings that are not mentioned have their default.
    ///
    /// Fails at the first key that is unknown, of the wrong kind, out of bounds, or in conflict with another.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        parse::read(text, &mut config)
            .and_then(|lines| {
                check::combinations(&config).map_err(|error| {
                    let line = lines.of(&error.key);
                    error.on_line(line)
                })
            })
            .map_err(|error| error.in_file(file_name))?;
        Ok(config)
    }

    /// Reads the file at `path`, as [`Config::from_toml`] does. Fails also if there is no such file, or no permission.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new("", format!("cannot be read: {error}")).in_file(&name))?;
        Config::from_toml(&text, &name)
    }

    /// Checks a configuration that was built or changed in code: the same bounds and combinations as for a file.
    pub fn check(&self) -> Result<(), ConfigError> {
        check::bounds(self)?;
        check::combinations(self)
    }

    /// The defaults as a TOML file, each with its text; [`Config::from_toml`] makes [`Config::default`] of it.
    pub fn print_default() -> String {
        print::print("The configuration of moormq: every setting, at its default.", &mut Config::default())
    }

    /// Whether `listener` lets in clients that no hook could validate.
    pub fn allows_anonymous(&self, listener: &ListenerConfig) -> bool {
        listener.allow_anonymous.unwrap_or(self.allow_anonymous)
    }

    /// The limits that hold for clients of `listener`.
    pub fn limits_of(&self, listener: &ListenerConfig) -> LimitsConfig {
        let limits = &self.limits;
        LimitsConfig {
            connect_timeout: listener.connect_timeout.unwrap_or(limits.connect_timeout),
            max_packet_size: listener.max_packet_size.unwrap_or(limits.max_packet_size),
            receive_maximum: listener.receive_maximum.unwrap_or(limits.receive_maximum),
            topic_alias_maximum: listener.topic_alias_maximum.unwrap_or(limits.topic_alias_maximum),
            max_message_rate: listener.max_message_rate.unwrap_or(limits.max_message_rate),
            connection_rate: listener.connection_rate.unwrap_or(limits.connection_rate),
            ..limits.clone()
        }
    }

    /// How long a connection to `listener` may live; none is for ever.
    pub fn max_connection_lifetime_of(&self, listener: &ListenerConfig) -> Option<Duration> {
        listener.max_connection_lifetime.or(self.session.max_connection_lifetime)
    }
}

impl HookConfig {
    /// How long the hook called `name` may take to answer, and what it counts as if it takes longer.
    pub fn deadline_of(&self, name: &str) -> (Duration, OnDeadline) {
        let own = self.each.iter().find(|hook| hook.name == name);
        (
            own.and_then(|hook| hook.later_deadline).unwrap_or(self.later_deadline),
            own.and_then(|hook| hook.on_deadline).unwrap_or(self.on_deadline),
        )
    }
}
