//! One exchange, as its messages: text in, text out.
//!
//! [`Exchange::begin`] takes the client's first message, [`Exchange::finish`] consumes the exchange and its last one. What
//! the client sends is not trusted; what is not as RFC 5802 section 7 says is an error.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{ScramCredentials, ScramTable, hmac_of};

/// The longest nonce of a client, in bytes.
const MAX_NONCE: usize = 256;

/// An exchange whose client has yet to prove what it said.
pub(super) struct Exchange {
    user: String,
    credentials: ScramCredentials,
    /// How the client began, as far as it must repeat it: RFC 5802 calls it gs2-header.
    header: String,
    nonce: String,
    /// All that was said so far and is signed: the client's first message without the header, and our answer.
    said: String,
}

/// Who has proven to be, and what proves to the client that we know its keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub user: String,
    pub signature: String,
}

/// Why an exchange fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScramError {
    /// The message is not what it should be, for this reason.
    Message(&'static str),
    /// The proof is wrong, or there is no such user.
    Proof,
}

impl Exchange {
    /// Takes the client's first message, and gives the answer to it. `own_nonce` is another one each time, of letters and
    /// digits.
    pub fn begin(message: &[u8], table: &ScramTable, own_nonce: &str) -> Result<(Self, String), ScramError> {
        let message = text(message)?;
        let (header, bare) = split_header(message)?;
        let mut attributes = bare.split(',');
        let user = match attribute(&mut attributes, 'n') {
            Err(_) if bare.starts_with("m=") => {
                return Err(ScramError::Message("there is an extension that must be understood"));
            }
            user => unescape(user?)?,
        };
        let client_nonce = attribute(&mut attributes, 'r')?;
        if client_nonce.is_empty()
            || client_nonce.len() > MAX_NONCE
            || !client_nonce.bytes().all(|c| c.is_ascii_graphic())
        {
            return Err(ScramError::Message("the nonce must have 1 to 256 printable characters"));
        }
        let user = stringprep::saslprep(&user).map_err(|_| ScramError::Message("the user name is not allowed"))?;
        let credentials = table.credentials(&user);
        let nonce = format!("{client_nonce}{own_nonce}");
        let answer = format!("r={nonce},s={},i={}", STANDARD.encode(&credentials.salt), credentials.iterations);
        let said = format!("{bare},{answer}");
        let exchange = Exchange { user: user.into_owned(), credentials, header: header.to_owned(), nonce, said };
        Ok((exchange, answer))
    }

    /// Who the client says it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Takes the client's last message, and says who the client is.
    pub fn finish(self, message: &[u8]) -> Result<Proven, ScramError> {
        let message = text(message)?;
        let (unsigned, proof) = message.rsplit_once(",p=").ok_or(ScramError::Message("the proof p= is missing"))?;
        let mut attributes = unsigned.split(',');
        if attribute(&mut attributes, 'c')? != STANDARD.encode(&self.header) {
            return Err(ScramError::Message("c= does not repeat how the exchange began"));
        }
        if attribute(&mut attributes, 'r')? != self.nonce {
            return Err(ScramError::Message("r= is not the nonce of this exchange"));
        }
        let proof: Option<[u8; 32]> = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or(ScramError::Message("the proof is not 32 bytes in base64"))?;
        let signed = format!("{},{unsigned}", self.said);
        let ScramCredentials { stored_key, server_key, .. } = &self.credentials;
        let mut client_key = hmac_of(stored_key, signed.as_bytes());
        client_key.iter_mut().zip(proof).for_each(|(signature, proof)| *signature ^= proof);
        if Sha256::digest(client_key).ct_ne(&stored_key[..]).into() {
            return Err(ScramError::Proof);
        }
        let signature = format!("v={}", STANDARD.encode(hmac_of(server_key, signed.as_bytes())));
        Ok(Proven { user: self.user, signature })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Message("it is not UTF-8"))
}

/// The header, its last comma included, and the rest. No channel binding is offered, so a client may have none, or think
/// that we have none; it may not act for another user.
fn split_header(message: &str) -> Result<(&str, &str), ScramError> {
    let unbound = message.strip_prefix(['n', 'y']).and_then(|rest| rest.strip_prefix(','));
    let rest = unbound.ok_or(ScramError::Message("it must begin with n, or y,: there is no channel binding"))?;
    let bare = rest.strip_prefix(',').ok_or(ScramError::Message("nobody may act for another user"))?;
    Ok((&message[..message.len() - bare.len()], bare))
}

/// The value of the next attribute, which must be `name`.
fn attribute<'a>(attributes: &mut std::str::Split<'a, char>, name: char) -> Result<&'a str, ScramError> {
    let value = attributes.next().and_then(|text| text.strip_prefix(name)).and_then(|text| text.strip_prefix('='));
    value.ok_or(ScramError::Message("an attribute is missing, or not in its place"))
}

