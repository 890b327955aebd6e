//! Turns a corpus into shards without an engine, on one thread, and says how fast that is.
//!
//! ```text
//! cargo run --release -p audio --example shard_speed -- fsdd ../shared/corpora/fsdd
//! cargo run --release -p audio --example shard_speed                # synthesises a corpus at 48 kHz
//! ```
//!
//! Counted is the stage `audio.shards` from files to Parquet (read, hash, decode, resample, write), best of three runs.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use audio::manifest::{self, Manifest};
use audio::reader::ShardReader;
use audio::recording::Format;
use audio::shards::{self, Shards};
use datasets::synthetic::{Options, write_speech_commands};
use datasets::table::ColumnNames;
use pipeline::source::{Tree, TreeFile};
use pipeline::{Digest, Input, Inputs, Job, Places, Silent, Spare, Stop, Tools};

#[expect(clippy::print_stdout, reason = "an example talks to its user")]
fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (corpus, root) = match arguments.as_slice() {
        [corpus, root] => (corpus.clone(), PathBuf::from(root)),
        _ => ("speech_commands".to_owned(), synthesised(scratch.path(), 48_000)?),
    };
    let place = format!("corpora.{corpus}");
    let tree = hashed(&corpus, &root)?;
    let job = |name: &str, inputs: &[(&str, PathBuf)]| job(scratch.path(), name, inputs, (&place, &tree));

    let listing = job("manifest", &[])?;
    manifest::run(
        &Manifest {
            corpus,
            protocol: None,
            tables: Vec::new(),
            columns: ColumnNames::default(),
            max_missing_share: None,
            partitions: 1,
        },
        &listing,
    )?;
    let inputs = [("manifest", listing.out.join("parts/00000")), ("labels", listing.out.join("labels.json"))];
    let mut fastest = f64::INFINITY;
    for run in 0..3 {
        let job = job(&format!("shards{run}"), &inputs)?;
        let params = Shards {
            sample_rate: 16_000,
            max_reject_share: 0.0,
            format: Format::Wav,
            min_duration_secs: None,
            max_duration_secs: None,
        };
        let started = Instant::now();
        shards::run(&params, &job)?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }

    let files = ["train", "dev", "test"].map(|split| scratch.path().join(format!("shards0/{split}.parquet")));
    let shards = ShardReader::open(&files)?;
    let audio_secs = shards.rows().iter().map(|row| row.num_samples).sum::<usize>() as f64 / 16_000.0;
    let clips = shards.rows().len();
    println!("{clips} clips, {audio_secs:.0} s of audio: {fastest:.3} s, {:.0} times real time", audio_secs / fastest);

    let (started, mut samples) = (Instant::now(), Vec::new());
    for row in 0..clips {
        shards.load_into(row, &mut samples)?;
    }
    let secs = started.elapsed().as_secs_f64();
    println!("reading the clips back: {secs:.3} s, {:.0} clips per second", clips as f64 / secs);
    Ok(())
}

/// Seven minutes of words.
fn synthesised(scratch: &Path, sample_rate: u32) -> Result<PathBuf, Box<dyn Error>> {
    let root = scratch.join("corpus");
    write_speech_commands(&root, &Options { sample_rate, ..Options::quickstart() })?;
    Ok(root)
}

/// Hashes a corpus as the engine does for a stage that reads outside files.
fn hashed(corpus: &str, root: &Path) -> Result<Tree, Box<dyn Error>> {
    let reader = datasets::find(corpus).ok_or("no such reader")?;
    let paths: BTreeSet<_> =
        reader.list(root, reader.protocol(None)?)?.utterances.into_iter().map(|utterance| utterance.path).collect();
    let file = |path: String| {
        let bytes = fs::read(root.join(&path))?;
        Ok(TreeFile { size: bytes.len() as u64, digest: Digest::of(&bytes), path })
    };
    let files = paths.into_iter().map(file).collect::<std::io::Result<_>>()?;
    Ok(Tree { root: root.to_owned(), files })
}

fn job(scratch: &Path, name: &str, inputs: &[(&str, PathBuf)], place: (&str, &Tree)) -> Result<Job, Box<dyn Error>> {
    let out = scratch.join(name);
    fs::create_dir_all(&out)?;
    let input = |path: &PathBuf| vec![Input { path: path.clone(), point: BTreeMap::new(), partition: None }];
    let (place, tree) = place;
    Ok(Job {
        inputs: Inputs(inputs.iter().map(|(slot, path)| ((*slot).to_owned(), input(path))).collect()),
        sources: [(place.to_owned(), Arc::new(tree.clone()))].into(),
        places: Places([(place.to_owned(), tree.root.clone())].into()),
        partition: None,
        resume: scratch.join("resume"),
        out,
        threads: 1,
        spare: Spare::default(),
        tools: Tools::default(),
        gpu: None,
        others: vec![],
        progress: Box::new(Silent),
        stop: Stop::default(),
    })
}
