//! Records by kind (`Op::RecordPut`): what came after the first version of the store, and needs
//! no fact of its own. The log holds the numbers: one that was used is never used for another
//! kind again, and a value never changes its form.
//!
//! May import: types. Machine: no IO, no clock, no randomness.
//!
//! | kind | key | value |
//! |---|---|---|
//! | 1 | account | [`super::Quota`]: limits that are not the default ones |
//! | 2 | account | [`super::Limits`] that its owner was warned of |
//! | 3 | account | [`super::Removal`]: when it goes |
//! | 4 | body | [`super::quarantine::Damaged`] |
//! | 5 | account | [`super::ScramKeys`] of its password |
//! | 16 | mailbox | [`super::Acl`]: what others may do with it |
//! | 17 | mailbox, name | an annotation of it (RFC 5464): its bytes |
//! | 18 | account, name | an annotation of the server, for this account |
//! | 19 | name | an annotation of the server, for all |
//! | 20 | account, mailbox | the key that URLs of its messages are signed with (RFC 4467): 32 bytes |
//! | 32 | account, mailbox, source, number of the batch | what of the source is here: 12 bytes each |
//! | 33 | account, UIDVALIDITY, name | the mailbox that has both of a source. Outlives it, so that the UIDs of another are never taken for its own |
//! | 34 | body | which of its lines ended how in the file that it came from |
//!
//! The records of an account and of a mailbox go with it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::keys;
use super::ops::Op;
use crate::types::{AccountId, MailboxId, MailboxKey};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Quota = 1,
    QuotaWarned = 2,
    Removal = 3,
    Damaged = 4,
    Scram = 5,
    Rights = 16,
    /// Annotations.
    OfMailbox = 17,
    OfAccount = 18,
    OfServer = 19,
    UrlKey = 20,
    Imported = 32,
    UidsKept = 33,
    LineEnds = 34,
}

/// Kinds whose key is an account.
pub(super) const OF_ACCOUNTS: [Kind; 4] =
    [Kind::Quota, Kind::QuotaWarned, Kind::Removal, Kind::Scram];

/// Kinds whose keys begin with a mailbox.
pub(super) const OF_MAILBOXES: [Kind; 4] =
    [Kind::Imported, Kind::Rights, Kind::OfMailbox, Kind::UrlKey];

/// Its key in the index.
pub(super) fn key(kind: u16, name: &[u8]) -> Vec<u8> {
    let mut key = keys::named(b'r', &kind.to_be_bytes());
    key.extend_from_slice(name);
    key
}

pub(super) fn of_account(kind: Kind, account: AccountId) -> Vec<u8> {
    key(kind as u16, &account.0.to_be_bytes())
}

/// What the keys of a kind that is kept by mailbox begin with.
pub(super) fn of_mailbox(kind: Kind, mailbox: MailboxKey) -> Vec<u8> {
    key(kind as u16, &name_of_mailbox(mailbox))
}

/// A mailbox as the beginning of a record's name.
pub(super) fn name_of_mailbox(mailbox: MailboxKey) -> Vec<u8> {
    let mut name = mailbox.account.0.to_be_bytes().to_vec();
    name.extend_from_slice(&mailbox.mailbox.0.to_be_bytes());
    name
}

/// The account of a key of the index.
pub(super) fn account(kind: Kind, key: &[u8]) -> Option<AccountId> {
    let rest = key.strip_prefix(&self::key(kind as u16, &[])[..])?;
    Some(AccountId(u32::from_be_bytes(rest.try_into().ok()?)))
}

/// The mailbox of a key of the index.
pub(super) fn mailbox(kind: Kind, key: &[u8]) -> Option<MailboxKey> {
    let rest = key.strip_prefix(&self::key(kind as u16, &[])[..])?;
    let (account, mailbox) = rest.split_first_chunk()?;
    Some(MailboxKey {
        account: AccountId(u32::from_be_bytes(*account)),
        mailbox: MailboxId(u32::from_be_bytes(mailbox.try_into().ok()?)),
    })
}

/// What is kept: bytes, so that who does not know the kind keeps them too.
pub(super) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    keys::decode(value)
}

