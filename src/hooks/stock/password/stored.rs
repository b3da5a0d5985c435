//! One password as it is kept: read from text, compared with what a client sent, made anew.
//!
//! Three forms are read. What a form allows is checked when it is read, so that checking a password cannot fail. The
//! comparison takes as long for a near miss as for a far one.

use std::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::pbkdf2_hmac_array;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::memory::{HashMemory, NoMemory};

/// The most rounds of PBKDF2: some seconds of work.
const MAX_ITERATIONS: u32 = 10_000_000;
/// The most memory for Argon2, in KiB: 1 GiB.
const MAX_MEMORY: u32 = 1 << 20;
/// The most passes of Argon2 over its memory.
const MAX_PASSES: u32 = 1000;

/// What is kept of a password.
pub struct StoredPassword(Form);

enum Form {
    /// `$6$<base64 salt>$<base64 hash>`: SHA-512 of password and salt. One round: VerneMQ's form, and Mosquitto's old
    /// one.
    Sha512(Salted),
    /// `$7$<rounds>$<base64 salt>$<base64 hash>`: PBKDF2 with HMAC-SHA-512. Mosquitto's form.
    Pbkdf2 { rounds: u32, salted: Salted },
    /// A PHC string that begins with `$argon2id$`.
    Argon2id(Box<Argon2id>),
}

struct Argon2id {
    function: Argon2<'static>,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

/// What a check costs: those of one cost cannot be told apart by the time they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cost {
    Sha512,
    Pbkdf2 { rounds: u32 },
    Argon2id { memory: u32, passes: u32, lanes: u32 },
}

struct Salted {
    salt: Box<[u8]>,
    hash: [u8; 64],
}

impl StoredPassword {
    /// How many random bytes [`StoredPassword::argon2id`] wants.
    pub const SALT_LEN: usize = 16;

    /// Reads the value of a line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words to stand behind a colon; never with a secret in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = if let Some(rest) = text.strip_prefix("$6$") {
            Form::Sha512(salt_and_hash(rest)?)
        } else if let Some(rest) = text.strip_prefix("$7$") {
            let (rounds, rest) = rest.split_once('$').ok_or("must be $7$iterations$salt$hash")?;
            let rounds = rounds.parse().ok().filter(|rounds| (1..=MAX_ITERATIONS).contains(rounds));
            let rounds = rounds.ok_or_else(|| format!("the iterations must be 1 to {MAX_ITERATIONS}"))?;
            Form::Pbkdf2 { rounds, salted: salt_and_hash(rest)? }
        } else if text.starts_with("$argon2id$") {
            Form::Argon2id(argon2id(text)?)
        } else {
            return Err(
                "the password must be a hash that begins with $argon2id$, $7$ or $6$; `moormq passwd` makes one"
                    .to_owned(),
            );
        };
        Ok(StoredPassword(form))
    }

    /// Whether it is this password. Takes up to seconds, as the form says.
    ///
    /// # Errors
    ///
    /// There is no memory to find out.
    pub fn check(&self, password: &[u8], memory: &mut HashMemory) -> Result<bool, NoMemory> {
        Ok(match &self.0 {
            Form::Sha512(Salted { salt, hash }) => sha512(password, salt).ct_eq(hash).into(),
            Form::Pbkdf2 { rounds, salted: Salted { salt, hash } } => {
                pbkdf2_hmac_array::<Sha512, 64>(password, salt, *rounds).ct_eq(hash).into()
            }
            Form::Argon2id(stored) => stored.is(password, memory)?,
        })
    }

    /// What a check costs.
    pub(super) fn cost(&self) -> Cost {
        match &self.0 {
            Form::Sha512(_) => Cost::Sha512,
            Form::Pbkdf2 { rounds, .. } => Cost::Pbkdf2 { rounds: *rounds },
            Form::Argon2id(stored) => {
                let params = stored.function.params();
                Cost::Argon2id { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
            }
        }
    }

    /// Makes an Argon2id hash of `password`, as a PHC string: 19 MiB of memory, two passes, one lane. `salt` is random,
    /// another one each time.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn argon2id(password: &[u8], salt: [u8; Self::SALT_LEN]) -> Result<String, String> {
        let hash: PasswordHash =
            Argon2::default().hash_password_with_salt(password, &salt).map_err(|error| error.to_string())?;
        Ok(hash.to_string())
    }
}

/// The form, and nothing of the secret.
impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Form::Sha512(_) => "StoredPassword(SHA-512)",
            Form::Pbkdf2 { .. } => "StoredPassword(PBKDF2)",
            Form::Argon2id(_) => "StoredPassword(Argon2id)",
        })
    }
}

fn sha512(password: &[u8], salt: &[u8]) -> [u8; 64] {
    Sha512::new().chain_update(password).chain_update(salt).finalize().into()
}

/// `<base64 salt>$<base64 hash>`, the hash of 64 bytes.
fn salt_and_hash(text: &str) -> Result<Salted, String> {
    let (salt, hash) = text.split_once('$').ok_or("the salt or the hash is missing")?;
    let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64")?;
    let hash = STANDARD.decode(hash).map_err(|_| "the hash is not base64")?;
    let length = hash.len();
    let hash = hash.try_into().map_err(|_| format!("the hash must have 64 bytes, not {length}"))?;
    Ok(Salted { salt: salt.into(), hash })
}

