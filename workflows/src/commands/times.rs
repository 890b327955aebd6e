//! How long the nodes of a workflow took: what no table of scores may hold, because an artifact does not depend on time.

use std::collections::BTreeSet;

use anyhow::Result;
use pipeline::traces::Record;

use crate::console::duration;
use crate::opening::Opening;

/// Stages whose nodes are told apart by the axes of the matrix; of others the sum is enough.
const APART: [&str; 2] = ["peft.", "encoder."];

/// Executions of one stage, at one point of the matrix but for the seed where that is worth telling.
#[derive(Debug, Default)]
struct Sum {
    nodes: usize,
    secs: f64,
    gpu_secs: f64,
    cpu_secs: f64,
    hosts: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, record: &Record) {
        self.nodes += 1;
        self.secs += record.secs;
        self.cpu_secs += record.secs * record.threads as f64;
        if record.gpu.is_some() {
            self.gpu_secs += record.secs;
        }
        self.hosts.insert(record.host.clone());
    }
}

/// Lines of a table: stages in order, with the time of the executions whose artifacts are in use now, whenever they ran.
pub(crate) fn table(opening: &Opening) -> Result<Vec<String>> {
    let mut sums: Vec<(String, Sum)> = vec![];
    let mut all = Sum::default();
    for index in &opening.workflow.order {
        let node = &opening.workflow.graph[*index];
        let Some((trace, _)) = opening.store.latest(&format!("{}:{}", opening.workflow.name, node.id))? else { continue };
        let Some(trace) = opening.store.trace(trace)? else { continue };
        let apart = APART.iter().any(|kind| node.kind.name.starts_with(kind));
        let values = node.point.iter().filter(|(axis, _)| apart && *axis != "seed").map(|(_, value)| value.to_owned());
        let name = std::iter::once(node.stage.to_string()).chain(values).collect::<Vec<_>>().join(" ");
        all.add(&trace.record);
        let known = sums.iter().position(|(known, _)| *known == name);
        let at = known.unwrap_or(sums.len());
        if known.is_none() {
            sums.push((name, Sum::default()));
        }
        sums[at].1.add(&trace.record);
    }
    sums.push(("all".to_owned(), all));
    Ok(lines(&sums))
}

fn lines(sums: &[(String, Sum)]) -> Vec<String> {
    let widest = sums.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![
        String::new(),
        format!("{:<widest$}  {:>5}  {:>12}  {:>9}  {:>9}", "time", "nodes", "in all", "GPU hours", "CPU hours"),
    ];
    lines.push("─".repeat(widest + 43));
    for (name, sum) in sums {
        let hours = |secs: f64| if secs > 0.0 { format!("{:.3}", secs / 3600.0) } else { "–".to_owned() };
        let space = " ".repeat(widest - name.chars().count());
        let (gpu, cpu) = (hours(sum.gpu_secs), hours(sum.cpu_secs));
        lines.push(format!("{name}{space}  {:>5}  {:>12}  {gpu:>9}  {cpu:>9}", sum.nodes, duration(sum.secs)));
    }
    let hosts: BTreeSet<&str> = sums.iter().flat_map(|(_, sum)| &sum.hosts).map(String::as_str).collect();
    let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
    lines.push(format!(
        "Of the executions whose results these are, whenever they ran (on {hosts}); CPU hours count the threads given."
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up() {
        let record = |secs, gpu| Record { secs, gpu, threads: 2, host: "here".to_owned(), ..Record::default() };
        let mut sum = Sum::default();
        sum.add(&record(3600.0, Some(0)));
        sum.add(&record(1800.0, None));
        let lines = lines(&[("train lora".to_owned(), sum)]);
        assert_eq!(lines[3], "train lora      2    1 h 30 min      1.000      3.000");
        assert!(lines[4].contains("(on here)"));
    }
}
