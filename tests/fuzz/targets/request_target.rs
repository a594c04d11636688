//! Feeds `pingora_bff::fuzzing::request_target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::request_target(data));
