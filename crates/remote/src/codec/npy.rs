//! Arrays as numpy saves them in a file (`numpy.lib.format`), which GR00T's service has inside its messages.

use super::{Dtype, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Data begin at a multiple of this.
const ALIGNED: usize = 64;
/// Dimensions of an array.
const MOST_DIMENSIONS: usize = 8;

/// What stands in front of the little-endian elements of an array, in version 1.0.
pub(super) fn header(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    // As Python writes a tuple: a comma behind a single one, and none behind the last of several.
    let sides = if shape.len() == 1 { sides.trim_end() } else { sides.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({sides}), }}", dtype.name());
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNED) - unpadded));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}

/// Reads a whole file, of the versions 1.0 to 3.0. What would need a pickle is refused.
///
/// # Errors
/// What it is instead, in words.
pub(super) fn read(file: &[u8]) -> Result<Tensor<'_>, String> {
    let rest = file.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk::<2>);
    let (text, data) = match rest {
        Some(([1, 0], rest)) => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        Some(([2 | 3, 0], rest)) => rest.split_first_chunk::<4>().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        _ => return Err("it is no file of numpy's in the versions 1 to 3".into()),
    }
    .and_then(|(length, rest)| rest.split_at_checked(length))
    .ok_or("its header is cut")?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is no text")?;
    let behind = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let descr = behind("descr").and_then(|rest| rest.strip_prefix('\'')).and_then(|rest| rest.split_once('\''));
    let (name, _) = descr.ok_or("it is of records, or says no dtype")?;
    let known = name.split_at_checked(1).filter(|(order, _)| matches!(*order, "<" | ">" | "|" | "="));
    let (order, kind) = known.ok_or_else(|| format!("the dtype {name:?}"))?;
    let dtype = Dtype::of(kind).ok_or_else(|| format!("the dtype {name:?}, expected one of numbers or truth values"))?;
    let sides = behind("shape").and_then(|rest| rest.strip_prefix('(')).and_then(|rest| rest.split_once(')'));
    let (sides, _) = sides.ok_or("it says no shape")?;
    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty()).take(MOST_DIMENSIONS + 1);
    let shape = sides.map(str::parse).collect::<Result<Vec<usize>, _>>().map_err(|_| "a shape of other things than whole numbers")?;
    if shape.len() > MOST_DIMENSIONS {
        return Err(format!("more than {MOST_DIMENSIONS} dimensions"));
    }
    if !behind("fortran_order").is_some_and(|rest| rest.starts_with("False")) && shape.len() > 1 {
        return Err("its columns come first (fortran_order)".into());
    }
    let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, side| bytes.checked_mul(*side));
    if bytes != Some(data.len()) {
        return Err(format!("{} bytes for {dtype} {shape:?}", data.len()));
    }
    Ok(Tensor { dtype, is_big_endian: order == ">", shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `np.save` of numpy 2 of `np.array([[1.5, -2]], np.float32)`.
    const SAVED: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }                                                          \n\x00\x00\xc0?\x00\x00\x00\xc0";

    #[test]
    fn what_numpy_saves_is_read_and_written_to_the_byte() {
        let tensor = read(SAVED).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape[..], tensor.to_f64()), (Dtype::F32, &[1, 2][..], vec![1.5, -2.0]));
        assert_eq!([header(Dtype::F32, &[1, 2]), SAVED[128..].to_vec()].concat(), SAVED);
        for shape in [&[][..], &[3], &[2, 3], &[1, 2, 3, 4, 5]] {
            let count: usize = shape.iter().product();
            let file = [header(Dtype::U8, shape), vec![7; count]].concat();
            assert_eq!((file.len() - count) % 64, 0);
            assert_eq!(read(&file).unwrap().shape, shape);
        }
        assert!(String::from_utf8_lossy(&header(Dtype::U8, &[3])).contains("(3,), }"));
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        let with = |from: &str, to: &str| {
            let text = SAVED.iter().map(|byte| char::from(*byte)).collect::<String>().replace(from, to);
            text.chars().map(|c| c as u8).collect::<Vec<u8>>()
        };
        for (file, words) in [
            (with("<f4", "|O8"), "the dtype"),
            (with("'<f4'", "[('a'"), "records"),
            (with("False", "True "), "fortran_order"),
            (with("(1, 2)", "(1, 9)"), "8 bytes for"),
            (with("(1, 2)", "(x, 2)"), "whole numbers"),
            (with("(1, 2)", "1, 2"), "no shape"),
            (with("NUMPY", "numpy"), "versions"),
            (SAVED[..40].to_vec(), "cut"),
            (with("(1, 2)", "(99999999999, 99999999999)"), ""),
        ] {
            let error = read(&file).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        for cut in 0..SAVED.len() {
            assert!(read(&SAVED[..cut]).is_err(), "{cut}");
        }
    }
}
