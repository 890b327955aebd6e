//! Typed description of a workflow file, every part with its place in the text. No I/O.
//!
//! ```toml
//! [workflow]
//! name = "word_count"
//! about = "counts the words of some books"
//! include = ["common.toml"]       # settings, matrix and stages of another file; those of this file win
//! [settings]                      # one value each; `sure run ... --set language=fr` changes them
//! language = { default = "en", choices = ["en", "fr"], about = "the language of the books" }
//! shortest = { default = 1, type = "integer", min = 1, max = 9 }
//! [matrix]                        # many values each: one node per combination
//! smoothing = [0.1, 1.0]
//! seed = [1, 2, 3]
//! exclude = [{ smoothing = 1.0, seed = 3 }]
//! include = [{ smoothing = 9.0, seed = 1 }]
//! [derived]                       # values that follow from these
//! long = { by = ["language", "seed"], "fr,1" = "yes", default = "no" }
//! [stages.books]
//! run = "text.list"
//! corpus = "{language}"
//! partitions = 4
//! [stages.count]
//! run = "text.count"
//! each = "books"                  # one node per partition
//! inputs.books = "books"
//! [stages.model]
//! run = "text.model"
//! inputs.counts = "count/words.txt"             # a part of an artifact
//! limits = { time = "2h", retries = 2 }         # how it may run (see [`crate::limits`])
//! smoothing = "{smoothing}"
//! order = { by = "language", en = 3, fr = 2 }   # another value per setting or matrix value
//! steps = { by = ["language", "seed"], en = { 1 = 10, 2 = 20 }, "fr,1" = 15, default = 5 }
//! epochs = { by = "long", yes = 30, no = 10 }
//! [stages.small]
//! like = "model"                  # another stage, but for what this one names
//! order = 1
//! [stages.table]
//! run = "text.table"
//! gather = ["smoothing"]          # one node for all values; "*": of every line that the stage does not mention
//! inputs.models = "model"
//! ```
//!
//! **`include`** takes over another file. A stage with `run` or `like` replaces the one of its name; a stage without changes
//! the parts of it that it names. A name without ending is that of a workflow that the loader knows.
//!
//! **`[use]`** makes a line of the matrix whose values are workflows:
//!
//! ```toml
//! [use]
//! task = ["emotion", "speaker"]                          # at task=emotion every stage is as `emotion` has it
//! [use.task]                                             # the same, with names of its own and settings of a part
//! emotion = "emotion"
//! meld = { workflow = "emotion", corpus = "meld" }
//! ```
//!
//! A setting that all parts share remains a setting; others keep, in each part, the value they have there.
//!
//! **Settings and matrix.** A plain value gives a setting its type; `{ default, type, choices, min, max, about }` says more. The
//! text `"{other}"` takes the value of another setting. A line of the matrix is a list, or `{ values, type, choices, min, max, about }`.
//!
//! **`exclude`** drops the points that have all the values it names, from every stage that varies over all the axes it names.
//! **`include`** adds points: a stage that varies over some of the axes it names also runs at the named values of these, at
//! every value of its other axes. It comes after `exclude`, so it can bring a point back. Values that only occur there are known
//! values, combined with no others.
//!
//! **`by`** chooses by the value of an axis, or of several: one table in the other, or values joined by commas. `default` holds
//! for the values that are not named. A key for a value that cannot occur has no effect.
//!
//! **`[derived]`** names values that follow from settings and lines of the matrix, to choose by and to put into text.
//!
//! **`like`** makes a stage as another one of the file is, and changes the parts of it that it names. What files that include
//! this one change of the other stage holds for it, too.
//!
//! **`only`** limits a stage to some values of lines of the matrix: `only.method = ["lora"]`.

use crate::mistake::{Mistake, Mistakes, Sources};

mod axes;
mod derived;
mod files;
mod like;
mod schema;
mod stages;
mod term;
mod used;

pub(crate) use axes::show;
pub use axes::{Axis, Combination, Form};
pub use derived::leaves;
pub use files::Load;
pub use schema::schema;
pub use stages::StageSpec;
pub use term::{Constant, Located, Pair, Term, by_names, mentioned, value};
pub(crate) use term::{braced, braced_alone};

