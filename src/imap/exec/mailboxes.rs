//! SELECT, EXAMINE, CREATE, DELETE, STATUS, CLOSE (RFC 9051, 6.3 and 6.4).

use super::naming::{Home, Place, no_permission, nonexistent};
use super::sync::Selected;
use super::{Answer, Exec, Out, Refusal, aside};
use crate::imap::command::{SelectParameter, StatusItem};
use crate::imap::encode;
use crate::store::{INTERNAL, MailboxInfo, SpecialUse, StoreError};
use crate::types::{MailboxKey, Rights, nfc};

/// Those that a mailbox can be given (RFC 6154, 2): the others would have to be searches.
pub(super) const SPECIAL_USES: [SpecialUse; 5] = [
    SpecialUse::Archive,
    SpecialUse::Drafts,
    SpecialUse::Junk,
    SpecialUse::Sent,
    SpecialUse::Trash,
];

/// Who has none of these only reads.
const CHANGING: Rights = Rights(
    Rights::INSERT.0
        | Rights::EXPUNGE.0
        | Rights::SEEN.0
        | Rights::WRITE.0
        | Rights::MARK_DELETED.0,
);

impl Exec {
    pub(super) fn find(&self, name: &str) -> Result<MailboxInfo, Refusal> {
        Ok(self.resolve(name)?.info)
    }

    pub(super) async fn select(
        &mut self,
        name: &str,
        parameters: &[SelectParameter],
        read_only: bool,
        out: &mut Out<'_>,
    ) -> Answer {
        let mut known = None;
        for parameter in parameters {
            match parameter {
                SelectParameter::CondStore => {}
                // RFC 7162, 3.2.5
                SelectParameter::QResync(_) if !self.enabled.qresync => {
                    return Err(Refusal::Bad("ENABLE QRESYNC first".into()));
                }
                SelectParameter::QResync(parameter) => known = Some(parameter),
                SelectParameter::Other(_) => {
                    return Err(Refusal::Bad("Unknown parameter of SELECT".into()));
                }
            }
        }
        // Also where it fails, nothing is selected afterwards (RFC 9051, 6.3.2).
        if self.selected.take().is_some() {
            out.line("* OK [CLOSED] The previous mailbox is closed");
        }
        let place = self.place(name)?;
        if !place.rights.contains(Rights::READ) {
            return Err(place.refused());
        }
        let Place { info, rights } = place;
        // RFC 4314, 5.2
        let read_only = read_only || !rights.any(CHANGING);
        // RFC 7162, 3.1.8
        self.enabled.condstore |= parameters.contains(&SelectParameter::CondStore);
        let mut selected = Selected::open(self.store.mailbox(info.key)?, read_only, self.enabled);
        selected.rights = rights;
        let snapshot = selected.numbering.clone();
        selected.flag_lists(&snapshot, &mut out.buf);
        out.line(&format!("* {} EXISTS", snapshot.len()));
        if !self.enabled.rev2 {
            out.line(&format!("* {} RECENT", selected.recent_set().len()));
            // A message number: not with UIDONLY (RFC 9586, 3).
            if let (false, Some(seq)) = (self.enabled.uidonly, snapshot.first_unseen()) {
                out.line(&format!("* OK [UNSEEN {seq}] First unseen"));
            }
        }
        out.line(&format!(
            "* OK [UIDVALIDITY {}] UIDs are valid",
            snapshot.uid_validity()
        ));
        out.line(&format!(
            "* OK [UIDNEXT {}] Predicted next UID",
            snapshot.uid_next()
        ));
        // RFC 7162, 3.1.2: always, so that no client has to ask for it.
        out.line(&format!(
            "* OK [HIGHESTMODSEQ {}] Highest mod-sequence",
            snapshot.highest_modseq()
        ));
        out.line(&format!(
            "* OK [MAILBOXID ({})] Its name for ever",
            encode::mailbox_id(info.key)
        ));
        // RFC 4467, 8
        out.line(&format!("* OK [URLMECH {INTERNAL}] URLs can be signed"));
        if self.enabled.rev2 {
            let old = (info.name != name).then_some(name);
            let attributes = self.attributes(&info)?;
            self.list_line(&attributes, &info.name, old, out);
        }
        self.selected = Some(selected);
        if let Some(known) = known {
            self.resync(known, out).await?;
        }
        Ok(if read_only {
            "[READ-ONLY] Examined".into()
        } else {
            "[READ-WRITE] Selected".into()
        })
    }

    pub(super) async fn create(
        &mut self,
        name: &str,
        uses: &[String],
        out: &mut Out<'_>,
    ) -> Answer {
        let mut special = None;
        for name in uses {
            let found = SPECIAL_USES
                .into_iter()
                .find(|u| u.attribute().eq_ignore_ascii_case(name));
            // RFC 6154, 3
            if found.is_none() || special.is_some() {
                return Err(Refusal::No(
                    "[USEATTR] This special use is not possible".into(),
                ));
            }
            special = found;
        }
        let (account, local) = self.site(name)?;
        if special.is_some() && account != self.account.id {
            return Err(no_permission());
        }
        let mailbox = self.store.mailbox_create(account, &local, special).await?;
        self.note_name(name, name, out)?;
        let id = encode::mailbox_id(MailboxKey { account, mailbox });
        Ok(format!("[MAILBOXID ({id})] Created"))
    }

