//! STORE, COPY, MOVE, EXPUNGE (RFC 9051, 6.4; RFC 4315; RFC 6851).

use std::collections::HashMap;
use std::io::Write as _;

use super::sync::put_flags;
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::{SequenceSet, StoreAction};
use crate::store::{Copied, FlagAction, MailboxInfo, Message, StoreError};
use crate::types::{Flag, Flags, Uid, UidSet};

impl Exec {
    pub(super) async fn store_flags(
        &mut self,
        set: &SequenceSet,
        uid: bool,
        action: StoreAction,
        silent: bool,
        flags: Vec<Flag>,
        out: &mut Out<'_>,
    ) -> Answer {
        let key = self.writable()?.key;
        let uids = self.uids(set, uid)?;
        let action = match action {
            StoreAction::Replace => FlagAction::Replace,
            StoreAction::Add => FlagAction::Add,
            StoreAction::Remove => FlagAction::Remove,
        };
        let changed = self
            .store
            .store_flags(key, uids.clone(), action, flags.clone(), None)
            .await?;
        let Some(selected) = self.selected.as_mut() else {
            return Err(Refusal::Bad("No mailbox is selected".into()));
        };
        // Told below, unless it is silent: then the client knows what it asked for, and hears
        // of what others changed besides.
        let ours: UidSet = changed.changed.iter().map(|(uid, ..)| uid.0).collect();
        let current = selected.current();
        let expected: HashMap<u32, Flags> = if silent {
            let given = bits(&flags, current.keywords());
            let expect = |uid: u32| {
                let told = selected.told(Uid(uid), current.keywords())?;
                Some((uid, after(told, action, given)))
            };
            ours.iter().filter_map(expect).collect()
        } else {
            HashMap::new()
        };
        let known = |message: &Message| {
            if silent {
                expected.get(&message.uid.0).copied()
            } else {
                uids.contains(message.uid.0).then_some(message.flags)
            }
        };
        // The lists first, so that new keywords are known before they are used.
        selected.absorb(&known, &mut out.buf);
        let current = selected.current();
        let mut gone = false;
        for (seq, told) in uids.ranges().flat_map(|r| selected.numbering.range(r)) {
            let Some(message) = current.by_uid(told.uid) else {
                gone = true;
                continue;
            };
            if silent {
                continue;
            }
            let _ = write!(out.buf, "* {seq} FETCH (");
            if uid || self.enabled.rev2 {
                let _ = write!(out.buf, "UID {} ", message.uid);
            }
            out.buf.extend_from_slice(b"FLAGS ");
            let recent = !self.enabled.rev2 && selected.is_recent(message.uid);
            put_flags(&mut out.buf, message.flags, current.keywords(), recent);
            out.line(")");
            out.piece().await?;
        }
        match (gone, uid) {
            (false, _) => Ok("Stored".into()),
            // RFC 9051, 6.4.9: a UID that is not there is no error.
            (true, true) => Ok("[EXPUNGEISSUED] Stored".into()),
            (true, false) => Err(Refusal::No(
                "[EXPUNGEISSUED] Some messages were expunged".into(),
            )),
        }
    }

    /// Where COPY, MOVE and APPEND go; `TRYCREATE` where it is not there but could be made.
    pub(super) fn target(&self, name: &str) -> Result<MailboxInfo, Refusal> {
        let list = self.store.mailboxes(self.account.id)?;
        if let Some(info) = list.find(name) {
            return Ok(info.clone());
        }
        Err(match self.store.may_create(self.account.id, name) {
            Ok(()) => Refusal::No("[TRYCREATE] No such mailbox".into()),
            Err(error @ StoreError::Invalid(_)) => error.into(),
            Err(_) => Refusal::No("[NONEXISTENT] No such mailbox, and no more can be made".into()),
        })
    }

