#![no_main]
//! Begins from the label files of the miniature of `esd`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("esd"), |file: &[u8]| fuzz::labels::list("esd", file));
