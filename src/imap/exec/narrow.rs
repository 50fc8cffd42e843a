//! What a search need not read: messages that can't contain what it looks for, as far as the
//! full-text index knows them.
//!
//! May import: store, types.

use super::aside;
use crate::imap::search::Program;
use crate::store::{Store, Without};
use crate::types::{MailboxKey, Uid};

/// Found out once, for all messages.
#[derive(Default)]
pub(super) struct Narrow {
    words: Vec<Without>,
    fields: Vec<(usize, Without)>,
}

impl Narrow {
    pub(super) fn new(store: &Store, mailbox: MailboxKey, program: &Program) -> Self {
        let (needles, sought) = (program.needles(), program.sought());
        if needles.is_empty() && sought.is_empty() {
            return Self::default();
        }
        let words = needles.iter().map(|needle| needle.trigrams());
        let fields = sought.iter().map(|(_, numbers)| numbers.clone());
        let wanted: Vec<Vec<u32>> = words.chain(fields).collect();
        // Headers alone are read quickly: for them no index is made.
        let make = !needles.is_empty();
        let mut words = aside(|| store.without_text(mailbox, &wanted, make));
        let fields = words.split_off(needles.len().min(words.len()));
        Self {
            words,
            fields: sought.iter().map(|(key, _)| *key).zip(fields).collect(),
        }
    }

    /// The needle of that number is certainly not in the message.
    pub(super) fn words(&self, needle: usize, uid: Uid) -> bool {
        self.words
            .get(needle)
            .is_some_and(|without| without.contains(uid))
    }

    /// The same of the key of that number, in a field.
    pub(super) fn field(&self, key: usize, uid: Uid) -> bool {
        let mut of_key = self.fields.iter().filter(|(of, _)| *of == key);
        of_key.any(|(_, without)| without.contains(uid))
    }
}
