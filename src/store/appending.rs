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
        self.room_in(to, 1)?;
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
            let mut more = Usage {
                bytes: ready.iter().map(|one| one.new.message.raw_len()).sum(),
                messages: ready.len() as u64,
            };
            let mut goes = None;
            if let Some((mailbox, uid)) = replaced {
                let there = tx.mailbox(mailbox)?.snapshot.by_uid(uid).is_some();
                if !there {
                    return Err(StoreError::Expunged);
                }
                let old = UidSet::single(uid.0);
                // Only what is more afterwards counts for the quota (RFC 8508, 3.4).
                if mailbox.account == to.account {
                    let less = tx.sizes(mailbox, &old)?;
                    more.bytes = more.bytes.saturating_sub(less.bytes);
                    more.messages = more.messages.saturating_sub(less.messages);
                }
                goes = Some((mailbox, old));
            }
            tx.within_quota(to.account, more, OverQuota::Append)?;
            if let Some((mailbox, old)) = goes {
                tx.purge(mailbox, &old, 1)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreConfig;
    use crate::store::Options;
    use crate::telemetry::Telemetry;
    use crate::types::{Address, Domain};

    /// Does not shrink.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let bytes = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        });
        bytes.take(len).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_has_no_room_in_a_frame_goes_to_files_and_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let options = || Options {
            dir: home.path().join("data"),
            config: StoreConfig {
                reserve_bytes: 0,
                ..StoreConfig::default()
            },
            subaddress_separator: '+',
        };
        let store = Store::open(options(), Telemetry::new().unwrap()).unwrap();
        store
            .domain_add(Domain::parse("x.test").unwrap())
            .await
            .unwrap();
        let address = Address::parse("a@x.test").unwrap();
        let account = store.account_add(address, "hash".into()).await.unwrap();
        let inbox = store.mailboxes(account).unwrap().find("INBOX").unwrap().key;
        let bodies: Vec<Vec<u8>> = (1..=6u64)
            .map(|n| noise(if n == 2 { 1000 } else { 3_900_000 }, n))
            .collect();
        let new = |raw: &Vec<u8>| Appended {
            message: Prepared::from_bytes(raw.clone().into()),
            flags: vec![],
            date: UnixMillis(1),
            zone: 0,
        };
        let all: Vec<Appended> = bodies.iter().map(new).collect();
        assert!(apart(&all) < u64::MAX && apart(&all) > 1000);
        let first = store.append_all(inbox, all, None).await.unwrap();
        assert_eq!(
            first.iter().map(|d| d.uid.0).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6]
        );
        // One that is refused takes the others with it, and what is replaced stays.
        let gone = Some((inbox, Uid(99)));
        let refused = store.append_all(inbox, vec![new(&bodies[1])], gone).await;
        assert_eq!(refused, Err(StoreError::Expunged));
        let replaced = Some((inbox, Uid(2)));
        let second = store
            .append_all(inbox, vec![new(&bodies[1])], replaced)
            .await;
        assert_eq!(second.unwrap()[0].uid, Uid(7));
        store.close().await;
        drop(store);
        // From the log alone.
        std::fs::remove_dir_all(home.path().join("data/index")).unwrap();
        let store = Store::open(options(), Telemetry::new().unwrap()).unwrap();
        let mailbox = store.mailbox(inbox).unwrap().snapshot();
        let uids: Vec<u32> = mailbox.iter().map(|(_, m)| m.uid.0).collect();
        assert_eq!(uids, [1, 3, 4, 5, 6, 7]);
        for (uid, body) in [(1, 0), (3, 2), (6, 5), (7, 1)] {
            let record = store.message(inbox, Uid(uid)).unwrap().unwrap();
            let read = store.body_range(inbox, Uid(uid), record.blob, 0..record.size);
            assert!(read.unwrap() == bodies[body], "{uid}");
        }
        store.close().await;
    }
}