    pub(super) async fn copy(&mut self, set: &SequenceSet, uid: bool, to: &str) -> Answer {
        let from = self.selected()?.key;
        let uids = self.uids(set, uid)?;
        let to = self.target(to)?.key;
        let copied = if uid {
            self.store.copy(from, uids, to).await?
        } else {
            let uids = self.numbered(&uids)?;
            self.store.copy_exactly(from, &uids, to).await?
        };
        self.note_arrived(to, &copied.target);
        Ok(match copy_uid(&copied) {
            Some(code) => format!("[{code}] Copied"),
            None => "No messages copied".into(),
        })
    }

    pub(super) async fn move_messages(
        &mut self,
        set: &SequenceSet,
        uid: bool,
        to: &str,
        out: &mut Out<'_>,
    ) -> Answer {
        let from = self.writable()?.key;
        let uids = self.uids(set, uid)?;
        let to = self.target(to)?.key;
        let asked = if uid {
            None
        } else {
            Some(self.numbered(&uids)?.len())
        };
        let moved = self.store.move_messages(from, uids, to).await?;
        self.note_arrived(to, &moved.target);
        let gone = asked.is_some_and(|asked| (moved.source.len() as u64) < asked);
        // RFC 6851, 4.3: before the EXPUNGEs.
        if let Some(code) = copy_uid(&moved) {
            out.line(&format!("* OK [{code}] Moved"));
        }
        match moved.failed {
            Some(error) => Err(error.into()),
            // RFC 6851, 3.3: each message is moved or not.
            None if gone && moved.source.is_empty() => Err(StoreError::Expunged.into()),
            None if gone => Ok("[EXPUNGEISSUED] Moved what is left".into()),
            None => Ok("Moved".into()),
        }
    }

    /// Those of `uids` that have a number.
    fn numbered(&self, uids: &UidSet) -> Result<UidSet, Refusal> {
        let numbering = &self.selected()?.numbering;
        let all = uids.ranges().flat_map(|r| numbering.range(r));
        Ok(all.map(|(_, message)| message.uid.0).collect())
    }

    pub(super) async fn expunge(&mut self, set: Option<&SequenceSet>) -> Answer {
        let key = self.writable()?.key;
        let uids = set.map(|set| self.uids(set, true)).transpose()?;
        // EXPUNGE itself means what the client knows of; a message that came in since, and was
        // marked by someone else, waits for the next one.
        let known = self.selected()?.numbering.last_uid().map_or(0, |u| u.0);
        let uids = uids.unwrap_or_else(|| UidSet::from_ranges([(1, known)]));
        if known > 0 && !uids.is_empty() {
            self.store.expunge(key, Some(uids)).await?;
        }
        Ok("Expunged".into())
    }
}

/// Flags by name as bits of a mailbox.
fn bits(flags: &[Flag], keywords: &[String]) -> Flags {
    let mut bits = Flags::default();
    for flag in flags {
        match flag {
            Flag::System(system) => bits.system = bits.system.with(*system),
            Flag::Keyword(name) => {
                let at = keywords.iter().position(|k| k.eq_ignore_ascii_case(name));
                bits.keywords |= at.map_or(0, |at| 1 << at.min(63));
            }
        }
    }
    bits
}

fn after(old: Flags, action: FlagAction, given: Flags) -> Flags {
    match action {
        FlagAction::Replace => given,
        FlagAction::Add => Flags {
            system: old.system.with(given.system),
            keywords: old.keywords | given.keywords,
        },
        FlagAction::Remove => Flags {
            system: old.system.without(given.system),
            keywords: old.keywords & !given.keywords,
        },
    }
}

/// `COPYUID validity source target`; the sets run in parallel (RFC 4315, 3), so they are
/// written as ranges in order, not sorted.
fn copy_uid(copied: &Copied) -> Option<String> {
    if copied.source.is_empty() {
        return None;
    }
    let set = |uids: &[crate::types::Uid]| uids.iter().map(|u| u.0).collect::<UidSet>();
    // Both rise: UIDs are given out in the order of the source.
    Some(format!(
        "COPYUID {} {} {}",
        copied.uid_validity,
        set(&copied.source),
        set(&copied.target)
    ))
}
