//! What is told of mailboxes that are not selected (RFC 5465, 5).

use std::collections::HashSet;
use std::sync::Arc;

use super::names::{changes, is_subscribed};
use super::{Budget, Deed, Others, Overflow, Told, Trouble, id, position, wanted};
use crate::imap::exec::list::Turn;
use crate::imap::exec::{Exec, Out};
use crate::imap::notify::{Events, Plan};
use crate::store::{Changed, MailboxList};
use crate::types::{MailboxId, MailboxKey, ModSeq, Uid};

impl Exec {
    pub(super) async fn tell_others(
        &mut self,
        plan: &Plan,
        others: &mut Others,
        deed: &Deed,
        budget: &mut Budget,
        out: &mut Out<'_>,
    ) -> Result<(), Trouble> {
        others.changes.borrow_and_update();
        let account = self.account.id;
        let (changed, place) = self.store.changed_mailboxes(account, others.place);
        let Ok(list) = self.store.mailboxes(account) else {
            // The account is gone, or nothing can be read: what is told next is told then.
            return Ok(());
        };
        let mut look: HashSet<MailboxId> = match &changed {
            Changed::Only(these) => these.iter().copied().collect(),
            Changed::Any => others.told.iter().map(|told| told.mailbox).collect(),
        };
        if !Arc::ptr_eq(&list, &others.list) {
            for (name, change) in changes(&others.list, &list, plan) {
                let own = deed.name.as_ref();
                if own.is_some_and(|own| own.explains(&name, &change, &list)) {
                    continue;
                }
                budget.take(1)?;
                self.name_line(&name, change.old.as_deref(), &list, out);
                out.piece().await?;
            }
            self.follow(plan, others, &list, &mut look)?;
            others.list = Arc::clone(&list);
        }
        self.tell_notes(plan, others, deed, budget, out)?;
        let selected = self.selected.as_ref().map(|selected| selected.key);
        if let Some((key, snapshot)) = &deed.selected
            && selected != Some(*key)
            && key.account == account
        {
            // From here on it is a mailbox among others.
            look.insert(key.mailbox);
            let at = position(&others.told, key.mailbox);
            if let Some(told) = at.and_then(|at| others.told.get_mut(at)) {
                *told = told.of_snapshot(snapshot);
            }
        }
        let modseqs = self.enabled.condstore;
        let mut again = false;
        let mut turn = Turn::new();
        for info in list
            .mailboxes
            .iter()
            .filter(|i| look.contains(&i.key.mailbox))
        {
            let at = position(&others.told, info.key.mailbox);
            let Some(told) = at.and_then(|at| others.told.get_mut(at)) else {
                continue;
            };
            if selected == Some(info.key) {
                continue;
            }
            turn.take().await;
            self.absorb_own(info.key, told);
            let Ok(now) = self.store.mailbox_status(info.key) else {
                // Gone, and then the list says so; or not to be read now.
                again = true;
                continue;
            };
            let last = std::mem::replace(told, Told::new(told.mailbox, told.events, &now));
            let kind = if (last.messages, last.uid_next) != (now.messages, now.uid_next) {
                Events::MESSAGES
            } else if told.events.has(Events::FLAGS)
                && (last.unseen != now.unseen || modseqs && last.modseq != now.highest_modseq)
            {
                Events::FLAGS
            } else {
                continue;
            };
            budget.take(1)?;
            self.status_line(info, &now, told.events, kind, modseqs, &mut out.buf);
            out.piece().await?;
        }
        if !again {
            others.place = place;
        }
        Ok(())
    }

    /// The list changed: the mailboxes to watch may be others.
    fn follow(
        &self,
        plan: &Plan,
        others: &mut Others,
        list: &MailboxList,
        look: &mut HashSet<MailboxId>,
    ) -> Result<(), Overflow> {
        let wanted = wanted(plan, list);
        if wanted.len() > self.notify_limits.mailboxes {
            return Err(Overflow);
        }
        let before: HashSet<MailboxId> = others.list.mailboxes.iter().map(id).collect();
        let mut next = Vec::with_capacity(wanted.len());
        for (info, events) in wanted {
            let mailbox = info.key.mailbox;
            let known = position(&others.told, mailbox).and_then(|at| others.told.get(at));
            next.push(match known {
                Some(told) => Told { events, ..*told },
                None if !before.contains(&mailbox) => {
                    look.insert(mailbox);
                    Told::empty(mailbox, events)
                }
                // Watched from now on.
                None => match self.store.mailbox_status(info.key) {
                    Ok(now) => Told::new(mailbox, events, &now),
                    Err(_) => Told::empty(mailbox, events),
                },
            });
        }
        next.sort_unstable_by_key(|told| told.mailbox);
        others.told = next;
        Ok(())
    }

    /// Takes what this session's own command brought as told, where nothing else happened.
    fn absorb_own(&self, key: MailboxKey, told: &mut Told) {
        let Some((_, own)) = self.arrived.iter().find(|(at, _)| *at == key) else {
            return;
        };
        let Ok(mailbox) = self.store.mailbox(key) else {
            return;
        };
        let snapshot = mailbox.snapshot();
        let (mut count, mut steps, mut last) = (0, 0, ModSeq(0));
        for (_, message) in own.ranges().flat_map(|range| snapshot.range(range)) {
            count += 1;
            steps += u64::from(message.modseq != last);
            last = message.modseq;
        }
        let first = own.ranges().next().map(|range| *range.start());
        let end = own.ranges().next_back().map(|range| *range.end());
        let fits = first == Some(told.uid_next.0)
            && end.map(|end| Uid(end.saturating_add(1))) == Some(snapshot.uid_next())
            && snapshot.len() == told.messages.saturating_add(count)
            && snapshot.highest_modseq() == ModSeq(told.modseq.0 + steps);
        if fits {
            *told = told.of_snapshot(&snapshot);
        }
    }

    fn name_line(&self, name: &str, old: Option<&str>, list: &MailboxList, out: &mut Out<'_>) {
        let info = list.mailboxes.iter().find(|info| info.name == name);
        let mut attributes = match info.map(|info| self.attributes(info)) {
            Some(Ok(attributes)) => attributes,
            Some(Err(_)) => Vec::new(),
            None => vec!["\\NonExistent"],
        };
        if is_subscribed(list, name) {
            attributes.push("\\Subscribed");
        }
        self.list_line(&attributes, name, old, out);
    }
}
