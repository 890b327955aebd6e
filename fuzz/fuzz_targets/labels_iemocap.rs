#![no_main]
//! Begins from the label files of the miniature of `iemocap`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("iemocap"), |file: &[u8]| fuzz::labels::list("iemocap", file));
