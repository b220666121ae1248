//! Columns as numbers of another width, and without their lists. Arrow's own `cast` knows every pair of
//! its types and weighs five megabytes; datasets hold numbers, truth values and text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray, StringArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};

/// `array` as numbers, truth values or text of type `to`, nulls kept; `None` where a value has no exact
/// counterpart (but for the rounding of floats) or the types are none of these.
pub(crate) fn cast(array: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    if array.data_type() == to {
        return Some(Arc::clone(array));
    }
    match to {
        DataType::Float64 => Some(Arc::new(floats(array)?)),
        DataType::Float32 => Some(Arc::new(floats(array)?.unary::<_, Float32Type>(|value| value as f32))),
        DataType::Float16 => {
            let rounded = <Float16Type as ArrowPrimitiveType>::Native::from_f64;
            Some(Arc::new(floats(array)?.unary::<_, Float16Type>(rounded)))
        }
        DataType::Int64 => Some(Arc::new(integers(array)?)),
        DataType::Int32 => narrowed::<Int32Type>(array),
        DataType::Int16 => narrowed::<Int16Type>(array),
        DataType::Int8 => narrowed::<Int8Type>(array),
        DataType::UInt64 => narrowed::<UInt64Type>(array),
        DataType::UInt32 => narrowed::<UInt32Type>(array),
        DataType::UInt16 => narrowed::<UInt16Type>(array),
        DataType::UInt8 => narrowed::<UInt8Type>(array),
        DataType::Boolean => {
            let values = integers(array)?;
            let is_truth = values.iter().flatten().all(|value| value == 0 || value == 1);
            is_truth.then(|| Arc::new(values.iter().map(|value| value.map(|value| value == 1)).collect::<BooleanArray>()) as ArrayRef)
        }
        DataType::Utf8 => match array.data_type() {
            DataType::LargeUtf8 => Some(Arc::new(array.as_string::<i64>().iter().collect::<StringArray>())),
            DataType::Utf8View => Some(Arc::new(array.as_string_view().iter().collect::<StringArray>())),
            _ => None,
        },
        _ => None,
    }
}

/// The values of all rows one after another, out of lists to any depth; `Err` says why the rows are not
/// alike.
pub(crate) fn flattened(array: &ArrayRef) -> Result<ArrayRef, String> {
    let mut flat = Arc::clone(array);
    loop {
        if flat.null_count() > 0 {
            return Err("it holds a null".to_owned());
        }
        flat = match flat.data_type() {
            DataType::FixedSizeList(_, width) => {
                let list = flat.as_fixed_size_list();
                list.values().slice(list.offset() * *width as usize, list.len() * *width as usize)
            }
            DataType::List(_) => {
                let list = flat.as_list::<i32>();
                let offsets = list.value_offsets();
                let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
                let width = (last - first).checked_div(list.len()).unwrap_or(0);
                if offsets.windows(2).any(|pair| (pair[1] - pair[0]) as usize != width) {
                    return Err("its lists have different lengths".to_owned());
                }
                list.values().slice(first, last - first)
            }
            _ => return Ok(flat),
        };
    }
}

/// Calls `$body` with `$values` as the primitive array that `$array` is, of whatever integer type.
macro_rules! of_integers {
    ($array:expr, $values:ident => $body:expr, $($other:tt)*) => {
        match $array.data_type() {
            DataType::Int8 => { let $values = $array.as_primitive::<Int8Type>(); $body }
            DataType::Int16 => { let $values = $array.as_primitive::<Int16Type>(); $body }
            DataType::Int32 => { let $values = $array.as_primitive::<Int32Type>(); $body }
            DataType::Int64 => { let $values = $array.as_primitive::<Int64Type>(); $body }
            DataType::UInt8 => { let $values = $array.as_primitive::<UInt8Type>(); $body }
            DataType::UInt16 => { let $values = $array.as_primitive::<UInt16Type>(); $body }
            DataType::UInt32 => { let $values = $array.as_primitive::<UInt32Type>(); $body }
            DataType::UInt64 => { let $values = $array.as_primitive::<UInt64Type>(); $body }
            $($other)*
        }
    };
}

fn floats(array: &ArrayRef) -> Option<Float64Array> {
    of_integers!(array, values => Some(values.unary(|value| value as f64)),
        DataType::Float16 => Some(array.as_primitive::<Float16Type>().unary(|value| value.to_f64())),
        DataType::Float32 => Some(array.as_primitive::<Float32Type>().unary(f64::from)),
        DataType::Float64 => Some(array.as_primitive::<Float64Type>().clone()),
        DataType::Boolean => Some(array.as_boolean().iter().map(|value| value.map(f64::from)).collect()),
        _ => None,
    )
}

fn integers(array: &ArrayRef) -> Option<Int64Array> {
    let exact = |value: f64| {
        let whole = value as i64;
        if whole as f64 == value { Ok(whole) } else { Err(()) }
    };
    of_integers!(array, values => values.try_unary(i64::try_from).ok(),
        DataType::Float32 | DataType::Float64 => floats(array)?.try_unary(exact).ok(),
        DataType::Boolean => Some(array.as_boolean().iter().map(|value| value.map(i64::from)).collect()),
        _ => None,
    )
}

fn narrowed<T>(array: &ArrayRef) -> Option<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i64>,
{
    let narrow: PrimitiveArray<T> = integers(array)?.try_unary(|value| T::Native::try_from(value).map_err(drop)).ok()?;
    Some(Arc::new(narrow))
}

#[cfg(test)]
mod tests {
    use arrow::array::ListArray;
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn lists_are_flattened_where_rows_are_alike() {
        let lists = |lengths: [usize; 2]| -> ArrayRef {
            let values = Int64Array::from(vec![1, 2, 3, 4]);
            let field = Field::new("element", DataType::Int64, true);
            Arc::new(ListArray::new(field.into(), OffsetBuffer::from_lengths(lengths), Arc::new(values), None))
        };
        assert_eq!(flattened(&lists([2, 2])).unwrap().as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
        // As many values, but not the rows' own.
        assert!(flattened(&lists([1, 3])).unwrap_err().contains("different lengths"));
    }

    #[test]
    fn numbers_keep_their_values_and_nulls_or_are_refused() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(200)]));
        let as_floats = cast(&numbers, &DataType::Float32).unwrap();
        assert_eq!(as_floats.as_primitive::<Float32Type>().iter().collect::<Vec<_>>(), [Some(0.0), None, Some(200.0)]);
        assert_eq!(&cast(&as_floats, &DataType::Int64).unwrap(), &numbers);
        assert_eq!(&cast(&cast(&numbers, &DataType::UInt8).unwrap(), &DataType::Int64).unwrap(), &numbers);
        assert!(cast(&numbers, &DataType::Int8).is_none(), "200 is no i8");
        assert!(cast(&numbers, &DataType::Boolean).is_none());
        let halves: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(cast(&halves, &DataType::Int64).is_none());
        let truths: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
        assert_eq!(&cast(&cast(&truths, &DataType::Int64).unwrap(), &DataType::Boolean).unwrap(), &truths);
        assert!(cast(&truths, &DataType::Utf8).is_none());
    }
}
