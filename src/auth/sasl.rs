//! SASL exchanges as machines (RFC 4422): PLAIN (RFC 4616) and LOGIN.
//!
//! Machine: no IO, no clock, no randomness.

use crate::types::Secret;

/// What a mechanism wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this (before base64) and give the answer to `respond`.
    Challenge(Vec<u8>),
    /// Check these credentials. `authzid` is empty or must name the same account.
    Check {
        authzid: String,
        login: String,
        password: Secret,
    },
    /// The client's answer makes no sense.
    Malformed,
}

/// A running exchange. The caller does base64 and `*` (cancel).
#[derive(Debug)]
pub enum Exchange {
    Plain,
    LoginUser,
    LoginPassword { login: String },
}

/// Longest login name or password taken, bytes.
const MAX_FIELD: usize = 1024;

impl Exchange {
    /// `mechanism` without regard to case; None: not offered.
    pub fn start(mechanism: &str) -> Option<Self> {
        if mechanism.eq_ignore_ascii_case("PLAIN") {
            Some(Self::Plain)
        } else if mechanism.eq_ignore_ascii_case("LOGIN") {
            Some(Self::LoginUser)
        } else {
            None
        }
    }

    /// The first step; `initial` is the initial response, if the client gave one (RFC 4954, 4).
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Step {
        match (initial, &self) {
            (Some(response), _) => self.respond(response),
            (None, Self::Plain) => Step::Challenge(Vec::new()),
            (None, _) => Step::Challenge(b"Username:".to_vec()),
        }
    }

    pub fn respond(&mut self, response: &[u8]) -> Step {
        match self {
            Self::Plain => plain(response).unwrap_or(Step::Malformed),
            Self::LoginUser => match text(response) {
                Some(login) => {
                    *self = Self::LoginPassword { login };
                    Step::Challenge(b"Password:".to_vec())
                }
                None => Step::Malformed,
            },
            Self::LoginPassword { login } => {
                if response.len() > MAX_FIELD {
                    return Step::Malformed;
                }
                Step::Check {
                    authzid: String::new(),
                    login: std::mem::take(login),
                    password: Secret::new(response),
                }
            }
        }
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= MAX_FIELD && !text.contains('\0')).then(|| text.to_owned())
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616, 2).
fn plain(response: &[u8]) -> Option<Step> {
    let mut parts = response.splitn(3, |b| *b == 0);
    let authzid = parts.next()?;
    let login = text(parts.next()?)?;
    let password = parts.next()?;
    if password.is_empty() || password.len() > MAX_FIELD || password.contains(&0) {
        return None;
    }
    let authzid = if authzid.is_empty() {
        String::new()
    } else {
        text(authzid)?
    };
    Some(Step::Check {
        authzid,
        login,
        password: Secret::new(password),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(step: Step) -> Option<(String, String, Vec<u8>)> {
        match step {
            Step::Check {
                authzid,
                login,
                password,
            } => Some((authzid, login, password.expose().to_vec())),
            _ => None,
        }
    }

    #[test]
    fn plain_and_login() {
        let mut plain = Exchange::start("plain").expect("offered");
        let want = Some(("z".into(), "u".into(), b"p".to_vec()));
        assert_eq!(checked(plain.begin(Some(b"z\0u\0p"))), want);
        for bad in [
            &b"u\0p"[..],
            b"\0\0p",
            b"\0u\0",
            b"\0u\0p\0",
            b"",
            b"\0\xff\0p",
        ] {
            assert!(matches!(plain.respond(bad), Step::Malformed), "{bad:?}");
        }
        let mut login = Exchange::start("LOGIN").expect("offered");
        assert!(matches!(login.begin(None), Step::Challenge(c) if c == b"Username:"));
        assert!(matches!(login.respond(b"u"), Step::Challenge(c) if c == b"Password:"));
        assert_eq!(
            checked(login.respond(b"p")),
            Some((String::new(), "u".into(), b"p".to_vec()))
        );
        assert!(Exchange::start("CRAM-MD5").is_none());
    }
}
