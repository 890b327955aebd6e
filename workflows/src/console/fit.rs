//! Tables and notes that fit the terminal.

use std::collections::HashSet;
use std::ops::Range;

use console::{Term, measure_text_width};

/// Columns of a terminal that does not state its width.
const USUAL: usize = 80;
/// Narrower than this nothing is made to fit.
const NARROWEST: usize = 40;

/// Prints a line on standard output, as `println!`, so that it fits a terminal.
macro_rules! tell {
    ($($words:tt)*) => { println!("{}", $crate::console::fit_stdout(&format!($($words)*))) };
}
pub(crate) use tell;

/// Writes a line to what standard output is written with, as `writeln!`, so that it fits a terminal.
macro_rules! tell_to {
    ($out:expr, $($words:tt)*) => { writeln!($out, "{}", $crate::console::fit_stdout(&format!($($words)*))) };
}
pub(crate) use tell_to;

/// Returns text as it goes to standard output, without the last end of a line: on a terminal, tables are cut into parts that fit it, and
/// notes go on in the next line.
pub(crate) fn fit_stdout(text: &str) -> String {
    fit_terminal(text, &Term::stdout())
}

/// The same for standard error.
pub(super) fn fit_stderr(text: &str) -> String {
    fit_terminal(text, &Term::stderr())
}

fn fit_terminal(text: &str, terminal: &Term) -> String {
    let text = text.trim_end();
    if !terminal.is_term() {
        return text.to_owned();
    }
    let columns = terminal.size_checked().map_or(USUAL, |(_, columns)| usize::from(columns));
    fit(text, columns.max(NARROWEST)).trim_end().to_owned()
}

/// Makes text fit `width` columns. A table is a line of names, a rule, rows and perhaps another rule, as [`is_rule`] knows it; its columns
/// are two spaces apart.
fn fit(text: &str, width: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < lines.len() {
        let end = if lines.get(at + 1).is_some_and(|line| is_rule(line)) { table_end(&lines, at) } else { at + 1 };
        let part = &lines[at..end];
        if part.iter().all(|line| measure_text_width(line) <= width) {
            for line in part {
                push(&mut out, line);
            }
        } else if part.len() > 1 {
            cut(part, width, &mut out);
        } else {
            wrap(part[0], width, &mut out);
        }
        at = end;
    }
    out
}

fn push(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

fn is_rule(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|sign| sign == '─')
}

/// End of the table that begins at a line: its second rule, or the line before an empty one.
fn table_end(lines: &[&str], begin: usize) -> usize {
    let rows = lines[begin + 2..].iter().take_while(|line| !line.is_empty() && !is_rule(line)).count();
    let end = begin + 2 + rows;
    end + usize::from(lines.get(end).is_some_and(|line| is_rule(line)))
}

/// Puts the parts of a table below each other, each with the columns that tell its rows apart.
fn cut(table: &[&str], width: usize, out: &mut String) {
    let rows: Vec<Vec<char>> = table.iter().filter(|line| !is_rule(line)).map(|line| line.chars().collect()).collect();
    let columns = columns(&rows);
    let cells = |row: &[char], columns: &[Range<usize>]| {
        let cell = |column: &Range<usize>| {
            let mut cell: String = row.iter().take(column.end).skip(column.start).collect();
            cell.extend(std::iter::repeat_n(' ', column.len().saturating_sub(cell.chars().count())));
            cell
        };
        columns.iter().map(cell).collect::<Vec<_>>().join("  ")
    };
    let room = |columns: &[Range<usize>]| columns.iter().map(|column| column.len() + 2).sum::<usize>().saturating_sub(2);
    let tell_apart = |count: &usize| {
        let keys: HashSet<String> = rows.iter().map(|row| cells(row, &columns[..*count])).collect();
        keys.len() == rows.len()
    };
    let keys = (1..columns.len()).find(tell_apart).filter(|keys| room(&columns[..*keys]) <= width / 2).unwrap_or(1);
    if columns.len() < 2 {
        for line in table {
            push(out, line);
        }
    }
    let mut from = keys;
    while from < columns.len() {
        let fits = |to: &usize| room(&columns[..keys]) + 2 + room(&columns[from..*to]) <= width;
        let to = (from + 1..=columns.len()).take_while(fits).last().unwrap_or(from + 1);
        let part = [&columns[..keys], &columns[from..to]].concat();
        let rule = "─".repeat(room(&part).min(width));
        if from > keys {
            push(out, "");
        }
        push(out, &cells(&rows[0], &part));
        push(out, &rule);
        for row in &rows[1..] {
            push(out, &cells(row, &part));
        }
        if to == columns.len() && is_rule(table[table.len() - 1]) {
            push(out, &rule);
        }
        from = to;
    }
}

