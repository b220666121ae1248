//! The keys that a type has in JSON.

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// The names of the fields of `T`, a struct that derives `Deserialize`; none of other types.
pub(super) fn of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
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
        assert_eq!(of::<Json>(), ["one", "second"]);
        assert_eq!(of::<u32>(), [""; 0]);
    }
}
