//! Body of the stage `voice.published`: a voice of the files of a published one.

use std::collections::BTreeSet;

use audio::features::mel::{Energy, MelSpectrogram, Recipe};
use neural_spec::published::voice::PublishedMoments;
use neural_spec::{PublishedFiles, PublishedVoice};
use pipeline::{Job, StageError};
use tasks::text::{PADDING, PAUSE, Rules};
use tch::Tensor;

use super::error::TtsError;
use super::voice::{FOLDER, Moments, PitchScale, Statistics, Voice, VoiceConfig};
use crate::checkpoint::weights::is_finite;
use crate::error::ModelError;
use crate::models::acoustic::{Shape, ValueEntry, published};
use crate::nn::weights::Weights;

/// Beginning of the names of phonemes and pauses in a published list of symbols.
const PREFIX: &str = "@";
/// Advice about weights of another model.
const OTHER_MODEL: &str = "take a checkpoint of several speakers of ming024/FastSpeech2, such as the one of LibriTTS";
/// Name of the last row of an embedding, which has one row more than the list has symbols.
const UNUSED: &str = "<unused>";

/// Makes a voice of a published one: leaves `voice/`.
///
/// Errors: files that are damaged, of another model, or that do not belong together.
pub fn run(params: &PublishedVoice, job: &Job) -> Result<(), StageError> {
    let folder = job.inputs.one("checkpoint");
    let files = PublishedFiles::open(folder)?;
    let unusable = |problem: String| StageError::from(TtsError::Published { folder: folder.to_owned(), problem });
    let (weights, shape) = published::read(&files.weights, params.num_attention_heads.into())
        .map_err(|error| StageError::failed(error).with_hint(OTHER_MODEL))?;
    let symbols = files.symbols.unwrap_or_else(published_symbols);
    let symbols = fitting(params, &shape, &files.speakers, symbols).map_err(unusable)?;
    check(&weights, &shape, [files.statistics.pitch, files.statistics.energy]).map_err(unusable)?;
    let moments = |of: PublishedMoments| Moments { mean: of.mean, std: of.std };
    let config = VoiceConfig {
        format: VoiceConfig::FORMAT,
        shape,
        method: None,
        text: Rules { stress: true, word_pauses: params.word_pauses, silent_ends: false, ..Rules::default() },
        words: [].into(),
        symbols,
        symbol_prefix: PREFIX.to_owned(),
        speakers: files.speakers,
        mel: MelSpectrogram {
            sample_rate: params.sample_rate,
            n_fft: params.n_fft as usize,
            hop_length: params.hop_length as usize,
            win_length: params.win_length as usize,
            num_mel_bins: params.num_mel_bins as usize,
            low_hz: params.low_hz,
            high_hz: params.high_hz,
            recipe: Recipe::Tacotron,
        },
        energy: Energy::Linear,
        pitch: PitchScale::Hertz,
        statistics: Statistics { pitch: moments(files.statistics.pitch), energy: moments(files.statistics.energy) },
        longest: params.longest as usize,
    };
    let voice = Voice::build(config, weights, Weights::new())?;
    job.progress.fact("parameters", voice.parameters().total.into());
    voice.save(&job.out.join(FOLDER))
}

/// Returns the names of the rows of the embedding. Errors: a sentence about sizes that contradict each other.
fn fitting(params: &PublishedVoice, shape: &Shape, speakers: &[String], mut symbols: Vec<String>) -> Result<Vec<String>, String> {
    let heads = shape.heads;
    if shape.hidden % heads != 0 {
        return Err(format!("its width is {}, which `num_attention_heads` = {heads} does not divide", shape.hidden));
    }
    if shape.num_mel_bins != i64::from(params.num_mel_bins) {
        return Err(format!("it speaks {} bands, and `num_mel_bins` is {}", shape.num_mel_bins, params.num_mel_bins));
    }
    if shape.num_speakers != speakers.len() as i64 {
        return Err(format!("its table has {} speakers, and speakers.json {}", shape.num_speakers, speakers.len()));
    }
    if shape.num_symbols != symbols.len() as i64 + 1 {
        let expected = shape.num_symbols - 1;
        return Err(format!(
            "its embedding has {} rows, so {expected} symbols, and the list has {}: give the list of this checkpoint as symbols.json",
            shape.num_symbols,
            symbols.len()
        ));
    }
    let known: BTreeSet<&str> = symbols.iter().filter_map(|symbol| symbol.strip_prefix(PREFIX)).collect();
    let phones = tasks::text::symbols(true).into_iter().filter(|symbol| symbol != PADDING && symbol != tasks::text::SILENCE);
    let missing: Vec<String> =
        phones.filter(|phone| !known.contains(phone.as_str())).map(|phone| format!("`{PREFIX}{phone}`")).collect();
    if let Some(first) = missing.first() {
        return Err(format!("its symbols are not those of English: {} are missing, {first} for one", missing.len()));
    }
    symbols.push(UNUSED.to_owned());
    Ok(symbols)
}

