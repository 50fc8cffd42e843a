//! Notes that clients keep about mailboxes and accounts, and the server about itself (RFC 5464).
//!
//! May import: types.
//!
//! Each is a record of its own: kinds and keys are in `records`. A private note about a mailbox is
//! its owner's: nobody else has any there. Names are in lower case here.

use super::error::StoreError;
use super::handle::Store;
use super::model::SpecialUse;
use super::ops::Op;
use super::records::{self, Kind};
use super::shared::Each;
use super::state::Tx;
use super::wake::Noted;
use crate::types::{AccountId, MailboxId, MailboxKey};

/// What notes are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Mailbox(MailboxKey),
    /// The server, for one account only.
    Account(AccountId),
    /// The server, for all.
    Server,
}

/// A note by name; no value: it is removed.
pub type Annotation = (String, Option<Vec<u8>>);

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotated {
    Done,
    /// Nothing was changed: there would be too many.
    TooMany,
}

impl About {
    fn kind(self) -> Kind {
        match self {
            Self::Mailbox(_) => Kind::OfMailbox,
            Self::Account(_) => Kind::OfAccount,
            Self::Server => Kind::OfServer,
        }
    }

    /// The name of a record, as `Op::RecordPut` has it.
    fn name(self, entry: &str) -> Vec<u8> {
        let mut name = match self {
            Self::Mailbox(mailbox) => records::name_of_mailbox(mailbox),
            Self::Account(account) => account.0.to_be_bytes().to_vec(),
            Self::Server => Vec::new(),
        };
        name.extend_from_slice(entry.as_bytes());
        name
    }

    fn key(self, entry: &str) -> Vec<u8> {
        records::key(self.kind() as u16, &self.name(entry))
    }
}

/// The special use of a mailbox, which is an annotation of it (RFC 6154, 4).
pub(super) fn special_use(mailbox: MailboxKey) -> Noted {
    Noted {
        mailbox: Some(mailbox.mailbox),
        entry: "/private/specialuse".into(),
    }
}

/// The annotation that a record is, and whose it is (None: everybody's).
pub(super) fn of_record(kind: u16, name: &[u8]) -> Option<(Option<AccountId>, Noted)> {
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
    let account = || Some(AccountId(number(name.get(..4)?)?));
    let (whose, mailbox, entry) = match kind {
        kind if kind == Kind::OfMailbox as u16 => {
            let mailbox = MailboxId(number(name.get(4..8)?)?);
            (Some(account()?), Some(mailbox), name.get(8..)?)
        }
        kind if kind == Kind::OfAccount as u16 => (Some(account()?), None, name.get(4..)?),
        kind if kind == Kind::OfServer as u16 => (None, None, name),
        _ => return None,
    };
    let entry = std::str::from_utf8(entry).ok()?.into();
    Some((whose, Noted { mailbox, entry }))
}

