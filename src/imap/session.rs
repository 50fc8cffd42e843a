//! One IMAP session: greeting, login, the order of commands, IDLE, timers (RFC 9051, 3 and 5.4;
//! RFC 2177; RFC 4959; RFC 5161).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Bytes go in by `input`, results of work by the `done_...` methods; what is to be done comes
//! out of `poll`, in order. One command is under way at a time; what is pipelined behind it
//! waits in the fragmenter.

pub(super) mod commands;
mod login;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::capability::{self, Enabled, Standing};
use super::command::{AppendPiece, Tagged};
use super::fragment::{ErrorKind, Event, Fragmenter, Limits};
use super::parser::{Options, parse};
use crate::auth::sasl::{After, Claim, Exchange, Lookup, Offered};
use crate::config::ImapConfig;
use crate::telemetry::{ImapEnd, ImapResult, ImapState};

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hostname: String,
    pub limits: ImapConfig,
    pub tls: bool,
    /// Passwords may come without TLS (a loopback peer, allowed by the configuration).
    pub clear_login: bool,
    /// Mechanisms of AUTHENTICATE; `tls` says whether there is something to bind to.
    pub offered: Offered,
}

#[derive(Debug)]
pub enum Output {
    Write(Vec<u8>),
    /// Is it true? Then `done_login`.
    Login(Claim),
    /// Find this for SCRAM; then `done_lookup`.
    Lookup(Lookup),
    /// What follows is compressed, both ways.
    Compress,
    /// What follows is not compressed any more.
    EndCompression,
    /// Nobody is logged in any more; nothing of the account may be left.
    Forget,
    /// Run it and write its answer, the tagged line included; then `done_executing`.
    Execute(Tagged),
    /// An APPEND begins or goes on: is the mailbox there, are the messages that it names, may
    /// data of this size come? Then `append_accepted` or `append_refused`.
    Append(Box<AppendPiece>),
    AppendData(Vec<u8>),
    /// Store all that came and write the answer; then `done_executing`.
    AppendEnd {
        tag: String,
    },
    AppendAbort,
    StartTls,
    /// Tell what is new, now and whenever something changes, until `IdleEnd`.
    IdleBegin,
    /// Tell what is new a last time, write the tagged OK; then `done_executing`.
    IdleEnd {
        tag: String,
    },
    Close(ImapEnd),
}

#[derive(Debug)]
enum Phase {
    Command,
    /// The next line belongs to AUTHENTICATE.
    Sasl {
        tag: String,
        exchange: Exchange,
    },
    /// A claim is judged, or somebody looked up.
    LoggingIn(Box<LoggingIn>),
    Executing,
    Idle {
        tag: String,
    },
    /// A message of an APPEND is asked for, or comes.
    Appending {
        tag: String,
        asked: Asked,
    },
    StartingTls,
    Closed,
}

/// What follows when the shell accepts a piece of an APPEND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Data { sync: bool },
    End,
}

#[derive(Debug)]
struct LoggingIn {
    tag: String,
    /// None: LOGIN.
    exchange: Option<Exchange>,
    after: After,
}

/// RFC 9586, 3.
const UID_REQUIRED: &str = "[UIDREQUIRED] Message numbers are not allowed with UIDONLY";

/// In metrics: what is no command.
const INVALID: &str = "invalid";

pub struct Session {
    settings: Settings,
    phase: Phase,
    fragmenter: Fragmenter,
    authenticated: bool,
    selected: bool,
    compressed: bool,
    enabled: Enabled,
    bad: u32,
    /// The command that is under way, or was last.
    name: &'static str,
    answered: Vec<(&'static str, ImapResult)>,
    output: VecDeque<Output>,
    started: Instant,
    last_command: Instant,
    last_heartbeat: Instant,
    /// NOTIFY asked for something (RFC 5465).
    notifying: bool,
}

fn fragment_limits(config: &ImapConfig, authenticated: bool) -> Limits {
    let literal = if authenticated {
        config.max_literal_bytes
    } else {
        config.max_literal_before_login
    };
    // RFC 7888: LITERAL+ for who is logged in, LITERAL- for strangers.
    let non_sync = if authenticated { literal } else { 4096 };
    Limits {
        max_line: config.max_line_bytes,
        max_literal: literal,
        max_non_sync: non_sync,
        max_literals_total: literal * if authenticated { 4 } else { 1 },
        max_append: if authenticated {
            config.max_append_bytes
        } else {
            0
        },
    }
}

impl Session {
    pub fn new(settings: Settings, now: Instant) -> Self {
        let fragmenter = Fragmenter::new(fragment_limits(&settings.limits, false));
        let mut session = Self {
            phase: Phase::Command,
            fragmenter,
            authenticated: false,
            selected: false,
            compressed: false,
            enabled: Enabled::default(),
            bad: 0,
            name: INVALID,
            answered: Vec::new(),
            output: VecDeque::new(),
            started: now,
            last_command: now,
            last_heartbeat: now,
            notifying: false,
            settings,
        };
        let greeting = format!(
            "* OK [{}] {} Posthorn ready\r\n",
            session.capabilities(),
            session.settings.hostname
        );
        session.write(greeting);
        session
    }

