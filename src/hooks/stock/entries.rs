//! Files with a line for each user, `user:value`: how they are read, and changed without touching the other lines.
//!
//! Empty lines and lines that begin with `#` are skipped. The first colon of a line ends the user name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// What is wrong with which line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyLine {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, without the secrets in it.
    pub problem: String,
}

impl FaultyLine {
    pub(super) fn new(line: usize, problem: impl Into<String>) -> Self {
        FaultyLine { line, problem: problem.into() }
    }
}

impl fmt::Display for FaultyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for FaultyLine {}

/// Why a name cannot stand in such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUser;

impl fmt::Display for InvalidUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a user name must not be empty, begin with # or $, begin or end with a space, contain a colon or a control \
             character, or be longer than 65535 bytes",
        )
    }
}

impl std::error::Error for InvalidUser {}

/// Whether `user` can stand at the beginning of a line and be found again.
///
/// # Errors
///
/// When it cannot.
pub fn check_user(user: &str) -> Result<(), InvalidUser> {
    let fits = !user.is_empty()
        && user.len() <= usize::from(u16::MAX)
        && !user.starts_with(['#', '$'])
        && user.trim() == user
        && !user.contains(|c: char| c == ':' || c.is_control());
    if fits { Ok(()) } else { Err(InvalidUser) }
}

/// The lines of `text` that say something, with their numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = without_mark(text).lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// `text` without the byte order mark that some editors put in front of it, which is no part of it.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The user and the value of a line.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let (user, value) = line.split_once(':')?;
    (!user.is_empty()).then_some((user, value))
}

/// Users and what is known of each, no user twice.
#[derive(Clone)]
pub(super) struct Users<T>(HashMap<Box<str>, (T, usize)>);

impl<T> Users<T> {
    pub fn new() -> Self {
        Users(HashMap::new())
    }

    /// Takes a user in who stands on `line`.
    pub fn insert(&mut self, user: &str, value: T, line: usize) -> Result<(), FaultyLine> {
        match self.0.entry(user.into()) {
            Entry::Vacant(place) => drop(place.insert((value, line))),
            Entry::Occupied(first) => {
                let problem = format!("user {user} is on line {} already", first.get().1);
                return Err(FaultyLine::new(line, problem));
            }
        }
        Ok(())
    }

    #[inline]
    pub fn get(&self, user: &str) -> Option<&T> {
        self.0.get(user).map(|(value, _)| value)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().map(|(value, _)| value)
    }
}

/// `text` with the line of `user` saying `value`: in its old place, or at the end if there was none.
pub fn set_entry(text: &str, user: &str, value: &str) -> String {
    let text = without_mark(text);
    let mut changed = String::with_capacity(text.len() + user.len() + value.len() + 2);
    let mut found = false;
    for line in text.split_inclusive('\n') {
        if is_entry_of(line, user) {
            if !found {
                changed.extend([user, ":", value, "\n"]);
            }
            found = true;
        } else {
            changed.push_str(line);
        }
    }
    if !found {
        if !changed.is_empty() && !changed.ends_with('\n') {
            changed.push('\n');
        }
        changed.extend([user, ":", value, "\n"]);
    }
    changed
}

/// `text` without the line of `user`; none if there is no such line.
pub fn remove_entry(text: &str, user: &str) -> Option<String> {
    let text = without_mark(text);
    let changed: String = text.split_inclusive('\n').filter(|line| !is_entry_of(line, user)).collect();
    (changed.len() != text.len()).then_some(changed)
}

fn is_entry_of(line: &str, user: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#') && split(line).is_some_and(|(name, _)| name == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_with_their_numbers() {
        let text = "# users\n\n  a:1 \r\n#b:2\nc:3:4\n";
        let found: Vec<_> = lines(text).map(|(number, line)| (number, split(line).unwrap())).collect();
        assert_eq!(found, [(3, ("a", "1")), (5, ("c", "3:4"))]);
        assert_eq!((split("nobody"), split(":x")), (None, None));
    }

    #[test]
    fn a_byte_order_mark_hides_nobody() {
        let text = "\u{feff}a:1\nb:2\n";
        let users: Vec<_> = lines(text).filter_map(|(_, line)| split(line)).collect();
        assert_eq!(users, [("a", "1"), ("b", "2")]);
        assert_eq!(set_entry(text, "a", "x"), "a:x\nb:2\n");
        assert_eq!(remove_entry(text, "a").as_deref(), Some("b:2\n"));
        assert_eq!(remove_entry(text, "c"), None);
    }

    #[test]
    fn a_user_stands_there_once() {
        let mut users = Users::new();
        users.insert("a", 1, 3).unwrap();
        assert_eq!(users.insert("a", 2, 7), Err(FaultyLine::new(7, "user a is on line 3 already")));
        assert_eq!((users.get("a"), users.get("b"), users.len()), (Some(&1), None, 1));
    }

    #[test]
    fn names_that_would_not_be_found_again_are_refused() {
        for user in ["a", "ä b", "a#", "a$b", "+"] {
            assert_eq!(check_user(user), Ok(()), "{user}");
        }
        for user in ["", "a:b", "#a", "$decoy$", " a", "a ", "a\nb", "a\0", &"a".repeat(65536)] {
            assert_eq!(check_user(user), Err(InvalidUser), "{user:?}");
        }
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let text = "# a:1\n a:1\r\n\n  b:2\nc:3";
        assert_eq!(set_entry(text, "b", "x"), "# a:1\n a:1\r\n\nb:x\nc:3");
        assert_eq!(set_entry(text, "c", "x"), "# a:1\n a:1\r\n\n  b:2\nc:x\n");
        assert_eq!(set_entry(text, "d", "x"), "# a:1\n a:1\r\n\n  b:2\nc:3\nd:x\n");
        assert_eq!(set_entry("", "d", "x"), "d:x\n");
        assert_eq!(remove_entry(text, "a").as_deref(), Some("# a:1\n\n  b:2\nc:3"));
        assert_eq!(remove_entry(text, "# a"), None);
    }
}
