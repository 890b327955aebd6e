//! Tests of good and bad utterances.
#![expect(clippy::needless_pass_by_value, reason = "a test's data has no other use")]

use datasets::{Annotation, Slot, Word};

use super::*;

fn utterance(id: &str) -> RowInfo {
    annotated(id, Annotation::default())
}

fn annotated(id: &str, annotation: Annotation) -> RowInfo {
    RowInfo { id: id.to_owned(), num_samples: 16_000, sample_rate: 16_000, class: None, annotation }
}

fn saying(id: &str, text: &str) -> RowInfo {
    annotated(id, Annotation { transcript: Some(text.to_owned()), ..Annotation::default() })
}

fn labelled(id: &str, label: &str) -> RowInfo {
    annotated(id, Annotation { label: Some(label.to_owned()), ..Annotation::default() })
}

/// An utterance with slots, each a name and a value.
fn wanting<const N: usize>(id: &str, slots: [(&str, &str); N]) -> RowInfo {
    let slots = slots.map(|(name, value)| Slot { name: name.to_owned(), value: value.to_owned() });
    annotated(id, Annotation { slots: slots.to_vec(), ..Annotation::default() })
}

fn params(task: &str) -> MakeTargets {
    MakeTargets {
        task: Task::named(task).unwrap(),
        name: None,
        protocol: Protocol::Sound,
        vocabulary: None,
        lexicon: None,
        unknown_words: UnknownWords::Unk,
        unknown_labels: UnknownLabels::Error,
        separator: None,
        max_duration_secs: None,
        defects_of_esd: false,
    }
}

fn examined(
    params: &MakeTargets,
    splits: [Vec<RowInfo>; 3],
    lexicon: Option<&Lexicon>,
) -> Result<(TargetsReport, Made), TargetsError> {
    examined_with(params, &["yes", "no"], splits, lexicon)
}

fn examined_with(
    params: &MakeTargets,
    labels: &[&str],
    splits: [Vec<RowInfo>; 3],
    lexicon: Option<&Lexicon>,
) -> Result<(TargetsReport, Made), TargetsError> {
    let [train, dev, test] = &splits;
    let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
    let made = make(params, &labels, [train, dev, test], lexicon, None);
    Ok((examine(params, &splits, &made, false)?, made))
}

/// With the outputs of a head that exists.
fn examined_for(params: &MakeTargets, splits: [Vec<RowInfo>; 3], head: &Outputs) -> Result<(TargetsReport, Made), TargetsError> {
    let [train, dev, test] = &splits;
    let made = make(params, &["yes".to_owned(), "no".to_owned()], [train, dev, test], None, Some(head));
    Ok((examine(params, &splits, &made, true)?, made))
}

fn tokens(made: &Made) -> &crate::Vocabulary {
    let Outputs::Tokens(vocabulary) = &made.outputs else { panic!("a task of tokens") };
    vocabulary
}

fn leaving_out(task: &str) -> MakeTargets {
    MakeTargets { unknown_labels: UnknownLabels::LeaveOut, ..params(task) }
}

#[test]
fn labels_that_cannot_be_learned_are_refused_with_what_could_be() {
    let both = || vec![labelled("a", "yes"), labelled("b", "no")];
    let refused = |task, splits| examined(&params(task), splits, None).unwrap_err().to_string();
    // A label outside the set.
    let strange = vec![labelled("c", "perhaps"), labelled("d", "perhaps"), labelled("e", "maybe")];
    assert_eq!(
        refused("keyword_spotting", [[both(), strange].concat(), both(), both()]),
        "keyword_spotting cannot learn every label: 1 utterance of the train set is `maybe`, the first `e`; 2 utterances of the train set \
         are `perhaps`, the first `c`; those of the train set are `yes`, `no`"
    );
    // A label of the set, but none that the training set has.
    let three = ["yes", "no", "stop"];
    let splits = || [both(), both(), [both(), vec![labelled("f", "stop")]].concat()];
    let message = "emotion cannot learn every label: 1 utterance of the test set is `stop`, the first `f`; those of the train set are \
                   `yes`, `no`";
    let refusal = examined_with(&params("emotion"), &three, splits(), None).unwrap_err().to_string();
    assert_eq!(refusal, message);
    let (report, made) = examined_with(&leaving_out("emotion"), &three, splits(), None).unwrap();
    assert_eq!(made.outputs.len(), 3);
    assert_eq!((made.targets[2].len(), report.left_out["test"]["no training utterance is `stop`"]), (2, 1));
    assert_eq!(report.untaught_classes, ["stop"]);
    // A training set of one class is the plainer mistake.
    let splits = [vec![labelled("a", "yes"); 2], both(), both()];
    assert!(refused("emotion", splits).contains("nothing to tell apart"));
}

