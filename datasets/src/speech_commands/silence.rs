//! The `_silence_` class: whole seconds of the background recordings.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::BACKGROUND;
use crate::folder::{entries, wav_stem};
use crate::{CorpusError, Listing, Span, Split, Utterance};

/// Adds every whole second of every background recording: the first 80 % of a recording's seconds to train, the next 10 % to
/// dev, the rest to test. Neighbouring seconds sound alike, so each split takes one stretch and not every tenth second.
pub(super) fn list(root: &Path, label: &str, listing: &mut Listing) -> Result<(), CorpusError> {
    let folder = root.join(BACKGROUND);
    if !folder.is_dir() {
        listing.skip(BACKGROUND, "not there, so there are no training examples of silence");
        return Ok(());
    }
    for entry in entries(&folder)? {
        let path = format!("{BACKGROUND}/{}", entry.name);
        if entry.name == "README.md" {
            continue;
        }
        let found = wav_stem(&entry).and_then(|stem| Ok((stem, Length::read(&root.join(&path))?)));
        let (stem, length) = match found {
            Ok(found) => found,
            Err(reason) => {
                listing.skip(path, reason);
                continue;
            }
        };
        let seconds = length.num_samples / length.sample_rate;
        for second in 0..seconds {
            let split = match second {
                _ if second * 10 < seconds * 8 => Split::Train,
                _ if second * 10 < seconds * 9 => Split::Dev,
                _ => Split::Test,
            };
            listing.utterances.push(Utterance {
                span: Some(Span { start: second * length.sample_rate, num_samples: length.sample_rate }),
                label: Some(label.to_owned()),
                ..Utterance::new(format!("{label}/{stem}_{second:04}"), path.clone(), split)
            });
        }
    }
    Ok(())
}

/// How long a recording is by its header.
struct Length {
    sample_rate: u64,
    num_samples: u64,
}

impl Length {
    /// Reads the 44-byte header of plain PCM, as all background recordings have it.
    fn read(path: &Path) -> Result<Self, &'static str> {
        let mut header = [0_u8; 44];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut header))
            .map_err(|_| "shorter than a WAV header, or unreadable")?;
        let word = |at: usize| u64::from(u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        if &header[..4] != b"RIFF" || &header[8..16] != b"WAVEfmt " || &header[36..40] != b"data" {
            return Err("not a WAV file with a plain 44-byte header");
        }
        let (sample_rate, block) = (word(24), u64::from(u16::from_le_bytes([header[32], header[33]])));
        if sample_rate == 0 || block == 0 {
            return Err("a sample rate or block size of 0 in its header");
        }
        Ok(Self { sample_rate, num_samples: word(40) / block })
    }
}
