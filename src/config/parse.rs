//! From TOML text to a configuration: every key is known, of the right kind and within bounds, or an error says where
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
#[derive(Clone, Debug, Default)]
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

/// What was found in a file.
pub(super) struct Parsed {
    /// Where it mentions which key.
    pub lines: Lines,
    /// What is wrong with it.
    pub errors: Vec<ConfigError>,
    /// Whether it is TOML.
    pub is_toml: bool,
}

/// Reads `text` over what `section` holds; what is wrong is left out. `all` are the keys of all settings.
pub(super) fn read<S: Section>(text: &str, section: &mut S, all: &[String]) -> Parsed {
    let (document, faults) = DeTable::parse_recoverable(text);
    if let Some(error) = foreign::recognised(text, !faults.is_empty()) {
        return Parsed { lines: Lines::default(), errors: vec![error], is_toml: false };
    }
    let is_toml = faults.is_empty();
    let mut errors: Vec<ConfigError> = Vec::new();
    for fault in faults {
        let line = fault.span().map(|span| line_at(text, span.start));
        // What comes behind the first fault of a line mostly follows from it.
        if line.is_none() || errors.iter().all(|error| error.line != line) {
            errors.push(ConfigError::new("", format!("not valid TOML: {}", fault.message())).on_line(line));
        }
    }
    let unreadable: Vec<usize> = errors.iter().filter_map(|error| error.line).collect();
    let found = Found { text, all, lines: RefCell::default(), errors: RefCell::default() };
    let table = document.get_ref();
    Reader { found: &found, path: String::new(), table, known: Vec::new(), named: false }.read(section);
    // What can be made of a line that is not valid does not say what was meant; if that was the head of a table, what stands
    // below it seems to stand outside.
    let is_meant = |error: &ConfigError| error.line.is_none_or(|line| !unreadable.contains(&line));
    let is_inside = |error: &ConfigError| is_toml || error.key.contains('.');
    errors.extend(found.errors.into_inner().into_iter().filter(|error| is_meant(error) && is_inside(error)));
    Parsed { lines: found.lines.into_inner(), errors, is_toml }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// A file that is being read, and what was found in it so far.
struct Found<'a> {
    text: &'a str,
    /// The keys of all settings.
    all: &'a [String],
    lines: RefCell<Lines>,
    errors: RefCell<Vec<ConfigError>>,
}

/// One table of the file.
struct Reader<'a> {
    found: &'a Found<'a>,
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
    fn read<S: Section>(mut self, section: &mut S) {
        section.walk(&mut self);
        if !self.named {
            for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
                self.unknown(key.get_ref(), key.span().start, &self.known);
            }
        }
    }

    /// The key `name` of this table and its value, its line noted; none if the file leaves it out.
    fn take(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let (key, value) = self.table.get_key_value(name)?;
        let line = line_at(self.found.text, key.span().start);
        self.found.lines.borrow_mut().0.insert(self.key(name), line);
        Some(value)
    }

    /// The name of a key from the root on.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Reads `value` as the table called `name`.
    fn table<S: Section>(&self, name: &str, value: &'a Spanned<DeValue<'a>>, section: &mut S) {
        let path = self.key(name);
        match value.get_ref() {
            DeValue::Table(table) => {
                Reader { path: path + ".", table, known: Vec::new(), named: false, ..*self }.read(section);
            }
            _ if S::MEMBERS_ONLY => self.not(name, value, &format!("tables, written [{path}.NAME]"), None),
            _ => {
                let has = |key: &str| self.found.all.iter().any(|one| one == key);
                let (section, file) = (self.path.trim_end_matches('.'), format!("{path}.path"));
                let advice = if has(&file) {
                    Some(format!("write {file} = .."))
                } else if self.named && has(&format!("{section}.default.{name}")) {
                    Some(format!("give the listener a name, and write [{section}.NAME] above {name}"))
                } else {
                    None
                };
                self.not(name, value, &format!("a table, written [{path}]"), advice);
            }
        }
    }

    /// Notes that the value of `name` is something else than expected.
    fn not(&self, name: &str, value: &Spanned<DeValue<'_>>, expected: &str, advice: Option<String>) {
        let found = match (value.get_ref(), self.found.text.get(value.span()).unwrap_or_default()) {
            (DeValue::Table(_), _) => "a table",
            (_, source) if source.contains('\n') || source.len() > 60 => match value.get_ref() {
                DeValue::Array(_) => "that list",
                _ => "that text",
            },
            (_, source) => source,
        };
        let key = self.key(name);
        let line = self.found.lines.borrow().of(&key);
        let advice = advice.map(|advice| format!(": {advice}")).unwrap_or_default();
        let error = ConfigError::new(key, format!("must be {expected}, not {found}{advice}")).on_line(line);
        self.found.errors.borrow_mut().push(error);
    }

    /// Notes that there is no setting `name`, which stands at `offset`.
    fn unknown(&self, name: &str, offset: usize, known: &[&str]) {
        let likely = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(name, known), known))
            .min()
            .filter(|(distance, known)| *distance <= known.len().min(9) / 3);
        // A listener has many settings of its own that hold for all listeners where they stand elsewhere.
        let same = |key: &&String| key.rsplit_once('.').is_some_and(|(_, last)| last == name);
        let elsewhere = self.found.all.iter().filter(same).min_by_key(|key| key.starts_with("listeners."));
        let problem = match (likely, elsewhere) {
            (Some((_, known)), _) => format!("is not a setting, did you mean {known}?"),
            (None, Some(key)) => format!("is not a setting, did you mean {key}?"),
            (None, None) => "is not a setting, `moormq print-config` shows all there are".to_owned(),
        };
        let error = ConfigError::new(self.key(name), problem).on_line(Some(line_at(self.found.text, offset)));
        self.found.errors.borrow_mut().push(error);
    }
}

impl Walker for Reader<'_> {
    fn setting<K: Kind>(&mut self, name: &'static str, _: &[&str], kind: &K, value: &mut K::Value) {
        self.known.push(name);
        let Some(written) = self.take(name) else { return };
        match kind.read(written.get_ref()).filter(|value| kind.allows(value)) {
            Some(read) => *value = read,
            None => self.not(name, written, &kind.expected(), kind.advice(written.get_ref())),
        }
    }

    fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) {
        self.known.push(name);
        if let Some(table) = self.take(name) {
            self.table(name, table, section);
        }
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) {
        self.named = true;
        members.clear();
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            if !M::NAMES.is_empty() && !M::NAMES.contains(&name.as_ref()) {
                let known: Vec<&str> = self.known.iter().chain(M::NAMES).copied().collect();
                self.unknown(name, key.span().start, &known);
                continue;
            }
            let mut member = M::named(name);
            if let Some(table) = self.take(name) {
                self.table(name, table, &mut member);
            }
            members.push(member);
        }
    }
}
