//! Published voices: the numbers of the published code through the stages, adaptation, and files that are something else.

use std::io::{Read, Write};

use neural::tts::published;
use neural_spec::PublishedVoice;
use tch::Kind;

use super::*;

/// Folder with the published model of the reference numbers; none, with a message, where there are none.
fn reference_model() -> Option<PathBuf> {
    reference::find("tts/model")
}

/// Mean and deviation of pitch and energy in the made `stats.json`.
const MOMENTS: [[f64; 2]; 2] = [[150.0, 40.0], [20.0, 9.0]];

/// Makes the folder of a published voice: the reference model, statistics, three speakers.
fn published_folder(fixture: &Fixture, name: &str, reference: &Path) -> PathBuf {
    let (folder, config) = (fixture.path(name), reference::json(&reference.join("config.json")));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    fs::copy(reference.join("900000.pth.tar"), folder.join("900000.pth.tar")).unwrap();
    let stats = |value: &str, [mean, std]: [f64; 2]| json!([config["stats"][value][0], config["stats"][value][1], mean, std]);
    let stats = json!({"pitch": stats("pitch", MOMENTS[0]), "energy": stats("energy", MOMENTS[1])});
    fs::write(folder.join("stats.json"), stats.to_string()).unwrap();
    let speakers: BTreeMap<String, u64> =
        (0..config["speakers"].as_u64().unwrap()).map(|row| (format!("speaker-{row}"), row)).collect();
    fs::write(folder.join("speakers.json"), json!(speakers).to_string()).unwrap();
    folder
}

/// Spectrograms that the small reference model is made to speak.
fn spectrograms(reference: &Path) -> Value {
    let config = reference::json(&reference.join("config.json"));
    json!({
        "num_attention_heads": config["model"]["transformer"]["encoder_head"], "sample_rate": RATE, "n_fft": 256, "hop_length": 100,
        "win_length": 256, "num_mel_bins": config["preprocess"]["mel"]["n_mel_channels"], "high_hz": 4000.0,
    })
}

fn make(fixture: &Fixture, out: &str, folder: &str, params: Value) -> Result<(), StageError> {
    let params: PublishedVoice = serde_json::from_value(params).unwrap();
    assert_eq!(params.check(), []);
    published::run(&params, &fixture.job(out, &[("checkpoint", folder)], &Listener::default()))
}

/// Numbers of a column of lists, of the only row.
fn numbers(fixture: &Fixture, out: &str, column: &str) -> Vec<f64> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, Int32Type};
    let table = ParquetFile::open(&fixture.path(out).join("speech.parquet"), "speech").unwrap().whole(|_| true).unwrap();
    let list = table.column_by_name(column).unwrap().as_list::<i32>().value(0);
    match list.as_primitive_opt::<Float32Type>() {
        Some(values) => values.values().iter().map(|&value| value.into()).collect(),
        None => list.as_primitive::<Int32Type>().values().iter().map(|&value| value.into()).collect(),
    }
}

