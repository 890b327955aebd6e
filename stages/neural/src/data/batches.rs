//! Which utterances make a batch. Pure: lengths and seeds in, lists of rows out.
//!
//! Utterances of similar length share a batch, so that little of it is padding. Every epoch draws from a generator of its own which of
//! them do, and the order of the batches.

use crate::nn::random::Rng;

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Samples, padding counted. An utterance longer than this makes a batch alone.
    pub samples: usize,
    /// Utterances.
    pub utterances: usize,
}

impl BatchLimit {
    /// From seconds of audio at `sample_rate` Hz, and perhaps a number of utterances.
    pub fn new(secs: f64, utterances: Option<u32>, sample_rate: u32) -> Self {
        let utterances = utterances.map_or(usize::MAX, |count| count as usize);
        Self { samples: (secs * f64::from(sample_rate)) as usize, utterances }
    }
}

/// Batches whose utterances are drawn together before they are sorted by length. Enough of them that a batch has little padding, and
/// so few that each epoch has other batches.
const POOL_BATCHES: usize = 8;
/// Fewest pools of a data set: a small one would have the same batches in every epoch otherwise.
const LEAST_POOLS: usize = 4;

/// Utterances that are drawn together.
fn pool_size(lengths: &[usize], limit: BatchLimit) -> usize {
    let mean = (lengths.iter().sum::<usize>() / lengths.len().max(1)).max(1);
    let batch = (limit.samples / mean).min(limit.utterances).max(1);
    batch.saturating_mul(POOL_BATCHES).min(lengths.len().div_ceil(LEAST_POOLS)).max(batch)
}

/// The batches of one epoch of training, in order: every row once.
///
/// `lengths` are in samples, by row. The same seed and epoch give the same batches.
pub fn shuffled(lengths: &[usize], limit: BatchLimit, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut rng = Rng::named(seed, &format!("order of epoch {epoch}"));
    let rows = rng.choose(lengths.len(), lengths.len());
    let mut order = Vec::with_capacity(rows.len());
    for (pool, falls) in rows.chunks(pool_size(lengths, limit)).zip([true, false].into_iter().cycle()) {
        // Lengths fall and rise in turn, so that a batch of the end of one pool and the start of the next has little padding, too.
        let mut pool = pool.to_vec();
        pool.sort_by_key(|&row| if falls { usize::MAX - lengths[row] } else { lengths[row] }); // stable: equal lengths stay shuffled
        order.append(&mut pool);
    }
    let mut batches = grow(order, lengths, limit);
    for batch in &mut batches {
        batch.sort_by_key(|&row| std::cmp::Reverse(lengths[row])); // a protocol looks at the longest, the first
    }
    rng.choose(batches.len(), batches.len()).into_iter().map(|at| std::mem::take(&mut batches[at])).collect()
}

/// Batches for evaluation: every row once, longest first, so that what does not fit in memory fails at once.
pub fn by_length(lengths: &[usize], limit: BatchLimit) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut batches = Vec::new();
    fill(&rows, lengths, limit, &mut batches);
    batches
}

/// Batches in the order of the benchmark's phoneme recognition: rows with the most tokens first, the same in every epoch.
pub fn longest_first(tokens: &[usize], lengths: &[usize], limit: BatchLimit) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..tokens.len()).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(tokens[row]));
    grow(rows, lengths, limit)
}

/// Cuts rows, in any order, into batches within the limit.
fn grow(rows: Vec<usize>, lengths: &[usize], limit: BatchLimit) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in rows {
        let grown = longest.max(lengths[row]);
        let fits = |batch: &Vec<usize>| batch.len() < limit.utterances && grown.saturating_mul(batch.len() + 1) <= limit.samples;
        if let Some(batch) = batches.last_mut().filter(|batch| fits(batch)) {
            batch.push(row);
            longest = grown;
        } else {
            batches.push(vec![row]);
            longest = lengths[row];
        }
    }
    batches
}

