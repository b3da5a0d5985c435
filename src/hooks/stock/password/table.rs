//! The users of a password file.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::StoredPassword;
use super::stored::Cost;
use crate::hooks::stock::entries::{Faults, FaultyLine, FaultyLines, Users, lines, split};

/// Users and their passwords, read from lines `user:hash`; see [`StoredPassword`] for the hashes. Empty lines and lines
/// that begin with `#` are skipped.
pub struct PasswordTable {
    users: Users<Arc<StoredPassword>>,
    /// A password of each cost, and how many users have one of that cost or of those before it.
    decoys: Vec<(usize, Arc<StoredPassword>)>,
}

/// Which password is checked for a user that does not exist: another one for each name, the same as long as the process
/// runs, and for nobody to foresee.
static DECOYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl PasswordTable {
    /// Reads the text of a password file.
    ///
    /// # Errors
    ///
    /// The lines that are not valid, or whose user stood on an earlier one.
    pub fn parse(text: &str) -> Result<Self, FaultyLines> {
        let (mut users, mut faults) = (Users::new(), Faults::none());
        let mut costs = BTreeMap::<Cost, (usize, Arc<StoredPassword>)>::new();
        for (number, line) in lines(text) {
            let entry = split(line).ok_or_else(|| FaultyLine::new(number, "must be user:hash"));
            let entry = entry.and_then(|(user, stored)| {
                let stored = StoredPassword::parse(stored)
                    .map_err(|problem| FaultyLine::new(number, format!("user {user}: {problem}")))?;
                Ok((user, Arc::new(stored)))
            });
            let Some((user, stored)) = faults.take(entry) else { continue };
            costs.entry(stored.cost()).or_insert_with(|| (0, Arc::clone(&stored))).0 += 1;
            faults.take(users.insert(user, stored, number));
        }
        let mut before = 0;
        let decoys = costs.into_values().map(|(count, stored)| {
            before += count;
            (before, stored)
        });
        faults.unless_any(PasswordTable { decoys: decoys.collect(), users })
    }

    /// What is kept of the password of `user`; none if the user is not known.
    pub fn get(&self, user: &str) -> Option<&Arc<StoredPassword>> {
        self.users.get(user)
    }

    /// The password to check for a user that is not known, so that the answer takes as long as for one that is: of a file
    /// with hashes of several costs, each is as frequent among unknown names as among known ones. None if the file is
    /// empty.
    pub(super) fn decoy(&self, user: &str) -> Option<&Arc<StoredPassword>> {
        let drawn = DECOYS.hash_one(user) >> 32;
        let at = usize::try_from((drawn * self.len() as u64) >> 32).unwrap_or(0);
        self.decoys.iter().find(|(before, _)| at < *before).map(|(_, stored)| stored)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
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
    use super::super::HashMemory;
    use super::*;

    const HASH: &str = "$6$AQIDBAUGBwgJCgsM$\
        XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==";

    #[test]
    fn users_are_read() {
        let table = PasswordTable::parse(&format!("# ours\nalice:{HASH}\n\nbob x:{HASH}\n")).unwrap();
        assert_eq!((table.len(), table.is_empty()), (2, false));
        assert_eq!(table.get("alice").unwrap().check(b"secret", &mut HashMemory::default()), Ok(true));
        assert!(table.get("bob x").is_some() && table.get("bob").is_none() && table.get("").is_none());
        assert!(PasswordTable::parse("").unwrap().is_empty());
    }

    #[test]
    fn unknown_users_cost_what_known_ones_do() {
        let pbkdf2 = HASH.replace("$6$", "$7$2$");
        let file: String = (0..100).map(|n| format!("u{n}:{}\n", if n < 75 { HASH } else { &pbkdf2 })).collect();
        let table = PasswordTable::parse(&file).unwrap();
        let cost = |n: u32| table.decoy(&format!("nobody{n}")).unwrap().cost();
        let cheap = (0..4000).filter(|n| cost(*n) == Cost::Sha512).count();
        assert!((2700..3300).contains(&cheap), "{cheap} of 4000");
        assert_eq!(cost(7), cost(7), "always the same for one name");
        let again = PasswordTable::parse(&file).unwrap();
        assert!((0..100).all(|n| again.decoy(&format!("nobody{n}")).unwrap().cost() == cost(n)), "after a reload, too");
        assert!(PasswordTable::parse("").unwrap().decoy("nobody").is_none());
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        let fault = |text: String| PasswordTable::parse(&text).expect_err("a fault").to_string();
        assert_eq!(fault(format!("a:{HASH}\nnonsense\n:x")), "line 2: must be user:hash; line 3: must be user:hash");
        assert_eq!(fault("\n:x".to_owned()), "line 2: must be user:hash");
        assert_eq!(fault("a:$6$x".to_owned()), "line 1: user a: the salt or the hash is missing");
        assert_eq!(fault(format!("a:{HASH}\na:{HASH}")), "line 2: user a is on line 1 already");
    }
}
