//! The wire of LeRobot's remote inference, version 1: keys, envelopes, arrays and images, each with its bounds. Nothing else knows how a
//! message looks.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::{ColorType, ImageDecoder as _};

use crate::codec::{Dtype, Limits, Packer, Tensor, Value, decode};

const VERSION: i64 = 1;
/// Of a message.
pub(crate) const MOST_BYTES: usize = 32 << 20;
/// Of all arrays and images of a message.
const MOST_DECODED: usize = 64 << 20;
const MOST_TEXT: usize = 16 << 10;
const MOST_ITEMS: usize = 4096;
const MOST_SIDE: usize = 16_384;
const MOST_PIXELS: usize = 4096 * 4096;
const MOST_DIMENSIONS: usize = 8;
/// Of a key's part, such as a session's name.
const MOST_NAME: usize = 128;
/// What an error may say.
const MOST_WORDS: usize = 2048;
/// The envelope and the body are two of the maps, and keys count as values.
const LIMITS: Limits = Limits { depth: 18, values: 65_536 };
pub(crate) const MARKER: &str = "__lerobot_type__";

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Describe,
    Descriptor,
    Open,
    Accepted,
    Control,
    Ack,
    Observation,
    Action,
    LanguageRequest,
    LanguageResult,
    Error,
}

const KINDS: [(Kind, &str); 11] = [
    (Kind::Describe, "describe"),
    (Kind::Descriptor, "descriptor"),
    (Kind::Open, "open"),
    (Kind::Accepted, "accepted"),
    (Kind::Control, "control"),
    (Kind::Ack, "ack"),
    (Kind::Observation, "observation"),
    (Kind::Action, "action"),
    (Kind::LanguageRequest, "language_request"),
    (Kind::LanguageResult, "language_result"),
    (Kind::Error, "error"),
];

impl Kind {
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether it belongs to a session, whose name it has to say.
    fn is_of_a_session(self) -> bool {
        !matches!(self, Self::Describe | Self::Descriptor | Self::Open | Self::Accepted | Self::Error)
    }
}

/// By what a message is known; an answer has all of its question's. Empty where there is none yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub instance: String,
    pub session: String,
    pub generation: u64,
    pub request: String,
}

/// A message that was read.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub kind: Kind,
    pub head: Head,
    /// A map.
    pub body: Value<'a>,
}

/// Keys of a deployment, of a server's run, and of a session.
pub(crate) fn deployment_key(deployment: &str) -> String {
    format!("lerobot/inference/v1/deployments/{deployment}")
}

pub(crate) fn instance_key(deployment: &str, instance: &str) -> String {
    format!("{}/instances/{instance}", deployment_key(deployment))
}

pub(crate) fn session_key(deployment: &str, instance: &str, session: &str) -> String {
    format!("{}/sessions/{session}", instance_key(deployment, instance))
}

/// Whether `text` may be a part of a key: letters, digits, `_`, `.` and `-`, the first a letter or a digit.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MOST_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A name that nobody has had.
pub(crate) fn fresh_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Writes a message; `body` writes one map.
pub(crate) fn write(kind: Kind, head: &Head, body: impl FnOnce(&mut Packer)) -> Vec<u8> {
    let mut packer = Packer::after(begin(kind, head));
    body(&mut packer);
    packer.into_bytes()
}

/// A message up to its body, behind which one map is to be written.
pub(crate) fn begin(kind: Kind, head: &Head) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.map(7);
    packer.str("version");
    packer.int(VERSION);
    for (key, text) in
        [("message_type", kind.name()), ("instance_id", &head.instance), ("session_id", &head.session), ("request_id", &head.request)]
    {
        packer.str(key);
        packer.str(text);
    }
    packer.str("generation");
    packer.int(i64::try_from(head.generation).unwrap_or(i64::MAX));
    packer.str("body");
    packer.into_bytes()
}

/// An error for the question of `head`, with one of v1's codes.
pub(crate) fn write_error(head: &Head, code: &str, what: &str) -> Vec<u8> {
    let end = (0..=MOST_WORDS.min(what.len())).rev().find(|end| what.is_char_boundary(*end)).unwrap_or(0);
    write(Kind::Error, head, |packer| {
        packer.map(2);
        packer.str("code");
        packer.str(code);
        packer.str("message");
        packer.str(what.get(..end).unwrap_or_default());
    })
}

/// The code and the words of an error's body.
pub(crate) fn error_of(body: &Value<'_>) -> (String, String) {
    let text = |key: &str| body.get(key).and_then(Value::text).unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

/// Reads a message, and looks at all of it: what is in it is within v1's bounds, and every number finite.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn read(bytes: &[u8]) -> Result<Message<'_>, String> {
    let (kind, head, body) = read_head(bytes)?;
    if !matches!(body, Value::Map(_)) {
        return Err(format!("{} as the body, expected a map", body.kind()));
    }
    check(&body, &mut 0)?;
    Ok(Message { kind, head, body })
}

