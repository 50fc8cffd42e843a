//! Whom a commit concerns, told once it is visible.
//!
//! May import: types.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::model::MailboxList;
use super::snapshot::Mailbox;
use crate::types::MailboxId;

/// What is kept of an account that somebody asked for.
pub(super) struct AccountView {
    pub list: ArcSwap<MailboxList>,
    pub told: watch::Sender<u64>,
    pub journal: Mutex<Journal<MailboxId>>,
    pub noted: Mutex<Journal<Noted>>,
    /// Mailboxes that INBOX was renamed to lately.
    from_inbox: Mutex<VecDeque<MailboxId>>,
}

impl AccountView {
    pub(super) fn new(list: MailboxList) -> Self {
        Self {
            list: ArcSwap::from_pointee(list),
            told: watch::Sender::new(0),
            journal: Mutex::default(),
            noted: Mutex::default(),
            from_inbox: Mutex::default(),
        }
    }

    /// This mailbox, which is about to be seen, is what INBOX was renamed to.
    pub(super) fn was_inbox(&self, mailbox: MailboxId) {
        let mut all = self.from_inbox.lock();
        if all.len() >= RENAMED {
            all.pop_front();
        }
        all.push_back(mailbox);
    }

    pub(super) fn is_from_inbox(&self, mailbox: MailboxId) -> bool {
        self.from_inbox.lock().contains(&mailbox)
    }

    /// This mailbox has a new state, which can be seen.
    pub(super) fn changed(&self, mailbox: MailboxId) {
        self.write_down(&self.journal, mailbox, JOURNAL);
    }

    /// An annotation has a new value, which can be seen.
    pub(super) fn annotated(&self, noted: Noted) {
        self.write_down(&self.noted, noted, NOTED);
    }

    fn write_down<T: Clone>(&self, journal: &Mutex<Journal<T>>, entry: T, most: usize) {
        let mut journal = journal.lock();
        if self.told.receiver_count() == 0 {
            // Nobody will ask how it came to this.
            journal.forget();
        } else {
            journal.push(entry, most);
        }
    }

    /// Nobody knows what changed.
    pub(super) fn break_off(&self) {
        self.journal.lock().break_off();
        self.noted.lock().break_off();
    }
}

/// What of an account changed lately, in order, for those who watch all of it.
pub(super) struct Journal<T> {
    /// How many were forgotten.
    first: u64,
    changed: VecDeque<T>,
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self {
            first: 0,
            changed: VecDeque::new(),
        }
    }
}

/// Whoever is further behind looks at all mailboxes.
const JOURNAL: usize = 4096;

/// The same of annotations.
const NOTED: usize = 256;

/// Of what is renamed more often before anybody looks, the first are new mailboxes.
const RENAMED: usize = 64;

/// An annotation that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// None: of the server.
    pub mailbox: Option<MailboxId>,
    pub entry: Arc<str>,
}

/// What an account's journal has after some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed<T> {
    /// These, once for each time.
    Only(Vec<T>),
    /// The journal does not reach back so far: any of them.
    Any,
}

impl<T: Clone> Journal<T> {
    fn push(&mut self, entry: T, most: usize) {
        if self.changed.len() >= most {
            self.changed.pop_front();
            self.first += 1;
        }
        self.changed.push_back(entry);
    }

    fn forget(&mut self) {
        self.first = self.end();
        self.changed = VecDeque::new();
    }

    /// Nobody knows which changed.
    fn break_off(&mut self) {
        self.first = self.end() + 1;
        self.changed = VecDeque::new();
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.changed.len() as u64
    }

    pub(super) fn after(&self, place: u64) -> Changed<T> {
        match place.checked_sub(self.first).map(usize::try_from) {
            Some(Ok(skip)) => Changed::Only(self.changed.iter().skip(skip).cloned().collect()),
            _ => Changed::Any,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_tells_what_changed_or_that_it_does_not_know() {
        let mut journal = Journal::default();
        let only = |ids: &[u32]| Changed::Only(ids.iter().map(|id| MailboxId(*id)).collect());
        assert_eq!(journal.after(0), only(&[]));
        journal.push(MailboxId(7), JOURNAL);
        let seen = journal.end();
        journal.push(MailboxId(8), JOURNAL);
        journal.push(MailboxId(7), JOURNAL);
        assert_eq!(journal.after(0), only(&[7, 8, 7]));
        assert_eq!(journal.after(seen), only(&[8, 7]));
        assert_eq!(journal.after(journal.end()), only(&[]));
        for _ in 0..JOURNAL {
            journal.push(MailboxId(1), JOURNAL);
        }
        assert_eq!(journal.after(seen), Changed::Any);
        let seen = journal.end();
        assert_eq!(journal.after(seen), only(&[]));
        journal.break_off();
        assert_eq!(journal.after(seen), Changed::Any);
        let seen = journal.end();
        journal.push(MailboxId(2), JOURNAL);
        assert_eq!(journal.after(seen), only(&[2]));
    }
}
