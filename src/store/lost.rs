//! What is known of groups that the log has lost, for those who answer and those who look.
//!
//! May import: nothing outside the store.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::now;

#[derive(Default)]
pub(super) struct Damage {
    lost_groups: AtomicU64,
    doubtful_until: AtomicU64,
    mended_mailboxes: AtomicU64,
}

impl Damage {
    pub(super) fn lost_groups(&self) -> u64 {
        self.lost_groups.load(Ordering::Relaxed)
    }

    /// Mailboxes that the last rebuild had to put in order.
    pub(super) fn mended_mailboxes(&self) -> u64 {
        self.mended_mailboxes.load(Ordering::Relaxed)
    }

    /// Whoever is not known may have been in a group that is lost.
    pub(super) fn is_doubtful(&self) -> bool {
        now().0 < self.doubtful_until.load(Ordering::Relaxed)
    }

    pub(super) fn mended(&self, mailboxes: u64) {
        self.mended_mailboxes.store(mailboxes, Ordering::Relaxed);
    }

    /// `until`: milliseconds since 1970.
    pub(super) fn lost(&self, groups: u64, until: u64) {
        self.lost_groups.store(groups, Ordering::Relaxed);
        self.doubtful_until.store(until, Ordering::Relaxed);
    }
}
