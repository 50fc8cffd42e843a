//! Entries that wait for a place: accounts are served in turn, so that many entries of one
//! don't stand before one of another.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::{HashMap, VecDeque};

use crate::store::OutboxKey;
use crate::types::AccountId;

#[derive(Debug, Default)]
pub(super) struct Fair {
    turns: VecDeque<AccountId>,
    waiting: HashMap<AccountId, VecDeque<OutboxKey>>,
}

impl Fair {
    pub(super) fn push(&mut self, key: OutboxKey) {
        let waiting = self.waiting.entry(key.account).or_default();
        if waiting.is_empty() {
            self.turns.push_back(key.account);
        }
        waiting.push_back(key);
    }

    pub(super) fn pop(&mut self) -> Option<OutboxKey> {
        let account = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&account)?;
        let key = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&account);
        } else {
            self.turns.push_back(account);
        }
        key
    }

    /// Gives back a turn that could not be used: it stays this account's.
    pub(super) fn push_front(&mut self, key: OutboxKey) {
        self.turns.retain(|account| *account != key.account);
        self.turns.push_front(key.account);
        let waiting = self.waiting.entry(key.account).or_default();
        waiting.push_front(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}
