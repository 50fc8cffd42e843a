//! The store's face, continued: URLs that let others read a message (RFC 4467), with a random key
//! for each mailbox.
//!
//! May import: mail, types.
//!
//! Invariant: a token says only that this store made it for exactly this URL. Whoever resets the
//! key of a mailbox, or deletes the mailbox, takes back all that were made for it.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::error::StoreError;
use super::handle::Store;
use super::model::Account;
use super::ops::Op;
use super::passage::Passage;
use super::records::{self, Kind};
use crate::mail::{Access, ImapUrl, UrlAuth, parse_imap_url};
use crate::types::{AccountId, Address, Domain, MailboxKey, Uid};

/// The mechanism of RFC 4467, 9.1.
pub const INTERNAL: &str = "INTERNAL";
/// What a token begins with: how the rest was made.
const VERSION: &str = "01";

type Key = [u8; 32];

/// Who asks for what a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlReader {
    /// Logged in, and reads mail.
    User(AccountId),
    /// Logged in, and submits mail (RFC 4468).
    Submitter(AccountId),
}

impl UrlReader {
    fn account(self) -> AccountId {
        match self {
            Self::User(account) | Self::Submitter(account) => account,
        }
    }
}

/// A URL of a message of an account here.
struct Found {
    owner: AccountId,
    mailbox: MailboxKey,
}

fn random_key() -> Result<Key, StoreError> {
    let mut key = [0; 32];
    let filled = SystemRandom::new().fill(&mut key);
    filled.map_err(|_| StoreError::Write("the system gives no random bytes".into()))?;
    Ok(key)
}

fn token(key: &Key, rump: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, rump.as_bytes());
    let mut out = String::from(VERSION);
    for b in tag.as_ref() {
        out.push_str(&format!("{b:02x}"));
    }
    out
}

