//! Edit distance: the bit-parallel table against the plain one, and what a whole test set costs.
//!
//! `cargo bench -p scoring --bench edit`

use divan::Bencher;
use divan::counter::ItemsCount;
use scoring::edit::{Edits, distance};
use scoring::{Unit, edit};

fn main() {
    divan::main();
}

/// Tokens of an alphabet of 28, a tenth of them changed in the other text.
fn pair(length: usize) -> (Vec<u32>, Vec<u32>) {
    let mut state = 1_u64;
    let mut random = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let reference: Vec<u32> = (0..length).map(|_| 97 + random(28) as u32).collect();
    let mut hypothesis = Vec::new();
    for &token in &reference {
        match random(30) {
            0 => {}
            1 => hypothesis.extend([token, 97]),
            2 => hypothesis.push(98),
            _ => hypothesis.push(token),
        }
    }
    (reference, hypothesis)
}

/// The table of distances, cell by cell in one row.
fn plain(a: &[u32], b: &[u32]) -> u64 {
    let mut row: Vec<u64> = (0..=b.len() as u64).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i as u64 + 1;
        for (j, y) in b.iter().enumerate() {
            let least = (diagonal + u64::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = least;
        }
    }
    row[b.len()]
}

/// Lengths in tokens: a sentence in words, one in characters, two minutes of speech in characters.
const LENGTHS: [usize; 4] = [20, 100, 400, 2000];

#[divan::bench(args = LENGTHS)]
fn plain_distance(bencher: Bencher, length: usize) {
    let (reference, hypothesis) = pair(length);
    let cells = ItemsCount::new(reference.len() * hypothesis.len());
    bencher.counter(cells).bench_local(|| plain(&reference, &hypothesis));
}

#[divan::bench(args = LENGTHS)]
fn bit_parallel_distance(bencher: Bencher, length: usize) {
    let (reference, hypothesis) = pair(length);
    let cells = ItemsCount::new(reference.len() * hypothesis.len());
    bencher.counter(cells).bench_local(|| distance(&reference, &hypothesis));
}

#[divan::bench(args = LENGTHS)]
fn bit_parallel_alignment(bencher: Bencher, length: usize) {
    let (reference, hypothesis) = pair(length);
    let cells = ItemsCount::new(reference.len() * hypothesis.len());
    bencher.counter(cells).bench_local(|| edit::align(&reference, &hypothesis));
}

/// As many utterances as the test set of LibriSpeech has, twenty words each, in characters.
#[divan::bench(sample_count = 10)]
fn characters_of_a_test_set(bencher: Bencher) {
    let text = |tokens: &[u32]| {
        tokens.chunks(5).map(|word| word.iter().filter_map(|c| char::from_u32(*c)).collect()).collect::<Vec<String>>().join(" ")
    };
    let (reference, hypothesis) = pair(100);
    let (reference, hypothesis) = (text(&reference), text(&hypothesis));
    bencher.counter(ItemsCount::new(2620_usize)).bench_local(|| {
        let mut all = Edits::default();
        for _ in 0..2620 {
            all += Unit::Character.count(&reference, &hypothesis);
        }
        all
    });
}
