//! The tables as plain text and as Markdown.

#![expect(clippy::format_push_string, reason = "the texts are short, and a template reads best whole")]

use super::board::{Board, BoardRow, LEVEL};
use super::group::one_class_note;
use super::table::{Column, Table};
use super::{NONE, spaced};
use crate::metric::Direction;

/// More comparisons than this are shown on the page only.
const FEW: usize = 12;

/// For a terminal.
pub(super) fn plain(title: &str, board: &Board, tables: &[Table]) -> String {
    let mut out = format!("{title}\n\n");
    if board.is_worth_showing() {
        let (head, rows) = board_cells(board, |text, mark| format!("{text}{mark:<2}"));
        out += &grid(&head, &rows);
        for line in board_notes(board, "* ", "** ") {
            out += &format!("{line}\n");
        }
        for (row, contest) in contests(board) {
            out += &format!("{row}{contest}\n");
        }
        out.push('\n');
    }
    for table in tables {
        if !table.title.is_empty() {
            out += &format!("{}\n\n", capital(&table.title));
        }
        out += &grid(&table.head, &table.rows.iter().map(|row| row.cells.clone()).collect::<Vec<_>>());
        if !table.title.is_empty() {
            out.push('\n');
        }
    }
    if let Some(table) = tables.first() {
        out += &format!("{}\n", table.note);
    }
    out
}

/// For a README; the best of each row in bold.
pub(super) fn markdown(title: &str, board: &Board, tables: &[Table]) -> String {
    let mut out = format!("# {title}\n\n");
    if board.is_worth_showing() {
        let bold = |text: &str, mark: &str| match mark {
            "*" => format!("**{text}**"),
            "**" => format!("**{text}** \\*"),
            mark => format!("{text}{mark}"),
        };
        let (head, rows) = board_cells(board, |text, mark| bold(&escape(text), mark));
        let words = head.iter().take_while(|column| !column.numeric).count();
        // The words are not escaped yet; the numbers carry their marks.
        let safe = |row: &Vec<String>| {
            row.iter().enumerate().map(|(at, cell)| if at < words { escape(cell) } else { cell.clone() }).collect::<Vec<_>>()
        };
        out += &pipes(&head, &rows.iter().map(safe).collect::<Vec<_>>());
        out.push('\n');
        for line in board_notes(board, "Bold: ", "*: ") {
            out += &format!("{}\n", escape(&line));
        }
        let contests = contests(board);
        if !contests.is_empty() {
            out.push('\n');
        }
        for (row, contest) in contests {
            out += &format!("- {}\n", escape(&format!("{row}{contest}")));
        }
        out.push('\n');
    }
    for table in tables {
        if !table.title.is_empty() {
            out += &format!("## {}\n\n", escape(&capital(&table.title)));
        }
        let row = |row: &super::table::TableRow| {
            let cell = |(at, cell): (usize, &String)| {
                if row.best && at == table.primary { format!("**{}**", escape(cell)) } else { escape(cell) }
            };
            row.cells.iter().enumerate().map(cell).collect::<Vec<_>>()
        };
        out += &pipes(&table.head, &table.rows.iter().map(row).collect::<Vec<_>>());
        out.push('\n');
    }
    if let Some(table) = tables.first() {
        out += &format!("{}\n", table.note);
    }
    out
}

