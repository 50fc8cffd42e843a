//! OAuth 2.0 access tokens that are signed JWTs (RFC 7519, RFC 9068): whose is this one?
//!
//! Machine: no IO, no clock, no randomness.
//!
//! RS256, ES256, EdDSA and HS256 (RFC 7518, 3.1; RFC 8037). The algorithm is that of the key:
//! what a token says of itself only chooses among the keys.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Clocks differ: a token is good for so much longer, and before.
const LEEWAY_SECS: f64 = 60.0;
/// Keys of one file.
const MAX_KEYS: usize = 64;
/// A secret that can be guessed signs nothing (RFC 7518, 3.2).
const LEAST_SECRET: usize = 32;

/// What can be wrong with a file of keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it has no key that can check a token: PEM \"PUBLIC KEY\" or a JWK set is wanted")]
    None,
    #[error("it has more than {MAX_KEYS} keys")]
    Many,
    #[error("it is no JWK set: {0}")]
    Json(String),
}

/// What tokens are checked with.
pub(super) struct Keys(Vec<Key>);

struct Key {
    /// Its name; a token that names another is not of this one.
    id: Option<String>,
    material: Material,
}

enum Material {
    /// PKCS#1.
    Rsa(Vec<u8>),
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, not compressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Box<hmac::Key>),
}

/// What a token must say.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub issuer: String,
    pub audience: String,
    /// The claim that names the account.
    pub claim: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Map<String, Value>>,
}

impl Keys {
    /// Of a file: PEM, or a JWK set (RFC 7517). Keys of other kinds are passed over.
    pub(super) fn read(file: &[u8]) -> Result<Self, KeyError> {
        let keys: Vec<Key> = if file.trim_ascii_start().starts_with(b"{") {
            let set: JwkSet =
                serde_json::from_slice(file).map_err(|error| KeyError::Json(error.to_string()))?;
            set.keys.iter().filter_map(jwk).collect()
        } else {
            SubjectPublicKeyInfoDer::pem_slice_iter(file)
                .filter_map(|key| spki(key.ok()?.as_ref()))
                .map(|material| Key { id: None, material })
                .collect()
        };
        match keys.len() {
            0 => Err(KeyError::None),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err(KeyError::Many),
        }
    }

    /// The account that a token is for; `now` in seconds since 1970.
    pub(super) fn whose(&self, token: &[u8], rules: &Rules, now: i64) -> Option<String> {
        let claims: Map<String, Value> = serde_json::from_slice(&self.signed(token)?).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let time = |name: &str| claims.get(name).map(|time| time.as_f64());
        if text("iss") != Some(&rules.issuer) {
            return None;
        }
        let for_us = match claims.get("aud")? {
            Value::String(audience) => *audience == rules.audience,
            Value::Array(all) => all.iter().any(|a| a.as_str() == Some(&rules.audience)),
            _ => false,
        };
        let now = now as f64;
        let good = for_us
            && now < time("exp")?? + LEEWAY_SECS
            && time("nbf").is_none_or(|from| from.is_some_and(|from| from - LEEWAY_SECS <= now));
        // An address that its owner only says is theirs (OpenID Connect Core, 5.1).
        let unproved = rules.claim == "email"
            && claims
                .get("email_verified")
                .is_some_and(|v| *v != Value::Bool(true));
        let account = text(&rules.claim).filter(|account| !account.is_empty())?;
        (good && !unproved).then(|| account.to_owned())
    }

    /// The payload of a token that one of these keys signed (RFC 7515, 5.2).
    fn signed(&self, token: &[u8]) -> Option<Vec<u8>> {
        let dot = token.iter().rposition(|b| *b == b'.')?;
        let (message, signature) = (token.get(..dot)?, token.get(dot + 1..)?);
        let mut parts = message.split(|b| *b == b'.');
        let (header, payload) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let signature = decode(signature)?;
        if header.crit.is_some() {
            return None;
        }
        let named = |key: &&Key| match (&key.id, &header.kid) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        };
        let keys = self.0.iter().filter(named);
        keys.into_iter()
            .any(|key| {
                key.material.algorithm() == header.alg && key.material.signed(message, &signature)
            })
            .then(|| decode(payload))?
    }
}

impl Material {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) | Self::RsaParts { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Secret(_) => "HS256",
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(message, signature)
                .is_ok()
        };
        match self {
            Self::Rsa(key) => public(&RSA_PKCS1_2048_8192_SHA256, key),
            Self::RsaParts { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Self::P256(key) => public(&ECDSA_P256_SHA256_FIXED, key),
            Self::Ed25519(key) => public(&ED25519, key),
            Self::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// RFC 7518, 6; RFC 8037, 2.
fn jwk(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| decode(text(name)?.as_bytes());
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let material = match (text("kty")?, text("crv")) {
        ("RSA", _) => Material::RsaParts {
            n: bytes("n")?,
            e: bytes("e")?,
        },
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            Material::P256([&[4][..], &x, &y].concat())
        }
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
        ("oct", _) => {
            let secret = bytes("k").filter(|secret| secret.len() >= LEAST_SECRET)?;
            Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
        }
        _ => return None,
    };
    if text("alg").is_some_and(|alg| alg != material.algorithm()) {
        return None;
    }
    Some(Key {
        id: text("kid").map(str::to_owned),
        material,
    })
}

/// A public key as X.509 writes it (RFC 5280, 4.1): the head tells its kind and has one form.
fn spki(der: &[u8]) -> Option<Material> {
    const ED25519: &[u8] = &[
        0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    const P256: &[u8] = &[
        0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
        0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const RSA: &[u8] = &[
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
        0x03,
    ];
    let body = der.strip_prefix(&[0x30])?;
    if let Some(key) = body.strip_prefix(ED25519) {
        return Some(Material::Ed25519(key.to_vec()));
    }
    if let Some(key) = body.strip_prefix(P256) {
        return Some(Material::P256(key.to_vec()));
    }
    // Two lengths of up to four bytes, and the count of unused bits, which is none.
    let skip = |bytes: &'static [u8], from: &[u8]| -> Option<Vec<u8>> {
        let (&first, rest) = from.split_first()?;
        let rest = rest.get(usize::from(first.saturating_sub(0x80))..)?;
        rest.strip_prefix(bytes).map(<[u8]>::to_vec)
    };
    let bits = skip(RSA, body)?;
    skip(&[0], &bits).map(Material::Rsa)
}

#[cfg(test)]
mod tests;
