//! What servers say: metadata, and answers.

use serde::Serialize;
use serde_json::Value as Json;

use crate::codec::{Limits, Numbers, Value, decode, message_of_json, to_json};
use crate::link::Protocol;
use crate::modalities::Modalities;

/// The key under which our own servers say what they want, and the one by which they repeat a request's number.
pub(crate) const OURS: &str = "sinew";
pub(crate) const REQUEST: &str = "sinew_request";
/// More rows are no chunk.
const MOST_ROWS: usize = 4096;

/// What a server says of its policy. Other servers than Sinew's say nothing that is understood.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Told {
    pub policy: Option<String>,
    pub family: Option<String>,
    /// LeRobot's features that it wants, with shapes; images are `[3, height, width]`.
    pub inputs: Vec<(String, Vec<usize>)>,
    pub action_names: Option<Vec<String>>,
    pub state_names: Option<Vec<String>>,
    pub control_rate_hz: Option<usize>,
    pub n_obs_steps: Option<usize>,
    pub chunk_size: Option<usize>,
    pub n_action_steps: Option<usize>,
    /// What a policy of GR00T's service wants.
    #[serde(skip)]
    pub modalities: Option<Modalities>,
    /// Whether answers say which request they are of.
    #[serde(skip)]
    pub numbers_answers: bool,
    /// Whether images may be JPEGs, as LeRobot's remote inference writes them.
    #[serde(skip)]
    pub takes_jpegs: bool,
    /// Whether there was any of it.
    #[serde(skip)]
    pub is_ours: bool,
}

impl Told {
    /// What the metadata of a server say that speaks `protocol`.
    ///
    /// # Errors
    /// When they are none.
    pub(crate) fn of(metadata: &[u8], protocol: Protocol) -> Result<Self, String> {
        match protocol {
            Protocol::Openpi | Protocol::Endpoint | Protocol::Lerobot => Self::read(metadata),
            Protocol::Groot => {
                let modalities = Modalities::read(metadata)?;
                Ok(Self {
                    family: Some("groot".into()),
                    n_obs_steps: Some(modalities.n_obs_steps()),
                    modalities: Some(modalities),
                    ..Self::default()
                })
            }
        }
    }

    /// # Errors
    /// When the metadata are no msgpack.
    pub fn read(metadata: &[u8]) -> Result<Self, String> {
        let all = decode(metadata, Limits::default()).map_err(|error| format!("its metadata: {error}"))?;
        let Some(ours) = all.get(OURS) else { return Ok(Self::default()) };
        let text = |key: &str| ours.get(key).and_then(Value::text).map(str::to_owned);
        let count = |key: &str| ours.get(key).and_then(Value::count);
        let names = |key: &str| match ours.get(key) {
            Some(Value::List(names)) => names.iter().map(|name| name.text().map(str::to_owned)).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let shape = |value: &Value<'_>| match value.get("shape") {
            Some(Value::List(shape)) => shape.iter().map(Value::count).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let inputs = ours.get("inputs").map(Value::entries).unwrap_or_default();
        Ok(Self {
            policy: text("policy"),
            family: text("family"),
            inputs: inputs.iter().filter_map(|(name, feature)| Some(((*name).to_owned(), shape(feature)?))).collect(),
            action_names: names("action_names"),
            state_names: names("state_names"),
            control_rate_hz: count("control_rate_hz"),
            n_obs_steps: count("n_obs_steps"),
            chunk_size: count("chunk_size"),
            n_action_steps: count("n_action_steps"),
            modalities: None,
            numbers_answers: ours.get("numbers_answers") == Some(&Value::Bool(true)),
            takes_jpegs: ours.get("takes_jpegs") == Some(&Value::Bool(true)),
            is_ours: true,
        })
    }

    pub(crate) fn is_ours(metadata: &[u8]) -> bool {
        Self::read(metadata).is_ok_and(|told| told.is_ours)
    }
}

/// A server's metadata for people.
///
/// # Errors
/// When they are no msgpack.
pub(crate) fn metadata_json(metadata: &[u8]) -> Result<Json, String> {
    decode(metadata, Limits::default()).map(|value| to_json(&value)).map_err(|error| error.to_string())
}

/// The number of the request that an answer is of, where it says so.
pub(crate) fn number_of(answer: &[u8]) -> Option<usize> {
    decode(answer, Limits::default()).ok()?.get(REQUEST)?.count()
}

/// Rows of an answer, in the server's units, all finite.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub rows: usize,
    pub width: usize,
    pub values: Vec<f64>,
    /// What the server says that it took.
    pub server_ms: Option<f64>,
}

