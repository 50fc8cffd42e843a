//! Compaction: bodies that are still wanted move to the end of the log, and segments that hold
//! nothing that is needed go. What segments say of changes of state is not needed once a state
//! image covers it.
//!
//! May import: the rest of the store. `choose` is a machine; the rest works beside the
//! committer, which writes what moves as groups like any other.
//!
//! | state | on disk | the next step | a crash here |
//! |---|---|---|---|
//! | sealed | the active segment ends; a group stands in the next one | a state image at or after that group | nothing to do |
//! | covered | an image of all groups in the segments that may go | some bodies move: a group with copies of them, and where each lay | nothing to do |
//! | moving | some bodies lie twice; the index names the new place as soon as the group is applied | until no message's body lies in the segment | replay applies the groups; the old copies are dead bytes, and the segment is chosen again |
//! | moved | nothing in the segment is needed | a checkpoint of the index | the same |
//! | checked | the index on disk names no place in it | the segment is unlinked, the directory synced | the same, or the segment is gone |
//!
//! A body moves only where it lies still where it was read: one that was expunged meanwhile
//! stays gone, and a group that is replayed changes nothing twice. A segment with a body that is
//! damaged and wanted stays whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::asks::Asks;
use super::error::StoreError;
use super::image::tally::Live;
use super::keys::{self, BlobRecord};
use super::log::{BlobData, BlobPlace, LogError};
use super::model::Worker;
use super::ops::{Group, Op};
use super::ring::changes;
use super::shared::Shared;
use super::state::Tx;
use crate::types::{BlobId, LogPos};

/// One group of what moves: so much, and so many.
const GROUP_BYTES: u64 = 1024 * 1024;
const GROUP_BODIES: usize = 64;

/// For a worker that has not written down yet how far it has read.
const WAIT: Duration = Duration::from_millis(250);
const WAITS: u32 = 12;

/// Segments with less alive than this share are always worth it.
const HALF: u64 = 50;
/// All of the log may be this much of what is alive, in percent; beyond it the emptiest go first.
const MOST: u64 = 110;
/// No segment with more alive than this share is moved.
const FULL: u64 = 95;

/// What is said meanwhile.
const HELD: &str = "a backup is under way";

/// A segment before the horizon, which may be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    pub len: u64,
    /// Stored bytes of bodies that messages refer to.
    pub live: u64,
}

impl Segment {
    fn share(&self) -> u64 {
        self.live.saturating_mul(100) / self.len.max(1)
    }
}

/// Which of `segments` are worth it, the emptiest first. `others` is the length of what is not
/// for choice, `live` all that is alive in segments.
pub(super) fn choose(segments: &[Segment], others: u64, live: u64) -> Vec<u64> {
    let mut sorted = segments.to_vec();
    sorted.sort_by_key(|s| (s.share(), s.number));
    let mut total = others + segments.iter().map(|s| s.len).sum::<u64>();
    let most = live.saturating_mul(MOST) / 100;
    let mut chosen = Vec::new();
    for segment in sorted {
        let share = segment.share();
        if share >= HALF && (total <= most || share > FULL) {
            break;
        }
        total = total.saturating_sub(segment.len - segment.live.min(segment.len));
        chosen.push(segment.number);
    }
    chosen
}

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Compacted {
    pub segments: u64,
    /// Bytes of the segments that went, and of the bodies that moved.
    pub removed_bytes: u64,
    pub moved_bytes: u64,
    pub moved_bodies: u64,
    /// Segments that stay because a body in them is damaged.
    pub damaged_segments: u64,
    /// Bytes of all segments before and after.
    pub before_bytes: u64,
    pub after_bytes: u64,
    /// Bytes of the index before and after: it is built anew where it has grown far beyond what
    /// is in it.
    pub index_before_bytes: u64,
    pub index_after_bytes: u64,
}

/// The work, with what it needs.
pub(super) struct Compaction<'a> {
    pub shared: &'a Arc<Shared>,
    pub asks: &'a dyn Asks,
    /// Bytes a second that may move; 0: as many as can.
    pub rate: u64,
}

