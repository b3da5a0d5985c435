//! Configuration: plain values with names, units, limits and defaults.
//!
//! Owns what can be set, how it is written in a TOML file, and what makes sense. A [`Config`] that was read from a file
//! or passed [`Config::check`] is within all limits; the rest of the broker does not check again. Knows nothing of
//! sockets, cores or protocols beyond their names, and resolves nothing: "one shard per core" stays just that until the
//! broker starts.

mod check;
mod effective;
mod error;
mod foreign;
mod kind;
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
    /// What the broker runs with when nobody configured anything: the defaults, and any client on this
    /// machine may connect to 127.0.0.1:1883.
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
}
