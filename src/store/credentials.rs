//! What an account's owner proves who they are with: the hash of the password, and the keys that
//! SCRAM makes of the same one (RFC 5802, 3). Both change in one commit, so that an old password
//! opens nothing by either way.
//!
//! May import: types.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::handle::Store;
use super::model::Account;
use super::ops::Op;
use super::records::{self, Kind};
use super::state::Tx;
use crate::types::AccountId;

/// Of SCRAM-SHA-256. Who has them can try passwords offline, and can be taken for the server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramKeys {
    pub salt: [u8; 16],
    pub iterations: u32,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({} iterations, …)", self.iterations)
    }
}

/// All that is kept of a password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// argon2id in PHC form.
    pub hash: String,
    pub scram: Option<ScramKeys>,
}

impl From<String> for Credentials {
    fn from(hash: String) -> Self {
        Self { hash, scram: None }
    }
}

impl Tx {
    /// The keys that go with the account's password; None takes those of another away.
    pub(super) fn put_scram(
        &mut self,
        id: AccountId,
        keys: Option<&ScramKeys>,
    ) -> Result<(), StoreError> {
        if let Some(keys) = keys {
            return self.fact(records::put(Kind::Scram, id, keys)?);
        }
        match self.raw(&records::of_account(Kind::Scram, id))? {
            Some(_) => self.fact(records::remove(Kind::Scram, id)),
            None => Ok(()),
        }
    }
}

impl Store {
    /// A new password, by all that is kept of it.
    pub async fn account_set_credentials(
        &self,
        id: AccountId,
        credentials: Credentials,
    ) -> Result<(), StoreError> {
        self.commit(0, move |tx| {
            let account = tx.directory.account(id).ok_or(StoreError::NoAccount)?;
            let account = Account {
                password_hash: credentials.hash,
                ..(**account).clone()
            };
            tx.fact(Op::AccountPut(account))?;
            tx.put_scram(id, credentials.scram.as_ref())
        })
        .await
    }

    /// Keys for a password that is there already. Nothing where it is another by now.
    pub async fn account_add_scram(
        &self,
        account: &Account,
        keys: ScramKeys,
    ) -> Result<(), StoreError> {
        let (id, hash) = (account.id, account.password_hash.clone());
        self.commit(0, move |tx| {
            let now = tx.directory.account(id).ok_or(StoreError::NoAccount)?;
            if now.password_hash != hash {
                return Ok(());
            }
            tx.put_scram(id, Some(&keys))
        })
        .await
    }

    /// Reads the index.
    pub fn scram_keys(&self, id: AccountId) -> Result<Option<ScramKeys>, StoreError> {
        let key = records::of_account(Kind::Scram, id);
        let value: Option<Vec<u8>> = self.shared().get(&key)?;
        // What makes no sense is as good as none: the next login by password replaces it.
        Ok(value.and_then(|value| records::decode(&value).ok()))
    }

    /// Random bytes that are this store's for ever and that no peer ever hears of.
    pub fn private_id(&self) -> [u8; 16] {
        self.shared().store_id
    }
}
