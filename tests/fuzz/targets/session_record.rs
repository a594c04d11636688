//! Feeds `pingora_bff::fuzzing::session_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingora_bff::fuzzing::session_record(data));