#[test]
fn a_head_that_exists_keeps_its_classes_and_their_order() {
    let head = Outputs::Classes { labels: ["no", "stop", "yes"].map(str::to_owned).to_vec() };
    // Nothing is learned, so that one label in the training set is enough.
    let splits = |test: &str| [vec![labelled("a", "yes")], vec![labelled("b", "no")], vec![labelled("c", test)]];
    let (report, made) = examined_for(&params("keyword_spotting"), splits("stop"), &head).unwrap();
    assert_eq!(made.outputs, head);
    assert_eq!(made.targets.map(|targets| targets[0].target[0]), [2, 0, 1]);
    assert_eq!(report.untaught_classes, ["no", "stop"]);
    let refusal = examined_for(&params("keyword_spotting"), splits("perhaps"), &head).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "the head of the checkpoint does not have every label: 1 utterance of the test set is `perhaps`, the first `c`; its classes are \
         `no`, `stop`, `yes`"
    );
}

#[test]
fn an_utterance_has_any_number_of_labels() {
    let splits = || {
        let train = vec![labelled("a", "rain; dog"), labelled("b", "[]"), labelled("c", "[\"dog\", \"a;b\"]"), utterance("d")];
        [train, vec![labelled("e", "dog;dog;")], vec![labelled("f", "rain")]]
    };
    let (report, made) = examined(&params("tagging"), splits(), None).unwrap();
    assert_eq!(made.outputs, Outputs::Tags { labels: ["a;b", "dog", "rain"].map(str::to_owned).to_vec() });
    let found =
        |split: usize| made.targets[split].iter().map(|target| (target.target.clone(), &*target.text)).collect::<Vec<_>>();
    assert_eq!(found(0), [(vec![1, 2], "dog, rain"), (vec![], ""), (vec![0, 1], "a;b, dog")]);
    assert_eq!((found(1), found(2)), (vec![(vec![1], "dog")], vec![(vec![2], "rain")]));
    assert_eq!((report.classes["train"]["dog"], report.left_out["train"]["no label of the corpus's set"]), (2, 1));

    let other = MakeTargets { separator: Some("|".to_owned()), ..params("tagging") };
    let [mut train, dev, test] = splits();
    train[0] = labelled("a", "rain | dog");
    let refused = examined(&other, [train, dev, test], None).unwrap_err().to_string();
    assert!(
        refused
            .contains("1 utterance of the dev set is `dog;dog;`, the first `e`; those of the train set are `a;b`, `dog`, `rain`"),
        "{refused}"
    );
    let none = || vec![labelled("a", "[]")];
    let refused = examined(&params("tagging"), [none(), none(), none()], None).unwrap_err().to_string();
    assert_eq!(refused, "none of 1 utterances of the train set has a label");
}

#[test]
fn a_head_of_capital_letters_gets_capital_letters() {
    let symbols = ["<pad>", "<unk>", "|", "A", "B"].map(str::to_owned).to_vec();
    let head = Outputs::Tokens(crate::Vocabulary::of_tokens(symbols, Some(2), 1, 0));
    let splits = [vec![saying("a", "ab b")], vec![saying("b", "a")], vec![saying("c", "ac")]];
    let (report, made) = examined_for(&params("speech_recognition"), splits, &head).unwrap();
    assert_eq!((made.targets[0][0].target.clone(), made.targets[0][0].text.as_str()), (vec![3, 4, 2, 4], "AB B"));
    assert_eq!((made.targets[2][0].target.clone(), report.missing_characters["test"][&'C']), (vec![3, 1], 1));
}

