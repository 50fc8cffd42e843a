//! What all records of the index add up to, as they pass by in order: the same counts that are
//! held against a mailbox when it is opened and against small records at a start, for all of
//! them at once; and how much of each file of the log is alive.
//!
//! May import: the store's keys and chunks, types. Machine: no IO, no clock, no randomness.
//!
//! Memory: some 150 bytes a mailbox, 16 a segment.

use std::collections::{BTreeMap, HashMap};

use crate::store::check::Sums;
use crate::store::chunk::Chunk;
use crate::store::keys::{self, BlobRecord, MailboxRecord};
use crate::types::{AccountId, BlobId, MailboxId, MailboxKey, SystemFlags};

/// Bodies of one file of the log that messages refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Live {
    pub bodies: u64,
    /// Stored bytes.
    pub bytes: u64,
}

#[derive(Default)]
struct Mailbox {
    record: Option<MailboxRecord>,
    named: bool,
    keywords: u32,
    bits: u64,
    exists: u32,
    unseen: u32,
    deleted: u32,
    uid_sum: u64,
    records: u32,
    record_uid_sum: u64,
    bytes: u64,
    broken: bool,
}

impl Mailbox {
    fn adds_up(&self) -> bool {
        let Some(record) = self.record else {
            return false;
        };
        let same = record.exists == self.exists
            && record.unseen == self.unseen
            && record.deleted == self.deleted
            && record.uid_sum == self.uid_sum
            && record.bytes == self.bytes
            && u32::from(record.keywords) == self.keywords
            && (self.records, self.record_uid_sum) == (self.exists, self.uid_sum);
        let named = 64 - self.bits.leading_zeros() <= self.keywords;
        self.named && same && named && !self.broken
    }
}

/// The sums of an index while it is read.
#[derive(Default)]
pub(in crate::store) struct Tally {
    sums: Sums,
    told: Option<Sums>,
    mailboxes: HashMap<MailboxKey, Mailbox>,
    /// References of bodies: as they are counted, and as messages have them.
    counted: u64,
    referred: u64,
    broken: Option<&'static str>,
    live: BTreeMap<u64, Live>,
    /// Bytes of keys and values.
    pub bytes: u64,
    pub records: u64,
    pub messages: u64,
    pub bodies: u64,
}

fn mailbox_of(key: &[u8]) -> Option<MailboxKey> {
    let account = key.get(1..)?.first_chunk()?;
    let mailbox = key.get(5..)?.first_chunk()?;
    Some(MailboxKey {
        account: AccountId(u32::from_be_bytes(*account)),
        mailbox: MailboxId(u32::from_be_bytes(*mailbox)),
    })
}

/// Ids are random: half of one is as good as a checksum of it.
fn weight(blob: BlobId) -> u64 {
    blob.0
        .first_chunk()
        .map_or(0, |raw| u64::from_be_bytes(*raw))
}

impl Tally {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
        self.sums.change(key, None, Some(value));
        match key.first() {
            Some(b's') => self.told = keys::decode(value).ok(),
            Some(b'b') => self.body(key, value),
            Some(b'M' | b'N' | b'K' | b'f' | b'm') => self.of_mailbox(key, value),
            _ => {}
        }
    }

    fn body(&mut self, key: &[u8], value: &[u8]) {
        let id = key.get(1..).and_then(|id| id.first_chunk());
        let record = keys::decode::<BlobRecord>(value);
        let (Some(id), Ok(record)) = (id, record) else {
            self.broken = Some("the place of a body makes no sense");
            return;
        };
        let times = weight(BlobId(*id)).wrapping_mul(u64::from(record.references));
        self.counted = self.counted.wrapping_add(times);
        self.bodies += 1;
        let live = self.live.entry(record.place.segment).or_default();
        live.bodies += 1;
        live.bytes = live.bytes.saturating_add(record.place.stored_len);
    }

    fn of_mailbox(&mut self, key: &[u8], value: &[u8]) {
        let Some(mailbox) = mailbox_of(key) else {
            self.broken = Some("a key of a mailbox makes no sense");
            return;
        };
        let mailbox = self.mailboxes.entry(mailbox).or_default();
        match key[0] {
            b'M' => match keys::decode(value) {
                Ok(record) => mailbox.record = Some(record),
                Err(_) => mailbox.broken = true,
            },
            b'N' => mailbox.named = true,
            b'K' => {
                mailbox.broken |= keys::tail(key) != mailbox.keywords;
                mailbox.keywords += 1;
            }
            b'f' => match keys::decode::<Chunk>(value) {
                Ok(chunk) if chunk.is_sound() => mailbox.chunk(&chunk, keys::tail(key)),
                _ => mailbox.broken = true,
            },
            _ => match keys::record_start(value) {
                Some((size, blob)) => {
                    mailbox.records += 1;
                    mailbox.record_uid_sum += u64::from(keys::tail(key));
                    mailbox.bytes = mailbox.bytes.wrapping_add(size);
                    self.referred = self.referred.wrapping_add(weight(blob));
                    self.messages += 1;
                }
                None => mailbox.broken = true,
            },
        }
    }

    /// Mailboxes that do not add up, and what else does not. Empty: all is well. With
    /// `lost_groups` bodies may have lost their places without that being the index's fault.
    pub fn complaints(&self, lost_groups: bool) -> Vec<String> {
        let mut found = Vec::new();
        for (key, mailbox) in &self.mailboxes {
            if !mailbox.adds_up() {
                found.push(format!("mailbox {}/{}", key.account, key.mailbox));
            }
        }
        found.sort();
        found.extend(self.broken.map(str::to_owned));
        if self.sums != self.told.unwrap_or_default() {
            found.push("accounts, names or other small records".into());
        }
        if self.counted != self.referred && !lost_groups {
            found.push("places of bodies".into());
        }
        found
    }

    pub fn mailboxes(&self) -> u64 {
        self.mailboxes.len() as u64
    }

    /// By number of the file.
    pub fn live(&self) -> &BTreeMap<u64, Live> {
        &self.live
    }
}

impl Mailbox {
    fn chunk(&mut self, chunk: &Chunk, base: u32) {
        let Some(record) = self.record else {
            self.broken = true;
            return;
        };
        for message in chunk.iter(base) {
            let system = message.flags.system;
            self.exists += 1;
            self.unseen += u32::from(!system.contains(SystemFlags::SEEN));
            self.deleted += u32::from(system.contains(SystemFlags::DELETED));
            self.uid_sum += u64::from(message.uid.0);
            self.bits |= message.flags.keywords;
            self.broken |= message.uid >= record.uid_next || message.modseq > record.highest_modseq;
        }
    }
}

/// True for keys that an image holds: all but the engine's own.
pub(in crate::store) fn concerns(key: &[u8]) -> bool {
    key.first() != Some(&crate::store::engine::NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check;

    #[test]
    fn an_empty_index_adds_up() {
        assert_eq!(Tally::default().complaints(false), Vec::<String>::new());
        let mut tally = Tally::default();
        tally.add(check::KEY, &keys::encode(&Sums::default()).unwrap());
        assert_eq!(tally.complaints(false), Vec::<String>::new());
    }
}
