//! What the server offers, and what a client has switched on (RFC 9051, 6.1.1 and 6.3.1).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Before login only what matters there is told: many clients ask again afterwards, as they
//! should, and strangers learn less.

use crate::auth::sasl::Offered;
use crate::config::ImapConfig;

/// What was switched on by ENABLE, or by a command that implies it. Nothing is switched off
/// again but by UNAUTHENTICATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    /// IMAP4rev2 (RFC 9051).
    pub rev2: bool,
    /// FETCH tells mod-sequences unasked (RFC 7162, 3.1).
    pub condstore: bool,
    /// VANISHED in place of EXPUNGE (RFC 7162, 3.2.3). Implies `condstore`.
    pub qresync: bool,
    /// UTF8=ACCEPT (RFC 6855).
    pub utf8_accept: bool,
    /// No message numbers in commands and answers (RFC 9586).
    pub uidonly: bool,
}

impl Enabled {
    /// ENABLE of one capability, in upper case. None: not one that can be enabled. Some: its
    /// name, as ENABLED tells it.
    pub fn enable(&mut self, name: &str, config: &ImapConfig) -> Option<&'static str> {
        match name {
            "IMAP4REV2" => {
                self.rev2 = true;
                Some("IMAP4rev2")
            }
            // RFC 7162, 3.1 and 3.2.3
            "CONDSTORE" => {
                self.condstore = true;
                Some("CONDSTORE")
            }
            "QRESYNC" => {
                self.condstore = true;
                self.qresync = true;
                Some("QRESYNC")
            }
            "UTF8=ACCEPT" => {
                self.utf8_accept = true;
                Some("UTF8=ACCEPT")
            }
            "UIDONLY" if config.uidonly => {
                self.uidonly = true;
                Some("UIDONLY")
            }
            _ => None,
        }
    }

    /// Whether names and strings are UTF-8.
    pub fn utf8(self) -> bool {
        self.rev2 || self.utf8_accept
    }
}

/// The state that decides what is offered.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub config: &'a ImapConfig,
    pub tls: bool,
    /// Mechanisms of AUTHENTICATE; None: no login yet.
    pub mechanisms: Option<Offered>,
    pub authenticated: bool,
    pub compressed: bool,
}

/// Offered in every state.
const ALWAYS: &[&str] = &["IMAP4rev1", "IMAP4rev2", "SASL-IR", "ID", "ENABLE", "IDLE"];

/// Offered to those who are logged in.
const AUTHENTICATED: &[&str] = &[
    "LITERAL+",
    "NAMESPACE",
    "CHILDREN",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "NOTIFY",
    "ESEARCH",
    "SEARCHRES",
    "CONDSTORE",
    "QRESYNC",
    "WITHIN",
    "SORT",
    "SORT=DISPLAY",
    "ESORT",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "I18NLEVEL=1",
    "PARTIAL",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "MULTISEARCH",
    "SEARCH=FUZZY",
    "UIDBATCHES",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "LIST-METADATA",
    "LIST-MYRIGHTS",
    "ACL",
    // RFC 4314, 2.2: those that RFC 2086 has not.
    "RIGHTS=kxte",
    "METADATA",
    "METADATA-SERVER",
    "STATUS=SIZE",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "BINARY",
    "MULTIAPPEND",
    "CATENATE",
    "REPLACE",
    "UTF8=ACCEPT",
    "PREVIEW",
    "OBJECTID",
    "SAVEDATE",
    "URLAUTH",
    "UNAUTHENTICATE",
];

/// `CAPABILITY` and all that is offered.
pub fn line(standing: Standing<'_>) -> String {
    let mut all = vec!["CAPABILITY".to_owned()];
    let mut put = |names: &[&str]| all.extend(names.iter().map(|&n| n.to_owned()));
    put(ALWAYS);
    if standing.authenticated {
        put(AUTHENTICATED);
        if standing.config.message_limit > 0 {
            put(&[&format!("MESSAGELIMIT={}", standing.config.message_limit)]);
        }
        if standing.config.uidonly {
            put(&["UIDONLY"]);
        }
        if !standing.config.administrators.is_empty() {
            put(&["QUOTASET"]);
        }
        put(&[&format!("APPENDLIMIT={}", standing.config.max_append_bytes)]);
        if standing.config.compress_level > 0 && !standing.compressed {
            put(&["COMPRESS=DEFLATE"]);
        }
        if standing.config.progress_secs > 0 {
            put(&["INPROGRESS"]);
        }
    } else {
        put(&["LITERAL-"]);
        if !standing.tls {
            put(&["STARTTLS"]);
        }
        match standing.mechanisms {
            Some(offered) => all.extend(offered.names().map(|name| format!("AUTH={name}"))),
            None => put(&["LOGINDISABLED"]),
        }
    }
    all.join(" ")
}
