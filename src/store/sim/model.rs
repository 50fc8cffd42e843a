//! What a store should hold, as plain as it can be said, and what each operation makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::bulk::SLICE;
use super::super::model::FlagAction;
use crate::types::LogPos;

/// Accounts by address. Of what the store chooses freely (0: not seen yet) only the order is
/// foretold: a later one is higher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) domains: BTreeSet<String>,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) aliases: BTreeMap<String, Vec<String>>,
    pub(super) settings: BTreeMap<String, Vec<u8>>,
    pub(super) cursor: Option<LogPos>,
    /// What a feed tells from the cursor on.
    pub(super) changes: Vec<Change>,
    pub(super) next_account: u32,
    pub(super) top_validity: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) id: u32,
    pub(super) hash: String,
    pub(super) disabled: bool,
    pub(super) boxes: BTreeMap<String, Mailbox>,
    /// Subscribed to, and not there.
    pub(super) missing: BTreeSet<String>,
    pub(super) devices: BTreeMap<u32, String>,
    /// By device and slot.
    pub(super) outbox: BTreeMap<(u32, String), Vec<u32>>,
    pub(super) next_box: u32,
    pub(super) next_device: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) id: u32,
    pub(super) validity: u32,
    pub(super) next: u32,
    pub(super) modseq: u64,
    /// Something was changed since the modseq was seen.
    pub(super) changed: bool,
    pub(super) subscribed: bool,
    pub(super) messages: BTreeMap<u32, Message>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Length and checksum. None: it was not looked at.
    pub(super) body: Option<(u64, u32)>,
    pub(super) prefix: String,
    pub(super) flags: BTreeSet<String>,
    pub(super) date: u64,
    pub(super) zone: i16,
    pub(super) modseq: u64,
    pub(super) saved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Delivered(u32),
    Appended(u32),
    Copied(u32),
    Seen(u32),
    Expunged(u32),
}

/// Account (by address) and number.
pub(super) type Place = (String, u32);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Domain(String),
    AccountAdd(String),
    AccountRemove(String),
    Password(String, String),
    Alias(String, Vec<String>),
    AliasRemove(String),
    Deliver {
        body: Body,
        to: Vec<(String, Option<u32>, Vec<String>)>,
    },
    Append {
        body: Body,
        to: Place,
        flags: Vec<String>,
        date: u64,
        zone: i16,
    },
    Flags {
        of: Place,
        uids: Vec<u32>,
        action: FlagAction,
        flags: Vec<String>,
    },
    Copy {
        from: Place,
        uids: Vec<u32>,
        to: Place,
        exactly: bool,
    },
    Move {
        from: Place,
        uids: Vec<u32>,
        to: Place,
    },
    Expunge {
        of: Place,
        uids: Option<Vec<u32>>,
    },
    Create(String, String),
    Rename(String, String, String),
    Delete(String, String),
    Subscribe(String, String, bool),
    DeviceAdd(String, String),
    DeviceRemove(String, u32),
    /// Device, slot and UIDs; a setting with it; all or nothing.
    Owe(String, u32, String, Vec<u32>),
    Paid(String, u32, String),
    Cursor(LogPos),
    Checkpoint,
    Image,
    Compact,
    Reopen,
}

/// A body is made from its number and length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) number: u64,
    pub(super) len: usize,
    pub(super) sum: (u64, u32),
}

/// What may be seen, oldest first; before `from` everything was answered.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) states: Arc<Vec<State>>,
    pub(super) from: usize,
}

impl Default for Told {
    fn default() -> Self {
        Self::one(State {
            next_account: 1,
            ..State::default()
        })
    }
}

impl Told {
    pub(super) fn one(state: State) -> Self {
        Self {
            states: Arc::new(vec![state]),
            from: 0,
        }
    }
}

pub(super) const DELETED: &str = "\\Deleted";
const SEEN: &str = "\\Seen";

/// The states that follow each other, and the UIDs that were given. None: it is refused.
pub(super) type Done = Option<(Vec<State>, Vec<u32>)>;

