//! A Web Push subscription as a client sends it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| posthorn::push::fuzz_subscription(input));
