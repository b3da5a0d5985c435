//! All settings of a configuration as a list: to compare two of them, and to find a setting by its name.

use std::collections::BTreeMap;

use super::kind::Kind;
use super::sections::Config;
use super::walk::{Member, Section, Walker};

/// The keys of all settings, in the order of the reference.
pub(super) fn keys(config: &Config) -> Vec<String> {
    List::of(config).values.into_iter().map(|(key, _)| key).collect()
}

/// The settings in which two configurations differ, in the order of the first.
pub(super) fn differences(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (List::of(one), List::of(other));
    let values: BTreeMap<&str, &str> = other.values.iter().map(|(key, value)| (&**key, &**value)).collect();
    let mut differing = Vec::new();
    for (key, value) in &one.values {
        match values.get(&**key) {
            Some(same) if same == value => {}
            Some(_) => differing.push(key.clone()),
            None => differing.extend(one.member_of(key)),
        }
    }
    let new = other.values.iter().filter(|(key, _)| one.member_of(key).is_none());
    differing.extend(new.filter_map(|(key, _)| other.member_of(key)));
    differing.dedup();
    differing
}

/// The settings of a configuration.
#[derive(Default)]
struct List {
    /// The section that is visited, with a dot behind it; empty at the root.
    path: String,
    /// Keys and values as TOML.
    values: Vec<(String, String)>,
    /// Members of sections, with a dot behind each.
    members: Vec<String>,
}

impl List {
    fn of(config: &Config) -> Self {
        let mut list = List::default();
        config.clone().walk(&mut list);
        list
    }

    /// The member that a setting belongs to, if it belongs to one.
    fn member_of(&self, key: &str) -> Option<String> {
        let member = self.members.iter().find(|member| key.starts_with(&***member))?;
        Some(member.trim_end_matches('.').to_owned())
    }

    fn below<S: Section>(&mut self, name: &str, section: &mut S) {
        let outer = self.path.len();
        self.path.push_str(name);
        self.path.push('.');
        section.walk(self);
        self.path.truncate(outer);
    }
}

impl Walker for List {
    fn setting<K: Kind>(&mut self, name: &'static str, _: &[&str], kind: &K, value: &mut K::Value) {
        self.values.push((format!("{}{name}", self.path), kind.write(value)));
    }

    fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) {
        self.below(name, section);
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) {
        for member in members {
            let name = member.name().to_owned();
            self.members.push(format!("{}{name}.", self.path));
            self.below(&name, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text, "test").expect("the test writes what is valid")
    }

    #[test]
    fn differences_are_named_by_key_and_members_by_name() {
        let (a, b) = ("[listeners.a]\naddress = '127.0.0.1:1'\n", "[listeners.b]\naddress = '127.0.0.1:2'\n");
        let both = config(&format!("shards = 2\n{a}{b}[hooks.on_publish]\non_deadline = 'allow'\n"));
        assert_eq!(both.differences(&both), Vec::<String>::new());
        let other = config(&format!(
            "log.filter = 'warn'\nqueue.max_queue_bytes = '1MiB'\n{a}mountpoint = 'm'\n[listeners.ab]\naddress = '127.0.0.1:3'\n"
        ));
        assert_eq!(
            both.differences(&other),
            [
                "shards",
                "log.filter",
                "listeners.a.mountpoint",
                "listeners.b",
                "queue.max_queue_bytes",
                "hooks.on_publish",
                "listeners.ab"
            ]
        );
        assert_eq!(
            Config::default().differences(&config("allow_anonymous = false\nsys.interval = '20s'")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_setting_has_its_key() {
        let keys = keys(&Config::default());
        for key in ["shards", "listeners.default.address", "limits.max_packet_size", "runtime.spin"] {
            assert!(keys.iter().any(|one| one == key), "{key}");
        }
    }
}
