//! A login that ends when its account is removed or disabled, or has a new password.
//!
//! May import: types.

use std::sync::Arc;

use tokio::sync::watch;

use super::handle::Store;
use super::model::Account;

/// Somebody who gave the right password of an account.
pub struct Login {
    store: Store,
    account: Arc<Account>,
    changed: watch::Receiver<()>,
}

impl Login {
    /// Whatever changes after the account was read ends it, also before this is called.
    pub fn new(store: Store, account: Arc<Account>) -> Self {
        let mut changed = store.shared().directory_changed.subscribe();
        changed.mark_changed();
        Self {
            store,
            account,
            changed,
        }
    }

    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// False once the account is gone or disabled, or has another password.
    pub fn holds(&self) -> bool {
        let directory = self.store.directory();
        directory.account(self.account.id).is_some_and(|now| {
            Arc::ptr_eq(now, &self.account)
                || !now.disabled && now.password_hash == self.account.password_hash
        })
    }

    /// Waits until it does not hold any more. Cancel-safe.
    pub async fn ended(&mut self) {
        loop {
            // The store is gone: then all ends anyway.
            if self.changed.changed().await.is_err() {
                return std::future::pending().await;
            }
            if !self.holds() {
                return;
            }
        }
    }
}