/// Cells of the board; `mark` joins a number and its mark: `*` best, `**` clearly best, ` P` and ` L` published.
pub(super) fn board_cells(board: &Board, mark: impl Fn(&str, &str) -> String) -> (Vec<Column>, Vec<Vec<String>>) {
    let has = |of: for<'a> fn(&'a BoardRow<'_>) -> &'a str| board.rows.iter().any(|row| !matches!(of(row), "" | NONE));
    let (task, corpus, others) =
        (has(|row| &row.task), has(|row| &row.corpus), board.rows.iter().any(|row| row.others != board.rows[0].others));
    let words = |row: &BoardRow, metric: String| {
        let cells = [(task, spaced(&row.task)), (corpus, row.corpus.clone()), (others, row.others.clone()), (true, metric)];
        cells.into_iter().filter(|(shown, _)| *shown).map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let names = [(task, "task"), (corpus, "corpus"), (others, "setting"), (true, "metric")];
    let names = names.into_iter().filter(|(shown, _)| *shown);
    let mut head: Vec<Column> = names.map(|(_, name)| Column { name: name.to_owned(), numeric: false }).collect();
    // Marks follow the numbers, and so they follow the names.
    head.push(Column::numbers("chance"));
    head.extend(board.methods.iter().map(|name| Column::numbers(&mark(name, ""))));
    let mut rows = Vec::new();
    for row in &board.rows {
        let arrow = if row.metric.direction() == Direction::HigherIsBetter { '↑' } else { '↓' };
        let mut cells = words(row, format!("{} {arrow}", row.metric));
        cells
            .push(row.cells.iter().flatten().next().map_or_else(String::new, |group| row.metric.print(group.chance(row.metric))));
        cells.extend(row.cells.iter().enumerate().map(|(at, cell)| match cell {
            Some(group) if row.is_best(at) => mark(&group.print(row.metric), if row.is_clear() { "**" } else { "*" }),
            Some(group) => mark(&group.print(row.metric), ""),
            None => mark("–", ""),
        }));
        rows.push(cells);
        if row.published.iter().any(Option::is_some) {
            let mut cells = words(row, "published".to_owned());
            for cell in cells.iter_mut().rev().skip(1) {
                cell.clear();
            }
            cells.push(String::new());
            cells.extend(row.published.iter().map(|known| match known {
                Some((value, certainty)) => mark(&row.metric.print(*value), &format!(" {}", certainty.mark())),
                None => mark("", ""),
            }));
            rows.push(cells);
        }
    }
    (head, rows)
}

/// Notes on the marks of a board.
pub(super) fn board_notes(board: &Board, best: &str, clear: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let groups = || board.rows.iter().flat_map(|row| row.cells.iter().flatten());
    if board.rows.iter().any(|row| !row.contests.is_empty()) {
        let (one, several) = (groups().any(|group| group.runs.len() == 1), groups().any(|group| group.runs.len() > 1));
        let tested = if several {
            format!(
                "; {clear}better than the runner-up at p < {LEVEL}, tested over seeds and utterances together (not corrected for the \
                 number of comparisons)"
            )
        } else {
            String::new()
        };
        notes.push(format!("{best}best of its row{tested}."));
        if one {
            notes.push(
                "One seed: a difference may come from the seed, so no method with one seed counts as better than the runner-up."
                    .to_owned(),
            );
        }
    }
    if groups().any(|group| group.answers_one_class()) {
        notes.push(one_class_note());
    }
    if board.has_published() {
        notes.push(
            "Published: wav2vec 2.0 large, arXiv:2303.03267; P stated by the paper, L the test value in a log that its authors \
             committed, probably the paper's run."
                .to_owned(),
        );
    }
    notes
}

/// The best of each row against the others, with the name of the row where there are several; none when there are many.
fn contests(board: &Board) -> Vec<(String, String)> {
    let several = board.rows.len() > 1;
    let of = |row: &BoardRow| {
        let name = if several { format!("{}: ", row.name()) } else { String::new() };
        row.contests.iter().map(|contest| (name.clone(), contest.sentence())).collect::<Vec<_>>()
    };
    let all: Vec<_> = board.rows.iter().flat_map(of).collect();
    if all.len() > FEW { Vec::new() } else { all }
}

/// Columns of equal width under a rule.
fn grid(head: &[Column], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([head[at].name.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule = format!("{}\n", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
    let line = |cells: &[String]| {
        let pad = |(at, cell): (usize, &String)| {
            let space = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            if head[at].numeric { format!("{space}{cell}") } else { format!("{cell}{space}") }
        };
        format!("{}\n", cells.iter().enumerate().map(pad).collect::<Vec<_>>().join("  ").trim_end())
    };
    let names: Vec<String> = head.iter().map(|column| column.name.clone()).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}{rule}", line(&names))
}

/// A table of Markdown; the cells are escaped.
fn pipes(head: &[Column], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let names = line(head.iter().map(|column| escape(&column.name)).collect());
    let rule = line(head.iter().map(|column| if column.numeric { "--:" } else { "---" }.to_owned()).collect());
    let rows: String = rows.iter().map(|row| line(row.clone())).collect();
    format!("{names}{rule}{rows}")
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Keeps Markdown from reading a name as markup.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('_', "\\_").replace('<', "&lt;").replace('\n', " ")
}
