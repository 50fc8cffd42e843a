//! Annotations that changed (RFC 5465, 5.6 and 5.7; RFC 5464, 4.4.2): their names alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Budget, Deed, Exec, Others, Out, Overflow, READABLE};
use crate::imap::command::Command;
use crate::imap::encode;
use crate::imap::notify::{Events, Plan};
use crate::store::Changed;
use crate::types::MailboxKey;

/// What all see who may read the mailbox.
const SHARED: &str = "/shared/";

impl Exec {
    /// What a command is about to set.
    pub(super) fn notes_of(&self, command: &Command) -> Vec<(Option<MailboxKey>, String)> {
        let (Command::SetMetadata { mailbox, values }, Some(_)) = (command, &self.watch) else {
            return Vec::new();
        };
        let of = match mailbox.is_empty() {
            true => None,
            false => match self.find(mailbox) {
                Ok(info) => Some(info.key),
                Err(_) => return Vec::new(),
            },
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
        let own = self.account.id;
        let mut noted: Vec<(Option<MailboxKey>, Arc<str>)> = Vec::new();
        for source in &mut others.sources {
            let account = source.account;
            let (changed, place) = self.store.changed_annotations(account, source.noted);
            source.noted = place;
            if !plan.watches(match account == own {
                true => Events::METADATA.with(Events::SERVER),
                false => Events::METADATA,
            }) {
                continue;
            }
            // What changed is known by the journal alone.
            let Changed::Only(changed) = changed else {
                return Err(Overflow);
            };
            let key = |mailbox| MailboxKey { account, mailbox };
            // What is private is its owner's, and what is the server's is told once.
            let changed = changed.into_iter().filter(|noted| {
                account == own || noted.mailbox.is_some() && noted.entry.starts_with(SHARED)
            });
            noted.extend(changed.map(|noted| (noted.mailbox.map(key), noted.entry)));
        }
        for (mailbox, entry) in &deed.notes {
            // Once is this session's own; what comes besides is another's.
            let own = noted
                .iter()
                .position(|(of, name)| of == mailbox && **name == **entry);
            if let Some(own) = own {
                noted.remove(own);
            }
        }
        let mut told: BTreeMap<Option<MailboxKey>, BTreeSet<&str>> = BTreeMap::new();
        for (mailbox, entry) in &noted {
            told.entry(*mailbox).or_default().insert(entry);
        }
        for (mailbox, entries) in told {
            let name = match mailbox {
                None if plan.watches(Events::SERVER) => "",
                None => continue,
                Some(mailbox) => {
                    let view = &others.view;
                    let info = view.readable().find(|info| info.key == mailbox);
                    let wanted = info.filter(|info| {
                        let wanted = view.wanted(plan, &info.name, info.subscribed);
                        wanted.has(Events::METADATA) && self.rights_on(mailbox).contains(READABLE)
                    });
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
