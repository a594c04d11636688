//! Feeds `pingora_bff::fuzzing::provider_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::provider_answer(data));
