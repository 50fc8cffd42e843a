//! What each fact does to the working copies. Live commits and replay both come through here.
//!
//! May import: types.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::directory::Directory;
use super::error::StoreError;
use super::keys::{self, AccountMarks, BlobRecord, NameRecord};
use super::model::{MailboxInfo, MailboxList, MessageRecord};
use super::ops::{Entry, Op};
use super::packed::Kept;
use super::quota::Usage;
use super::records::{self, Kind};
use super::snapshot::Snapshot;
use super::state::{Tx, Work};
use crate::types::{AccountId, Flags, MailboxKey, ModSeq, Uid, UidSet, UnixMillis};

/// Messages of a copy whose records are in memory at a time, beside those of the group.
const COPIED: usize = 1024;

impl Tx {
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Arrive {
                large,
                record,
                entries,
                ..
            } => {
                if let Some(place) = large {
                    self.refs.entry(record.blob).or_default().place = Some(*place);
                }
                let mut missing = Ok(());
                for entry in entries {
                    match self.arrive(record, entry) {
                        // Its mailbox was lost: that is no loss of the others.
                        Err(StoreError::NoMailbox) => {
                            missing = Err(StoreError::NoMailbox);
                            self.know(entry.mailbox.account)?;
                        }
                        done => done?,
                    }
                }
                missing
            }
            Op::SetFlags {
                mailbox,
                modseq,
                changes,
            } => self.set_flags(*mailbox, *modseq, changes),
            Op::Expunge {
                mailbox,
                modseq,
                uids,
            } => self.expunge(*mailbox, *modseq, uids),
            Op::Copy {
                from,
                to,
                modseq,
                saved,
                entries,
            } => self.copy(*from, *to, *modseq, *saved, entries),
            Op::Keyword { mailbox, bit, name } => {
                let work = self.mailbox(*mailbox)?;
                // Those before it were named by groups that are lost.
                let lost = work.snapshot.name_lost(*bit);
                let renamed = work.snapshot.add_keyword(*bit, name.clone());
                work.dirty.extend(renamed);
                work.changed = true;
                for (bit, name) in lost {
                    self.put(keys::in_mailbox(b'K', *mailbox, u32::from(bit)), &name)?;
                }
                self.put(keys::in_mailbox(b'K', *mailbox, u32::from(*bit)), name)
            }
            Op::MailboxCreate {
                mailbox,
                name,
                uid_validity,
                special_use,
                subscribed,
            } => {
                let info = MailboxInfo {
                    key: *mailbox,
                    name: name.clone(),
                    uid_validity: *uid_validity,
                    special_use: *special_use,
                    subscribed: *subscribed,
                };
                self.create(info)
            }
            Op::MailboxRename { mailbox, name } => self.rename(*mailbox, name),
            Op::MailboxDelete { mailbox } => self.delete(*mailbox),
            Op::MailboxUse {
                mailbox,
                special_use,
            } => {
                let noted = super::annotations::special_use(*mailbox);
                self.noted.push((Some(mailbox.account), noted));
                self.change_info(*mailbox, |info| info.special_use = *special_use)
            }
            Op::Subscribe { account, name, on } => self.subscribe(*account, name, *on),
            Op::AccountPut(account) => {
                let mut marks = self.global_marks()?;
                marks.next_account = marks.next_account.max(account.id.0.saturating_add(1));
                self.put(b"g".to_vec(), &marks)?;
                Arc::make_mut(&mut self.directory).put_account(account.clone());
                self.gone.remove(&account.id);
                self.put(keys::account(b'A', account.id), account)
            }
            Op::AccountRemove(id) => self.remove_account(*id),
            Op::AliasPut(alias) => {
                Arc::make_mut(&mut self.directory).put_alias(alias.clone());
                self.put(
                    keys::named(b'L', alias.address.lookup_key().as_bytes()),
                    alias,
                )
            }
            Op::AliasRemove(address) => {
                Arc::make_mut(&mut self.directory)
                    .aliases
                    .remove(&address.lookup_key());
                self.remove(keys::named(b'L', address.lookup_key().as_bytes()))
            }
            Op::DomainPut(domain) => {
                let directory = Arc::make_mut(&mut self.directory);
                directory
                    .domains
                    .insert(domain.domain.clone(), domain.clone());
                self.put(keys::named(b'D', domain.domain.as_str().as_bytes()), domain)
            }
            Op::DomainRemove(domain) => {
                Arc::make_mut(&mut self.directory).domains.remove(domain);
                self.remove(keys::named(b'D', domain.as_str().as_bytes()))
            }
            Op::DevicePut(device) => {
                self.known(device.account)?;
                let mut marks = self.account_marks(device.account)?;
                marks.next_device = marks.next_device.max(device.id.0.saturating_add(1));
                self.put(keys::account(b'U', device.account), &marks)?;
                self.touched.insert(device.account);
                self.put(keys::device(device.account, device.id), device)
            }
            Op::DeviceRemove(account, device) => {
                self.remove(keys::device(*account, *device))?;
                self.touched.insert(*account);
                self.remove_all(&keys::outbox_of(*account, *device))
            }
            Op::OutboxPut(entry) => self.put(keys::outbox(&entry.key)?, entry),
            Op::OutboxRemove(key) => self.remove(keys::outbox(key)?),
            Op::Cursor(worker, at) => self.put(keys::named(b'c', &[*worker as u8]), at),
            Op::SettingPut(name, value) => self.put(keys::named(b't', name.as_bytes()), value),
            Op::QueuePut { id, due, value } => self.put(queue_key(*id, *due), value),
            Op::QueueRemove { id, due } => self.remove(queue_key(*id, *due)),
            Op::BlobMoved { blob, from, to } => {
                let key = keys::blob(*blob);
                match self.get::<BlobRecord>(&key)? {
                    Some(record) if record.place == *from => self.put(
                        key,
                        &BlobRecord {
                            place: *to,
                            ..record
                        },
                    ),
                    _ => Ok(()),
                }
            }
            Op::BlobKept { blob, from } => {
                self.kept.push((*blob, *from));
                Ok(())
            }
            Op::RecordPut { kind, key, value } => {
                self.note_record(*kind, key, Some(value));
                self.put(records::key(*kind, key), value)
            }
            Op::RecordRemove { kind, key } => {
                self.note_record(*kind, key, None);
                self.remove(records::key(*kind, key))
            }
            Op::GlobalFloor {
                next_account,
                uid_validity,
            } => {
                let mut marks = self.global_marks()?;
                marks.next_account = marks.next_account.max(*next_account);
                marks.uid_validity = marks.uid_validity.max(*uid_validity);
                self.put(b"g".to_vec(), &marks)
            }
            Op::AccountFloor {
                account,
                next_mailbox,
                next_device,
            } => {
                let mut marks = self.account_marks(*account)?;
                marks.next_mailbox = marks.next_mailbox.max(*next_mailbox);
                marks.next_device = marks.next_device.max(*next_device);
                self.put(keys::account(b'U', *account), &marks)
            }
            Op::MailboxFloor {
                mailbox,
                uid_next,
                highest_modseq,
            } => {
                let work = self.mailbox(*mailbox)?;
                work.snapshot.raise(*uid_next, *highest_modseq);
                work.changed = true;
                Ok(())
            }
            Op::MailboxValidity {
                mailbox,
                uid_validity,
            } => {
                let work = self.mailbox(*mailbox)?;
                work.snapshot.record.uid_validity = *uid_validity;
                work.changed = true;
                let mut marks = self.global_marks()?;
                marks.uid_validity = marks.uid_validity.max(uid_validity.0);
                self.put(b"g".to_vec(), &marks)?;
                self.change_info(*mailbox, |info| info.uid_validity = *uid_validity)
            }
        }
    }

    fn moves(&mut self, account: AccountId, before: Usage, after: Usage) {
        self.moved.entry(account).or_default().add(before, after);
    }

    /// Those that everybody asks for are in memory too.
    fn note_record(&mut self, kind: u16, key: &[u8], value: Option<&[u8]>) {
        self.noted.extend(super::annotations::of_record(kind, key));
        if Directory::keeps(kind) {
            let key = records::key(kind, key);
            let shared = records::mailbox(Kind::Rights, &key);
            if let Some(mailbox) = shared {
                self.touch_those_named(mailbox);
            }
            let quota = Arc::make_mut(&mut self.directory).put_record(&key, value);
            self.requoted.extend(quota);
            if let Some(mailbox) = shared {
                self.touch_those_named(mailbox);
            }
        }
    }

    /// What belongs to nobody must not come to whoever gets the number next.
    fn known(&mut self, account: AccountId) -> Result<(), StoreError> {
        match self.directory.account(account) {
            Some(_) => Ok(()),
            None => self.know(account).and(Err(StoreError::NoAccount)),
        }
    }

    /// The number was given, though the group that gave it may be lost.
    fn know(&mut self, account: AccountId) -> Result<(), StoreError> {
        let mut marks = self.global_marks()?;
        if marks.next_account <= account.0 {
            marks.next_account = account.0.saturating_add(1);
            self.put(b"g".to_vec(), &marks)?;
        }
        Ok(())
    }

    pub(super) fn account_marks(&self, account: AccountId) -> Result<AccountMarks, StoreError> {
        Ok(self
            .get(&keys::account(b'U', account))?
            .unwrap_or(AccountMarks {
                next_mailbox: 1,
                next_device: 1,
            }))
    }

    fn arrive(&mut self, shared: &MessageRecord, entry: &Entry) -> Result<(), StoreError> {
        let record = MessageRecord {
            prefix: entry.prefix.clone(),
            size: shared.size + entry.prefix.len() as u64,
            ..shared.clone()
        };
        self.insert(entry.mailbox, entry.uid, entry.flags, entry.modseq, record)
    }

    fn insert(
        &mut self,
        mailbox: MailboxKey,
        uid: Uid,
        flags: Flags,
        modseq: ModSeq,
        mut record: MessageRecord,
    ) -> Result<(), StoreError> {
        self.effort += 1;
        let work = self.mailbox(mailbox)?;
        let flags = work.snapshot.named(flags);
        let before = Usage::of(&work.snapshot.record);
        let base = work.snapshot.add(uid, flags, modseq, record.size);
        work.dirty.insert(base);
        work.changed = true;
        let after = Usage::of(&work.snapshot.record);
        self.moves(mailbox.account, before, after);
        self.refer(record.blob, 1);
        let mut value = keys::encode(&record)?;
        if value.len() > keys::MAX_VALUE {
            record.summary = Kept::Nothing;
            value = keys::encode(&record)?;
        }
        self.overlay
            .insert(keys::message(mailbox, uid), Some(value));
        Ok(())
    }

    fn set_flags(
        &mut self,
        mailbox: MailboxKey,
        modseq: ModSeq,
        changes: &[(Uid, Flags)],
    ) -> Result<(), StoreError> {
        self.effort += changes.len();
        let work = self.mailbox(mailbox)?;
        for (uid, flags) in changes {
            let flags = work.snapshot.named(*flags);
            if let Some(base) = work.snapshot.set(*uid, flags, modseq) {
                work.dirty.insert(base);
            }
        }
        work.changed = true;
        Ok(())
    }

    fn expunge(
        &mut self,
        mailbox: MailboxKey,
        modseq: ModSeq,
        uids: &UidSet,
    ) -> Result<(), StoreError> {
        let present: Vec<Uid> = {
            let snapshot = &self.mailbox(mailbox)?.snapshot;
            uids.ranges()
                .flat_map(|r| snapshot.range(r).map(|(_, m)| m.uid))
                .collect()
        };
        self.effort += present.len();
        let mut gone = Vec::with_capacity(present.len());
        let mut starts = Vec::with_capacity(present.len());
        self.each_message(mailbox, &present, &mut |uid, value| {
            let (size, blob) = keys::record_start(value)
                .ok_or_else(|| StoreError::Index("a record makes no sense".into()))?;
            starts.push((uid, size, blob));
            Ok(())
        })?;
        starts.sort_unstable_by_key(|(uid, ..)| *uid);
        let mut starts = starts.into_iter().peekable();
        for uid in present {
            let size = match starts.next_if(|(found, ..)| *found == uid) {
                Some((_, size, blob)) => {
                    self.refer(blob, -1);
                    size
                }
                None => 0,
            };
            self.overlay.insert(keys::message(mailbox, uid), None);
            gone.push((uid, size));
        }
        let work = self.mailbox(mailbox)?;
        let before = work.snapshot.record;
        let bases = work.snapshot.remove(&gone, modseq);
        work.dirty.extend(bases);
        work.changed = true;
        let after = Usage::of(&work.snapshot.record);
        self.moves(mailbox.account, Usage::of(&before), after);
        self.note_expunged(mailbox, modseq, uids, &before)
    }

    fn copy(
        &mut self,
        from: MailboxKey,
        to: MailboxKey,
        modseq: ModSeq,
        saved: UnixMillis,
        entries: &[(Uid, Uid, Flags)],
    ) -> Result<(), StoreError> {
        // A slice at a time, so that not all records are in memory twice.
        for entries in entries.chunks(COPIED) {
            let sources: Vec<Uid> = entries.iter().map(|(source, ..)| *source).collect();
            let mut records = HashMap::with_capacity(sources.len());
            self.each_message(from, &sources, &mut |uid, value| {
                records.insert(uid, keys::decode::<MessageRecord>(value)?);
                Ok(())
            })?;
            for (source, target, flags) in entries {
                // The source is gone only where the log was damaged.
                if let Some(record) = records.remove(source) {
                    let record = MessageRecord { saved, ..record };
                    self.insert(to, *target, *flags, modseq, record)?;
                }
            }
        }
        Ok(())
    }

    fn change_list(
        &mut self,
        account: AccountId,
        change: impl FnOnce(&mut MailboxList),
    ) -> Result<(), StoreError> {
        let mut list = self.list_as_it_is(account)?;
        // Ours alone where the group has changed it before: then it is not copied.
        self.lists.remove(&account);
        change(Arc::make_mut(&mut list));
        self.lists.insert(account, list);
        self.touched.insert(account);
        Ok(())
    }

    fn put_name(&mut self, info: &MailboxInfo) -> Result<(), StoreError> {
        let record = NameRecord {
            name: info.name.clone(),
            uid_validity: info.uid_validity,
            special_use: info.special_use,
        };
        self.put(keys::mailbox(b'N', info.key), &record)
    }

    fn create(&mut self, mut info: MailboxInfo) -> Result<(), StoreError> {
        let (key, account) = (info.key, info.key.account);
        self.known(account)?;
        let mut marks = self.account_marks(account)?;
        marks.next_mailbox = marks.next_mailbox.max(key.mailbox.0.saturating_add(1));
        self.put(keys::account(b'U', account), &marks)?;
        let mut marks = self.global_marks()?;
        marks.uid_validity = marks.uid_validity.max(info.uid_validity.0);
        self.put(b"g".to_vec(), &marks)?;
        self.put_name(&info)?;
        if info.subscribed {
            self.put(keys::subscription(account, &info.name), &())?;
        }
        let snapshot = Snapshot::empty(info.uid_validity);
        let work = Work {
            snapshot,
            dirty: BTreeSet::new(),
            changed: true,
            before: None,
        };
        self.mailboxes.insert(key, work);
        self.change_list(account, |list| {
            // Who subscribed to the name before there was a mailbox is subscribed to it now.
            info.subscribed |= list.subscribed_missing.contains(&info.name);
            list.subscribed_missing.retain(|name| *name != info.name);
            list.mailboxes.push(info);
        })?;
        self.unsorted.insert(account);
        Ok(())
    }

    fn change_info(
        &mut self,
        mailbox: MailboxKey,
        change: impl FnOnce(&mut MailboxInfo),
    ) -> Result<(), StoreError> {
        let mut changed = None;
        self.change_list(mailbox.account, |list| {
            if let Some(info) = list.mailboxes.iter_mut().find(|m| m.key == mailbox) {
                change(info);
                changed = Some(info.clone());
            }
        })?;
        self.unsorted.insert(mailbox.account);
        self.put_name(&changed.ok_or(StoreError::NoMailbox)?)
    }

    /// Subscriptions are to names (RFC 9051, 6.3.7): the old name stays subscribed, if it was,
    /// only as a name; the new one is subscribed as the mailbox was, which is what people expect.
    fn rename(&mut self, mailbox: MailboxKey, name: &str) -> Result<(), StoreError> {
        let mut renamed = None;
        self.change_list(mailbox.account, |list| {
            if let Some(info) = list.mailboxes.iter_mut().find(|m| m.key == mailbox) {
                let subscribed = info.subscribed;
                info.subscribed |= list.subscribed_missing.iter().any(|n| n == name);
                list.subscribed_missing.retain(|n| n != name);
                let old = std::mem::replace(&mut info.name, name.to_owned());
                renamed = Some((info.clone(), subscribed.then_some(old)));
            }
        })?;
        self.unsorted.insert(mailbox.account);
        let (info, subscribed_as) = renamed.ok_or(StoreError::NoMailbox)?;
        if let Some(old) = subscribed_as {
            self.remove(keys::subscription(mailbox.account, &old))?;
            self.put(keys::subscription(mailbox.account, name), &())?;
        }
        self.put_name(&info)
    }

    fn drop_messages(&mut self, mailbox: MailboxKey) -> Result<(), StoreError> {
        let mut blobs = HashMap::new();
        self.scan(&keys::mailbox(b'm', mailbox), &mut |_, value| {
            let record: MessageRecord = keys::decode(value)?;
            *blobs.entry(record.blob).or_insert(0) -= 1;
            Ok(())
        })?;
        for (blob, by) in blobs {
            self.refer(blob, by);
        }
        let record = match self.mailboxes.get(&mailbox) {
            Some(work) => Some(work.snapshot.record),
            None => self.get(&keys::mailbox(b'M', mailbox))?,
        };
        let before = record.as_ref().map_or_else(Usage::default, Usage::of);
        self.moves(mailbox.account, before, Usage::default());
        for kind in *b"MNKfmve" {
            self.remove_all(&keys::mailbox(kind, mailbox))?;
        }
        for kind in records::OF_MAILBOXES {
            self.remove_all(&records::of_mailbox(kind, mailbox))?;
        }
        self.forget_acl(mailbox);
        self.mailboxes.remove(&mailbox);
        self.deleted.insert(mailbox);
        Ok(())
    }

    /// The subscription stays (RFC 9051, 6.3.9).
    fn delete(&mut self, mailbox: MailboxKey) -> Result<(), StoreError> {
        self.drop_messages(mailbox)?;
        self.change_list(mailbox.account, |list| {
            if let Some(at) = list.mailboxes.iter().position(|m| m.key == mailbox) {
                let info = list.mailboxes.remove(at);
                if info.subscribed {
                    list.subscribed_missing.push(info.name);
                    list.subscribed_missing.sort();
                }
            }
        })
    }

    fn subscribe(&mut self, account: AccountId, name: &str, on: bool) -> Result<(), StoreError> {
        self.known(account)?;
        let key = keys::subscription(account, name);
        if on {
            self.put(key, &())?;
        } else {
            self.remove(key)?;
        }
        self.change_list(account, |list| {
            match list.mailboxes.iter_mut().find(|m| m.name == name) {
                Some(info) => info.subscribed = on,
                None => {
                    list.subscribed_missing.retain(|n| n != name);
                    if on {
                        list.subscribed_missing.push(name.to_owned());
                        list.subscribed_missing.sort();
                    }
                }
            }
        })
    }

    fn remove_account(&mut self, id: AccountId) -> Result<(), StoreError> {
        let list = self.list(id)?;
        for info in &list.mailboxes {
            self.drop_messages(info.key)?;
        }
        for kind in *b"AUSpo" {
            self.remove_all(&keys::account(kind, id))?;
        }
        for kind in records::OF_ACCOUNTS {
            self.remove(records::of_account(kind, id))?;
        }
        for kind in [Kind::UidsKept, Kind::OfAccount, Kind::OfMailbox] {
            self.remove_all(&records::of_account(kind, id))?;
        }
        self.forget_grants(id)?;
        Arc::make_mut(&mut self.directory).remove_account(id);
        self.lists.remove(&id);
        self.gone.insert(id);
        Ok(())
    }
}

fn queue_key(id: u64, due: UnixMillis) -> Vec<u8> {
    let mut key = keys::named(b'q', &due.0.to_be_bytes());
    key.extend_from_slice(&id.to_be_bytes());
    key
}
