//! Columns of tables as numbers, text and JSON, whatever their types.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde_json::{Value, json};

use super::cast::{cast, flattened};

/// A column of whole numbers, whatever their width; `None` where it has a null or is something else.
pub(crate) fn integers(batch: &RecordBatch, column: &str) -> Option<Vec<u64>> {
    let column = cast(batch.column_by_name(column)?, &DataType::Int64)?;
    let column = column.as_primitive::<Int64Type>();
    (column.null_count() == 0).then(|| column.values().iter().map(|value| *value as u64).collect())
}

pub(crate) fn floats(batch: &RecordBatch, column: &str) -> Option<Vec<f64>> {
    let column = cast(batch.column_by_name(column)?, &DataType::Float64)?;
    (column.null_count() == 0).then(|| column.as_primitive::<Float64Type>().values().to_vec())
}

/// A column's numbers row by row, lists flattened, and how many there are a row; `None` when it holds
/// something else, a null, or rows of different lengths.
pub(crate) fn numbers(array: &ArrayRef) -> Option<(Vec<f64>, usize)> {
    let flat = flattened(array).ok()?;
    if !(flat.data_type().is_numeric() || *flat.data_type() == DataType::Boolean) {
        return None;
    }
    let values = cast(&flat, &DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec();
    let width = values.len().checked_div(array.len()).unwrap_or(0);
    Some((values, width))
}

/// A column of text in whatever form; nulls become empty.
pub(crate) fn strings(column: &ArrayRef) -> Option<Vec<String>> {
    let text = cast(column, &DataType::Utf8)?;
    Some(text.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect())
}

/// A column of lists of text; nulls become empty.
pub(crate) fn lists_of_strings(column: &ArrayRef) -> Option<Vec<Vec<String>>> {
    let lists = column.as_list_opt::<i32>()?;
    let row = |row: usize| if lists.is_null(row) { Some(Vec::new()) } else { strings(&lists.value(row)) };
    (0..lists.len()).map(row).collect()
}

/// Numbers, and lists of them to any depth, as JSON; everything else is null.
pub(crate) fn to_json(array: &ArrayRef) -> Vec<Value> {
    let of_lists = |list: &dyn Fn(usize) -> ArrayRef| (0..array.len()).map(|row| Value::Array(to_json(&list(row)))).collect();
    match array.data_type() {
        DataType::List(_) => of_lists(&|row| array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => of_lists(&|row| array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => of_lists(&|row| array.as_fixed_size_list().value(row)),
        DataType::Int64 => array.as_primitive::<Int64Type>().iter().map(|value| json!(value)).collect(),
        _ => match cast(array, &DataType::Float64) {
            Some(numbers) => numbers.as_primitive::<Float64Type>().iter().map(|value| json!(value)).collect(),
            None => vec![Value::Null; array.len()],
        },
    }
}
