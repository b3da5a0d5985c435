//! What is kept of a user: enough to check a proof, not enough to make one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::pbkdf2_hmac_array;
use sha2::{Digest, Sha256};

use super::hmac_of;

/// How the text of credentials begins, as in RFC 5803.
const SCHEME: &str = "SCRAM-SHA-256$";
/// The fewest iterations that RFC 7677 allows.
const MIN_ITERATIONS: u32 = 4096;
/// The most: some seconds of work for the client.
const MAX_ITERATIONS: u32 = 10_000_000;
/// The longest salt, in bytes.
const MAX_SALT: usize = 1024;

/// The credentials of a user: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the last three in base64, as RFC 5803
/// writes them.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredentials {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: [u8; 32],
    pub(super) server_key: [u8; 32],
}

impl ScramCredentials {
    /// How many random bytes [`ScramCredentials::derive`] wants.
    pub const SALT_LEN: usize = 16;
    /// How many iterations new credentials get: about 50 ms of work for a client.
    pub const DEFAULT_ITERATIONS: u32 = 100_000;

    /// Derives the credentials for `password`, after preparing it (SASLprep, RFC 4013). `salt` is random, another one each
    /// time.
    ///
    /// # Errors
    ///
    /// What about the password is not allowed.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, String> {
        let password =
            stringprep::saslprep(password).map_err(|error| format!("the password is not allowed: {error}"))?;
        let salted = pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        let client_key = hmac_of(&salted, b"Client Key");
        Ok(ScramCredentials {
            iterations,
            salt: salt.into(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac_of(&salted, b"Server Key"),
        })
    }

    /// Reads the value of a line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words to stand behind a colon; never with a secret in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "must be SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey; `moormq passwd --scram` makes it";
        let rest = text.strip_prefix(SCHEME).ok_or(FORM)?;
        let (head, keys) = rest.split_once('$').ok_or(FORM)?;
        let (iterations, salt) = head.split_once(':').ok_or(FORM)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(FORM)?;
        let iterations = iterations.parse().ok().filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count));
        let iterations =
            iterations.ok_or_else(|| format!("the iterations must be {MIN_ITERATIONS} to {MAX_ITERATIONS}"))?;
        let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64")?;
        if !(1..=MAX_SALT).contains(&salt.len()) {
            return Err(format!("the salt must have 1 to {MAX_SALT} bytes"));
        }
        let (stored_key, server_key) = (key("StoredKey", stored_key)?, key("ServerKey", server_key)?);
        Ok(ScramCredentials { iterations, salt: salt.into(), stored_key, server_key })
    }
}

fn key(name: &str, text: &str) -> Result<[u8; 32], String> {
    let key = STANDARD.decode(text).map_err(|_| format!("the {name} is not base64"))?;
    let length = key.len();
    key.try_into().map_err(|_| format!("the {name} must have 32 bytes, not {length}"))
}

/// As it stands in a file.
impl fmt::Display for ScramCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScramCredentials { iterations, salt, stored_key, server_key } = self;
        let [salt, stored_key, server_key] = [salt, &stored_key[..], &server_key[..]].map(|key| STANDARD.encode(key));
        write!(f, "{SCHEME}{iterations}:{salt}${stored_key}:{server_key}")
    }
}

/// Nothing of the keys.
impl fmt::Debug for ScramCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredentials").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User `user`, password `pencil` of RFC 7677; the keys by Python's hashlib.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn keys_are_derived_as_the_rfc_says() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let derived = ScramCredentials::derive("pencil", &salt, 4096).unwrap();
        assert_eq!(derived.to_string(), PENCIL);
        assert_eq!(ScramCredentials::parse(PENCIL), Ok(derived));
    }

    /// RFC 4013: a soft hyphen is nothing, and a Roman numeral nine is two letters.
    #[test]
    fn passwords_are_prepared() {
        let derive = |password| ScramCredentials::derive(password, b"salt", 1);
        assert_eq!(derive("I\u{ad}X"), derive("IX"));
        assert_eq!(derive("\u{2168}"), derive("IX"));
        assert_ne!(derive("ix"), derive("IX"));
        assert!(derive("\u{7}").unwrap_err().starts_with("the password is not allowed"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = |text: &str| ScramCredentials::parse(text).expect_err(text);
        for text in ["", "SCRAM-SHA-1$4096:x$y:z", "SCRAM-SHA-256$4096:x", "SCRAM-SHA-256$4096$y:z"] {
            assert!(problem(text).starts_with("must be SCRAM-SHA-256$"), "{text}");
        }
        assert_eq!(problem(&PENCIL.replace("4096", "4095")), "the iterations must be 4096 to 10000000");
        assert_eq!(problem(&PENCIL.replace("W22Z", "!")), "the salt is not base64");
        assert_eq!(problem(&PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "")), "the salt must have 1 to 1024 bytes");
        assert_eq!(problem("SCRAM-SHA-256$4096:AQID$!:"), "the StoredKey is not base64");
        assert_eq!(
            problem(&format!("{}AQID", &PENCIL[..PENCIL.rfind(':').unwrap() + 1])),
            "the ServerKey must have 32 bytes, not 3"
        );
    }

    #[test]
    fn secrets_are_not_for_logs() {
        let credentials = ScramCredentials::parse(PENCIL).unwrap();
        assert_eq!(format!("{credentials:?}"), "ScramCredentials { iterations: 4096, .. }");
    }
}