/// Cuts rows, sorted longest first, into batches within the limit.
fn fill(rows: &[usize], lengths: &[usize], limit: BatchLimit, batches: &mut Vec<Vec<usize>>) {
    let mut rest = rows;
    while let Some(&longest) = rest.first() {
        let fitting = limit.samples / lengths[longest].max(1);
        let (batch, after) = rest.split_at(fitting.min(limit.utterances).clamp(1, rest.len()));
        batches.push(batch.to_vec());
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LIMIT: BatchLimit = BatchLimit { samples: 10_000, utterances: 7 };

    fn lengths(count: usize) -> Vec<usize> {
        let mut rng = Rng::new(9);
        (0..count).map(|_| rng.below(3_000)).collect()
    }

    fn sorted(batches: &[Vec<usize>]) -> Vec<usize> {
        let mut rows = batches.concat();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn each_utterance_is_visited_once() {
        for count in [0, 1, 2, 100, 2048, 4097] {
            let lengths = lengths(count);
            let all: Vec<usize> = (0..count).collect();
            assert_eq!(sorted(&shuffled(&lengths, LIMIT, 1, 0)), all);
            assert_eq!(sorted(&by_length(&lengths, LIMIT)), all);
        }
    }

    #[test]
    fn batches_stay_within_the_limit() {
        let mut lengths = lengths(500);
        lengths.push(20_000);
        for batch in shuffled(&lengths, LIMIT, 1, 0) {
            let longest = batch.iter().map(|&row| lengths[row]).max().unwrap();
            assert!(batch.len() <= LIMIT.utterances);
            assert!(batch.len() == 1 || longest * batch.len() <= LIMIT.samples, "{batch:?}");
        }
    }

    #[test]
    fn the_published_order_goes_by_tokens_and_never_changes() {
        let (tokens, lengths) = ([3, 9, 5, 9], [4_000, 2_000, 7_000, 1_000]);
        assert_eq!(longest_first(&tokens, &lengths, LIMIT), [vec![1, 3], vec![2], vec![0]]);
        let lengths = super::tests::lengths(400);
        let batches = longest_first(&lengths, &lengths, LIMIT);
        assert_eq!(sorted(&batches), (0..400).collect::<Vec<_>>());
        assert!(batches.iter().all(|batch| batch.len() <= LIMIT.utterances));
    }

    /// Two thirds of the utterances last 13 to 16 s, the others 1.5 to 13 s, much as in LibriSpeech.
    fn read_speech(count: usize) -> Vec<usize> {
        let mut rng = Rng::new(3);
        let secs = |draw: f64, place: f64| if draw < 0.67 { 13.0 + 3.0 * place } else { 1.5 + 11.5 * place };
        (0..count).map(|_| (16_000.0 * secs(rng.uniform(), rng.uniform())) as usize).collect()
    }

    /// Padding as a share of the audio.
    fn padding(batches: &[Vec<usize>], lengths: &[usize]) -> f64 {
        let padded = |batch: &Vec<usize>| batch.len() * batch.iter().map(|&row| lengths[row]).max().unwrap();
        batches.iter().map(padded).sum::<usize>() as f64 / lengths.iter().sum::<usize>() as f64 - 1.0
    }

    /// Share of the pairs of one epoch's batches that share a batch in the next epoch.
    fn meet_again(lengths: &[usize], limit: BatchLimit) -> f64 {
        let pairs = |epoch| {
            let batches = shuffled(lengths, limit, 1, epoch);
            let of = |batch: &Vec<usize>| {
                let mut rows = batch.clone();
                rows.sort_unstable();
                let later = |(at, &row): (usize, &usize)| rows[at + 1..].iter().map(|&other| (row, other)).collect::<Vec<_>>();
                rows.iter().enumerate().flat_map(later).collect::<Vec<_>>()
            };
            batches.iter().flat_map(of).collect::<BTreeSet<_>>()
        };
        let (first, next) = (pairs(0), pairs(1));
        first.intersection(&next).count() as f64 / first.len() as f64
    }

    #[test]
    fn little_is_padding_and_batches_change_with_the_epoch() {
        for (count, secs, again) in [(2048, 100, 0.05), (600, 100, 0.1), (2048, 32, 0.05)] {
            let lengths = read_speech(count);
            let limit = BatchLimit { samples: secs * 16_000, utterances: usize::MAX };
            let share = padding(&shuffled(&lengths, limit, 1, 0), &lengths);
            assert!(share < 0.1, "{count} utterances in batches of {secs} s: {share}");
            let met = meet_again(&lengths, limit);
            assert!(met < again, "{count} utterances in batches of {secs} s: {met}");
        }
        let few = lengths(120);
        let met = meet_again(&few, BatchLimit { samples: usize::MAX, utterances: 8 });
        assert!(met < 0.3, "{met}");
    }

    #[test]
    fn order_depends_on_seed_and_epoch_only() {
        let lengths = lengths(300);
        assert_eq!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 1, 2));
        assert_ne!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 1, 3));
        assert_ne!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 2, 2));
    }
}
