//! Holds the files of an open store still while somebody copies them.
//!
//! May import: the rest of the store.

use std::sync::Arc;

use crate::store::asks::Progress;
use crate::store::error::StoreError;
use crate::store::handle::Store;
use crate::store::shared::Shared;

/// More at a time make no sense.
const MOST: u32 = 4;

/// As long as it lives, no file of the log and no state image goes.
pub struct Hold {
    shared: Arc<Shared>,
    /// The group whose state image was just taken.
    pub group: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.hold(false);
    }
}

impl Shared {
    /// False: there are too many.
    fn hold(&self, more: bool) -> bool {
        let mut held = self.files_held.lock();
        if more && *held >= MOST {
            return false;
        }
        *held = match more {
            true => *held + 1,
            false => held.saturating_sub(1),
        };
        self.telemetry.store.held(*held);
        true
    }

    pub(in crate::store) fn is_held(&self) -> bool {
        *self.files_held.lock() > 0
    }
}

impl Store {
    /// Takes a state image, and keeps it and the log's files until what it gives is dropped.
    pub async fn hold(&self, progress: Progress) -> Result<Hold, StoreError> {
        let shared = self.shared().clone();
        if !shared.hold(true) {
            return Err(StoreError::Limit("backups at the same time"));
        }
        let mut hold = Hold { shared, group: 0 };
        hold.group = self.take_image(progress).await?.group;
        tracing::info!(group = hold.group, "files are held for a backup");
        Ok(hold)
    }
}
