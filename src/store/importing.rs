//! The store's face, continued: mail that is brought over from elsewhere, with its flags, dates
//! and where possible its UIDs.
//!
//! May import: types.
//!
//! Invariant: what came of a source is written down in the same commit as the messages, so an
//! import that was cut off at any point goes on without a message twice or missing.

use super::error::StoreError;
use super::handle::Store;
use super::mailboxes::{clean, creatable};
use super::model::*;
use super::ops::{Entry, Op, Origin};
use super::prepared::{Prepared, Settled};
use super::quota::Usage;
use super::records::{self, Kind};
use super::state::Tx;
use crate::telemetry::OverQuota;
use crate::types::{
    AccountId, BlobId, Flag, Flags, MailboxId, MailboxKey, ModSeq, SystemFlags, Uid, UidValidity,
    UnixMillis,
};

/// Names a message within its source; never given twice there.
pub type Identity = [u8; 12];

/// A UIDVALIDITY so far ahead of the clock is not kept, in seconds: later mailboxes have to be
/// above it (RFC 9051, 2.3.1.1), and the numbers would come to their end.
const AHEAD: u64 = 366 * 24 * 3600;

/// A mailbox as its source describes it.
#[derive(Clone, Debug, Default)]
pub struct ImportOpen {
    pub name: String,
    /// None: the source has no UIDs.
    pub uid_validity: Option<UidValidity>,
    pub special_use: Option<SpecialUse>,
    pub subscribed: bool,
}

/// The mailbox that it is brought into.
#[derive(Clone, Debug)]
pub struct ImportOpened {
    pub key: MailboxKey,
    /// The UIDs of the source are kept.
    pub keeps_uids: bool,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
pub struct ImportTo {
    pub mailbox: MailboxKey,
    /// Names the source's mailbox.
    pub source: [u8; 8],
    pub keeps_uids: bool,
    /// The source's UIDNEXT: what has no UID yet gets none below it.
    pub uid_next: Uid,
}

/// One message of a batch.
#[derive(Clone)]
pub struct Incoming {
    pub identity: Identity,
    pub message: Prepared,
    pub flags: Vec<Flag>,
    /// INTERNALDATE and its zone, minutes east.
    pub date: UnixMillis,
    pub zone: i16,
    pub uid: Option<Uid>,
    /// Kept beside the body where it is not empty, for [`Store::line_ends`].
    pub line_ends: Vec<u8>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportBatch {
    /// Messages whose UID could not be kept though the mailbox keeps UIDs.
    pub renumbered: u32,
    /// Keywords that found no room in the mailbox.
    pub keywords_lost: u32,
}

impl Tx {
    fn open_import(
        &mut self,
        account: AccountId,
        open: ImportOpen,
    ) -> Result<ImportOpened, StoreError> {
        let list = self.list(account)?;
        let found = list.find(&open.name).cloned();
        let wanted = open.uid_validity.filter(|validity| {
            (1..=self.now.secs().saturating_add(AHEAD)).contains(&u64::from(validity.0))
        });
        let mark = wanted.map(|validity| kept_name(account, validity, &open.name));
        let kept: Option<Vec<u8>> = match &mark {
            Some(name) => self.get(&records::key(Kind::UidsKept as u16, name))?,
            None => None,
        };
        let mut keeps_uids = wanted.is_some() && kept.is_none();
        let key = match &found {
            Some(info) => {
                let snapshot = &self.mailbox(info.key)?.snapshot;
                let (uid_validity, next) = (snapshot.uid_validity(), snapshot.uid_next());
                keeps_uids &= next == Uid(1);
                if let (true, Some(validity)) = (keeps_uids, wanted)
                    && validity != uid_validity
                {
                    self.fact(Op::MailboxValidity {
                        mailbox: info.key,
                        uid_validity: validity,
                    })?;
                }
                if open.subscribed && !info.subscribed {
                    self.fact(Op::Subscribe {
                        account,
                        name: info.name.clone(),
                        on: true,
                    })?;
                }
                info.key
            }
            None => {
                let most = self.shared.options.config.max_mailboxes_per_account;
                creatable(&list, &open.name, most)?;
                self.make_parents(account, &open.name)?;
                let mailbox = MailboxId(self.account_marks(account)?.next_mailbox);
                let key = MailboxKey { account, mailbox };
                let uid_validity = match wanted.filter(|_| keeps_uids) {
                    Some(validity) => validity,
                    None => self.new_validity()?,
                };
                self.fact(Op::MailboxCreate {
                    mailbox: key,
                    name: open.name.clone(),
                    uid_validity,
                    special_use: None,
                    subscribed: open.subscribed,
                })?;
                key
            }
        };
        if let (true, Some(name)) = (keeps_uids, mark) {
            self.fact(Op::RecordPut {
                kind: Kind::UidsKept as u16,
                key: name,
                value: key.mailbox.0.to_be_bytes().to_vec(),
            })?;
            // Clients that knew a mailbox of this name and UIDVALIDITY here have seen lower ones
            // (RFC 7162, 3.1.2.1).
            self.fact(Op::MailboxFloor {
                mailbox: key,
                uid_next: Uid(1),
                highest_modseq: ModSeq(self.now.secs().max(1)),
            })?;
        }
        if let Some(mailbox) = open.special_use {
            self.take_use(account, key, mailbox)?;
        }
        // An earlier run has kept them.
        let keeps_uids = keeps_uids
            || kept.is_some_and(|mailbox| mailbox == key.mailbox.0.to_be_bytes())
                && wanted == Some(self.mailbox(key)?.snapshot.uid_validity());
        Ok(ImportOpened { key, keeps_uids })
    }

