//! Reads the streams of feature shards, one utterance at a time.

use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use datasets::parquet_file::{ParquetFile, ParquetFileError};
use datasets::shard::{RowInfo, SHARD};

use super::shard::COLUMN;
use super::{FEATURES, FeatureInfo, Format, StreamInfo};

/// A feature shard: rows in memory, streams on disk.
#[derive(Debug)]
pub struct StreamReader {
    path: PathBuf,
    info: FeatureInfo,
    rows: Vec<RowInfo>,
}

impl StreamReader {
    /// Opens a shard and reads its rows without their streams. They are in order of id, as all stages write them.
    ///
    /// Errors: [`ParquetFileError`]; a shard of audio is one.
    pub fn open(path: &Path) -> Result<Self, ParquetFileError> {
        let file = ParquetFile::open(path, SHARD)?;
        let text = file.note(FEATURES).ok_or_else(|| file.layout("expected features, found a shard of audio".to_owned()))?;
        let info = serde_json::from_str(text).map_err(|error| file.layout(format!("metadata `{FEATURES}`: {error}")))?;
        let is_stream = |column: &str| column == COLUMN || column.starts_with("features_");
        let (rows, _) = RowInfo::read(path, |column| !is_stream(column))?;
        Ok(Self { path: path.to_owned(), info, rows })
    }

    /// Path of the shard.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Description of the streams.
    pub fn info(&self) -> &FeatureInfo {
        &self.info
    }

    /// All rows.
    pub fn rows(&self) -> &[RowInfo] {
        &self.rows
    }

