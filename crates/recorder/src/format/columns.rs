//! The rows of an episode by columns, as they come and as they go into a table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use serde_json::{Value as Json, json};

use crate::format::feature::{Dtype, Feature, FeatureKind, Value};
use crate::format::stats::FeatureStats;

/// A column by column store of rows. Cameras have no column here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: u64,
}

#[derive(Clone, Debug)]
struct Column {
    feature: Feature,
    cells: Cells,
}

#[derive(Clone, Debug)]
enum Cells {
    /// Little-endian, row after row.
    Numbers(Dtype, Vec<u8>),
    Text(Vec<String>),
}

impl Columns {
    pub(crate) fn new(features: &[Feature]) -> Self {
        let columns = features.iter().filter_map(|feature| {
            let cells = match &feature.kind {
                FeatureKind::Numbers { dtype, .. } => Cells::Numbers(*dtype, Vec::new()),
                FeatureKind::Text => Cells::Text(Vec::new()),
                _ => return None,
            };
            Some(Column { feature: feature.clone(), cells })
        });
        Self { columns: columns.collect(), rows: 0 }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds the next row of `bytes`, what [`encode`] made of its values, and takes it away. `None` when
    /// it is not one of these features; the columns are then of no use.
    pub(crate) fn push(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for column in &mut self.columns {
            let length = match &column.cells {
                Cells::Numbers(dtype, _) => column.feature.width() * dtype.size(),
                Cells::Text(_) => take(bytes, 4)?.try_into().map(u32::from_le_bytes).ok()? as usize,
            };
            let cell = take(bytes, length)?;
            match &mut column.cells {
                Cells::Numbers(_, all) => all.extend(cell),
                Cells::Text(all) => all.push(String::from_utf8(cell.to_vec()).ok()?),
            }
        }
        self.rows += 1;
        Some(())
    }

    /// Each column as an array, in the order of the features.
    pub(crate) fn arrays(&self) -> Result<Vec<(&Feature, ArrayRef)>, ArrowError> {
        self.columns.iter().map(|column| Ok((&column.feature, column.array()?))).collect()
    }

    /// Statistics of each column that has some; there must be a row.
    pub(crate) fn stats(&self) -> Vec<(String, FeatureStats)> {
        self.columns.iter().filter_map(|column| Some((column.feature.name.clone(), column.stats()?))).collect()
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Why `value` is none of `feature`.
pub(crate) fn misfit(feature: &Feature, value: &Value<'_>) -> Option<String> {
    let what = match (&feature.kind, value) {
        (FeatureKind::Numbers { dtype, shape }, Value::Numbers(found, bytes)) => {
            let (length, expected) = (bytes.len() / found.size(), feature.width());
            if found != dtype {
                format!("its values are {}, expected {}", found.name(), dtype.name())
            } else if length != expected {
                format!("it has {length} values, expected {expected} (shape {shape:?})")
            } else {
                let at = floats(*dtype, bytes).position(|value| !value.is_finite())?;
                format!("value {at} is {}", floats(*dtype, bytes).nth(at)?)
            }
        }
        (FeatureKind::Text, Value::Text(_)) => return None,
        (FeatureKind::Image { height, width } | FeatureKind::Video { height, width }, Value::Rgb(rgb)) => {
            let expected = *width as usize * *height as usize * 3;
            if rgb.len() == expected {
                return None;
            }
            format!("its image has {} bytes, expected {width}x{height} in {expected}", rgb.len())
        }
        (FeatureKind::Depth { height, width }, Value::DepthMm(depth)) => {
            let expected = *width as usize * *height as usize * 2;
            if depth.len() == expected {
                return None;
            }
            format!("its depth image has {} bytes, expected {width}x{height} in {expected}", depth.len())
        }
        (kind, value) => format!("its value is of the kind {}, expected {}", value.kind(), kind.name()),
    };
    Some(format!("feature {}: {what}", feature.name))
}

/// Appends to `row` a value that is no picture; it must fit its feature.
pub(crate) fn encode(value: &Value<'_>, row: &mut Vec<u8>) {
    match value {
        Value::Numbers(_, bytes) => row.extend(bytes.iter()),
        Value::Text(text) => {
            row.extend((text.len() as u32).to_le_bytes());
            row.extend(text.as_bytes());
        }
        Value::Rgb(_) | Value::DepthMm(_) => {}
    }
}

macro_rules! chunks {
    ($bytes:expr, $type:ty) => {
        $bytes.chunks_exact(size_of::<$type>()).map(|chunk| {
            let mut bytes = [0; size_of::<$type>()];
            bytes.copy_from_slice(chunk);
            <$type>::from_le_bytes(bytes)
        })
    };
}

/// Numbers widened; those of 64 bits may lose their last digits.
fn floats(dtype: Dtype, bytes: &[u8]) -> Box<dyn Iterator<Item = f64> + '_> {
    match dtype {
        Dtype::I8 => Box::new(chunks!(bytes, i8).map(f64::from)),
        Dtype::I16 => Box::new(chunks!(bytes, i16).map(f64::from)),
        Dtype::I32 => Box::new(chunks!(bytes, i32).map(f64::from)),
        Dtype::I64 => Box::new(chunks!(bytes, i64).map(|value| value as f64)),
        Dtype::F32 => Box::new(chunks!(bytes, f32).map(f64::from)),
        Dtype::F64 => Box::new(chunks!(bytes, f64)),
        Dtype::U8 | Dtype::Bool => Box::new(bytes.iter().map(|value| f64::from(*value))),
        Dtype::U16 => Box::new(chunks!(bytes, u16).map(f64::from)),
        Dtype::U32 => Box::new(chunks!(bytes, u32).map(f64::from)),
        Dtype::U64 => Box::new(chunks!(bytes, u64).map(|value| value as f64)),
    }
}

/// Rows of `shape` out of all their values: plain numbers, lists, or lists of lists.
pub(crate) fn shaped(values: ArrayRef, shape: &[usize]) -> Result<ArrayRef, ArrowError> {
    let element = |values: &ArrayRef| Arc::new(Field::new("element", values.data_type().clone(), true));
    match shape {
        [] | [1] => Ok(values),
        [width] => Ok(Arc::new(FixedSizeListArray::try_new(element(&values), *width as i32, values, None)?)),
        // From the last dimension on.
        shape => shape.iter().rev().try_fold(values, |values, length| {
            let lists = values.len().checked_div(*length).unwrap_or(0);
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(*length, lists));
            Ok(Arc::new(ListArray::try_new(element(&values), offsets, values, None)?) as ArrayRef)
        }),
    }
}

/// What the `datasets` library wants to be told of a column of `dtype` whose rows are of `shape`.
pub(crate) fn hugging_face(dtype: &str, shape: &[usize]) -> Json {
    match shape {
        [] | [1] => json!({"dtype": dtype, "_type": "Value"}),
        [width] => json!({"feature": {"dtype": dtype, "_type": "Value"}, "length": width, "_type": "List"}),
        shape => json!({"shape": shape, "dtype": dtype, "_type": format!("Array{}D", shape.len())}),
    }
}

impl Column {
    fn array(&self) -> Result<ArrayRef, ArrowError> {
        let (dtype, bytes) = match &self.cells {
            Cells::Text(text) => return Ok(Arc::new(StringArray::from_iter_values(text))),
            Cells::Numbers(dtype, bytes) => (*dtype, bytes),
        };
        macro_rules! primitive {
            ($arrow:ty, $type:ty) => {
                Arc::new(PrimitiveArray::<$arrow>::from_iter_values(chunks!(bytes, $type))) as ArrayRef
            };
        }
        let array = match dtype {
            Dtype::I8 => primitive!(Int8Type, i8),
            Dtype::I16 => primitive!(Int16Type, i16),
            Dtype::I32 => primitive!(Int32Type, i32),
            Dtype::I64 => primitive!(Int64Type, i64),
            Dtype::F32 => primitive!(Float32Type, f32),
            Dtype::F64 => primitive!(Float64Type, f64),
            Dtype::U8 => primitive!(UInt8Type, u8),
            Dtype::U16 => primitive!(UInt16Type, u16),
            Dtype::U32 => primitive!(UInt32Type, u32),
            Dtype::U64 => primitive!(UInt64Type, u64),
            Dtype::Bool => Arc::new(BooleanArray::from_iter(bytes.iter().map(|byte| Some(*byte != 0)))),
        };
        match &self.feature.kind {
            FeatureKind::Numbers { shape, .. } => shaped(array, shape),
            _ => Ok(array),
        }
    }

