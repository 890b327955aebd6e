#![no_main]
//! Begins from the AIFF, AU, CAF, SPHERE and W64 recordings of `stages/audio/codec/fixtures`.
libfuzzer_sys::fuzz_target!(init: fuzz::begin(), |file: &[u8]| fuzz::prepare(file));