/// The same without a look at the body: to see whose answer it is.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn read_head(bytes: &[u8]) -> Result<(Kind, Head, Value<'_>), String> {
    if bytes.len() > MOST_BYTES {
        return Err(format!("{} bytes, expected at most {MOST_BYTES}", bytes.len()));
    }
    let Value::Map(mut entries) = decode(bytes, LIMITS).map_err(|error| error.to_string())? else {
        return Err("no map".into());
    };
    let body = entries.iter().position(|(key, _)| *key == "body").map(|at| entries.swap_remove(at).1);
    let all = Value::Map(entries);
    if all.get("version") != Some(&Value::Int(i128::from(VERSION))) {
        let found = all.get("version").map_or_else(|| "none".to_owned(), |value| format!("{value:?}"));
        return Err(format!("version {found} of the protocol, expected {VERSION}"));
    }
    let text = |key: &str| match all.get(key) {
        Some(Value::Str(text)) => Ok(*text),
        _ => Err(format!("no text {key}")),
    };
    let name = |key: &str| match text(key)? {
        name if name.is_empty() || is_name(name) => Ok(name.to_owned()),
        name => Err(format!("{key} {name:?}, expected letters, digits, _, . and -")),
    };
    let word = text("message_type")?;
    let kind = KINDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| format!("a message of the kind {word:?}, which is not known"))?;
    let generation = match all.get("generation") {
        Some(Value::Int(value)) => u64::try_from(*value).ok().filter(|value| *value <= i64::MAX as u64),
        _ => None,
    };
    let generation = generation.ok_or("no generation from 0 to 2^63 - 1")?;
    let head = Head { instance: name("instance_id")?, session: name("session_id")?, generation, request: name("request_id")? };
    if kind.is_of_a_session() && [&head.instance, &head.session, &head.request].iter().any(|name| name.is_empty()) {
        return Err(format!("a message of the kind {word} without instance_id, session_id and request_id"));
    }
    Ok((kind, head, body.ok_or("no body")?))
}

