//! Word n-gram models in the ARPA format, with back-off (Katz 1987).
//!
//! Source of the format: `ngram-format(5)` of SRILM. Numbers are logarithms to base 10 in the file and natural ones here.

use std::collections::HashMap;
use std::f64::consts::LN_10;

/// A model. Words that it does not list count as `<unk>`.
#[derive(Debug, Clone)]
pub struct NgramModel {
    words: HashMap<String, u32>,
    /// Log probability and back-off weight of every listed n-gram.
    grams: HashMap<Box<[u32]>, (f64, f64)>,
    order: usize,
    begin: Option<u32>,
    end: Option<u32>,
    unknown: Option<u32>,
}

/// The words before a place, the last ones last: as many as the model looks back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Vec<u32>);

/// A file that is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArpaError {
    /// Another format.
    #[error("expected a section `\\data\\` of an ARPA language model, found none")]
    NoData,
    /// A line without the right fields.
    #[error("line {line}: expected {expected}, found `{found}`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Expected content.
        expected: String,
        /// The line, or its beginning.
        found: String,
    },
    /// It ends early, or counts wrongly.
    #[error("expected {expected} {order}-grams, found {found}")]
    Count {
        /// Words of an n-gram.
        order: usize,
        /// As announced.
        expected: usize,
        /// As listed.
        found: usize,
    },
}

/// The log probability, natural, of a word that a model without `<unk>` does not list. As small as tools give it.
const UNLISTED: f64 = -10.0 * LN_10;

impl NgramModel {
    /// Reads a model.
    ///
    /// Errors: [`ArpaError`].
    pub fn parse(text: &str) -> Result<Self, ArpaError> {
        let mut lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number)).filter(|(line, _)| !line.is_empty());
        lines.find(|(line, _)| *line == "\\data\\").ok_or(ArpaError::NoData)?;
        let (mut words, mut grams) = (HashMap::new(), HashMap::new());
        let (mut announced, mut listed) = (Vec::new(), Vec::<usize>::new());
        let mut order = 0;
        for (line, number) in lines {
            let wrong = |expected: &str| ArpaError::Line {
                line: number,
                expected: expected.to_owned(),
                found: line.chars().take(60).collect(),
            };
            if line == "\\end\\" {
                break;
            }
            if let Some(section) = line.strip_prefix('\\') {
                let size = section.strip_suffix("-grams:").and_then(|size| size.parse().ok());
                order = size.filter(|&size| size == listed.len() + 1).ok_or_else(|| wrong("`\\1-grams:` and so on in order"))?;
                listed.push(0);
            } else if order == 0 {
                let count = line.strip_prefix("ngram").and_then(|rest| rest.split_once('='));
                let count = count.and_then(|(_, count)| count.trim().parse::<usize>().ok());
                announced.push(count.ok_or_else(|| wrong("`ngram 1=COUNT`"))?);
            } else {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let expected = format!("a number, {order} words and perhaps a number");
                if fields.len() != order + 1 && fields.len() != order + 2 {
                    return Err(wrong(&expected));
                }
                let value = |at: usize| fields.get(at).map_or(Ok(0.0), |text| text.parse::<f64>());
                let (Ok(log10), Ok(backoff)) = (value(0), value(order + 1)) else { return Err(wrong(&expected)) };
                let gram: Box<[u32]> = fields[1..=order]
                    .iter()
                    .map(|&word| {
                        let next = words.len() as u32;
                        *words.entry(word.to_owned()).or_insert(next)
                    })
                    .collect();
                grams.insert(gram, (log10 * LN_10, backoff * LN_10));
                listed[order - 1] += 1;
            }
        }
        for (at, &expected) in announced.iter().enumerate() {
            let found = listed.get(at).copied().unwrap_or(0);
            if found != expected {
                return Err(ArpaError::Count { order: at + 1, expected, found });
            }
        }
        let id = |word: &str| words.get(word).copied();
        let (begin, end, unknown) = (id("<s>"), id("</s>"), id("<unk>"));
        Ok(Self { words, grams, order: listed.len().max(1), begin, end, unknown })
    }

    /// True if the model lists a word.
    pub fn knows(&self, word: &str) -> bool {
        self.words.contains_key(word)
    }

    /// Before the first word.
    pub fn start(&self) -> History {
        History(self.begin.into_iter().collect())
    }

    /// The log probability of `word` behind `history`, and the history behind it.
    pub fn word(&self, history: &History, word: &str) -> (f64, History) {
        let Some(id) = self.words.get(word).copied().or(self.unknown) else { return (UNLISTED, History::default()) };
        let score = self.score(&history.0, id);
        let mut next = history.0.clone();
        next.push(id);
        let excess = next.len().saturating_sub(self.order - 1);
        next.drain(..excess);
        (score, History(next))
    }

    /// The log probability that nothing follows `history`; 0 for a model without `</s>`.
    pub fn end(&self, history: &History) -> f64 {
        self.end.map_or(0.0, |end| self.score(&history.0, end))
    }

    fn score(&self, history: &[u32], id: u32) -> f64 {
        let mut gram = history.to_vec();
        gram.push(id);
        if let Some((score, _)) = self.grams.get(&gram[..]) {
            return *score;
        }
        if history.is_empty() {
            return UNLISTED;
        }
        let backoff = self.grams.get(history).map_or(0.0, |(_, backoff)| *backoff);
        backoff + self.score(&history[1..], id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const MODEL: &str = "made by hand\n\\data\\\nngram 1=5\nngram 2=3\n\n\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.5\n\
        -1.2\t</s>\n-0.6\tgo\t-0.3\n-0.7\tleft\t-0.2\n\n\\2-grams:\n-0.1\t<s> go\n-0.4\tgo left\n-0.2\tleft </s>\n\n\\end\\\n";

    #[track_caller]
    fn close(found: f64, log10: f64) {
        assert!((found / LN_10 - log10).abs() < 1e-9, "{} is not {log10}", found / LN_10);
    }

    #[test]
    fn listed_pairs_count_as_listed_and_others_back_off() {
        let model = NgramModel::parse(MODEL).unwrap();
        let (score, after_go) = model.word(&model.start(), "go");
        close(score, -0.1);
        let (score, after_left) = model.word(&after_go, "left");
        close(score, -0.4);
        close(model.end(&after_left), -0.2);
        close(model.end(&after_go), -0.3 - 1.2); // back-off of `go`, then `</s>` alone
        close(model.word(&after_left, "go").0, -0.2 - 0.6);
        close(model.word(&model.start(), "never").0, -0.5 - 1.0); // unknown
        assert!(model.knows("left") && !model.knows("never"));
    }

    #[test]
    fn what_is_no_model_is_named() {
        let message = |text: &str| NgramModel::parse(text).unwrap_err().to_string();
        assert!(message("hello").contains("`\\data\\`"));
        assert!(message("\\data\\\nngram 1=2\n\\1-grams:\n-1 a\n\\end\\").contains("expected 2 1-grams, found 1"));
        assert!(message("\\data\\\nngram 1=1\n\\1-grams:\nx a\n").starts_with("line 4: expected a number"));
        assert!(message("\\data\\\n\\2-grams:\n").starts_with("line 2: expected `\\1-grams:`"));
    }
}
