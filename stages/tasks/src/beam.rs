//! Beam search over a recogniser's scores, with a language model of words where there is one.
//!
//! Source: Hannun, Maas, Jurafsky and Ng 2014, "First-pass large vocabulary continuous speech recognition using
//! bi-directional recurrent DNNs", arXiv:1408.2873, algorithm 1. The score of a text is `ln p(text | audio) + lm_weight *
//! ln p(text) + word_bonus * words`.

use std::collections::BTreeMap;

use crate::Vocabulary;
use crate::ngram::{History, NgramModel};

/// How wide to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Texts that are followed at once.
    pub width: usize,
    /// Weight of the language model's log probability.
    pub lm_weight: f64,
    /// Added for each word, against the language model's liking for few.
    pub word_bonus: f64,
}

/// Tokens less likely than this at a frame are not tried, natural logarithm.
const LEAST_LIKELY: f32 = -12.0;

/// A text as far as it goes: a node of the tree of all that were tried.
struct Prefix {
    parent: usize,
    token: i64,
    children: BTreeMap<i64, usize>,
    /// Weighted log probability of the whole words so far by the language model, with bonuses.
    language: f64,
    history: History,
    /// Tokens of the word under way.
    word: Vec<i64>,
}

/// Log probabilities of a prefix ending in a blank, and in its last token.
#[derive(Clone, Copy)]
struct Ends {
    blank: f64,
    token: f64,
}

impl Ends {
    const NEVER: Self = Self { blank: f64::NEG_INFINITY, token: f64::NEG_INFINITY };

    fn total(self) -> f64 {
        log_add(self.blank, self.token)
    }
}

fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The most likely text of one utterance, as tokens without blanks.
///
/// `log_probs` holds the natural log probabilities of all tokens frame by frame. With a vocabulary that has a delimiter the model
/// judges what stands between delimiters, with one of symbols it judges every token as a word.
pub fn search(log_probs: &[f32], vocabulary: &Vocabulary, model: Option<&NgramModel>, options: Options) -> Vec<i64> {
    let blank = vocabulary.blank();
    let root = Prefix {
        parent: 0,
        token: -1,
        children: BTreeMap::new(),
        language: 0.0,
        history: model.map(NgramModel::start).unwrap_or_default(),
        word: Vec::new(),
    };
    let mut tree = Tree { prefixes: vec![root], vocabulary, model, options };
    let mut beam: Vec<(usize, Ends)> = vec![(0, Ends { blank: 0.0, token: f64::NEG_INFINITY })];
    for frame in log_probs.chunks_exact(vocabulary.tokens().len()) {
        let mut next: BTreeMap<usize, Ends> = BTreeMap::new();
        let likely: Vec<(i64, f64)> =
            (0..).zip(frame).filter(|(_, p)| **p >= LEAST_LIKELY).map(|(id, &p)| (id, f64::from(p))).collect();
        for &(prefix, ends) in &beam {
            for &(token, p) in &likely {
                if token == blank {
                    let entry = next.entry(prefix).or_insert(Ends::NEVER);
                    entry.blank = log_add(entry.blank, ends.total() + p);
                    continue;
                }
                // The same token again stays where it is, unless a blank came between.
                let mut arriving = ends.total();
                if token == tree.prefixes[prefix].token {
                    let entry = next.entry(prefix).or_insert(Ends::NEVER);
                    entry.token = log_add(entry.token, ends.token + p);
                    arriving = ends.blank;
                }
                if arriving > f64::NEG_INFINITY {
                    let longer = tree.longer(prefix, token);
                    let entry = next.entry(longer).or_insert(Ends::NEVER);
                    entry.token = log_add(entry.token, arriving + p);
                }
            }
        }
        beam = next.into_iter().collect();
        let score = |&(prefix, ends): &(usize, Ends)| ends.total() + tree.prefixes[prefix].language;
        beam.sort_by(|a, b| score(b).total_cmp(&score(a))); // stable: ties keep the order in which they were first tried
        beam.truncate(options.width.max(1));
    }
    let best = beam.iter().max_by(|(a, x), (b, y)| {
        (x.total() + tree.final_language(*a)).total_cmp(&(y.total() + tree.final_language(*b))).then(b.cmp(a))
    });
    best.map_or_else(Vec::new, |&(prefix, _)| tree.tokens(prefix))
}

struct Tree<'a> {
    prefixes: Vec<Prefix>,
    vocabulary: &'a Vocabulary,
    model: Option<&'a NgramModel>,
    options: Options,
}