impl Account {
    fn create(&mut self, name: &str, subscribed: bool) {
        let mailbox = Mailbox {
            id: self.next_box,
            next: 1,
            changed: true,
            subscribed: self.missing.remove(name) || subscribed,
            ..Mailbox::default()
        };
        self.next_box += 1;
        self.boxes.insert(name.to_owned(), mailbox);
    }

    fn parents(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            if !self.boxes.contains_key(&name[..at]) {
                self.create(&name[..at], false);
            }
        }
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Mailbox> {
        self.boxes.values().find(|mailbox| mailbox.id == id)
    }

    fn by_id_mut(&mut self, id: u32) -> Option<&mut Mailbox> {
        self.boxes.values_mut().find(|mailbox| mailbox.id == id)
    }
}

impl Mailbox {
    fn add(&mut self, message: Message) -> u32 {
        let uid = self.next;
        self.next += 1;
        self.changed = true;
        let fresh = Message {
            modseq: 0,
            saved: 0,
            ..message
        };
        self.messages.insert(uid, fresh);
        uid
    }

    fn there(&self, uids: &[u32]) -> Vec<u32> {
        let mut there = uids.to_vec();
        there.retain(|uid| self.messages.contains_key(uid));
        there
    }
}

impl State {
    pub(super) fn mailbox(&self, place: &Place) -> Option<&Mailbox> {
        self.accounts.get(&place.0)?.by_id(place.1)
    }

    fn mailbox_mut(&mut self, place: &Place) -> Option<&mut Mailbox> {
        self.accounts.get_mut(&place.0)?.by_id_mut(place.1)
    }

    pub(super) fn done(&self, op: &Op) -> Done {
        let mut next = self.clone();
        let mut uids = Vec::new();
        let slices = match op {
            Op::Flags {
                of,
                uids: among,
                action,
                flags,
            } => {
                return self.sliced(of, among, |state, slice| {
                    state.flag(of, slice, *action, flags)
                });
            }
            Op::Move {
                from,
                uids: among,
                to,
            } => {
                self.mailbox(to)?;
                let mut given = Vec::new();
                let (states, _) = self.sliced(from, among, |state, slice| {
                    given.extend(state.carry(from, slice, to, true)?);
                    Some(())
                })?;
                return Some((states, given));
            }
            Op::Expunge { of, uids: among } => {
                let mailbox = self.mailbox(of)?;
                let marked = |uid: &&u32| mailbox.messages[uid].flags.contains(DELETED);
                let all: Vec<u32> = mailbox.messages.keys().filter(marked).copied().collect();
                let wanted = |uid: &u32| among.as_ref().is_none_or(|among| among.contains(uid));
                let among: Vec<u32> = all.into_iter().filter(wanted).collect();
                return self.sliced(of, &among, |state, slice| state.purge(of, slice));
            }
            Op::Delete(account, name) => next.delete(account, name)?,
            Op::Rename(account, from, to) if from == "INBOX" => next.rename_inbox(account, to)?,
            _ => {
                uids = next.simple(op)?;
                Vec::new()
            }
        };
        let mut states = slices;
        states.push(next);
        Some((states, uids))
    }

    /// A change of many messages happens in slices.
    fn sliced(
        &self,
        of: &Place,
        uids: &[u32],
        mut change: impl FnMut(&mut Self, &[u32]) -> Option<()>,
    ) -> Done {
        let there = self.mailbox(of)?.there(uids);
        let mut states = Vec::new();
        let mut state = self.clone();
        for slice in there.chunks(SLICE) {
            change(&mut state, slice)?;
            states.push(state.clone());
        }
        if states.is_empty() {
            states.push(state);
        }
        Some((states, Vec::new()))
    }

    fn flag(
        &mut self,
        of: &Place,
        uids: &[u32],
        action: FlagAction,
        flags: &[String],
    ) -> Option<()> {
        let mailbox = self.mailbox_mut(of)?;
        let given: BTreeSet<String> = flags.iter().cloned().collect();
        let mut seen = Vec::new();
        for uid in uids {
            let message = mailbox.messages.get_mut(uid)?;
            let new: BTreeSet<String> = match action {
                FlagAction::Replace => given.clone(),
                FlagAction::Add => message.flags.union(&given).cloned().collect(),
                FlagAction::Remove => message.flags.difference(&given).cloned().collect(),
            };
            if new != message.flags {
                mailbox.changed = true;
                message.modseq = 0;
                if new.contains(SEEN) {
                    seen.push(Change::Seen(*uid));
                }
                message.flags = new;
            }
        }
        self.changes.extend(seen);
        Some(())
    }

