#![no_main]
//! Begins from the wav recordings of `stages/audio/codec/fixtures`.
libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |file: &[u8]| fuzz::prepare(file));
