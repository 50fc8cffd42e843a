//! BURL: parts of a message that are on this server already (RFC 4468).
//!
//! Machine: no IO, no clock, no randomness.

use super::{Output, PartError, Role, Session, Waiting, Work};
use crate::smtp::reply::Reply;
use crate::telemetry::SmtpRefusal;

impl Session {
    /// RFC 4468, 3: what URLs are taken is told to who is logged in.
    pub(super) fn burl_keyword(&self) -> String {
        match self.account {
            Some(_) => format!("BURL imap imap://{}", self.settings.hostname),
            None => "BURL".into(),
        }
    }

    pub(super) fn burl(&mut self, url: String, last: bool) {
        if self.settings.role != Role::Submission {
            let reply = Reply::new(500, "5.5.1", "Command not recognized");
            return self.turn_away(SmtpRefusal::Syntax, &reply);
        }
        if self.account.is_none() {
            let reply = Reply::new(530, "5.7.0", "Authentication required");
            return self.turn_away(SmtpRefusal::LoginRequired, &reply);
        }
        if !self.has_recipients() {
            let reply = Reply::new(503, "5.5.1", "No valid recipients");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        }
        self.begin_chunks();
        self.work(Work::OpenUrl(url), Waiting::Part(last));
    }

    pub(super) fn part(&mut self, part: Result<Option<Vec<u8>>, PartError>, last: bool) {
        match part {
            Ok(Some(piece)) => {
                self.chunk(&piece);
                // What is too large already is not read to its end.
                match self.incoming.as_ref().is_some_and(|i| i.over) {
                    true => self.chunk_ends(last),
                    false => self.work(Work::ReadUrl, Waiting::Part(last)),
                }
            }
            Ok(None) => self.chunk_ends(last),
            Err(error) => {
                // The message has a hole: the client begins anew.
                self.discard();
                self.reset();
                let reply = match error {
                    // RFC 4468, 3.3 and 5: who may not learn why.
                    PartError::Refused => {
                        Reply::new(554, "5.7.0", "IMAP URL resolution or authorization failed")
                    }
                    PartError::Temporary => {
                        Reply::new(451, "4.4.1", "The IMAP URL can't be read now, try again")
                    }
                };
                self.output.push_back(Output::Refused(reply.code));
                self.refuse(&reply);
            }
        }
    }
}
