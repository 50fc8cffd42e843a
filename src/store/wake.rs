//! Whom a commit concerns, told once it is visible.
//!
//! May import: nothing outside the store.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::model::MailboxList;
use super::snapshot::Mailbox;

/// What is kept of an account that somebody asked for.
pub(super) struct AccountView {
    pub list: ArcSwap<MailboxList>,
    pub told: watch::Sender<u64>,
}

/// Who hears of a group.
#[derive(Default)]
pub(super) struct Wake {
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub accounts: Vec<Arc<AccountView>>,
    pub seq: u64,
}

impl Wake {
    pub(super) fn tell(&self) {
        self.mailboxes.iter().for_each(|m| m.tell(self.seq));
        for view in &self.accounts {
            view.told.send_replace(self.seq);
        }
    }
}
