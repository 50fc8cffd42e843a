//! A segment of the full-text index as it may stand on a damaged disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::store::fuzz_fulltext(input));
