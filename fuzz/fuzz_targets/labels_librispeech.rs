#![no_main]
//! Begins from the label files of the miniature of `librispeech`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("librispeech"), |file: &[u8]| fuzz::labels::list("librispeech", file));