#[test]
fn intents_that_cannot_be_learned_are_refused_slot_by_slot() {
    let wanting =
        |id: &str, action: &str, object: &str| wanting(id, [("action", action), ("object", object), ("location", "none")]);
    let train = || vec![wanting("a", "activate", "heat"), wanting("b", "bring", "shoes")];
    let refused = |test| examined(&params("intent"), [train(), train(), test], None).unwrap_err().to_string();
    let message = refused(vec![wanting("c", "bring", "piano")]);
    assert!(message.contains("1 utterance of the test set is `object=piano`, the first `c`"), "{message}");
    let message = refused(vec![wanting("d", "bring", "music")]);
    assert!(message.contains("1 utterance of the test set is `object=music`, the first `d`"), "{message}");
    for label in ["action=bring", "action=activate", "object=heat", "object=shoes", "location=none"] {
        assert!(message.contains(&format!("`{label}`")), "{message}");
    }
}

#[test]
fn labels_outside_the_set_can_be_left_out_and_are_counted() {
    let train = vec![labelled("a", "yes"), labelled("b", "no"), labelled("c", "perhaps"), utterance("d")];
    let splits = [train, vec![labelled("e", "yes")], vec![labelled("f", "no")]];
    let (report, made) = examined(&leaving_out("keyword_spotting"), splits, None).unwrap();
    assert_eq!(made.targets[0].iter().map(|target| target.target[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(report.left_out["train"]["`perhaps` is not among the classes"], 1);
    assert_eq!(report.left_out["train"]["no label of the corpus's set"], 1);
    assert_eq!(made.left_out.iter().map(|left| left.id.as_str()).collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(report.classes["train"]["yes"], 1);
}

#[test]
fn one_class_and_empty_splits_are_refused() {
    let both = || vec![labelled("a", "yes"), labelled("b", "no")];
    let error = examined(&params("emotion"), [vec![labelled("a", "yes"); 3], both(), both()], None).unwrap_err();
    assert_eq!(error.to_string(), "all 3 utterances of the train set are `yes`: there is nothing to tell apart");
    let error = examined(&params("emotion"), [both(), vec![], both()], None).unwrap_err();
    assert_eq!(error.to_string(), "the dev set has no utterance for emotion: 0 in the shards, none left out");
    let error = examined(&leaving_out("emotion"), [both(), both(), vec![labelled("c", "perhaps")]], None).unwrap_err();
    let message = "the test set has no utterance for emotion: 1 in the shards, left out: 1 `perhaps` is not among the classes";
    assert_eq!(error.to_string(), message);
}

#[test]
fn speakers_are_those_of_the_training_set() {
    let by = |id: &str, speaker: &str| annotated(id, Annotation { speaker: Some(speaker.to_owned()), ..Annotation::default() });
    let splits = [vec![by("a", "p2"), by("b", "p1")], vec![by("c", "p1")], vec![by("d", "p2"), by("e", "p9")]];
    let message = examined(&params("speaker"), splits.clone(), None).unwrap_err().to_string();
    assert!(
        message.ends_with("1 utterance of the test set is `p9`, the first `e`; those of the train set are `p1`, `p2`"),
        "{message}"
    );
    let (report, made) = examined(&leaving_out("speaker"), splits, None).unwrap();
    assert_eq!(made.outputs.names(), ["p1", "p2"]);
    assert_eq!(made.targets[0][0].target, [1]);
    assert_eq!(report.left_out["test"]["`p9` is not among the classes"], 1);
}

#[test]
fn intents_without_a_class_are_named() {
    let wanting = |id: &str, object: &str| wanting(id, [("action", "activate"), ("object", object), ("location", "none")]);
    let splits = [
        vec![wanting("a", "heat"), wanting("b", "lights"), wanting("c", "piano")],
        vec![wanting("d", "heat")],
        vec![wanting("e", "heat")],
    ];
    let (report, made) = examined(&leaving_out("intent"), splits, None).unwrap();
    assert_eq!(
        (made.outputs.len(), &made.targets[0][1].target, made.targets[0][1].text.as_str()),
        (24, &vec![1, 2, 0], "activate, lights, none")
    );
    assert_eq!(report.left_out["train"]["no class for object `piano`"], 1);
}

#[test]
fn empty_transcripts_teach_nothing_and_are_still_scored() {
    let splits =
        [vec![saying("a", "Go left."), saying("b", "..."), utterance("c")], vec![saying("d", "go")], vec![saying("e", "!")]];
    let (report, made) = examined(&params("speech_recognition"), splits, None).unwrap();
    assert_eq!(made.targets[0].len(), 1);
    assert_eq!((report.left_out["train"]["an empty transcript"], report.left_out["train"]["no transcript"]), (1, 1));
    assert_eq!((made.targets[2][0].target.len(), made.targets[2][0].text.as_str()), (0, ""));
}

#[test]
fn texts_longer_than_their_frames_are_counted() {
    let mut short = saying("a", "left left left left");
    short.num_samples = 3200; // 9 frames
    let splits = [vec![short, saying("b", "go")], vec![saying("c", "go")], vec![saying("d", "go")]];
    let (report, made) = examined(&params("speech_recognition"), splits, None).unwrap();
    assert_eq!(
        (made.targets[0].len(), report.more_tokens_than_frames["train"], report.more_tokens_than_frames["test"]),
        (2, 1, 0)
    );
    assert_eq!([16_000, 40_000, 200_000, 220_000, 399].map(published_frames), [49, 124, 624, 687, 0]);
}

#[test]
fn short_clips_count_as_two_and_a_half_seconds_whatever_they_hold() {
    let clip = |id: &str, num_samples| RowInfo { num_samples, ..saying(id, "left left left left left left") };
    let splits = || [vec![clip("a", 3_200), clip("b", 90_000)], vec![saying("c", "go")], vec![saying("d", "go")]];
    let paper = MakeTargets { protocol: Protocol::Paper, ..params("speech_recognition") };
    assert_eq!(examined(&paper, splits(), None).unwrap().0.more_tokens_than_frames["train"], 1);
    let short = MakeTargets { defects_of_esd: true, ..paper };
    assert_eq!(short.check(), []);
    assert_eq!(examined(&short, splits(), None).unwrap().0.more_tokens_than_frames["train"], 0);
    let sound = MakeTargets { protocol: Protocol::Sound, ..short };
    assert_eq!(sound.check()[0].0, "defects_of_esd");
}

#[test]
fn characters_that_the_vocabulary_lacks_are_counted_per_split() {
    let splits = || [vec![saying("a_1", "go left")], vec![saying("b_2", "go right")], vec![saying("c_3", "stop")]];
    let (report, made) = examined(&params("speech_recognition"), splits(), None).unwrap();
    assert_eq!(tokens(&made).tokens().concat(), "efglot|[UNK][PAD]");
    assert_eq!(report.missing_characters["dev"].keys().collect::<String>(), "hir");
    assert_eq!(report.missing_characters["test"].keys().collect::<String>(), "ps");
    let vocabulary_of = |protocol, vocabulary| {
        let params = MakeTargets { protocol, vocabulary, ..params("speech_recognition") };
        tokens(&examined(&params, splits(), None).unwrap().1).tokens().concat()
    };
    assert_eq!(vocabulary_of(Protocol::Paper, None), "efglopst|[UNK][PAD]");
    assert_eq!(vocabulary_of(Protocol::Sound, Some(VocabularyOf::All)), "efghiloprst|[UNK][PAD]");
    // Names instead of sentences: no letter of any sentence, as published for ESD.
    assert_eq!(vocabulary_of(Protocol::Paper, Some(VocabularyOf::Ids)), "1_a\u{fe}\u{ff}|[UNK][PAD]");
    // Such texts are scored as they were learned.
    let paper = MakeTargets { protocol: Protocol::Paper, vocabulary: Some(VocabularyOf::Ids), ..params("speech_recognition") };
    let (_, made) = examined(&paper, splits(), None).unwrap();
    assert_eq!(made.targets[0][0].text, "[UNK][UNK] [UNK][UNK][UNK][UNK]");
}

#[test]
fn slots_are_marked_and_their_tokens_are_whole() {
    let words = |id: &str, city: &str| {
        let words = [("IN", None), (city, Some("city"))];
        let words = words.map(|(text, slot)| Word { text: text.to_owned(), slot: slot.map(str::to_owned), times: None });
        annotated(id, Annotation { words: words.to_vec(), ..Annotation::default() })
    };
    let splits = || [vec![words("a", "ROME")], vec![words("b", "ROME")], vec![words("c", "ROME"), saying("d", "IN ROME")]];
    let (report, made) = examined(&params("slot_filling"), splits(), None).unwrap();
    let vocabulary = tokens(&made);
    assert_eq!(vocabulary.tokens().join(" "), "E I M N O R B-city E-city | [UNK] [PAD]");
    let target = &made.targets[0][0];
    assert_eq!(target.text, "IN B-city ROME E-city");
    assert_eq!(vocabulary.decode_to_score(&target.target), target.text);
    assert_eq!(target.target.len(), 8);
    assert_eq!(report.left_out["test"]["no words"], 1);
    // The published separators repeat: IN|||B-city||ROME||E-city.
    let paper = MakeTargets { protocol: Protocol::Paper, ..params("slot_filling") };
    let (_, made) = examined(&paper, splits(), None).unwrap();
    assert_eq!(made.targets[0][0].text, "IN B-city ROME E-city");
}

#[test]
fn phonemes_come_from_the_lexicon_and_unknown_words_as_asked() {
    let lexicon = Lexicon::parse("GO G OW1\nLEFT L EH1 F T\n").unwrap();
    let splits = || [vec![saying("a", "Go left"), saying("b", "go zyx")], vec![saying("c", "go")], vec![saying("d", "left")]];
    let (report, made) = examined(&params("phoneme_recognition"), splits(), Some(&lexicon)).unwrap();
    assert_eq!(made.outputs.len(), 74);
    assert_eq!(made.targets[0].iter().map(|target| target.text.as_str()).collect::<Vec<_>>(), ["G OW1 L EH1 F T", "G OW1 <unk>"]);
    assert_eq!(report.unknown_words["train"], [("zyx".to_owned(), 1)]);
    let with = |unknown_words| {
        let params = MakeTargets { unknown_words, ..params("phoneme_recognition") };
        examined(&params, splits(), Some(&lexicon))
    };
    assert_eq!(with(UnknownWords::LeaveOut).unwrap().1.targets[0].len(), 1);
    assert_eq!(with(UnknownWords::Error).unwrap_err().to_string(), "1 words have no phonemes: zyx");
    // The published targets end with a token of their own.
    let paper = MakeTargets { protocol: Protocol::Paper, ..params("phoneme_recognition") };
    let (_, made) = examined(&paper, splits(), Some(&lexicon)).unwrap();
    assert_eq!(made.targets[1][0].target.last(), Some(&crate::lexicon::END));
}

#[test]
fn long_utterances_can_be_left_out_of_all_sets() {
    let long = |id: &str| RowInfo { num_samples: 16_000 * 20, ..saying(id, "go") };
    let splits = [vec![saying("a", "go"), long("b")], vec![saying("c", "go")], vec![saying("d", "go"), long("e")]];
    let params = MakeTargets { max_duration_secs: Some(20.0), ..params("speech_recognition") };
    let (report, made) = examined(&params, splits, None).unwrap();
    assert_eq!(made.targets.each_ref().map(Vec::len), [1, 1, 1]);
    assert_eq!(report.left_out["test"]["of 20 s or more"], 1);
}

#[test]
fn targets_come_back_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let targets = vec![
        Target { id: "a".into(), target: vec![3, 1, 4], text: "go".into() },
        Target { id: "b".into(), target: vec![], text: String::new() },
    ];
    let path = folder.path().join("train.parquet");
    write_targets(&path, &targets).unwrap();
    assert_eq!(read_targets(&path).unwrap(), targets);
    write_targets(&path, &[]).unwrap();
    assert_eq!(read_targets(&path).unwrap(), []);
    fs::write(&path, "no table").unwrap();
    assert!(matches!(read_targets(&path), Err(datasets::parquet_file::ParquetFileError::Parquet { .. })));
}
