//! The changeable state of up to 64 messages whose UIDs are neighbours.
//!
//! Machine: no IO, no clock, no randomness. May import: types.

use serde::{Deserialize, Serialize};

use super::model::Message;
use crate::types::{Flags, ModSeq, SystemFlags, Uid};

/// UIDs `base * 64 .. base * 64 + 64`. About 12 bytes a message, 20 where keywords are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// Bit `i`: UID `base * 64 + i` is there.
    present: u64,
    modseqs: Vec<u64>,
    system: Vec<u16>,
    /// Empty where no message has one.
    keywords: Vec<u64>,
}

impl Chunk {
    pub(super) fn len(&self) -> u32 {
        self.present.count_ones()
    }

    pub(super) fn is_sound(&self) -> bool {
        let n = self.len() as usize;
        self.modseqs.len() == n
            && self.system.len() == n
            && (self.keywords.is_empty() || self.keywords.len() == n)
    }

    pub(super) fn used_keywords(&self) -> u64 {
        self.keywords.iter().fold(0, |used, bits| used | bits)
    }

    pub(super) fn highest_modseq(&self) -> ModSeq {
        ModSeq(self.modseqs.iter().copied().max().unwrap_or(0))
    }

    fn place(&self, bit: u32) -> usize {
        (self.present & ((1u64 << bit) - 1)).count_ones() as usize
    }

    fn has(&self, bit: u32) -> bool {
        self.present & (1 << bit) != 0
    }

    pub(super) fn get(&self, base: u32, bit: u32) -> Option<(u32, Message)> {
        self.has(bit).then(|| {
            let at = self.place(bit);
            (at as u32, self.at(base, bit, at))
        })
    }

    fn at(&self, base: u32, bit: u32, at: usize) -> Message {
        Message {
            uid: Uid(base * 64 + bit),
            flags: Flags {
                system: SystemFlags(self.system[at]),
                keywords: self.keywords.get(at).copied().unwrap_or(0),
            },
            modseq: ModSeq(self.modseqs[at]),
        }
    }

    /// The message at place `n`.
    pub(super) fn nth(&self, base: u32, n: u32) -> Option<Message> {
        let mut left = self.present;
        for _ in 0..n {
            left &= left.wrapping_sub(1);
        }
        (left != 0).then(|| self.at(base, left.trailing_zeros(), n as usize))
    }

    pub(super) fn iter(&self, base: u32) -> impl Iterator<Item = Message> + '_ {
        let mut left = self.present;
        let mut at = 0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let message = self.at(base, left.trailing_zeros(), at);
            left &= left - 1;
            at += 1;
            Some(message)
        })
    }

    pub(super) fn put(&mut self, bit: u32, flags: Flags, modseq: ModSeq) {
        let at = self.place(bit);
        if flags.keywords != 0 && self.keywords.is_empty() {
            self.keywords = vec![0; self.system.len()];
        }
        if self.has(bit) {
            self.modseqs[at] = modseq.0;
            self.system[at] = flags.system.0;
            if let Some(keywords) = self.keywords.get_mut(at) {
                *keywords = flags.keywords;
            }
            return;
        }
        self.present |= 1 << bit;
        self.modseqs.insert(at, modseq.0);
        self.system.insert(at, flags.system.0);
        if !self.keywords.is_empty() || flags.keywords != 0 {
            self.keywords.insert(at, flags.keywords);
        }
    }

    pub(super) fn remove(&mut self, bit: u32) {
        if !self.has(bit) {
            return;
        }
        let at = self.place(bit);
        self.present &= !(1 << bit);
        self.modseqs.remove(at);
        self.system.remove(at);
        if !self.keywords.is_empty() {
            self.keywords.remove(at);
        }
    }
}
