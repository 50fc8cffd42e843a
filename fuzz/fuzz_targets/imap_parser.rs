//! One IMAP command.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::imap::fuzz_parser(input));
