//! Phones of each word, and the shape of each sound.
//!
//! Formants of an adult male voice in Hz: vowels near Peterson and Barney 1952 (J. Acoust. Soc. Am. 24, table II), consonants
//! near Klatt 1980 (J. Acoust. Soc. Am. 67, tables II and III), rounded.

/// A stretch of steady sound. Neighbours are joined by smoothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// First three formants, in Hz.
    pub(super) formants: [f64; 3],
    /// Amplitude of the vocal folds.
    pub(super) voicing: f64,
    /// Amplitude of breath, shaped by the formants.
    pub(super) breath: f64,
    /// Amplitude of hiss, shaped by its own resonance.
    pub(super) hiss: f64,
    /// Centre of the hiss, in Hz.
    pub(super) hiss_hz: f64,
    /// Width of the hiss, in Hz.
    pub(super) hiss_width: f64,
    /// Duration at normal tempo, in seconds.
    pub(super) secs: f64,
}

/// The sounds of a word of Speech Commands or of a miniature's sentence, in `ARPAbet`. Empty for other words.
pub(super) fn sounds(word: &str) -> &'static [&'static str] {
    SOUNDS.iter().find(|(known, _)| *known == word).map_or(&[], |(_, sounds)| sounds)
}

/// Every word that can be said.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    SOUNDS.iter().map(|(word, _)| *word)
}

const SOUNDS: &[(&str, &[&str])] = &[
    ("yes", &["Y", "EH", "S"]),
    ("no", &["N", "OW"]),
    ("up", &["AH", "P"]),
    ("down", &["D", "AW", "N"]),
    ("left", &["L", "EH", "F", "T"]),
    ("right", &["R", "AY", "T"]),
    ("on", &["AA", "N"]),
    ("off", &["AO", "F"]),
    ("stop", &["S", "T", "AA", "P"]),
    ("go", &["G", "OW"]),
    ("zero", &["Z", "IH", "R", "OW"]),
    ("one", &["W", "AH", "N"]),
    ("two", &["T", "UW"]),
    ("three", &["TH", "R", "IY"]),
    ("for", &["F", "AO", "R"]),
    ("four", &["F", "AO", "R"]),
    ("five", &["F", "AY", "V"]),
    ("six", &["S", "IH", "K", "S"]),
    ("seven", &["S", "EH", "V", "AH", "N"]),
    ("eight", &["EY", "T"]),
    ("nine", &["N", "AY", "N"]),
    ("bed", &["B", "EH", "D"]),
    ("bird", &["B", "ER", "D"]),
    ("cat", &["K", "AE", "T"]),
    ("dog", &["D", "AO", "G"]),
    ("happy", &["HH", "AE", "P", "IY"]),
    ("house", &["HH", "AW", "S"]),
    ("marvin", &["M", "AA", "R", "V", "IH", "N"]),
    ("sheila", &["SH", "IY", "L", "AH"]),
    ("tree", &["T", "R", "IY"]),
    ("wow", &["W", "AW"]),
    ("backward", &["B", "AE", "K", "W", "ER", "D"]),
    ("forward", &["F", "AO", "R", "W", "ER", "D"]),
    ("follow", &["F", "AA", "L", "OW"]),
    ("learn", &["L", "ER", "N"]),
    ("visual", &["V", "IH", "ZH", "UW", "AH", "L"]),
    // For the sentences of the miniatures.
    ("a", &["AH"]),
    ("and", &["AE", "N", "D"]),
    ("bring", &["B", "R", "IH", "N", "G"]),
    ("good", &["G", "UW", "D"]),
    ("heat", &["HH", "IY", "T"]),
    ("hello", &["HH", "EH", "L", "OW"]),
    ("in", &["IH", "N"]),
    ("is", &["IH", "Z"]),
    ("it", &["IH", "T"]),
    ("its", &["IH", "T", "S"]),
    ("kitchen", &["K", "IH", "T", "SH", "AH", "N"]),
    ("lights", &["L", "AY", "T", "S"]),
    ("louder", &["L", "AW", "D", "ER"]),
    ("me", &["M", "IY"]),
    ("more", &["M", "AO", "R"]),
    ("music", &["M", "Y", "UW", "Z", "IH", "K"]),
    ("not", &["N", "AA", "T"]),
    ("play", &["P", "L", "EY"]),
    ("please", &["P", "L", "IY", "Z"]),
    ("rock", &["R", "AA", "K"]),
    ("table", &["T", "EY", "B", "AH", "L"]),
    ("the", &["TH", "AH"]),
    ("turn", &["T", "ER", "N"]),
    ("weather", &["W", "EH", "TH", "ER"]),
    ("what", &["W", "AH", "T"]),
];