impl Store {
    /// Is this the name of this server, or one in a domain of ours?
    fn is_here(&self, host: &str, hostname: &str) -> bool {
        if host.eq_ignore_ascii_case(hostname) {
            return true;
        }
        let directory = self.directory();
        let mut rest = host;
        loop {
            if Domain::parse(rest).is_ok_and(|domain| directory.is_local(&domain)) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return false,
            }
        }
    }

    /// The account of this name, if it may log in.
    fn url_account(&self, name: &str) -> Option<AccountId> {
        let address = Address::parse(name).ok()?;
        let directory = self.directory();
        let account: &Account = directory.account_by_address(&address)?;
        (!account.disabled).then_some(account.id)
    }

    fn url_found(&self, url: &ImapUrl, hostname: &str) -> Option<Found> {
        let server = url.server.as_ref()?;
        if !self.is_here(&server.host, hostname) {
            return None;
        }
        let owner = self.url_account(server.user.as_deref()?)?;
        let name = url.mailbox.as_deref()?;
        let mailbox = self.mailboxes(owner).ok()?.find(name)?.key;
        let validity = self.mailbox_status(mailbox).ok()?.uid_validity;
        let same = url.uid_validity.is_none_or(|asked| asked == validity.0);
        same.then_some(Found { owner, mailbox })
    }

    fn url_key(&self, mailbox: MailboxKey) -> Result<Option<Key>, StoreError> {
        let key = records::of_mailbox(Kind::UrlKey, mailbox);
        let value: Option<Vec<u8>> = self.shared().get(&key)?;
        Ok(value.and_then(|value| value.try_into().ok()))
    }

    /// A key of its own for a mailbox that has none yet.
    async fn url_key_made(&self, mailbox: MailboxKey) -> Result<Key, StoreError> {
        if let Some(key) = self.url_key(mailbox)? {
            return Ok(key);
        }
        let fresh = random_key()?;
        self.commit(64, move |tx| {
            tx.mailbox(mailbox)?;
            let name = records::of_mailbox(Kind::UrlKey, mailbox);
            let known: Option<Vec<u8>> = tx.get(&name)?;
            if let Some(key) = known.and_then(|value| value.try_into().ok()) {
                return Ok(key);
            }
            tx.fact(Op::RecordPut {
                kind: Kind::UrlKey as u16,
                key: records::name_of_mailbox(mailbox),
                value: fresh.to_vec(),
            })?;
            Ok(fresh)
        })
        .await
    }

    /// GENURLAUTH: the URL with its token. None: not a URL that `account` may give away.
    pub async fn url_signed(
        &self,
        account: AccountId,
        rump: &str,
        hostname: &str,
    ) -> Result<Option<String>, StoreError> {
        let Some(url) = parse_imap_url(rump) else {
            return Ok(None);
        };
        match &url.auth {
            Some(UrlAuth { token: None, .. }) => {}
            _ => return Ok(None),
        }
        let Some(found) = self.url_found(&url, hostname) else {
            return Ok(None);
        };
        if found.owner != account {
            return Ok(None);
        }
        let key = self.url_key_made(found.mailbox).await?;
        let token = token(&key, rump);
        Ok(Some(format!("{rump}:internal:{token}")))
    }

    /// RESETKEY: URLs of this mailbox, or of all of them, are worth nothing any more.
    pub async fn url_keys_reset(
        &self,
        account: AccountId,
        mailbox: Option<MailboxKey>,
    ) -> Result<(), StoreError> {
        let list = self.mailboxes(account)?;
        let all = list.mailboxes.iter().map(|info| info.key);
        let all: Vec<MailboxKey> = all
            .filter(|key| mailbox.is_none_or(|m| m == *key))
            .collect();
        self.commit(64, move |tx| {
            for mailbox in all {
                let name = records::of_mailbox(Kind::UrlKey, mailbox);
                let known: Option<Vec<u8>> = tx.get(&name)?;
                if known.is_some() {
                    tx.fact(Op::RecordRemove {
                        kind: Kind::UrlKey as u16,
                        key: records::name_of_mailbox(mailbox),
                    })?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn url_part(
        &self,
        mailbox: MailboxKey,
        url: &ImapUrl,
    ) -> Result<Option<Passage>, StoreError> {
        self.passage(mailbox, Uid(url.uid), &url.part, &url.text, url.partial)
            .await
    }

    /// What an authorised URL names. None: it is none, or not for this reader, or no longer.
    /// Which of them it was is nobody's business (RFC 4467, 3).
    pub async fn url_passage(
        &self,
        text: &str,
        reader: UrlReader,
        hostname: &str,
    ) -> Result<Option<Passage>, StoreError> {
        let Some(url) = parse_imap_url(text) else {
            return Ok(None);
        };
        let found = self.url_found(&url, hostname);
        let Some(UrlAuth {
            expires,
            access,
            rump,
            token: Some((mechanism, given)),
        }) = &url.auth
        else {
            // RFC 4468, 3.3: who submits may name his own without any token.
            let own = |found: &Found| reader == UrlReader::Submitter(found.owner);
            return match (&url.auth, found.filter(own)) {
                (None, Some(found)) => self.url_part(found.mailbox, &url).await,
                _ => Ok(None),
            };
        };
        let key = match &found {
            Some(found) => self.url_key(found.mailbox)?,
            None => None,
        };
        let (Some(rump), true) = (text.get(..*rump), mechanism == INTERNAL) else {
            return Ok(None);
        };
        // RFC 4467, 6: what is not there takes as long to be refused.
        let right = token(&key.unwrap_or_default(), rump);
        let same =
            aws_lc_rs::constant_time::verify_slices_are_equal(right.as_bytes(), given.as_bytes());
        let (Some(found), Some(_)) = (found, key) else {
            return Ok(None);
        };
        let expired = expires.is_some_and(|until| self.now().signed() > until);
        let is = |name: &str| self.url_account(name) == Some(reader.account());
        let allowed = match access {
            Access::Anonymous | Access::AuthUser => true,
            Access::User(name) => is(name),
            // RFC 4467, 2: for message submission alone.
            Access::Submit(name) => matches!(reader, UrlReader::Submitter(_)) && is(name),
        };
        if same.is_err() || expired || !allowed {
            return Ok(None);
        }
        self.url_part(found.mailbox, &url).await
    }
}