pub(super) fn put<T: Serialize>(
    kind: Kind,
    account: AccountId,
    value: &T,
) -> Result<Op, StoreError> {
    Ok(Op::RecordPut {
        kind: kind as u16,
        key: account.0.to_be_bytes().to_vec(),
        value: keys::encode(value)?,
    })
}

pub(super) fn remove(kind: Kind, account: AccountId) -> Op {
    Op::RecordRemove {
        kind: kind as u16,
        key: account.0.to_be_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kinds_stay() {
        assert_eq!(OF_MAILBOXES.map(|kind| kind as u16), [32, 16, 17, 20]);
        let others = [Kind::OfAccount, Kind::OfServer].map(|kind| kind as u16);
        assert_eq!(others, [18, 19]);
        assert_eq!(OF_ACCOUNTS.map(|kind| kind as u16), [1, 2, 3, 5]);
        let key = of_account(Kind::Removal, AccountId(258));
        assert_eq!(key, b"r\x00\x03\x00\x00\x01\x02");
        let mailbox = MailboxKey {
            account: AccountId(258),
            mailbox: crate::types::MailboxId(7),
        };
        let key_of_urls = of_mailbox(Kind::UrlKey, mailbox);
        assert_eq!(key_of_urls, b"r\x00\x14\x00\x00\x01\x02\x00\x00\x00\x07");
        assert_eq!(account(Kind::Removal, &key), Some(AccountId(258)));
        assert_eq!(account(Kind::Quota, &key), None);
        let mailbox = MailboxKey {
            account: AccountId(258),
            mailbox: MailboxId(3),
        };
        let key = of_mailbox(Kind::Rights, mailbox);
        assert_eq!(key, b"r\x00\x10\x00\x00\x01\x02\x00\x00\x00\x03");
        assert_eq!(self::mailbox(Kind::Rights, &key), Some(mailbox));
        assert_eq!(self::mailbox(Kind::OfMailbox, &key), None);
    }

    /// As for all that is in the log: a value keeps its form.
    #[test]
    fn values_stay() {
        use crate::store::{Acl, Granted, Limit, Limits, Quota, Removal, ScramKeys, Who};
        use crate::types::{Rights, UnixMillis};
        let quota = Quota {
            bytes: Limit::At(300),
            messages: Limit::None,
        };
        let limits = Limits {
            bytes: Some(300),
            messages: None,
        };
        let removal = Removal {
            due: UnixMillis(300),
            begun: true,
        };
        let value = |op: Result<Op, StoreError>| match op {
            Ok(Op::RecordPut { value, .. }) => value,
            other => panic!("{other:?}"),
        };
        let id = AccountId(1);
        let written = [
            value(put(Kind::Quota, id, &quota)),
            value(put(Kind::QuotaWarned, id, &limits)),
            value(put(Kind::Removal, id, &removal)),
        ];
        let golden: [&[u8]; 3] = [&[1, 2, 0xac, 2, 1], &[1, 1, 0xac, 2, 0], &[1, 0xac, 2, 1]];
        assert_eq!(written, golden);
        assert_eq!(decode::<Quota>(&written[0]), Ok(quota));
        assert_eq!(decode::<Limits>(&written[1]), Ok(limits));
        assert_eq!(decode::<Removal>(&written[2]), Ok(removal));

        let keys = ScramKeys {
            salt: [7; 16],
            iterations: 300,
            stored_key: [8; 32],
            server_key: [9; 32],
        };
        let written = value(put(Kind::Scram, id, &keys));
        let mut golden = vec![1];
        golden.extend([7; 16]);
        golden.extend([0xac, 2]);
        golden.extend([8; 32]);
        golden.extend([9; 32]);
        assert_eq!(written, golden);
        assert_eq!(decode::<ScramKeys>(&written), Ok(keys));
        let granted = |who, negative, rights| Granted {
            who,
            negative,
            rights,
        };
        let acl = Acl(vec![
            granted(Who::Anyone, false, Rights::LOOKUP),
            granted(Who::Account(AccountId(300)), true, Rights::ALL),
        ]);
        let golden: &[u8] = &[1, 2, 0, 0, 1, 1, 0xac, 2, 1, 0xff, 0x0f];
        assert_eq!(keys::encode(&acl).unwrap(), golden);
        assert_eq!(decode::<Acl>(golden), Ok(acl));
    }
}
