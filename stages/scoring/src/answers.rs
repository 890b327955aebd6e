//! Answers of a model to recordings whose right answer nobody knows: CSV, JSON lines or Parquet.
//!
//! Knows columns and cells, not tasks. [`crate::predictions`] are answers next to references.

use std::fmt::{Display, LowerExp};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::predictions::PredictionsError;

/// Format of a file of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Comma-separated values with a head line, quoted as in RFC 4180.
    Csv,
    /// A JSON object in each line.
    Jsonl,
    /// Parquet, zstd.
    Parquet,
}

impl AnswerFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Csv, Self::Jsonl, Self::Parquet];

    /// Ending of a file.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// Format of a file by its ending.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }
}

/// A value of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// Number in 32 bits.
    Single(f32),
    /// Number in 64 bits.
    Double(f64),
    /// Nested value: as it is in JSON, as text in the other formats.
    Nested(Value),
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellType {
    /// [`Cell::Text`]
    Text,
    /// [`Cell::Single`]
    Single,
    /// [`Cell::Double`]
    Double,
    /// [`Cell::Nested`]
    Nested,
}

/// Writer of answers, row after row.
#[derive(Debug)]
pub struct AnswerWriter {
    path: PathBuf,
    columns: Vec<(String, CellType)>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Csv(BufWriter<File>),
    Jsonl(BufWriter<File>),
    Parquet(Box<ArrowWriter<File>>),
}

impl AnswerWriter {
    /// Creates a file with these columns.
    ///
    /// Errors: a file that cannot be written.
    pub fn create(path: &Path, format: AnswerFormat, columns: Vec<(String, CellType)>) -> Result<Self, PredictionsError> {
        let io = |source| PredictionsError::Io { path: path.to_owned(), source };
        let file = File::create(path).map_err(io)?;
        let sink = match format {
            AnswerFormat::Csv => {
                let mut file = BufWriter::new(file);
                let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
                writeln!(file, "{}", names.join(",")).map_err(io)?;
                Sink::Csv(file)
            }
            AnswerFormat::Jsonl => Sink::Jsonl(BufWriter::new(file)),
            AnswerFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let writer = ArrowWriter::try_new(file, Arc::new(schema(&columns)), Some(properties));
                let parquet = |source| PredictionsError::Parquet { path: path.to_owned(), source };
                Sink::Parquet(Box::new(writer.map_err(parquet)?))
            }
        };
        Ok(Self { path: path.to_owned(), columns, sink })
    }

    /// Writes rows, whose cells are in the order and of the types of the columns.
    ///
    /// Errors: a file that cannot be written.
    pub fn push(&mut self, rows: &[Vec<Cell>]) -> Result<(), PredictionsError> {
        let io = |source| PredictionsError::Io { path: self.path.clone(), source };
        match &mut self.sink {
            Sink::Csv(file) => {
                let line = |row: &Vec<Cell>| row.iter().map(|cell| quoted(&plain(cell))).collect::<Vec<_>>().join(",");
                rows.iter().try_for_each(|row| writeln!(file, "{}", line(row))).map_err(io)
            }
            Sink::Jsonl(file) => rows.iter().try_for_each(|row| write_json(file, &self.columns, row)).map_err(io),
            Sink::Parquet(writer) => {
                let parquet = |source| PredictionsError::Parquet { path: self.path.clone(), source };
                let columns = self.columns.iter().enumerate().map(|(at, (_, kind))| array(rows, at, *kind)).collect();
                let schema = Arc::new(schema(&self.columns));
                let batch = RecordBatch::try_new(schema, columns);
                writer.write(&batch.map_err(|error| parquet(error.into()))?).map_err(parquet)
            }
        }
    }

    /// Ends the file.
    ///
    /// Errors: a file that cannot be written.
    pub fn finish(self) -> Result<(), PredictionsError> {
        let Self { path, sink, .. } = self;
        match sink {
            Sink::Csv(mut file) | Sink::Jsonl(mut file) => file.flush().map_err(|source| PredictionsError::Io { path, source }),
            Sink::Parquet(writer) => writer.close().map(drop).map_err(|source| PredictionsError::Parquet { path, source }),
        }
    }
}

