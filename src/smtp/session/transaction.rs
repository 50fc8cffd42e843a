//! A transaction: MAIL, RCPT, and the message by DATA or BDAT (RFC 5321, 3.3; RFC 3030).
//!
//! Machine: no IO, no clock, no randomness.

use super::{
    Accepted, Admission, Envelope, Expected, Incoming, Output, Phase, Role, Session, Transaction,
    Waiting, Work,
};
use crate::config::BareLineEndings;
use crate::smtp::data::{ChunkReader, DataReader, Faults};
use crate::smtp::parser::{MailParameters, Target, utf8_needed};
use crate::smtp::reply::Reply;
use crate::store::Resolution;
use crate::telemetry::SmtpRefusal;
use crate::types::Address;

/// What trace lines, and header lines that are missing, add at most to a message.
const TRACE: u64 = 4096;

fn login_required() -> Reply {
    Reply::new(530, "5.7.0", "Authentication required")
}

impl Session {
    pub(super) fn mail(&mut self, from: Option<Address>, parameters: MailParameters) {
        let limits = &self.settings.limits;
        if self.helo.is_none() {
            let reply = Reply::new(503, "5.5.1", "EHLO first");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        }
        if self.settings.role == Role::Submission && self.account.is_none() {
            return self.turn_away(SmtpRefusal::LoginRequired, &login_required());
        }
        if self.transaction.is_some() {
            let reply = Reply::new(503, "5.5.1", "Nested MAIL command");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        }
        if parameters
            .size
            .is_some_and(|size| size > limits.max_message_bytes)
        {
            let reply = Reply::new(552, "5.3.4", "Message too large");
            return self.turn_away(SmtpRefusal::TooLarge, &reply);
        }
        if self.transactions >= limits.max_transactions {
            self.refusals.push(SmtpRefusal::TooManyMessages);
            return self.end(&Reply::new(
                421,
                "4.7.0",
                "Too many messages in one session",
            ));
        }
        let transaction = Transaction {
            from,
            parameters,
            recipients: Vec::new(),
            alone: false,
            unknown: 0,
        };
        let work = Work::Admit {
            account: self.account,
            from: transaction.from.clone(),
            size: transaction.parameters.size.unwrap_or(0),
        };
        self.work(work, Waiting::Mail(Box::new(transaction)));
    }

    pub(super) fn admitted(&mut self, transaction: Transaction, admission: Admission) {
        match admission {
            Admission::Yes => {
                self.transaction = Some(transaction);
                self.transactions += 1;
                self.reply(&Reply::new(250, "2.1.0", "Sender OK"));
            }
            Admission::NoAccount => {
                self.account = None;
                self.turn_away(SmtpRefusal::LoginRequired, &login_required());
            }
            Admission::NotYours => {
                let reply = Reply::new(553, "5.7.1", "Sender address is not yours");
                self.turn_away(SmtpRefusal::NotYours, &reply);
            }
            // RFC 1870, 6.1: rather now than after the message.
            Admission::NoRoom => {
                self.refusals.push(SmtpRefusal::NoSpace);
                self.reply(&Reply::new(452, "4.3.1", "Insufficient system storage"));
                self.junk();
            }
        }
    }

    pub(super) fn rcpt(&mut self, target: Target, utf8: bool) {
        let limits = &self.settings.limits;
        let Some(transaction) = &self.transaction else {
            let reply = Reply::new(503, "5.5.1", "MAIL first");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        };
        if self.incoming.is_some() {
            let reply = Reply::new(503, "5.5.1", "The message is coming already");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        }
        if transaction.recipients.len() >= self.settings.limits.max_recipients {
            self.refusals.push(SmtpRefusal::TooManyRecipients);
            return self.reply(&Reply::new(452, "4.5.3", "Too many recipients"));
        }
        if utf8 && !transaction.parameters.smtp_utf8 {
            return self.turn_away(SmtpRefusal::Utf8, &utf8_needed(false));
        }
        let given = match &target {
            Target::Address(address) => address.to_string(),
            Target::Postmaster => "postmaster".to_owned(),
        };
        let most = limits.max_message_bytes;
        let declared = transaction.parameters.size;
        let expected = Expected {
            least: declared.unwrap_or(1),
            most: declared.unwrap_or(most).saturating_add(TRACE),
        };
        self.work(Work::Resolve(target, expected), Waiting::Rcpt(given));
    }

    /// `tight`: there may be no room for it once the message is here.
    pub(super) fn resolved(&mut self, given: String, resolution: Resolution, tight: bool) {
        match (resolution, &mut self.transaction) {
            (Resolution::Accounts(accounts), Some(transaction)) => {
                // The message has one answer for all. So that it is the right one for each, who
                // may be full comes alone: a server sends the others right behind (RFC 5321,
                // 4.5.3.1.10). A mail program can't, and its user sees the answer.
                if self.settings.role == Role::Mx {
                    if (tight || transaction.alone) && !transaction.recipients.is_empty() {
                        self.refusals.push(SmtpRefusal::TooManyRecipients);
                        let text = "One recipient at a time, a mailbox is nearly full";
                        return self.reply(&Reply::new(452, "4.5.3", text));
                    }
                    transaction.alone = tight;
                }
                transaction.recipients.push(Accepted { given, accounts });
                self.reply(&Reply::new(250, "2.1.5", "Recipient OK"));
            }
            (Resolution::NoUser, transaction) => {
                let reply = Reply::new(550, "5.1.1", "No such user here");
                // A list has some that are gone among many; who guesses has many.
                let one_of_many = transaction.as_mut().is_some_and(|transaction| {
                    transaction.unknown += 1;
                    transaction.unknown <= transaction.recipients.len()
                });
                if one_of_many {
                    self.refusals.push(SmtpRefusal::UnknownUser);
                    self.reply(&reply);
                } else {
                    self.turn_away(SmtpRefusal::UnknownUser, &reply);
                }
            }
            // A lost account is no reason to bounce its mail.
            (Resolution::Unsure, _) => {
                self.refuse(&Reply::new(451, "4.3.0", "Try again later"));
            }
            _ => {
                let text = match self.account {
                    Some(_) => "Delivery to other domains is not available on this server",
                    None => "Relaying denied",
                };
                self.turn_away(SmtpRefusal::Relay, &Reply::new(550, "5.7.1", text));
            }
        }
    }

