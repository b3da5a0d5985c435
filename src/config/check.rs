//! Checks of a configuration as a whole, wherever it came from: each value within its bounds, and no combination that
//! cannot work.

use super::error::ConfigError;
use super::kind::Kind;
use super::sections::{Config, ListenerConfig};
use super::walk::{Member, Section, Walker};

/// Checks each value by itself.
pub(super) fn bounds(config: &Config) -> Result<(), ConfigError> {
    config.clone().walk(&mut Checker { path: String::new() })
}

/// Checks the values against each other. They are within their bounds.
pub(super) fn combinations(config: &Config) -> Result<(), ConfigError> {
    if let (Some(shards), Some(cpus)) = (config.shards, &config.cpus)
        && shards > cpus.cores().len()
    {
        let cores = cpus.cores().len();
        let problem = format!("must be at most {cores}, the number of cores in cpus, not {shards}");
        return Err(ConfigError::new("shards", problem));
    }
    let retained = &config.retained;
    if let (Some(message), Some(total)) = (retained.max_message_bytes.get(), retained.max_total_bytes.get())
        && message > total
    {
        return Err(ConfigError::new("retained.max_message_bytes", "must not be more than retained.max_total_bytes"));
    }
    if config.listeners.is_empty() {
        return Err(ConfigError::new("listeners", "must have at least one table [listeners.NAME] with an address"));
    }
    config.listeners.iter().enumerate().try_for_each(|(at, listener)| {
        one_of_its_kind(listener, &config.listeners[..at])?;
        connections(listener, config)?;
        hooks(listener, config)?;
        openness(listener, config)
    })
}

/// Every shard listens on the address of every listener, and the kernel lets sockets of one process share an address:
/// of two listeners with one address each would get the clients of the other without a word.
fn one_of_its_kind(listener: &ListenerConfig, earlier: &[ListenerConfig]) -> Result<(), ConfigError> {
    let ListenerConfig { name, address, .. } = listener;
    if name.is_empty() {
        return Err(ConfigError::new("listeners", "must each have a name that is not empty"));
    }
    if earlier.iter().any(|other| other.name == *name) {
        return Err(ConfigError::new(format!("listeners.{name}"), "must have a name that no other listener has"));
    }
    match earlier.iter().find(|other| other.address == *address && address.port() != 0) {
        Some(other) => Err(ConfigError::new(
            format!("listeners.{name}.address"),
            format!("must differ from that of [listeners.{}], which is {address} too", other.name),
        )),
        None => Ok(()),
    }
}

fn connections(listener: &ListenerConfig, config: &Config) -> Result<(), ConfigError> {
    match (listener.max_connections.get(), config.limits.max_connections) {
        (Some(own), Some(all)) if own > all => Err(ConfigError::new(
            format!("listeners.{}.max_connections", listener.name),
            format!("must be at most limits.max_connections, which is {all}, not {own}"),
        )),
        _ => Ok(()),
    }
}

/// A hook without its file would let everybody pass, or nobody.
fn hooks(listener: &ListenerConfig, config: &Config) -> Result<(), ConfigError> {
    let named = listener.hooks.as_deref().unwrap_or_default();
    match named.iter().find(|hook| config.file_of(**hook).is_none()) {
        Some(hook) => Err(ConfigError::new(
            format!("listeners.{}.hooks", listener.name),
            format!("names \"{hook}\", which needs a file: set {hook}_file.path"),
        )),
        None => Ok(()),
    }
}

/// Nobody opens a broker to a network by accident: where strangers can reach it, letting them in has to be asked for at
/// that very listener.
fn openness(listener: &ListenerConfig, config: &Config) -> Result<(), ConfigError> {
    let ListenerConfig { name, address, .. } = listener;
    if address.ip().to_canonical().is_loopback() || listener.allow_anonymous.is_some() || !config.allow_anonymous {
        return Ok(());
    }
    let problem = format!(
        "{address} can be reached from other machines while anonymous clients are allowed: if that is meant, \
         write allow_anonymous = true under [listeners.{name}] in a configuration file, else false"
    );
    Err(ConfigError::new(format!("listeners.{name}.address"), problem))
}

struct Checker {
    /// The key of the section with a dot behind it; empty at the root.
    path: String,
}

impl Checker {
    fn below<S: Section>(&self, name: &str, section: &mut S) -> Result<(), ConfigError> {
        section.walk(&mut Checker { path: format!("{}{name}.", self.path) })
    }
}

impl Walker for Checker {
    type Error = ConfigError;

    fn setting<K: Kind>(
        &mut self,
        name: &'static str,
        _: &[&str],
        kind: &K,
        value: &mut K::Value,
    ) -> Result<(), ConfigError> {
        if kind.allows(value) {
            return Ok(());
        }
        let problem = format!("must be {}, not {}", kind.expected(), kind.write(value));
        Err(ConfigError::new(format!("{}{name}", self.path), problem))
    }

    fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) -> Result<(), ConfigError> {
        self.below(name, section)
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) -> Result<(), ConfigError> {
        members.iter_mut().try_for_each(|member| {
            let name = member.name().to_owned();
            if !M::NAMES.is_empty() && !M::NAMES.contains(&name.as_str()) {
                let problem = format!("must be named after a hook, such as {}", M::NAMES[0]);
                return Err(ConfigError::new(format!("{}{name}", self.path), problem));
            }
            self.below(&name, member)
        })
    }
}
