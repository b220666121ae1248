//! Columns in the types that LeRobot writes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value, json};

use crate::format::cast::{cast, flattened};
use crate::format::columns::{hugging_face, shaped};

/// The arrow type of numpy's `dtype`.
fn data_type(dtype: &str) -> Option<DataType> {
    Some(match dtype {
        "float16" => DataType::Float16,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "uint8" => DataType::UInt8,
        "uint16" => DataType::UInt16,
        "uint32" => DataType::UInt32,
        "uint64" => DataType::UInt64,
        "bool" => DataType::Boolean,
        _ => return None,
    })
}

/// The type of the column of a feature that is no image.
pub(crate) fn arrow_type(feature: &Value) -> Option<DataType> {
    let dtype = feature["dtype"].as_str()?;
    if dtype == "string" {
        return Some(DataType::Utf8);
    }
    let element = |values: DataType| Arc::new(Field::new("element", values, true));
    let leaf = data_type(dtype)?;
    Some(match sizes(feature).as_slice() {
        [] | [1] => leaf,
        [width] => DataType::FixedSizeList(element(leaf), *width as i32),
        sizes => sizes.iter().fold(leaf, |inner, _| DataType::List(element(inner))),
    })
}

fn sizes(feature: &Value) -> Vec<usize> {
    let shape = feature["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
    shape.iter().map(|size| size.as_u64().unwrap_or(0) as usize).collect()
}

fn as_type(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    cast(array, to).ok_or_else(|| format!("its values are {} and can't all be {to}", array.data_type()))
}

/// `column` in the type that LeRobot gives `feature`; `Err` says why it can't be.
pub(crate) fn canonical(column: &ArrayRef, feature: &Value) -> Result<ArrayRef, String> {
    let dtype = feature["dtype"].as_str().unwrap_or_default();
    if dtype == "string" {
        return as_type(column, &DataType::Utf8);
    }
    let Some(element) = data_type(dtype) else { return Ok(column.clone()) };
    let rows = column.len();
    let leaf = flattened(column)?;
    let leaf = as_type(&leaf, &element)?;
    let sizes = sizes(feature);
    let values_a_row: usize = sizes.iter().product();
    if leaf.len() != rows * values_a_row {
        return Err(format!("its {rows} rows have {} values, expected {values_a_row} each", leaf.len()));
    }
    shaped(leaf, &sizes).map_err(|error| error.to_string())
}

/// What the `datasets` library wants to be told of a column.
fn described(feature: &Value) -> Option<Value> {
    let dtype = feature["dtype"].as_str().unwrap_or_default();
    match dtype {
        "image" => return Some(json!({"_type": "Image"})),
        "string" => return Some(hugging_face(dtype, &[])),
        dtype => data_type(dtype)?,
    };
    Some(hugging_face(dtype, &sizes(feature)))
}

pub(crate) fn int64(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|value| value as i64).collect::<Int64Array>())
}

/// PNG files as LeRobot keeps images in a table.
pub(crate) fn images(files: &[Vec<u8>]) -> Result<ArrayRef, arrow::error::ArrowError> {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(files));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values((0..files.len()).map(|frame| format!("frame-{frame:06}.png"))));
    let field = |name: &str, values: &ArrayRef| Field::new(name, values.data_type().clone(), true);
    let fields = vec![field("bytes", &bytes), field("path", &paths)];
    Ok(Arc::new(StructArray::try_new(fields.into(), vec![bytes, paths], None)?))
}

/// A batch of columns of a dataset's rows, with what the `datasets` library wants to know.
pub(crate) fn batch(columns: Vec<(String, ArrayRef)>, features: &Map<String, Value>) -> Result<RecordBatch, arrow::error::ArrowError> {
    let fields: Vec<Field> = columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let described: Map<String, Value> =
        columns.iter().filter_map(|(name, _)| Some((name.clone(), described(features.get(name)?)?))).collect();
    // Columns that cannot be described are better read without any description.
    let whole = described.len() == columns.len();
    let metadata = whole.then(|| ("huggingface".to_owned(), json!({"info": {"features": described}}).to_string()));
    let schema = Schema::new(fields).with_metadata(metadata.into_iter().collect());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, values)| values).collect())
}
