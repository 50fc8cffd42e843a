//! Devices whose push service has no host any more: after a week they are gone. Remembered over
//! restarts, because a week is longer than a server runs.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::BTreeMap;

use super::Target;
use super::run::DAY;
use crate::types::{AccountId, DeviceId, UnixMillis};

/// For so long there must be no host of that name.
const WEEK: u64 = 7 * DAY;
/// Looks further apart than this say nothing about the time between them.
const MAX_GAP: u64 = 3 * DAY;
/// Those that are kept for a restart, the oldest first: a setting holds 4 KiB.
const MAX_KEPT: usize = 200;
/// Account, device, time.
const ENTRY: usize = 4 + 4 + 8;

/// Since when, and when it was last seen to be so.
#[derive(Debug, Default)]
pub(super) struct Lost {
    devices: BTreeMap<Target, (UnixMillis, UnixMillis)>,
    changed: bool,
}

impl Lost {
    /// No host was found. True where the device is gone.
    pub(super) fn not_found(&mut self, now: UnixMillis, to: Target) -> bool {
        let entry = self.devices.get_mut(&to);
        match entry.filter(|(_, last)| now.since(*last) <= MAX_GAP) {
            Some((since, last)) => {
                *last = now;
                now.since(*since) >= WEEK
            }
            None => {
                self.devices.insert(to, (now, now));
                self.changed = true;
                false
            }
        }
    }

    /// There is a host, or no such device any more.
    pub(super) fn forget(&mut self, to: Target) {
        self.changed |= self.devices.remove(&to).is_some();
    }

    pub(super) fn restore(&mut self, to: Target, since: UnixMillis, last: UnixMillis) {
        self.devices.insert(to, (since, last));
    }

    /// The clock was set back: nothing was seen later than now.
    pub(super) fn set_back(&mut self, now: UnixMillis) {
        for (since, last) in self.devices.values_mut() {
            self.changed |= *since > now;
            (*since, *last) = ((*since).min(now), (*last).min(now));
        }
    }

    /// What is to be kept, if that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Option<Vec<(Target, UnixMillis)>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut kept: Vec<_> = self.devices.iter().map(|(to, at)| (*to, at.0)).collect();
        kept.sort_by_key(|(_, since)| *since);
        kept.truncate(MAX_KEPT);
        Some(kept)
    }
}

/// For the store.
pub(crate) fn encode(lost: &[(Target, UnixMillis)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lost.len() * ENTRY);
    for ((account, device), since) in lost {
        bytes.extend(account.0.to_be_bytes());
        bytes.extend(device.0.to_be_bytes());
        bytes.extend(since.0.to_be_bytes());
    }
    bytes
}

/// From the store; what is no whole entry is left out.
pub(crate) fn decode(bytes: &[u8]) -> Vec<(Target, UnixMillis)> {
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let small = |bytes: &[u8]| u32::try_from(number(bytes)).unwrap_or_default();
    let entry = |entry: &[u8; ENTRY]| {
        let to = (AccountId(small(&entry[..4])), DeviceId(small(&entry[4..8])));
        (to, UnixMillis(number(&entry[8..])))
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_read_back() {
        let mut lost = Lost::default();
        for n in 0..300 {
            lost.not_found(
                UnixMillis(1 << 40 | u64::from(300 - n)),
                (AccountId(n), DeviceId(7)),
            );
        }
        let kept = lost.take_changed().expect("changed");
        assert_eq!((kept.len(), lost.take_changed()), (MAX_KEPT, None));
        assert_eq!(kept[0].0, (AccountId(299), DeviceId(7)), "the oldest first");
        let bytes = encode(&kept);
        assert!(bytes.len() < 3900);
        assert_eq!(decode(&bytes), kept);
        assert_eq!(decode(&bytes[..ENTRY + 3]), kept[..1]);
    }
}
