#![no_main]
//! Begins from the label files of the miniature of `audio_snips`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("audio_snips"), |file: &[u8]| fuzz::labels::list("audio_snips", file));
