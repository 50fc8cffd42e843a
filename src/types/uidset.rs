//! Sets of UIDs or sequence numbers as sorted, disjoint ranges (RFC 9051, `sequence-set`).

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Sorted, disjoint, non-adjacent ranges of numbers > 0. `Display` writes `1:4,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UidSetError {
    #[error("zero in a sequence set")]
    Zero,
}

impl UidSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn single(uid: u32) -> Self {
        Self::from_ranges([(uid, uid)])
    }

    /// From ranges in any order, overlapping or reversed ones included. Zeros are left out.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all: Vec<(u32, u32)> = ranges
            .into_iter()
            .map(|(a, b)| (a.min(b).max(1), a.max(b)))
            .filter(|(_, hi)| *hi > 0)
            .collect();
        all.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (lo, hi) in all {
            match out.last_mut() {
                Some(last) if lo <= last.1.saturating_add(1) => last.1 = last.1.max(hi),
                _ => out.push((lo, hi)),
            }
        }
        Self { ranges: out }
    }

    /// Adds one number. Cheap when numbers come in rising order.
    pub fn insert(&mut self, n: u32) {
        if n == 0 || self.contains(n) {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if n == last.1.wrapping_add(1) => last.1 = n,
            Some(last) if n < last.0 => {
                let mut all = std::mem::take(&mut self.ranges);
                all.push((n, n));
                *self = Self::from_ranges(all);
            }
            _ => self.ranges.push((n, n)),
        }
    }

    pub fn contains(&self, n: u32) -> bool {
        let at = self.ranges.partition_point(|(_, hi)| *hi < n);
        self.ranges.get(at).is_some_and(|(lo, _)| *lo <= n)
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|(lo, hi)| u64::from(hi - lo) + 1)
            .sum()
    }

    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u32>> + '_ {
        self.ranges.iter().map(|(lo, hi)| *lo..=*hi)
    }

    /// All numbers in rising order. Beware of `1:4294967295`: intersect first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flatten()
    }
}

impl FromIterator<u32> for UidSet {
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> Self {
        let mut set = Self::new();
        for n in iter {
            set.insert(n);
        }
        set
    }
}

impl fmt::Display for UidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (lo, hi)) in self.ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if lo == hi {
                write!(f, "{lo}")?
            } else {
                write!(f, "{lo}:{hi}")?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        let set = UidSet::from_ranges([(5, 3), (1, 1), (2, 2), (9, 9), (4, 7), (0, 0)]);
        assert_eq!(set.to_string(), "1:7,9");
        assert!(set.contains(7) && !set.contains(8));
        assert_eq!(set.len(), 8);
    }

    #[test]
    fn inserts_in_any_order() {
        let set: UidSet = [3, 1, 2, 10, 3].into_iter().collect();
        assert_eq!(set.to_string(), "1:3,10");
        let mut top = UidSet::from_ranges([(1, u32::MAX)]);
        top.insert(u32::MAX);
        assert_eq!(top.to_string(), "1:4294967295");
    }
}