    /// CAPABILITY and what follows it.
    pub fn capabilities(&self) -> String {
        capability::line(Standing {
            config: &self.settings.limits,
            tls: self.settings.tls,
            mechanisms: self.mechanisms(),
            authenticated: self.authenticated,
            compressed: self.compressed,
        })
    }

    pub fn poll(&mut self) -> Option<Output> {
        let output = self.output.pop_front();
        if output.is_none() && self.output.capacity() > 8 {
            self.output = VecDeque::new();
        }
        output
    }

    /// Names of the commands that were answered here since the last call, and with what.
    pub fn take_answered(&mut self) -> Vec<(&'static str, ImapResult)> {
        std::mem::take(&mut self.answered)
    }

    /// True while nothing may be read: work or a handshake is under way.
    pub fn is_busy(&self) -> bool {
        matches!(
            self.phase,
            Phase::LoggingIn(_) | Phase::Executing | Phase::StartingTls | Phase::Closed
        )
    }

    pub fn is_idling(&self) -> bool {
        matches!(self.phase, Phase::Idle { .. })
    }

    /// The client may be told what is new: it idles, or asked by NOTIFY to be told while no
    /// command is under way, which is not so in the middle of one.
    pub fn is_listening(&self) -> bool {
        match self.phase {
            Phase::Idle { .. } => true,
            Phase::Command => self.notifying && self.fragmenter.is_between(),
            _ => false,
        }
    }

    pub fn set_notifying(&mut self, notifying: bool) {
        self.notifying = notifying;
    }

    /// What the client has switched on.
    pub fn enabled(&self) -> Enabled {
        self.enabled
    }

    /// A command switched on what it implies.
    pub fn enabled_by_command(&mut self, enabled: Enabled) {
        self.enabled = enabled;
    }

    pub fn state(&self) -> ImapState {
        match (&self.phase, self.authenticated, self.selected) {
            (Phase::Idle { .. }, ..) => ImapState::Idle,
            (_, false, _) => ImapState::NotAuthenticated,
            (_, true, false) => ImapState::Authenticated,
            (_, true, true) => ImapState::Selected,
        }
    }

    /// When to call `tick`.
    pub fn deadline(&self) -> Instant {
        let limits = &self.settings.limits;
        if !self.authenticated {
            return self.started + Duration::from_secs(limits.login_timeout_secs);
        }
        let end = self.last_command + Duration::from_secs(limits.idle_timeout_secs);
        // Who has asked to be told needs no commands (RFC 5465, 1).
        if self.is_listening() {
            let beat = Duration::from_secs(limits.heartbeat_secs);
            // RFC 2177 lets a server log out who idles for too long; who answers is not dead:
            // TCP keepalive and the heartbeat find the others.
            return if limits.heartbeat_secs > 0 {
                self.last_heartbeat + beat
            } else {
                self.last_heartbeat + Duration::from_secs(24 * 3600)
            };
        }
        end
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Instant) {
        if now < self.deadline() {
            return;
        }
        if self.is_listening() {
            self.last_heartbeat = now;
            if self.settings.limits.heartbeat_secs > 0 {
                self.write("* OK Still here\r\n");
            }
            return;
        }
        self.bye("Autologout; idle for too long", ImapEnd::Timeout);
    }

    /// The account was removed or disabled, or has a new password.
    pub fn revoked(&mut self) {
        self.bye("The account changed, log in again", ImapEnd::Revoked);
    }

    pub fn shutdown(&mut self) {
        self.bye("Server shutting down", ImapEnd::Shutdown);
    }

    /// Another session deleted the selected mailbox. There is no way to tell a client that its
    /// mailbox is no more but to send it away (RFC 2180, 3.3).
    pub fn mailbox_deleted(&mut self) {
        self.bye("The selected mailbox was deleted", ImapEnd::Deleted);
    }

    fn bye(&mut self, text: &str, why: ImapEnd) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.write(format!("* BYE {text}\r\n"));
        self.phase = Phase::Closed;
        self.output.push_back(Output::Close(why));
    }

    fn write(&mut self, text: impl Into<Vec<u8>>) {
        let text = text.into();
        match self.output.back_mut() {
            Some(Output::Write(last)) => last.extend_from_slice(&text),
            _ => self.output.push_back(Output::Write(text)),
        }
    }

    fn tagged(&mut self, tag: &str, text: &str) {
        let result = match text.split(' ').next() {
            Some("OK") => ImapResult::Ok,
            Some("NO") => ImapResult::No,
            _ => ImapResult::Bad,
        };
        self.answered.push((self.name, result));
        self.write(format!("{tag} {text}\r\n"));
    }