/// Reads an answer in the form of `protocol`: `actions`, `action`, a bare array, or the columns of `keys` side by side; `[rows, width]`, `[1, rows, width]` or
/// `[width]`.
///
/// # Errors
/// What it is instead, in words.
pub(crate) fn read(answer: &[u8], keys: &[String], protocol: Protocol) -> Result<Rows, String> {
    let message;
    let answer = match protocol {
        Protocol::Openpi | Protocol::Groot | Protocol::Lerobot => answer,
        Protocol::Endpoint => {
            message = message_of_json(answer, Limits::default()).map_err(|error| format!("its answer is no JSON: {error}"))?;
            &message
        }
    };
    let mut value = decode(answer, Limits::default()).map_err(|error| format!("its answer is none: {error}"))?;
    // Handlers of pipelines answer with a list of what they answer to each input, and GR00T's service with what else it knows behind.
    if let Value::List(items) = &mut value
        && matches!((&items[..], protocol), ([Value::Map(_)], _) | ([Value::Map(_), _], Protocol::Groot))
    {
        value = items.remove(0);
    }
    if let Some(error) = value.get("error").and_then(Value::text) {
        return Err(format!("the server says: {}", error.lines().last().unwrap_or_default().chars().take(400).collect::<String>()));
    }
    let timing = |key: &str| value.get(key)?.get("infer_ms")?.number().filter(|ms| ms.is_finite());
    let server_ms = timing("server_timing").or_else(|| timing("policy_timing"));
    let named = value.get("actions").or_else(|| value.get("action"));
    let parts = if keys.is_empty() {
        let has = || value.entries().iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
        let whole = match (&value, named) {
            (Value::Map(_), Some(named)) => named,
            (Value::Map(_), None) => return Err(format!("its answer has no actions; it has: {}", has())),
            (bare, _) => bare,
        };
        vec![("the actions", whole)]
    } else {
        let inside = named.filter(|named| matches!(named, Value::Map(_))).unwrap_or(&value);
        let part = |key: &String| inside.get(key).map(|part| (key.clone(), part)).ok_or_else(|| format!("its answer has no {key}"));
        return join(keys.iter().map(part).collect::<Result<Vec<_>, _>>()?, true, server_ms);
    };
    join(parts, false, server_ms)
}

/// Puts parts side by side; with `is_column` one of a single dimension is a column.
fn join<K: AsRef<str>>(parts: Vec<(K, &Value<'_>)>, is_column: bool, server_ms: Option<f64>) -> Result<Rows, String> {
    let mut matrices = Vec::with_capacity(parts.len());
    for (key, part) in parts {
        let key = key.as_ref();
        let Numbers { shape, values } = part.numbers().map_err(|kind| format!("{kind} for {key}, expected numbers"))?;
        let (rows, width) = match shape[..] {
            [rows, width] | [1, rows, width] => (rows, width),
            [rows] if is_column => (rows, 1),
            [width] => (1, width),
            _ => return Err(format!("the shape {shape:?} for {key}, expected [rows, width]")),
        };
        if rows == 0 || width == 0 || rows > MOST_ROWS {
            return Err(format!("the shape {shape:?} for {key}, expected 1 to {MOST_ROWS} rows"));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(format!("{} in row {} of {key}, expected finite numbers", values[at], at / width));
        }
        matrices.push((rows, width, values));
    }
    let rows = matrices.first().map_or(0, |(rows, ..)| *rows);
    if let Some((other, ..)) = matrices.iter().find(|(other, ..)| *other != rows) {
        return Err(format!("parts of {rows} and of {other} rows"));
    }
    let width = matrices.iter().map(|(_, width, _)| width).sum();
    let mut values = Vec::with_capacity(rows * width);
    for row in 0..rows {
        matrices.iter().for_each(|(_, width, part)| values.extend_from_slice(&part[row * width..(row + 1) * width]));
    }
    Ok(Rows { rows, width, values, server_ms })
}
