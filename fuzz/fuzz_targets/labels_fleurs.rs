#![no_main]
//! Begins from the label files of the miniature of `fleurs`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("fleurs"), |file: &[u8]| fuzz::labels::list("fleurs", file));
