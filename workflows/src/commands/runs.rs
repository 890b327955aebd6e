//! `sure runs` and `sure log`

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use pipeline::store::Store;
use pipeline::traces::RunRow;

use crate::cli::{LogArgs, RunsArgs};
use crate::opening::Request;
use crate::problem::problem;
use crate::settings::Settings;

pub(crate) fn runs(args: &RunsArgs) -> Result<ExitCode> {
    let store = Store::open(&Settings::load(&args.machine, &[])?.store)?;
    if let Some(run) = args.run {
        let steps = store.steps(run)?;
        if steps.is_empty() && !store.runs(usize::MAX >> 1)?.iter().any(|row| row.id == run) {
            return Err(problem(format!("no run {run} in this store"), "`sure runs` lists them"));
        }
        for step in &steps {
            let message = step.message.as_deref().map(|text| format!("  {text}")).unwrap_or_default();
            println!("{:>8}  {:>9.2} s  {}{message}", step.state, step.secs, step.node);
        }
        return Ok(ExitCode::SUCCESS);
    }
    for row in store.runs(args.limit)? {
        println!("{}", line(&row));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(row: &RunRow) -> String {
    let request: Request = serde_json::from_str(&row.request).unwrap_or_default(); // of another version: shown without its settings
    let set: Vec<String> = request.set.iter().map(|(name, values)| format!("{name}={}", values.join(","))).collect();
    let outcome = row.outcome.as_deref().unwrap_or("unfinished");
    format!("{:>5}  {}  {outcome:<10}  {} {}", row.id, utc(row.started_ms), row.workflow, set.join(" "))
}

/// `2024-02-29 12:00:00Z`; the civil date by Howard Hinnant's days algorithm (chrono-compatible low-level date algorithms, 2013).
fn utc(millis: i64) -> String {
    let secs = millis.div_euclid(1000);
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

pub(crate) fn log(args: &LogArgs) -> Result<ExitCode> {
    let store = Store::open(&Settings::load(&args.machine, &[])?.store)?;
    for row in store.runs(200)? {
        for step in
            store.steps(row.id)?.iter().filter(|step| step.state == "ran" || step.state == "failed" || step.state == "stopped")
        {
            let node = step.node.split_once(':').map_or(step.node.as_str(), |(_, node)| node);
            if !(node.starts_with(&args.node) || step.node.starts_with(&args.node)) {
                continue;
            }
            println!("run {}: {} {} in {:.2} s", row.id, step.node, step.state, step.secs);
            if let Some(message) = &step.message {
                println!("{message}");
            }
            if let Some(log) = step.log.as_ref().filter(|log| log.is_file()) {
                print!("{}", fs::read_to_string(log).with_context(|| format!("cannot read `{}`", log.display()))?);
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(problem(
        format!("no node `{}` has run in this store", args.node),
        "`sure runs` lists runs, `sure runs N` the nodes of one",
    ))
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00Z");
        assert_eq!(utc(951_825_599_999), "2000-02-29 11:59:59Z");
        assert_eq!(utc(1_709_208_000_000), "2024-02-29 12:00:00Z");
    }
}
