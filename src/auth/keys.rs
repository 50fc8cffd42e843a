//! The keys that SCRAM-SHA-256 makes of a password (RFC 5802, 3).
//!
//! Machine: no IO, no clock, no randomness.

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use crate::store::ScramKeys;
use crate::types::Secret;

/// None: not so many iterations.
pub(super) fn derive(password: &Secret, salt: [u8; 16], iterations: u32) -> Option<ScramKeys> {
    let prepared = Zeroizing::new(prepare(password.expose()).into_owned());
    let mut salted = Zeroizing::new([0u8; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        NonZeroU32::new(iterations)?,
        &salt,
        &prepared,
        &mut salted[..],
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted[..]);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    Some(ScramKeys {
        salt,
        iterations,
        stored_key: stored_key.as_ref().try_into().ok()?,
        server_key: hmac::sign(&key, b"Server Key").as_ref().try_into().ok()?,
    })
}

/// SASLprep (RFC 4013). What it forbids, or what is no text at all, is taken as it is: clients do
/// the same, and it is a password all the same.
fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(password) else {
        return Cow::Borrowed(password);
    };
    match stringprep::saslprep(text) {
        Ok(Cow::Owned(prepared)) => Cow::Owned(prepared.into_bytes()),
        _ => Cow::Borrowed(password),
    }
}

/// The salt of a name: the same for ever, whether somebody has that name or not. So nobody
/// learns who is here, nor when an account came, got its keys or a new password.
pub(super) fn salt(private_id: &[u8; 16], name: &str) -> [u8; 16] {
    made_up(private_id, b"SCRAM salt\0", name)
}

/// Keys that no password fits, with the salt and the cost of the real ones.
pub(super) fn nobody(private_id: &[u8; 16], name: &str, iterations: u32) -> ScramKeys {
    let [a, b, c, d] = [b"1\0", b"2\0", b"3\0", b"4\0"].map(|n| made_up(private_id, n, name));
    let join = |a: [u8; 16], b: [u8; 16]| {
        let mut both = [0; 32];
        both[..16].copy_from_slice(&a);
        both[16..].copy_from_slice(&b);
        both
    };
    ScramKeys {
        salt: salt(private_id, name),
        iterations,
        stored_key: join(a, b),
        server_key: join(c, d),
    }
}

fn made_up(private_id: &[u8; 16], what: &[u8], name: &str) -> [u8; 16] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, private_id));
    context.update(what);
    context.update(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.sign().as_ref()[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_prepared_as_clients_do() {
        // RFC 4013, 3.
        for (given, prepared) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{a0}b", "a b"),
            // Forbidden, so as they are.
            ("\u{7}", "\u{7}"),
            ("\u{627}1", "\u{627}1"),
        ] {
            assert_eq!(prepare(given.as_bytes()), prepared.as_bytes(), "{given:?}");
        }
        assert_eq!(prepare(b"\xff\xfe"), &b"\xff\xfe"[..]);
    }

    #[test]
    fn salts_differ_by_name_and_store_and_stay() {
        let id = [1; 16];
        assert_eq!(salt(&id, "a"), salt(&id, "a"));
        assert_ne!(salt(&id, "a"), salt(&id, "b"));
        assert_ne!(salt(&id, "a"), salt(&[2; 16], "a"));
        let nobody = nobody(&id, "a", 4096);
        assert_eq!(nobody.salt, salt(&id, "a"));
        assert_ne!(nobody.stored_key, nobody.server_key);
    }
}
