//! `MessagePack` in the dialect of openpi's `msgpack_numpy`: arrays are maps with a marker. What is decoded borrows from the
//! message, so that an image is not copied.
//!
//! Read are openpi's markers (`__ndarray__`, `__npgeneric__`), the older ones of the Python package `msgpack-numpy` (`nd`), and GR00T's
//! (`__ndarray_class__`, with a file of numpy's inside); written are openpi's, and GR00T's where that is said. Depth, number of values and sizes are checked before memory is taken, and what is not known (extension
//! types, other dtypes, pickled objects, keys that are no text, a key twice) is refused.

mod decode;
mod encode;
mod json;
mod npy;
mod tensor;

use std::borrow::Cow;

use thiserror::Error;

use crate::lerobot::{self, Picture};

pub use decode::{Limits, decode};
pub use encode::Packer;
pub use json::{message_of_json, pack_json, to_json};
pub use tensor::{Dtype, Numbers, Tensor};

/// A message that is not what it should be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("decoding msgpack, at byte {at}: {what}")]
pub struct DecodeError {
    pub at: usize,
    pub what: String,
}

/// Whether a value says of itself that it is an image in the form of LeRobot's remote inference.
pub fn is_picture(value: &Value<'_>) -> bool {
    value.get(lerobot::MARKER).and_then(Value::text) == Some("rgb")
}

/// Height, width and pixels of such an image, which may be a JPEG.
///
/// # Errors
/// What it is instead, in words.
pub fn picture(value: &Value<'_>) -> Result<(usize, usize, Vec<u8>), String> {
    let (size, picture) = lerobot::picture(value)?;
    let pixels = match picture {
        Picture::Raw(data) => data.to_vec(),
        Picture::Jpeg(data) => lerobot::pixels_of_jpeg(data, size)?,
    };
    Ok((size[0], size[1], pixels))
}

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    List(Vec<Value<'a>>),
    /// In the order of the message, each key once.
    Map(Vec<(&'a str, Value<'a>)>),
    Tensor(Tensor<'a>),
}

impl<'a> Value<'a> {
    /// What a map has for `key`.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.entries().iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(&'a str, Value<'a>)] {
        if let Value::Map(entries) = self { entries } else { &[] }
    }

    /// A text, also one that was sent as bytes.
    pub fn text(&self) -> Option<&'a str> {
        match self {
            Value::Str(text) => Some(text),
            Value::Bin(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A whole number of at least 0.
    pub fn count(&self) -> Option<usize> {
        if let Value::Int(value) = self { usize::try_from(*value).ok() } else { None }
    }

    /// A single number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Tensor(tensor) if tensor.shape.is_empty() => tensor.to_f64().first().copied(),
            _ => None,
        }
    }

    /// Numbers with a shape: of an array, of a list of numbers or of such lists, or of a number alone.
    ///
    /// # Errors
    /// What was found instead, in words.
    pub fn numbers(&self) -> Result<Numbers, String> {
        match self {
            Value::Tensor(tensor) => Ok(Numbers { shape: tensor.shape.clone(), values: tensor.to_f64() }),
            Value::List(items) => {
                let parts = items.iter().map(Self::numbers).collect::<Result<Vec<_>, _>>()?;
                let inner = parts.first().map(|part| part.shape.clone()).unwrap_or_default();
                if let Some(other) = parts.iter().find(|part| part.shape != inner) {
                    return Err(format!("a list with parts of the shapes {inner:?} and {:?}", other.shape));
                }
                let shape = [parts.len()].into_iter().chain(inner).collect();
                Ok(Numbers { shape, values: parts.into_iter().flat_map(|part| part.values).collect() })
            }
            Value::Int(_) | Value::Float(_) => Ok(Numbers { shape: Vec::new(), values: self.number().into_iter().collect() }),
            other => Err(other.kind().into_owned()),
        }
    }

    /// What stands where something else was expected, for people.
    pub(crate) fn shown(found: Option<&Self>) -> String {
        match found {
            None => "nothing".to_owned(),
            Some(Value::Str(text)) => format!("{text:?}"),
            Some(number @ (Value::Int(_) | Value::Float(_))) => number.number().map_or_else(|| "a number".to_owned(), |x| x.to_string()),
            Some(other) => other.kind().into_owned(),
        }
    }

    /// What it is, in words.
    pub fn kind(&self) -> Cow<'static, str> {
        match self {
            Value::Nil => "nothing".into(),
            Value::Bool(_) => "a truth value".into(),
            Value::Int(_) | Value::Float(_) => "a number".into(),
            Value::Str(_) => "a text".into(),
            Value::Bin(_) => "bytes".into(),
            Value::List(items) => format!("a list of {}", items.len()).into(),
            Value::Map(entries) => format!("a map of {}", entries.len()).into(),
            Value::Tensor(tensor) => format!("{} {:?}", tensor.dtype, tensor.shape).into(),
        }
    }
}

#[cfg(test)]
mod tests;