impl Argon2id {
    fn is(&self, password: &[u8], memory: &mut HashMemory) -> Result<bool, NoMemory> {
        let blocks = memory.blocks(self.function.params().block_count())?;
        let mut hash = vec![0; self.hash.len()];
        let done = self.function.hash_password_into_with_memory(password, &self.salt, &mut hash, blocks);
        Ok(done.is_ok() && hash.ct_eq(&self.hash).into())
    }
}

fn argon2id(text: &str) -> Result<Box<Argon2id>, String> {
    let hash = PasswordHash::new(text).map_err(|error| format!("not a PHC string: {error}"))?;
    let params =
        Params::try_from(&hash).map_err(|error| format!("the parameters of Argon2id are not valid: {error}"))?;
    if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_PASSES {
        return Err(format!("Argon2id may have at most m={MAX_MEMORY} and t={MAX_PASSES}"));
    }
    let (Some(salt), Some(output)) = (&hash.salt, &hash.hash) else {
        return Err("the salt or the hash is missing".to_owned());
    };
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
    let version = version.map_err(|_| "the version of Argon2id must be 19 or 16".to_owned())?;
    let function = Argon2::new(Algorithm::Argon2id, version, params);
    Ok(Box::new(Argon2id { function, salt: (**salt).into(), hash: output.as_bytes().into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `mosquitto_passwd -H sha512`.
    const MOSQUITTO_6: &str = "$6$HInHPS3RsoHXpoPA$\
        LmrjPeTxWoEjYv6hDEeqGpZp+KRx+r6yFkUwJj/7qTwIoX/rg00ZLZZpjq6niSHuc1HV7JxAreiMWnIN8lrWvw==";
    /// By `mosquitto_passwd`.
    const MOSQUITTO_7: &str = "$7$101$XPKMBRmnbZw3u1Pz$\
        hKaoDqMcKONuhdDo+dKTbr27hFvgBpWkK+rjkCJrHkJpOWN7aqNnGgC4PfQnXWaajbdU4LgfG3y4/Xue6eWE9w==";
    /// SHA-512 of `secret` and the bytes 1 to 12, as VerneMQ keeps it; by Python's hashlib.
    const VERNEMQ: &str = "$6$AQIDBAUGBwgJCgsM$\
        XtaqFTpVqKCBusKxL7SramYPpHVSOw+CXtRUIv0PpX6q57MW1a1RUVsLMxkhMn6XOYi3uYMZcGrMAEzcnh9EoA==";
    /// By the reference implementation.
    const ARGON2ID: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0MTIzNA$MNZAZhbKGDVpgsxMamwgJKYqlC5k6CyLoSkSRqvMDkU";

    fn stored(text: &str) -> StoredPassword {
        StoredPassword::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn is(stored: &StoredPassword, password: &[u8]) -> bool {
        stored.check(password, &mut HashMemory::default()).unwrap()
    }

    #[test]
    fn passwords_of_others_are_known() {
        for (text, password) in [
            (MOSQUITTO_6, "correct horse"),
            (MOSQUITTO_7, "battery staple"),
            (VERNEMQ, "secret"),
            (ARGON2ID, "swordfish"),
        ] {
            let stored = stored(text);
            assert!(is(&stored, password.as_bytes()), "{text}");
            for wrong in ["", "Secret", "secret ", "correct horse battery staple", "swordfish\0"] {
                assert!(!is(&stored, wrong.as_bytes()), "{text}, {wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = StoredPassword::argon2id("pässword".as_bytes(), [7; 16]).unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert!(is(&stored(&text), "pässword".as_bytes()));
        assert!(!is(&stored(&text), b"password"));
        assert_ne!(text, StoredPassword::argon2id("pässword".as_bytes(), [8; 16]).unwrap());
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = |text: &str| StoredPassword::parse(text).expect_err(text);
        let hash = MOSQUITTO_6.rsplit('$').next().unwrap();
        for text in ["", "secret", "$5$x$y", "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"] {
            assert!(problem(text).starts_with("the password must be a hash that begins with"), "{text}");
        }
        assert_eq!(problem("$6$AQID"), "the salt or the hash is missing");
        assert_eq!(problem(&format!("$6$A!$${hash}")), "the salt is not base64");
        assert_eq!(problem("$6$AQID$A"), "the hash is not base64");
        assert_eq!(problem("$6$AQID$AQID"), "the hash must have 64 bytes, not 3");
        for rounds in ["", "0", "-1", "10000001"] {
            let text = format!("$7${rounds}$AQID${hash}");
            assert_eq!(problem(&text), "the iterations must be 1 to 10000000", "{text}");
        }
        assert!(problem("$argon2id$v=19$m=7,t=1,p=1").starts_with("the parameters of Argon2id are not valid"));
        assert!(problem("$argon2id$v=19$m=64,t=1,p=1").contains("missing"));
        assert!(problem(&ARGON2ID.replace("m=64", "m=2097152")).contains("at most"));
        assert!(problem(&ARGON2ID.replace("v=19", "v=18")).contains("version"));
    }

    #[test]
    fn secrets_are_not_for_logs() {
        assert_eq!(format!("{:?}", stored(VERNEMQ)), "StoredPassword(SHA-512)");
    }
}
