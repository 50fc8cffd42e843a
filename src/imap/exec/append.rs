//! APPEND and REPLACE (RFC 9051, 6.3.12; RFC 3502; RFC 3516; RFC 4315; RFC 4469; RFC 6855, 4;
//! RFC 7889; RFC 8508).

use super::{Answer, Exec, Gone, Out, Refusal, store_error};
use crate::config::ImapConfig;
use crate::imap::command::{Append, AppendData, AppendPiece, AppendStep, Replaced};
use crate::mail::{ImapUrl, parse_imap_url};
use crate::store::{Appended, Fits, Spool, StoreError, Whose};
use crate::telemetry::{ImapResult, OverQuota};
use crate::types::{AccountId, Flag, MailboxKey, Rights, Uid, UidSet, UnixMillis};

/// Messages that come in.
pub struct Incoming {
    spool: Spool,
    head: Append,
    /// For whose quota it counts.
    owner: AccountId,
    /// The message that goes (RFC 8508).
    replaced: Option<(MailboxKey, Uid)>,
    messages: Vec<Arriving>,
    /// Announced or referred to so far, of the message that comes in.
    size: u64,
    most: u64,
    total_left: u64,
    /// What came last was a literal8.
    binary: bool,
    nul: bool,
}

struct Arriving {
    flags: Vec<Flag>,
    date: Option<(i64, i16)>,
    catenated: bool,
}

impl Incoming {
    pub fn push(&mut self, bytes: &[u8]) {
        self.nul |= bytes.contains(&0);
        self.spool.push(bytes);
    }

    /// Room for so much more; the answer where there is none.
    fn grow(&mut self, by: u64) -> Result<(), String> {
        let left = self.total_left.checked_sub(by);
        self.size = self.size.saturating_add(by);
        match left {
            Some(left) if self.size <= self.most => {
                self.total_left = left;
                Ok(())
            }
            // RFC 4469, 4.2; RFC 7889, 4
            _ => Err("NO [TOOBIG] The message is too big".into()),
        }
    }

    /// Before a message, and at the end: the one before is complete.
    fn check_last(&self) -> Result<(), String> {
        match self.messages.is_empty() || self.size > 0 {
            true => Ok(()),
            // RFC 3502: it cancels the APPEND.
            false => Err("NO [CANNOT] A message without a byte".into()),
        }
    }

    /// Why what came may not be kept.
    fn check_bytes(&self) -> Result<(), String> {
        match (self.nul, self.binary) {
            (false, _) => Ok(()),
            // RFC 3516, 4.4: no mailbox here can hold it, and to encode it would mean to write
            // the message anew.
            (true, true) => Err("NO [UNKNOWN-CTE] There is a NUL byte in the message".into()),
            // RFC 9051, 4.3.1: a literal holds none, and BODY[] could not be answered.
            (true, false) => Err("NO [CANNOT] There is a NUL byte in the message".into()),
        }
    }
}

fn answer(refusal: Refusal) -> String {
    match refusal {
        Refusal::No(text) => format!("NO {text}"),
        Refusal::Bad(text) => format!("BAD {text}"),
        Refusal::Trouble(_) | Refusal::Gone(_) => "NO [UNAVAILABLE] Try again later".into(),
    }
}

/// A URL in an answer (RFC 4469, 5): nothing in it ends the code or the line.
fn quoted_url(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for b in url.bytes().take(1000) {
        match b {
            b'"' | b'\\' | b']' | b'[' | ..b' ' | 0x7f.. => out.push_str(&format!("%{b:02X}")),
            b => out.push(char::from(b)),
        }
    }
    out
}