#[test]
fn a_published_voice_speaks_as_the_published_code() {
    let Some(reference) = reference_model() else { return };
    let fixture = Fixture::new();
    let manifest = reference::json(&reference.join("../../manifest.json"));
    let case = manifest["cases"].as_array().unwrap().iter().find(|case| case["name"] == "model_none").unwrap();
    let golden: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(reference.join("none.safetensors")).unwrap().into_iter().collect();
    let tokens = |at: usize| Vec::<i64>::try_from(&golden[&format!("alone.{at}.tokens")]).unwrap();
    let texts = (0..golden.len()).take_while(|at| golden.contains_key(&format!("alone.{at}.tokens"))).count();

    // Phonemes in the place of the symbols of the texts, so that a word can be pronounced as each text.
    let phones: Vec<String> = tasks::text::symbols(true).split_off(3);
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    for token in (0..texts).flat_map(tokens) {
        let next = phones[names.len()].clone();
        names.entry(token).or_insert(next);
    }
    let count = golden["grad.encoder.src_word_emb.weight"].size()[0] - 1;
    let mut others = phones[names.len()..].iter().cloned().chain(["sp".to_owned()]);
    let symbols: Vec<String> = (0..count)
        .map(|row| match names.get(&row) {
            Some(phone) => format!("@{phone}"),
            None if row == 0 => "_".to_owned(),
            None => others.next().map_or_else(|| format!("other-{row}"), |phone| format!("@{phone}")),
        })
        .collect();
    let folder = published_folder(&fixture, "files", &reference);
    fs::write(folder.join("symbols.json"), json!(symbols).to_string()).unwrap();
    make(&fixture, "made", "files", spectrograms(&reference)).unwrap();
    let mut config = fixture.json("made/voice/config.json");
    assert_eq!(
        (&config["text"]["silent_ends"], &config["pitch"], &config["energy"]),
        (&json!(false), &json!("hertz"), &json!("linear"))
    );
    let pronounced = |at| tokens(at).iter().map(|token| names[token].as_str()).collect::<Vec<_>>().join(" ");
    let spelled = |at: usize| format!("text{}", char::from(b'a' + at as u8));
    let words: BTreeMap<String, String> = (0..texts).map(|at| (spelled(at), pronounced(at))).collect();
    config["words"] = json!(words);
    fs::write(fixture.path("made/voice/config.json"), config.to_string()).unwrap();

    let tolerance = case["tolerance"]["scaled"].as_f64().unwrap();
    for (at, word) in (0..texts).map(spelled).enumerate() {
        let change = json!({"sentences": [word], "speakers": [format!("speaker-{at}")]});
        fixture.synthesise("spoken", change.clone(), &[("voice", "made/voice")]).unwrap();
        let expected = |name: &str| {
            Vec::<f64>::try_from(golden[&format!("alone.{at}.{name}")].to_kind(Kind::Double).contiguous().view([-1])).unwrap()
        };
        let check = |name: &str, found: &[f64]| {
            let expected = expected(name);
            assert_eq!(found.len(), expected.len(), "{name} of {word}");
            let scale = expected.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance * scale, "{name} of {word}: {found}, expected {expected}");
            }
        };
        assert_eq!(numbers(&fixture, "spoken", "durations"), expected("durations"));
        check("mel_after", &fixture.mels("spoken").iter().map(|&value| value.into()).collect::<Vec<_>>());
        for (name, [mean, std]) in ["pitch", "energy"].into_iter().zip(MOMENTS) {
            let standard: Vec<f64> = numbers(&fixture, "spoken", name).iter().map(|value| (value - mean) / std).collect();
            check(name, &standard);
        }
        // Twelve semitones are a factor of 2 in Hz, at every pitch. Silence is around the clip, and not in its frames.
        let speakers = [format!("speaker-{at}")];
        let higher = json!({"controls": {"pitch": 12.0}, "silence": 0.05, "sentences": [word], "speakers": speakers});
        let plain = numbers(&fixture, "spoken", "pitch");
        fixture.synthesise("higher", higher, &[("voice", "made/voice")]).unwrap();
        for (higher, plain) in numbers(&fixture, "higher", "pitch").iter().zip(plain) {
            assert!((higher - 2.0 * plain).abs() < 1e-2, "{higher} {plain}");
        }
        let [plain, longer] =
            ["spoken", "higher"].map(|out| fixture.json(&format!("{out}/speech.json"))["secs"].as_f64().unwrap());
        assert!((longer - plain - 0.1).abs() < 1e-3, "{plain} and {longer} s");
    }
    // A voice keeps its speakers' names, and is said as any other.
    let error = fixture.synthesise("spoken", json!({"sentences": [spelled(0)], "speakers": ["eve"]}), &[("voice", "made/voice")]);
    let speakers = reference::json(&reference.join("config.json"))["speakers"].as_u64().unwrap();
    let known: Vec<String> = (0..speakers).map(|row| format!("`speaker-{row}`")).collect();
    assert!(message(&error.unwrap_err()).contains(&format!("it knows {}", known.join(", "))));
    let request = SayRequest {
        voice: fixture.path("made"),
        speaker: Some("speaker-1".to_owned()),
        text: format!("{}. {}!", spelled(0), spelled(1)),
        out: fixture.path("a.wav"),
        vocoder: None,
        griffin_lim: 2,
        controls: VoiceControls::default(),
    };
    assert_eq!(say(&request).unwrap().sample_rate, RATE);
}

