//! A store as its users see it, in the model's words; and what only the store itself can see:
//! that it counts its bodies right, and keeps no file that nobody has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::error::StoreError;
use super::super::handle::Store;
use super::super::keys::{self, BlobRecord};
use super::super::log;
use super::super::model::{MessageRecord, WakeSlot, Worker};
use super::super::ring;
use super::super::snapshot::Snapshot;
use super::model::{Account, Change, Mailbox, Message, State};
use crate::types::{AccountId, Flags, LogPos, MailboxKey, ModSeq, SystemFlags, UidSet};

fn flags(flags: Flags, keywords: &[String]) -> BTreeSet<String> {
    let system = SystemFlags::ALL.iter();
    let system = system.filter(|(flag, _)| flags.system.contains(*flag));
    let named = keywords.iter().enumerate();
    let named = named.filter(|(bit, _)| flags.keywords & (1 << bit) != 0);
    let system = system.map(|(_, name)| (*name).to_owned());
    system.chain(named.map(|(_, name)| name.clone())).collect()
}

fn mailbox(store: &Store, key: MailboxKey, bodies: bool) -> Result<Mailbox, StoreError> {
    let snapshot = store.mailbox(key)?.snapshot();
    let status = store.mailbox_status(key)?;
    let mut records = BTreeMap::new();
    store.scan_messages(key, 1..=u32::MAX, &mut |uid, record| {
        records.insert(uid.0, record).is_none()
    })?;
    let mut seen = Mailbox {
        id: key.mailbox.0,
        validity: snapshot.uid_validity().0,
        next: snapshot.uid_next().0,
        modseq: snapshot.highest_modseq().0,
        ..Mailbox::default()
    };
    let uids: Vec<u32> = snapshot.iter().map(|(_, m)| m.uid.0).collect();
    assert_eq!(uids, records.keys().copied().collect::<Vec<_>>(), "{key:?}");
    history(store, key, &snapshot)?;
    let size: u64 = records.values().map(|record| record.size).sum();
    let unseen = |flags: &Flags| !flags.system.contains(SystemFlags::SEEN);
    let unseen = snapshot.iter().filter(|(_, m)| unseen(&m.flags)).count();
    assert_eq!(
        (
            status.messages as usize,
            status.size,
            status.unseen as usize
        ),
        (uids.len(), size, unseen),
        "{key:?}"
    );
    for (_, message) in snapshot.iter() {
        let record = &records[&message.uid.0];
        let mut body = None;
        if bodies {
            let raw = store.body_range(key, message.uid, record.blob, 0..u64::MAX)?;
            body = Some((raw.len() as u64, crc32fast::hash(&raw)));
        }
        let told = Message {
            body,
            prefix: String::from_utf8_lossy(&record.prefix).into_owned(),
            flags: flags(message.flags, snapshot.keywords()),
            date: record.internal_date.0,
            zone: record.internal_zone,
            modseq: message.modseq.0,
            saved: record.saved.0,
        };
        seen.messages.insert(message.uid.0, told);
    }
    Ok(seen)
}

/// What is told to have gone since the beginning is all that was given and is not there; since
/// later, a part of that.
fn history(store: &Store, key: MailboxKey, snapshot: &Snapshot) -> Result<(), StoreError> {
    let all = UidSet::from_ranges([(1, u32::MAX)]);
    let missing = snapshot.missing(&all);
    let mut before = missing.clone();
    for since in 0..=snapshot.highest_modseq().0 {
        let Some(gone) = store.expunged_since(key, ModSeq(since))? else {
            continue;
        };
        if since == 0 {
            assert_eq!(gone, missing, "{key:?}");
        }
        assert!(gone.iter().all(|uid| before.contains(uid)), "{key:?}");
        before = gone;
    }
    // Where a record of the history was lost, nothing is known: then all that is missing is told.
    let last = store.expunged_since(key, snapshot.highest_modseq())?;
    assert!(last.is_none_or(|gone| gone.is_empty()), "{key:?}");
    Ok(())
}

fn account(store: &Store, id: AccountId, bodies: bool) -> Result<Account, StoreError> {
    let mut seen = Account {
        id: id.0,
        ..Account::default()
    };
    let list = store.mailboxes(id)?;
    seen.missing = list.subscribed_missing.iter().cloned().collect();
    for info in &list.mailboxes {
        let mailbox = Mailbox {
            subscribed: info.subscribed,
            ..mailbox(store, info.key, bodies)?
        };
        assert_eq!(info.uid_validity.0, mailbox.validity);
        seen.boxes.insert(info.name.clone(), mailbox);
    }
    for device in store.devices(id)? {
        seen.devices.insert(device.id.0, device.name);
    }
    Ok(seen)
}

