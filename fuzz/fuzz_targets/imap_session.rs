//! An IMAP session, byte by byte from a stranger.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::imap::fuzz_session(input));