    fn purge(&mut self, of: &Place, uids: &[u32]) -> Option<()> {
        let mailbox = self.mailbox_mut(of)?;
        for uid in uids {
            mailbox.messages.remove(uid)?;
            mailbox.changed = true;
        }
        self.changes
            .extend(uids.iter().map(|uid| Change::Expunged(*uid)));
        Some(())
    }

    fn carry(&mut self, from: &Place, uids: &[u32], to: &Place, take: bool) -> Option<Vec<u32>> {
        let source = self.mailbox(from)?;
        let found = source.there(uids);
        let copies: Vec<Message> = found
            .iter()
            .map(|uid| source.messages[uid].clone())
            .collect();
        let target = self.mailbox_mut(to)?;
        let given: Vec<u32> = copies.into_iter().map(|copy| target.add(copy)).collect();
        self.changes
            .extend(given.iter().map(|uid| Change::Copied(*uid)));
        if take {
            self.purge(from, &found)?;
        }
        Some(given)
    }

    fn delete(&mut self, address: &str, name: &str) -> Option<Vec<Self>> {
        let account = self.accounts.get(address)?;
        let place = (address.to_owned(), account.boxes.get(name)?.id);
        if name == "INBOX" {
            return None;
        }
        let mut states = Vec::new();
        loop {
            let left: Vec<u32> = self.mailbox(&place)?.messages.keys().copied().collect();
            if left.len() <= SLICE {
                break;
            }
            self.purge(&place, &left[..SLICE])?;
            states.push(self.clone());
        }
        let account = self.accounts.get_mut(address)?;
        if account.boxes.remove(name)?.subscribed {
            account.missing.insert(name.to_owned());
        }
        Some(states)
    }

    fn rename_inbox(&mut self, address: &str, to: &str) -> Option<Vec<Self>> {
        let account = self.accounts.get_mut(address)?;
        if account.boxes.contains_key(to) {
            return None;
        }
        account.parents(to);
        account.create(to, false);
        let inbox = (address.to_owned(), account.boxes.get("INBOX")?.id);
        let to = (address.to_owned(), account.boxes.get(to)?.id);
        let all: Vec<u32> = self.mailbox(&inbox)?.messages.keys().copied().collect();
        let mut states = Vec::new();
        for slice in all.chunks(SLICE) {
            self.carry(&inbox, slice, &to, true)?;
            states.push(self.clone());
        }
        // The last one is the caller's.
        states.pop();
        Some(states)
    }

    fn rename(&mut self, address: &str, from: &str, to: &str) -> Option<()> {
        let account = self.accounts.get_mut(address)?;
        let below = format!("{from}/");
        if account.boxes.contains_key(to) || to.starts_with(&below) {
            return None;
        }
        let found = |name: &&String| *name == from || name.starts_with(&below);
        let names: Vec<String> = account.boxes.keys().filter(found).cloned().collect();
        let renamed = |name: &str| format!("{to}{}", &name[from.len()..]);
        if names.is_empty()
            || names
                .iter()
                .any(|n| account.boxes.contains_key(&renamed(n)))
        {
            return None;
        }
        account.parents(to);
        for name in names {
            let new = renamed(&name);
            let mut mailbox = account.boxes.remove(&name)?;
            mailbox.subscribed |= account.missing.remove(&new);
            account.boxes.insert(new, mailbox);
        }
        Some(())
    }

    fn account(&mut self, address: &str) -> Option<&mut Account> {
        self.accounts.get_mut(address)
    }

