//! Known faults of clips of MELD. Source: issues 9, 20, 22, 27, 39 and 52 of its repository.

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

/// Clips that every copy has and no table names.
pub(super) const WITHOUT_A_ROW: &str = "has a clip and never had a row (issue 22)";

/// True if a clip of a split is known to have no row: five by name, and the long cuts `final_videos_test...`.
pub(super) fn has_no_row(split: Split, clip: &str) -> bool {
    match split {
        Split::Train => false,
        Split::Dev => ["dia49_utt4", "dia49_utt5", "dia66_utt9", "dia66_utt10"].contains(&clip),
        Split::Test => clip == "dia108_utt2" || clip.starts_with("final_videos_test"),
    }
}

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
