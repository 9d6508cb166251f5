#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ioto::web::fuzzing::cookie(input));