fn schema(columns: &[(String, CellType)]) -> Schema {
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

fn field((name, kind): &(String, CellType)) -> Field {
    let data_type = match kind {
        CellType::Text | CellType::Nested => DataType::Utf8,
        CellType::Single => DataType::Float32,
        CellType::Double => DataType::Float64,
    };
    Field::new(name, data_type, false)
}

/// A column of rows.
fn array(rows: &[Vec<Cell>], at: usize, kind: CellType) -> ArrayRef {
    let cells = rows.iter().map(|row| &row[at]);
    match kind {
        CellType::Text | CellType::Nested => Arc::new(StringArray::from_iter_values(cells.map(plain))),
        CellType::Single => Arc::new(Float32Array::from_iter_values(cells.map(|cell| number(cell) as f32))),
        CellType::Double => Arc::new(Float64Array::from_iter_values(cells.map(number))),
    }
}

fn number(cell: &Cell) -> f64 {
    match cell {
        Cell::Single(value) => f64::from(*value),
        Cell::Double(value) => *value,
        Cell::Text(_) | Cell::Nested(_) => f64::NAN,
    }
}

fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Single(value) => short(value, f64::from(*value)),
        Cell::Double(value) => short(value, *value),
        Cell::Nested(value) => value.to_string(),
    }
}

/// Returns the shortest text that reads back as the number: with an exponent below 0.0001.
fn short<T: Display + LowerExp>(number: T, size: f64) -> String {
    if size != 0.0 && size.abs() < 1e-4 { format!("{number:e}") } else { number.to_string() }
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Writes an object whose fields are in the order of the columns. A number that is not finite is null.
fn write_json(file: &mut impl Write, columns: &[(String, CellType)], row: &[Cell]) -> io::Result<()> {
    let value = |cell: &Cell| match cell {
        Cell::Text(text) => Value::from(text.as_str()).to_string(),
        Cell::Nested(value) => value.to_string(),
        Cell::Single(value) if value.is_finite() => short(value, f64::from(*value)),
        Cell::Double(value) if value.is_finite() => short(value, *value),
        Cell::Single(_) | Cell::Double(_) => "null".to_owned(),
    };
    let field = |((name, _), cell): (&(String, CellType), &Cell)| format!("{}: {}", Value::from(name.as_str()), value(cell));
    writeln!(file, "{{{}}}", columns.iter().zip(row).map(field).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use datasets::parquet_file::ParquetFile;
    use serde_json::json;

    use super::*;

    fn write(format: AnswerFormat, folder: &Path) -> PathBuf {
        let path = folder.join(format!("answers.{}", format.extension()));
        let columns = [("id", CellType::Text), ("p", CellType::Single), ("secs", CellType::Double), ("words", CellType::Nested)];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec();
        let mut writer = AnswerWriter::create(&path, format, columns).unwrap();
        let row =
            |id: &str, p: f32| vec![Cell::Text(id.to_owned()), Cell::Single(p), Cell::Double(1.25), Cell::Nested(json!(["a"]))];
        writer.push(&[row("a,\"b\"", 0.9), row("c", f32::NAN)]).unwrap();
        writer.push(&[row("d", 0.25)]).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn each_format_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let text = |format| std::fs::read_to_string(write(format, folder.path())).unwrap();
        let csv = "id,p,secs,words\n\"a,\"\"b\"\"\",0.9,1.25,\"[\"\"a\"\"]\"\nc,NaN,1.25,\"[\"\"a\"\"]\"\nd,0.25,1.25,\"[\"\"a\"\"]\"\n";
        assert_eq!(text(AnswerFormat::Csv), csv);
        let lines = text(AnswerFormat::Jsonl);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"id": "a,\"b\"", "p": 0.9, "secs": 1.25, "words": ["a"]}));
        assert!(lines[1]["p"].is_null() && lines.len() == 3);
        let path = write(AnswerFormat::Parquet, folder.path());
        let batches = ParquetFile::open(&path, "answers").unwrap().rows(|_| true).unwrap();
        let rows: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, 3);
    }

    #[test]
    fn small_numbers_have_an_exponent_and_read_back() {
        for (number, text) in
            [(1.0_f32, "1"), (0.0, "0"), (0.000_123, "0.000123"), (4.236_813e-19, "4.236813e-19"), (1e-40, "1e-40")]
        {
            assert_eq!(plain(&Cell::Single(number)), text);
            assert_eq!(text.parse(), Ok(number));
        }
        assert_eq!(plain(&Cell::Double(-2.5e-7)), "-2.5e-7");
    }

    #[test]
    fn the_ending_tells_the_format() {
        assert_eq!(AnswerFormat::of(Path::new("a/b.CSV")), Some(AnswerFormat::Csv));
        assert_eq!(AnswerFormat::of(Path::new("b.parquet")), Some(AnswerFormat::Parquet));
        assert_eq!(AnswerFormat::of(Path::new("b.txt")), None);
    }
}
