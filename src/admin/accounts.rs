//! What an administrator can do to accounts beyond adding them: quotas, and removal that can be
//! taken back.
//!
//! May import: store, types.

use super::operations::{Operations, done, explain, when};
use super::protocol::*;
use crate::store::{Account, Limit, StoreError};
use crate::types::UnixMillis;

type Done = Result<Reply, Failure>;

const DAY_MILLIS: u64 = 24 * 3600 * 1000;

impl Operations {
    pub(super) fn account_list(&self) -> Done {
        let directory = self.store.directory();
        let mut accounts = Vec::new();
        for account in directory.accounts() {
            match self.view(account) {
                Ok(view) => accounts.push(view),
                // Removed meanwhile.
                Err(StoreError::NoAccount) => {}
                Err(error) => return Err(explain(error, &account.address.to_string())),
            }
        }
        accounts.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(Reply::Accounts { accounts })
    }

    pub(super) fn view(&self, account: &Account) -> Result<AccountView, StoreError> {
        let usage = self.store.usage(account.id)?;
        let limits = self.store.limits(account.id);
        let removal = self.store.directory().removal(account.id);
        Ok(AccountView {
            address: account.address.to_string(),
            created: when(account.created),
            disabled: account.disabled,
            remove_at: removal.map(|removal| when(removal.due)),
            quota: QuotaView {
                bytes: usage.bytes,
                bytes_limit: limits.bytes,
                messages: usage.messages,
                messages_limit: limits.messages,
            },
        })
    }

    /// Sets what is given, and shows what holds then.
    pub(super) async fn account_quota(
        &self,
        address: &str,
        bytes: Option<Limit>,
        messages: Option<Limit>,
    ) -> Done {
        for limit in [bytes, messages] {
            if limit == Some(Limit::At(0)) {
                return Err(Failure::new(
                    FailureKind::Usage,
                    "a limit of 0 would refuse all mail: write `none` for no limit",
                ));
            }
        }
        let account = self.account(address)?;
        let failed = |error| explain(error, address);
        if bytes.is_some() || messages.is_some() {
            let set = self.store.set_quota(account.id, bytes, messages);
            set.await.map_err(failed)?;
        }
        let own = self.store.directory().quota(account.id);
        Ok(Reply::Quota {
            address: account.address.to_string(),
            quota: self.view(&account).map_err(failed)?.quota,
            bytes_default: own.bytes == Limit::Default,
            messages_default: own.messages == Limit::Default,
        })
    }

    pub(super) async fn account_remove(&self, address: &str, keep_days: Option<u32>) -> Done {
        let account = self.account(address)?;
        let name = account.address.to_string();
        let failed = |error| explain(error, address);
        let Some(days) = keep_days else {
            let removed = self.store.account_remove(account.id);
            removed.await.map_err(failed)?;
            return done(format!("{name} and its mail are removed"));
        };
        let kept = u64::from(days).saturating_mul(DAY_MILLIS);
        let due = UnixMillis(self.store.now().0.saturating_add(kept));
        let removal = self.store.account_remove_at(account.id, due);
        removal.await.map_err(failed)?;
        done(format!(
            "{name} is disabled, and is removed with its mail at {}; until then `posthorn account \
             restore {name}` brings it back",
            when(due)
        ))
    }

    pub(super) async fn account_restore(&self, address: &str) -> Done {
        let account = self.account(address)?;
        let restored = self.store.account_restore(account.id);
        restored.await.map_err(|error| explain(error, address))?;
        done(format!("{} is as it was", account.address))
    }

    /// Why an account could not be added, where it is one that is to be removed.
    pub(super) fn explain_add(&self, error: StoreError, address: &str) -> Failure {
        let directory = self.store.directory();
        let known = super::check::parse_address(address).ok();
        let known = known.and_then(|address| directory.account_by_address(&address).cloned());
        let removal = known.and_then(|account| directory.removal(account.id));
        match (&error, removal) {
            (StoreError::Exists, Some(removal)) => Failure::new(
                FailureKind::Exists,
                format!(
                    "{address} exists, and is removed at {}: `posthorn account restore {address}` \
                     brings it back, `posthorn account remove {address}` without --keep-days \
                     removes it now",
                    when(removal.due)
                ),
            ),
            _ => explain(error, address),
        }
    }
}
