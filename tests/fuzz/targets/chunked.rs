#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ioto::http1::fuzzing::chunked(input));
