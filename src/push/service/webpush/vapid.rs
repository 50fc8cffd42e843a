//! Who sends: VAPID tokens (RFC 8292), one per push service, kept for half their life.

use std::collections::HashMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

use crate::types::UnixMillis;

/// RFC 8292 allows a day; half of it leaves room for clocks that differ.
const LIFE: u64 = 12 * 3600 * 1000;
/// Origins are chosen by strangers, so the cache is bounded.
const MAX_ORIGINS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the VAPID key is unusable")]
pub(crate) struct KeyError;

/// The server's key pair and the tokens made with it.
pub(crate) struct Vapid {
    pair: EcdsaKeyPair,
    public: String,
    tokens: Mutex<HashMap<String, Token>>,
}

struct Token {
    header: String,
    renew: UnixMillis,
}

impl Vapid {
    /// A new key pair as PKCS#8.
    pub(crate) fn generate() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| KeyError)
    }

    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| KeyError)?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self {
            pair,
            public,
            tokens: Mutex::default(),
        })
    }

    /// Uncompressed point, 65 bytes.
    pub(crate) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The `Authorization` header for `origin`. `subject` is `mailto:` or `https:`.
    pub(crate) fn header(
        &self,
        origin: &str,
        subject: &str,
        now: UnixMillis,
    ) -> Result<String, KeyError> {
        if let Some(token) = self.tokens.lock().get(origin)
            && now < token.renew
            // A clock that was set back must not keep a token from the future alive.
            && token.renew.since(now) <= LIFE / 2
        {
            return Ok(token.header.clone());
        }
        let unsigned = unsigned(origin, subject, now.plus(LIFE).secs());
        let signature = self
            .pair
            .sign(&SystemRandom::new(), unsigned.as_bytes())
            .map_err(|_| KeyError)?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        let header = format!("vapid t={unsigned}.{signature}, k={}", self.public);
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MAX_ORIGINS {
            tokens.clear();
        }
        tokens.insert(
            origin.to_owned(),
            Token {
                header: header.clone(),
                renew: now.plus(LIFE / 2),
            },
        );
        Ok(header)
    }

    /// The service did not like the token: sign anew next time.
    pub(crate) fn forget(&self, origin: &str) {
        self.tokens.lock().remove(origin);
    }
}

/// Header and claims of the token, ready to be signed (RFC 8292, 2).
fn unsigned(origin: &str, subject: &str, expires: u64) -> String {
    let claims = serde_json::json!({ "aud": origin, "exp": expires, "sub": subject });
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ES256"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::super::crypto::tests::b64;
    use super::*;

    fn vapid() -> Vapid {
        Vapid::from_pkcs8(&Vapid::generate().expect("key")).expect("key")
    }

    /// Checks the signature; gives the claims.
    fn verify(header: &str) -> serde_json::Value {
        let rest = header.strip_prefix("vapid t=").expect("scheme");
        let (token, key) = rest.split_once(", k=").expect("key");
        let (unsigned, signature) = token.rsplit_once('.').expect("signature");
        let signature = b64(signature);
        assert_eq!(signature.len(), 64);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, b64(key))
            .verify(unsigned.as_bytes(), &signature)
            .expect("genuine");
        let (_, claims) = unsigned.split_once('.').expect("claims");
        serde_json::from_slice(&b64(claims)).expect("JSON")
    }

    #[test]
    fn rfc_8292_section_2_4() {
        let claims = verify(
            "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs",
        );
        assert_eq!(claims["sub"], "mailto:push@example.com");
        // Ours are byte for byte of that shape.
        assert_eq!(
            unsigned(
                "https://push.example.net",
                "mailto:push@example.com",
                1_453_523_768
            ),
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0"
        );
    }

    #[test]
    fn signs_for_one_origin_and_keeps_it_for_six_hours() {
        let vapid = vapid();
        let now = UnixMillis::from_secs(1_800_000_000);
        let get = |origin, hours: u64| {
            vapid
                .header(
                    origin,
                    "mailto:postmaster@x.test",
                    now.plus(hours * 3_600_000),
                )
                .expect("signed")
        };
        let first = get("https://a.test", 0);
        assert_eq!(
            verify(&first),
            serde_json::json!({
                "aud": "https://a.test",
                "exp": 1_800_000_000u64 + 12 * 3600,
                "sub": "mailto:postmaster@x.test",
            })
        );
        assert!(first.ends_with(&format!(", k={}", URL_SAFE_NO_PAD.encode(vapid.public()))));
        assert_eq!(get("https://a.test", 5), first);
        assert_ne!(get("https://b.test", 5), first);
        let renewed = get("https://a.test", 6);
        assert_eq!(verify(&renewed)["exp"], 1_800_000_000u64 + 18 * 3600);
        vapid.forget("https://a.test");
        // ECDSA signatures differ each time they are made.
        assert_ne!(get("https://a.test", 6), renewed);
    }

    #[test]
    fn a_damaged_key_is_refused() {
        assert!(Vapid::from_pkcs8(b"nonsense").is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let vapid = vapid();
        for i in 0..=MAX_ORIGINS {
            let origin = format!("https://{i}.test");
            vapid
                .header(&origin, "mailto:a@x.test", UnixMillis(0))
                .expect("signed");
        }
        assert!(vapid.tokens.lock().len() <= MAX_ORIGINS);
    }
}
