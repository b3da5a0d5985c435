//! Checks of a configuration as a whole, wherever it came from: each value within its bounds, and no combination that
//! cannot work.

use super::error::ConfigError;
use super::kind::Kind;
use super::sections::{Config, ListenerConfig};
use super::values::Limit;
use super::walk::{Member, Section, Walker};

/// The largest packet that can be stored, in bytes.
const LARGEST_STORED: usize = 32 << 20;

/// What is wrong with each value by itself.
pub(super) fn bounds(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    config.clone().walk(&mut Checker { path: String::new(), errors: &mut errors });
    errors
}

/// What is wrong with the values against each other. What is said in `known` about one of them is not said again, and says
/// nothing about the others: its value is not what was meant.
pub(super) fn combinations(config: &Config, known: &[ConfigError]) -> Vec<ConfigError> {
    let mut combinations = Combinations { config, known, errors: Vec::new() };
    combinations.shards();
    combinations.storage();
    combinations.retained();
    combinations.listeners();
    combinations.errors
}

struct Combinations<'a> {
    config: &'a Config,
    known: &'a [ConfigError],
    errors: Vec<ConfigError>,
}

impl Combinations<'_> {
    /// Whether nothing is wrong with these settings, nor with the section that one of them is in.
    fn are_fine(&self, keys: &[&str]) -> bool {
        let concerns = |faulty: &str, key: &str| {
            key.strip_prefix(faulty).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !self.known.iter().any(|error| keys.iter().any(|key| concerns(&error.key, key)))
    }

    fn error(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(ConfigError::new(key, problem));
    }

    fn shards(&mut self) {
        if let (Some(shards), Some(cpus)) = (self.config.shards, &self.config.cpus)
            && shards > cpus.cores().len()
            && self.are_fine(&["shards", "cpus"])
        {
            let cores = cpus.cores().len();
            self.error("shards", format!("must be at most {cores}, the number of cores in cpus, not {shards}"));
        }
    }

    fn storage(&mut self) {
        let (storage, largest) = (&self.config.storage, self.config.largest_packet());
        if storage.path.is_none() {
            return;
        }
        let most = LARGEST_STORED.min(storage.segment_size / 2);
        if largest > most && self.are_fine(&["storage.path", "storage.segment_size", "limits.max_packet_size"]) {
            let most = most >> 20;
            let problem = format!(
                "must be at most {most} MiB with storage.path and this storage.segment_size, also of listeners"
            );
            self.error("limits.max_packet_size", problem);
        }
        let cache = storage.archive.cache_size;
        if let Some(memory) = self.config.limits.max_memory.and_then(Limit::get)
            && storage.archive.enabled
            && cache > memory / 2
            && self.are_fine(&["storage.path", "storage.archive.cache_size", "limits.max_memory"])
        {
            let problem = format!("must be at most half of limits.max_memory, {} MiB", memory >> 21);
            self.error("storage.archive.cache_size", problem);
        }
    }

    fn retained(&mut self) {
        let retained = &self.config.retained;
        if let (Some(message), Some(total)) = (retained.max_message_bytes.get(), retained.max_total_bytes.get())
            && message > total
            && self.are_fine(&["retained.max_message_bytes", "retained.max_total_bytes"])
        {
            self.error("retained.max_message_bytes", "must not be more than retained.max_total_bytes");
        }
    }

    fn listeners(&mut self) {
        let config = self.config;
        if config.listeners.is_empty() && self.are_fine(&["listeners"]) {
            self.error("listeners", "must have at least one table [listeners.NAME] with an address");
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            self.one_of_its_kind(listener, &config.listeners[..at]);
            self.connections(listener);
            self.hooks(listener);
            self.openness(listener);
        }
    }

    /// Every shard listens on the address of every listener, and the kernel lets sockets of one process share an address:
    /// of two listeners with one address each would get the clients of the other without a word.
    fn one_of_its_kind(&mut self, listener: &ListenerConfig, earlier: &[ListenerConfig]) {
        let ListenerConfig { name, address, .. } = listener;
        if name.is_empty() {
            return self.error("listeners", "must each have a name that is not empty");
        }
        if earlier.iter().any(|other| other.name == *name) {
            return self.error(format!("listeners.{name}"), "must have a name that no other listener has");
        }
        let key = format!("listeners.{name}.address");
        if let Some(other) = earlier.iter().find(|other| other.address == *address && address.port() != 0)
            && self.are_fine(&[&key, &format!("listeners.{}.address", other.name)])
        {
            self.error(key, format!("must differ from that of [listeners.{}], which is {address} too", other.name));
        }
    }

    fn connections(&mut self, listener: &ListenerConfig) {
        let key = format!("listeners.{}.max_connections", listener.name);
        if let (Some(own), Some(all)) = (listener.max_connections.get(), self.config.limits.max_connections)
            && own > all
            && self.are_fine(&[&key, "limits.max_connections"])
        {
            self.error(key, format!("must be at most limits.max_connections, which is {all}, not {own}"));
        }
    }

    /// A hook without its file would let everybody pass, or nobody.
    fn hooks(&mut self, listener: &ListenerConfig) {
        for hook in listener.hooks.iter().flatten().filter(|hook| self.config.file_of(**hook).is_none()) {
            let key = format!("listeners.{}.hooks", listener.name);
            if self.are_fine(&[&key, &format!("{hook}_file.path")]) {
                self.errors
                    .push(ConfigError::new(key, format!("names \"{hook}\", which needs a file: set {hook}_file.path")));
            }
        }
    }

    /// Nobody opens a broker to a network by accident: where strangers can reach it, letting them in has to be asked for at
    /// that very listener.
    fn openness(&mut self, listener: &ListenerConfig) {
        let ListenerConfig { name, address, .. } = listener;
        let (key, own) = (format!("listeners.{name}.address"), format!("listeners.{name}.allow_anonymous"));
        if address.ip().to_canonical().is_loopback()
            || listener.allow_anonymous.is_some()
            || !self.config.allow_anonymous
            || !self.are_fine(&[&key, &own, "allow_anonymous"])
        {
            return;
        }
        let problem = format!(
            "{address} can be reached from other machines while anonymous clients are allowed: if that is meant, \
             write allow_anonymous = true under [listeners.{name}] in a configuration file, else false"
        );
        self.error(key, problem);
    }
}

struct Checker<'a> {
    /// The key of the section with a dot behind it; empty at the root.
    path: String,
    errors: &'a mut Vec<ConfigError>,
}

impl Checker<'_> {
    fn below<S: Section>(&mut self, name: &str, section: &mut S) {
        section.walk(&mut Checker { path: format!("{}{name}.", self.path), errors: self.errors });
    }
}

impl Walker for Checker<'_> {
    fn setting<K: Kind>(&mut self, name: &'static str, _: &[&str], kind: &K, value: &mut K::Value) {
        if !kind.allows(value) {
            let problem = format!("must be {}, not {}", kind.expected(), kind.write(value));
            self.errors.push(ConfigError::new(format!("{}{name}", self.path), problem));
        }
    }

    fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) {
        self.below(name, section);
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) {
        for member in members {
            let name = member.name().to_owned();
            if !M::NAMES.is_empty() && !M::NAMES.contains(&name.as_str()) {
                let problem = format!("must be named after a hook, such as {}", M::NAMES[0]);
                self.errors.push(ConfigError::new(format!("{}{name}", self.path), problem));
                continue;
            }
            self.below(&name, member);
        }
    }
}
