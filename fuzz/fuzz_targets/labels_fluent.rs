#![no_main]
//! Begins from the label files of the miniature of `fluent_speech_commands`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("fluent_speech_commands"), |file: &[u8]| fuzz::labels::list("fluent_speech_commands", file));
