//! SASL exchanges as machines (RFC 4422): PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 with and
//! without channel binding (RFC 5802, RFC 7677), and OAUTHBEARER (RFC 7628).
//!
//! Machine: no IO, no clock, no randomness.

mod bearer;
mod scram;

use std::sync::Arc;

use super::AuthError;
use crate::store::{Account, ScramKeys};
use crate::types::Secret;

pub use scram::Binding;

/// Which mechanisms there are besides PLAIN and LOGIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    pub scram: bool,
    pub bearer: bool,
    /// The connection has something to bind a login to: TLS.
    pub binding: bool,
}

impl Offered {
    /// For the fuzzers and tests of those who speak SASL.
    #[doc(hidden)]
    pub const ALL: Self = Self {
        scram: true,
        bearer: true,
        binding: true,
    };

    /// Their names, the strongest first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.scram && self.binding, "SCRAM-SHA-256-PLUS"),
            (self.scram, "SCRAM-SHA-256"),
            (self.bearer, "OAUTHBEARER"),
            (true, "PLAIN"),
            (true, "LOGIN"),
        ]
        .into_iter()
        .filter_map(|(offered, name)| offered.then_some(name))
    }
}

/// Who a client says it is, and what is to prove it.
#[derive(Debug)]
pub struct Claim {
    /// Empty, or it must name the same account.
    pub authzid: String,
    pub login: String,
    pub proof: Proof,
}

#[derive(Debug)]
pub enum Proof {
    Password(Secret),
    /// SCRAM: judged already. None: nobody of that name, or one who has no keys.
    Scram {
        account: Option<Arc<Account>>,
        right: bool,
    },
    /// OAuth 2.0: says itself whose it is.
    Token(Secret),
}

/// Whose keys are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub login: String,
    /// What the client has bound its login to, to be compared with what is here.
    pub binding: Option<Binding>,
}

/// What is known of somebody: made up where nobody is.
#[derive(Clone, Debug)]
pub struct Found {
    pub account: Option<Arc<Account>>,
    pub keys: ScramKeys,
    /// Fresh and random, of printable characters without a comma.
    pub nonce: String,
    /// What is on this side of the binding.
    pub binding: Option<Vec<u8>>,
}

impl Found {
    /// For the fuzzers and tests of those who speak SASL.
    #[doc(hidden)]
    pub fn nobody() -> Self {
        Self {
            account: None,
            keys: ScramKeys {
                salt: [0; 16],
                iterations: 4096,
                stored_key: [0; 32],
                server_key: [0; 32],
            },
            nonce: "server".into(),
            binding: None,
        }
    }
}

/// What the peer is told once a claim was judged, before the outcome; it answers to that.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct After {
    pub right: Option<Vec<u8>>,
    pub wrong: Option<Vec<u8>>,
}

/// What a mechanism wants next.
#[derive(Debug)]
pub enum Step {
    /// Send this (before base64) and give the answer to `respond`.
    Challenge(Vec<u8>),
    /// Find this, and give it to `found`.
    Lookup(Lookup),
    /// Judge this, then go on with `judged`.
    Check(Claim, After),
    /// It is over.
    Done(Result<(), AuthError>),
    /// The client's answer makes no sense.
    Malformed,
}

/// A running exchange. The caller does base64 and `*` (cancel).
#[derive(Debug)]
pub enum Exchange {
    Plain,
    LoginUser,
    LoginPassword {
        login: String,
    },
    Scram(Box<scram::Scram>),
    Bearer,
    /// The last word was said, the client has to answer to it.
    Judged(Result<(), AuthError>),
}

/// Longest login name or password taken, bytes.
const MAX_FIELD: usize = 1024;

impl Exchange {
    /// `mechanism` without regard to case; None: not offered.
    pub fn start(mechanism: &str, offered: Offered) -> Option<Self> {
        let name = offered
            .names()
            .find(|name| name.eq_ignore_ascii_case(mechanism))?;
        Some(match name {
            "PLAIN" => Self::Plain,
            "LOGIN" => Self::LoginUser,
            "OAUTHBEARER" => Self::Bearer,
            name => {
                let plus = name.ends_with("-PLUS");
                Self::Scram(Box::new(scram::Scram::new(plus, offered.binding)))
            }
        })
    }

