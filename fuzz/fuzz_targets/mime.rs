//! A message: MIME walker, sections, wire forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::mail::fuzz_walk(input));
