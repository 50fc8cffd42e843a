//! From an old index into one that was built from a log with missing groups: what only the old
//! one still knows. So damage of the log takes nothing away that was to be seen.
//!
//! May import: types.
//!
//! | what the old index has | if it adds up | if it does not |
//! |---|---|---|
//! | a mailbox | taken as it is | its messages are added to those that the log has |
//! | small records | taken as they are | added; where both have one, the old one's is newer |
//!
//! Both stand at the same place of the log meanwhile. Bodies stay where they lie in the log.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::check;
use super::chunk::Chunk;
use super::engine::{Applied, Batch, Index};
use super::error::StoreError;
use super::keys::{self, BlobRecord};
use super::log::BlobPlace;
use super::model::MessageRecord;
use super::shared::Shared;
use crate::types::{AccountId, BlobId, MailboxId, MailboxKey};

/// Kinds that are not of one mailbox. `g` and `U` are marks, which a newer state only raises.
const SMALL: &[u8] = b"ADLNSUcgopqrt";
/// Kinds of one mailbox, its name aside.
const MAILBOX: &[u8] = b"MKfmve";
/// Records of one batch.
const BATCH: usize = 512;

/// A place where nothing lies: the message is shown as damaged.
const NOWHERE: BlobPlace = BlobPlace {
    segment: 0,
    offset: 0,
    stored_len: 0,
    raw_len: 0,
};

struct Carry<'a> {
    old: &'a Shared,
    fresh: &'a Shared,
    at: Applied,
    batch: Batch,
    references: HashMap<BlobId, i64>,
}

/// Takes over what `old` knows, which stands at `at`, as `fresh` does afterwards. True where
/// the small records of the old one add up: nobody's account is missing.
pub(super) fn carry(old: &Shared, fresh: &Shared, at: Applied) -> Result<bool, StoreError> {
    let mut carry = Carry {
        old,
        fresh,
        at: fresh.index.load().applied().map_err(text)?.unwrap_or(at),
        batch: Batch::new(),
        references: HashMap::new(),
    };
    let whole = check::verify(&***old.index.load()).is_ok();
    let mailboxes = mailboxes(old);
    if whole {
        // Deleted by a group that is lost.
        for key in self::mailboxes(fresh).difference(&mailboxes) {
            carry.mailbox(*key, true)?;
        }
    }
    for key in &mailboxes {
        let sound = matches!(old.read(*key), Ok(Some(_)));
        carry.mailbox(*key, sound)?;
        if !sound {
            carry.chunks(*key)?;
        }
    }
    for kind in SMALL {
        carry.copy(&[*kind], whole)?;
        carry.copy(&[keys::PART, *kind], whole)?;
    }
    carry.bodies()?;
    carry.at = at;
    sum_up(fresh, carry.batch, at)?;
    fresh.forget();
    Ok(whole)
}

/// Applies a last batch and what everything then adds up to.
pub(super) fn sum_up(shared: &Shared, batch: Batch, at: Applied) -> Result<(), StoreError> {
    let index = shared.index.load();
    index.apply(batch, at).map_err(text)?;
    let sums = check::count(&***index)?;
    let sums = vec![(check::KEY.to_vec(), Some(keys::encode(&sums)?))];
    index.apply(sums, at).map_err(text)
}

pub(super) fn text(error: super::engine::IndexError) -> StoreError {
    StoreError::Index(error.to_string())
}

/// All that have a name or a state; of an index that fails as many as can be read.
pub(super) fn mailboxes(shared: &Shared) -> BTreeSet<MailboxKey> {
    let mut found = BTreeSet::new();
    for kind in *b"NM" {
        let scanned = shared.index.load().scan(&[kind], None, &mut |key, _| {
            let account = key.get(1..).and_then(|rest| rest.first_chunk());
            found.extend(account.map(|raw| MailboxKey {
                account: AccountId(u32::from_be_bytes(*raw)),
                mailbox: MailboxId(keys::tail(key)),
            }));
            true
        });
        if let Err(error) = scanned {
            tracing::warn!(%error, "not all mailboxes of the old index could be read");
        }
    }
    found
}

