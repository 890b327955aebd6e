//! Measures how well the letter-to-sound rules read words of the dictionary that they were not trained on:
//!
//! ```text
//! cargo run --release -p tasks --example letter_accuracy
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use tasks::lexicon::Lexicon;
use tasks::text::letters::LetterToSound;

fn main() {
    let lexicon = Lexicon::cmudict();
    let mut words: Vec<(&str, &[String])> = lexicon.iter().filter(|(word, _)| word.len() > 1).collect();
    words.sort_unstable();
    // Every twentieth word in alphabetical order is held out.
    let (held, known): (Vec<_>, Vec<_>) = words.into_iter().enumerate().partition(|(at, _)| at % 20 == 7);
    let started = Instant::now();
    let model = LetterToSound::train(known.iter().map(|&(_, entry)| entry));
    println!("trained on {} words in {:.1} s", known.len(), started.elapsed().as_secs_f64());

    let started = Instant::now();
    let plain =
        |phones: &[String]| phones.iter().map(|phone| phone.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).collect();
    let (mut read, mut right, mut right_plain, mut errors, mut phones) = (0_u32, 0_u32, 0_u32, 0, 0);
    for (_, (word, expected)) in &held {
        let Some(found) = model.phones(word) else { continue };
        read += 1;
        right += u32::from(found == **expected);
        let (found, expected): (Vec<String>, Vec<String>) = (plain(&found), plain(expected));
        right_plain += u32::from(found == expected);
        errors += distance(&found, &expected);
        phones += expected.len();
    }
    let percent = |count: u32| 100.0 * f64::from(count) / f64::from(read);
    println!("held out: {} words, of which {read} can be read, in {:.1} s", held.len(), started.elapsed().as_secs_f64());
    println!("words right: {:.1} % with stress, {:.1} % without", percent(right), percent(right_plain));
    println!("phoneme error rate without stress: {:.1} %", 100.0 * errors as f64 / phones as f64);
}

/// Edit distance.
fn distance(a: &[String], b: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[column] + 1).min(row[column + 1] + 1);
            diagonal = std::mem::replace(&mut row[column + 1], cost);
        }
    }
    row[b.len()]
}