/// A user name as it is meant: `=2C` is a comma, `=3D` is an equals sign, and nothing else may follow one.
fn unescape(name: &str) -> Result<Cow<'_, str>, ScramError> {
    let mut parts = name.split('=');
    let first = parts.next().unwrap_or_default();
    if first.len() == name.len() && !name.is_empty() {
        return Ok(Cow::Borrowed(name));
    }
    let mut plain = first.to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(ScramError::Message("the user name is not escaped as it should be")),
        };
        plain.push(character);
        plain.push_str(rest);
    }
    if plain.is_empty() { Err(ScramError::Message("the user name is empty")) } else { Ok(Cow::Owned(plain)) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use super::*;

    const OWN_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// The users `user`, `other` and `a=,b`, all with the password `pencil`.
    pub fn table() -> ScramTable {
        static CREDENTIALS: LazyLock<ScramCredentials> = LazyLock::new(|| {
            let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
            ScramCredentials::derive("pencil", &salt, 4096).unwrap()
        });
        let text: String = ["user", "other", "a=,b"].map(|user| format!("{user}:{}\n", *CREDENTIALS)).concat();
        ScramTable::parse(&text, [9; 32]).unwrap()
    }

    /// What a client says last that said `n,,` and `bare` first and was answered `question`.
    pub fn proof(bare: &str, question: &str, password: &str) -> String {
        let part = |name| question.split(',').find_map(|part| part.strip_prefix(name)).expect("a part of the question");
        let (salt, rounds) = (STANDARD.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, rounds);
        let client_key = hmac_of(&salted, b"Client Key");
        let unsigned = format!("c=biws,r={}", part("r="));
        let signature = hmac_of(&Sha256::digest(client_key).into(), format!("{bare},{question},{unsigned}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        format!("{unsigned},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn the_proof_of_these_tests_is_that_of_the_rfc() {
        let (_, question) = begin(FIRST).unwrap();
        assert_eq!(proof("n=user,r=rOprNGfwEbeRWgbNEkqO", &question, "pencil"), LAST);
    }

    fn begin(message: &[u8]) -> Result<(Exchange, String), ScramError> {
        Exchange::begin(message, &table(), OWN_NONCE)
    }

    fn begun() -> Exchange {
        begin(FIRST).map(|(exchange, _)| exchange).unwrap()
    }

    /// The example of RFC 7677 section 3.
    #[test]
    fn the_exchange_of_the_rfc() {
        let (exchange, answer) = begin(FIRST).unwrap();
        assert_eq!(answer, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned();
        assert_eq!(exchange.finish(LAST.as_bytes()), Ok(Proven { user: "user".to_owned(), signature }));
    }

    #[test]
    fn a_wrong_proof_fails() {
        let wrong = LAST.replace("p=dHzb", "p=dHzc");
        assert_eq!(begun().finish(wrong.as_bytes()), Err(ScramError::Proof));
        let other = Exchange::begin(FIRST, &table(), "another").unwrap().0;
        let replayed = LAST.replace(OWN_NONCE, "another");
        assert_eq!(other.finish(replayed.as_bytes()), Err(ScramError::Proof), "a proof is for one exchange");
    }

    #[test]
    fn a_user_that_does_not_exist_fails_at_the_end_like_a_wrong_password() {
        let (exchange, answer) = begin(b"n,,n=nobody,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert!(
            answer.starts_with("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=")
                && answer.ends_with(",i=4096")
        );
        assert_eq!(exchange.finish(LAST.as_bytes()), Err(ScramError::Proof));
    }

    #[test]
    fn names_are_unescaped() {
        let (exchange, _) = begin(b"y,,n=a=3D=2Cb,r=x,extension=1").unwrap();
        assert_eq!((exchange.user.as_str(), exchange.header.as_str()), ("a=,b", "y,,"));
        for name in ["a=", "=2", "=2c", "=41"] {
            let message = format!("n,,n={name},r=x");
            assert_eq!(
                begin(message.as_bytes()).err(),
                Some(ScramError::Message("the user name is not escaped as it should be"))
            );
        }
    }

    proptest::proptest! {
        /// What clients send is never trusted. Texts made of the right pieces get further than others.
        #[test]
        fn no_message_does_harm(pieces in proptest::collection::vec("[,=ynprca]|n=user|r=x|c=biws|,p=|\\PC", 0..12)) {
            let message = pieces.concat();
            let _ = begin(message.as_bytes());
            let _ = begun().finish(message.as_bytes());
            let _ = begun().finish(format!("{},p={message}", LAST.split(",p=").next().unwrap()).as_bytes());
        }
    }

    #[test]
    fn what_the_mechanism_does_not_allow_is_refused() {
        for message in [
            &b""[..],
            b"n",
            b"n,",
            b"n,,",
            b"n,,n=user",
            b"n,,r=x,n=user",
            b"n,,n=,r=x",
            b"n,,n=user,r=",
            b"n,,n=user,r=\x7f",
            b"n,,n=\x07,r=x",
            b"n,,m=1,n=user,r=x",
            b"n,a=other,n=user,r=x",
            b"p=tls-unique,,n=user,r=x",
            b"\xff,,n=user,r=x",
        ] {
            assert!(matches!(begin(message), Err(ScramError::Message(_))), "{}", message.escape_ascii());
        }
        let long = format!("n,,n=user,r={}", "x".repeat(MAX_NONCE + 1));
        assert!(matches!(begin(long.as_bytes()), Err(ScramError::Message(_))));
        for (from, to) in [("c=biws", "c=eSws"), ("%hv", "%hw"), ("r=rOp", "x=rOp"), (",p=", ",q="), ("VQ=", "")] {
            let message = LAST.replace(from, to);
            assert!(matches!(begun().finish(message.as_bytes()), Err(ScramError::Message(_))), "{message}");
        }
    }
}
