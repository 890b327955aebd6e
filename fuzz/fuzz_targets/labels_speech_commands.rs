#![no_main]
//! Begins from the label files of the synthetic copy of `speech_commands`.
libfuzzer_sys::fuzz_target!(init: fuzz::labels::begin("speech_commands"), |file: &[u8]| fuzz::labels::list("speech_commands", file));
