use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use pipeline::{Inputs, Places, Silent, Spare, Stop, Tools};

use super::*;
use crate::predictions::{Sound, Transcription, Voice};

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>, note: Option<(&str, &str)>) {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), schema, None).unwrap();
    if let Some((key, text)) = note {
        writer.append_key_value_metadata(parquet::file::metadata::KeyValue::new(key.to_owned(), text.to_owned()));
    }
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn texts_of(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Columns of a shard without its audio.
fn annotation(ids: &[&str]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("id", texts_of(ids)),
        ("speaker", texts_of(&vec!["ann"; ids.len()])),
        ("transcript", texts_of(&vec!["one <two>"; ids.len()])),
        ("sample_rate", Arc::new(Int32Array::from(vec![8_000; ids.len()]))),
        ("num_samples", Arc::new(Int64Array::from(vec![4; ids.len()]))),
    ]
}

/// Clips, features and judgements of one column, each in a folder.
fn column(folder: &Path, ids: &[&str], synthesised: bool) {
    for part in ["clips", "features", "judged"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    let clips: Vec<String> = ids.iter().map(|id| format!("RIFF of {id}")).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(clips.iter().map(String::as_bytes)));
    let fields = vec![Field::new("bytes", DataType::Binary, true)];
    let mut columns = vec![("audio", Arc::new(StructArray::new(fields.into(), vec![bytes], None)) as ArrayRef)];
    columns.extend(annotation(ids));
    write_table(&folder.join("clips/test.parquet"), columns, None);
    if synthesised {
        let (mut symbols, mut durations) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(Int32Builder::new()));
        for id in ids {
            // `b` is as a vocoder alone leaves it.
            let (names, frames) =
                if *id == "b" { (vec![], vec![]) } else { (vec![Some("sil"), Some("W")], vec![Some(1), Some(2)]) };
            symbols.append_value(names);
            durations.append_value(frames);
        }
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", texts_of(ids)),
            ("speaker", texts_of(&vec!["ann"; ids.len()])),
            ("symbols", Arc::new(symbols.finish())),
            ("durations", Arc::new(durations.finish())),
        ];
        write_table(&folder.join("clips/speech.parquet"), columns, None);
    }
    let frames: Vec<u8> = [0.0_f32, -5.0, -11.5, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let pitch: Vec<u8> = [100.0_f32, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let binary = |bytes: &[u8]| Arc::new(BinaryArray::from_iter_values(vec![bytes; ids.len()])) as ArrayRef;
    let mut columns = vec![("features", binary(&frames)), ("features_f0", binary(&pitch))];
    columns.extend(annotation(ids));
    let info = r#"{"kind": "features.log_mel", "width": 2, "format": "f32"}"#;
    write_table(&folder.join("features/test.parquet"), columns, Some(("sure.features", info)));
    let judged = |id: &&str| Synthesised {
        text: Transcription {
            id: (*id).to_owned(),
            speaker: Some("ann".to_owned()),
            reference: "one two".to_owned(),
            hypothesis: "one too".to_owned(),
            num_samples: 4,
            loss: 0.0,
        },
        voice: Voice { similarity: 0.951, nearest: "bob".to_owned() },
        sound: synthesised.then_some(Sound {
            mcd: 3.2,
            squared_cents: None,
            gross_pitch_error: None,
            voicing_error: 0.0,
            duration_error: 0.0,
            variance_ratio: None,
        }),
    };
    let rows: Vec<Synthesised> = ids.iter().map(judged).collect();
    predictions::write(&folder.join("judged").join(predictions::FILE_NAME), &rows).unwrap();
}

fn job(root: &Path, columns: &[(&str, Option<&str>)]) -> Job {
    let slot = |name: &str| {
        let input = |(folder, value): &(&str, Option<&str>)| Input {
            path: root.join(folder).join(name),
            point: value.map(|value| ("method".to_owned(), value.to_owned())).into_iter().collect(),
            partition: None,
        };
        (name.to_owned(), columns.iter().map(input).collect::<Vec<_>>())
    };
    let out = root.join("page");
    fs::create_dir_all(&out).unwrap();
    Job {
        inputs: Inputs(["clips", "features", "judged"].map(slot).into()),
        sources: BTreeMap::new(),
        places: Places::default(),
        partition: None,
        resume: out.join("resume"),
        out,
        threads: 1,
        spare: Spare::default(),
        tools: Tools::default(),
        gpu: None,
        others: vec![],
        progress: Box::new(Silent),
        stop: Stop::default(),
    }
}

fn params(texts: u32) -> ReportListen {
    serde_json::from_value(serde_json::json!({"title": "Voices", "texts": texts})).unwrap()
}

#[test]
fn a_row_has_the_same_text_in_every_voice() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    column(&at("lora"), &["a", "b", "c"], true);
    column(&at("real"), &["a", "b", "c", "d"], false);
    let job = job(folder.path(), &[("lora", Some("lora")), ("real", Some("real"))]);
    run(&params(2), &job).unwrap();
    let page = fs::read_to_string(job.out.join("index.html")).unwrap();
    // Recordings come first, and texts that all voices have.
    assert!(page.find("<th>real</th>").unwrap() < page.find("<th>lora</th>").unwrap());
    assert!(page.contains("ann<br>a<") && page.contains("ann<br>b<") && !page.contains("ann<br>c<"), "{page}");
    assert!(page.contains("one &lt;two&gt;") && page.contains("<del>two</del><ins>too</ins>"), "{page}");
    assert!(page.contains("similarity 0.951, MCD 3.20 dB; nearest to bob"), "{page}");
    assert_eq!(page.matches("W: 2 frames").count(), 1, "alignments of synthesised clips alone");
    assert_eq!(page.matches("Alignment of").count(), 1, "none without symbols");
    assert_eq!(fs::read(job.out.join("clips/02-02-lora.wav")).unwrap(), b"RIFF of b");
    let files = |folder: &str| job.out.join(folder).read_dir().unwrap().count();
    assert_eq!((files("clips"), files("pictures")), (4, 4));
    for part in page.split("src=\"").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(job.out.join(name).is_file(), "{name}");
    }
    let before = page;
    run(&params(2), &job).unwrap();
    assert_eq!(fs::read_to_string(job.out.join("index.html")).unwrap(), before);
}