    fn simple(&mut self, op: &Op) -> Option<Vec<u32>> {
        let mut uids = Vec::new();
        match op {
            Op::Domain(name) => {
                if !self.domains.insert(name.clone()) {
                    return None;
                }
            }
            Op::AccountAdd(address) => {
                if self.accounts.contains_key(address) || self.aliases.contains_key(address) {
                    return None;
                }
                let mut account = Account {
                    id: self.next_account,
                    hash: "hash".into(),
                    next_box: 1,
                    next_device: 1,
                    ..Account::default()
                };
                for name in ["INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"] {
                    account.create(name, true);
                }
                self.next_account += 1;
                self.accounts.insert(address.clone(), account);
            }
            Op::AccountRemove(address) => {
                self.accounts.remove(address)?;
                for targets in self.aliases.values_mut() {
                    targets.retain(|target| target != address);
                }
                self.aliases.retain(|_, targets| !targets.is_empty());
            }
            Op::Password(address, hash) => self.account(address)?.hash.clone_from(hash),
            Op::Alias(name, targets) => {
                if self.accounts.contains_key(name) {
                    return None;
                }
                self.aliases.insert(name.clone(), targets.clone());
            }
            Op::AliasRemove(name) => {
                self.aliases.remove(name)?;
            }
            Op::Deliver { body, to } => {
                for (address, mailbox, flags) in to {
                    let account = self.accounts.get_mut(address)?;
                    let inbox = account.boxes.get("INBOX")?.id;
                    let asked = mailbox.filter(|id| account.by_id(*id).is_some());
                    let mailbox = account.by_id_mut(asked.unwrap_or(inbox))?;
                    let uid = mailbox.add(Message {
                        body: Some(body.sum),
                        prefix: format!("Delivered-To: {address}\r\n"),
                        flags: flags.iter().cloned().collect(),
                        date: body.number,
                        ..Message::default()
                    });
                    self.changes.push(Change::Delivered(uid));
                    uids.push(uid);
                }
            }
            Op::Append {
                body,
                to,
                flags,
                date,
                zone,
            } => {
                let uid = self.mailbox_mut(to)?.add(Message {
                    body: Some(body.sum),
                    flags: flags.iter().cloned().collect(),
                    date: *date,
                    zone: *zone,
                    ..Message::default()
                });
                self.changes.push(Change::Appended(uid));
                uids.push(uid);
            }
            Op::Copy {
                from,
                uids: among,
                to,
                exactly,
            } => {
                self.mailbox(to)?;
                let source = self.mailbox(from)?;
                if *exactly && source.there(among).len() < among.len() {
                    return None;
                }
                uids = self.carry(from, among, to, false)?;
            }
            Op::Create(address, name) => {
                let account = self.account(address)?;
                if account.boxes.contains_key(name) {
                    return None;
                }
                account.parents(name);
                account.create(name, false);
            }
            Op::Rename(address, from, to) => self.rename(address, from, to)?,
            Op::Subscribe(address, name, on) => {
                let account = self.account(address)?;
                match account.boxes.get_mut(name) {
                    Some(mailbox) => mailbox.subscribed = *on,
                    None if *on => {
                        account.missing.insert(name.clone());
                    }
                    None => {
                        account.missing.remove(name);
                    }
                }
            }
            Op::DeviceAdd(address, name) => {
                let account = self.account(address)?;
                account.devices.insert(account.next_device, name.clone());
                account.next_device += 1;
            }
            Op::DeviceRemove(address, device) => {
                let account = self.account(address)?;
                account.devices.remove(device)?;
                account.outbox.retain(|(of, _), _| of != device);
            }
            Op::Owe(address, device, slot, owed) => {
                let account = self.account(address)?;
                if account.devices.contains_key(device) {
                    account.outbox.insert((*device, slot.clone()), owed.clone());
                }
                self.settings
                    .insert(slot.clone(), owed.iter().map(|uid| *uid as u8).collect());
            }
            Op::Paid(address, device, slot) => {
                self.account(address)?
                    .outbox
                    .remove(&(*device, slot.clone()));
            }
            Op::Cursor(at) => {
                self.cursor = Some(*at);
                self.changes.clear();
            }
            Op::Checkpoint | Op::Image | Op::Compact | Op::Reopen => {}
            Op::Flags { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Delete(..) => {
                return None;
            }
        }
        Some(uids)
    }
}