    pub(super) fn has_recipients(&self) -> bool {
        self.transaction
            .as_ref()
            .is_some_and(|t| !t.recipients.is_empty())
    }

    pub(super) fn repair(&self) -> bool {
        self.settings.role == Role::Submission
            || self.settings.limits.bare_line_endings == BareLineEndings::Repair
    }

    pub(super) fn data(&mut self) {
        if !self.has_recipients() || self.incoming.is_some() {
            let reply = Reply::new(503, "5.5.1", "No valid recipients, or BDAT began");
            return self.turn_away(SmtpRefusal::Sequence, &reply);
        }
        self.incoming = Some(Incoming::default());
        let reader = DataReader::new(self.settings.limits.max_data_line_bytes, self.repair());
        self.phase = Phase::Data(Box::new(reader));
        self.reply(&Reply::new(
            354,
            "",
            "Send the message, end with <CRLF>.<CRLF>",
        ));
    }

    pub(super) fn bdat(&mut self, size: u64, last: bool) {
        let refused = if self.has_recipients() {
            None
        } else {
            Some(Reply::new(503, "5.5.1", "No valid recipients"))
        };
        // A chunk far over the limit is not worth reading to its end.
        let most = self.settings.limits.max_message_bytes;
        if size > most.saturating_mul(2) {
            return self.end(&Reply::new(
                552,
                "5.3.4",
                "Message too large, closing connection",
            ));
        }
        if refused.is_none() {
            self.begin_chunks();
        }
        if size == 0 && !last && refused.is_none() {
            self.chunk_ends(false);
            return self.junk();
        }
        self.phase = Phase::Chunk {
            left: size,
            last,
            refused,
        };
    }

    /// BDAT and BURL may follow each other.
    pub(super) fn begin_chunks(&mut self) {
        if self.incoming.is_none() {
            let reader = ChunkReader::new(self.settings.limits.max_data_line_bytes, self.repair());
            self.incoming = Some(Incoming {
                chunks: Some(Box::new(reader)),
                ..Incoming::default()
            });
        }
    }

    pub(super) fn chunk(&mut self, piece: &[u8]) {
        let mut text = Vec::new();
        if let Some(reader) = self.incoming.as_mut().and_then(|i| i.chunks.as_mut()) {
            reader.feed(piece, &mut text);
        }
        self.keep(text);
    }

    pub(super) fn chunk_ends(&mut self, last: bool) {
        if !last {
            if self.incoming.as_ref().is_some_and(|i| i.over) {
                self.reset();
                self.output.push_back(Output::Refused(552));
                return self.refuse(&Reply::new(552, "5.3.4", "Message too large"));
            }
            return self.reply(&Reply::new(250, "2.0.0", "Chunk received"));
        }
        let mut text = Vec::new();
        let reader = self.incoming.as_mut().and_then(|i| i.chunks.as_mut());
        let faults = reader.map_or_else(Faults::default, |reader| reader.finish(&mut text));
        self.keep(text);
        self.received(faults);
    }

    pub(super) fn keep(&mut self, text: Vec<u8>) {
        let most = self.settings.limits.max_message_bytes;
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        incoming.size += text.len() as u64;
        if incoming.size <= most {
            incoming.header.push(&text);
            if !text.is_empty() {
                self.output.push_back(Output::Message(text));
            }
        } else if !std::mem::replace(&mut incoming.over, true) {
            self.output.push_back(Output::Discard);
        }
    }

    /// The whole message is here.
    pub(super) fn received(&mut self, faults: Faults) {
        self.phase = Phase::Command;
        let (Some(incoming), Some(transaction)) = (self.incoming.take(), self.transaction.take())
        else {
            return self.refuse(&Reply::new(503, "5.5.1", "No message was expected"));
        };
        let header = incoming.header.finish();
        let refused = if incoming.over {
            Some(Reply::new(552, "5.3.4", "Message too large"))
        } else if faults.bare && !self.repair() {
            Some(Reply::new(550, "5.6.11", "Bare CR or LF in the message"))
        } else if faults.nul {
            Some(Reply::new(550, "5.6.0", "NUL byte in the message"))
        } else if faults.long_line {
            Some(Reply::new(
                550,
                "5.6.0",
                "A line of the message is too long",
            ))
        } else if header.received > self.settings.limits.max_hops {
            // RFC 5321, 6.3
            Some(Reply::new(
                554,
                "5.4.6",
                "Too many hops, this message is in a loop",
            ))
        } else {
            None
        };
        if let Some(reply) = refused {
            self.output.push_back(Output::Discard);
            self.output.push_back(Output::Refused(reply.code));
            return self.refuse(&reply);
        }
        let (helo, esmtp) = self.helo.clone().unwrap_or_default();
        let envelope = Envelope {
            from: transaction.from,
            recipients: transaction.recipients,
            helo,
            esmtp,
            tls: self.settings.tls,
            smtp_utf8: transaction.parameters.smtp_utf8,
            account: self.account,
            size: incoming.size,
            header,
        };
        self.work(Work::Deliver(envelope), Waiting::Delivery);
    }
}
