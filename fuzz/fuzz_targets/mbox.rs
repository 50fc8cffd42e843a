//! An mbox file, in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::transfer::mbox::fuzz(input));
