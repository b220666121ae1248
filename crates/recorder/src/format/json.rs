//! JSON as Python writes it.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::ReadError;
use crate::format::input;

/// The file at `path`. Python writes numbers that are not finite as `NaN`, `Infinity` and `-Infinity`, which
/// is no JSON: they are null here.
///
/// # Errors
/// When it can't be read, is too large, or is no JSON otherwise.
pub(crate) fn read_json(path: &Path) -> Result<Value, ReadError> {
    from_text(&read_text(path)?).map_err(|source| ReadError::Json { path: path.to_owned(), source })
}

/// The file at `path`, which has a value a line, such as version 2.1's tables.
///
/// # Errors
/// As [`read_json`], and when a line is no `T`.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReadError> {
    lines(path, &read_text(path)?)
}

/// The lines of `text`, which is what the file at `path` holds.
///
/// # Errors
/// When a line is no `T`.
pub(crate) fn lines<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Vec<T>, ReadError> {
    // Not every break that Unicode knows ends a line: a sentence may hold one as it is.
    let lines = text.split('\n').filter(|line| !line.trim().is_empty());
    lines.map(from_text).collect::<Result<_, _>>().map_err(|source| ReadError::Json { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<String, ReadError> {
    let text = input::read_text(path)?;
    // As Windows' editors begin files.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A line of the file at `path`.
///
/// # Errors
/// When it is no `T`.
pub(crate) fn line<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ReadError> {
    let read = std::str::from_utf8(bytes).map_or_else(|_| serde_json::from_slice(bytes), from_text);
    read.map_err(|source| ReadError::Json { path: path.to_owned(), source })
}

fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match without_unfinite(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })
}

/// `text` with null, padded where there is room, for each number that is not finite; `None` when there is none.
fn without_unfinite(text: &str) -> Option<Vec<u8>> {
    const WORDS: [(&[u8], &[u8]); 3] = [(b"-Infinity", b"     null"), (b"Infinity", b"    null"), (b"NaN", b"null")];
    let (mut clean, mut kept, mut at, mut in_string) = (Vec::with_capacity(text.len()), 0, 0, false);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                if let Some((word, null)) = WORDS.iter().find(|(word, _)| bytes[at..].starts_with(word)) {
                    clean.extend(&bytes[kept..at]);
                    clean.extend(*null);
                    at += word.len();
                    kept = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    clean.extend(&bytes[kept..]);
    (kept > 0).then_some(clean)
}

/// JSON indented by four spaces, as LeRobot writes it.
pub(crate) fn pretty(value: &impl Serialize) -> Vec<u8> {
    written(value, PrettyFormatter::with_indent(b"    "))
}

/// Statistics in the same form. Where one is not finite, there is `NaN`, which LeRobot reads and null is not.
pub(crate) fn pretty_stats(value: &impl Serialize) -> Vec<u8> {
    written(value, NanForNull(PrettyFormatter::with_indent(b"    ")))
}

/// Statistics in one line.
pub(crate) fn stats_line(value: &impl Serialize) -> String {
    String::from_utf8(written(value, NanForNull(CompactFormatter))).unwrap_or_default()
}

fn written(value: &impl Serialize, formatter: impl Formatter) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    debug_assert!(written.is_ok(), "writing to memory a value whose keys are strings cannot fail");
    bytes
}

struct NanForNull<F>(F);

macro_rules! passed_on {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {
        $(fn $method<W: ?Sized + std::io::Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> std::io::Result<()> {
            self.0.$method(writer $(, $argument)*)
        })*
    };
}

impl<F: Formatter> Formatter for NanForNull<F> {
    fn write_null<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b"NaN")
    }

    passed_on! {
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(),
        begin_object(), end_object(), begin_object_key(first: bool), end_object_key(), begin_object_value(), end_object_value(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, serde_json::Error> {
        from_text(text)
    }

    #[test]
    fn numbers_that_are_not_finite_are_null_and_words_stay_words() {
        let text = "{\"mean\": [NaN, -Infinity, 1.0,Infinity], \"NaN\": \"NaN, \\\"Infinity\\\\\", \"ü\": -1}";
        let expected = json!({"mean": [null, null, 1.0, null], "NaN": "NaN, \"Infinity\\", "ü": -1});
        assert_eq!(read(text).unwrap(), expected);
        for wrong in ["{\"a\": NaNN}", "{\"a\": nan}", "[Infinit]", "[-NaN]", "NaN NaN", "[\"NaN]", "{NaN: 1}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn statistics_that_are_not_finite_are_written_as_python_reads_them() {
        let stats = json!({"mean": [f64::NAN, 0.5], "count": [3]});
        assert_eq!(String::from_utf8(pretty_stats(&stats)).unwrap().replace(['\n', ' '], ""), "{\"mean\":[NaN,0.5],\"count\":[3]}");
        assert_eq!(stats_line(&stats), "{\"mean\":[NaN,0.5],\"count\":[3]}");
        assert_eq!(read(&stats_line(&stats)).unwrap(), stats);
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        let text = "{\"task\": \"a\u{2028}b\"}\r\n\n{\"task\": \"c\"}";
        assert_eq!(lines::<Value>(Path::new("a"), text).unwrap(), [json!({"task": "a\u{2028}b"}), json!({"task": "c"})]);
    }
}
