#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rcapture_fuzz::device_tree(data));
