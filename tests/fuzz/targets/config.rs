//! Feeds `pingora_bff::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::config(data));
