//! What is known to be wrong with clips of MELD. Source: issues 9, 20, 22, 27, 39 and 52 of its repository.

use crate::{Defect, Split};

const DISTURBED: &str = "the sound is disturbed (issue 9)";
const WRONGLY_CUT: &str = "cut wrongly: minutes of other dialogue, the text does not match (issue 20)";
pub(super) const OUT_OF_STEP: &str = "text and clips of this dialogue are out of step (issue 9)";

pub(super) static DEFECTS: [Defect; 12] = [
    left_out("train/dia125_utt3", "corrupt in every copy (issues 39 and 52)"),
    left_out("dev/dia110_utt7", "has a row and never had a clip (issues 22 and 27)"),
    kept("train/dia309_utt0", WRONGLY_CUT),
    kept("test/dia38_utt4", WRONGLY_CUT),
    kept("test/dia220_utt0", WRONGLY_CUT),
    kept("test/dia155_utt3", "no length by its times"),
    kept("train/dia793_utt0", DISTURBED),
    kept("train/dia164_utt5", DISTURBED),
    kept("train/dia682_utt1", DISTURBED),
    kept("train/dia529_utt2", DISTURBED),
    kept("train/dia1029_utt1", DISTURBED),
    kept("train/dia1008_utt1", DISTURBED),
];

/// The sound of these is not what their rows say.
pub(super) const WRONG: [&str; 3] = ["train/dia309_utt0", "test/dia38_utt4", "test/dia220_utt0"];

const fn left_out(id: &'static str, problem: &'static str) -> Defect {
    Defect { id, problem, kept: false }
}

const fn kept(id: &'static str, problem: &'static str) -> Defect {
    Defect { id, problem, kept: true }
}

pub(super) fn problem(id: &str) -> Option<&'static Defect> {
    DEFECTS.iter().find(|defect| defect.id == id)
}

pub(super) fn is_out_of_step(split: Split, dialogue: &str) -> bool {
    split == Split::Train && ["241", "485", "757"].contains(&dialogue)
}