impl Exec {
    /// A piece of an APPEND: why it may not go on, as what follows the tag.
    pub async fn append_piece(
        &mut self,
        incoming: &mut Option<Box<Incoming>>,
        piece: AppendPiece,
        config: &ImapConfig,
    ) -> Result<(), String> {
        let AppendPiece {
            begin, steps, data, ..
        } = piece;
        if let Some(head) = begin {
            *incoming = Some(Box::new(self.append_begin(head, config).map_err(answer)?));
        }
        // The machine goes on only with what it began.
        let Some(incoming) = incoming else {
            return Err("BAD Not now".into());
        };
        incoming.check_bytes()?;
        for step in steps {
            match step {
                AppendStep::Message {
                    flags,
                    date,
                    catenated,
                } => {
                    incoming.check_last()?;
                    // RFC 9738, 3.1.
                    let more = self.within_limit(incoming.messages.len() + 1);
                    more.map_err(answer)?;
                    if incoming.messages.len() >= config.max_append_messages {
                        return Err("NO [LIMIT] Too many messages in one APPEND".into());
                    }
                    if !incoming.messages.is_empty() {
                        incoming.spool.next_message();
                    }
                    incoming.size = 0;
                    incoming.messages.push(Arriving {
                        flags,
                        date,
                        catenated,
                    });
                }
                AppendStep::Url(url) => self.append_url(incoming, &url).await?,
            }
        }
        match data {
            Some(data) => self.append_data(incoming, data),
            None => incoming.check_last(),
        }
    }

    fn append_begin(&self, head: Append, config: &ImapConfig) -> Result<Incoming, Refusal> {
        let replaced = match head.replaces {
            Some(replaces) => Some(self.replaced(replaces)?),
            None => None,
        };
        let owner = self.target(&head.mailbox)?.key.account;
        Ok(Incoming {
            spool: self.store.spool(config.spool_bytes),
            head,
            owner,
            replaced,
            messages: Vec::new(),
            size: 0,
            most: config.max_append_bytes,
            // One message may always be as large as a message may be.
            total_left: config.max_multiappend_bytes.max(config.max_append_bytes),
            binary: false,
            nul: false,
        })
    }

    fn replaced(&self, replaces: Replaced) -> Result<(MailboxKey, Uid), Refusal> {
        // RFC 8508, 4.1
        let needed = Rights::MARK_DELETED.with(Rights::EXPUNGE);
        let selected = self.changeable(needed)?;
        // They may be others than at the last command.
        if !self.rights_on(selected.key).contains(needed) {
            return Err(super::naming::no_permission());
        }
        let set =
            crate::imap::command::SequenceSet::Ranges(vec![(replaces.message, replaces.message)]);
        let uids = selected.uids(&set, replaces.uid)?;
        let there = uids.ranges().flat_map(|r| selected.numbering.range(r));
        match there.map(|(_, message)| message.uid).next() {
            Some(uid) => Ok((selected.key, uid)),
            // RFC 8508, 3.2: can't remove the message.
            None => Err(Refusal::No("There is no message with this UID".into())),
        }
    }

    fn append_data(&self, incoming: &mut Incoming, data: AppendData) -> Result<(), String> {
        if data.utf8 && !self.enabled.utf8() {
            // RFC 6855, 4
            return Err("NO [CANNOT] ENABLE UTF8=ACCEPT first".into());
        }
        incoming.grow(data.size)?;
        let catenated = incoming.messages.last().is_some_and(|m| m.catenated);
        if data.size == 0 && !catenated {
            // Now: the client may wait to be asked for nothing.
            incoming.check_last()?;
        }
        incoming.binary = data.binary;
        // RFC 9208, 4.3.1. What is replaced makes room (RFC 8508, 3.4): then the commit knows.
        let size = incoming.size;
        let full =
            incoming.replaced.is_none() && self.store.fits(incoming.owner, size, size) == Fits::No;
        if full {
            self.telemetry.store.over_quota(OverQuota::Append);
            return Err(format!("NO {}", store_error(&StoreError::OverQuota)));
        }
        Ok(())
    }

    /// A part that is on the server already: it goes to the spool piece by piece.
    async fn append_url(&self, incoming: &mut Incoming, text: &str) -> Result<(), String> {
        let bad = |why: &str| format!("NO [BADURL \"{}\"] {why}", quoted_url(text));
        let url = parse_imap_url(text).ok_or_else(|| bad("Not a URL of a message"))?;
        // RFC 4469, 3: no other server, no other account.
        if url.server.is_some() || url.auth.is_some() {
            return Err(bad("Only relative URLs can be used here"));
        }
        let Some((mailbox, uid)) = self.url_message(&url) else {
            return Err(bad("There is no such message"));
        };
        let passage = self
            .store
            .passage(mailbox, uid, &url.part, &url.text, url.partial);
        let mut passage = match passage.await {
            Ok(Some(passage)) => passage,
            Ok(None) => return Err(bad("There is no such message or part")),
            Err(error) => return Err(format!("NO {}", store_error(&error))),
        };
        incoming.grow(passage.len())?;
        incoming.binary = false;
        loop {
            match passage.next_piece() {
                Ok(Some(piece)) => incoming.push(&piece),
                Ok(None) => return incoming.check_bytes(),
                Err(StoreError::Expunged) => return Err(bad("The message was expunged")),
                Err(error) => return Err(format!("NO {}", store_error(&error))),
            }
            tokio::task::yield_now().await;
        }
    }

