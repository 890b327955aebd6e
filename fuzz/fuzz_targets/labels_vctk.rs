#![no_main]
//! Begins from the label files of the miniature of `vctk`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("vctk"), |file: &[u8]| fuzz::labels::list("vctk", file));