impl Compaction<'_> {
    /// Compacts what is worth it and lies before `covered`, the place of the state image that
    /// was just taken. `live` is what that image counted.
    pub(super) fn run(
        &self,
        covered: LogPos,
        live: &BTreeMap<u64, Live>,
    ) -> Result<Compacted, StoreError> {
        if self.shared.is_held() {
            return Err(StoreError::Invalid(HELD));
        }
        let sizes = self.shared.reader.segments()?;
        let mut horizon = self.horizon(covered.segment, &sizes)?;
        // A worker writes down how far it is about once a second.
        for _ in 0..WAITS {
            if horizon >= covered.segment || !self.asks.go_on() {
                break;
            }
            self.asks.pause(WAIT);
            horizon = self.horizon(covered.segment, &sizes)?;
        }
        let (old, kept): (Vec<_>, Vec<_>) = sizes
            .iter()
            .copied()
            .partition(|(number, _)| *number < horizon);
        let bytes_in = |number: u64| live.get(&number).map_or(0, |live| live.bytes);
        let segments: Vec<Segment> = old
            .iter()
            .map(|&(number, len)| Segment {
                number,
                len,
                live: bytes_in(number),
            })
            .collect();
        let others = kept.iter().map(|(_, len)| len).sum();
        let alive = sizes.iter().map(|(number, _)| bytes_in(*number)).sum();
        let chosen = choose(&segments, others, alive);
        let mut done = Compacted {
            before_bytes: sizes.iter().map(|(_, len)| len).sum(),
            ..Compacted::default()
        };
        let all = chosen.len();
        for (n, number) in chosen.into_iter().enumerate() {
            if !self.asks.go_on() {
                break;
            }
            self.asks
                .progress(&format!("compacting segment {} of {all}", n + 1));
            if !self.move_out(number, &mut done)? {
                done.damaged_segments += 1;
                continue;
            }
            let len = segments.iter().find(|s| s.number == number);
            self.remove(number)?;
            done.segments += 1;
            done.removed_bytes += len.map_or(0, |s| s.len);
            self.shared
                .telemetry
                .store
                .compacted(len.map_or(0, |s| s.len));
        }
        let after = self.shared.reader.segments()?;
        done.after_bytes = after.iter().map(|(_, len)| len).sum();
        Ok(done)
    }

    /// The first segment that has to stay: a worker may still have to read it.
    fn horizon(&self, covered: u64, sizes: &[(u64, u64)]) -> Result<u64, StoreError> {
        let shared = self.shared;
        let mut horizon = covered;
        for worker in [Worker::Push, Worker::Queue] {
            let key = keys::named(b'c', &[worker as u8]);
            let cursor: Option<LogPos> = shared.get(&key)?;
            let cursor = match cursor {
                Some(cursor) => cursor,
                // It has never come so far as to remember it.
                None if worker == Worker::Push && shared.is_fed() => LogPos::default(),
                None => continue,
            };
            let mut owed = None;
            let read = shared.reader.read_from(cursor, None, &mut |frame| {
                if frame.end.segment >= horizon {
                    return false;
                }
                let some = Group::decode(&frame.ops).map_or(true, |g| !changes(&g.ops).is_empty());
                if some {
                    owed = Some(frame.end.segment);
                }
                !some
            });
            read?;
            horizon = horizon.min(owed.unwrap_or(horizon));
        }
        // Whatever the numbers say, what is written to stays.
        let newest = sizes.last().map_or(0, |(number, _)| *number);
        Ok(horizon.min(newest))
    }

    fn is_wanted(&self, id: BlobId, place: &BlobPlace) -> Result<bool, StoreError> {
        let record: Option<BlobRecord> = self.shared.get(&keys::blob(id))?;
        Ok(record.is_some_and(|record| record.place == *place))
    }

    /// False where it can't be emptied.
    fn move_out(&self, number: u64, done: &mut Compacted) -> Result<bool, StoreError> {
        let (bodies, report) = self.shared.reader.bodies_in(number)?;
        let mut wanted = Vec::new();
        for (id, place) in bodies {
            if self.is_wanted(id, &place)? {
                wanted.push((id, place));
            }
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        for (id, place) in &wanted {
            match self.shared.blobs.stored(id, place) {
                Ok(body) => {
                    bytes += place.stored_len;
                    group.push((Arc::new(body), *place));
                }
                Err(error @ (LogError::Damaged(_) | LogError::Missing(_))) => {
                    let metrics = &self.shared.telemetry.store;
                    metrics.damaged_body(*id, &error.to_string());
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
            if bytes >= GROUP_BYTES || group.len() >= GROUP_BODIES {
                self.move_group(std::mem::take(&mut group), bytes, done)?;
                bytes = 0;
                if !self.asks.go_on() {
                    return Err(StoreError::Closed);
                }
            }
        }
        self.move_group(group, bytes, done)?;
        // A frame that can't be read may have had bodies that the index knows all the same.
        Ok(report.damaged_bytes == 0 || !self.has_any(number)?)
    }

    fn move_group(
        &self,
        group: Vec<(Arc<BlobData>, BlobPlace)>,
        bytes: u64,
        done: &mut Compacted,
    ) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let weight = usize::try_from(bytes).unwrap_or(usize::MAX);
        let bodies = group.len() as u64;
        let moved = self.asks.commit(
            weight,
            Box::new(move |tx: &mut Tx| {
                group.into_iter().try_for_each(|(body, from)| {
                    let there: Option<BlobRecord> = tx.get(&keys::blob(body.id))?;
                    if there.is_none_or(|there| there.place != from) {
                        return Ok(());
                    }
                    tx.fact(Op::BlobKept {
                        blob: body.id,
                        from,
                    })?;
                    tx.blobs.push(body);
                    Ok(())
                })
            }),
        );
        moved?;
        done.moved_bytes += bytes;
        done.moved_bodies += bodies;
        if self.rate > 0 {
            let pause = bytes as f64 / self.rate as f64;
            self.asks.owe(Duration::from_secs_f64(pause));
        }
        Ok(())
    }

    /// Looks through all places: rare.
    fn has_any(&self, number: u64) -> Result<bool, StoreError> {
        let mut found = false;
        self.shared.scan_from(b"b", None, &mut |_, value| {
            let record: BlobRecord = keys::decode(value)?;
            found = record.place.segment == number;
            Ok(!found)
        })?;
        Ok(found)
    }

    fn remove(&self, number: u64) -> Result<(), StoreError> {
        let index = (**self.shared.index.load()).clone();
        index
            .checkpoint()
            .map_err(|error| StoreError::Index(error.to_string()))?;
        let held = self.shared.files_held.lock();
        if *held > 0 {
            return Err(StoreError::Invalid(HELD));
        }
        self.shared
            .blobs
            .remove_segment(number)
            .map_err(StoreError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(number: u64, len: u64, live: u64) -> Segment {
        Segment { number, len, live }
    }

    #[test]
    fn the_emptiest_go_first() {
        let all = [
            segment(1, 100, 95),
            segment(2, 100, 0),
            segment(3, 100, 49),
            segment(4, 100, 60),
            segment(5, 100, 80),
        ];
        // 95 + 49 + 60 + 80 = 284 alive; without 2, 3 and 4 there are 309 bytes.
        assert_eq!(choose(&all, 0, 284), vec![2, 3, 4]);
        assert_eq!(choose(&all, 1_000_000, 1_000_284), vec![2, 3]);
        assert_eq!(choose(&[segment(1, 100, 95)], 0, 95), Vec::<u64>::new());
    }

    proptest! {
        /// Whatever was deleted: what is left is at most 1.3 times what is alive, where all
        /// segments may be chosen.
        #[test]
        fn little_is_left_over(
            lens in proptest::collection::vec((1..1000_u64, 0..=100_u64), 1..40),
        ) {
            let all: Vec<Segment> = (1..).zip(lens)
                .map(|(number, (len, share))| segment(number, len, len * share / 100))
                .collect();
            let live: u64 = all.iter().map(|s| s.live).sum();
            let chosen = choose(&all, 0, live);
            let left: u64 = all.iter()
                .map(|s| if chosen.contains(&s.number) { s.live } else { s.len })
                .sum();
            prop_assert!(left * 10 <= live * 13 + 10, "{left} of {live}");
        }
    }
}
