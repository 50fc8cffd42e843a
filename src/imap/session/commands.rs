//! What the machine does with a command, and with a line that belongs to one (RFC 9051, 6;
//! RFC 2177; RFC 2971; RFC 5161).
//!
//! Machine: no IO, no clock, no randomness.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Output, Phase, Session, UID_REQUIRED};
use crate::imap::command::{Command, Search, Tagged};
use crate::telemetry::ImapEnd;

impl Session {
    pub(super) fn line(&mut self, now: Instant, line: &[u8]) {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Idle { tag } => {
                self.last_command = now;
                if line.trim_ascii().eq_ignore_ascii_case(b"DONE") {
                    self.phase = Phase::Executing;
                    self.output.push_back(Output::IdleEnd { tag });
                } else {
                    self.bad(Some(&tag), "DONE was expected");
                }
            }
            Phase::Sasl { tag, mut exchange } => {
                if line == b"*" {
                    self.sasl_ends(&exchange);
                    return self.tagged(&tag, "BAD Authentication cancelled");
                }
                match STANDARD.decode(line) {
                    Ok(response) => {
                        let step = exchange.respond(&response);
                        self.sasl(tag, exchange, step);
                    }
                    Err(_) => {
                        self.sasl_ends(&exchange);
                        self.bad(Some(&tag), "The response is not base64");
                    }
                }
            }
            other => self.phase = other,
        }
    }

    pub(super) fn command(&mut self, now: Instant, Tagged { tag, command }: Tagged) {
        match command {
            Command::Capability => {
                let text = format!("* {}\r\n", self.capabilities());
                self.write(text);
                self.tagged(&tag, "OK Capabilities listed");
            }
            Command::Logout => {
                self.write("* BYE Logging out\r\n");
                self.tagged(&tag, "OK Goodbye");
                self.phase = Phase::Closed;
                self.output.push_back(Output::Close(ImapEnd::Logout));
            }
            Command::Id(_) => {
                // RFC 2971, 3.2: no version for those who are not logged in.
                let version = if self.authenticated {
                    concat!(" \"version\" \"", env!("CARGO_PKG_VERSION"), "\"")
                } else {
                    ""
                };
                self.write(format!("* ID (\"name\" \"Posthorn\"{version})\r\n"));
                self.tagged(&tag, "OK Pleased to meet you");
            }
            Command::Noop if !self.authenticated => self.tagged(&tag, "OK Nothing to do"),
            Command::StartTls => self.start_tls(&tag),
            Command::Login { user, password } => self.login(tag, user, password),
            Command::Authenticate { mechanism, initial } => {
                self.authenticate(tag, &mechanism, initial.as_ref());
            }
            _ if !self.authenticated => self.bad(Some(&tag), "Log in first"),
            Command::Compress(mechanism) => self.compress(&tag, &mechanism),
            Command::Unauthenticate => self.unauthenticate(now, &tag),
            Command::Enable(names) => {
                let before = self.enabled;
                let mut enabled = String::new();
                for name in &names {
                    if let Some(name) = self.enabled.enable(name, &self.settings.limits) {
                        enabled.push(' ');
                        enabled.push_str(name);
                    }
                }
                self.fragmenter.set_utf8(self.enabled.utf8());
                self.write(format!("* ENABLED{enabled}\r\n"));
                // RFC 7162, 3.1: in a selected mailbox its mod-sequence is told.
                if self.selected && self.enabled.condstore && !before.condstore {
                    self.phase = Phase::Executing;
                    let command = Command::Enable(names);
                    self.output
                        .push_back(Output::Execute(Tagged { tag, command }));
                } else {
                    self.tagged(&tag, "OK Enabled");
                }
            }
            Command::Idle => {
                self.write("+ idling\r\n");
                self.fragmenter.expect_line();
                self.last_heartbeat = now;
                self.phase = Phase::Idle { tag };
                self.output.push_back(Output::IdleBegin);
            }
            // RFC 6855, 3: all is UTF-8 by then. SORT and THREAD name it all the same: they have
            // to (RFC 5256, 3).
            Command::Search(Search {
                charset: Some(_),
                sort: None,
                ..
            })
            | Command::SearchInCharset { sorts: false, .. }
                if self.enabled.utf8_accept =>
            {
                self.bad(Some(&tag), "No CHARSET after ENABLE UTF8=ACCEPT");
            }
            // RFC 9586, 3
            command if self.enabled.uidonly && command.has_numbers() => {
                self.bad(Some(&tag), UID_REQUIRED);
            }
            command if needs_selected(&command) && !self.selected => {
                self.bad(Some(&tag), "Select a mailbox first");
            }
            command => {
                self.phase = Phase::Executing;
                self.output
                    .push_back(Output::Execute(Tagged { tag, command }));
            }
        }
    }
}

/// Commands of the selected state.
pub(in crate::imap) fn needs_selected(command: &Command) -> bool {
    matches!(
        command,
        Command::Check
            | Command::Close
            | Command::Unselect
            | Command::Expunge(_)
            | Command::Search(_)
            | Command::SearchInCharset { selected: true, .. }
            | Command::Thread { .. }
            | Command::CancelUpdate(_)
            | Command::UidBatches { .. }
            | Command::Fetch { .. }
            | Command::Store(_)
            | Command::Copy { .. }
            | Command::Move { .. }
    )
}
