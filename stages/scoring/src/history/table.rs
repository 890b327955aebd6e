//! Table of all values of a history, as Parquet.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// Value of a cell for one seed in one rebuild.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// Id of the rebuild.
    pub rebuild: String,
    /// Task, corpus, method, metric, verdict, in this order.
    pub names: [String; 5],
    /// Other axes.
    pub others: String,
    /// Seed.
    pub seed: String,
    /// Value, as a ratio.
    pub value: f64,
}

/// Encodes rows; the same rows give the same bytes.
///
/// Errors: what the writer says.
pub fn encode_table(rows: &[TableRow]) -> Result<Vec<u8>, ParquetError> {
    let text = |of: &dyn Fn(&TableRow) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let mut columns: Vec<(&str, ArrayRef)> = vec![("rebuild", text(&|row| row.rebuild.clone()))];
    for (at, name) in ["task", "corpus", "method", "metric", "verdict"].into_iter().enumerate() {
        columns.push((name, text(&move |row| row.names[at].clone())));
    }
    columns.push(("others", text(&|row| row.others.clone())));
    columns.push(("seed", text(&|row| row.seed.clone())));
    columns.push(("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value)))));
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_encoded_alike_each_time() {
        let row = |value| TableRow {
            rebuild: "a".to_owned(),
            names: ["speech_recognition", "fsdd", "lora", "wer", "same"].map(str::to_owned),
            others: String::new(),
            seed: "1".to_owned(),
            value,
        };
        let bytes = encode_table(&[row(0.25), row(0.5)]).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes == encode_table(&[row(0.25), row(0.5)]).unwrap());
        assert_ne!(bytes, encode_table(&[row(0.25)]).unwrap());
    }
}
