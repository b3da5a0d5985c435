//! Configuration: plain values with names, units, limits and defaults.
//!
//! Owns what can be set, how it is written in a TOML file, and what makes sense. A [`Config`] that was read from a file
//! or passed [`Config::check`] is within all limits; the rest of the broker does not check again. Knows nothing of
//! sockets, cores or protocols beyond their names. "One shard per core" stays just that until the broker starts; only names of
//! hosts are looked up when they are read.

mod check;
mod effective;
mod error;
mod filters;
mod foreign;
mod host;
mod kind;
mod kinds;
mod limits;
mod list;
mod numbers;
mod operating;
mod parse;
mod print;
mod sections;
mod stock;
mod storage;
mod values;
mod walk;

use std::path::Path;

use parse::Parsed;

pub use error::{ConfigError, ConfigErrors};
#[doc(hidden)]
pub use host::address as parse_address;
pub use limits::{LimitsConfig, QueueConfig, RetainedConfig, RuntimeConfig, SharedConfig, SysConfig};
pub use operating::{ControlConfig, RebalanceConfig};
#[doc(hidden)]
pub use sections::HOOKS;
pub use sections::{Config, HookConfig, HookDeadline, ListenerConfig, LogConfig, SessionConfig};
pub use stock::{AclFileConfig, PasswordFileConfig, ReloadConfig, ScramFileConfig};
pub use storage::{ArchiveConfig, StorageConfig};
pub use values::{
    CpuSet, Limit, LogFormat, OnDeadline, Protocol, QueueType, SessionsFull, SharedPolicy, StockHook, StoredDurability,
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
    /// # Errors
    ///
    /// Everything that is wrong with it: keys that are unknown, of the wrong kind, out of bounds, or in conflict with one
    /// another.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
        ConfigFile::from_toml(text, file_name).map(|file| file.config)
    }

    /// Reads the file at `path`, as [`Config::from_toml`] does.
    ///
    /// # Errors
    ///
    /// As there; or there is no such file, or no permission.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigErrors> {
        ConfigFile::load(path).map(|file| file.config)
    }

    /// Checks a configuration that was built or changed in code: the same bounds and combinations as for a file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = check::bounds(self);
        errors.extend(check::combinations(self, &errors));
        ConfigErrors::of(errors)
    }

    /// The settings that have another value in `other`, with their sections; of a listener or hook that only one of the two
    /// has, its name alone.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        list::differences(self, other)
    }

    /// The defaults as a TOML file, each with its text; [`Config::from_toml`] makes [`Config::default`] of it.
    pub fn print_default() -> String {
        print::print("The configuration of moormq: every setting, at its default.", &mut Config::default())
    }
}

/// A configuration that was read from a file, and where that mentions what.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// The configuration.
    pub config: Config,
    name: String,
    lines: parse::Lines,
}

impl ConfigFile {
    /// As [`Config::from_toml`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_toml(text: &str, file_name: &str) -> Result<ConfigFile, ConfigErrors> {
        let mut config = Config::default();
        let Parsed { lines, mut errors, is_toml } = parse::read(text, &mut config, &list::keys(&Config::default()));
        if is_toml {
            let combinations = check::combinations(&config, &errors).into_iter();
            errors.extend(combinations.map(|error| {
                let line = lines.of(&error.key);
                error.on_line(line)
            }));
        }
        ConfigErrors::of(errors).map_err(|errors| errors.in_file(file_name))?;
        Ok(ConfigFile { config, name: file_name.to_owned(), lines })
    }

    /// As [`Config::load`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load(path: impl AsRef<Path>) -> Result<ConfigFile, ConfigErrors> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |error: ConfigError| ConfigErrors::from(error.in_file(&name));
        let bytes =
            std::fs::read(path).map_err(|error| failed(ConfigError::new("", format!("cannot be read: {error}"))))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            failed(ConfigError::new("", "not valid UTF-8").on_line(Some(line)))
        })?;
        ConfigFile::from_toml(&text, &name)
    }

    /// The error, found in this file: on the line of its key, if that is mentioned.
    pub fn place(&self, error: ConfigError) -> ConfigError {
        let line = self.lines.of(&error.key);
        error.on_line(line).in_file(&self.name)
    }
}