/// What a feed would tell from `cursor` on.
fn changes(store: &Store, cursor: LogPos) -> Result<Vec<Change>, StoreError> {
    let mut found = Vec::new();
    let read = store.shared().reader.read_from(cursor, None, &mut |frame| {
        let group = super::super::ops::Group::decode(&frame.ops).unwrap();
        let changes = ring::changes(&group.ops);
        found.extend(changes.iter().map(|change| match change {
            ring::Change::Arrived { uid, source, .. } => match source {
                ring::Source::Delivery => Change::Delivered(uid.0),
                ring::Source::Append => Change::Appended(uid.0),
                ring::Source::Copy => Change::Copied(uid.0),
            },
            ring::Change::Seen { uid, .. } => Change::Seen(uid.0),
            ring::Change::Expunged { uid, .. } => Change::Expunged(uid.0),
        }));
        true
    });
    let report = read.map_err(|error| StoreError::Index(error.to_string()))?;
    // Groups may be missing: compaction takes those that have nothing for a worker.
    assert_eq!(report.damaged_bytes, 0);
    Ok(found)
}

/// Everything that can be seen. `bodies`: theirs too, which takes time.
pub(super) fn look(store: &Store, bodies: bool) -> Result<State, StoreError> {
    let directory = store.directory();
    let mut seen = State::default();
    let domains = directory.domains().map(|d| d.domain.to_string());
    seen.domains.extend(domains);
    for found in directory.accounts() {
        let account = Account {
            hash: found.password_hash.clone(),
            disabled: found.disabled,
            ..account(store, found.id, bodies)?
        };
        seen.accounts.insert(found.address.to_string(), account);
    }
    for alias in directory.aliases() {
        let targets = alias.targets.iter().map(ToString::to_string).collect();
        seen.aliases.insert(alias.address.to_string(), targets);
    }
    for entry in store.outbox()? {
        let slot = match entry.key.slot {
            WakeSlot::Mail(mailbox) => format!("m{}", mailbox.0),
            other => format!("{other:?}"),
        };
        let uids = entry.uids.iter().map(|uid| uid.0).collect();
        let mut accounts = seen.accounts.values_mut();
        let owner = accounts.find(|a| a.id == entry.key.account.0);
        let owner = owner.expect("an outbox of an account that is not there");
        owner.outbox.insert((entry.key.device.0, slot), uids);
    }
    store.shared().scan(b"t", &mut |key, value| {
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        seen.settings.insert(name, keys::decode(value)?);
        Ok(())
    })?;
    // Compaction's own.
    seen.settings.remove("store.sealed");
    seen.cursor = store.cursor(Worker::Push)?;
    if let Some(cursor) = seen.cursor {
        seen.changes = changes(store, cursor)?;
    }
    count_bodies(store)?;
    Ok(seen)
}

/// Each body is counted as often as messages have it, and is there as long as one has.
fn count_bodies(store: &Store) -> Result<(), StoreError> {
    let mut counts: HashMap<_, u32> = HashMap::new();
    store.shared().scan(b"m", &mut |_, value| {
        let record: MessageRecord = keys::decode(value)?;
        *counts.entry(record.blob).or_default() += 1;
        Ok(())
    })?;
    let mut found = HashMap::new();
    store.shared().scan(b"b", &mut |key, value| {
        let record: BlobRecord = keys::decode(value)?;
        found.insert(
            crate::types::BlobId(*key[1..].first_chunk().unwrap()),
            record.references,
        );
        Ok(())
    })?;
    // Where one is missing, the index has lost it and is about to be built anew.
    for (blob, count) in &counts {
        if !found.contains_key(blob) {
            return Err(StoreError::Index(format!("{count} messages want {blob}")));
        }
    }
    assert_eq!(found, counts, "references of bodies");
    Ok(())
}

/// After a start from an undamaged log no file of a body is left over.
pub(super) fn no_spare_files(store: &Store) {
    let mut named = BTreeSet::new();
    let scanned = store.shared().scan(b"b", &mut |_, value| {
        let record: BlobRecord = keys::decode(value)?;
        named.extend(log::has_own_file(&record.place).then_some(record.place.segment));
        Ok(())
    });
    scanned.unwrap();
    let files = store.shared().blobs.own_files().unwrap();
    let files: BTreeSet<u64> = files.iter().map(|(_, place)| place.segment).collect();
    assert_eq!(files, named, "files of bodies");
}
