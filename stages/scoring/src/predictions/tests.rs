use std::fs;

use arrow_array::Int64Array;

use super::*;

fn prediction(id: &str, label: i64, prediction: i64) -> Prediction {
    let words = ["down", "up", "größer"];
    Prediction {
        id: id.to_owned(),
        label,
        prediction,
        label_text: words[label as usize].to_owned(),
        prediction_text: words[prediction as usize].to_owned(),
        num_samples: 16_000 + label,
        loss: 0.125 + prediction as f32,
        speaker: (label > 0).then(|| format!("s{label}")),
    }
}

fn transcription(id: &str, reference: &str, hypothesis: &str) -> Transcription {
    let (id, reference, hypothesis) = (id.to_owned(), reference.to_owned(), hypothesis.to_owned());
    Transcription { id, reference, hypothesis, num_samples: 8000, loss: 0.5, speaker: Some("ann".to_owned()) }
}

fn intents(id: &str, answers: &[(&str, &str, &str)]) -> Intents {
    let answer = |&(slot, label, prediction): &(&str, &str, &str)| SlotAnswer {
        slot: slot.to_owned(),
        label: label.to_owned(),
        prediction: prediction.to_owned(),
    };
    Intents { id: id.to_owned(), slots: answers.iter().map(answer).collect(), num_samples: 4000, loss: 1.5, speaker: None }
}

fn trial(enrol_id: &str, test_id: &str, score: f64, target: bool) -> Trial {
    Trial { enrol_id: enrol_id.to_owned(), test_id: test_id.to_owned(), score, target }
}

/// Writes rows in an order of their own, reads them back sorted, and again without knowing what they are.
#[track_caller]
fn check<R: PredictionRow + Clone + PartialEq + std::fmt::Debug>(sorted: &[R], wrapped: &Predictions) {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let mut turned = sorted.to_vec();
    turned.reverse();
    write(&one, sorted).unwrap();
    write(&other, &turned).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap(), "the order of the rows leaves the bytes alone");
    assert_eq!(read::<R>(&one).unwrap(), sorted);
    assert_eq!(read_any(&one).unwrap(), *wrapped);
    write::<R>(&one, &[]).unwrap();
    assert_eq!(read::<R>(&one).unwrap(), []);
    let twice = [sorted[0].clone(), sorted[0].clone()];
    assert!(matches!(write(&one, &twice).unwrap_err(), PredictionsError::Duplicate { .. }));
}

#[test]
fn every_kind_of_row_comes_back_sorted() {
    let rows = vec![prediction("a", 0, 2), prediction("b", 1, 1), prediction("c", 2, 0)];
    check(&rows, &Predictions::Classes(rows.clone()));
    let rows = vec![transcription("a", "größer", ""), transcription("b", "", "x y")];
    check(&rows, &Predictions::Texts(rows.clone()));
    let synthesised = |id: &str, sound| Synthesised {
        text: transcription(id, "x", "y"),
        voice: Voice { similarity: 0.5, nearest: "bob".to_owned() },
        sound,
    };
    let sound = Sound {
        mcd: 3.0,
        squared_cents: None,
        gross_pitch_error: Some(0.5),
        voicing_error: 0.25,
        duration_error: -0.1,
        variance_ratio: Some(0.75),
    };
    let rows = vec![synthesised("a", Some(sound)), synthesised("b", None)];
    // What was heard can be read as texts.
    check(&rows, &Predictions::Texts(rows.iter().map(|row| row.text.clone()).collect()));
    let two = [("action", "activate", "activate"), ("object", "none", "lamp")];
    let rows = vec![intents("a", &two), intents("b", &[]), intents("c", &two[..1])];
    check(&rows, &Predictions::Intents(rows.clone()));
    let rows = vec![trial("a", "b", -0.25, true), trial("a", "c", 1e-300, false), trial("b", "a", 2.0, true)];
    check(&rows, &Predictions::Trials(rows.clone()));
}

#[test]
fn a_loss_that_is_not_a_number_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    write(&path, &[Transcription { loss: f32::NAN, ..transcription("a", "x", "y") }]).unwrap();
    assert!(read::<Transcription>(&path).unwrap()[0].loss.is_nan());
}

#[test]
fn two_answers_to_one_utterance_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let error = write(&path, &[prediction("a", 0, 1), prediction("a", 0, 2)]).unwrap_err();
    assert_eq!(error.to_string(), "utterance `a` has two predictions, expected one");
    let error = write(&path, &[trial("a", "b", 0.0, true), trial("a", "b", 1.0, true)]).unwrap_err();
    assert_eq!(error.to_string(), "utterance `a, b` has two predictions, expected one");
}

#[test]
fn what_is_not_predictions_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.parquet");
    fs::write(&path, b"no parquet at all").unwrap();
    assert!(matches!(
        read::<Prediction>(&path).unwrap_err(),
        PredictionsError::Read(datasets::parquet_file::ParquetFileError::Parquet { .. })
    ));

    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let message = read::<Transcription>(&path).unwrap_err().to_string();
    assert!(message.ends_with("holds no predictions of texts: column `id` should be Utf8, found Int64"), "{message}");
    let message = read_any(&path).unwrap_err().to_string();
    assert!(message.ends_with("holds no predictions: its columns are `id`"), "{message}");
    assert!(matches!(
        read_any(&folder.path().join("absent")).unwrap_err(),
        PredictionsError::Read(datasets::parquet_file::ParquetFileError::Io { .. })
    ));

    write(&path, &[transcription("a", "x", "y")]).unwrap();
    let message = read::<Prediction>(&path).unwrap_err().to_string();
    assert!(message.contains("holds no predictions of classes: column `label` should be Int64"), "{message}");
}