impl Tree<'_> {
    /// The prefix with one token more.
    fn longer(&mut self, prefix: usize, token: i64) -> usize {
        if let Some(&known) = self.prefixes[prefix].children.get(&token) {
            return known;
        }
        let parent = &self.prefixes[prefix];
        let (mut language, mut history, mut word) = (parent.language, parent.history.clone(), parent.word.clone());
        match self.vocabulary.delimiter() {
            Some(delimiter) if token == delimiter => (language, history) = self.judged(language, history, &mut word),
            Some(_) => word.push(token),
            None => {
                word.push(token);
                (language, history) = self.judged(language, history, &mut word);
            }
        }
        let new = self.prefixes.len();
        self.prefixes.push(Prefix { parent: prefix, token, children: BTreeMap::new(), language, history, word });
        self.prefixes[prefix].children.insert(token, new);
        new
    }

    /// Lets the model judge the word under way, if there is one, and empties it.
    fn judged(&self, language: f64, history: History, word: &mut Vec<i64>) -> (f64, History) {
        if word.is_empty() {
            return (language, history);
        }
        let text = self.vocabulary.decode(word);
        word.clear();
        let Some(model) = self.model else { return (language + self.options.word_bonus, history) };
        let (score, history) = model.word(&history, &text);
        (language + self.options.lm_weight * score + self.options.word_bonus, history)
    }

    /// With the last word and the end of the text.
    fn final_language(&self, prefix: usize) -> f64 {
        let prefix = &self.prefixes[prefix];
        let (language, history) = self.judged(prefix.language, prefix.history.clone(), &mut prefix.word.clone());
        language + self.model.map_or(0.0, |model| self.options.lm_weight * model.end(&history))
    }

    fn tokens(&self, mut prefix: usize) -> Vec<i64> {
        let mut tokens = Vec::new();
        while prefix != 0 {
            tokens.push(self.prefixes[prefix].token);
            prefix = self.prefixes[prefix].parent;
        }
        tokens.reverse();
        tokens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Options = Options { width: 64, lm_weight: 0.0, word_bonus: 0.0 };

    fn vocabulary() -> Vocabulary {
        Vocabulary::of_characters(["ab"].into_iter(), &[]) // a b | [UNK] [PAD]
    }

    fn log_probs(frames: &[[f32; 5]]) -> Vec<f32> {
        frames.concat().into_iter().map(|p| p.max(1e-9).ln()).collect()
    }

    #[test]
    fn paths_of_one_text_add_up() {
        // Each best path says nothing (0.6 * 0.6 = 0.36), but three paths say `a` (0.64 together): Graves 2006, figure 2.
        let frames = log_probs(&[[0.4, 0.0, 0.0, 0.0, 0.6], [0.4, 0.0, 0.0, 0.0, 0.6]]);
        let vocabulary = vocabulary();
        assert_eq!(search(&frames, &vocabulary, None, PLAIN), [0]);
        assert_eq!(vocabulary.collapse(&[4, 4]), [0; 0]);
    }

    #[test]
    fn a_repeat_needs_a_blank_between() {
        let sure = |token: usize| {
            let mut frame = [0.0; 5];
            frame[token] = 1.0;
            frame
        };
        let vocabulary = vocabulary();
        let found = |tokens: &[usize]| {
            let frames: Vec<_> = tokens.iter().map(|&token| sure(token)).collect();
            vocabulary.decode(&search(&log_probs(&frames), &vocabulary, None, PLAIN))
        };
        assert_eq!(found(&[0, 0, 4, 0, 1]), "aab");
        assert_eq!(found(&[0, 0, 0, 1]), "ab");
        assert_eq!(found(&[0, 2, 1]), "a b");
    }

    #[test]
    fn a_language_model_decides_between_what_sounds_alike() {
        let arpa = "\\data\\\nngram 1=4\n\\1-grams:\n-0.3 a\n-2.0 b\n-1 <s>\n-0.5 </s>\n\\end\\\n";
        let model = NgramModel::parse(arpa).unwrap();
        let frames = log_probs(&[[0.45, 0.55, 0.0, 0.0, 0.0]]);
        let vocabulary = vocabulary();
        let with = |lm_weight| vocabulary.decode(&search(&frames, &vocabulary, Some(&model), Options { lm_weight, ..PLAIN }));
        assert_eq!((with(0.0).as_str(), with(0.5).as_str()), ("b", "a"));
        // With symbols every token is a word.
        let symbols = Vocabulary::of_symbols(["<pad>", "a", "b", "<unk>", "-"].map(str::to_owned).to_vec(), 0, 3, None);
        let frames = log_probs(&[[0.0, 0.45, 0.55, 0.0, 0.0]]);
        let found = search(&frames, &symbols, Some(&model), Options { lm_weight: 0.5, ..PLAIN });
        assert_eq!(symbols.decode(&found), "a");
    }

    /// The likelihood of a text by adding up all paths.
    fn brute(frames: &[[f32; 5]], vocabulary: &Vocabulary) -> BTreeMap<Vec<i64>, f64> {
        let mut sums = BTreeMap::new();
        for path in 0..5_usize.pow(frames.len() as u32) {
            let tokens: Vec<i64> = (0..frames.len()).map(|at| (path / 5_usize.pow(at as u32) % 5) as i64).collect();
            let p: f64 = tokens.iter().zip(frames).map(|(&token, frame)| f64::from(frame[token as usize])).product();
            *sums.entry(vocabulary.collapse(&tokens)).or_insert(0.0) += p;
        }
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn a_wide_beam_finds_the_best_text(weights in prop::collection::vec(prop::array::uniform5(0.01_f32..1.0), 1..5)) {
            let frames: Vec<[f32; 5]> = weights.iter().map(|w| w.map(|x| x / w.iter().sum::<f32>())).collect();
            let vocabulary = vocabulary();
            let sums = brute(&frames, &vocabulary);
            let best = sums.values().copied().fold(0.0, f64::max);
            let found = search(&log_probs(&frames), &vocabulary, None, Options { width: 10_000, ..PLAIN });
            prop_assert!((sums[&found] - best).abs() < 1e-6, "{found:?}");
        }
    }
}
