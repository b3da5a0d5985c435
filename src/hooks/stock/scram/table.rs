//! The users of a SCRAM file, and those that are made up.
//!
//! Who is not there gets a salt and a count of iterations all the same, always the same ones for the same name, so that
//! nobody can tell from the first answer which users exist. What they are derived from should outlive the process: it
//! stands in the file, in a line `$decoy$<base64, 32 bytes>`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;

use super::{ScramCredentials, hmac};
use crate::hooks::stock::entries::{Faults, FaultyLine, FaultyLines, Users, lines, split};

/// How the line with the secret begins. No user name does, since that would need a colon.
const DECOY: &str = "$decoy$";

/// Users and their credentials, read from lines `user:credentials`; see [`ScramCredentials`]. Empty lines and lines that
/// begin with `#` are skipped.
pub struct ScramTable {
    users: Users<ScramCredentials>,
    /// What users that do not exist are made from.
    secret: [u8; 32],
    /// How many iterations they have: as many as most that exist.
    iterations: u32,
}

impl ScramTable {
    /// Reads the text of a SCRAM file. `secret` is random; it is used if the file has no line `$decoy$..`, and should be the
    /// same whenever the file is read again.
    ///
    /// # Errors
    ///
    /// The lines that are not valid, or whose user stood on an earlier one.
    pub fn parse(text: &str, secret: [u8; 32]) -> Result<Self, FaultyLines> {
        let (mut users, mut faults) = (Users::new(), Faults::none());
        let mut from_file = None;
        for (number, line) in lines(text) {
            let fault = |problem: String| FaultyLine::new(number, problem);
            if let Some(decoy) = line.strip_prefix(DECOY) {
                let decoy = STANDARD.decode(decoy).ok().and_then(|decoy| decoy.try_into().ok());
                from_file =
                    faults.take(decoy.ok_or_else(|| fault("must be $decoy$ and 32 bytes in base64".to_owned())));
                continue;
            }
            let entry = split(line).ok_or_else(|| fault("must be user:credentials".to_owned()));
            let entry = entry.and_then(|(user, text)| {
                let credentials =
                    ScramCredentials::parse(text).map_err(|problem| fault(format!("user {user}: {problem}")))?;
                let user =
                    stringprep::saslprep(user).map_err(|error| fault(format!("user {user}: the name: {error}")))?;
                users.insert(&user, credentials, number)
            });
            faults.take(entry);
        }
        let iterations = most_frequent(users.values().map(|credentials| credentials.iterations));
        let iterations = iterations.unwrap_or(ScramCredentials::DEFAULT_ITERATIONS);
        faults.unless_any(ScramTable { users, secret: from_file.unwrap_or(secret), iterations })
    }

    /// The line that gives a file its secret; none if `text` has one. The secret is random.
    pub fn decoy_line(text: &str, secret: [u8; 32]) -> Option<String> {
        let has_one = lines(text).any(|(_, line)| line.starts_with(DECOY));
        (!has_one).then(|| format!("{DECOY}{}\n", STANDARD.encode(secret)))
    }

    /// The credentials of `user`, whose name is prepared; or made up ones that no password fits.
    pub(super) fn credentials(&self, user: &str) -> ScramCredentials {
        let derived = |purpose: &[u8]| -> [u8; 32] {
            hmac(&self.secret).chain_update(purpose).chain_update(user.as_bytes()).finalize().into_bytes().into()
        };
        // Made up in any case: who does not exist must not be told by the time it takes either.
        let made_up = ScramCredentials {
            iterations: self.iterations,
            salt: derived(b"salt ")[..ScramCredentials::SALT_LEN].into(),
            stored_key: derived(b"stored "),
            server_key: derived(b"server "),
        };
        self.users.get(user).cloned().unwrap_or(made_up)
    }

    /// Whether there is such a user.
    pub fn contains(&self, user: &str) -> bool {
        stringprep::saslprep(user).is_ok_and(|user| self.users.get(&user).is_some())
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

/// The number that occurs most often; of several, the largest.
fn most_frequent(numbers: impl Iterator<Item = u32>) -> Option<u32> {
    let mut counts = BTreeMap::<u32, usize>::new();
    numbers.for_each(|number| *counts.entry(number).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(number, _)| number)
}

/// How many users, and nothing of them.
impl fmt::Debug for ScramTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramTable({} users)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, iterations: u32) -> String {
        let credentials = ScramCredentials::derive("password", user.as_bytes(), 1).unwrap();
        format!("{user}:{}\n", ScramCredentials { iterations, ..credentials })
    }

    #[test]
    fn users_are_read_under_their_prepared_names() {
        let table = ScramTable::parse(&format!("# ours\n{}{}", line("IX", 4096), line("bob", 5000)), [0; 32]).unwrap();
        assert_eq!((table.len(), table.is_empty()), (2, false));
        assert!(
            table.contains("IX") && table.contains("\u{2168}") && !table.contains("ix") && !table.contains("\u{7}")
        );
        assert_eq!(table.credentials("bob").iterations, 5000);
    }

    #[test]
    fn users_that_do_not_exist_look_as_if_they_did() {
        let text = line("a", 4096) + &line("b", 7000) + &line("c", 7000);
        let table = ScramTable::parse(&text, [1; 32]).unwrap();
        let (mallory, trudy) = (table.credentials("mallory"), table.credentials("trudy"));
        assert_eq!((mallory.iterations, mallory.salt.len()), (7000, ScramCredentials::SALT_LEN));
        assert_ne!(mallory.salt, trudy.salt);
        assert_ne!(mallory.stored_key, mallory.server_key);
        let again = ScramTable::parse(&(text.clone() + &line("d", 7000)), [1; 32]).unwrap();
        assert_eq!(again.credentials("mallory"), mallory, "another reading, the same answer");
        let other = ScramTable::parse(&text, [2; 32]).unwrap();
        assert_ne!(other.credentials("mallory").salt, mallory.salt);
        assert_eq!(ScramTable::parse("", [1; 32]).unwrap().iterations, ScramCredentials::DEFAULT_ITERATIONS);
    }

    #[test]
    fn the_secret_of_the_file_comes_first() {
        let decoy = ScramTable::decoy_line("", [3; 32]).unwrap();
        let text = line("a", 4096) + &decoy;
        assert_eq!(ScramTable::decoy_line(&text, [4; 32]), None);
        let salts = [5, 6].map(|random| ScramTable::parse(&text, [random; 32]).unwrap().credentials("x").salt.clone());
        assert_eq!(salts[0], salts[1]);
        assert_eq!(ScramTable::parse(&text, [5; 32]).unwrap().len(), 1);
    }

    #[test]
    fn faults_are_told_with_their_lines() {
        let fault = |text: String| ScramTable::parse(&text, [0; 32]).expect_err("a fault").to_string();
        assert_eq!(fault(format!("{}nonsense", line("a", 4096))), "line 2: must be user:credentials");
        assert_eq!(
            fault(format!("x\n{}y", line("a", 4096))),
            "line 1: must be user:credentials; line 3: must be user:credentials"
        );
        assert!(fault("\na:x".to_owned()).starts_with("line 2: user a: must be SCRAM-SHA-256$"));
        assert_eq!(fault(line("a", 4096) + &line("a", 4096)), "line 2: user a is on line 1 already");
        assert_eq!(fault(line("IX", 4096) + &line("\u{2168}", 4096)), "line 2: user IX is on line 1 already");
        assert_eq!(fault("$decoy$AQID".to_owned()), "line 1: must be $decoy$ and 32 bytes in base64");
    }
}
