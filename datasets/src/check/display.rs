//! A report for people.

use std::fmt;

use super::{Report, Severity};

/// How many names of a finding are shown.
const MOST_NAMES: usize = 10;

impl Report {
    /// The whole of it, with every name.
    pub fn in_full(&self) -> String {
        self.text(usize::MAX)
    }

    fn text(&self, most_names: usize) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text, most_names); // writing to a string cannot fail
        text
    }

    fn write(&self, f: &mut impl fmt::Write, most_names: usize) -> fmt::Result {
        writeln!(f, "{} as {} (licence: {})", self.corpus, self.protocol, self.licence)?;
        for report in &self.splits {
            let published = report.expected.map_or_else(String::new, |expected| format!(" of {expected}"));
            let (split, hours) = (report.split.name(), report.hours);
            write!(f, "  {split:<5} {}{published} utterances, {} speakers, {hours:.2} h", report.utterances, report.speakers)?;
            match report.unknown_lengths {
                0 => writeln!(f)?,
                unknown => writeln!(f, " without {unknown} of unknown length")?,
            }
        }
        for class in &self.classes {
            let [train, dev, test] = class.utterances;
            writeln!(f, "  {:<24} {train:>7} {dev:>7} {test:>7}", class.label)?;
        }
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Fault => "fault",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            writeln!(f, "{severity}: {}", finding.what)?;
            for name in finding.names.iter().take(most_names) {
                writeln!(f, "  {name}")?;
            }
            match finding.names.len().saturating_sub(most_names) {
                0 => {}
                more => writeln!(f, "  and {more} more")?,
            }
        }
        writeln!(f, "{}", if self.passes() { "complete" } else { "not complete" })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(MOST_NAMES))
    }
}