/// That all of `value` is within bounds; `decoded` counts the bytes of arrays and images.
fn check(value: &Value<'_>, decoded: &mut usize) -> Result<(), String> {
    match value {
        Value::Str(text) if text.len() > MOST_TEXT => Err(format!("a text of {} bytes, expected at most {MOST_TEXT}", text.len())),
        Value::Float(number) if !number.is_finite() => Err(format!("{number}, expected finite numbers")),
        Value::List(items) if items.len() > MOST_ITEMS => Err(format!("a list of {}, expected at most {MOST_ITEMS}", items.len())),
        Value::List(items) => items.iter().try_for_each(|item| check(item, decoded)),
        Value::Tensor(_) => Err("an array in another protocol's form".into()),
        Value::Map(entries) if entries.len() > MOST_ITEMS => Err(format!("a map of {}, expected at most {MOST_ITEMS}", entries.len())),
        Value::Map(entries) => {
            *decoded += match value.get(MARKER).map(Value::text) {
                None => return entries.iter().try_for_each(|(_, item)| check(item, decoded)),
                Some(Some("tensor")) => {
                    let tensor = tensor(value)?;
                    if matches!(tensor.dtype, Dtype::F16 | Dtype::F32 | Dtype::F64)
                        && let Some(number) = tensor.to_f64().iter().find(|number| !number.is_finite())
                    {
                        return Err(format!("{number} in an array, expected finite numbers"));
                    }
                    tensor.data.len()
                }
                Some(Some("rgb")) => picture(value).map(|([height, width], _)| height * width * 3)?,
                Some(kind) => return Err(format!("{} {}, expected tensor or rgb", MARKER, kind.unwrap_or("that is no text"))),
            };
            if *decoded > MOST_DECODED { Err(format!("more than {MOST_DECODED} bytes of arrays and images")) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

const DTYPES: [Dtype; 12] = [
    Dtype::Bool,
    Dtype::U8,
    Dtype::I8,
    Dtype::U16,
    Dtype::I16,
    Dtype::U32,
    Dtype::I32,
    Dtype::U64,
    Dtype::I64,
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
];

/// The sides of an array or an image.
fn shape_of(value: &Value<'_>) -> Result<Vec<usize>, String> {
    let Some(Value::List(sides)) = value.get("shape") else { return Err("an array without a list shape".into()) };
    let shape: Option<Vec<usize>> = sides.iter().map(|side| side.count().filter(|side| (1..=MOST_SIDE).contains(side))).collect();
    shape.filter(|shape| shape.len() <= MOST_DIMENSIONS).ok_or_else(|| format!("an array with other than sides of 1 to {MOST_SIDE}"))
}

fn data_of<'a>(value: &Value<'a>) -> Result<&'a [u8], String> {
    if let Some(Value::Bin(data)) = value.get("data") { Ok(data) } else { Err("an array without bytes data".into()) }
}

/// The array that `value` is.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn tensor<'a>(value: &Value<'a>) -> Result<Tensor<'a>, String> {
    if value.get(MARKER).and_then(Value::text) != Some("tensor") {
        return Err(format!("{}, expected an array", value.kind()));
    }
    let (shape, data) = (shape_of(value)?, data_of(value)?);
    let name = value.get("dtype").and_then(Value::text).unwrap_or_default();
    let dtype = DTYPES.into_iter().find(|dtype| dtype.to_string() == name);
    let dtype = dtype.ok_or_else(|| format!("an array of the dtype {name:?}, expected one of numbers or truth values"))?;
    let is_big_endian = match value.get("endianness").and_then(Value::text) {
        Some("little") => false,
        Some("big") => true,
        _ => return Err("an array without endianness".into()),
    };
    let bytes = shape.iter().try_fold(dtype.bytes(), |bytes, side| bytes.checked_mul(*side));
    if bytes != Some(data.len()) {
        return Err(format!("{} bytes for {dtype} {shape:?}", data.len()));
    }
    if dtype == Dtype::Bool && data.iter().any(|byte| *byte > 1) {
        return Err("truth values other than 0 and 1".into());
    }
    Ok(Tensor { dtype, is_big_endian, shape, data })
}

/// The bytes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture<'a> {
    /// `[height, width, 3]`.
    Raw(&'a [u8]),
    Jpeg(&'a [u8]),
}

/// The image that `value` is: its height and width, and what it is made of.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn picture<'a>(value: &Value<'a>) -> Result<([usize; 2], Picture<'a>), String> {
    let says = |key: &str, word: &str| value.get(key).and_then(Value::text) == Some(word);
    if !says(MARKER, "rgb") || !says("dtype", "uint8") || !says("channel_order", "RGB") {
        return Err(format!("{}, expected an image of uint8 in RGB", value.kind()));
    }
    let [height, width, 3] = shape_of(value)?[..] else { return Err("an image of another shape than [height, width, 3]".into()) };
    if height * width > MOST_PIXELS {
        return Err(format!("an image of {width}x{height}, expected at most {MOST_PIXELS} pixels"));
    }
    let data = data_of(value)?;
    match value.get("encoding").and_then(Value::text) {
        Some("raw") if data.len() == height * width * 3 => Ok(([height, width], Picture::Raw(data))),
        Some("raw") => Err(format!("{} bytes for an image of {width}x{height}", data.len())),
        Some("jpeg") => Ok(([height, width], Picture::Jpeg(data))),
        _ => Err("an image without an encoding raw or jpeg".into()),
    }
}

/// The pixels of a JPEG that has the sides that were said.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn pixels_of_jpeg(data: &[u8], [height, width]: [usize; 2]) -> Result<Vec<u8>, String> {
    let fault = |what: String| format!("a JPEG that can't be read: {what}");
    let decoder = JpegDecoder::new(Cursor::new(data)).map_err(|error| fault(error.to_string()))?;
    let (wide, high) = decoder.dimensions();
    if [wide as usize, high as usize] != [width, height] || decoder.color_type() != ColorType::Rgb8 {
        return Err(fault(format!("it is {wide}x{high} in {:?}, expected {width}x{height} in colour", decoder.color_type())));
    }
    let mut pixels = vec![0; height * width * 3];
    decoder.read_image(&mut pixels).map_err(|error| fault(error.to_string()))?;
    Ok(pixels)
}

/// An array, whose little-endian elements `write` appends.
pub(crate) fn pack_tensor(packer: &mut Packer, dtype: Dtype, shape: &[usize], write: impl FnOnce(&mut Vec<u8>)) {
    packer.map(5);
    packer.str(MARKER);
    packer.str("tensor");
    packer.str("dtype");
    packer.str(&dtype.to_string());
    packer.str("endianness");
    packer.str("little");
    pack_shape(packer, shape);
    packer.str("data");
    packer.bin_of(shape.iter().product::<usize>() * dtype.bytes(), write);
}

/// An image of `length` bytes in its encoding, which `write` appends.
pub(crate) fn pack_picture(
    packer: &mut Packer,
    [height, width]: [usize; 2],
    encoding: &str,
    length: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    packer.map(6);
    for (key, word) in [(MARKER, "rgb"), ("encoding", encoding), ("dtype", "uint8"), ("channel_order", "RGB")] {
        packer.str(key);
        packer.str(word);
    }
    pack_shape(packer, &[height, width, 3]);
    packer.str("data");
    packer.bin_of(length, write);
}

fn pack_shape(packer: &mut Packer, shape: &[usize]) {
    packer.str("shape");
    packer.list(shape.len());
    shape.iter().for_each(|side| packer.int(*side as i64));
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
