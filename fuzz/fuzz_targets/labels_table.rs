#![no_main]
//! Begins from the label files of the miniature of `table`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("table"), |file: &[u8]| fuzz::labels::list("table", file));
