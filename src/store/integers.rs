//! Integers in the store's files: big-endian; beyond the end there is nothing but zeros.
//!
//! May import: nothing of ours. Machine: no IO, no clock, no randomness.

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
    raw.map_or(0, |raw| u32::from_be_bytes(*raw))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
    raw.map_or(0, |raw| u64::from_be_bytes(*raw))
}
