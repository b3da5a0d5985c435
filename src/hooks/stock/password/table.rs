//! The users of a password file.

use std::fmt;
use std::sync::Arc;

use super::StoredPassword;
use crate::hooks::stock::entries::{FaultyLine, Users, lines, split};

/// Users and their passwords, read from lines `user:hash`; see [`StoredPassword`] for the hashes. Empty lines and lines
/// that begin with `#` are skipped.
pub struct PasswordTable(Users<Arc<StoredPassword>>);

impl PasswordTable {
    /// Reads the text of a password file.
    ///
    /// # Errors
    ///
    /// The first line that is not valid, or whose user stood on an earlier one.
    pub fn parse(text: &str) -> Result<Self, FaultyLine> {
        let mut users = Users::new();
        for (number, line) in lines(text) {
            let (user, stored) = split(line).ok_or_else(|| FaultyLine::new(number, "must be user:hash"))?;
            let stored = StoredPassword::parse(stored)
                .map_err(|problem| FaultyLine::new(number, format!("user {user}: {problem}")))?;
            users.insert(user, Arc::new(stored), number)?;
        }
        Ok(PasswordTable(users))
    }

    /// What is kept of the password of `user`; none if the user is not known.
    pub fn get(&self, user: &str) -> Option<&Arc<StoredPassword>> {
        self.0.get(user)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How many users, and nothing of them.
impl fmt::Debug for PasswordTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordTable({} users)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$6$AQIDBAUGBwgJCgsM$\
        XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==";

    #[test]
    fn users_are_read() {
        let table = PasswordTable::parse(&format!("# ours\nalice:{HASH}\n\nbob x:{HASH}\n")).unwrap();
        assert_eq!((table.len(), table.is_empty()), (2, false));
        assert!(table.get("alice").unwrap().is(b"secret"));
        assert!(table.get("bob x").is_some() && table.get("bob").is_none() && table.get("").is_none());
        assert!(PasswordTable::parse("").unwrap().is_empty());
    }

    #[test]
    fn the_first_fault_is_told_with_its_line() {
        let fault = |text: String| PasswordTable::parse(&text).expect_err("a fault").to_string();
        assert_eq!(fault(format!("a:{HASH}\nnonsense\n:x")), "line 2: must be user:hash");
        assert_eq!(fault("\n:x".to_owned()), "line 2: must be user:hash");
        assert_eq!(fault("a:$6$x".to_owned()), "line 1: user a: the salt or the hash is missing");
        assert_eq!(fault(format!("a:{HASH}\na:{HASH}")), "line 2: user a is on line 1 already");
    }
}
