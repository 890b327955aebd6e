#![no_main]
//! Begins from the label files of the miniature of `l2_arctic`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("l2_arctic"), |file: &[u8]| fuzz::labels::list("l2_arctic", file));