/// Features of the recordings of the new speaker as a published voice takes them.
fn published_features(fixture: &Fixture, bands: &Value, energy: &str) {
    let mel: LogMel = serde_json::from_value(json!({
        "sample_rate": RATE, "n_fft": 256, "hop_length": 100, "win_length": 256, "num_mel_bins": bands, "low_hz": 0.0,
        "high_hz": 4000.0, "recipe": "tacotron", "format": "f32", "energy": energy,
    }))
    .unwrap();
    run_log_mel(&mel, &fixture.job("taken_mel", &[("shards", "new_shards")], &Listener::default())).unwrap();
    let pitch =
        TrackPitch { sample_rate: RATE, hop_length: 100, frame_length: 512, min_hz: 60.0, max_hz: 400.0, mean_threshold: 0.1 };
    let inputs = [("shards", "new_shards"), ("features", "taken_mel")];
    run_pitch(&pitch, &fixture.job("taken", &inputs, &Listener::default())).unwrap();
}

#[test]
fn a_published_voice_is_adapted_by_every_method() {
    let Some(reference) = reference_model() else { return };
    let fixture = Fixture::new();
    published_folder(&fixture, "files", &reference);
    make(&fixture, "made", "files", spectrograms(&reference)).unwrap();
    let bands = &spectrograms(&reference)["num_mel_bins"];
    published_features(&fixture, bands, "log");
    let (train, dev) = (("train", "taken/train.parquet"), ("dev", "taken/dev.parquet"));
    let adapt = |out: &str, change: Value, inputs: &[(&str, &str)]| {
        fixture.train_with(
            out,
            &adapting(change),
            &[&[train, dev, ("base", "made/voice")], inputs].concat(),
            &Listener::default(),
        )
    };
    let error = message(&adapt("out", json!({}), &[]).unwrap_err());
    assert!(error.contains("the energy of the training set is on another scale than that of the base"), "{error}");
    published_features(&fixture, bands, "linear");
    let error = message(&adapt("out", json!({}), &[]).unwrap_err());
    assert!(error.contains("the base has no aligner: give `inputs.alignment`"), "{error}");
    assert!(contents(&fixture.path("out")).is_empty());

    // The frames of every symbol, by a voice that learned from the same recordings alone.
    let text = json!({"max_steps": 30, "eval_every": 30, "text": {"stress": true, "word_pauses": false}});
    fixture.train_with("aligner", &params(text), &[train, dev], &Listener::default()).unwrap();
    let align: AlignSpeech = serde_json::from_value(json!({"batch_frames": 500})).unwrap();
    let mut job = fixture.job("aligned", &[("voice", "aligner/voice")], &Listener::default());
    let features = [train.1, dev.1].map(|name| Input { path: fixture.path(name), point: BTreeMap::new(), partition: None });
    job.inputs.0.insert("features".to_owned(), features.into());
    tts::align::run(&align, &job).unwrap();
    let aligned = read_alignments(&fixture.path("aligned/alignment.parquet")).unwrap();

    let base = fixture.tensors("made/voice");
    let sizes = &reference::json(&reference.join("config.json"))["model"]["transformer"];
    let size = |name: &str| sizes[name].as_u64().unwrap() as u32;
    let architecture = Architecture::acoustic(size("encoder_hidden"), [size("encoder_layer"), size("decoder_layer")]);
    for method in [
        json!({"name": "lora", "rank": 2, "targets": ["q_proj", "v_proj"]}),
        json!({"name": "bottleneck"}),
        json!({"name": "convadapter", "reduction": 4}),
        json!({"name": "prefix", "prefix_len": 3}),
        json!({"name": "bitfit"}),
        json!({"name": "head_only"}),
        json!({"name": "finetune"}),
    ] {
        adapt("adapted", json!({"method": method}), &[("alignment", "aligned")]).unwrap();
        let adapted = fixture.tensors("adapted/voice");
        let summary = fixture.json("adapted/training.json");
        assert_eq!(summary["speakers"], json!({"cat": "mean"}));
        let spec: Method = serde_json::from_value(method.clone()).unwrap();
        let count: u32 = spec.added(&architecture).unwrap().iter().map(|added| added.shape.iter().product::<u32>()).sum();
        assert_eq!(summary["parameters"]["adapters"], count, "{method}");
        let moves = |name: &str| match method["name"].as_str().unwrap() {
            "finetune" => !name.ends_with("_bins"),
            "bitfit" => name.ends_with(".bias") || name == "speaker_emb.weight",
            _ => name == "speaker_emb.weight",
        };
        for (name, before) in base.iter().filter(|(name, _)| !moves(name)) {
            assert!(*before == adapted[name], "{method}: {name}");
        }
        let moved =
            base.iter().filter(|(name, before)| name.as_str() != "speaker_emb.weight" && **before != adapted[*name]).count();
        assert_eq!(moved > 0, matches!(method["name"].as_str(), Some("finetune" | "bitfit")), "{method}");
        let config = fixture.json("adapted/voice/config.json");
        assert_eq!(config["statistics"]["pitch"], json!({"mean": MOMENTS[0][0], "std": MOMENTS[0][1]}));
    }
    // Recordings are cut to the frames between the silences at their ends.
    let cut = read_alignments(&fixture.path("adapted/alignment.parquet")).unwrap();
    assert_eq!(cut.len(), 4);
    for row in &cut {
        let whole = aligned.iter().find(|other| other.id == row.id).unwrap();
        let inner = 1..whole.symbols.len() - 1;
        assert_eq!((&row.symbols[..], &row.durations[..]), (&whole.symbols[inner.clone()], &whole.durations[inner]));
        assert!(row.num_frames() < whole.num_frames());
    }
    let texts = [("voice", "adapted/voice"), ("texts", "new_shards/test.parquet")];
    fixture.synthesise("speech", json!({}), &texts).unwrap();
    assert_eq!(ShardReader::open(&[fixture.path("speech/test.parquet")]).unwrap().rows().len(), 2);

    // An alignment with other symbols, and one of other recordings.
    let other = json!({"max_steps": 2, "text": {"stress": false, "word_pauses": false}});
    fixture.train_with("aligner", &params(other), &[train, dev], &Listener::default()).unwrap();
    let job = fixture.job("other", &[("voice", "aligner/voice"), ("features", train.1)], &Listener::default());
    tts::align::run(&align, &job).unwrap();
    let error = message(&adapt("out", json!({}), &[("alignment", "other")]).unwrap_err());
    assert!(error.contains("the alignment of `cat-00` does not fit: it is of the symbols sil"), "{error}");
    assert!(contents(&fixture.path("out")).is_empty());
}