    fn stats(&self) -> Option<FeatureStats> {
        let Cells::Numbers(dtype, bytes) = &self.cells else { return None };
        let FeatureKind::Numbers { shape, .. } = &self.feature.kind else { return None };
        let width = *shape.last()?;
        let count = (bytes.len() / dtype.size() / self.feature.width()) as u64;
        Some(match dtype {
            // Small enough for numpy to take them as f32.
            Dtype::F32 | Dtype::Bool | Dtype::I8 | Dtype::U8 | Dtype::I16 | Dtype::U16 => {
                let rows: Vec<f32> = floats(*dtype, bytes).map(|value| value as f32).collect();
                FeatureStats::of_f32(&rows, width, count)
            }
            _ => FeatureStats::of_f64(&floats(*dtype, bytes).collect::<Vec<f64>>(), width, count),
        })
    }
}

impl Feature {
    /// Values of a row.
    pub(crate) fn width(&self) -> usize {
        match &self.kind {
            FeatureKind::Numbers { shape, .. } => shape.iter().product(),
            _ => 1,
        }
    }

    /// What the `datasets` library calls the column.
    pub(crate) fn hugging_face(&self) -> Json {
        match &self.kind {
            FeatureKind::Numbers { dtype, shape } => hugging_face(dtype.name(), shape),
            FeatureKind::Text => hugging_face("string", &[]),
            _ => json!({"_type": "Image"}),
        }
    }
}

impl FeatureKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Numbers { .. } => "numbers",
            Self::Text => "text",
            Self::Image { .. } | Self::Video { .. } => "RGB image",
            Self::Depth { .. } => "depth image",
        }
    }
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Numbers(..) => "numbers",
            Self::Text(_) => "text",
            Self::Rgb(_) => "RGB image",
            Self::DepthMm(_) => "depth image",
        }
    }
}
