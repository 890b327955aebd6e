#![no_main]
//! Begins from the label files of the miniature of `meld`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("meld"), |file: &[u8]| fuzz::labels::list("meld", file));