/// Checks that all weights are numbers, and that the limits of bins are those of the statistics.
fn check(weights: &Weights, shape: &Shape, statistics: [PublishedMoments; 2]) -> Result<(), String> {
    let refused = |error: tch::TchError| ModelError::from(error).to_string();
    for (name, tensor) in weights {
        if !is_finite(tensor).map_err(refused)? {
            return Err(format!("`{name}` holds NaN or infinite values"));
        }
    }
    let ValueEntry::Bins { .. } = shape.values else {
        return Err("pitch and energy enter by a convolution, expected tables of bins".to_owned());
    };
    for (name, PublishedMoments { least, largest, .. }) in ["pitch", "energy"].into_iter().zip(statistics) {
        let limits = &weights[&format!("variance_adaptor.{name}_bins")];
        let [first, last] = ends(limits).map_err(refused)?;
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-3 * (largest - least);
        if !near(first, least) || !near(last, largest) {
            return Err(format!(
                "its bins of the {name} go from {first:.3} to {last:.3}, and stats.json has {least:.3} to {largest:.3}"
            ));
        }
    }
    Ok(())
}

/// First and last number of a list.
fn ends(list: &Tensor) -> Result<[f64; 2], tch::TchError> {
    Ok([list.f_double_value(&[0])?, list.f_double_value(&[list.numel() as i64 - 1])?])
}

/// Returns the symbols of ming024/FastSpeech2: marks and letters, phonemes of English, sounds of Mandarin in five tones, pauses.
///
/// Source: the lists of `text/symbols.py`, `text/cmudict.py` and `text/pinyin.py` there.
fn published_symbols() -> Vec<String> {
    let vowels = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"];
    let consonants = [
        "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z",
        "ZH",
    ];
    let mut english: Vec<String> = consonants.map(str::to_owned).to_vec();
    english.extend(vowels.iter().flat_map(|vowel| ["", "0", "1", "2"].map(|stress| format!("{vowel}{stress}"))));
    english.sort();
    let initials = "b c ch d f g h j k l m n p q r s sh t w x y z zh";
    let finals = "a ai an ang ao e ei en eng er i ia ian iang iao ie ii iii in ing iong iou o ong ou u ua uai uan uang uei uen uo v van ve vn";
    let mandarin = initials.split(' ').map(str::to_owned);
    let mandarin = mandarin.chain(finals.split(' ').flat_map(|sound| (1..=5).map(move |tone| format!("{sound}{tone}"))));
    let pauses = [PAUSE, "spn", "sil"].map(str::to_owned);
    let sounds = english.into_iter().chain(mandarin).chain(["rr".to_owned()]).chain(pauses);
    let marks = "_-!'(),.:;? ".chars().chain('A'..='Z').chain('a'..='z').map(String::from);
    marks.chain(sounds.map(|sound| format!("{PREFIX}{sound}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_the_published_ones() {
        let symbols = published_symbols();
        assert_eq!((symbols.len(), symbols[65].as_str(), symbols[359].as_str()), (360, "@AA0", "@sil"));
        let Some(root) = reference::root() else { return };
        let listed: Vec<String> = serde_json::from_slice(&std::fs::read(root.join("tts/model/symbols.json")).unwrap()).unwrap();
        assert_eq!(symbols, listed);
    }
}
