//! The configuration as a TOML file that explains itself.

use std::fmt::Write;

use super::kind::Kind;
use super::walk::{Member, Section, Walker};

/// Writes what `section` holds, every setting with its text above it.
pub(super) fn print<S: Section>(title: &str, section: &mut S) -> String {
    let mut printer = Printer { out: String::new(), path: String::new() };
    printer.comment(&[title]);
    section.walk(&mut printer);
    printer.out
}

struct Printer {
    out: String,
    /// The table that is being written; empty for the whole file.
    path: String,
}

impl Printer {
    fn line(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    fn comment(&mut self, docs: &[&str]) {
        for line in docs {
            self.line(format!("# {}", line.trim()));
        }
    }

    /// Writes `section` as a table below the one that is being written.
    fn table<S: Section>(&mut self, name: &str, section: &mut S) {
        let outer = self.path.len();
        let dot = if outer == 0 { "" } else { "." };
        // Writing to a string does not fail.
        let _ = write!(self.path, "{dot}{name}");
        if !S::MEMBERS_ONLY {
            self.line(format!("[{}]", self.path));
        }
        section.walk(self);
        self.path.truncate(outer);
    }
}

impl Walker for Printer {
    fn setting<K: Kind>(&mut self, name: &'static str, docs: &[&str], kind: &K, value: &mut K::Value) {
        self.line("");
        self.comment(docs);
        self.line(format!("{name} = {}", kind.write(value)));
    }

    fn section<S: Section>(&mut self, name: &'static str, docs: &[&str], section: &mut S) {
        self.line("\n");
        self.comment(docs);
        self.table(name, section);
    }

    fn members<M: Member>(&mut self, members: &mut Vec<M>) {
        for member in members {
            let name = member.name().to_owned();
            self.table(&name, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, HookDeadline};

    /// Holds the last line of every text to what is allowed and what the default is.
    struct Proofreader {
        path: Vec<String>,
        read: usize,
    }

    impl Walker for Proofreader {
        fn setting<K: Kind>(&mut self, name: &'static str, docs: &[&str], kind: &K, value: &mut K::Value) {
            let last = docs.last().expect("every setting has a text").trim();
            let truth = format!("Allowed: {}; default {}.", kind.expected(), kind.write(value));
            assert_eq!(last, truth, "{}.{name}", self.path.join("."));
            assert!(docs.len() > 1, "{name} says what it is for");
            assert!(kind.allows(value), "{name} allows its default");
            self.read += 1;
        }

        fn section<S: Section>(&mut self, name: &'static str, _: &[&str], section: &mut S) {
            self.path.push(name.to_owned());
            section.walk(self);
            self.path.pop();
        }

        fn members<M: Member>(&mut self, members: &mut Vec<M>) {
            members.iter_mut().for_each(|member| member.walk(self));
        }
    }

    #[test]
    fn every_text_says_what_is_allowed_and_the_default() {
        let mut reader = Proofreader { path: Vec::new(), read: 0 };
        Config::default().walk(&mut reader);
        HookDeadline::default().walk(&mut reader);
        assert!(reader.read > 60, "only {} settings were read", reader.read);
    }
}
