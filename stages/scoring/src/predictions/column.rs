//! Columns of rows and back, for the kinds of values that predictions hold.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float32Array, Float64Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field};

/// A column that holds no nulls.
pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

pub(super) fn texts<'a, R: 'a>(rows: &[&'a R], get: impl Fn(&'a R) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|row| get(row))))
}

pub(super) fn optional_texts<'a, R: 'a>(rows: &[&'a R], get: impl Fn(&'a R) -> Option<&'a str>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| get(row)).collect::<StringArray>())
}

pub(super) fn integers<R>(rows: &[&R], get: impl Fn(&R) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| get(row))))
}

pub(super) fn singles<R>(rows: &[&R], get: impl Fn(&R) -> f32) -> ArrayRef {
    Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| get(row))))
}

pub(super) fn doubles<R>(rows: &[&R], get: impl Fn(&R) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| get(row))))
}

pub(super) fn optional_doubles<R>(rows: &[&R], get: impl Fn(&R) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| get(row)).collect::<Float64Array>())
}

pub(super) fn text(column: &ArrayRef, row: usize) -> String {
    column.as_string::<i32>().value(row).to_owned()
}

pub(super) fn optional_text(column: &ArrayRef, row: usize) -> Option<String> {
    column.is_valid(row).then(|| text(column, row))
}

pub(super) fn integer(column: &ArrayRef, row: usize) -> i64 {
    column.as_primitive::<Int64Type>().value(row)
}

pub(super) fn single(column: &ArrayRef, row: usize) -> f32 {
    column.as_primitive::<Float32Type>().value(row)
}

pub(super) fn double(column: &ArrayRef, row: usize) -> f64 {
    column.as_primitive::<Float64Type>().value(row)
}

pub(super) fn optional_double(column: &ArrayRef, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| double(column, row))
}
