//! What the server does by itself: removes accounts when their time has come, and warns owners of
//! accounts that are nearly full.
//!
//! May import: store. Nothing here asks again and again: it waits for the store's word or for a
//! point in time, and pauses only after a failure.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// After a failure.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) fn start(store: &Store, stop: &CancellationToken) -> [JoinHandle<()>; 2] {
    let removals = removals(store.clone());
    let quotas = quotas(store.clone());
    let (one, two) = (stop.clone(), stop.clone());
    [
        tokio::spawn(async move {
            one.run_until_cancelled(removals).await;
        }),
        tokio::spawn(async move {
            two.run_until_cancelled(quotas).await;
        }),
    ]
}

async fn removals(store: Store) {
    loop {
        let account = store.removal_due().await;
        match store.account_remove_due(account).await {
            Ok(true) => tracing::info!(%account, "an account is removed, its time had come"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%account, %error, "an account could not be removed yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn quotas(store: Store) {
    // Also what was not told before the last stop.
    let all = store.clone();
    if tokio::task::spawn_blocking(move || all.settle_all())
        .await
        .is_err()
    {
        tracing::error!("accounts near their quota could not be looked for");
    }
    loop {
        let mut again = Vec::new();
        for account in store.unsettled().await {
            match store.settle_quota(account).await {
                Ok(_) | Err(StoreError::NoAccount) => {}
                Err(error) => {
                    tracing::warn!(%account, %error, "an account's owner could not be warned of its quota");
                    if error.is_temporary() {
                        again.push(account);
                    }
                }
            }
        }
        if !again.is_empty() {
            tokio::time::sleep(PAUSE).await;
            store.still_unsettled(again);
        }
    }
}
