//! Keys and small records of the index. The first byte is the kind; integers are big-endian, so
//! that they sort; no value is over 4 KiB: what is larger is split.
//!
//! May import: model, types. Machine: no IO, no clock, no randomness.
//!
//! | key | value |
//! |---|---|
//! | `A` account | account |
//! | `L` address | alias |
//! | `D` domain | local domain |
//! | `U` account | marks: next mailbox and device |
//! | `N` account mailbox | name, UIDVALIDITY, special use |
//! | `S` account name | subscribed |
//! | `M` account mailbox | state of the mailbox |
//! | `K` account mailbox bit | keyword |
//! | `f` account mailbox uid/64 | chunk of flags and modseqs |
//! | `m` account mailbox uid | message record |
//! | `v` account mailbox modseq | expunged UIDs: not written any more; they go with their mailbox |
//! | `e` account mailbox, and modseq part | which UIDs went (`history`) |
//! | `b` blob | place and number of references |
//! | `p` account device | device |
//! | `o` account device slot | outbox entry |
//! | `c` worker | cursor |
//! | `t` name | setting |
//! | `q` due id | queue entry |
//! | `r` kind key | record |
//! | `g` | global marks: next account, highest UIDVALIDITY |
//! | `s` | sums by which most of the other kinds are checked |
//! | `x` key part | a piece of the value of `key`, where it is larger than one value may be |
//!
//! The layout has a version, `engine::SCHEMA`: an index with an older one is built anew from image
//! and log. So any value may change its form together with that number, and never without; the
//! tests in `golden` notice. Images have it too, and the log before them may be gone: whoever
//! raises the number teaches `image::load` to read the one before.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::log::BlobPlace;
use super::model::{OutboxKey, SpecialUse};
use crate::types::{AccountId, BlobId, DeviceId, MailboxKey, ModSeq, Uid, UidValidity};

/// Values above this are not put into the index.
pub(super) const MAX_VALUE: usize = 4096;

pub(super) fn account(kind: u8, account: AccountId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&account.0.to_be_bytes());
    key
}

pub(super) fn mailbox(kind: u8, mailbox: MailboxKey) -> Vec<u8> {
    let mut key = account(kind, mailbox.account);
    key.extend_from_slice(&mailbox.mailbox.0.to_be_bytes());
    key
}

pub(super) fn in_mailbox(kind: u8, key: MailboxKey, number: u32) -> Vec<u8> {
    let mut key = mailbox(kind, key);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn message(key: MailboxKey, uid: Uid) -> Vec<u8> {
    in_mailbox(b'm', key, uid.0)
}

pub(super) fn blob(id: BlobId) -> Vec<u8> {
    named(b'b', &id.0)
}

pub(super) fn named(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(name);
    key
}

pub(super) fn device(account_id: AccountId, device: DeviceId) -> Vec<u8> {
    let mut key = account(b'p', account_id);
    key.extend_from_slice(&device.0.to_be_bytes());
    key
}

pub(super) fn outbox_of(account_id: AccountId, device: DeviceId) -> Vec<u8> {
    let mut key = account(b'o', account_id);
    key.extend_from_slice(&device.0.to_be_bytes());
    key
}

pub(super) fn outbox(entry: &OutboxKey) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(&entry.slot, outbox_of(entry.account, entry.device)).map_err(broken)
}

pub(super) fn subscription(account_id: AccountId, name: &str) -> Vec<u8> {
    let mut key = account(b'S', account_id);
    key.extend_from_slice(name.as_bytes());
    key
}

/// The last four bytes as a number: the UID of `m`, the chunk of `f`, the mailbox of `N`.
pub(super) fn tail(key: &[u8]) -> u32 {
    key.last_chunk().map_or(0, |raw| u32::from_be_bytes(*raw))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GlobalMarks {
    pub next_account: u32,
    /// Highest that any mailbox ever had: a later one gets a higher one, whatever the clock says.
    pub uid_validity: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountMarks {
    pub next_mailbox: u32,
    pub next_device: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub name: String,
    pub uid_validity: UidValidity,
    pub special_use: Option<SpecialUse>,
}

/// Beside what STATUS tells: `uid_sum` and `keywords`, by which records and chunks are checked
/// before first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MailboxRecord {
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    pub highest_modseq: ModSeq,
    pub exists: u32,
    pub unseen: u32,
    pub deleted: u32,
    pub bytes: u64,
    pub uid_sum: u64,
    /// Length of the keyword table.
    pub keywords: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRecord {
    pub place: BlobPlace,
    pub references: u32,
}

/// Kind of the pieces of values that are larger than one may be.
pub(super) const PART: u8 = b'x';

/// Index records carry a byte in front: this one, or that of a value that was split.
const RECORD_VERSION: u8 = 1;
const SPLIT: u8 = 0xff;

/// Kinds whose values may be of any size. All others are small by what they hold.
pub(super) fn may_split(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| b"AKLopqrt".contains(kind))
}

/// Where a value was split: the number of its pieces.
pub(super) fn split_parts(value: &[u8]) -> Option<u16> {
    match value {
        [SPLIT, high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

pub(super) fn split_mark(parts: u16) -> Vec<u8> {
    let [high, low] = parts.to_be_bytes();
    vec![SPLIT, high, low]
}

/// Key of a piece.
pub(super) fn part(key: &[u8], part: u16) -> Vec<u8> {
    let mut out = named(PART, key);
    out.extend_from_slice(&part.to_be_bytes());
    out
}

/// What lies under a key.
pub(super) type Found = Result<Option<Vec<u8>>, StoreError>;

/// Puts the pieces together, where the value was split.
pub(super) fn join(
    key: &[u8],
    value: Vec<u8>,
    get: &dyn Fn(&[u8]) -> Found,
) -> Result<Vec<u8>, StoreError> {
    let Some(parts) = split_parts(&value) else {
        return Ok(value);
    };
    let mut whole = Vec::new();
    for number in 0..parts {
        let piece = get(&part(key, number))?;
        let lost = || StoreError::Index("a piece of a record is missing".into());
        whole.extend_from_slice(&piece.ok_or_else(lost)?);
    }
    Ok(whole)
}

/// The size at the beginning of a message's record, which is not read further.
pub(super) fn record_size(value: &[u8]) -> Option<u64> {
    let (version, rest) = value.split_first()?;
    let size = postcard::take_from_bytes(rest).ok().map(|(size, _)| size);
    size.filter(|_| *version == RECORD_VERSION)
}

/// The same, and the body.
pub(super) fn record_start(value: &[u8]) -> Option<(u64, BlobId)> {
    let (version, rest) = value.split_first()?;
    let start = postcard::take_from_bytes(rest).ok().map(|(start, _)| start);
    start.filter(|_| *version == RECORD_VERSION)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![RECORD_VERSION]).map_err(broken)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(broken),
        _ => Err(StoreError::Index("a record of an unknown version".into())),
    }
}

/// What a record begins with; it may borrow from it.
pub(super) fn decode_start<'a, T: serde::Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((start, _)) => Ok(start),
            Err(error) => Err(broken(error)),
        },
        _ => Err(StoreError::Index("a record of an unknown version".into())),
    }
}

fn broken(error: postcard::Error) -> StoreError {
    StoreError::Index(format!("a record makes no sense: {error}"))
}
