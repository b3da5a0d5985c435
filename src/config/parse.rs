//! From TOML text to a configuration: every key is known, of the right kind and within bounds, or the error says where
//! and why not.

use std::cell::RefCell;
use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::foreign;
use super::kind::Kind;
use super::walk::{Member, Section, Walker};

/// Where a file mentions which key; keys with their sections, lines from 1.
#[derive(Default)]
pub(super) struct Lines(HashMap<String, usize>);

impl Lines {
    /// The line of `key`; if the file leaves it out, that of the section it belongs to.
    pub(super) fn of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return Some(*line);
            }
            key = key.rsplit_once('.')?.0;
        }
    }
}

/// Reads `text` over what `section` holds.
pub(super) fn read<S: Section>(text: &str, section: &mut S) -> Result<Lines, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| {
        if let Some((problem, line)) = foreign::hint(text) {
            return ConfigError::new("", problem).on_line(Some(line));
        }
        let line = error.span().map(|span| line_at(text, span.start));
        ConfigError::new("", format!("not valid TOML: {}", error.message())).on_line(line)
    })?;
    let lines = RefCell::new(Lines::default());
    Reader { text, lines: &lines, path: String::new(), table: document.get_ref(), known: Vec::new(), named: false }
        .read(section)?;
    Ok(lines.into_inner())
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// One table of the file.
struct Reader<'a> {
    text: &'a str,
    lines: &'a RefCell<Lines>,
    /// The key of the table with a dot behind it; empty for the whole file.
    path: String,
    table: &'a DeTable<'a>,
    /// The keys that have been asked for.
    known: Vec<&'static str>,
    /// Whether the other keys were taken as names of members.
    named: bool,
}

impl<'a> Reader<'a> {
    /// Reads the table as `section`, and nothing may be left.
    fn read<S: Section>(mut self, section: &mut S) -> Result<(), ConfigError> {
        section.walk(&mut self)?;
        match self.table.keys().find(|key| !self.known.contains(&key.get_ref().as_ref())) {
            Some(key) if !self.named => Err(self.unknown(key.get_ref(), key.span().start, &self.known)),
            _ => Ok(()),
        }
    }

    /// The key `name` of this table and its value, its line noted; none if the file leaves it out.
    fn take(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let (key, value) = self.table.get_key_value(name)?;
        let line = line_at(self.text, key.span().start);
        self.lines.borrow_mut().0.insert(self.key(name), line);
        Some(value)
    }

    /// The name of a key from the root on.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Reads `value` as the table called `name`.
    fn table<S: Section>(
        &self,
        name: &str,
        value: &'a Spanned<DeValue<'a>>,
        section: &mut S,
    ) -> Result<(), ConfigError> {
        let path = self.key(name);
        match value.get_ref() {
            DeValue::Table(table) => {
                Reader { path: path + ".", table, known: Vec::new(), named: false, ..*self }.read(section)
            }
            _ if S::MEMBERS_ONLY => Err(self.not(name, value, &format!("tables, written [{path}.NAME]"))),
            _ => Err(self.not(name, value, &format!("a table, written [{path}]"))),
        }
    }

    /// The error that the value of `name` is something else than expected.
    fn not(&self, name: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> ConfigError {
        let found = match (value.get_ref(), self.text.get(value.span()).unwrap_or_default()) {
            (DeValue::Table(_), _) => "a table",
            (_, source) if source.contains('\n') || source.len() > 60 => match value.get_ref() {
                DeValue::Array(_) => "that list",
                _ => "that text",
            },
            (_, source) => source,
        };
        let key = self.key(name);
        let line = self.lines.borrow().of(&key);
        ConfigError::new(key, format!("must be {expected}, not {found}")).on_line(line)
    }

    /// The error that there is no setting `name`, which stands at `offset`.
    fn unknown(&self, name: &str, offset: usize, known: &[&str]) -> ConfigError {
        let likely = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .min()
            .filter(|(distance, known)| *distance <= known.len().min(9) / 3);
        let problem = match likely {
            Some((_, known)) => format!("is not a setting, did you mean {known}?"),
            None => "is not a setting, `moormq print-config` shows all there are".to_owned(),
        };
        ConfigError::new(self.key(name), problem).on_line(Some(line_at(self.text, offset)))
    }
}

impl Walker for Reader<'_> {
    type Error = ConfigError;

    fn setting<K: Kind>(
        &mut self,
        name: &'static str,
        _: &[&str],
        kind: &K,
        value: &mut K::Value,
    ) -> Result<(), ConfigError> {
        self.known.push(name);
        if let Some(written) = self.take(name) {
            *value = kind
                .read(written.get_ref())
                .filter(|value| kind.allows(value))
                .ok_or_else(|| self.not(name, written, &kind.expected()))?;
        }
        Ok(())
    }

    fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) -> Result<(), ConfigError> {
        self.known.push(name);
        self.take(name).map_or(Ok(()), |table| self.table(name, table, section))
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) -> Result<(), ConfigError> {
        self.named = true;
        members.clear();
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            if !M::NAMES.is_empty() && !M::NAMES.contains(&name.as_ref()) {
                let known: Vec<&str> = self.known.iter().chain(M::NAMES).copied().collect();
                return Err(self.unknown(name, key.span().start, &known));
            }
            let mut member = M::named(name);
            if let Some(table) = self.take(name) {
                self.table(name, table, &mut member)?;
            }
            members.push(member);
        }
        Ok(())
    }
}
