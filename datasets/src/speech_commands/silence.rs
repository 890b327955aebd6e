//! The `_silence_` class: whole seconds of the background recordings.

use std::path::Path;

use super::BACKGROUND;
use crate::folder::{entries, wav_stem};
use crate::{Annotation, CorpusError, Length, Listing, Span, Split, Utterance};

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
        let found = wav_stem(&entry).and_then(|stem| {
            let length = Length::read(&root.join(&path));
            Ok((stem, length.ok_or("its header does not say how long it lasts, so no seconds can be cut from it")?))
        });
        let (stem, length) = match found {
            Ok(found) => found,
            Err(reason) => {
                listing.skip(path, reason);
                continue;
            }
        };
        let rate = u64::from(length.sample_rate);
        let seconds = length.num_samples / rate;
        for second in 0..seconds {
            let split = match second {
                _ if second * 10 < seconds * 8 => Split::Train,
                _ if second * 10 < seconds * 9 => Split::Dev,
                _ => Split::Test,
            };
            listing.utterances.push(Utterance {
                span: Some(Span { start: second * rate, num_samples: rate }),
                annotation: Annotation { label: Some(label.to_owned()), ..Annotation::default() },
                ..Utterance::new(format!("{label}/{stem}_{second:04}"), path.clone(), split)
            });
        }
    }
    Ok(())
}
