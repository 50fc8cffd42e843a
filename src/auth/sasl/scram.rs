//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Invariant: somebody who is not here, or has no keys, gets the same messages as somebody who
//! is, up to the outcome.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{After, Claim, Found, Gs2, Lookup, MAX_FIELD, Proof, Step, sasl_name};
use crate::auth::AuthError;

/// What a login is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// RFC 9266; of TLS 1.3 only, since nothing tells whether a session of TLS 1.2 has the
    /// extended master secret.
    TlsExporter,
    /// RFC 5929, 4.
    TlsServerEndPoint,
}

impl Binding {
    fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"tls-exporter" => Some(Self::TlsExporter),
            b"tls-server-end-point" => Some(Self::TlsServerEndPoint),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Scram {
    plus: bool,
    /// SCRAM-SHA-256-PLUS was to be had.
    offered: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    First,
    Looking {
        first: First,
    },
    Final {
        first: First,
        server_first: String,
        nonce: String,
        found: Found,
    },
    Over,
}

/// What the client's first message said.
#[derive(Debug)]
struct First {
    gs2: Vec<u8>,
    authzid: String,
    login: String,
    nonce: String,
    /// Without the GS2 header.
    bare: String,
}

impl Scram {
    pub(super) fn new(plus: bool, offered: bool) -> Self {
        Self {
            plus,
            offered,
            state: State::First,
        }
    }

    pub(super) fn respond(&mut self, response: &[u8]) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(response).unwrap_or(Step::Malformed),
            State::Final {
                first,
                server_first,
                nonce,
                found,
            } => last(first, &server_first, &nonce, found, response).unwrap_or(Step::Malformed),
            State::Looking { .. } | State::Over => Step::Malformed,
        }
    }

    fn first(&mut self, response: &[u8]) -> Option<Step> {
        let header = Gs2::parse(response)?;
        let binding = match (header.flag, self.plus) {
            (b"n", false) => None,
            // RFC 5802, 6: it saw no -PLUS where there is one, so somebody took that away.
            (b"y", false) if self.offered => return Some(Step::Done(Err(AuthError::Invalid))),
            (b"y", false) => None,
            (flag, true) => match Binding::named(flag.strip_prefix(b"p=")?) {
                Some(binding) => Some(binding),
                None => return Some(Step::Done(Err(AuthError::Invalid))),
            },
            _ => return None,
        };
        // Extensions that must be understood (`m=`) are not: then this is not `n=`.
        let bare = std::str::from_utf8(header.rest).ok()?;
        let mut parts = bare.split(',');
        let login = sasl_name(parts.next()?.strip_prefix("n=")?.as_bytes())?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let printable = |b: u8| (0x21..=0x7e).contains(&b);
        if nonce.is_empty() || nonce.len() > MAX_FIELD || !nonce.bytes().all(printable) {
            return None;
        }
        let lookup = Lookup {
            login: login.clone(),
            binding,
        };
        let first = First {
            gs2: header.whole.to_vec(),
            authzid: header.authzid,
            login,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
        };
        self.state = State::Looking { first };
        Some(Step::Lookup(lookup))
    }

    pub(super) fn found(&mut self, found: Found) -> Step {
        let State::Looking { first } = std::mem::replace(&mut self.state, State::Over) else {
            return Step::Malformed;
        };
        // There is nothing of this sort to bind to, such as an exporter of TLS 1.2.
        if self.plus && found.binding.is_none() {
            return Step::Done(Err(AuthError::Invalid));
        }
        let nonce = format!("{}{}", first.nonce, found.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(found.keys.salt),
            found.keys.iterations
        );
        let challenge = server_first.clone().into_bytes();
        self.state = State::Final {
            first,
            server_first,
            nonce,
            found,
        };
        Step::Challenge(challenge)
    }
}

/// `c=...,r=...[,extensions],p=...`
fn last(
    first: First,
    server_first: &str,
    nonce: &str,
    found: Found,
    response: &[u8],
) -> Option<Step> {
    let text = std::str::from_utf8(response).ok()?;
    let (without_proof, proof) = text.rsplit_once(",p=")?;
    let proof = STANDARD.decode(proof).ok()?;
    let mut parts = without_proof.split(',');
    let bound = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
    let said = parts.next()?.strip_prefix("r=")?;

    let mut binding = first.gs2;
    binding.extend_from_slice(found.binding.as_deref().unwrap_or_default());
    let message = format!("{},{server_first},{without_proof}", first.bare);
    let fits = [
        verify_slices_are_equal(&bound, &binding).is_ok(),
        said == nonce,
        proves(&found.keys.stored_key, message.as_bytes(), &proof),
        found.account.is_some(),
    ];
    let signature = sign(&found.keys.server_key, message.as_bytes());
    let claim = Claim {
        authzid: first.authzid,
        login: first.login,
        proof: Proof::Scram {
            right: fits.into_iter().all(|fits| fits),
            account: found.account,
        },
    };
    let after = After {
        right: Some(format!("v={}", STANDARD.encode(signature)).into_bytes()),
        wrong: None,
    };
    Some(Step::Check(claim, after))
}

fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

/// RFC 5802, 3: the hash of what the proof and the signature make together is the stored key.
fn proves(stored_key: &[u8; 32], message: &[u8], proof: &[u8]) -> bool {
    let signature = sign(stored_key, message);
    let mut client_key = [0u8; 32];
    if proof.len() != client_key.len() {
        return false;
    }
    for ((key, proof), signed) in client_key.iter_mut().zip(proof).zip(signature.as_ref()) {
        *key = proof ^ signed;
    }
    let stored = digest::digest(&digest::SHA256, &client_key);
    verify_slices_are_equal(stored.as_ref(), stored_key).is_ok()
}

#[cfg(test)]
mod tests;
