//! Which utterances make a batch. Pure: lengths and seeds in, lists of rows out.
//!
//! Utterances of similar length share a batch, so that little of it is padding; which of them do, and the order of the
//! batches, is drawn anew for every epoch from a generator of its own.

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

/// Utterances that are shuffled together before they are sorted by length. Large enough that a batch holds little padding,
/// small enough that who meets whom in a batch changes from epoch to epoch.
const POOL: usize = 2048;

/// The batches of one epoch of training, in order: every row once.
///
/// `lengths` are in samples, by row. The same seed and epoch give the same batches.
pub fn shuffled(lengths: &[usize], limit: BatchLimit, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut rng = Rng::named(seed, &format!("order of epoch {epoch}"));
    let rows = rng.choose(lengths.len(), lengths.len());
    let mut batches = Vec::new();
    for pool in rows.chunks(POOL) {
        let mut pool = pool.to_vec();
        pool.sort_by_key(|&row| std::cmp::Reverse(lengths[row])); // stable: equal lengths stay shuffled
        fill(&pool, lengths, limit, &mut batches);
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
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in rows {
        let grown = longest.max(lengths[row]);
        let fits = |batch: &Vec<usize>| batch.len() < limit.utterances && grown * (batch.len() + 1) <= limit.samples;
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
        for count in [0, 1, 2, 100, POOL, 2 * POOL + 1] {
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

    #[test]
    fn little_is_padding() {
        let lengths = lengths(POOL);
        let limit = BatchLimit { samples: 60_000, utterances: usize::MAX };
        let padded: usize =
            shuffled(&lengths, limit, 1, 0).iter().map(|b| b.len() * b.iter().map(|&row| lengths[row]).max().unwrap()).sum();
        let real: usize = lengths.iter().sum();
        assert!((padded as f64) < 1.05 * real as f64, "{padded} for {real}");
    }

    #[test]
    fn order_depends_on_seed_and_epoch_only() {
        let lengths = lengths(300);
        assert_eq!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 1, 2));
        assert_ne!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 1, 3));
        assert_ne!(shuffled(&lengths, LIMIT, 1, 2), shuffled(&lengths, LIMIT, 2, 2));
    }
}