/// Columns of a table: what lies between two signs that are spaces in all lines.
fn columns(rows: &[Vec<char>]) -> Vec<Range<usize>> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_blank = |at: usize| rows.iter().all(|row| row.get(at).is_none_or(|sign| *sign == ' '));
    let mut columns: Vec<Range<usize>> = vec![];
    for at in (0..width).filter(|at| !is_blank(*at)) {
        match columns.last_mut() {
            Some(last) if at < last.end + 2 => last.end = at + 1,
            _ => columns.push(at..at + 1),
        }
    }
    columns
}

/// Goes on in the next line, between words, two columns further right. What is set in columns stays together.
fn wrap(line: &str, width: usize, out: &mut String) {
    let own = line.chars().take_while(|sign| *sign == ' ').count();
    let (columns, text) = line.trim().rsplit_once("  ").map_or(("", line.trim()), |(columns, text)| (columns, text));
    let gap_behind = " ".repeat(2 + columns.len() - columns.trim_end().len());
    let columns = columns.trim_end();
    let mut current = " ".repeat(own);
    let words = std::iter::once(columns).filter(|columns| !columns.is_empty()).chain(text.split_whitespace());
    for (at, word) in words.enumerate() {
        let gap = match at {
            0 => "",
            1 if !columns.is_empty() => &gap_behind,
            _ => " ",
        };
        if at > 0 && measure_text_width(&current) + gap.len() + measure_text_width(word) > width {
            push(out, &current);
            current = " ".repeat(own + 2);
        } else {
            current.push_str(gap);
        }
        current.push_str(word);
    }
    push(out, &current);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(width: usize, text: &str, expected: &str) {
        assert_eq!(fit(text, width), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= width));
        assert_eq!(fit(text, 200), text, "a wide terminal has it as it is");
    }

    const TABLE: &str = "\
corpus  method      accuracy  F1
────────────────────────────────
table   lora       98 ± 1.0*   7
table   full tune  97 ± 1.0   10
────────────────────────────────
";

    #[test]
    fn a_table_is_cut_between_its_columns() {
        let table =
            "corpus   accuracy  F1\n─────────────────────\ntable   98 ± 1.0*   7\nother   97 ± 1.0   10\n─────────────────────\n";
        let expected = "\
corpus   accuracy
─────────────────
table   98 ± 1.0*
other   97 ± 1.0

corpus  F1
──────────
table    7
other   10
──────────
";
        check(20, table, expected);
        check(34, TABLE, TABLE);
    }

    #[test]
    fn keys_of_two_columns_are_repeated() {
        let wide = TABLE
            .replace("F1", "F1           a third")
            .replace("  7\n", "  7            333.33\n")
            .replace(" 10\n", " 10            222.22\n");
        let found = fit(&wide, 40);
        let head: Vec<&str> = found.lines().filter(|line| line.starts_with("corpus")).collect();
        assert_eq!(head, ["corpus  method      accuracy  F1", "corpus  method     a third"], "{found}");
        assert!(found.contains("table   full tune   222.22\n"), "{found}");
        assert_eq!(found.matches("table   lora").count(), 2, "{found}");
    }

    #[test]
    fn notes_go_on_in_the_next_line() {
        check(12, "one two three four\n", "one two\n  three four\n");
        check(12, "  one two three\n\nend\n", "  one two\n    three\n\nend\n");
        check(14, "a    1  +2  three four\n", "a    1  +2\n  three four\n");
        check(17, "a    1  +2  three four\n", "a    1  +2  three\n  four\n");
        check(17, "  name    one two three\n", "  name    one two\n    three\n");
    }
}
