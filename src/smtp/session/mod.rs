//! One SMTP session, MX or submission (RFC 5321, 6409, 2920, 1870, 3030, 3207, 4954, 6531).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Bytes go in by `input`, the results of work by `answer`; what is to be done comes out of
//! `poll`, in order. While work is under way nothing more is parsed. Replies to pipelined
//! commands leave in one piece.

mod exchange;
mod input;
mod login;
mod parts;
mod transaction;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::auth::sasl::{After, Exchange};
use crate::mail::HeaderWatch;
use crate::smtp::data::{ChunkReader, DataReader};
use crate::smtp::parser::{Command, MailParameters};
use crate::smtp::reply::{Reply, store_error};
use crate::store::StoreError;
use crate::telemetry::{SmtpRefusal, SmtpState};
use crate::types::{AccountId, Address};

pub use exchange::{
    Accepted, Admission, Answer, Envelope, Expected, Output, PartError, Role, Settings, Work,
};

/// How much of a message must come for its timeout to begin anew: a byte now and then holds no
/// place for ever.
const PROGRESS: usize = 1024;

#[derive(Debug)]
struct Transaction {
    from: Option<Address>,
    parameters: MailParameters,
    recipients: Vec<Accepted>,
    /// Its recipient may be found to be full with the message: so it is the only one.
    alone: bool,
    /// Unknown users that were named besides.
    unknown: usize,
}

#[derive(Debug)]
enum Phase {
    Command,
    /// Waits for the next line of a login.
    Sasl(Exchange),
    Data(Box<DataReader>),
    /// Bytes left of a chunk. `refused`: they are swallowed, and this is the answer.
    Chunk {
        left: u64,
        last: bool,
        refused: Option<Reply>,
    },
    /// Work is under way.
    Waiting(Waiting),
    StartingTls,
    Closed,
}

#[derive(Debug)]
enum Waiting {
    Rcpt(String),
    Lookup(Exchange),
    Login(Exchange, After),
    Mail(Box<Transaction>),
    Delivery,
    /// A part of the message; is it the last?
    Part(bool),
}

/// The message that comes in.
#[derive(Debug, Default)]
struct Incoming {
    size: u64,
    over: bool,
    header: HeaderWatch,
    chunks: Option<Box<ChunkReader>>,
}

#[derive(Debug)]
pub struct Session {
    settings: Settings,
    phase: Phase,
    input: BytesMut,
    /// The line that comes in was too long and is swallowed.
    swallowing: bool,
    replies: Vec<u8>,
    /// To be counted.
    refusals: Vec<SmtpRefusal>,
    output: VecDeque<Output>,
    helo: Option<(String, bool)>,
    account: Option<AccountId>,
    /// Who was let in, and has not yet heard all of it.
    claimed: Option<AccountId>,
    transaction: Option<Transaction>,
    incoming: Option<Incoming>,
    /// Since the last message that was taken, as is `junk`: who delivers is let stay.
    errors: u32,
    /// Commands that did nothing.
    junk: u32,
    transactions: u32,
    started: Instant,
    now: Instant,
    /// When something whole came last: what the timeouts count from.
    since: Instant,
    /// Bytes of a message since then.
    progress: usize,
    stopping: bool,
    revoked: bool,
}

impl Session {
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut session = Self {
            phase: Phase::Command,
            input: BytesMut::new(),
            swallowing: false,
            replies: Vec::new(),
            refusals: Vec::new(),
            output: VecDeque::new(),
            helo: None,
            account: None,
            claimed: None,
            transaction: None,
            incoming: None,
            errors: 0,
            junk: 0,
            transactions: 0,
            started: now,
            now,
            since: now,
            progress: 0,
            stopping: false,
            revoked: false,
            settings,
        };
        let greeting = format!("{} ESMTP Posthorn", session.settings.hostname);
        session.reply(&Reply::new(220, "", greeting));
        session.flush();
        session
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Why commands were refused since the last call.
    pub fn take_refusals(&mut self) -> Vec<SmtpRefusal> {
        std::mem::take(&mut self.refusals)
    }