    /// The message that a URL of this account names.
    pub(super) fn url_message(&self, url: &ImapUrl) -> Option<(MailboxKey, Uid)> {
        let key = match &url.mailbox {
            Some(name) => self.resolve_for(name, Rights::READ).ok()?.key,
            // It may not be read any more since it was selected.
            None => self.selected.as_ref().filter(|_| self.may_be_told())?.key,
        };
        let validity = self.store.mailbox_status(key).ok()?.uid_validity;
        if url.uid_validity.is_some_and(|asked| asked != validity.0) {
            return None;
        }
        Some((key, Uid(url.uid)))
    }

    /// All of it is here.
    pub async fn append(
        &mut self,
        tag: &str,
        messages: Incoming,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let size = messages.spool.len();
        let name = match messages.replaced {
            Some(_) => "replace",
            None => "append",
        };
        let deed = self.deed_of_append(messages.replaced.is_some());
        let answer = self.append_messages(messages, out).await;
        self.tell_all(Some(super::Telling::Everything), &deed, out)
            .await?;
        self.update_contexts(out).await?;
        self.tell_modseq(out);
        self.interrupted = false;
        let (result, text) = match answer {
            Ok(text) => (ImapResult::Ok, format!("OK {text}")),
            Err(Refusal::No(text)) => (ImapResult::No, format!("NO {text}")),
            Err(Refusal::Trouble(text)) => {
                self.telemetry.imap.store_failed(name, &text);
                (ImapResult::No, format!("NO {text}"))
            }
            Err(Refusal::Bad(text)) => (ImapResult::Bad, format!("BAD {text}")),
            Err(Refusal::Gone(gone)) => return Err(gone),
        };
        if result == ImapResult::Ok {
            self.telemetry.imap.appended(size);
        }
        self.telemetry.imap.command(name, result);
        out.line(&format!("{tag} {text}"));
        out.flush().await
    }

    async fn append_messages(&mut self, incoming: Incoming, out: &mut Out<'_>) -> Answer {
        if let Err(answer) = incoming.check_bytes().and_then(|()| incoming.check_last()) {
            let text = answer.strip_prefix("NO ").unwrap_or(&answer);
            return Err(Refusal::No(text.to_owned()));
        }
        let to = self.target(&incoming.head.mailbox)?.key;
        let Incoming {
            mut spool,
            replaced,
            messages,
            ..
        } = incoming;
        let prepared = spool.finish_all(Whose::Account(self.account.id)).await?;
        let now = self.store.now();
        let appended = messages.into_iter().zip(prepared).map(|(head, message)| {
            let (date, zone) = match head.date {
                Some((millis, zone)) => (UnixMillis::from_signed(millis), zone),
                None => (now, 0),
            };
            Appended {
                message,
                flags: self.settable(to, head.flags),
                date,
                zone,
            }
        });
        let stored = self
            .store
            .append_all(to, appended.collect(), replaced)
            .await?;
        let Some(validity) = stored.first().map(|first| first.uid_validity) else {
            return Err(Refusal::Bad("No message".into()));
        };
        let arrived: Vec<Uid> = stored.iter().map(|stored| stored.uid).collect();
        self.note_arrived(to, &arrived);
        let uids: UidSet = stored.iter().map(|stored| stored.uid.0).collect();
        let code = format!("[APPENDUID {validity} {uids}]");
        if replaced.is_some() {
            // RFC 8508, 4.3: before the client hears of an EXPUNGE.
            out.line(&format!("* OK {code} Replacement is there"));
            return Ok("Replaced".into());
        }
        Ok(format!("{code} Appended"))
    }
}
