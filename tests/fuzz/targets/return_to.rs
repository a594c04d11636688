//! Feeds `pingora_bff::fuzzing::return_to`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::return_to(data));
