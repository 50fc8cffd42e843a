//! What the server offers, and what a client has switched on (RFC 9051, 6.1.1 and 6.3.1).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Before login only what matters there is told: many clients ask again afterwards, as they
//! should, and strangers learn less.

use crate::config::ImapConfig;

/// What was switched on by ENABLE, or by a command that implies it. Nothing is switched off
/// again but by UNAUTHENTICATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    /// IMAP4rev2 (RFC 9051).
    pub rev2: bool,
}

impl Enabled {
    /// ENABLE of one capability, in upper case. None: not one that can be enabled. Some: its
    /// name, as ENABLED tells it.
    pub fn enable(&mut self, name: &str) -> Option<&'static str> {
        match name {
            "IMAP4REV2" => {
                self.rev2 = true;
                Some("IMAP4rev2")
            }
            _ => None,
        }
    }

    /// Whether names and strings are UTF-8.
    pub fn utf8(self) -> bool {
        self.rev2
    }
}

/// The state that decides what is offered.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub config: &'a ImapConfig,
    pub tls: bool,
    /// Passwords may come.
    pub may_login: bool,
    pub authenticated: bool,
}

/// Offered in every state.
const ALWAYS: &[&str] = &[
    "IMAP4rev1",
    "IMAP4rev2",
    "LITERAL+",
    "SASL-IR",
    "ID",
    "ENABLE",
    "IDLE",
];

/// Offered to those who are logged in.
const AUTHENTICATED: &[&str] = &[
    "NAMESPACE",
    "CHILDREN",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "NOTIFY",
    "ESEARCH",
    "SEARCHRES",
    "WITHIN",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "STATUS=SIZE",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
];

/// `CAPABILITY` and all that is offered.
pub fn line(standing: Standing<'_>) -> String {
    let mut all = vec!["CAPABILITY".to_owned()];
    let mut put = |names: &[&str]| all.extend(names.iter().map(|&n| n.to_owned()));
    put(ALWAYS);
    if standing.authenticated {
        put(AUTHENTICATED);
        put(&[&format!("APPENDLIMIT={}", standing.config.max_append_bytes)]);
    } else {
        if !standing.tls {
            put(&["STARTTLS"]);
        }
        put(if standing.may_login {
            &["AUTH=PLAIN", "AUTH=LOGIN"]
        } else {
            &["LOGINDISABLED"]
        });
    }
    all.join(" ")
}
