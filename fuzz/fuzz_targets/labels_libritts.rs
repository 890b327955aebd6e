#![no_main]
//! Begins from the label files of the miniature of `libritts`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("libritts"), |file: &[u8]| fuzz::labels::list("libritts", file));
