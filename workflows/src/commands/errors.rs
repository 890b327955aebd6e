//! `sure errors`

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use scoring::Unit;
use scoring::errors::{Aligned, Confused, Errors, Request, WrongClass, WrongText, WrongTrial};
use scoring::predictions::{FILE_NAME, read_any};
use serde_json::json;

use crate::artifacts;
use crate::cli::Place;

/// Columns of text before an alignment goes on below.
const WIDTH: usize = 100;

#[derive(Args)]
pub(crate) struct ErrorsArgs {
    /// `evaluate[method=lora]`, or `keyword_spotting:evaluate[method=lora]`; without a workflow, that of the last run. A node that
    /// scores or trains stands for the evaluation beside it
    node: String,
    /// How many utterances and confusions are listed
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Only utterances whose id, speaker, text or class contains this
    #[arg(long, value_name = "TEXT")]
    containing: Option<String>,
    /// Unit by which texts are aligned
    #[arg(long, value_enum, default_value_t = By::Word)]
    by: By,
    /// When errors are coloured
    #[arg(long, value_enum, default_value_t = When::Auto)]
    color: When,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Words, or phones: what stands between spaces
    Word,
    /// Characters
    Character,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

pub(crate) fn errors(args: &ErrorsArgs) -> Result<ExitCode> {
    let unit = match args.by {
        By::Word => Unit::Word,
        By::Character => Unit::Character,
    };
    let request = Request { limit: args.limit, unit, containing: args.containing.as_deref() };
    let mut found = vec![];
    for left in artifacts::find(&args.node, &args.place, FILE_NAME, "predictions")? {
        let predictions = read_any(&left.folder.join(FILE_NAME))?;
        found.push((left.node, Errors::of(&predictions, request)));
    }
    let mut out = io::stdout().lock();
    if args.json {
        let all: Vec<_> = found.iter().map(|(node, errors)| json!({"node": node, "errors": errors})).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let colour = match args.color {
        When::Auto => io::stdout().is_terminal(),
        When::Always => true,
        When::Never => false,
    };
    for (at, (node, errors)) in found.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        print(&mut out, node, errors, unit, colour)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, node: &str, errors: &Errors, unit: Unit, colour: bool) -> io::Result<()> {
    match errors {
        Errors::Classes { utterances, wrong, confusions, worst } => {
            writeln!(out, "{node}: {wrong} of {utterances} utterances wrong")?;
            print_confusions(out, confusions)?;
            print_classes(out, worst)
        }
        Errors::Texts { utterances, wrong, edits, confusions, worst } => {
            let (errors, tokens, unit_name) = (edits.errors(), edits.tokens, unit.plural());
            let kinds =
                format!("{} substituted, {} deleted, {} inserted", edits.substitutions, edits.deletions, edits.insertions);
            let rate = if tokens > 0 { format!("{:.2} %", 100.0 * edits.rate()) } else { "no rate".to_owned() };
            writeln!(out, "{node}: {wrong} of {utterances} utterances with errors")?;
            writeln!(out, "{errors} errors among {tokens} {unit_name}: {rate} ({kinds})")?;
            print_confusions(out, confusions)?;
            worst.iter().try_for_each(|text| print_text(out, text, unit, colour))
        }
        Errors::Trials { trials, eer, rejected, accepted } => {
            writeln!(out, "{node}: {trials} trials, EER {:.2} %", 100.0 * eer)?;
            print_trials(out, "one voice, lowest scores", rejected)?;
            print_trials(out, "two voices, highest scores", accepted)
        }
    }
}

fn print_confusions(out: &mut dyn Write, confusions: &[Confused]) -> io::Result<()> {
    if confusions.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nmost frequent:")?;
    for Confused { slot, reference, hypothesis, times, of } in confusions {
        let slot = slot.as_ref().map(|slot| format!("{slot}: ")).unwrap_or_default();
        let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
        let what = match (reference, hypothesis) {
            (Some(reference), Some(hypothesis)) => format!("{reference} -> {hypothesis}"),
            (Some(reference), None) => format!("{reference} left out"),
            (None, hypothesis) => format!("{} added", hypothesis.as_deref().unwrap_or_default()),
        };
        writeln!(out, "{times:>6}{of:<9} {slot}{what}")?;
    }
    Ok(())
}

fn print_classes(out: &mut dyn Write, worst: &[WrongClass]) -> io::Result<()> {
    if worst.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nhighest loss:")?;
    for WrongClass { id, loss, answers, .. } in worst {
        let answer = |(slot, right, answered): &(Option<String>, String, String)| {
            let slot = slot.as_ref().map(|slot| format!("{slot} ")).unwrap_or_default();
            format!("{slot}{right}, answered {answered}")
        };
        let answers = answers.iter().map(answer).collect::<Vec<_>>().join("; ");
        writeln!(out, "{loss:>8.3}  {id}: {answers}")?;
    }
    Ok(())
}

fn print_trials(out: &mut dyn Write, title: &str, trials: &[WrongTrial]) -> io::Result<()> {
    writeln!(out, "\n{title}:")?;
    trials.iter().try_for_each(|WrongTrial { enrol, test, score }| writeln!(out, "{score:>10.4}  {enrol}  {test}"))
}

/// Reference above hypothesis, token under token, with a letter under each error.
fn print_text(out: &mut dyn Write, text: &WrongText, unit: Unit, colour: bool) -> io::Result<()> {
    let edits = text.edits;
    let speaker = text.speaker.as_ref().map(|speaker| format!(" ({speaker})")).unwrap_or_default();
    let errors = if edits.errors() == 1 { "1 error".to_owned() } else { format!("{} errors", edits.errors()) };
    writeln!(out, "\n{}{speaker}: {errors} in {} {}", text.id, edits.tokens, unit.plural())?;
    for [reference, hypothesis, marks] in lines(&text.alignment, unit, colour) {
        writeln!(out, "  ref  {reference}")?;
        writeln!(out, "  hyp  {hypothesis}")?;
        writeln!(out, "       {marks}")?;
    }
    Ok(())
}

/// Lines of reference, hypothesis and marks, none wider than [`WIDTH`] unless a single token is.
fn lines(alignment: &[Aligned], unit: Unit, colour: bool) -> Vec<[String; 3]> {
    const RED: &str = "31";
    const GREEN: &str = "32";
    let gap = usize::from(unit != Unit::Character);
    let mut all: Vec<[String; 3]> = vec![];
    let (mut current, mut used) = ([const { String::new() }; 3], 0);
    for Aligned { step, reference, hypothesis } in alignment {
        let width = reference.chars().count().max(hypothesis.chars().count()).max(1);
        if used > 0 && used + width + gap > WIDTH {
            all.push(std::mem::replace(&mut current, [const { String::new() }; 3]));
            used = 0;
        }
        // What has no counterpart stands against stars.
        let stars = "*".repeat(width);
        let (reference, hypothesis, mark) = match *step {
            "substitution" => ((reference.as_str(), Some(RED)), (hypothesis.as_str(), Some(GREEN)), "S"),
            "deletion" => ((reference.as_str(), Some(RED)), (stars.as_str(), None), "D"),
            "insertion" => ((stars.as_str(), None), (hypothesis.as_str(), Some(GREEN)), "I"),
            _ => ((reference.as_str(), None), (hypothesis.as_str(), None), ""),
        };
        for (line, (token, paint)) in current.iter_mut().zip([reference, hypothesis, (mark, None)]) {
            let space = " ".repeat(width.saturating_sub(token.chars().count()) + gap);
            match paint.filter(|_| colour) {
                Some(paint) => line.extend(["\u{1b}[", paint, "m", token, "\u{1b}[0m", &space]),
                None => line.extend([token, &space]),
            }
        }
        used += width + gap;
    }
    all.push(current);
    for line in all.iter_mut().flatten() {
        line.truncate(line.trim_end().len());
    }
    all
}

#[cfg(test)]
mod tests {
    use scoring::predictions::{Predictions, Transcription};

    use super::*;

    fn texts(pairs: &[(&str, &str)], unit: Unit) -> Errors {
        let row = |(at, (reference, hypothesis)): (usize, &(&str, &str))| Transcription {
            id: format!("u{at}"),
            reference: (*reference).to_owned(),
            hypothesis: (*hypothesis).to_owned(),
            num_samples: 1,
            loss: 0.0,
            speaker: Some("ann".to_owned()),
        };
        let rows = pairs.iter().enumerate().map(row).collect();
        Errors::of(&Predictions::Texts(rows), Request { limit: 2, unit, containing: None })
    }

    fn shown(errors: &Errors, unit: Unit, colour: bool) -> String {
        let mut out = vec![];
        print(&mut out, "evaluate", errors, unit, colour).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn reference_stands_above_hypothesis() {
        let errors = texts(&[("turn the lights on", "turn lights off please"), ("so", "so")], Unit::Word);
        let text = shown(&errors, Unit::Word, false);
        let expected = "\
evaluate: 1 of 2 utterances with errors
3 errors among 5 words: 60.00 % (1 substituted, 1 deleted, 1 inserted)

most frequent:
     1          please added
     1 of 1     on -> off

u0 (ann): 3 errors in 4 words
  ref  turn the lights on  ******
  hyp  turn *** lights off please
            D          S   I
";
        assert_eq!(text, expected);
        let coloured = shown(&errors, Unit::Word, true);
        assert!(coloured.contains("turn \u{1b}[31mthe\u{1b}[0m lights"), "{coloured}");
        let plain: String = coloured.replace("\u{1b}[31m", "").replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, expected);
    }

    #[test]
    fn long_texts_go_on_below() {
        let reference = vec!["abcdefghi"; 25].join(" ");
        let errors = texts(&[(&reference, "abcdefghi")], Unit::Word);
        let text = shown(&errors, Unit::Word, false);
        assert_eq!(text.matches("  ref  ").count(), 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH + 7), "{text}");
    }

    #[test]
    fn characters_stand_side_by_side() {
        let text = shown(&texts(&[("cat", "cut")], Unit::Character), Unit::Character, false);
        assert!(text.contains("  ref  cat\n  hyp  cut\n        S\n"), "{text}");
    }
}
