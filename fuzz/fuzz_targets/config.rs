//! A configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::config::fuzz_config(input));
