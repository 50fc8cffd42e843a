//! The store's face, continued: APPEND and REPLACE, of one message or of many.
//!
//! May import: telemetry, types.
//!
//! Invariant: all messages of one call are in one commit, with the one that they replace: they
//! are there, or nothing happened (RFC 3502; RFC 8508, 3.4).

use super::error::StoreError;
use super::handle::Store;
use super::model::*;
use super::ops::{Entry, Op, Origin};
use super::prepared::{Prepared, Settled};
use super::quota::Usage;
use super::state::Tx;
use crate::telemetry::OverQuota;
use crate::types::{Flag, MailboxKey, Uid, UidSet, UnixMillis};

/// Bodies of one call that may be in its frame: beyond, the largest go to files of their own.
/// A group that a crash tears must not be so large that it is taken for damage.
const IN_FRAME: u64 = 16 * 1024 * 1024;

/// A message for APPEND. `zone` is minutes east of UTC.
pub struct Appended {
    pub message: Prepared,
    pub flags: Vec<Flag>,
    pub date: UnixMillis,
    pub zone: i16,
}

/// What of each message the commit needs besides its body.
struct Ready {
    new: Appended,
    body: Settled,
}

impl Tx {
    fn append(&mut self, to: MailboxKey, ready: Ready) -> Result<Delivered, StoreError> {
        let Ready { new, body } = ready;
        let more = Usage {
            bytes: new.message.raw_len(),
            messages: 1,
        };
        self.room_in(to, 1)?;
        self.within_quota(to.account, more, OverQuota::Append)?;
        let (uid, modseq) = self.next(to)?;
        let flags = self.bits(to, &new.flags, &mut 0)?;
        let uid_validity = self.mailbox(to)?.snapshot.uid_validity();
        let record = MessageRecord {
            blob: new.message.id()?,
            prefix: Vec::new(),
            size: new.message.raw_len(),
            internal_date: new.date,
            internal_zone: new.zone,
            saved: self.now,
            summary: new.message.summary,
        };
        let large = self.store_body(body);
        let entries = vec![Entry {
            mailbox: to,
            uid,
            modseq,
            flags,
            prefix: Vec::new(),
        }];
        self.fact(Op::Arrive {
            origin: Origin::Append,
            large,
            record,
            entries,
        })?;
        Ok(Delivered {
            mailbox: to,
            uid_validity,
            uid,
            modseq,
        })
    }
}

impl Store {
    /// APPEND of one message. Refused where a keyword finds no room.
    pub async fn append(
        &self,
        to: MailboxKey,
        message: Prepared,
        flags: Vec<Flag>,
        date: UnixMillis,
        zone: i16,
    ) -> Result<Delivered, StoreError> {
        let new = Appended {
            message,
            flags,
            date,
            zone,
        };
        let mut all = self.append_all(to, vec![new], None).await?;
        all.pop().ok_or(StoreError::Invalid("no message"))
    }

    /// All of them, in their order, in place of the one that is replaced: or none, where that
    /// is gone already or one of them is refused.
    pub async fn append_all(
        &self,
        to: MailboxKey,
        messages: Vec<Appended>,
        replaced: Option<(MailboxKey, Uid)>,
    ) -> Result<Vec<Delivered>, StoreError> {
        let mut ready = Vec::with_capacity(messages.len());
        let apart = apart(&messages);
        for new in messages {
            let body = if new.message.weight() >= apart {
                self.settle_apart(&new.message).await?
            } else {
                self.settle(&new.message).await?
            };
            ready.push(Ready { new, body });
        }
        let weight = |ready: &Ready| ready.body.weight() + 512;
        let weight = ready.iter().map(weight).sum();
        self.commit(weight, move |tx| {
            tx.room()?;
            // First: only what is more afterwards counts for the quota (RFC 8508, 3.4).
            if let Some((mailbox, uid)) = replaced {
                let there = tx.mailbox(mailbox)?.snapshot.by_uid(uid).is_some();
                if !there {
                    return Err(StoreError::Expunged);
                }
                tx.purge(mailbox, &UidSet::from_ranges([(uid.0, uid.0)]), 1)?;
            }
            let all = ready.into_iter();
            all.map(|ready| tx.append(to, ready)).collect()
        })
        .await
    }

    async fn settle_apart(&self, message: &Prepared) -> Result<Settled, StoreError> {
        if !self.has_room(message.raw_len()) {
            return Err(StoreError::DiskFull);
        }
        let (blobs, message) = (self.shared().blobs.clone(), message.clone());
        let settled = tokio::task::spawn_blocking(move || message.settle_apart(&blobs)).await;
        settled.map_err(|_| StoreError::Closed)?
    }
}

/// The weight from which on bodies go to files, so that the others have room in one frame.
fn apart(messages: &[Appended]) -> u64 {
    let mut weights: Vec<u64> = messages.iter().map(|new| new.message.weight()).collect();
    weights.sort_unstable();
    let mut sum = 0u64;
    for weight in weights {
        sum = sum.saturating_add(weight);
        if sum > IN_FRAME {
            return weight.max(1);
        }
    }
    u64::MAX
}
