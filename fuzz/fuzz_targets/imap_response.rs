//! Responses of an IMAP server, in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::transfer::imap::response::fuzz(input));
