//! `sure-neural`: the worker process that neural stages run in.
//!
//! [`USAGE`] lists its commands; a request and its messages are those of `pipeline::protocol`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use neural::device::{CudaLibrary, open_cuda_library};
use neural::models::Merged;
use neural::nn::libtorch_version;
use neural::tts::say::SayRequest;
use pipeline::registry::Registry;
use pipeline::stage::chain;
use pipeline::worker::Worker;
use serde_json::json;

const PROGRAM: &str = concat!("sure-neural ", env!("CARGO_PKG_VERSION"));

const USAGE: &str = "\
usage: sure-neural COMMAND

  run [FOLDER]                 serves one request, as `sure` starts it: from standard input, or from files in FOLDER
  say REQUEST                  speaks a text to a WAV file, as `sure say` starts it: the request is JSON
  merge ADAPTER ENCODER OUT    folds an adapter into its encoder, as a checkpoint folder of its own
  device                       computes gradients on another device of a training, as the training starts it
  probe                        what libtorch this is and what it can compute on, as JSON
  --help, --version";

fn main() -> ExitCode {
    let cuda = open_cuda_library(); // before any question to libtorch: it keeps its first answer
    // One operation at a time; how many threads an operation may use is the job's to say.
    tch::set_num_interop_threads(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => worker(None),
        ["run", folder] => worker(Some(folder.as_ref())),
        ["say", request] => say_text(request),
        ["device"] => neural::train::device_process::serve().unwrap_or_else(|| {
            say(&mut std::io::stderr(), "error: standard input is no socket: a training starts this command", ExitCode::from(2))
        }),
        ["merge", adapter, encoder, out] => merge(adapter, encoder, out),
        ["probe"] => say(&mut std::io::stdout(), &probe(&cuda).to_string(), ExitCode::SUCCESS),
        ["help" | "--help" | "-h"] | [_, "--help" | "-h"] => say(&mut std::io::stdout(), USAGE, ExitCode::SUCCESS),
        ["--version" | "-V"] => say(&mut std::io::stdout(), PROGRAM, ExitCode::SUCCESS),
        _ => say(&mut std::io::stderr(), USAGE, ExitCode::from(2)),
    }
}

/// Serves one request.
fn worker(folder: Option<&Path>) -> ExitCode {
    let registry = Registry::default()
        .here(neural::models::encoder::random::run)
        .here(neural::front::run)
        .here(neural::train::run)
        .here(neural::evaluate::run)
        .here(neural::tts::train::run)
        .here(neural::tts::published::run)
        .here(neural::tts::align::run)
        .here(neural::tts::synthesise::run)
        .here(neural::tts::copy::run)
        .here(neural::tts::judge::run)
        .here(neural::tts::judge::evaluate::run)
        .here(neural::tts::train_vocoder::run)
        .here(neural::predict::run);
    let environment = vec![("libtorch", libtorch_version())];
    Worker { program: PROGRAM, registry: &registry, environment }.serve(folder)
}

/// Merges an adapter, and prints the size of the result or the error.
fn merge(adapter: &str, encoder: &str, out: &str) -> ExitCode {
    match neural::models::merge(adapter.as_ref(), encoder.as_ref(), out.as_ref()) {
        Ok(Merged { counts, doubt }) => {
            let warning = doubt.map_or(ExitCode::SUCCESS, |doubt| {
                let hint = "if the adapter was trained on other weights, the outcome is of no use";
                say(&mut std::io::stderr(), &format!("warning: {doubt}\n  hint: {hint}"), ExitCode::SUCCESS)
            });
            say(&mut std::io::stdout(), &format!("{out}: {} parameters", counts.total), warning)
        }
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            if let Some(hint) = error.hint() {
                text = format!("{text}\n  hint: {hint}");
            }
            say(&mut std::io::stderr(), &text, ExitCode::FAILURE)
        }
    }
}

/// Speaks a text, and prints the length of the clip or the error.
fn say_text(request: &str) -> ExitCode {
    let request: SayRequest = match serde_json::from_str(request) {
        Ok(request) => request,
        Err(error) => {
            return say(&mut std::io::stderr(), &format!("error: the request is not valid: {error}"), ExitCode::from(2));
        }
    };
    let said = match neural::tts::say::say(&request) {
        Ok(said) => said,
        Err(error) => {
            let mut text = format!("error: {}", chain(&error).join(": "));
            if let Some(hint) = error.hint() {
                text = format!("{text}\n  hint: {hint}");
            }
            return say(&mut std::io::stderr(), &text, ExitCode::FAILURE);
        }
    };
    let mut err = std::io::stderr();
    for (word, phones) in &said.notes.guessed {
        say(&mut err, &format!("note: `{word}` is not in the dictionary, and read {}", phones.join(" ")), ExitCode::SUCCESS);
    }
    for character in &said.notes.unread {
        say(&mut err, &format!("note: `{character}` has no reading, and is left out"), ExitCode::SUCCESS);
    }
    let line = format!(
        "{}: {:.2} s, {} Hz, spoken by {}, vocoder {}",
        request.out.display(),
        said.secs,
        said.sample_rate,
        said.speaker,
        said.vocoder
    );
    say(&mut std::io::stdout(), &line, ExitCode::SUCCESS)
}

/// Returns the properties of this process and its libtorch.
fn probe(cuda: &CudaLibrary) -> serde_json::Value {
    let problem = match cuda {
        CudaLibrary::Refused { path, reason } => Some(format!("`{}` does not open: {reason}", path.display())),
        CudaLibrary::Opened(_) | CudaLibrary::Absent => None,
    };
    let devices = tch::Cuda::device_count();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": libtorch_version(),
        "cuda_library": matches!(cuda, CudaLibrary::Opened(_)),
        "cuda_problem": problem,
        "cuda": tch::Cuda::is_available(),
        "cudnn": tch::Cuda::cudnn_is_available(),
        "devices": (0..devices).map(|index| format!("cuda:{index}")).collect::<Vec<_>>(),
        "threads": tch::get_num_threads(),
    })
}

fn say(out: &mut dyn Write, line: &str, code: ExitCode) -> ExitCode {
    if writeln!(out, "{line}").is_err() { ExitCode::FAILURE } else { code }
}
