//! Pages of results with what an artifact does not know, since it does not depend on time: run, date, version, settings.
//!
//! `results/<workflow>/table.html` is `table/index.html` with these facts below its heading.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use neural_spec::{Evaluate, Train};
use pipeline::Stage;
use pipeline::store::Store;
use rebuild::time::Utc;
use serde::Serialize;

use crate::artifacts::without_seed;
use crate::cli::VERSION;
use crate::commands::runs::id_of;
use crate::opening::Request;
use crate::settings::checkpoint_name;

const TEMPLATE: &str = include_str!("page.html");
/// Values of a parameter that are listed.
const MOST_VALUES: usize = 12;

#[derive(Serialize)]
struct Facts {
    /// Names and values.
    list: Vec<(&'static str, String)>,
    settings: Vec<Setting>,
    folders: Vec<&'static str>,
}

#[derive(Serialize)]
struct Setting {
    stage: String,
    name: String,
    value: String,
}

/// Path of the page of a linked folder of results.
pub(super) fn path(link: &Path) -> PathBuf {
    let mut name = link.file_name().unwrap_or_default().to_owned();
    name.push(".html");
    link.with_file_name(name)
}

/// Writes the pages of those links whose folder has one.
///
/// Errors: records that cannot be read; a file that cannot be read or written.
pub(super) fn write(links: &[PathBuf], run: i64, store: &Store) -> Result<()> {
    let pages: Vec<&PathBuf> = links.iter().filter(|link| link.join(INDEX).is_file()).collect();
    if pages.is_empty() {
        return Ok(());
    }
    let facts = scoring::template::render_part(TEMPLATE, &facts(run, store)?);
    for link in pages {
        let from = link.join(INDEX);
        let page = fs::read_to_string(&from).with_context(|| format!("cannot read `{}`", from.display()))?;
        let to = path(link);
        let name = link.file_name().unwrap_or_default().as_encoded_bytes();
        fs::write(&to, with_facts(&page, name, &facts)).with_context(|| format!("cannot write `{}`", to.display()))?;
    }
    Ok(())
}

/// The page in a folder of results.
pub(super) const INDEX: &str = "index.html";

/// Returns a page with facts below its heading, for the folder that contains the page's own folder.
fn with_facts(page: &str, folder: &[u8], facts: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~=,".contains(&byte);
    let folder: String =
        folder.iter().map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect();
    page.replacen("<head>", &format!("<head>\n<base href=\"{folder}/\">"), 1).replacen("</h1>", &format!("</h1>\n{facts}"), 1)
}

fn facts(run: i64, store: &Store) -> Result<Facts> {
    let mut facts = vec![];
    if let Some(row) = store.run(run)? {
        facts.push(("run", format!("{run}, begun {} UTC", Utc(row.started_ms.div_euclid(1000)).short())));
        let request: Request = serde_json::from_str(&row.request).unwrap_or_default(); // of another version: without its settings
        let workflow = request.workflow.rsplit('/').next().unwrap_or_default().to_owned();
        let set = request.set.iter().map(|(name, values)| format!("{name}={}", values.join(",")));
        facts.push(("asked for", std::iter::once(workflow).chain(request.targets).chain(set).collect::<Vec<_>>().join(" ")));
        if !request.checkpoints.is_empty() {
            let names: Vec<String> = request.checkpoints.iter().map(|given| checkpoint_name(given)).collect();
            facts.push(("checkpoints", names.join(", ")));
        }
    }
    facts.push(("version", VERSION.to_owned()));
    let (mut values, mut folders) = (Values::new(), vec![]);
    for member in store.members(run)? {
        let Some(result) = store.result(member.result)? else { continue };
        let fields = &result.manifest.0;
        let kind = fields.get("stage").map_or("", String::as_str);
        let of_kind: &[&str] = match kind {
            Train::KIND => &["models", "events"],
            Evaluate::KIND => &["predictions"],
            _ => &[],
        };
        folders.extend(of_kind);
        if kind != Train::KIND && !kind.starts_with("encoder.") {
            continue;
        }
        let node = without_seed(id_of(&member.node));
        let (stage, point) = node.split_once('[').unwrap_or((&node, ""));
        let point = point.trim_end_matches(']').to_owned();
        for (name, value) in fields.iter().filter_map(|(field, value)| Some((field.strip_prefix("param.")?, value))) {
            let values = values.entry((stage.to_owned(), name.to_owned())).or_default();
            values.entry(value.trim_matches('"').to_owned()).or_default().insert(point.clone());
        }
    }
    folders.sort_unstable();
    folders.dedup();
    let is_told = |(_, name): &(String, String)| name != "seed"; // each run on the page has its own
    let setting = |((stage, name), values): ((String, String), Points)| Setting { stage, name, value: text(&values) };
    let settings = values.into_iter().filter(|(key, _)| is_told(key)).map(setting).collect();
    Ok(Facts { list: facts, settings, folders })
}

/// Values of a parameter, with the points of the matrix that have them.
type Points = BTreeMap<String, BTreeSet<String>>;
/// Parameters by stage and name.
type Values = BTreeMap<(String, String), Points>;

/// `0.01 (method=lora), 0.001 (method=finetune)`; a value alone where all points have it.
fn text(values: &Points) -> String {
    if let (1, Some(value)) = (values.len(), values.keys().next()) {
        return value.clone();
    }
    let of = |points: &BTreeSet<String>| points.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    let each = values.iter().take(MOST_VALUES).map(|(value, points)| format!("{value} ({})", of(points)));
    let more = values.len().checked_sub(MOST_VALUES).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    each.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_below_the_heading_and_links_lead_into_the_folder() {
        let page = "<html>\n<head>\n</head>\n<h1>Title</h1>\n<a href=\"figures/a.pdf\">";
        let expected = "<html>\n<head>\n<base href=\"table%5Bcorpus=a%23b%5D/\">\n</head>\n<h1>Title</h1>\nFACTS\n<a href=\"figures/a.pdf\">";
        assert_eq!(with_facts(page, b"table[corpus=a#b]", "FACTS"), expected);
        assert_eq!(path(Path::new("results/w/table[a=1.5]")), Path::new("results/w/table[a=1.5].html"));
    }

    #[test]
    fn values_are_told_with_their_points_where_they_differ() {
        let own = |value: &str, points: &[&str]| -> (String, BTreeSet<String>) {
            (value.to_owned(), points.iter().map(|point| (*point).to_owned()).collect())
        };
        assert_eq!(text(&[own("0.1", &["method=lora", "method=ia3"])].into()), "0.1");
        let two = [own("0.1", &["method=lora", "method=ia3"]), own("0.2", &["method=prefix"])];
        assert_eq!(text(&two.into()), "0.1 (method=ia3; method=lora), 0.2 (method=prefix)");
    }
}
