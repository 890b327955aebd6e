//! The stage kinds a program knows, and how the parameters of a workflow file become a stage.

mod params;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::source::SourceNeed;
use crate::stage::{Demand, Job, Slot, Stage, StageError, Tool};

/// Program that runs bodies of stages in a process of its own: see [`crate::protocol`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerProgram {
    /// The executable.
    pub path: PathBuf,
    /// Arguments that make it serve one request.
    pub arguments: Vec<&'static str>,
    /// Text for people: how to get the program.
    pub help: Option<String>,
    /// Environment variables that its libraries read before its `main`. None of them may change a result.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl<P: Into<PathBuf>> From<P> for WorkerProgram {
    fn from(path: P) -> Self {
        Self { path: path.into(), arguments: vec!["run"], ..Self::default() }
    }
}

/// Body of a stage that runs in this process.
pub type Run<S> = fn(&S, &Job) -> Result<(), StageError>;

/// Stage with its parameters, of any kind.
pub trait Placed: Send + Sync + std::fmt::Debug {
    /// Parameters, defaults filled in.
    fn params(&self) -> &Value;
    /// See [`Stage::sources`].
    fn sources(&self) -> Vec<SourceNeed>;
    /// See [`Stage::environment`].
    fn environment(&self) -> Vec<(&'static str, String)>;
    /// See [`Stage::demand`].
    fn demand(&self) -> Demand;
    /// See [`Stage::retries`].
    fn retries(&self) -> u32;
    /// See [`Stage::outputs`].
    fn outputs(&self) -> Vec<String>;
    /// See [`Stage::partitions`].
    fn partitions(&self) -> Option<u32>;
    /// Runs the body in this process; none when it lives in a worker program.
    fn run_here(&self, job: &Job) -> Option<Result<(), StageError>>;
}

struct Bound<S> {
    stage: S,
    params: Value,
    body: Option<Run<S>>,
}

impl<S> std::fmt::Debug for Bound<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.params.fmt(f)
    }
}

impl<S: Stage> Placed for Bound<S> {
    fn params(&self) -> &Value {
        &self.params
    }
    fn sources(&self) -> Vec<SourceNeed> {
        self.stage.sources()
    }
    fn environment(&self) -> Vec<(&'static str, String)> {
        self.stage.environment()
    }
    fn demand(&self) -> Demand {
        self.stage.demand()
    }
    fn retries(&self) -> u32 {
        self.stage.retries()
    }
    fn outputs(&self) -> Vec<String> {
        self.stage.outputs()
    }
    fn partitions(&self) -> Option<u32> {
        self.stage.partitions()
    }
    fn run_here(&self, job: &Job) -> Option<Result<(), StageError>> {
        self.body.map(|body| body(&self.stage, job))
    }
}

/// A stage kind, as a registry holds it.
#[derive(Clone)]
pub struct Kind {
    /// See [`Stage::KIND`].
    pub name: &'static str,
    /// See [`Stage::VERSION`].
    pub version: u32,
    /// See [`Stage::ABOUT`].
    pub about: &'static str,
    /// See [`Stage::slots`].
    pub slots: Vec<Slot>,
    /// JSON schema of the parameters.
    pub schema: Value,
    /// See [`Stage::tools`].
    pub tools: Vec<Tool>,
    /// Program that has the body; none when the body is in this process.
    pub worker: Option<WorkerProgram>,
    parse: Arc<Parse>,
}

/// Turns parameters into a stage.
type Parse = dyn Fn(Value) -> Result<Arc<dyn Placed>, Vec<ParamMistake>> + Send + Sync;

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A mistake in the parameters of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamMistake {
    /// The parameter, when it is one of those given.
    pub param: Option<String>,
    /// Sentence that describes the mistake.
    pub message: String,
    /// Hint for the user.
    pub hint: Option<String>,
}

impl Kind {
    /// Turns parameters into a stage.
    ///
    /// # Errors
    /// Every unknown, missing and ill-typed parameter at once.
    pub fn place(&self, params: Map<String, Value>) -> Result<Arc<dyn Placed>, Vec<ParamMistake>> {
        let mistakes = params::mistakes(self.name, &self.schema, &params);
        if mistakes.is_empty() { (self.parse)(Value::Object(params)) } else { Err(mistakes) }
    }

    /// Turns the parameters of a placed stage (see [`Placed::params`]) back into a stage.
    ///
    /// # Errors
    /// Parameters that serde or [`Stage::check`] refuses.
    pub(crate) fn read(&self, params: Value) -> Result<Arc<dyn Placed>, Vec<ParamMistake>> {
        (self.parse)(params)
    }
}

/// Stage kinds by name.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Arc<Kind>>,
}

impl Registry {
    /// Adds a stage whose body runs in this process.
    #[must_use]
    pub fn here<S: Stage>(self, body: Run<S>) -> Self {
        self.add::<S>(Some(body), None)
    }
    /// Adds a stage whose body is in a worker program (see [`crate::worker::Worker`]).
    #[must_use]
    pub fn in_worker<S: Stage>(self, worker: impl Into<WorkerProgram>) -> Self {
        self.add::<S>(None, Some(worker.into()))
    }

    fn add<S: Stage>(mut self, body: Option<Run<S>>, worker: Option<WorkerProgram>) -> Self {
        let parse = move |value: Value| -> Result<Arc<dyn Placed>, Vec<ParamMistake>> {
            let stage: S = serde_json::from_value(value)
                .map_err(|error| vec![ParamMistake { param: None, message: format!("`{}`: {error}", S::KIND), hint: None }])?;
            let wrong = stage.check();
            if !wrong.is_empty() {
                let mistake =
                    |(param, message): (&str, String)| ParamMistake { param: Some(param.to_owned()), message, hint: None };
                return Err(wrong.into_iter().map(mistake).collect());
            }
            let params = tight(serde_json::to_value(&stage).expect("parameters hold nothing that JSON cannot"));
            Ok(Arc::new(Bound { stage, params, body }))
        };
        let kind = Kind {
            name: S::KIND,
            version: S::VERSION,
            about: S::ABOUT,
            slots: S::slots(),
            tools: S::tools(),
            schema: schemars::schema_for!(S).to_value(),
            worker,
            parse: Arc::new(parse),
        };
        let before = self.kinds.insert(S::KIND, Arc::new(kind));
        assert!(before.is_none(), "stage kind `{}` is registered twice", S::KIND);
        self
    }

    /// The kind of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(name)
    }
    /// All kinds, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values().map(Arc::as_ref)
    }
}

/// Without the room that a growing map keeps for more: with a node per point, there may be a million of them.
fn tight(params: Value) -> Value {
    match params {
        Value::Object(fields) => Value::Object(fields.into_iter().collect()),
        other => other,
    }
}
