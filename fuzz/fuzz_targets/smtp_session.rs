//! An SMTP session, byte by byte from a stranger.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::smtp::fuzz_session(input));
