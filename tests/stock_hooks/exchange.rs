//! The client's side of SCRAM-SHA-256, by RFC 5802 section 3.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

fn hmac(key: &[u8], message: &str) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("any key will do");
    hmac.update(message.as_bytes());
    hmac.finalize().into_bytes().into()
}

/// One side of an exchange, from the client's first message on.
pub struct Exchange {
    bare: String,
    password: &'static str,
}

impl Exchange {
    pub fn new(user: &str, password: &'static str) -> Self {
        Exchange { bare: format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL"), password }
    }

    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The client's last message, and what the broker must say to that.
    pub fn last(&self, question: &str) -> (String, String) {
        let [nonce, salt, iterations] = question.split(',').collect::<Vec<_>>()[..] else { panic!("{question}") };
        assert!(nonce.len() > 30 && nonce.starts_with("r=fyko+d2lbbFgONRv9qkxdawL"), "{nonce}");
        let salt = STANDARD.decode(salt.strip_prefix("s=").expect("a salt")).unwrap();
        let iterations: u32 = iterations.strip_prefix("i=").expect("iterations").parse().unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, iterations, &mut salted);
        let client_key = hmac(&salted, "Client Key");
        let unsigned = format!("c={},{nonce}", STANDARD.encode("n,,"));
        let said = format!("{},{question},{unsigned}", self.bare);
        let signature = hmac(&Sha256::digest(client_key), &said);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        let verifier = hmac(&hmac(&salted, "Server Key"), &said);
        (format!("{unsigned},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(verifier)))
    }
}