    fn bad(&mut self, tag: Option<&str>, text: &str) {
        self.tagged(tag.unwrap_or("*"), &format!("BAD {text}"));
        self.bad += 1;
        if self.bad >= self.settings.limits.max_bad_commands {
            self.bye("Too many bad commands", ImapEnd::Nonsense);
        }
    }

    /// Bytes from the client.
    pub fn input(&mut self, now: Instant, bytes: &[u8]) {
        self.fragmenter.feed(bytes);
        self.advance(now);
    }

    /// Takes what waits, until work is under way.
    fn advance(&mut self, now: Instant) {
        while !self.is_busy() {
            match self.fragmenter.next() {
                Event::NeedInput => return,
                event => self.event(now, event),
            }
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        self.last_command = now;
        match event {
            Event::NeedInput => {}
            Event::LiteralRequested { .. } => {
                self.fragmenter.continue_literal();
                self.write("+ Ready for literal\r\n");
            }
            Event::Line(line) => self.line(now, &line),
            Event::Command(bytes) => {
                let options = Options {
                    max_depth: self.settings.limits.max_depth,
                    utf8: self.enabled.utf8(),
                };
                match parse(&bytes, options) {
                    Ok(tagged) => {
                        self.name = tagged.command.name();
                        let before = self.bad;
                        self.command(now, tagged);
                        // One that could be carried out forgives.
                        if self.bad == before {
                            self.bad = 0;
                        }
                    }
                    Err(error) => {
                        self.name = INVALID;
                        self.bad(error.tag.as_deref(), &error.text);
                    }
                }
            }
            Event::Append(piece) => self.append(piece),
            Event::AppendData(data) => self.output.push_back(Output::AppendData(data)),
            Event::AppendEnd => self.append_end(),
            Event::Error {
                tag,
                kind,
                fatal,
                text,
            } => self.broken(tag, kind, fatal, text),
        }
    }

    fn broken(&mut self, tag: Option<String>, kind: ErrorKind, fatal: bool, text: &str) {
        if matches!(self.phase, Phase::Appending { .. }) {
            self.output.push_back(Output::AppendAbort);
        }
        if matches!(self.phase, Phase::Command) {
            self.name = INVALID;
        }
        self.phase = Phase::Command;
        match kind {
            ErrorKind::TooBig => {
                let tag = tag.unwrap_or_else(|| "*".into());
                self.tagged(&tag, &format!("NO [TOOBIG] {text}"));
            }
            ErrorKind::Bad => self.bad(tag.as_deref(), text),
        }
        if fatal {
            self.bye(text, ImapEnd::Nonsense);
        }
    }

    fn append(&mut self, piece: Box<AppendPiece>) {
        if let Some(begin) = &piece.begin {
            self.name = match begin.replaces {
                Some(_) => "replace",
                None => "append",
            };
            let missing = match begin.replaces {
                _ if !self.authenticated => Some("Log in first"),
                // RFC 9586, 3.8
                Some(replaced) if self.enabled.uidonly && !replaced.uid => Some(UID_REQUIRED),
                Some(_) if !self.selected => Some("Select a mailbox first"),
                _ => None,
            };
            if let Some(missing) = missing {
                self.fragmenter.refuse_append();
                return self.bad(Some(&piece.tag), missing);
            }
        }
        self.phase = Phase::Appending {
            tag: piece.tag.clone(),
            asked: match piece.data {
                Some(data) => Asked::Data { sync: data.sync },
                None => Asked::End,
            },
        };
        self.output.push_back(Output::Append(piece));
    }

    fn append_end(&mut self) {
        if let Phase::Appending { tag, .. } = std::mem::replace(&mut self.phase, Phase::Executing) {
            self.output.push_back(Output::AppendEnd { tag });
        }
    }

    /// The shell has what it was asked for: the message may come, or the command is over.
    pub fn append_accepted(&mut self, now: Instant) {
        if let Phase::Appending { asked, .. } = self.phase {
            self.fragmenter.accept_append();
            match asked {
                Asked::Data { sync: true } => self.write("+ Ready for the message\r\n"),
                Asked::Data { sync: false } => {}
                Asked::End => self.append_end(),
            }
        }
        self.advance(now);
    }

    /// No: `answer` is what follows the tag.
    pub fn append_refused(&mut self, now: Instant, answer: &str) {
        if let Phase::Appending { tag, .. } = std::mem::replace(&mut self.phase, Phase::Command) {
            self.fragmenter.refuse_append();
            self.tagged(&tag, answer);
        }
        self.advance(now);
    }

    /// The command's answer was written.
    pub fn done_executing(&mut self, now: Instant, selected: bool) {
        self.selected = selected;
        self.last_command = now;
        self.last_heartbeat = now;
        if matches!(self.phase, Phase::Executing) {
            self.phase = Phase::Command;
        }
        self.advance(now);
    }
}
