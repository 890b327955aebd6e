//! Aligned texts of reference and hypothesis, for people.

use crate::edit::Step;
use crate::text::Unit;

/// Column of an alignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Kind of step.
    pub step: Step,
    /// Token of the reference; empty for an insertion.
    pub reference: String,
    /// Token of the hypothesis; empty for a deletion.
    pub hypothesis: String,
}

/// Returns the columns of the alignment of two texts.
pub fn cells(unit: Unit, reference: &str, hypothesis: &str) -> Vec<Cell> {
    let (mut wanted, mut given) = (unit.tokens(reference).into_iter(), unit.tokens(hypothesis).into_iter());
    let cell = |step: Step| Cell {
        step,
        reference: if step == Step::Insertion { String::new() } else { wanted.next().unwrap_or_default() },
        hypothesis: if step == Step::Deletion { String::new() } else { given.next().unwrap_or_default() },
    };
    unit.align(reference, hypothesis).into_iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_stands_once() {
        let found = cells(Unit::Word, "the cat sat", "the hat sat down");
        let steps: Vec<Step> = found.iter().map(|cell| cell.step).collect();
        assert_eq!(steps, [Step::Match, Step::Substitution, Step::Match, Step::Insertion]);
        let join = |of: fn(&Cell) -> &str| found.iter().map(of).filter(|token| !token.is_empty()).collect::<Vec<_>>().join(" ");
        assert_eq!(join(|cell| &cell.reference), "the cat sat");
        assert_eq!(join(|cell| &cell.hypothesis), "the hat sat down");
    }
}