    /// The mailbox gets the use, unless another has it that ever had a message.
    fn take_use(
        &mut self,
        account: AccountId,
        mailbox: MailboxKey,
        special_use: SpecialUse,
    ) -> Result<(), StoreError> {
        let list = self.list(account)?;
        let of = |key| list.mailboxes.iter().find(|m| m.key == key);
        if of(mailbox).is_none_or(|info| info.name == "INBOX" || info.special_use.is_some()) {
            return Ok(());
        }
        let holder = list
            .mailboxes
            .iter()
            .find(|m| m.special_use == Some(special_use));
        if let Some(holder) = holder {
            if self.mailbox(holder.key)?.snapshot.uid_next() != Uid(1) {
                return Ok(());
            }
            self.fact(Op::MailboxUse {
                mailbox: holder.key,
                special_use: None,
            })?;
        }
        self.fact(Op::MailboxUse {
            mailbox,
            special_use: Some(special_use),
        })
    }

    fn import(
        &mut self,
        to: ImportTo,
        number: u32,
        batch: Vec<(Incoming, Settled)>,
    ) -> Result<ImportBatch, StoreError> {
        self.room()?;
        self.room_in(to.mailbox, batch.len())?;
        let more = Usage {
            bytes: batch.iter().map(|(one, _)| one.message.raw_len()).sum(),
            messages: batch.len() as u64,
        };
        self.within_quota(to.mailbox.account, more, OverQuota::Append)?;
        let mut done = ImportBatch::default();
        let mut identities = Vec::with_capacity(batch.len() * size_of::<Identity>());
        for (incoming, body) in batch {
            let (next, modseq) = self.next(to.mailbox)?;
            let uid = match incoming.uid.filter(|_| to.keeps_uids) {
                Some(uid) if uid >= next && uid.0 < u32::MAX => uid,
                Some(_) => {
                    done.renumbered += 1;
                    next
                }
                None if to.keeps_uids => next.max(to.uid_next),
                None => next,
            };
            if uid.0 == u32::MAX {
                return Err(StoreError::Limit("UIDs of a mailbox"));
            }
            let (flags, lost) = self.bits_that_fit(to.mailbox, &incoming.flags)?;
            done.keywords_lost += lost;
            let blob = incoming.message.id()?;
            let record = MessageRecord {
                blob,
                prefix: Vec::new(),
                size: incoming.message.raw_len(),
                internal_date: incoming.date,
                internal_zone: incoming.zone,
                saved: self.now,
                summary: incoming.message.summary,
            };
            let large = self.store_body(body);
            // Not a delivery: no phone is woken for it.
            self.fact(Op::Arrive {
                origin: Origin::Append,
                large,
                record,
                entries: vec![Entry {
                    mailbox: to.mailbox,
                    uid,
                    modseq,
                    flags,
                    prefix: Vec::new(),
                }],
            })?;
            if !incoming.line_ends.is_empty() {
                self.fact(Op::RecordPut {
                    kind: Kind::LineEnds as u16,
                    key: blob.0.to_vec(),
                    value: incoming.line_ends,
                })?;
            }
            identities.extend_from_slice(&incoming.identity);
        }
        let mut name = records::name_of_mailbox(to.mailbox);
        name.extend_from_slice(&to.source);
        name.extend_from_slice(&number.to_be_bytes());
        self.fact(Op::RecordPut {
            kind: Kind::Imported as u16,
            key: name,
            value: identities,
        })?;
        Ok(done)
    }