    /// Returns the streams of a row: the frames, one after the other, then the numbers of the streams of these names.
    ///
    /// Errors: [`ParquetFileError`]; a stream that the shard has not.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn load(&self, row: usize, names: &[&str]) -> Result<Vec<Vec<f32>>, ParquetFileError> {
        assert!(row < self.rows.len(), "row {row} of {}", self.rows.len());
        let file = ParquetFile::open_indexed(&self.path, SHARD)?;
        let mut columns = vec![(COLUMN.to_owned(), self.info.format)];
        for name in names {
            let stream = self.info.stream(name).ok_or_else(|| file.layout(self.lacking(name)))?;
            columns.push((stream.column(), stream.format));
        }
        let wanted = |path: &str| columns.iter().any(|(column, _)| column == path);
        let lost = file.layout(format!("expected the streams of row {row}, found none"));
        let Some(batch) = file.some_rows(&[row as u64], wanted)?.next().transpose()? else { return Err(lost) };
        let numbers = |(column, format): &(String, Format)| {
            let values = batch.find(column).and_then(|values| values.as_binary_opt::<i32>()).filter(|values| values.len() == 1);
            let values =
                values.ok_or_else(|| batch.layout(format!("expected one value of `{column}` in row {row}, found none")))?;
            Ok(format.decode(values.value(0)))
        };
        columns.iter().map(numbers).collect()
    }

    /// Returns a further stream of all rows, in their order.
    ///
    /// Errors: [`ParquetFileError`]; a stream that the shard has not.
    pub fn whole(&self, name: &str) -> Result<Vec<Vec<f32>>, ParquetFileError> {
        let file = ParquetFile::open(&self.path, SHARD)?;
        let stream = self.info.stream(name).ok_or_else(|| file.layout(self.lacking(name)))?;
        let (column, format) = (stream.column(), stream.format);
        let mut rows = Vec::with_capacity(self.rows.len());
        for batch in file.rows(|path| path == column)? {
            let batch = batch?;
            let values = batch.find(&column).and_then(|values| values.as_binary_opt::<i32>());
            let values = values.ok_or_else(|| batch.layout(format!("expected `{column}` as bytes")))?;
            rows.extend(values.iter().map(|bytes| format.decode(bytes.unwrap_or_default())));
        }
        Ok(rows)
    }

    fn lacking(&self, name: &str) -> String {
        let names: Vec<String> = self.info.streams.iter().map(|StreamInfo { name, .. }| format!("`{name}`")).collect();
        let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("expected a stream `{name}`, found {found}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pipeline::{Spare, Stage, StageError};

    use super::*;
    use crate::features::shard::FILES;
    use crate::features::stages::{LogMel, TrackPitch, run_log_mel, run_pitch};
    use crate::testing::Fixture;

    /// Rate of the shards of the bench, in Hz.
    const RATE: u32 = 16_000;

    fn log_mel(recipe: &str, energy: &str) -> LogMel {
        let json = serde_json::json!({
            "sample_rate": RATE, "n_fft": 1024, "hop_length": 200, "win_length": 800, "num_mel_bins": 20,
            "low_hz": 0.0, "high_hz": 8000.0, "recipe": recipe, "format": "f32", "energy": energy,
        });
        serde_json::from_value(json).unwrap()
    }

    fn pitch(hop_length: u32) -> TrackPitch {
        TrackPitch { sample_rate: RATE, hop_length, frame_length: 1024, min_hz: 60.0, max_hz: 400.0, mean_threshold: 0.1 }
    }

    /// Shards of a corpus of one digit, and a spectrogram of them.
    fn features(bench: &Fixture, params: &LogMel) -> (PathBuf, PathBuf) {
        let manifest = bench.manifest("manifest", 1).unwrap();
        let shards = bench.shards("shards", &manifest, 0, 1).unwrap();
        let job = bench.job("mel", &[("shards", shards.clone())], None);
        assert_eq!(params.check(), []);
        run_log_mel(params, &job).unwrap();
        (shards, job.out)
    }

    fn track(bench: &Fixture, params: &TrackPitch, shards: &Path, mel: &Path, out: &str) -> Result<PathBuf, StageError> {
        assert_eq!(params.check(), []);
        let job = bench.job(out, &[("shards", shards.to_owned()), ("features", mel.to_owned())], None);
        run_pitch(params, &job)?;
        Ok(job.out)
    }

    #[test]
    fn all_streams_of_a_shard_have_the_same_frames() {
        for (recipe, centred) in [("tacotron", true), ("speecht5", true), ("hifigan", false)] {
            let bench = Fixture::new(1);
            let (shards, mel) = features(&bench, &log_mel(recipe, "log"));
            let out = track(&bench, &pitch(200), &shards, &mel, "pitch").unwrap();
            let reader = StreamReader::open(&out.join("train.parquet")).unwrap();
            let before = StreamReader::open(&mel.join("train.parquet")).unwrap();
            assert_eq!(reader.rows(), RowInfo::read(&shards.join("train.parquet"), |_| true).unwrap().0);
            assert_eq!(reader.rows().len(), 4);
            let names: Vec<&str> = reader.info().streams.iter().map(|stream| stream.name.as_str()).collect();
            assert_eq!(names, ["energy", "f0", "voicing"]);
            for (row, info) in reader.rows().iter().enumerate() {
                let streams = reader.load(row, &["energy", "f0", "voicing"]).unwrap();
                assert_eq!(streams[..2], before.load(row, &["energy"]).unwrap());
                let num_frames = info.num_samples / 200 + usize::from(centred);
                let lengths: Vec<usize> = streams.iter().map(Vec::len).collect();
                assert_eq!(lengths, [num_frames * 20, num_frames, num_frames, num_frames], "{recipe}");
                assert!(streams[3].iter().all(|voicing| (0.0..=1.0).contains(voicing)));
            }
            let error = reader.load(0, &["durations"]).unwrap_err().to_string();
            assert!(error.ends_with("expected a stream `durations`, found `energy`, `f0`, `voicing`"), "{error}");
            let error = track(&bench, &pitch(200), &shards, &out, "twice").unwrap_err().to_string();
            assert!(error.ends_with("has a stream `f0` already"), "{error}");
        }
    }

    #[test]
    fn a_track_does_not_depend_on_the_number_of_threads() {
        let bench = Fixture::new(3);
        let (shards, mel) = features(&bench, &log_mel("tacotron", "log"));
        let alone = track(&bench, &pitch(200), &shards, &mel, "alone").unwrap();
        let mut job = bench.job("helped", &[("shards", shards), ("features", mel)], None);
        job.spare = Spare::of(3);
        run_pitch(&pitch(200), &job).unwrap();
        for file in FILES {
            assert_eq!(std::fs::read(job.out.join(file)).unwrap(), std::fs::read(alone.join(file)).unwrap(), "{file}");
        }
    }

    #[test]
    fn a_track_of_another_hop_or_corpus_is_refused() {
        let bench = Fixture::new(1);
        let (shards, mel) = features(&bench, &log_mel("tacotron", "linear"));
        let error = track(&bench, &pitch(100), &shards, &mel, "hop").unwrap_err();
        assert!(error.to_string().contains("with a hop of 100 samples"), "{error}");
        let other = Fixture::new(2);
        let (_, of_two) = features(&other, &log_mel("tacotron", "linear"));
        let shards_of_two = other.folder.path().join("shards");
        let error = track(&bench, &pitch(200), &shards_of_two, &mel, "few").unwrap_err();
        assert!(error.to_string().contains("where the shards have"), "{error}");
        assert!(track(&other, &pitch(200), &shards_of_two, &of_two, "same").is_ok());
        let wrong = TrackPitch { frame_length: 200, max_hz: 9e3, ..pitch(200) };
        assert_eq!(wrong.check().iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["max_hz", "frame_length"]);
    }

    #[test]
    fn a_shard_of_audio_has_no_streams() {
        let bench = Fixture::new(1);
        let (shards, _) = features(&bench, &log_mel("tacotron", "log"));
        let error = StreamReader::open(&shards.join("train.parquet")).unwrap_err().to_string();
        assert!(error.ends_with("expected features, found a shard of audio"), "{error}");
    }
}
