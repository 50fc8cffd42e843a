//! Puts mailboxes of a fresh index in order that do not add up: where groups of the log are
//! missing there may be nothing better to build them from. What can be shown is shown.
//!
//! May import: types.

use std::collections::{BTreeMap, HashMap};

use super::carry::{mailboxes, sum_up, text};
use super::chunk::Chunk;
use super::engine::Batch;
use super::error::StoreError;
use super::keys::{self, MailboxRecord, NameRecord};
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::types::{Flags, MailboxKey, ModSeq, Uid, UidValidity};

/// Looks at every mailbox; gives how many had to be put in order.
pub(super) fn mend(shared: &Shared) -> Result<u64, StoreError> {
    let Some(at) = shared.index.load().applied().map_err(text)? else {
        return Ok(0);
    };
    let mut mended = 0;
    for key in mailboxes(shared) {
        match shared.read(key) {
            Ok(Some(_)) | Err(StoreError::NoMailbox) => continue,
            Ok(None) | Err(_) => {}
        }
        shared.telemetry.store.mended(key);
        let batch = in_order(shared, key)?;
        shared.index.load().apply(batch, at).map_err(text)?;
        mended += 1;
    }
    if mended > 0 {
        sum_up(shared, Batch::new(), at)?;
        shared.forget();
    }
    Ok(mended)
}

/// The mailbox again, from its messages' records, with the flags that its chunks have.
fn in_order(shared: &Shared, mailbox: MailboxKey) -> Result<Batch, StoreError> {
    let index = shared.index.load();
    let raw = |key: &[u8]| index.get(key).map_err(text);
    let record = raw(&keys::mailbox(b'M', mailbox))?;
    let record = record.and_then(|raw| keys::decode::<MailboxRecord>(&raw).ok());
    let name = raw(&keys::mailbox(b'N', mailbox))?;
    let name = name.and_then(|raw| keys::decode::<NameRecord>(&raw).ok());
    let validity = name.map(|name| name.uid_validity);
    let validity = validity.or(record.map(|r| r.uid_validity));
    let mut snapshot = Snapshot::empty(validity.unwrap_or(UidValidity(1)));
    if let Some(record) = record {
        snapshot.raise(record.uid_next, record.highest_modseq);
    }
    let mut batch = Batch::new();

    let mut names = BTreeMap::new();
    scan(shared, b'K', mailbox, &mut |key, value| {
        let joined = keys::join(key, value.to_vec(), &raw);
        let name = joined.and_then(|raw| keys::decode::<String>(&raw)).ok();
        let bit = u8::try_from(keys::tail(key)).ok().filter(|bit| *bit < 64);
        names.extend(bit.zip(name));
    })?;
    for (bit, name) in names {
        for (bit, name) in snapshot.name_lost(bit) {
            let key = keys::in_mailbox(b'K', mailbox, u32::from(bit));
            batch.push((key, Some(keys::encode(&name)?)));
        }
        snapshot.add_keyword(bit, name);
    }

    let mut states: HashMap<Uid, (Flags, ModSeq)> = HashMap::new();
    scan(shared, b'f', mailbox, &mut |key, value| {
        let chunk = keys::decode::<Chunk>(value).ok().filter(Chunk::is_sound);
        let base = keys::tail(key);
        let messages = chunk.iter().flat_map(|chunk| chunk.iter(base));
        states.extend(messages.map(|m| (m.uid, (m.flags, m.modseq))));
        batch.push((key.to_vec(), None));
    })?;
    let mut bases = Vec::new();
    scan(shared, b'm', mailbox, &mut |key, value| {
        let uid = Uid(keys::tail(key));
        match keys::record_size(value) {
            Some(size) => {
                let (flags, modseq) = states.get(&uid).copied().unwrap_or_default();
                let (flags, modseq) = (snapshot.named(flags), modseq.max(ModSeq(1)));
                let base = snapshot.add(uid, flags, modseq, size);
                if bases.last() != Some(&base) {
                    bases.push(base);
                }
            }
            None => batch.push((key.to_vec(), None)),
        }
    })?;
    for base in bases {
        let chunk = snapshot.chunk(base).map(keys::encode).transpose()?;
        batch.push((keys::in_mailbox(b'f', mailbox, base), chunk));
    }
    let record = keys::encode(&snapshot.record)?;
    batch.push((keys::mailbox(b'M', mailbox), Some(record)));
    Ok(batch)
}

fn scan(
    shared: &Shared,
    kind: u8,
    mailbox: MailboxKey,
    each: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let index = shared.index.load();
    let scanned = index.scan(&keys::mailbox(kind, mailbox), None, &mut |key, value| {
        each(key, value);
        true
    });
    scanned.map_err(text)
}
