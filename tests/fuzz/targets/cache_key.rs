//! Feeds `pingora_bff::fuzzing::cache_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::cache_key(data));