/// The segments of a sound: two for a diphthong, closure and burst for a plosive.
pub(super) fn segments(sound: &str) -> Vec<Segment> {
    match sound {
        "IY" => vec![vowel([280.0, 2250.0, 2900.0], 0.16)],
        "IH" => vec![vowel([400.0, 1900.0, 2550.0], 0.11)],
        "EH" => vec![vowel([540.0, 1780.0, 2490.0], 0.14)],
        "AE" => vec![vowel([680.0, 1700.0, 2450.0], 0.17)],
        "AA" => vec![vowel([730.0, 1090.0, 2450.0], 0.17)],
        "AO" => vec![vowel([580.0, 860.0, 2420.0], 0.18)],
        "UW" => vec![vowel([300.0, 870.0, 2250.0], 0.18)],
        "AH" => vec![vowel([630.0, 1230.0, 2450.0], 0.12)],
        "ER" => vec![vowel([480.0, 1330.0, 1680.0], 0.17)],
        "EY" => vec![vowel([500.0, 1900.0, 2550.0], 0.1), vowel([300.0, 2250.0, 2850.0], 0.1)],
        "AY" => vec![vowel([730.0, 1150.0, 2450.0], 0.12), vowel([360.0, 2050.0, 2650.0], 0.11)],
        "AW" => vec![vowel([740.0, 1250.0, 2450.0], 0.12), vowel([380.0, 900.0, 2300.0], 0.11)],
        "OW" => vec![vowel([540.0, 1000.0, 2400.0], 0.12), vowel([350.0, 780.0, 2300.0], 0.12)],
        "W" => vec![voiced([290.0, 610.0, 2150.0], 0.5, 0.07)],
        "Y" => vec![voiced([260.0, 2250.0, 3000.0], 0.5, 0.07)],
        "R" => vec![voiced([320.0, 1060.0, 1400.0], 0.55, 0.08)],
        "L" => vec![voiced([340.0, 1050.0, 2850.0], 0.5, 0.07)],
        "M" => vec![voiced([250.0, 950.0, 2150.0], 0.3, 0.08)],
        "N" => vec![voiced([250.0, 1600.0, 2600.0], 0.3, 0.09)],
        "NG" => vec![voiced([250.0, 1990.0, 2850.0], 0.3, 0.09)],
        "S" => vec![hiss([320.0, 1390.0, 2530.0], 0.35, 6_300.0, 2_000.0, 0.0, 0.12)],
        "Z" => vec![hiss([320.0, 1390.0, 2530.0], 0.2, 6_300.0, 2_000.0, 0.3, 0.09)],
        "SH" => vec![hiss([300.0, 1840.0, 2750.0], 0.35, 3_100.0, 1_000.0, 0.0, 0.13)],
        "ZH" => vec![hiss([300.0, 1840.0, 2750.0], 0.2, 3_100.0, 1_000.0, 0.3, 0.09)],
        "F" => vec![hiss([340.0, 1100.0, 2080.0], 0.12, 4_500.0, 5_000.0, 0.0, 0.12)],
        "V" => vec![hiss([220.0, 1100.0, 2080.0], 0.06, 4_500.0, 5_000.0, 0.35, 0.07)],
        "TH" => vec![hiss([320.0, 1290.0, 2540.0], 0.09, 6_000.0, 4_000.0, 0.0, 0.1)],
        "HH" => vec![Segment { breath: 0.35, voicing: 0.0, ..voiced([500.0, 1500.0, 2500.0], 0.0, 0.07) }],
        "P" => plosive([400.0, 1000.0, 2150.0], 900.0, 900.0, 0.0),
        "B" => plosive([200.0, 1000.0, 2150.0], 900.0, 900.0, 0.2),
        "T" => plosive([400.0, 1700.0, 2600.0], 4_300.0, 1_800.0, 0.0),
        "D" => plosive([200.0, 1700.0, 2600.0], 3_800.0, 1_800.0, 0.2),
        "K" => plosive([300.0, 1990.0, 2850.0], 2_000.0, 600.0, 0.0),
        "G" => plosive([200.0, 1990.0, 2850.0], 1_800.0, 600.0, 0.2),
        _ => Vec::new(),
    }
}

fn vowel(formants: [f64; 3], secs: f64) -> Segment {
    voiced(formants, 1.0, secs)
}

fn voiced(formants: [f64; 3], voicing: f64, secs: f64) -> Segment {
    Segment { formants, voicing, breath: 0.0, hiss: 0.0, hiss_hz: 4_000.0, hiss_width: 4_000.0, secs }
}

fn hiss(formants: [f64; 3], hiss: f64, hiss_hz: f64, hiss_width: f64, voicing: f64, secs: f64) -> Segment {
    Segment { hiss, hiss_hz, hiss_width, ..voiced(formants, voicing, secs) }
}

/// Closure, then a burst; without voice, a puff of breath after it.
fn plosive(locus: [f64; 3], burst_hz: f64, burst_width: f64, voicing: f64) -> Vec<Segment> {
    let closure = voiced(locus, voicing, 0.06);
    let burst = hiss(locus, 0.45, burst_hz, burst_width, voicing, 0.018);
    let puff = Segment { breath: 0.25, ..voiced(locus, 0.0, 0.035) };
    if voicing > 0.0 { vec![closure, burst] } else { vec![closure, burst, puff] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech_commands::WORDS;

    #[test]
    fn every_word_can_be_said_and_no_two_sound_alike() {
        let mut said: Vec<_> = WORDS.iter().map(|word| sounds(word)).collect();
        assert!(said.iter().all(|sounds| !sounds.is_empty() && sounds.iter().all(|sound| !segments(sound).is_empty())));
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), WORDS.len());
    }
}
