#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shiftgate_fuzz_targets::target("smoke")(data));
