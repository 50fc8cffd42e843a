//! Which UIDs a mailbox lost, and when (RFC 7162, 3.2 and 5.3), so that a client that was away
//! hears of those alone. Derived as expunges are applied, so that whatever builds an index from
//! the log or an image has it too.
//!
//! May import: types.
//!
//! | key | value |
//! |---|---|
//! | `e` account mailbox | [`State`] |
//! | `e` account mailbox modseq part | [`Gone`] |
//!
//! Bounded by `store.expunged_ranges`: the oldest go first, and `floor` says how far back it is
//! known. It is never trusted further than it adds up: each record names the one before it, and
//! the state the last one and how many UIDs the mailbox had lost by then. What an older version
//! expunged, what was lost with groups of the log, or by sled, makes the history unknown from
//! there back. Then all UIDs that are not there are told, which is always right.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::handle::Store;
use super::keys::{self, MailboxRecord};
use super::state::Tx;
use crate::types::{MailboxKey, ModSeq, UidSet};

/// Kind of its keys.
pub(super) const KIND: u8 = b'e';

/// Ranges of one record: less than a value of the index may have.
const PART: usize = 256;

/// Who reads while commits come in looks again; then the long answer will do.
const TRIES: usize = 3;

/// A record's place: when, and its number among those of the same time.
type Place = (ModSeq, u16);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// What went at this mod-sequence or before is not known.
    pub floor: ModSeq,
    pub last: Place,
    /// Kept in all records together.
    pub ranges: u32,
    /// UIDs that were given and were not there any more, after the last record.
    pub lost: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub before: Place,
    pub uids: UidSet,
}

fn key(mailbox: MailboxKey, (modseq, part): Place) -> Vec<u8> {
    let mut key = keys::mailbox(KIND, mailbox);
    key.extend_from_slice(&modseq.0.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// None: the state's own key.
fn place(mailbox: MailboxKey, key: &[u8]) -> Option<Place> {
    let rest = key.strip_prefix(&keys::mailbox(KIND, mailbox)[..])?;
    let (modseq, part) = rest.split_first_chunk()?;
    let part = u16::from_be_bytes(part.try_into().ok()?);
    Some((ModSeq(u64::from_be_bytes(*modseq)), part))
}

impl MailboxRecord {
    /// UIDs that were given and are not there.
    fn lost(&self) -> u32 {
        let given = self.uid_next.0.saturating_sub(1);
        given.saturating_sub(self.exists)
    }
}

impl Tx {
    /// Messages went: `before` is the mailbox's record as it was.
    pub(super) fn note_expunged(
        &mut self,
        mailbox: MailboxKey,
        modseq: ModSeq,
        uids: &UidSet,
        before: &MailboxRecord,
    ) -> Result<(), StoreError> {
        let state_key = keys::mailbox(KIND, mailbox);
        // Where none was ever lost there is none: nobody has to wait for the index.
        let known = match before.lost() {
            0 => None,
            _ => self.get::<State>(&state_key)?,
        };
        // Replayed.
        if uids.is_empty() || known.is_some_and(|state| modseq <= state.last.0) {
            return Ok(());
        }
        let mut state = known.unwrap_or_default();
        if state.lost != before.lost() {
            state.floor = before.highest_modseq;
        }
        let ranges: Vec<(u32, u32)> = uids.ranges().map(|r| (*r.start(), *r.end())).collect();
        for (part, ranges) in (0..u16::MAX).zip(ranges.chunks(PART)) {
            let gone = Gone {
                before: state.last,
                uids: UidSet::from_ranges(ranges.iter().copied()),
            };
            state.last = (modseq, part);
            state.ranges = state.ranges.saturating_add(ranges.len() as u32);
            self.put(key(mailbox, state.last), &gone)?;
        }
        state.lost = self.mailbox(mailbox)?.snapshot.record.lost();
        let most = self.shared.options.config.expunged_ranges;
        if state.ranges as usize > most {
            self.forget_oldest(mailbox, &mut state, most)?;
        }
        self.put(state_key, &state)
    }

    /// More than is needed, so that not each expunge has to look for the oldest.
    fn forget_oldest(
        &mut self,
        mailbox: MailboxKey,
        state: &mut State,
        most: usize,
    ) -> Result<(), StoreError> {
        let mut all = Vec::new();
        self.scan(&keys::mailbox(KIND, mailbox), &mut |key, value| {
            if let Some(place) = place(mailbox, key) {
                let gone: Gone = keys::decode(value)?;
                all.push((place, gone.uids.ranges().count()));
            }
            Ok(())
        })?;
        self.effort += all.len();
        // What the group has changed comes last.
        all.sort_unstable();
        let mut left: usize = all.iter().map(|(_, ranges)| ranges).sum();
        for (place, ranges) in all {
            // Parts of one time go together.
            if left <= most / 4 * 3 && place.0 > state.floor {
                break;
            }
            left -= ranges;
            state.floor = state.floor.max(place.0);
            self.remove(key(mailbox, place))?;
        }
        state.ranges = u32::try_from(left).unwrap_or(u32::MAX);
        Ok(())
    }
}

impl Store {
    /// UIDs that went after `since`, newer than any snapshot maybe. None: not all are known.
    pub fn expunged_since(
        &self,
        mailbox: MailboxKey,
        since: ModSeq,
    ) -> Result<Option<UidSet>, StoreError> {
        let opened = self.mailbox(mailbox)?;
        for _ in 0..TRIES {
            let state: Option<State> = self.shared().get(&keys::mailbox(KIND, mailbox))?;
            let state = state.unwrap_or_default();
            let record = opened.snapshot().record;
            if state.lost != record.lost() {
                // Committed in between, or not known.
                continue;
            }
            if state.last.0 <= since {
                return Ok(Some(UidSet::new()));
            }
            if since < state.floor {
                return Ok(None);
            }
            if let Some(found) = self.read_history(mailbox, since, state.last)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// All records after `since`, at least up to `last`. None: one is missing.
    fn read_history(
        &self,
        mailbox: MailboxKey,
        since: ModSeq,
        last: Place,
    ) -> Result<Option<UidSet>, StoreError> {
        let prefix = keys::mailbox(KIND, mailbox);
        let from = key(mailbox, (ModSeq(since.0.saturating_add(1)), 0));
        let mut before: Option<Place> = None;
        let mut whole = true;
        let mut found = Vec::new();
        self.shared()
            .scan_from(&prefix, Some(&from), &mut |key, value| {
                let Some(place) = place(mailbox, key) else {
                    return Ok(true);
                };
                let gone: Gone = keys::decode(value)?;
                whole &= match before {
                    Some(before) => gone.before == before,
                    None => gone.before.0 <= since,
                };
                before = Some(place);
                found.extend(gone.uids.ranges().map(|r| (*r.start(), *r.end())));
                Ok(whole)
            })?;
        whole &= before.is_some_and(|before| before >= last);
        Ok(whole.then(|| UidSet::from_ranges(found)))
    }
}
