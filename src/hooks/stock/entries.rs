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

/// What is wrong with a file: all its faulty lines, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyLines {
    /// The first [`FaultyLines::MOST`] of them, one at least.
    pub lines: Vec<FaultyLine>,
    /// How many more there are.
    pub more: usize,
}

impl FaultyLines {
    /// So many are told one by one.
    pub const MOST: usize = 20;
}

impl From<FaultyLine> for FaultyLines {
    fn from(line: FaultyLine) -> Self {
        FaultyLines { lines: vec![line], more: 0 }
    }
}

impl fmt::Display for FaultyLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines.iter().enumerate() {
            write!(f, "{}{line}", if at == 0 { "" } else { "; " })?;
        }
        if self.more > 0 { write!(f, "; and {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for FaultyLines {}

/// The faulty lines of a text that is being read.
pub(super) struct Faults(FaultyLines);

impl Faults {
    pub fn none() -> Self {
        Faults(FaultyLines { lines: Vec::new(), more: 0 })
    }

    /// What was made of a line; none, and it is noted, if that is faulty.
    pub fn take<T>(&mut self, read: Result<T, FaultyLine>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(fault) if self.0.lines.len() < FaultyLines::MOST => self.0.lines.push(fault),
            Err(_) => self.0.more += 1,
        }
        None
    }

    /// What was made of the text, if no line is faulty.
    pub fn unless_any<T>(self, read: T) -> Result<T, FaultyLines> {
        if self.0.lines.is_empty() { Ok(read) } else { Err(self.0) }
    }
}

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
    fn faulty_lines_are_told_one_by_one_up_to_a_number() {
        let fault = |line| FaultyLine::new(line, "bad");
        let faulty = |count: usize| {
            let mut faults = Faults::none();
            assert_eq!(faults.take(Ok(7)), Some(7));
            (1..=count).for_each(|line| assert_eq!(faults.take::<()>(Err(fault(line))), None));
            faults.unless_any(())
        };
        assert_eq!(faulty(0), Ok(()));
        assert_eq!(faulty(2).map_err(|faulty| faulty.to_string()), Err("line 1: bad; line 2: bad".to_owned()));
        assert_eq!(faulty(20).map_err(|faulty| faulty.more), Err(0));
        let many = faulty(23).expect_err("23 lines");
        assert_eq!((many.lines.len(), many.more), (20, 3));
        assert!(many.to_string().ends_with("line 20: bad; and 3 more"), "{many}");
        assert_eq!(FaultyLines::from(fault(3)).to_string(), "line 3: bad");
    }

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
