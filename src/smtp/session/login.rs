//! Logging in to submission (RFC 4954).
//!
//! Machine: no IO, no clock, no randomness.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Phase, Role, Session, Waiting, Work};
use crate::auth::sasl::{Exchange, Offered, Step};
use crate::smtp::reply::{Reply, auth_error};

impl Session {
    pub(super) fn may_login(&self) -> bool {
        self.settings.role == Role::Submission && (self.settings.tls || self.settings.clear_login)
    }

    pub(super) fn offered(&self) -> Offered {
        Offered {
            binding: self.settings.tls,
            ..self.settings.offered
        }
    }

    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<String>) {
        if self.settings.role == Role::Mx {
            return self.refuse(&Reply::new(502, "5.5.1", "Logins are for submission"));
        }
        if !self.may_login() {
            return self.refuse(&Reply::new(
                538,
                "5.7.11",
                "Encryption required: use STARTTLS",
            ));
        }
        if self.account.is_some() {
            return self.refuse(&Reply::new(503, "5.5.1", "Already authenticated"));
        }
        if self.helo.is_none() || self.transaction.is_some() {
            return self.refuse(&Reply::new(503, "5.5.1", "Not now"));
        }
        let Some(mut exchange) = Exchange::start(mechanism, self.offered()) else {
            return self.refuse(&Reply::new(
                504,
                "5.5.4",
                "Unknown authentication mechanism",
            ));
        };
        let initial = match initial.as_deref() {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match STANDARD.decode(text) {
                Ok(bytes) => Some(bytes),
                Err(_) => return self.refuse(&Reply::new(501, "5.5.2", "Not base64")),
            },
        };
        let step = exchange.begin(initial.as_deref());
        self.sasl_step(exchange, step);
    }

    pub(super) fn sasl(&mut self, line: &[u8]) {
        let Phase::Sasl(mut exchange) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        if line == b"*" {
            return self.refuse(&Reply::new(501, "5.7.0", "Authentication cancelled"));
        }
        match STANDARD.decode(line) {
            Ok(bytes) => {
                let step = exchange.respond(&bytes);
                self.sasl_step(exchange, step);
            }
            Err(_) => self.refuse(&Reply::new(501, "5.5.2", "Not base64")),
        }
    }

    pub(super) fn sasl_step(&mut self, exchange: Exchange, step: Step) {
        match step {
            Step::Challenge(text) => {
                self.replies.extend_from_slice(b"334 ");
                self.replies
                    .extend_from_slice(STANDARD.encode(text).as_bytes());
                self.replies.extend_from_slice(b"\r\n");
                self.phase = Phase::Sasl(exchange);
            }
            Step::Lookup(lookup) => self.work(Work::Lookup(lookup), Waiting::Lookup(exchange)),
            Step::Check(claim, after) => {
                self.work(Work::Login(claim), Waiting::Login(exchange, after));
            }
            Step::Done(Ok(())) => {
                self.account = self.claimed.take();
                self.reply(&Reply::new(235, "2.7.0", "Authentication successful"));
            }
            Step::Done(Err(error)) => self.refuse(&auth_error(&error)),
            Step::Malformed => self.refuse(&Reply::new(501, "5.5.2", "Malformed credentials")),
        }
    }
}