    /// True while nothing may be read: work or a handshake is under way.
    pub fn is_busy(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting(_) | Phase::StartingTls | Phase::Closed
        )
    }

    pub fn state(&self) -> SmtpState {
        let stored = matches!(self.phase, Phase::Waiting(Waiting::Delivery));
        if self.incoming.is_some() || stored {
            SmtpState::Message
        } else if self.transaction.is_some() {
            SmtpState::Transaction
        } else if self.account.is_some() {
            SmtpState::Authenticated
        } else if self.helo.is_some() {
            SmtpState::Ready
        } else {
            SmtpState::Greeting
        }
    }

    /// When to call `timeout`.
    pub fn deadline(&self) -> Instant {
        let limits = &self.settings.limits;
        let wait = match self.phase {
            Phase::Data(_) | Phase::Chunk { .. } => limits.data_timeout_secs,
            _ => limits.command_timeout_secs,
        };
        let session = self.started + Duration::from_secs(limits.session_timeout_secs);
        session.min(self.since + Duration::from_secs(wait))
    }

    pub fn timeout(&mut self) {
        self.end(&Reply::new(421, "4.4.2", "Timeout, closing connection"));
    }

    /// The server stops: a message that is coming in may still end, nothing else begins.
    pub fn shutdown(&mut self) {
        self.stopping = true;
        if self.is_between() {
            self.stop_now();
        }
    }

    /// The account that logged in was removed or disabled, or has a new password: the same, and
    /// the shell refuses a message that is coming in.
    pub fn revoked(&mut self) {
        self.revoked = true;
        self.shutdown();
    }

    /// No message is coming in, no work is under way.
    fn is_between(&self) -> bool {
        let receiving = matches!(
            self.phase,
            Phase::Data(_) | Phase::Chunk { .. } | Phase::Waiting(_) | Phase::StartingTls
        );
        !receiving && self.incoming.is_none() && !matches!(self.phase, Phase::Closed)
    }

    fn stop_now(&mut self) {
        self.end(&if self.revoked {
            Reply::new(421, "4.7.0", "Your account changed, log in again")
        } else {
            Reply::new(421, "4.3.2", "Service shutting down")
        });
    }

    fn end(&mut self, reply: &Reply) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.reply(reply);
        self.close();
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.input = BytesMut::new();
        self.flush();
        self.output.push_back(Output::Close);
    }

    fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.replies);
    }

    /// A command before the message is refused, which is counted.
    fn turn_away(&mut self, why: SmtpRefusal, reply: &Reply) {
        self.refusals.push(why);
        self.refuse(reply);
    }

    /// A reply that counts as an error of the peer.
    fn refuse(&mut self, reply: &Reply) {
        self.reply(reply);
        self.error();
    }

    /// A command was answered that brings nobody on. Strangers may not have it done without end.
    fn junk(&mut self) {
        self.junk += 1;
        if self.junk > self.settings.limits.max_junk_commands {
            self.error();
        }
    }

    fn error(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.limits.max_errors {
            self.end(&Reply::new(421, "4.7.0", "Too many errors"));
        }
    }

    fn flush(&mut self) {
        if !self.replies.is_empty() {
            self.output
                .push_back(Output::Write(std::mem::take(&mut self.replies)));
        }
    }

    fn work(&mut self, work: Work, waiting: Waiting) {
        self.phase = Phase::Waiting(waiting);
        self.output.push_back(Output::Work(work));
    }

    /// Bytes from the peer. Only when not busy.
    pub fn input(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        if matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. }) {
            self.progress += bytes.len();
            if self.progress >= PROGRESS {
                self.came(now);
            }
        }
        self.input.extend_from_slice(bytes);
        self.advance();
    }

    /// Something whole came, the next may take its time.
    fn came(&mut self, now: Instant) {
        self.now = now;
        self.since = now;
        self.progress = 0;
    }

    /// The handshake is done: everything before it is forgotten (RFC 3207, 4.2).
    pub fn tls_started(&mut self, now: Instant) {
        self.settings.tls = true;
        self.came(now);
        self.input.clear();
        self.helo = None;
        self.account = None;
        self.discard();
        self.reset();
        self.phase = Phase::Command;
    }

    pub fn answer(&mut self, now: Instant, answer: Answer) {
        self.came(now);
        let Phase::Waiting(waiting) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        match (waiting, answer) {
            (Waiting::Rcpt(given), Answer::Resolved(resolution)) => {
                self.resolved(given, resolution, false)
            }
            (Waiting::Rcpt(given), Answer::Tight(resolution)) => {
                self.resolved(given, resolution, true)
            }
            (Waiting::Rcpt(_), Answer::OverQuota) => {
                // The peer did nothing wrong, and may have others.
                self.refusals.push(SmtpRefusal::OverQuota);
                self.reply(&store_error(&StoreError::OverQuota));
                self.junk();
            }
            (Waiting::Rcpt(_), Answer::Full) => self.refuse(&store_error(&StoreError::MailboxFull)),
            (Waiting::Lookup(mut exchange), Answer::Found(found)) => {
                let step = exchange.found(found);
                self.sasl_step(exchange, step);
            }
            (Waiting::Login(mut exchange, after), Answer::LoggedIn(result)) => {
                self.claimed = result.as_ref().ok().copied();
                let step = exchange.judged(result.map(|_| ()), after);
                self.sasl_step(exchange, step);
            }
            (Waiting::Mail(transaction), Answer::Admitted(admission)) => {
                self.admitted(*transaction, admission)
            }
            (Waiting::Part(last), Answer::Part(part)) => self.part(part, last),
            (Waiting::Delivery, Answer::Delivered(result)) => {
                match result {
                    Ok(text) => {
                        (self.errors, self.junk) = (0, 0);
                        self.reply(&Reply::new(250, "2.0.0", text));
                    }
                    Err(reply) => self.reply(&reply),
                }
                self.reset();
            }
            // An answer to another question: a fault of the shell, the peer tries again.
            _ => self.end(&Reply::new(421, "4.3.0", "Internal error")),
        }
        self.advance();
    }

    fn reset(&mut self) {
        self.transaction = None;
        self.incoming = None;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ehlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Mail { from, parameters } => self.mail(from, parameters),
            Command::Rcpt { to, utf8 } => self.rcpt(to, utf8),
            Command::Data => self.data(),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Burl { url, last } => self.burl(url, last),
            Command::Rset => {
                self.discard();
                self.reset();
                self.reply(&Reply::new(250, "2.0.0", "Reset"));
                self.junk();
            }
            Command::Noop => {
                self.reply(&Reply::new(250, "2.0.0", "OK"));
                self.junk();
            }
            Command::Quit => self.end(&Reply::new(221, "2.0.0", "Goodbye")),
            // RFC 5321, 7.3: nobody is told who is here.
            Command::Vrfy => {
                self.reply(&Reply::new(252, "2.5.2", "Send mail, it will be tried"));
                self.junk();
            }
            Command::Expn => self.refuse(&Reply::new(502, "5.5.1", "EXPN is not implemented")),
            Command::Help => {
                self.reply(&Reply::new(214, "2.0.0", "See RFC 5321"));
                self.junk();
            }
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial),
        }
    }

    fn hello(&mut self, name: String, esmtp: bool) {
        self.discard();
        self.reset();
        let again = self.helo.replace((name, esmtp)).is_some();
        if esmtp {
            self.greet();
        } else {
            let hostname = self.settings.hostname.clone();
            self.reply(&Reply::new(250, "", hostname));
        }
        if again {
            self.junk();
        }
    }

    fn greet(&mut self) {
        let mut lines = vec![
            self.settings.hostname.clone(),
            "PIPELINING".into(),
            format!("SIZE {}", self.settings.limits.max_message_bytes),
            "8BITMIME".into(),
            "SMTPUTF8".into(),
            "ENHANCEDSTATUSCODES".into(),
            "CHUNKING".into(),
        ];
        if self.settings.role == Role::Submission {
            lines.push(self.burl_keyword());
        }
        if self.settings.can_start_tls && !self.settings.tls {
            lines.push("STARTTLS".into());
        }
        if self.may_login() {
            let names: Vec<_> = self.offered().names().collect();
            lines.push(format!("AUTH {}", names.join(" ")));
        }
        let last = lines.len() - 1;
        for (n, line) in lines.iter().enumerate() {
            let dash = if n == last { ' ' } else { '-' };
            self.replies
                .extend_from_slice(format!("250{dash}{line}\r\n").as_bytes());
        }
    }

    fn start_tls(&mut self) {
        if self.settings.tls || !self.settings.can_start_tls {
            return self.refuse(&Reply::new(503, "5.5.1", "TLS is not available now"));
        }
        self.reply(&Reply::new(220, "2.0.0", "Ready to start TLS"));
        self.phase = Phase::StartingTls;
        // What came in the clear behind it is never looked at.
        self.input.clear();
        self.output.push_back(Output::StartTls);
    }

    fn discard(&mut self) {
        if self.incoming.is_some() {
            self.output.push_back(Output::Discard);
        }
    }
}