/// Writes the weights of a folder again, with a name in the place of another of the same length.
fn rename(folder: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let path = folder.join("900000.pth.tar");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(fs::read(&path).unwrap())).unwrap();
    let mut written = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        if member.name().ends_with("data.pkl") {
            let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
            assert!(!places.is_empty(), "{from}");
            for at in places {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        written.start_file(member.name(), options).unwrap();
        written.write_all(&bytes).unwrap();
    }
    written.finish().unwrap();
}

#[test]
fn files_that_are_no_published_voice_are_refused() {
    let Some(reference) = reference_model() else { return };
    let fixture = Fixture::new();
    let (first, plain) = ("encoder.layer_stack.0.", spectrograms(&reference));
    let config = reference::json(&reference.join("config.json"));
    let (bands, symbols) = (plain["num_mel_bins"].as_u64().unwrap(), config["n_symbols"].as_u64().unwrap());
    let (width, pitch) = (config["model"]["transformer"]["encoder_hidden"].as_u64().unwrap(), &config["stats"]["pitch"]);
    let [lowest, highest] = [&pitch[0], &pitch[1]].map(|limit| limit.as_f64().unwrap());
    let refused = |spoil: &dyn Fn(&Path), change: Value, expected: &str| {
        let folder = published_folder(&fixture, "files", &reference);
        spoil(&folder);
        let error = message(&make(&fixture, "made", "files", merged(plain.clone(), &change)).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(error.split("hint: ").nth(1).is_some_and(|hint| !hint.is_empty()), "{error}");
        assert!(contents(&fixture.path("made")).is_empty(), "{expected}");
    };
    let write = |file: &'static str, text: String| move |folder: &Path| fs::write(folder.join(file), &text).unwrap();
    let renamed = |from: String, to: String| move |folder: &Path| rename(folder, &from, &to);
    refused(&|folder| fs::remove_file(folder.join("stats.json")).unwrap(), json!({}), "no `stats.json` in the folder");
    refused(&write("100000.pth.tar", "PK".to_owned()), json!({}), "several files of weights");
    let cwt = renamed("variance_adaptor.pitch_predictor.l".to_owned(), "variance_adaptor.cwt_predictor.lll".to_owned());
    refused(&cwt, json!({}), "a model with pitch by continuous wavelet transform (`pitch = \"cwt\"`), which is not supported");
    let fairseq = renamed(format!("{first}slf_attn.w_qs.weight"), format!("{first}self_attn.w_q.weight"));
    refused(&fairseq, json!({}), "a model with blocks of `transformer_fs2`, which is not supported");
    let single = renamed("speaker_emb.weight".to_owned(), "speaker_xyz.weight".to_owned());
    refused(&single, json!({}), "a model with no table of speakers");
    let odd = renamed(format!("{first}slf_attn.w_qs.weight"), format!("{first}slf_attn.w_xx.weight"));
    refused(&odd, json!({}), "slf_attn.w_qs.weight` is missing");
    let table = format!("its table has {} speakers, and speakers.json 1", config["speakers"]);
    refused(&write("speakers.json", json!({"ann": 0}).to_string()), json!({}), &table);
    let other = lowest + 1.0;
    let stats = json!({"pitch": [other, highest, 150.0, 40.0], "energy": [-1.5, 4.0, 20.0, 9.0]});
    let bins =
        format!("its bins of the pitch go from {lowest:.3} to {highest:.3}, and stats.json has {other:.3} to {highest:.3}");
    refused(&write("stats.json", stats.to_string()), json!({}), &bins);
    let rows = format!("its embedding has {} rows, so {symbols} symbols, and the list has 2", symbols + 1);
    refused(&write("symbols.json", json!(["_", "@AA0"]).to_string()), json!({}), &rows);
    let mandarin: Vec<String> = (0..symbols).map(|row| format!("@{row}")).collect();
    refused(
        &write("symbols.json", json!(mandarin).to_string()),
        json!({}),
        "its symbols are not those of English: 70 are missing, `@sp` for one",
    );
    let more = bands + 1;
    let spoken = format!("it speaks {bands} bands, and `num_mel_bins` is {more}");
    refused(&|_| {}, json!({"num_mel_bins": more}), &spoken);
    let heads = (2..=width + 1).find(|heads| width % heads != 0).unwrap();
    let divided = format!("its width is {width}, which `num_attention_heads` = {heads} does not divide");
    refused(&|_| {}, json!({"num_attention_heads": heads}), &divided);
    refused(
        &|folder| {
            let path = folder.join("900000.pth.tar");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        },
        json!({}),
        "the end of the zip archive is missing",
    );
}
