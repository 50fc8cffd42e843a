//! Annotations that changed (RFC 5465, 5.6 and 5.7; RFC 5464, 4.4.2): their names alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Budget, Deed, Exec, Others, Out, Overflow};
use crate::imap::command::Command;
use crate::imap::encode;
use crate::imap::notify::{Events, Plan};
use crate::store::Changed;
use crate::types::MailboxId;

impl Exec {
    /// What a command is about to set.
    pub(super) fn notes_of(&self, command: &Command) -> Vec<(Option<MailboxId>, String)> {
        let (Command::SetMetadata { mailbox, values }, Some(_)) = (command, &self.watch) else {
            return Vec::new();
        };
        let of = match self.store.mailboxes(self.account.id) {
            _ if mailbox.is_empty() => None,
            Ok(list) => match list.find(mailbox) {
                Some(info) => Some(info.key.mailbox),
                None => return Vec::new(),
            },
            Err(_) => return Vec::new(),
        };
        let names = values.iter().map(|(entry, _)| entry.to_ascii_lowercase());
        names.map(|entry| (of, entry)).collect()
    }

    pub(super) fn tell_notes(
        &self,
        plan: &Plan,
        others: &mut Others,
        deed: &Deed,
        budget: &mut Budget,
        out: &mut Out<'_>,
    ) -> Result<(), Overflow> {
        let (noted, place) = (self.store).changed_annotations(self.account.id, others.noted);
        others.noted = place;
        if !plan.watches(Events::METADATA.with(Events::SERVER)) {
            return Ok(());
        }
        // What changed is known by the journal alone.
        let Changed::Only(mut noted) = noted else {
            return Err(Overflow);
        };
        for (mailbox, entry) in &deed.notes {
            // Once is this session's own; what comes besides is another's.
            let own = noted
                .iter()
                .position(|noted| noted.mailbox == *mailbox && *noted.entry == **entry);
            if let Some(own) = own {
                noted.remove(own);
            }
        }
        let mut told: BTreeMap<Option<MailboxId>, BTreeSet<&str>> = BTreeMap::new();
        for noted in &noted {
            told.entry(noted.mailbox).or_default().insert(&noted.entry);
        }
        for (mailbox, entries) in told {
            let name = match mailbox {
                None if plan.watches(Events::SERVER) => "",
                None => continue,
                Some(mailbox) => {
                    let all = &others.list.mailboxes;
                    let info = all.iter().find(|info| info.key.mailbox == mailbox);
                    let wanted = info
                        .filter(|info| plan.of(&info.name, info.subscribed).has(Events::METADATA));
                    match wanted {
                        Some(info) => &info.name,
                        None => continue,
                    }
                }
            };
            budget.take(1)?;
            out.buf.extend_from_slice(b"* METADATA ");
            encode::mailbox(&mut out.buf, name, self.enabled.utf8());
            for entry in entries {
                out.buf.push(b' ');
                encode::astring(&mut out.buf, entry.as_bytes());
            }
            out.line("");
        }
        Ok(())
    }
}