#[test]
fn of_several_seeds_one_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    column(&folder.path().join("first"), &["a"], true);
    column(&folder.path().join("second"), &["a"], true);
    let mut job = job(folder.path(), &[("first", Some("lora")), ("second", Some("lora"))]);
    for inputs in job.inputs.0.values_mut() {
        for (input, seed) in inputs.iter_mut().zip(["1", "2"]) {
            input.point.insert("seed".to_owned(), seed.to_owned());
        }
    }
    run(&params(1), &job).unwrap();
    let page = fs::read_to_string(job.out.join("index.html")).unwrap();
    assert_eq!(page.matches("<th>lora</th>").count(), 1, "{page}");
    run(&ReportListen { axis: "seed".to_owned(), ..params(1) }, &job).unwrap();
    let page = fs::read_to_string(job.out.join("index.html")).unwrap();
    assert!(page.contains("<th>1</th><th>2</th>"), "{page}");
}

#[test]
fn a_voice_without_a_text_has_an_empty_cell() {
    let folder = tempfile::tempdir().unwrap();
    column(&folder.path().join("some"), &["a"], true);
    column(&folder.path().join("other"), &["b"], true);
    let job = job(folder.path(), &[("some", Some("some")), ("other", None)]);
    let error = run(&params(5), &job).unwrap_err().to_string();
    assert!(error.contains("has no value of the axis `method`, and `others` has no name for it"), "{error}");
    run(&ReportListen { others: vec!["real".to_owned()], ..params(5) }, &job).unwrap();
    let page = fs::read_to_string(job.out.join("index.html")).unwrap();
    assert!(page.contains("<th>real</th><th>some</th>") && page.matches("<td>–</td>").count() == 2, "{page}");
}

#[test]
fn columns_that_cannot_be_told_apart_and_empty_sets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    column(&folder.path().join("some"), &["a"], true);
    let twice = job(folder.path(), &[("some", Some("x")), ("some", Some("x"))]);
    let error = run(&params(1), &twice).unwrap_err().to_string();
    assert!(error.contains("two inputs of `clips` have the value `x` of the axis `method`"), "{error}");
    column(&folder.path().join("none"), &[], false);
    let error = run(&params(1), &job(folder.path(), &[("none", Some("x"))])).unwrap_err().to_string();
    assert!(error.contains("no clip to listen to"), "{error}");
    assert_eq!(params(0).check().len(), 1);
}