    pub(super) async fn rename(&mut self, from: &str, to: &str, out: &mut Out<'_>) -> Answer {
        let (account, from_local) = match self.home(from)? {
            Home::Own => (self.account.id, from.to_owned()),
            Home::Nowhere => return Err(nonexistent()),
            Home::Other(owner, local) => {
                let info = self.resolve_for(from, Rights::DELETE)?;
                if info.name.ends_with("/INBOX") && local.eq_ignore_ascii_case("INBOX") {
                    return Err(Refusal::No(
                        "[CANNOT] Only its owner renames an INBOX".into(),
                    ));
                }
                (owner, local)
            }
        };
        let (target, to_local) = self.site(to)?;
        if account != target {
            return Err(Refusal::No(
                "[CANNOT] Mailboxes stay with their owner; move the messages".into(),
            ));
        }
        self.store
            .mailbox_rename(account, &from_local, &to_local)
            .await?;
        self.note_name(from, to, out)?;
        Ok("Renamed".into())
    }

    /// RFC 9051, 6.3.9.7: the client hears how a name is spelled that it spelled otherwise.
    fn note_name(&self, given: &str, now: &str, out: &mut Out<'_>) -> Result<(), Refusal> {
        if self.enabled.rev2 && (nfc(given) != given || nfc(now) != now) {
            let now = nfc(now.strip_suffix('/').unwrap_or(now));
            // Only a parent may be left of it.
            let attributes = match self.find(&now) {
                Ok(info) => self.attributes(&info)?,
                Err(_) => vec!["\\NonExistent"],
            };
            self.list_line(&attributes, &now, Some(given), out);
        }
        Ok(())
    }

    pub(super) async fn delete(&mut self, name: &str, out: &mut Out<'_>) -> Answer {
        let (account, local) = match self.home(name)? {
            Home::Own => (self.account.id, name.to_owned()),
            Home::Nowhere => return Err(nonexistent()),
            Home::Other(owner, local) => {
                self.resolve_for(name, Rights::DELETE)?;
                (owner, local)
            }
        };
        self.store.mailbox_delete(account, &local).await?;
        self.note_name(name, name, out)?;
        if self.lost() {
            self.selected = None;
            out.line("* OK [CLOSED] The deleted mailbox is closed");
        }
        Ok("Deleted".into())
    }

    /// Subscriptions are this account's own, also those to mailboxes of others.
    pub(super) async fn subscribe(&mut self, name: &str, on: bool) -> Answer {
        let known = self.find(name).map(|info| info.name);
        let name = known.as_deref().unwrap_or(name);
        self.store.subscribe(self.account.id, name, on).await?;
        Ok(["Unsubscribed", "Subscribed"][usize::from(on)].into())
    }

    pub(super) fn status(&self, name: &str, items: &[StatusItem], out: &mut Out<'_>) -> Answer {
        let info = self.resolve_for(name, Rights::READ)?;
        self.write_status(&info, items, &mut out.buf)?;
        Ok("Status given".into())
    }

    pub(super) fn write_status(
        &self,
        info: &MailboxInfo,
        items: &[StatusItem],
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let status = self.store.mailbox_status(info.key)?;
        // Only for this must the mailbox be opened.
        let recent = match items.contains(&StatusItem::Recent) {
            true => self.store.mailbox(info.key)?.recent(),
            false => 0,
        };
        // Only for this are records of messages read.
        let deleted_storage = match items.contains(&StatusItem::DeletedStorage) {
            true if status.deleted > 0 => aside(|| self.store.deleted_bytes(info.key))?,
            _ => 0,
        };
        out.extend_from_slice(b"* STATUS ");
        encode::mailbox(out, &info.name, self.enabled.utf8());
        let pair = |item: &StatusItem| match item {
            StatusItem::Messages => format!("MESSAGES {}", status.messages),
            StatusItem::Recent => format!("RECENT {recent}"),
            StatusItem::UidNext => format!("UIDNEXT {}", status.uid_next),
            StatusItem::UidValidity => format!("UIDVALIDITY {}", status.uid_validity),
            StatusItem::Unseen => format!("UNSEEN {}", status.unseen),
            StatusItem::Deleted => format!("DELETED {}", status.deleted),
            StatusItem::DeletedStorage => format!("DELETED-STORAGE {deleted_storage}"),
            StatusItem::Size => format!("SIZE {}", status.size),
            StatusItem::HighestModSeq => format!("HIGHESTMODSEQ {}", status.highest_modseq),
            StatusItem::AppendLimit => format!("APPENDLIMIT {}", self.append_limit),
            StatusItem::MailboxId => format!("MAILBOXID ({})", encode::mailbox_id(info.key)),
        };
        let pairs: Vec<String> = items.iter().map(pair).collect();
        out.extend_from_slice(format!(" ({})\r\n", pairs.join(" ")).as_bytes());
        Ok(())
    }

    /// CLOSE removes what is \Deleted, silently; not where the mailbox was only examined.
    pub(super) async fn close(&mut self) -> Answer {
        let Some(selected) = self.selected.take() else {
            return Err(Refusal::Bad("No mailbox is selected".into()));
        };
        // RFC 4314, 4: without the right it only closes.
        if !selected.read_only && selected.rights.contains(Rights::EXPUNGE) {
            match self.store.expunge(selected.key, None).await {
                // Deleted meanwhile: nothing is left of it.
                Ok(_) | Err(StoreError::NoMailbox) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok("Closed".into())
    }
}
