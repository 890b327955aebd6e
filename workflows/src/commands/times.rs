//! How long the nodes of a workflow took, and how fast its trainings went: what no table of scores may hold, because an artifact
//! does not depend on time.

use std::collections::BTreeSet;

use anyhow::Result;
use pipeline::records::Provenance;
use serde_json::Value;

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
    training: TrainingSpeed,
}

/// Reports of all trainings about their steps.
#[derive(Debug, Default)]
struct TrainingSpeed {
    steps: f64,
    secs: f64,
    wait_secs: f64,
    audio_secs: f64,
    peak_memory_gib: Option<f64>,
}

impl TrainingSpeed {
    fn add(&mut self, record: &Provenance) {
        let fact = |name: &str| record.facts.get(name).and_then(Value::as_f64);
        let (Some(step_ms), Some(wait_ms), Some(speed)) =
            (fact("step_ms"), fact("data_wait_ms_per_step"), fact("audio_secs_per_sec"))
        else {
            return;
        };
        let steps = fact("steps").unwrap_or(1.0); // of an earlier version
        let secs = steps * step_ms / 1e3;
        self.steps += steps;
        self.secs += secs;
        self.wait_secs += steps * wait_ms / 1e3;
        self.audio_secs += secs * speed;
        self.peak_memory_gib = self.peak_memory_gib.into_iter().chain(fact("peak_memory_gib")).reduce(f64::max);
    }
}

impl Sum {
    fn add(&mut self, record: &Provenance) {
        self.nodes += 1;
        self.secs += record.secs;
        self.cpu_secs += record.secs * record.threads as f64;
        if record.gpu.is_some() {
            let devices = record.facts.get("devices").and_then(Value::as_array).map_or(1, Vec::len);
            self.gpu_secs += record.secs * devices as f64;
        }
        self.hosts.insert(record.host.clone());
        self.training.add(record);
    }
}

/// Lines of a table: stages in order, with the time of the executions whose artifacts are in use now, whenever they ran.
pub(crate) fn table(opening: &Opening) -> Result<Vec<String>> {
    let mut sums: Vec<(String, Sum)> = vec![];
    let mut all = Sum::default();
    for index in &opening.workflow.order {
        let node = &opening.workflow.graph[*index];
        let Some((result, _)) = opening.store.latest(&format!("{}:{}", opening.workflow.name, node.id))? else { continue };
        let Some(result) = opening.store.result(result)? else { continue };
        let apart = APART.iter().any(|kind| node.kind.name.starts_with(kind));
        let values = node.point.iter().filter(|(axis, _)| apart && *axis != "seed").map(|(_, value)| value.to_owned());
        let name = std::iter::once(node.stage.to_string()).chain(values).collect::<Vec<_>>().join(" ");
        all.add(&result.provenance);
        let known = sums.iter().position(|(known, _)| *known == name);
        let at = known.unwrap_or(sums.len());
        if known.is_none() {
            sums.push((name, Sum::default()));
        }
        sums[at].1.add(&result.provenance);
    }
    let trainings = training_lines(&sums);
    sums.push(("all".to_owned(), all));
    Ok(trainings.into_iter().chain(lines(&sums)).collect())
}

/// Step times, and what of them was waiting for data; nothing when no execution says so.
fn training_lines(sums: &[(String, Sum)]) -> Vec<String> {
    let trained: Vec<_> = sums.iter().filter(|(_, sum)| sum.training.steps > 0.0 && sum.training.secs > 0.0).collect();
    if trained.is_empty() {
        return vec![];
    }
    let title = "training";
    let widest = trained.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(title.len());
    let head = format!(
        "{title:<widest$}  {:>10}  {:>12}  {:>8}  {:>14}  {:>11}",
        "a step", "data waited", "of it", "audio a second", "peak memory"
    );
    let rule = "─".repeat(widest + 65);
    let mut lines = vec![String::new(), head, rule.clone()];
    for (name, Sum { training, .. }) in trained {
        let space = " ".repeat(widest - name.chars().count());
        let millis = |secs: f64| format!("{:.1} ms", 1e3 * secs / training.steps);
        let (step, wait) = (millis(training.secs), millis(training.wait_secs));
        let share = format!("{:.1} %", 100.0 * training.wait_secs / training.secs);
        let speed = format!("{:.1} s", training.audio_secs / training.secs);
        let memory = training.peak_memory_gib.map_or("–".to_owned(), |gib| format!("{gib:.2} GiB"));
        lines.push(format!("{name}{space}  {step:>10}  {wait:>12}  {share:>8}  {speed:>14}  {memory:>11}"));
    }
    lines.push(rule);
    lines.push(
        "Means over all steps since a training was begun or last taken up again; data waited: time in which a step could not go on \
         for want of a batch. Memory: of the worker process, or of its GPU; the most of all seeds."
            .to_owned(),
    );
    lines
}

fn lines(sums: &[(String, Sum)]) -> Vec<String> {
    let widest = sums.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![
        String::new(),
        format!("{:<widest$}  {:>5}  {:>12}  {:>9}  {:>9}", "time", "nodes", "in all", "GPU hours", "CPU hours"),
    ];
    let rule = "─".repeat(widest + 43);
    lines.push(rule.clone());
    for (name, sum) in sums {
        let hours = |secs: f64| if secs > 0.0 { format!("{:.3}", secs / 3600.0) } else { "–".to_owned() };
        let space = " ".repeat(widest - name.chars().count());
        let (gpu, cpu) = (hours(sum.gpu_secs), hours(sum.cpu_secs));
        lines.push(format!("{name}{space}  {:>5}  {:>12}  {gpu:>9}  {cpu:>9}", sum.nodes, duration(sum.secs)));
    }
    lines.push(rule);
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
        let record = |secs, gpu| Provenance { secs, gpu, threads: 2, host: "here".to_owned(), ..Provenance::default() };
        let mut sum = Sum::default();
        sum.add(&record(3600.0, Some(0)));
        sum.add(&record(1800.0, None));
        let on_two = [("devices".to_owned(), serde_json::json!([0, 1]))].into();
        sum.add(&Provenance { facts: on_two, ..record(1800.0, Some(0)) });
        let lines = lines(&[("train lora".to_owned(), sum)]);
        assert_eq!(lines[3], "train lora      3     2 h 0 min      2.000      4.000");
        assert!(lines[5].contains("(on here)"));
        assert!(training_lines(&[("score".to_owned(), Sum::default())]).is_empty(), "what trains nothing has no steps");
    }

    #[test]
    fn waiting_of_several_seeds_is_weighted_by_their_steps() {
        let record = |values: [f64; 5]| {
            let names = ["steps", "step_ms", "data_wait_ms_per_step", "audio_secs_per_sec", "peak_memory_gib"];
            let facts = names.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.into())).collect();
            Provenance { facts, ..Provenance::default() }
        };
        let mut sum = Sum::default();
        sum.add(&record([30.0, 100.0, 1.0, 50.0, 0.5]));
        sum.add(&record([10.0, 300.0, 9.0, 150.0, 2.25]));
        let lines = training_lines(&[("train lora".to_owned(), sum)]);
        // 6 s for 40 steps, 120 ms of them waited; 3 s at 50 and 3 s at 150 seconds of audio a second.
        assert_eq!(lines[3], "train lora    150.0 ms        3.0 ms     2.0 %         100.0 s     2.25 GiB");
    }
}
