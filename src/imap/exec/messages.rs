//! STORE, COPY, MOVE, EXPUNGE (RFC 9051, 6.4; RFC 4315; RFC 6851).

use std::io::Write as _;

use super::naming::{Home, no_permission, nonexistent};
use super::sync::{fetch_head, put_flags};
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::{SequenceSet, StoreAction, StoreFlags};
use crate::store::{Copied, FlagAction, MailboxInfo, Message, StoreError, Unchanged};
use crate::types::{Flag, Flags, ModSeq, Rights, SystemFlags, Uid, UidSet};

impl Exec {
    pub(super) async fn store_flags(&mut self, store: StoreFlags, out: &mut Out<'_>) -> Answer {
        let StoreFlags {
            set,
            uid,
            action,
            silent,
            flags,
            unchanged_since,
        } = store;
        let selected = self.writable()?;
        let (key, rights) = (selected.key, selected.rights);
        // RFC 4314, 4: NO only where nothing of it may be changed.
        let settable = rights.flags();
        let may = match flags.is_empty() {
            true => rights.any(Rights(
                Rights::SEEN.0 | Rights::WRITE.0 | Rights::MARK_DELETED.0,
            )),
            false => flags.iter().any(|flag| settable.has(flag)),
        };
        if !may {
            return Err(no_permission());
        }
        let uids = self.uids(&set, uid)?;
        let uids = self.limited(uids);
        // RFC 7162, 3.1
        if unchanged_since.is_some() {
            self.use_modseq(out);
        }
        let action = match action {
            StoreAction::Replace => FlagAction::Replace,
            StoreAction::Add => FlagAction::Add,
            StoreAction::Remove => FlagAction::Remove,
        };
        let since = unchanged_since.map(ModSeq);
        let told = self.selected()?.last_told_all();
        let unchanged = since.map(|since| Unchanged {
            since,
            told: Some(told),
        });
        // What was told between commands may have crossed with this one: then only the result
        // says what came of both.
        let silent = silent && !self.interrupted;
        let store = self.store_for(rights);
        let stored = store.store_flags(key, uids.clone(), action, flags.clone(), unchanged);
        let changed = out.during(stored).await??;
        let enabled = self.enabled;
        let Some(selected) = self.selected.as_mut() else {
            return Err(Refusal::Bad("No mailbox is selected".into()));
        };
        // Told below, unless it is silent: then the client knows what it asked for, and hears
        // of what others changed besides.
        let ours: UidSet = changed.changed.iter().map(|(uid, ..)| uid.0).collect();
        let current = selected.current();
        let mut expected: Vec<(u32, Flags)> = Vec::new();
        if silent {
            let given = bits(&flags, current.keywords());
            expected.extend(ours.iter().filter_map(|uid| {
                let told = selected.told(Uid(uid), current.keywords())?;
                Some((uid, after(told, action, given)))
            }));
        }
        // By rising UID.
        let expected = |uid: u32| {
            let at = expected.binary_search_by_key(&uid, |(uid, _)| *uid).ok()?;
            Some(expected[at].1)
        };
        // What was not changed is told as it is, so that the client need not ask (RFC 7162, 3.1.3).
        let modified = &changed.modified;
        let in_full = |uid: u32| uids.contains(uid) && (!silent || modified.contains(uid));
        let known = |message: &Message| {
            if in_full(message.uid.0) {
                Some(message.flags)
            } else {
                expected(message.uid.0)
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
            let in_full = in_full(message.uid.0);
            // A silent change has a mod-sequence all the same (RFC 7162, 3.1.3 and 3.1.4.2). Where
            // the flags are others than the client has to think, they were told with it.
            let asked = since.is_some() || ours.contains(message.uid.0);
            let known = || expected(message.uid.0).is_none_or(|flags| flags == message.flags);
            let modseq_only = enabled.condstore && asked && known();
            if !in_full && !modseq_only {
                continue;
            }
            fetch_head(&mut out.buf, enabled, seq, message.uid);
            // RFC 7162, 3.2.4: both.
            let mut between = "";
            if (uid || enabled.rev2 || enabled.condstore) && !enabled.uidonly {
                let _ = write!(out.buf, "UID {}", message.uid);
                between = " ";
            }
            if enabled.condstore {
                let _ = write!(out.buf, "{between}MODSEQ ({})", message.modseq);
                between = " ";
            }
            if in_full {
                let _ = write!(out.buf, "{between}FLAGS ");
                let recent = selected.is_recent(message.uid);
                put_flags(&mut out.buf, message.flags, current.keywords(), recent);
            }
            out.line(")");
            out.piece().await?;
        }
        let modified = match uid {
            true => modified.clone(),
            false => {
                let numbers = modified.iter();
                let numbers = numbers.filter_map(|uid| selected.numbering.seq_of(Uid(uid)));
                numbers.collect()
            }
        };
        if !modified.is_empty() {
            return match gone && !uid {
                false => Ok(format!("[MODIFIED {modified}] Some were changed by others")),
                true => Err(Refusal::No(format!(
                    "[MODIFIED {modified}] Some were changed by others, some are gone"
                ))),
            };
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
        match self.place(name) {
            Ok(place) if place.rights.contains(Rights::INSERT) => return Ok(place.info),
            Ok(place) if place.rights.contains(Rights::LOOKUP) => return Err(no_permission()),
            Ok(_) => {}
            Err(Refusal::No(_)) => {}
            Err(trouble) => return Err(trouble),
        }
        let (account, local) = match self.home(name)? {
            Home::Own => (self.account.id, name.to_owned()),
            Home::Other(owner, local) if self.may_make(owner, &local)? => (owner, local),
            _ => return Err(nonexistent()),
        };
        Err(match self.store.may_create(account, &local) {
            // One that is hidden could not be made either.
            Err(StoreError::Exists) => nonexistent(),
            Ok(()) => Refusal::No("[TRYCREATE] No such mailbox".into()),
            Err(error @ StoreError::Invalid(_)) => error.into(),
            Err(_) => Refusal::No("[NONEXISTENT] No such mailbox, and no more can be made".into()),
        })
    }

    pub(super) async fn copy(&mut self, set: &SequenceSet, uid: bool, to: &str) -> Answer {
        let from = self.selected()?.key;
        let uids = self.uids(set, uid)?;
        self.unlimited(&uids)?;
        let to = self.target(to)?.key;
        let store = self.store_for(self.rights_on(to));
        let copied = if uid {
            store.copy(from, uids, to).await?
        } else {
            let uids = self.numbered(&uids)?;
            store.copy_exactly(from, &uids, to).await?
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
        // As COPY, STORE of \\Deleted and EXPUNGE (RFC 6851, 4.4).
        let from = self.changeable(Rights::MARK_DELETED.with(Rights::EXPUNGE))?;
        let from = from.key;
        let uids = self.uids(set, uid)?;
        let to = self.target(to)?.key;
        let uids = self.limited(uids);
        let store = self.store_for(self.rights_on(to));
        let asked = if uid {
            None
        } else {
            Some(self.numbered(&uids)?.len())
        };
        let moved = out.during(store.move_messages(from, uids, to)).await??;
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
        let key = self.changeable(Rights::EXPUNGE)?.key;
        let mut uids = set.map(|set| self.uids(set, true)).transpose()?;
        // RFC 9738, 3.1: EXPUNGE and CLOSE have no limit.
        if let Some(asked) = uids.take() {
            let current = self.selected()?.current();
            let marked = |m: &Message| {
                let now = current.by_uid(m.uid);
                now.is_some_and(|m| m.flags.system.contains(SystemFlags::DELETED))
            };
            uids = Some(self.limited_where(asked, &marked));
        }
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