    /// The first step; `initial` is the initial response, if the client gave one (RFC 4954, 4).
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Step {
        match (initial, &self) {
            (Some(response), _) => self.respond(response),
            (None, Self::LoginUser) => Step::Challenge(b"Username:".to_vec()),
            (None, _) => Step::Challenge(Vec::new()),
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
                let claim = Claim {
                    authzid: String::new(),
                    login: std::mem::take(login),
                    proof: Proof::Password(Secret::new(response)),
                };
                Step::Check(claim, After::default())
            }
            Self::Scram(scram) => scram.respond(response),
            Self::Bearer => bearer::respond(response).unwrap_or(Step::Malformed),
            // RFC 5802, 5: what the server says last is answered with nothing.
            Self::Judged(Ok(())) if !response.is_empty() => Step::Malformed,
            Self::Judged(result) => Step::Done(result.clone()),
        }
    }

    /// What was asked for by `Step::Lookup`.
    pub fn found(&mut self, found: Result<Found, AuthError>) -> Step {
        match (self, found) {
            (Self::Scram(scram), Ok(found)) => scram.found(found),
            (_, Ok(_)) => Step::Malformed,
            (_, Err(error)) => Step::Done(Err(error)),
        }
    }

    /// A claim was judged.
    pub fn judged(&mut self, result: Result<(), AuthError>, after: After) -> Step {
        let last = match &result {
            Ok(()) => after.right,
            Err(AuthError::Invalid) => after.wrong,
            Err(_) => None,
        };
        match last {
            Some(last) => {
                *self = Self::Judged(result);
                Step::Challenge(last)
            }
            None => Step::Done(result),
        }
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= MAX_FIELD && !text.contains('\0')).then(|| text.to_owned())
}

/// A name in SCRAM and OAUTHBEARER (RFC 5802, 5.1: `saslname`).
fn sasl_name(bytes: &[u8]) -> Option<String> {
    let text = text(bytes)?;
    let mut name = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        name.push(match after.get(..2)? {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = &after[2..];
    }
    name.push_str(rest);
    Some(name)
}

/// What a header of GS2 says (RFC 5801, 4).
struct Gs2<'a> {
    /// `n`, `y`, or `p=` and a name.
    flag: &'a [u8],
    authzid: String,
    /// With its two commas.
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Gs2<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let mut parts = message.splitn(3, |b| *b == b',');
        let (flag, authzid, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let authzid = match authzid {
            b"" => String::new(),
            given => sasl_name(given.strip_prefix(b"a=")?)?,
        };
        let whole = message.get(..message.len() - rest.len())?;
        Some(Self {
            flag,
            authzid,
            whole,
            rest,
        })
    }
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
    let claim = Claim {
        authzid,
        login,
        proof: Proof::Password(Secret::new(password)),
    };
    Some(Step::Check(claim, After::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(step: Step) -> Option<(String, String, Vec<u8>)> {
        match step {
            Step::Check(claim, _) => match claim.proof {
                Proof::Password(password) => {
                    Some((claim.authzid, claim.login, password.expose().to_vec()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn plain_and_login() {
        let start = |name| Exchange::start(name, Offered::default());
        let mut plain = start("plain").expect("offered");
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
        let mut login = start("LOGIN").expect("offered");
        assert!(matches!(login.begin(None), Step::Challenge(c) if c == b"Username:"));
        assert!(matches!(login.respond(b"u"), Step::Challenge(c) if c == b"Password:"));
        assert_eq!(
            checked(login.respond(b"p")),
            Some((String::new(), "u".into(), b"p".to_vec()))
        );
        assert!(start("CRAM-MD5").is_none());
    }

    #[test]
    fn only_what_is_offered_begins() {
        let all = |offered: Offered| offered.names().collect::<Vec<_>>().join(" ");
        assert_eq!(all(Offered::default()), "PLAIN LOGIN");
        let scram = Offered {
            scram: true,
            ..Offered::default()
        };
        assert_eq!(all(scram), "SCRAM-SHA-256 PLAIN LOGIN");
        let tls = Offered {
            scram: true,
            bearer: true,
            binding: true,
        };
        assert_eq!(
            all(tls),
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER PLAIN LOGIN"
        );
        assert!(Exchange::start("SCRAM-SHA-256-PLUS", scram).is_none());
        assert!(Exchange::start("scram-sha-256-plus", tls).is_some());
        assert!(Exchange::start("OAUTHBEARER", scram).is_none());
    }

    #[test]
    fn names_have_their_commas_and_equals_signs_back() {
        for (coded, name) in [
            ("user", Some("user")),
            ("a=2Cb=3Dc", Some("a,b=c")),
            ("=3D2C", Some("=2C")),
            ("a=2c", None),
            ("a=", None),
            ("a=4", None),
            ("=é", None),
            ("", None),
        ] {
            assert_eq!(sasl_name(coded.as_bytes()).as_deref(), name, "{coded}");
        }
    }
}
