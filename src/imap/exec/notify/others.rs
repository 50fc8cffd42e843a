//! What is told of mailboxes that are not selected (RFC 5465, 5).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::names::{NameChange, changes};
use super::view::{Foreign, View};
use super::{Budget, Deed, Others, Overflow, READABLE, Told, Trouble, position, wanted};
use crate::imap::exec::list::Turn;
use crate::imap::exec::{Exec, Out};
use crate::imap::notify::{Events, Plan};
use crate::store::Changed;
use crate::types::{MailboxKey, ModSeq, Uid};

impl Exec {
    pub(super) async fn tell_others(
        &mut self,
        plan: &Plan,
        others: &mut Others,
        deed: &Deed,
        budget: &mut Budget,
        out: &mut Out<'_>,
    ) -> Result<(), Trouble> {
        let own = self.account.id;
        let mut look: HashSet<MailboxKey> = HashSet::new();
        let mut places = Vec::with_capacity(others.sources.len());
        for source in &mut others.sources {
            source.seen();
            let account = source.account;
            let (changed, place) = self.store.changed_mailboxes(account, source.place);
            places.push((account, place));
            match changed {
                Changed::Only(these) => {
                    look.extend(
                        these
                            .into_iter()
                            .map(|mailbox| MailboxKey { account, mailbox }),
                    );
                }
                Changed::Any => {
                    let all = others.told.iter().map(|told| told.mailbox);
                    look.extend(all.filter(|key| key.account == account));
                }
            }
        }
        let newer = match self.newer(&others.view, &others.sources) {
            Ok(true) => self.view(plan, &mut others.sources).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let Ok(newer) = newer else {
            // The account is gone, or nothing can be read: what is told next is told then.
            return Ok(());
        };
        if let Some(view) = newer.transpose()? {
            self.compare(plan, &mut others.view, &view);
            let from_inbox = |key| self.store.is_from_inbox(key);
            let mut changes = changes(&others.view, &view, plan, &from_inbox);
            self.access(plan, others, &view, &mut changes);
            for (name, change) in changes {
                let own = deed.name.as_ref();
                if own.is_some_and(|own| own.explains(&name, &change, &view)) {
                    continue;
                }
                budget.take(1)?;
                self.name_line(&name, change.old.as_deref(), &view, change.access, out);
                out.piece().await?;
            }
            self.follow(plan, others, &view, &mut look)?;
            others.view = view;
        }
        self.tell_notes(plan, others, deed, budget, out)?;
        let selected = self.selected.as_ref().map(|selected| selected.key);
        if let Some((key, snapshot)) = &deed.selected
            && selected != Some(*key)
        {
            // From here on it is a mailbox among others.
            look.insert(*key);
            let at = position(&others.told, *key);
            if let Some(told) = at.and_then(|at| others.told.get_mut(at)) {
                *told = told.of_snapshot(snapshot);
            }
        }
        let modseqs = self.enabled.condstore;
        let mut again = false;
        let mut turn = Turn::new();
        for info in others.view.readable().filter(|i| look.contains(&i.key)) {
            let at = position(&others.told, info.key);
            let Some(told) = at.and_then(|at| others.told.get_mut(at)) else {
                continue;
            };
            if selected == Some(info.key) {
                continue;
            }
            turn.take().await;
            // They may be others than a moment ago.
            if info.key.account != own && !self.rights_on(info.key).contains(READABLE) {
                continue;
            }
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
        for (account, place) in places.into_iter().filter(|_| !again) {
            let mut all = others.sources.iter_mut();
            if let Some(source) = all.find(|source| source.account == account) {
                source.place = place;
            }
        }
        Ok(())
    }

    /// The list changed: the mailboxes to watch may be others.
    fn follow(
        &self,
        plan: &Plan,
        others: &mut Others,
        view: &View,
        look: &mut HashSet<MailboxKey>,
    ) -> Result<(), Overflow> {
        let wanted = wanted(plan, view);
        if wanted.len() > self.notify_limits.mailboxes {
            return Err(Overflow);
        }
        let before: HashSet<MailboxKey> = others.view.readable().map(|info| info.key).collect();
        let mut next = Vec::with_capacity(wanted.len());
        for (info, events) in wanted {
            let mailbox = info.key;
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

    /// RFC 5465, 5.9: rights that were lost, and those that are there again. `changes` become the
    /// names to tell of.
    fn access(
        &self,
        plan: &Plan,
        others: &mut Others,
        view: &View,
        changes: &mut BTreeMap<String, NameChange>,
    ) {
        let now: HashMap<MailboxKey, &Foreign> = view.others.iter().map(of_key).collect();
        let mut note = |name: &str| changes.entry(name.to_owned()).or_default().access = true;
        for was in others.view.others.iter().filter(|was| was.readable) {
            let info = &was.info;
            let lost = match now.get(&info.key) {
                Some(now) => !now.readable,
                None => self.is_withheld(info.key),
            };
            if lost && view.wanted(plan, &info.name, info.subscribed) != Events::NONE {
                others.denied.insert(info.key);
                note(now.get(&info.key).map_or(&info.name, |now| &now.info.name));
            }
        }
        for foreign in view.others.iter().filter(|foreign| foreign.readable) {
            if others.denied.remove(&foreign.info.key) {
                note(&foreign.info.name);
            }
        }
        // Of those that are too many it is not told that they can be read again.
        while others.denied.len() > self.notify_limits.mailboxes {
            others.denied.pop_first();
        }
    }

    /// `access`: it is told for the sake of rights.
    pub(super) fn name_line(
        &self,
        name: &str,
        old: Option<&str>,
        view: &View,
        access: bool,
        out: &mut Out<'_>,
    ) {
        let info = view.by_name(name);
        let mut attributes = match info.map(|info| self.attributes(info)) {
            Some(Ok(attributes)) => attributes,
            Some(Err(_)) => Vec::new(),
            None => vec!["\\NonExistent"],
        };
        let mut all = view.others.iter().map(of_key);
        let closed =
            info.is_some_and(|info| all.any(|(key, foreign)| key == info.key && !foreign.readable));
        if closed || access && info.is_none() {
            attributes.push("\\NoAccess");
        }
        if view.is_subscribed(name) {
            attributes.push("\\Subscribed");
        }
        self.list_line(&attributes, name, old, out);
    }
}

fn of_key(foreign: &Foreign) -> (MailboxKey, &Foreign) {
    (foreign.info.key, foreign)
}