/// A workflow file.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The file, and those it includes.
    pub sources: Sources,
    /// The workflow's name.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// `[settings]`, then `[matrix]`, in the order of the text.
    pub axes: Vec<Axis>,
    /// Combinations of values that the matrix leaves out.
    pub excluded: Vec<Combination>,
    /// Combinations of values that it has besides all others.
    pub included: Vec<Combination>,
    /// `[derived]`: values by name, without names of each other. They are in the stages already.
    pub derived: Vec<Pair>,
    /// `[stages.*]`, in the order of the text; those of included files first.
    pub stages: Vec<StageSpec>,
    /// Mistakes of form. [`crate::graph::build`] reports them together with those of content.
    pub(crate) mistakes: Vec<Mistake>,
}

/// Reads the text of a workflow file that includes no other.
///
/// # Errors
/// Every place at which the text is not TOML. All other mistakes are kept for [`crate::graph::build`], which reports them at once.
pub fn parse(file: &str, text: &str) -> Result<Spec, Mistakes> {
    parse_with(file, text, &|_| Err("this workflow has no files beside it".to_owned()))
}

/// Reads the text of a workflow file; `load` gives the text of those it includes, by their path as seen from where `file` is seen.
///
/// # Errors
/// Every place at which a text is not TOML. All other mistakes are kept for [`crate::graph::build`], which reports them at once.
pub fn parse_with(file: &str, text: &str, load: Load<'_>) -> Result<Spec, Mistakes> {
    let mut files = files::Files::new(file, text, load);
    let sections = files.merged(file);
    let mut sections = used::take_over(&mut files, file, sections);
    like::resolve(&mut sections.stages, &mut files.mistakes);
    let derived = derived::put_in(&mut sections, &mut files.mistakes);
    let files::Files { sources, mut mistakes, is_toml, .. } = files;
    if !is_toml {
        return Err(Mistakes::new(&sources, mistakes));
    }
    let axes::Axes { list: mut axes, excluded, included } = axes::Axes::read(&sections.settings, &sections.matrix, &mut mistakes);
    for axis in &mut axes {
        axis.former =
            sections.former.iter().filter(|(name, _)| *name == axis.name.value).map(|(_, value)| value.clone()).collect();
    }
    let stages = stages::read(sections.stages, &mut mistakes);
    let (name, about) = head(&sections.workflow, &mut mistakes);
    if name.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new(&(0..0), "no name: expected `[workflow]` with `name = \"...\"`"));
    }
    if stages.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake::new(&(0..0), "no stages: expected at least one `[stages.<name>]`"));
    }
    Ok(Spec { sources, name, about, axes, excluded, included, derived, stages, mistakes })
}

/// Bytes of the longest name of a workflow: it is part of the names of folders.
const LONGEST_NAME: usize = 100;

/// True if a text can be the name of a workflow: it becomes the name of a folder, and a colon would end it.
fn is_workflow_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    text.starts_with(is_letter) && text.len() <= LONGEST_NAME && text.chars().all(|c| is_letter(c) || c == '-' || c == '.')
}

/// Reads name and description.
fn head(pairs: &[Pair], mistakes: &mut Vec<Mistake>) -> (String, String) {
    let (mut name, mut about) = (String::new(), String::new());
    for (key, value) in pairs {
        match (key.value.as_str(), value.value.as_str()) {
            ("name", Some(text)) => {
                if !is_workflow_name(text) {
                    let text = format!(
                        "`{text}` cannot be the name of a workflow: expected letters, digits, `_`, `-` and `.`, at most {LONGEST_NAME}"
                    );
                    mistakes.push(Mistake::new(&value.at, text));
                }
                text.clone_into(&mut name);
            }
            ("about", Some(text)) => text.clone_into(&mut about),
            ("name" | "about", None) => mistakes.push(Mistake::new(&value.at, format!("`{}` should be text", key.value))),
            _ => {} // read or reported with the file's other sections
        }
    }
    (name, about)
}
