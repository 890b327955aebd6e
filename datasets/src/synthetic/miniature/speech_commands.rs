//! Speech Commands 0.02: what [`write_speech_commands`](crate::synthetic::write_speech_commands) writes, smaller, with quirks.

use super::Studio;
use crate::synthetic::{Options, SynthesisError, write_aside};

pub(super) fn write(studio: &mut Studio) -> Result<(), SynthesisError> {
    let mut words = ["yes", "no", "stop", "cat"].map(str::to_owned).to_vec();
    if studio.is_varied() {
        words.extend(Options::quickstart().words);
    }
    let (speakers, takes, seed) = (3 + studio.options.more_speakers, studio.options.takes, studio.options.seed);
    let options = Options { speakers, takes, seed, words, ..Options::quickstart() };
    studio.written = write_aside(&studio.folder, &options)?;
    studio.text("yes/hello.wav", "")?;
    studio.text("bananas/0a7c2a8d_nohash_0.wav", "")?;
    studio.debris("yes/0a7c2a8d_nohash_0.wav")
}
