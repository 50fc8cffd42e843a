//! What is seen, held against what should be.

use std::collections::BTreeMap;

use super::model::{Mailbox, State};

impl State {
    /// Takes what `seen` has of that which could not be foretold, or says what is other.
    pub(super) fn agrees(&self, seen: &Self) -> Result<Self, String> {
        let mut want = self.clone();
        let mut top = want.top_validity;
        if want.cursor.is_none() {
            want.changes.clear();
        }
        for (address, account) in &mut want.accounts {
            let other = seen
                .accounts
                .get(address)
                .ok_or(format!("{address} is not there"))?;
            for (name, mailbox) in &mut account.boxes {
                let found = other.boxes.get(name);
                let found = found.ok_or_else(|| format!("{address}/{name} is not there"))?;
                mailbox
                    .fill(found, self.top_validity, &mut top)
                    .map_err(|why| format!("{address}/{name}: {why}"))?;
            }
        }
        want.top_validity = top;
        let mut found = Self {
            next_account: want.next_account,
            top_validity: top,
            ..seen.clone()
        };
        found.with_bodies(&want);
        let diff = want.diff(&found);
        diff.map_or(Ok(want), Err)
    }

    /// Bodies that were not looked at are as they were.
    fn with_bodies(&mut self, of: &Self) {
        let boxes = |state: &Self, address: &str, name: &str| {
            state
                .accounts
                .get(address)
                .and_then(|a| a.boxes.get(name).cloned())
        };
        for (address, account) in &mut self.accounts {
            for (name, mailbox) in &mut account.boxes {
                let Some(known) = boxes(of, address, name) else {
                    continue;
                };
                for (uid, message) in &mut mailbox.messages {
                    let body = known.messages.get(uid).and_then(|m| m.body);
                    message.body = message.body.or(body);
                }
            }
        }
    }

    fn diff(&self, seen: &Self) -> Option<String> {
        for (address, account) in &self.accounts {
            let other = &seen.accounts.get(address)?;
            for (name, mailbox) in &account.boxes {
                let found = &other.boxes[name];
                if mailbox != found {
                    let uids = |m: &Mailbox| m.messages.keys().copied().collect::<Vec<_>>();
                    let unlike = |uid: &&u32| mailbox.messages[uid] != found.messages[uid];
                    let bad = match uids(mailbox) == uids(found) {
                        true => mailbox.messages.keys().find(unlike).copied(),
                        false => None,
                    };
                    return Some(match bad {
                        Some(uid) => format!(
                            "{address}/{name}/{uid}: want {:?}, found {:?}",
                            mailbox.messages[&uid], found.messages[&uid]
                        ),
                        None => {
                            format!(
                                "{address}/{name}: want {:?}, found {:?}",
                                Mailbox {
                                    messages: BTreeMap::new(),
                                    ..mailbox.clone()
                                },
                                Mailbox {
                                    messages: BTreeMap::new(),
                                    ..found.clone()
                                },
                            ) + &format!(" with {:?} and {:?}", uids(mailbox), uids(found))
                        }
                    });
                }
            }
            let (mut a, mut b) = (account.clone(), (*other).clone());
            (a.next_box, a.next_device) = (b.next_box, b.next_device);
            for both in [&mut a, &mut b] {
                both.boxes
                    .values_mut()
                    .for_each(|mailbox| mailbox.messages.clear());
            }
            if a != b {
                return Some(format!("{address}: want {a:?}, found {b:?}"));
            }
        }
        let names = |state: &Self| state.accounts.keys().cloned().collect::<Vec<_>>();
        let rest = |state: &Self| {
            format!(
                "{:?} {:?} {:?} {:?} {:?} {:?}",
                names(state),
                state.domains,
                state.aliases,
                state.settings,
                state.cursor,
                state.changes
            )
        };
        let (a, b) = (rest(self), rest(seen));
        (a != b).then(|| format!("want {a}, found {b}"))
    }
}

impl Mailbox {
    fn fill(&mut self, seen: &Self, before: u32, top: &mut u32) -> Result<(), String> {
        if self.validity == 0 {
            if seen.validity <= before {
                return Err(format!(
                    "UIDVALIDITY {} is not above {before}",
                    seen.validity
                ));
            }
            self.validity = seen.validity;
        }
        *top = seen.validity.max(*top);
        let known = self.modseq;
        for (uid, message) in &mut self.messages {
            let Some(found) = seen.messages.get(uid) else {
                return Err(format!("{uid} is not there"));
            };
            if message.modseq == 0 {
                if found.modseq <= known || found.modseq > seen.modseq {
                    return Err(format!("modseq {} of {uid} after {known}", found.modseq));
                }
                message.modseq = found.modseq;
            }
            if message.saved == 0 {
                message.saved = found.saved;
            }
        }
        if self.changed {
            if seen.modseq <= known {
                return Err(format!("highest modseq {} after {known}", seen.modseq));
            }
            self.modseq = seen.modseq;
            self.changed = false;
        }
        Ok(())
    }
}
