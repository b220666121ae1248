//! Between JSON and messages: metadata, and the answers of servers that speak JSON.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::{Limits, Packer, Value};

/// The JSON text `json` as a message, so that it is read as any other. Nothing beyond `limits` is kept, and no number that is not finite
/// is JSON.
///
/// # Errors
/// Where it is no JSON, or beyond `limits`.
pub fn message_of_json(json: &[u8], limits: Limits) -> Result<Vec<u8>, String> {
    let mut packer = Packer::default();
    let mut values_left = limits.values;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let into = Into { packer: &mut packer, values_left: &mut values_left, depth: limits.depth };
    into.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| error.to_string())?;
    Ok(packer.into_bytes())
}

/// Packs what comes, as it comes.
struct Into<'a> {
    packer: &'a mut Packer,
    values_left: &'a mut usize,
    /// Lists and maps that may still be inside each other.
    depth: usize,
}

impl Into<'_> {
    /// For what is inside a list or a map.
    fn inside<E: serde::de::Error>(&mut self) -> Result<Into<'_>, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("values too deep inside each other"))?;
        Ok(Into { packer: self.packer, values_left: self.values_left, depth })
    }

    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        *self.values_left = self.values_left.checked_sub(1).ok_or_else(|| E::custom("too many values"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(mut self, reader: D) -> Result<(), D::Error> {
        self.count()?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.packer.nil();
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.packer.bool(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.packer.int(value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.packer.int(value),
            Err(_) => self.packer.float(value as f64),
        }
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.packer.float(value);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.packer.str(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let at = self.packer.open_list();
        let mut length = 0_u32;
        while items.next_element_seed(self.inside()?)?.is_some() {
            length += 1;
        }
        self.packer.close(at, length);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let at = self.packer.open_map();
        let mut length = 0_u32;
        while let Some(key) = entries.next_key::<String>()? {
            self.count()?;
            self.packer.str(&key);
            entries.next_value_seed(self.inside()?)?;
            length += 1;
        }
        self.packer.close(at, length);
        Ok(())
    }
}

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
