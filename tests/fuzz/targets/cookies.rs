//! Feeds `pingora_bff::fuzzing::cookies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::cookies(data));
