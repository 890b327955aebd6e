//! Links to trained models, predictions and TensorBoard events in `results/<workflow>/`, by their point of the matrix.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use neural_spec::{Evaluate, Train};
use pipeline::Stage;
use pipeline::run::Summary;

use super::results::{link_name, path_from};
use crate::opening::Opening;

/// Links every training and evaluation of a run in `models`, `events` and `predictions`. Returns the folder of models, when there
/// are some.
pub(crate) fn link_models(opening: &Opening, summary: &Summary) -> Result<Option<PathBuf>> {
    let workflow = &opening.workflow;
    let base = opening.settings.results.join(&workflow.name);
    let mut links: [(&str, Vec<(String, PathBuf)>); 3] = [("models", vec![]), ("events", vec![]), ("predictions", vec![])];
    for index in &workflow.order {
        let node = &workflow.graph[*index];
        let Some(artifact) = summary.artifacts.get(index).map(|digest| opening.store.path(*digest)) else { continue };
        let point = node.id.trim_start_matches(&*node.stage).trim_matches(['[', ']']);
        let name = if point.is_empty() { node.stage.to_string() } else { point.to_owned() };
        if node.kind.name == Evaluate::KIND {
            links[2].1.push((name, artifact));
        } else if node.kind.name == Train::KIND {
            let is_encoder = workflow.graph.neighbors(*index).any(|next| workflow.graph[next].kind.name == Train::KIND);
            let name = if is_encoder { format!("encoder {name}") } else { name };
            let saved = ["adapter", "checkpoint"].map(|saved| artifact.join(saved)).into_iter().find(|saved| saved.is_dir());
            links[0].1.extend(saved.map(|saved| (name.clone(), saved)));
            links[1].1.push((name, artifact.join("events")));
        }
    }
    for (folder, links) in &links {
        replace(&base.join(folder), links)?;
    }
    Ok(Some(base.join("models")).filter(|_| !links[0].1.is_empty()))
}

/// Makes the links of a folder these. Other files of the folder stay; so does a final result that has its name.
fn replace(folder: &Path, links: &[(String, PathBuf)]) -> Result<()> {
    if folder.is_symlink() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_symlink()) {
        fs::remove_file(entry.path()).with_context(|| format!("cannot remove `{}`", entry.path().display()))?;
    }
    if links.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let here = folder.canonicalize().with_context(|| format!("cannot open `{}`", folder.display()))?;
    for (name, target) in links {
        let link = folder.join(link_name(name, false));
        symlink(path_from(&here, target), &link).with_context(|| format!("cannot write `{}`", link.display()))?;
    }
    Ok(())
}
