//! Between JSON and messages, for metadata.

use serde_json::{Map, Value as Json};

use super::{Packer, Value};

/// Writes `json`.
pub fn pack_json(packer: &mut Packer, json: &Json) {
    match json {
        Json::Null => packer.nil(),
        Json::Bool(value) => packer.bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => packer.int(value),
            None => packer.float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => packer.str(text),
        Json::Array(items) => {
            packer.list(items.len());
            items.iter().for_each(|item| pack_json(packer, item));
        }
        Json::Object(entries) => {
            packer.map(entries.len());
            for (key, value) in entries {
                packer.str(key);
                pack_json(packer, value);
            }
        }
    }
}

/// `value` for people and programs: arrays and bytes as what they are, in words.
pub fn to_json(value: &Value<'_>) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => i64::try_from(*value).map_or_else(|_| Json::from(*value as f64), Json::from),
        Value::Float(value) => Json::from(*value),
        Value::Str(text) => Json::from(*text),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| ((*key).to_owned(), to_json(value))).collect::<Map<_, _>>().into(),
        other @ (Value::Bin(_) | Value::Tensor(_)) => Json::from(other.kind()),
    }
}
