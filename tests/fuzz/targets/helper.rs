#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ioto_wire::fuzzing::frame(input));
