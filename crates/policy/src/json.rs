//! JSON files of bounded size, as the types that are wanted of them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Value;

use crate::CheckpointError;

/// No JSON file of a checkpoint comes near this.
const LIMIT_BYTES: u64 = 16 << 20;

/// Reads a JSON file of bounded size (`serde_json` bounds its depth).
pub(crate) fn read_json(path: &Path) -> Result<Value, CheckpointError> {
    let bytes = read_limited(path, LIMIT_BYTES)?;
    serde_json::from_slice(&bytes)
        .or_else(|source| serde_json::from_slice(&with_words(&bytes)).map_err(|_| CheckpointError::Json { path: path.to_owned(), source }))
}

/// `json` with Python's numbers that JSON doesn't have as strings. Where one is read it is refused as no number; others do no harm.
fn with_words(json: &[u8]) -> Vec<u8> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let (mut fixed, mut rest) = (Vec::with_capacity(json.len()), json);
    let (mut is_string, mut is_escaped) = (false, false);
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(word) = WORDS.iter().find(|word| !is_string && rest.starts_with(word.as_bytes())) {
            fixed.extend(format!("\"{word}\"").into_bytes());
            rest = &rest[word.len()..];
            continue;
        }
        is_string ^= byte == b'"' && !is_escaped;
        is_escaped = is_string && byte == b'\\' && !is_escaped;
        fixed.push(byte);
        rest = after;
    }
    fixed
}

/// The whole of a file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let read = |source| CheckpointError::Read { path: path.to_owned(), source };
    let file = open_regular(path)?;
    let size = file.metadata().map_err(read)?.len();
    if size > limit {
        return Err(CheckpointError::TooBig { path: path.to_owned(), found: size, limit });
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

/// Opens a file for reading, but no pipe or device, which might have nobody to write to it.
pub(crate) fn open_regular(path: &Path) -> Result<File, CheckpointError> {
    let read = |source| CheckpointError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(read(std::io::Error::other("it is no regular file, expected one")));
    }
    File::open(path).map_err(read)
}

/// `value` as a `T`; `path` is where it came from. An error names the key whose value is none.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, value: Value) -> Result<T, CheckpointError> {
    T::deserialize(&value).map_err(|source| {
        let source = match wrong_key::<T>(&value, &source.to_string()) {
            Some(key) => serde_json::Error::custom(format!("{key}: {source}")),
            None => source,
        };
        CheckpointError::Json { path: path.to_owned(), source }
    })
}

/// The key without which an object's `fault` is another or none. What a struct has in the wrong type is found before what it lacks.
fn wrong_key<T: DeserializeOwned>(value: &Value, fault: &str) -> Option<String> {
    let object = value.as_object()?;
    let is_wrong = |key: &&String| {
        // In the same order, so that the first fault stays the first.
        let rest = object.iter().filter(|(other, _)| other != key).map(|(key, value)| (key.clone(), value.clone())).collect();
        T::deserialize(&Value::Object(rest)).err().is_none_or(|error| error.to_string() != fault)
    };
    object.keys().find(is_wrong).cloned()
}

/// The keys of `T` in JSON, a struct that derives `Deserialize`; none of other types.
pub(crate) fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // It never answers with a value: the fields are what it was asked for.
    let _ = T::deserialize(Ask { fields: &mut fields });
    fields
}

struct Ask<'a> {
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        *self.fields = fields;
        Err(Error::custom("only asked for its fields"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only asked for its fields"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_told_with_its_key() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only what is wrong counts")]
        struct Json {
            rows: u32,
            #[serde(default)]
            names: Vec<String>,
        }
        let fault = |value| std::error::Error::source(&parse::<Json>(Path::new("x"), value).unwrap_err()).unwrap().to_string();
        let text = fault(serde_json::json!({"names": [], "other": "8", "rows": "8"}));
        assert!(text.starts_with("rows: ") && text.contains("expected u32"), "{text}");
        let text = fault(serde_json::json!({"rows": 8, "names": [1]}));
        assert!(text.starts_with("names: ") && text.contains("expected a string"), "{text}");
        let text = fault(serde_json::json!({"names": [], "other": 1}));
        assert!(text.starts_with("missing field `rows`"), "{text}");
    }

    #[test]
    fn fields_have_their_names_in_the_file() {
        #[derive(Deserialize)]
        #[serde(default)]
        #[allow(dead_code, reason = "only its fields' names count")]
        #[derive(Default)]
        struct Json {
            one: u32,
            #[serde(rename = "second")]
            two: Option<String>,
        }
        assert_eq!(keys_of::<Json>(), ["one", "second"]);
        assert_eq!(keys_of::<u32>(), [""; 0]);
    }
}
