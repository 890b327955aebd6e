//! Finds a trained model with what it needs: by its node, or by its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use neural_spec::{Decoding, Evaluate, Train};
use petgraph::graph::NodeIndex;
use pipeline::Stage;
use pipeline::mistake::suggest;

use crate::artifacts;
use crate::cli::Place;
use crate::opening::{Access, Opening, open_store};
use crate::problem::problem;
use crate::settings::Settings;

/// A model.
pub(crate) struct Found {
    /// Places of the stage `peft.predict`.
    pub(crate) places: BTreeMap<String, PathBuf>,
    /// How it was evaluated.
    pub(crate) decoding: Option<Decoding>,
    pub(crate) settings: Settings,
}

/// Finds a model.
///
/// Errors: no such node or folder; several; one that has not been trained.
pub(crate) fn find(given: &str, place: &Place) -> Result<Found> {
    let folder = Path::new(given);
    if folder.is_dir() {
        return of_folder(folder, place);
    }
    if given.split('[').next().is_some_and(|name| name.contains('/')) && !given.contains(".toml:") {
        return Err(problem(format!("no folder `{given}`"), "name a folder, or a node that trains: `train[method=lora]`"));
    }
    let (opening, pattern) = Opening::of_node(given, place)?;
    let workflow = &opening.workflow;
    let nodes = workflow.find(&pattern);
    let trainings: Vec<NodeIndex> = nodes.iter().copied().filter(|node| workflow.graph[*node].kind.name == Train::KIND).collect();
    match trainings[..] {
        [node] => of_node(opening, node),
        [] if nodes.is_empty() => {
            let known = workflow.order.iter().map(|node| &*workflow.graph[*node].stage);
            Err(problem(format!("no node `{pattern}` in `{}`", workflow.name), suggest(&pattern, known)))
        }
        [] => Err(problem(format!("`{pattern}` trains no model"), "name a node that trains, such as `train[method=lora]`")),
        [first, ..] => {
            let message = format!("`{pattern}` names {} models", trainings.len());
            Err(problem(message, format!("name one of them: `{}`", workflow.graph[first].id)))
        }
    }
}

/// The model that a node trained, with encoder and task as its workflow has them.
fn of_node(opening: Opening, node: NodeIndex) -> Result<Found> {
    let graph = &opening.workflow.graph;
    let id = &graph[node].id;
    let Some(model) = artifacts::last(&opening, node)? else {
        let hint = format!("`sure run {} '{id}'` trains it", opening.request.workflow);
        return Err(problem(format!("the store has no artifact of `{id}`"), hint));
    };
    let input = |node: NodeIndex, slot: &str| -> Result<Option<PathBuf>> {
        let Some(edge) = graph[node].inputs.iter().find(|edge| &*edge.slot == slot) else { return Ok(None) };
        let Some(folder) = artifacts::last(&opening, edge.from)? else {
            let hint = format!("`sure run {} '{id}'` makes it", opening.request.workflow);
            return Err(problem(format!("the store has no artifact of `{}`, which `{id}` needs", graph[edge.from].id), hint));
        };
        Ok(Some(edge.part.as_ref().map_or_else(|| folder.clone(), |part| folder.join(&**part))))
    };
    let mut places = BTreeMap::from([("model".to_owned(), model)]);
    places.extend(input(node, "encoder")?.map(|encoder| ("encoder".to_owned(), encoder)));
    places.extend(input(node, "task")?.map(|task| ("task".to_owned(), task)));
    let evaluation = graph.neighbors(node).find(|next| graph[*next].kind.name == Evaluate::KIND);
    let mut decoding = None;
    if let Some(evaluation) = evaluation {
        let given = graph[evaluation].placed.params().get("decoding").cloned();
        decoding = given.map(serde_json::from_value).transpose().context("the decoding of the evaluation cannot be read")?;
        places.extend(input(evaluation, "language_model")?.map(|model| ("language_model".to_owned(), model)));
    }
    Ok(Found { places, decoding, settings: opening.settings })
}

/// A model in a folder. Its encoder is that of `--checkpoint`; a folder of the store, or a link to one, is known by its node.
fn of_folder(folder: &Path, place: &Place) -> Result<Found> {
    let full = folder.canonicalize().with_context(|| format!("cannot open `{}`", folder.display()))?;
    let mut settings = Settings::load(&place.machine, &place.corpus)?;
    let mut places = BTreeMap::from([("model".to_owned(), full.clone())]);
    match &place.checkpoint[..] {
        [] => {
            if settings.store.is_dir()
                && let Some((opening, node)) = trained_in_store(&settings, &full, place)?
            {
                return of_node(opening, node);
            }
        }
        [given] => {
            let here = std::env::current_dir().context("cannot find the current folder")?;
            settings.add_checkpoint(given, &here)?;
            let encoder = settings.machine.places.0.get(&format!("checkpoints.{}", crate::settings::checkpoint_name(given)));
            places.extend(encoder.map(|encoder| ("encoder".to_owned(), encoder.clone())));
        }
        _ => return Err(problem("--checkpoint names several encoders", "an adapter belongs to one")),
    }
    Ok(Found { places, decoding: None, settings })
}

/// Runs that are looked through for the node of a folder.
const RUNS: usize = 100;

/// The node of an earlier run whose artifact contains a folder.
fn trained_in_store(settings: &Settings, folder: &Path, place: &Place) -> Result<Option<(Opening, NodeIndex)>> {
    let store = open_store(settings, Access::Read)?;
    if !store.root().canonicalize().is_ok_and(|root| folder.starts_with(root)) {
        return Ok(None);
    }
    for run in store.runs(RUNS)? {
        let Ok(opening) = Opening::as_in(&run, place) else { continue }; // its workflow is gone
        let graph = &opening.workflow.graph;
        for &node in opening.workflow.order.iter().filter(|node| graph[**node].kind.name == Train::KIND) {
            let artifact = artifacts::last(&opening, node)?.and_then(|path| path.canonicalize().ok());
            if artifact.is_some_and(|artifact| folder.starts_with(artifact)) {
                return Ok(Some((opening, node)));
            }
        }
    }
    Ok(None)
}