impl Carry<'_> {
    fn index(&self) -> Arc<dyn Index> {
        (**self.fresh.index.load()).clone()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        self.index().apply(batch, self.at).map_err(text)
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let index = self.index();
        let there = index.get(key).map_err(text)?;
        if there.as_deref() == value {
            return Ok(());
        }
        if key.first() == Some(&b'm') {
            for (value, by) in [(there.as_deref(), -1), (value, 1)] {
                let record = value.map(keys::decode::<MessageRecord>);
                if let Some(Ok(record)) = record {
                    *self.references.entry(record.blob).or_default() += by;
                }
            }
        }
        // Pieces of a longer value that was there.
        for part in 0..there.as_deref().and_then(keys::split_parts).unwrap_or(0) {
            let part = keys::part(key, part);
            let kept = self.old.index.load().get(&part);
            if !matches!(kept, Ok(Some(_))) {
                self.batch.push((part, None));
            }
        }
        self.batch.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        if self.batch.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// All under a prefix; with `exactly`, what only the fresh index has goes.
    fn copy(&mut self, prefix: &[u8], exactly: bool) -> Result<(), StoreError> {
        let old = (**self.old.index.load()).clone();
        let mut done = Ok(());
        let scanned = old.scan(prefix, None, &mut |key, value| {
            done = self.set(key, Some(value));
            done.is_ok()
        });
        done?;
        if let Err(error) = scanned {
            tracing::warn!(%error, "not everything of the old index could be read");
            return Ok(());
        }
        if !exactly {
            return Ok(());
        }
        let mut gone = Vec::new();
        let scanned = self.index().scan(prefix, None, &mut |key, _| {
            if matches!(old.get(key), Ok(None)) {
                gone.push(key.to_vec());
            }
            true
        });
        scanned.map_err(text)?;
        gone.iter().try_for_each(|key| self.set(key, None))
    }

    fn mailbox(&mut self, key: MailboxKey, exactly: bool) -> Result<(), StoreError> {
        for kind in MAILBOX {
            // Of one that does not add up, chunks are put together message by message, and its
            // state is found again from what there is.
            if exactly || *kind != b'f' {
                self.copy(&keys::mailbox(*kind, key), exactly)?;
            }
        }
        let mut parts = vec![keys::PART];
        parts.extend(keys::mailbox(b'K', key));
        self.copy(&parts, exactly)
    }

    /// Flags of messages that only the old index has.
    fn chunks(&mut self, mailbox: MailboxKey) -> Result<(), StoreError> {
        self.flush()?;
        let (old, index) = ((**self.old.index.load()).clone(), self.index());
        let mut merged = Vec::new();
        let scanned = old.scan(&keys::mailbox(b'f', mailbox), None, &mut |key, value| {
            let Ok(chunk) = keys::decode::<Chunk>(value) else {
                return true;
            };
            let there = index.get(key).ok().flatten();
            let there = there.and_then(|raw| keys::decode::<Chunk>(&raw).ok());
            let mut sum = there.filter(Chunk::is_sound).unwrap_or_default();
            if chunk.is_sound() {
                let base = keys::tail(key);
                for message in chunk.iter(base) {
                    // What the old index has of it is not older.
                    sum.put(message.uid.0 % 64, message.flags, message.modseq);
                }
            }
            merged.push((key.to_vec(), sum));
            true
        });
        if let Err(error) = scanned {
            tracing::warn!(%error, "not all flags of the old index could be read");
        }
        for (key, chunk) in merged {
            self.set(&key, Some(&keys::encode(&chunk)?))?;
        }
        Ok(())
    }

    /// Places and references of bodies, as the messages now are.
    fn bodies(&mut self) -> Result<(), StoreError> {
        for (blob, by) in std::mem::take(&mut self.references) {
            let key = keys::blob(blob);
            let record =
                |raw: Option<Vec<u8>>| raw.and_then(|raw| keys::decode::<BlobRecord>(&raw).ok());
            let old = record(self.old.index.load().get(&key).ok().flatten());
            let fresh = record(self.index().get(&key).map_err(text)?);
            let count = i64::from(fresh.map_or(0, |b| b.references)) + by;
            match u32::try_from(count) {
                Ok(0) | Err(_) => self.set(&key, None)?,
                Ok(references) => {
                    let place = old.or(fresh).map_or(NOWHERE, |b| b.place);
                    let value = keys::encode(&BlobRecord { place, references })?;
                    self.set(&key, Some(&value))?;
                }
            }
        }
        Ok(())
    }
}
