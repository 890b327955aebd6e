//! Shared body of the fuzz targets of decoders: prepares a recording that may be anything. It must give a clip or a reason; our own code
//! must not panic, and symphonia's panics must stay within [`Preparer`]. [`labels`] does the same for label files.

pub mod labels;

use std::cell::RefCell;

use codec::recording::{Format, Preparer, Target};

/// libFuzzer stops at every panic, also at one that is caught: here only at those of our own code.
pub fn begin() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or("", |location| location.file());
        if !["symphonia", "parquet-", "arrow-", "thrift"].iter().any(|guarded| place.contains(guarded)) {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

/// Prepares it as FLAC, so that the encoder sees everything too.
pub fn prepare(file: &[u8]) {
    thread_local! {
        static PREPARER: RefCell<Preparer<'static>> =
            RefCell::new(Preparer::new(Target { sample_rate: 16_000, format: Format::Flac }));
    }
    // A file of a few kilobytes that decodes to hours is a bomb, and bounded elsewhere; here it would only be slow.
    let result = PREPARER.with_borrow_mut(|preparer| preparer.prepare_bytes(file.to_vec(), None));
    if let Ok(clip) = result {
        assert!(clip.num_samples > 0 && !clip.bytes.is_empty());
    }
}
