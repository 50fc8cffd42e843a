//! What changed in a mailbox since a mod-sequence (RFC 7162, 3.1.4.1), for the price of what
//! changed: chunks know the highest mod-sequence in them.
//!
//! May import: types.

use std::sync::Arc;

use super::{Slot, Snapshot};
use crate::store::model::Message;
use crate::types::{ModSeq, UidSet};

impl Snapshot {
    /// [`super::Diff::changed`], found one by one: there may be many.
    pub fn changed_from<'a>(&'a self, older: &'a Self) -> impl Iterator<Item = Message> + 'a {
        let mut at = 0;
        self.slots.iter().flat_map(move |new| {
            while older.slots.get(at).is_some_and(|old| old.base < new.base) {
                at += 1;
            }
            let same = |old: &&Slot| old.base == new.base && !Arc::ptr_eq(&old.chunk, &new.chunk);
            let old = older.slots.get(at).filter(same);
            let differs = |old: &Slot, message: &Message| {
                let before = old.chunk.get(old.base, message.uid.0 % 64);
                before.is_some_and(|(_, before)| before != *message)
            };
            old.into_iter().flat_map(move |old| {
                let all = new.chunk.iter(new.base);
                all.filter(move |message| differs(old, message))
            })
        })
    }

    /// Messages of `uids` with a higher mod-sequence than `since`, in order, with their sequence
    /// numbers.
    pub fn changed_since<'a>(
        &'a self,
        since: ModSeq,
        uids: &'a UidSet,
    ) -> impl Iterator<Item = (u32, Message)> + 'a {
        self.changed_chunks(since)
            .flat_map(|slot| slot.chunk.iter(slot.base).zip(slot.before + 1..))
            .filter(move |(m, _)| m.modseq > since && uids.contains(m.uid.0))
            .map(|(message, seq)| (seq, message))
    }

    /// Chunks in which there may be such a message.
    fn changed_chunks(&self, since: ModSeq) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.high > since)
    }

    /// The numbers of `uids` that were given and are no message's any more.
    pub fn missing(&self, uids: &UidSet) -> UidSet {
        let last = self.uid_next().0.saturating_sub(1);
        let mut missing = Vec::new();
        for range in uids.ranges() {
            let (mut from, to) = (*range.start(), (*range.end()).min(last));
            if from > to {
                break;
            }
            for (_, message) in self.range(from..=to) {
                if from < message.uid.0 {
                    missing.push((from, message.uid.0 - 1));
                }
                from = message.uid.0 + 1;
            }
            if from <= to {
                missing.push((from, to));
            }
        }
        UidSet::from_ranges(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Flags, Uid, UidValidity};

    fn mailbox(messages: u32) -> Snapshot {
        let mut now = Snapshot::empty(UidValidity(9));
        for uid in 1..=messages {
            now.add(Uid(uid), Flags::default(), ModSeq(u64::from(uid)), 1);
        }
        now
    }

    fn all() -> UidSet {
        UidSet::from_ranges([(1, u32::MAX)])
    }

    /// The work is counted: chunks that are looked into, of 3,126.
    #[test]
    fn fifty_changes_of_200_000_cost_no_more_than_fifty_chunks() {
        let mut now = mailbox(200_000);
        let since = now.highest_modseq();
        assert_eq!(now.changed_chunks(since).count(), 0);
        for (uid, modseq) in (1..=50).zip(200_001..) {
            now.set(Uid(uid * 3_999), Flags::default(), ModSeq(modseq));
        }
        assert_eq!(now.changed_chunks(since).count(), 50);
        let all = all();
        let changed: Vec<_> = now.changed_since(since, &all).collect();
        assert_eq!(changed.len(), 50);
        assert!(changed.iter().all(|(seq, m)| m.uid.0 == *seq));
        assert_eq!(now.changed_since(ModSeq(200_030), &all).count(), 20);
        let few = UidSet::from_ranges([(3_999, 3_999), (7_999, 199_950)]);
        assert_eq!(now.changed_since(since, &few).count(), 49);
        // What goes takes nothing else with it, and renumbers.
        now.remove(&[(Uid(1), 1), (Uid(3_999), 1)], ModSeq(200_051));
        let left: Vec<_> = now.changed_since(since, &all).collect();
        assert_eq!((left[0].0, left[0].1.uid.0), (7_996, 7_998));
        assert_eq!(left.len(), 49);
    }

    #[test]
    fn what_is_missing_is_what_was_given_and_is_not_there() {
        let mut now = mailbox(200);
        let gone = [1, 2, 64, 65, 130, 199, 200].map(|uid| (Uid(uid), 1));
        now.remove(&gone, ModSeq(201));
        let missing = |set: &UidSet| now.missing(set).to_string();
        assert_eq!(missing(&all()), "1:2,64:65,130,199:200");
        let some = UidSet::from_ranges([(2, 64), (130, 131), (250, 300)]);
        assert_eq!(missing(&some), "2,64,130");
        assert_eq!(missing(&UidSet::new()), "");
        assert_eq!(
            Snapshot::empty(UidValidity(1)).missing(&all()).to_string(),
            ""
        );
    }
}
