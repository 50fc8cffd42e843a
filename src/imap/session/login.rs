//! The way into a session: STARTTLS, LOGIN, AUTHENTICATE (RFC 9051, 6.2; RFC 4959).
//!
//! Machine: no IO, no clock, no randomness.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{LoggingIn, Output, Phase, Session, fragment_limits};
use crate::auth::AuthError;
use crate::auth::sasl::{After, Claim, Exchange, Found, Offered, Proof, Step};
use crate::imap::capability::Enabled;
use crate::types::Secret;

impl Session {
    pub(super) fn may_login(&self) -> bool {
        self.settings.tls || self.settings.clear_login
    }

    /// None: no login here.
    pub(super) fn mechanisms(&self) -> Option<Offered> {
        let offered = Offered {
            binding: self.settings.tls,
            ..self.settings.offered
        };
        self.may_login().then_some(offered)
    }

    pub(super) fn login(&mut self, tag: String, user: String, password: Secret) {
        if self.may_begin_login(&tag) {
            let claim = Claim {
                authzid: String::new(),
                login: user,
                proof: Proof::Password(password),
            };
            self.judge(tag, None, claim, After::default());
        }
    }

    pub(super) fn authenticate(&mut self, tag: String, mechanism: &str, initial: Option<&Secret>) {
        if !self.may_begin_login(&tag) {
            return;
        }
        let offered = self.mechanisms().unwrap_or_default();
        let Some(mut exchange) = Exchange::start(mechanism, offered) else {
            return self.tagged(&tag, "NO [CANNOT] Unknown authentication mechanism");
        };
        let step = exchange.begin(initial.map(Secret::expose));
        self.sasl(tag, exchange, step);
    }

    pub(super) fn sasl(&mut self, tag: String, exchange: Exchange, step: Step) {
        match step {
            Step::Challenge(text) => {
                self.write(format!("+ {}\r\n", STANDARD.encode(text)));
                self.fragmenter.expect_line();
                self.phase = Phase::Sasl { tag, exchange };
            }
            Step::Lookup(lookup) => {
                self.phase = Phase::LoggingIn(Box::new(LoggingIn {
                    tag,
                    exchange: Some(exchange),
                    after: After::default(),
                }));
                self.output.push_back(Output::Lookup(lookup));
            }
            Step::Check(claim, after) => self.judge(tag, Some(exchange), claim, after),
            Step::Done(result) => self.logged_in(&tag, &result),
            Step::Malformed => {
                self.sasl_ends(&exchange);
                self.bad(Some(&tag), "Malformed credentials");
            }
        }
    }

    /// An exchange ends before its time: who was let in already is not.
    pub(super) fn sasl_ends(&mut self, exchange: &Exchange) {
        if matches!(exchange, Exchange::Judged(Ok(()))) {
            self.output.push_back(Output::Forget);
        }
    }

    fn judge(&mut self, tag: String, exchange: Option<Exchange>, claim: Claim, after: After) {
        self.phase = Phase::LoggingIn(Box::new(LoggingIn {
            tag,
            exchange,
            after,
        }));
        self.output.push_back(Output::Login(claim));
    }

    /// Somebody was looked up for SCRAM.
    pub fn done_lookup(&mut self, now: Instant, found: Result<Found, AuthError>) {
        if let Phase::LoggingIn(login) = std::mem::replace(&mut self.phase, Phase::Command)
            && let Some(mut exchange) = login.exchange
        {
            self.last_command = now;
            let step = exchange.found(found);
            self.sasl(login.tag, exchange, step);
        }
        self.advance(now);
    }

    /// A claim was judged.
    pub fn done_login(&mut self, now: Instant, result: Result<(), AuthError>) {
        let Phase::LoggingIn(login) = std::mem::replace(&mut self.phase, Phase::Command) else {
            return;
        };
        self.last_command = now;
        let LoggingIn {
            tag,
            exchange,
            after,
        } = *login;
        match exchange {
            Some(mut exchange) => {
                let step = exchange.judged(result, after);
                self.sasl(tag, exchange, step);
            }
            None => self.logged_in(&tag, &result),
        }
        self.advance(now);
    }

    fn logged_in(&mut self, tag: &str, result: &Result<(), AuthError>) {
        match result {
            Ok(()) => {
                self.authenticated = true;
                self.bad = 0;
                self.fragmenter
                    .set_limits(fragment_limits(&self.settings.limits, true));
                let text = format!("OK [{}] Logged in", self.capabilities());
                self.tagged(tag, &text);
            }
            // RFC 5530
            Err(AuthError::Invalid) => {
                self.tagged(tag, "NO [AUTHENTICATIONFAILED] Invalid credentials");
            }
            Err(AuthError::Throttled) => {
                self.tagged(tag, "NO [LIMIT] Too many failed logins, try again later");
            }
            Err(AuthError::Busy | AuthError::Store(_)) => {
                self.tagged(tag, "NO [UNAVAILABLE] Try again later");
            }
        }
    }

    /// The handshake is done.
    pub fn tls_started(&mut self, now: Instant) {
        self.settings.tls = true;
        self.last_command = now;
        self.fragmenter.take_rest();
        self.phase = Phase::Command;
    }

    pub(super) fn start_tls(&mut self, tag: &str) {
        if self.settings.tls || self.authenticated {
            return self.bad(Some(tag), "TLS is not available now");
        }
        self.tagged(tag, "OK Begin TLS");
        // What came in the clear behind it is never looked at (RFC 9051, 6.2.1).
        self.fragmenter.take_rest();
        self.phase = Phase::StartingTls;
        self.output.push_back(Output::StartTls);
    }

    /// RFC 4978, 3.
    pub(super) fn compress(&mut self, tag: &str, mechanism: &str) {
        if mechanism != "DEFLATE" || self.settings.limits.compress_level == 0 {
            return self.bad(Some(tag), "This compression is not offered");
        }
        if self.compressed {
            return self.tagged(tag, "NO [COMPRESSIONACTIVE] DEFLATE is active already");
        }
        self.tagged(tag, "OK DEFLATE active");
        // The client has to wait for the answer; what did not is not looked at.
        self.fragmenter.take_rest();
        self.compressed = true;
        self.output.push_back(Output::Compress);
    }

    /// RFC 8437, 3: all is as before the login, but TLS.
    pub(super) fn unauthenticate(&mut self, now: Instant, tag: &str) {
        self.authenticated = false;
        self.selected = false;
        self.notifying = false;
        self.enabled = Enabled::default();
        self.started = now;
        self.fragmenter.set_utf8(false);
        self.fragmenter
            .set_limits(fragment_limits(&self.settings.limits, false));
        let compressed = std::mem::take(&mut self.compressed);
        let text = format!("OK [{}] Nobody is logged in now", self.capabilities());
        self.tagged(tag, &text);
        if compressed {
            self.output.push_back(Output::EndCompression);
        }
        self.output.push_back(Output::Forget);
    }

    fn may_begin_login(&mut self, tag: &str) -> bool {
        if self.authenticated {
            self.bad(Some(tag), "Already logged in");
            return false;
        }
        if !self.may_login() {
            self.tagged(tag, "NO [PRIVACYREQUIRED] Use STARTTLS first");
            return false;
        }
        true
    }
}
