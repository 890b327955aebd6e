//! Tasks other than naming a class, from recordings to the table: texts, and pairs of voices.

use std::fs;

use serde_json::Value;
use tests::Project;

/// Runs a workflow that comes with the program, small and short, by two methods.
#[track_caller]
fn run_briefly(project: &Project, workflow: &str, more: &[&str]) -> String {
    let brief = ["size=tiny", "method=head_only,lora", "encoder_corpus=CORPUS", "encoder_epochs=1", "train.max_steps=4"];
    let brief = brief.into_iter().chain(["train.eval_every=2", "train.save_every=2"]).chain(more.iter().copied());
    let settings = fs::read_to_string(project.path("sure.toml")).unwrap();
    let corpus = settings.lines().nth(1).unwrap().split(' ').next().unwrap();
    let mut args = vec!["run".to_owned(), workflow.to_owned(), "-q".to_owned()];
    args.extend(brief.flat_map(|setting| ["--set".to_owned(), setting.replace("CORPUS", corpus)]));
    let answer = project.sure(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(answer.ok, "{}", answer.err);
    answer.out
}

#[test]
fn texts_go_from_recordings_to_aligned_errors() {
    let project = Project::of("librispeech");
    // A head that has learned nothing says one and the same letter throughout.
    let table = run_briefly(&project, "speech_recognition", &["seed=3", "train.learning_rate=1e-7"]);
    assert!(table.contains("WER") && table.contains("CER") && table.contains("head_only"), "{table}");

    let ask = |args: &[&str]| {
        let answer = project.sure(args);
        assert!(answer.ok, "{args:?}: {}", answer.err);
        answer.out
    };
    let json: Value = serde_json::from_str(&ask(&["errors", "evaluate[method=lora]", "--json"])).unwrap();
    let worst = json[0]["errors"]["worst"].as_array().unwrap();
    let said: Vec<String> = worst.iter().map(|text| joined(text, "reference")).collect();
    assert!(said.contains(&"turn left and stop".to_owned()), "{said:?}");
    for text in worst {
        let count = |step| text["alignment"].as_array().unwrap().iter().filter(|aligned| aligned["step"] == step).count();
        assert_eq!(text["edits"]["substitutions"], count("substitution"), "{text}");
        assert_eq!(text["edits"]["deletions"], count("deletion"), "{text}");
        assert!(!joined(text, "hypothesis").is_empty(), "{text}");
    }
    // In columns: reference, hypothesis, and what each word is.
    let printed = ask(&["errors", "evaluate[method=lora]"]);
    let lines: Vec<&str> = printed.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let known = |line: &&str| words(line).join(" ") == "ref turn left and stop";
    let at = lines.iter().position(known).unwrap_or_else(|| panic!("{printed}"));
    let (found, marks) = (words(lines[at + 1]), words(lines[at + 2]));
    assert_eq!((found.len(), found[0].as_str(), marks.len()), (5, "hyp", 4), "{printed}");
    assert!(found[1..].iter().zip(&marks).all(|(word, mark)| (mark == "D") == word.starts_with("**")), "{printed}");

    let compared = ask(&["compare", "score[method=lora]", "score[method=head_only]", "--metric", "wer"]);
    assert!(compared.contains("approximate randomisation, matched pairs p = "), "{compared}");
}

/// The words of one side of an alignment.
fn joined(text: &Value, side: &str) -> String {
    let words = text["alignment"].as_array().unwrap().iter().map(|aligned| aligned[side].as_str().unwrap());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn voices_are_compared_in_pairs() {
    let project = Project::of("esd");
    let table = run_briefly(&project, "speaker", &["score=speaker_verification", "evaluate.trials=40"]);
    assert!(table.contains("EER") && table.contains("minDCF") && table.contains("learning_curves.png"), "{table}");
    let line = table.lines().find(|line| line.starts_with("esd") && line.contains("lora")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.ends_with("  40"), "forty trials: {line}");
    let errors = project.sure(&["errors", "evaluate[method=lora]"]);
    assert!(errors.ok && errors.out.contains("40 trials, EER ") && errors.out.contains("one voice"), "{errors:?}");
    // Without pairs to compare there is nothing that such a score could be made of.
    let none = project.sure(&["plan", "speaker", "--set", "score=verification"]);
    assert!(!none.ok && none.err.contains("speaker_verification"), "{}", none.err);
}