impl Tx {
    fn count(&self, prefix: &[u8]) -> Result<usize, StoreError> {
        let mut count = 0;
        self.scan(prefix, &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Is there still room, after what was changed?
    fn annotations_fit(&self, about: About) -> Result<bool, StoreError> {
        let config = &self.shared.options.config;
        if self.count(&about.key(""))? > config.max_annotations_per_mailbox {
            return Ok(false);
        }
        let account = match about {
            About::Mailbox(mailbox) => mailbox.account,
            About::Account(account) => account,
            About::Server => return Ok(true),
        };
        let mut all = 0;
        for kind in [Kind::OfMailbox, Kind::OfAccount] {
            all += self.count(&records::of_account(kind, account))?;
        }
        Ok(all <= config.max_annotations_per_account)
    }

    fn annotate(&mut self, about: About, entries: Vec<Annotation>) -> Result<(), StoreError> {
        for (entry, value) in entries {
            let (kind, key) = (about.kind() as u16, about.name(&entry));
            match value {
                Some(value) => self.fact(Op::RecordPut { kind, key, value })?,
                None if self.raw(&about.key(&entry))?.is_some() => {
                    self.fact(Op::RecordRemove { kind, key })?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn set_use(
        &mut self,
        mailbox: MailboxKey,
        special_use: Option<SpecialUse>,
    ) -> Result<(), StoreError> {
        let list = self.list(mailbox.account)?;
        let own = list.mailboxes.iter().find(|m| m.key == mailbox);
        if own.ok_or(StoreError::NoMailbox)?.special_use == special_use {
            return Ok(());
        }
        if special_use.is_some() && list.mailboxes.iter().any(|m| m.special_use == special_use) {
            return Err(StoreError::UseTaken);
        }
        self.fact(Op::MailboxUse {
            mailbox,
            special_use,
        })
    }

    /// RFC 5464, 4.1: INBOX keeps its notes when it is renamed, and the new mailbox gets them too.
    pub(super) fn copy_annotations(
        &mut self,
        from: MailboxKey,
        to: MailboxKey,
    ) -> Result<(), StoreError> {
        let prefix = About::Mailbox(from).key("");
        let mut found = Vec::new();
        self.scan(&prefix, &mut |key, value| {
            let entry = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            found.push((entry, Some(super::keys::decode::<Vec<u8>>(value)?)));
            Ok(())
        })?;
        if found.is_empty() {
            return Ok(());
        }
        self.annotate(About::Mailbox(to), found)?;
        match self.annotations_fit(About::Mailbox(to))? {
            true => Ok(()),
            false => Err(StoreError::Limit("annotations of an account")),
        }
    }
}

impl Store {
    /// One note. Reads the index.
    pub fn annotation(&self, about: About, entry: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared().get(&about.key(entry))
    }

    /// All notes whose name begins so. Reads the index.
    pub fn annotations(
        &self,
        about: About,
        prefix: &str,
        each: &mut dyn FnMut(&str, Vec<u8>),
    ) -> Result<(), StoreError> {
        let before = about.key("").len();
        let each: Each<'_> = &mut |key, value| {
            let entry = std::str::from_utf8(key.get(before..).unwrap_or_default());
            let value = super::keys::decode(value)?;
            each(entry.unwrap_or_default(), value);
            Ok(())
        };
        self.shared().scan(&about.key(prefix), each)
    }

    /// Sets and removes, all or nothing. `special_use` is that of the mailbox, where it is to
    /// change too (RFC 6154, 4).
    pub async fn annotate(
        &self,
        about: About,
        entries: Vec<Annotation>,
        special_use: Option<Option<SpecialUse>>,
    ) -> Result<Annotated, StoreError> {
        let bytes = |(name, value): &Annotation| name.len() + value.as_ref().map_or(0, Vec::len);
        let weight = entries.iter().map(bytes).sum();
        let full = StoreError::Limit("annotations");
        let done = self.commit(weight, move |tx| {
            match about {
                About::Mailbox(mailbox) => {
                    let list = tx.list(mailbox.account)?;
                    let mut all = list.mailboxes.iter();
                    all.find(|m| m.key == mailbox)
                        .ok_or(StoreError::NoMailbox)?;
                }
                About::Account(account) => {
                    tx.directory.account(account).ok_or(StoreError::NoAccount)?;
                }
                About::Server => {}
            }
            if let (About::Mailbox(mailbox), Some(special_use)) = (about, special_use) {
                tx.set_use(mailbox, special_use)?;
            }
            let adds = entries.iter().any(|(_, value)| value.is_some());
            tx.annotate(about, entries)?;
            if let About::Mailbox(mailbox) = about {
                tx.raise_modseq(mailbox)?;
            }
            match !adds || tx.annotations_fit(about)? {
                true => Ok(()),
                // What was tried is taken back.
                false => Err(StoreError::Limit("annotations")),
            }
        });
        match done.await {
            Ok(()) => Ok(Annotated::Done),
            Err(error) if error == full => Ok(Annotated::TooMany),
            Err(error) => Err(error),
        }
    }
}
