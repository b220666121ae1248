//! Reading messages, with bounds.

use super::{DecodeError, Dtype, Tensor, Value, npy};

/// What a message may be at most; its bytes are bounded by who receives it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lists and maps inside each other.
    pub depth: usize,
    /// Values in all, keys included.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 16, values: 65_536 }
    }
}

/// Dimensions of an array.
const MOST_DIMENSIONS: usize = 8;

/// Reads a whole message.
///
/// # Errors
/// Where it is no such message, or one beyond `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Value<'_>, DecodeError> {
    let mut reader = Reader { bytes, at: 0, values_left: limits.values };
    let value = reader.value(limits.depth)?;
    if reader.at < bytes.len() {
        return Err(reader.fault(format!("{} bytes behind the message", bytes.len() - reader.at)));
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn fault(&self, what: impl Into<String>) -> DecodeError {
        DecodeError { at: self.at, what: what.into() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..count) else {
            return Err(self.fault(format!("it ends after {} bytes, expected {count} more", rest.len())));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.fault("it ends too early"))
    }

    /// A big-endian whole number of `bytes` bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        Ok(self.take(bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, DecodeError> {
        let Some(left) = self.values_left.checked_sub(1) else { return Err(self.fault("too many values")) };
        self.values_left = left;
        let [marker] = self.array()?;
        Ok(match marker {
            0x00..=0x7f => Value::Int(i128::from(marker)),
            0xe0..=0xff => Value::Int(i128::from(marker.cast_signed())),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Bool(marker == 0xc3),
            0xc4..=0xc6 => {
                let length = self.length(1 << (marker - 0xc4))?;
                Value::Bin(self.take(length)?)
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Value::Int(i128::from(u8::from_be_bytes(self.array()?))),
            0xcd => Value::Int(i128::from(u16::from_be_bytes(self.array()?))),
            0xce => Value::Int(i128::from(u32::from_be_bytes(self.array()?))),
            0xcf => Value::Int(i128::from(u64::from_be_bytes(self.array()?))),
            0xd0 => Value::Int(i128::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Value::Int(i128::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Value::Int(i128::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Value::Int(i128::from(i64::from_be_bytes(self.array()?))),
            0xd9..=0xdb => {
                let length = self.length(1 << (marker - 0xd9))?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let length = self.length(if marker == 0xdc { 2 } else { 4 })?;
                self.list(length, depth)?
            }
            0xde | 0xdf => {
                let length = self.length(if marker == 0xde { 2 } else { 4 })?;
                self.map(length, depth)?
            }
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(self.fault(format!("a value of the kind {marker:#04x}, which is not read"))),
        })
    }

    fn text(&mut self, length: usize) -> Result<Value<'a>, DecodeError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Value::Str).map_err(|_| self.fault("a text that is no UTF-8"))
    }

    /// That so many values can follow, before memory is taken for them: each takes a byte at least.
    fn expect(&self, values: usize, depth: usize) -> Result<usize, DecodeError> {
        if values > self.values_left || values > self.bytes.len() - self.at {
            return Err(self.fault(format!("{values} values inside one, more than there can be")));
        }
        depth.checked_sub(1).ok_or_else(|| self.fault("values too deep inside each other"))
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<Value<'a>, DecodeError> {
        let depth = self.expect(length, depth)?;
        (0..length).map(|_| self.value(depth)).collect::<Result<_, _>>().map(Value::List)
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Value<'a>, DecodeError> {
        let depth = self.expect(length.saturating_mul(2), depth)?;
        let at = self.at;
        let mut entries: Vec<(&'a str, Value<'a>)> = Vec::with_capacity(length);
        for _ in 0..length {
            let key = self.value(0)?;
            let Some(key) = key.text() else { return Err(self.fault(format!("{} as a key, expected a text", key.kind()))) };
            entries.push((key, self.value(depth)?));
        }
        let mut keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        if let Some([twice, _]) = keys.array_windows().find(|[a, b]| a == b) {
            return Err(self.fault(format!("the key {twice:?} twice in one map")));
        }
        let map = Value::Map(entries);
        let marked = if map.get("__ndarray__").is_some() {
            tensor(&map, "dtype")
        } else if map.get("__ndarray_class__").is_some() {
            match map.get("as_npy") {
                Some(Value::Bin(file)) => npy::read(file).map(Value::Tensor),
                _ => Err("it has no bytes as_npy".into()),
            }
        } else if map.get("__npgeneric__").is_some() {
            scalar(&map)
        } else if matches!(map.get("nd"), Some(Value::Bool(_))) && map.get("type").is_some() && map.get("data").is_some() {
            old(&map)
        } else {
            return Ok(map);
        };
        marked.map_err(|what| DecodeError { at, what: format!("an array that is none: {what}") })
    }
}

/// Dtype and byte order by numpy's name, such as `<f4`.
fn dtype(map: &Value<'_>, key: &str) -> Result<(Dtype, bool), String> {
    let name = map.get(key).and_then(Value::text).ok_or_else(|| format!("it has no text {key}"))?;
    let known = name.split_at_checked(1).filter(|(order, _)| matches!(*order, "<" | ">" | "|" | "="));
    known
        .and_then(|(order, rest)| Some((Dtype::of(rest)?, order == ">")))
        .ok_or_else(|| format!("the dtype {name:?}, expected one of numbers or truth values, such as <f4"))
}

fn tensor<'a>(map: &Value<'a>, dtype_key: &str) -> Result<Value<'a>, String> {
    let (dtype, is_big_endian) = dtype(map, dtype_key)?;
    let Some(Value::Bin(data)) = map.get("data") else { return Err("it has no bytes data".into()) };
    let Some(Value::List(dimensions)) = map.get("shape") else { return Err("it has no list shape".into()) };
    if dimensions.len() > MOST_DIMENSIONS {
        return Err(format!("{} dimensions, expected at most {MOST_DIMENSIONS}", dimensions.len()));
    }
    let shape: Option<Vec<usize>> = dimensions.iter().map(Value::count).collect();
    let shape = shape.ok_or("a shape of other things than whole numbers")?;
    let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, dimension| bytes.checked_mul(*dimension));
    if bytes != Some(data.len()) {
        return Err(format!("{} bytes for {dtype} {shape:?}", data.len()));
    }
    Ok(Value::Tensor(Tensor { dtype, is_big_endian, shape, data }))
}

/// One of numpy's numbers, whose value stands there as it is.
fn scalar<'a>(map: &Value<'a>) -> Result<Value<'a>, String> {
    dtype(map, "dtype")?;
    match map.get("data") {
        Some(value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_))) => Ok(value.clone()),
        other => Err(format!("{} for a number", other.map_or("nothing".into(), Value::kind))),
    }
}

/// As the Python package `msgpack-numpy` marks them: an array, or with `nd` false a number as bytes.
fn old<'a>(map: &Value<'a>) -> Result<Value<'a>, String> {
    if map.get("kind").and_then(Value::text).is_some_and(|kind| !kind.is_empty()) {
        return Err("one of records or objects".into());
    }
    if map.get("nd") == Some(&Value::Bool(true)) {
        return tensor(map, "type");
    }
    let (dtype, is_big_endian) = dtype(map, "type")?;
    match map.get("data") {
        Some(Value::Bin(data)) if data.len() == dtype.bytes() => {
            Ok(Value::Tensor(Tensor { dtype, is_big_endian, shape: Vec::new(), data }))
        }
        _ => Err(format!("no bytes of a {dtype}")),
    }
}