    /// The flags, without the keywords that find no room; and how many those are.
    fn bits_that_fit(
        &mut self,
        mailbox: MailboxKey,
        flags: &[Flag],
    ) -> Result<(Flags, u32), StoreError> {
        let (mut bits, mut held, mut lost) = (Flags::default(), 0, 0);
        for flag in flags {
            match self.bits(mailbox, std::slice::from_ref(flag), &mut held) {
                Ok(more) => {
                    bits.system = SystemFlags(bits.system.0 | more.system.0);
                    bits.keywords |= more.keywords;
                }
                Err(StoreError::Limit(_)) => lost += 1,
                Err(error) => return Err(error),
            }
        }
        Ok((bits, lost))
    }
}

fn kept_name(account: AccountId, validity: UidValidity, name: &str) -> Vec<u8> {
    let mut key = account.0.to_be_bytes().to_vec();
    key.extend_from_slice(&validity.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

impl Store {
    /// Makes the mailbox where it is not there, and takes over the source's UIDVALIDITY where it
    /// never had a message.
    pub async fn import_open(
        &self,
        account: AccountId,
        open: ImportOpen,
    ) -> Result<ImportOpened, StoreError> {
        let open = ImportOpen {
            name: clean(&open.name)?,
            ..open
        };
        self.commit(1024, move |tx| tx.open_import(account, open))
            .await
    }

    /// Stores the batch in one commit, with the note that it came. `number`: another one for each
    /// batch of a source.
    pub async fn import(
        &self,
        to: ImportTo,
        number: u32,
        batch: Vec<Incoming>,
    ) -> Result<ImportBatch, StoreError> {
        let mut settled = Vec::with_capacity(batch.len());
        let mut weight = 0;
        for incoming in batch {
            let body = self.settle(&incoming.message).await?;
            weight += body.weight() + 512;
            settled.push((incoming, body));
        }
        self.commit(weight, move |tx| tx.import(to, number, settled))
            .await
    }

    /// The mailbox is there as a whole: its next UID is at least the source's.
    pub async fn import_close(&self, to: ImportTo) -> Result<(), StoreError> {
        if !to.keeps_uids {
            return Ok(());
        }
        self.commit(64, move |tx| {
            let record = tx.mailbox(to.mailbox)?.snapshot.record;
            if record.uid_next >= to.uid_next {
                return Ok(());
            }
            tx.fact(Op::MailboxFloor {
                mailbox: to.mailbox,
                uid_next: to.uid_next,
                highest_modseq: record.highest_modseq,
            })
        })
        .await
    }

    /// Tells `each` what came of a source before, and gives the number of the next batch.
    pub fn imported(
        &self,
        mailbox: MailboxKey,
        source: [u8; 8],
        each: &mut dyn FnMut(Identity),
    ) -> Result<u32, StoreError> {
        let mut name = records::name_of_mailbox(mailbox);
        name.extend_from_slice(&source);
        let prefix = records::key(Kind::Imported as u16, &name);
        let mut next = 0;
        super::beside::beside(|| {
            self.shared().scan(&prefix, &mut |key, value| {
                next = super::keys::tail(key).saturating_add(1).max(next);
                let identities: Vec<u8> = super::keys::decode(value)?;
                identities.as_chunks::<12>().0.iter().for_each(|i| each(*i));
                Ok(())
            })
        })?;
        Ok(next)
    }

    /// What was kept of the line ends of a body's file. Empty: nothing, all ended alike.
    pub fn line_ends(&self, blob: BlobId) -> Result<Vec<u8>, StoreError> {
        let kept = self
            .shared()
            .get(&records::key(Kind::LineEnds as u16, &blob.0))?;
        Ok(kept.unwrap_or_default())
    }
}
