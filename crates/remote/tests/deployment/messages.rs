//! v1's messages, written and read apart from Sinew's.

use sinew_remote::codec::{Packer, Value};

pub fn envelope(kind: &str, ids: [&str; 3], generation: i128, body: impl FnOnce(&mut Packer)) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.map(7);
    packer.str("version");
    packer.int(1);
    packer.str("message_type");
    packer.str(kind);
    for (key, id) in ["instance_id", "session_id", "request_id"].into_iter().zip(ids) {
        packer.str(key);
        packer.str(id);
    }
    packer.str("generation");
    packer.int(generation as i64);
    packer.str("body");
    body(&mut packer);
    packer.into_bytes()
}

pub fn text<'a>(value: &Value<'a>, key: &str) -> &'a str {
    value.get(key).and_then(Value::text).unwrap()
}

pub fn int(value: &Value<'_>, key: &str) -> i128 {
    if let Some(Value::Int(value)) = value.get(key) { *value } else { panic!("no number {key}") }
}

/// The shape and the values of an array in v1's form.
pub fn numbers(value: &Value<'_>) -> (Vec<usize>, Vec<f64>) {
    assert_eq!((text(value, "__lerobot_type__"), text(value, "dtype"), text(value, "endianness")), ("tensor", "float32", "little"));
    let Some(Value::Bin(data)) = value.get("data") else { panic!("no data") };
    let shape = value.get("shape").unwrap().numbers().unwrap().values.iter().map(|side| *side as usize).collect();
    (shape, data.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect())
}

pub fn pack_array(packer: &mut Packer, dtype: &str, shape: &[usize], data: &[u8]) {
    packer.map(5);
    for (key, text) in [("__lerobot_type__", "tensor"), ("dtype", dtype), ("endianness", "little")] {
        packer.str(key);
        packer.str(text);
    }
    packer.str("shape");
    packer.list(shape.len());
    shape.iter().for_each(|side| packer.int(*side as i64));
    packer.str("data");
    packer.bin(data);
}

pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn pack_names(packer: &mut Packer, names: &[&str]) {
    packer.list(names.len());
    names.iter().for_each(|name| packer.str(name));
}

pub fn pack_feature(packer: &mut Packer, name: &str, shape: &[usize], (dtype, kind): (&str, &str), names: &[&str], semantics: &str) {
    packer.map(6);
    packer.str("name");
    packer.str(name);
    packer.str("shape");
    packer.list(shape.len());
    shape.iter().for_each(|side| packer.int(*side as i64));
    for (key, text) in [("dtype", dtype), ("kind", kind), ("semantics", semantics)] {
        packer.str(key);
        packer.str(text);
    }
    packer.str("names");
    pack_names(packer, names);
}

pub fn pack_error(packer: &mut Packer, code: &str, words: &str) {
    packer.map(2);
    packer.str("code");
    packer.str(code);
    packer.str("message");
    packer.str(words);
}
