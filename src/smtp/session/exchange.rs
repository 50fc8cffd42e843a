//! What goes into a session and comes out of it.
//!
//! Machine: no IO, no clock, no randomness.

use crate::auth::AuthError;
use crate::auth::sasl::{Claim, Found, Lookup, Offered};
use crate::config::SmtpConfig;
use crate::mail::HeaderSeen;
use crate::smtp::parser::Target;
use crate::smtp::reply::Reply;
use crate::store::Resolution;
use crate::types::{AccountId, Address};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Mx,
    Submission,
}

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub role: Role,
    pub hostname: String,
    pub limits: SmtpConfig,
    pub tls: bool,
    pub can_start_tls: bool,
    /// Passwords may come without TLS (a loopback peer, allowed by the configuration).
    pub clear_login: bool,
    /// Mechanisms of AUTH; `tls` says whether there is something to bind to.
    pub offered: Offered,
}

/// Work that the machine can't do itself; it waits for the answer.
#[derive(Debug)]
pub enum Work {
    /// Who is that, and is there room for a message of this size?
    Resolve(Target, Expected),
    Login(Claim),
    /// For SCRAM.
    Lookup(Lookup),
    /// May this account send, and as this address; is there room for so many bytes?
    Admit {
        account: Option<AccountId>,
        from: Option<Address>,
        size: u64,
    },
    /// What the URL names is part of the message; then `Answer::Part`.
    OpenUrl(String),
    /// The next piece of it.
    ReadUrl,
    Deliver(Envelope),
}

/// What a message may come to on disk, as far as the peer has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub least: u64,
    pub most: u64,
}

#[derive(Debug)]
pub enum Answer {
    Resolved(Resolution),
    /// An account of these has room for the least that is expected, and not for the most.
    Tight(Resolution),
    /// The recipient has reached its quota, or would with this message.
    OverQuota,
    /// The recipient's mailbox takes no more for now.
    Full,
    LoggedIn(Result<AccountId, AuthError>),
    Found(Result<Found, AuthError>),
    Admitted(Admission),
    /// A piece of what a URL names; None: that was all.
    Part(Result<Option<Vec<u8>>, PartError>),
    /// Ok: the text after `250 2.0.0`. Only when it is on disk.
    Delivered(Result<String, Reply>),
}

/// Why what a URL names can't be part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartError {
    /// It is none, or does not allow it, or there is no such message.
    Refused,
    Temporary,
}

/// May a message come?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Yes,
    /// Who logged in is nobody here any more.
    NoAccount,
    /// The account may not send as this address.
    NotYours,
    /// The disk is nearly full.
    NoRoom,
}

/// A recipient as given, and the accounts that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub given: String,
    pub accounts: Vec<AccountId>,
}

/// A whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub from: Option<Address>,
    pub recipients: Vec<Accepted>,
    pub helo: String,
    pub esmtp: bool,
    pub tls: bool,
    pub smtp_utf8: bool,
    pub account: Option<AccountId>,
    pub size: u64,
    pub header: HeaderSeen,
}

#[derive(Debug)]
pub enum Output {
    Write(Vec<u8>),
    /// Bytes of the message, to be kept.
    Message(Vec<u8>),
    /// What was kept of the message is not wanted.
    Discard,
    /// The message came in full and was answered with this code; to be counted.
    Refused(u16),
    Work(Work),
    StartTls,
    Close,
}
