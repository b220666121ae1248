//! Bytes as Python writes them, what a stranger may send, and every value there and back.

use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    decode(bytes, Limits::default())
}

fn packed(write: impl FnOnce(&mut Packer)) -> Vec<u8> {
    let mut packer = Packer::default();
    write(&mut packer);
    packer.into_bytes()
}

/// A map with keys that are bytes, as the markers of arrays are.
fn marked(entries: &[(&str, Value<'_>)]) -> Vec<u8> {
    packed(|packer| {
        packer.map(entries.len());
        for (key, value) in entries {
            packer.bin(key.as_bytes());
            pack(packer, value);
        }
    })
}

fn pack(packer: &mut Packer, value: &Value<'_>) {
    match value {
        Value::Nil => packer.nil(),
        Value::Bool(value) => packer.bool(*value),
        Value::Int(value) => packer.int(*value as i64),
        Value::Float(value) => packer.float(*value),
        Value::Str(text) => packer.str(text),
        Value::Bin(bytes) => packer.bin(bytes),
        Value::List(items) => {
            packer.list(items.len());
            items.iter().for_each(|item| pack(packer, item));
        }
        Value::Map(entries) => {
            packer.map(entries.len());
            for (key, value) in entries {
                packer.str(key);
                pack(packer, value);
            }
        }
        Value::Tensor(tensor) => packer.tensor(tensor.dtype, &tensor.shape, |out| out.extend_from_slice(tensor.data)),
    }
}

/// `msgpack_numpy.packb(np.array([1.5, -2], np.float32))` of openpi-client 0.1.2, and others.
#[test]
fn what_openpi_writes_is_read_and_written_to_the_byte() {
    let data = [0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0];
    let array =
        [b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x08".as_slice(), &data, b"\xc4\x05dtype\xa3<f4\xc4\x05shape\x91\x02"].concat();
    let tensor = Tensor { dtype: Dtype::F32, is_big_endian: false, shape: vec![2], data: &data };
    assert_eq!(read(&array), Ok(Value::Tensor(tensor.clone())));
    assert_eq!(packed(|packer| packer.tensor(Dtype::F32, &[2], |out| out.extend(data))), array);
    assert_eq!(tensor.to_f64(), [1.5, -2.0]);
    let scalar = b"\x83\xc4\x0d__npgeneric__\xc3\xc4\x04data\xcb\x3f\xf8\0\0\0\0\0\0\xc4\x05dtype\xa3<f4";
    assert_eq!(read(scalar), Ok(Value::Float(1.5)));
    assert_eq!(read(b"\x80"), Ok(Value::Map(Vec::new())));
}

#[test]
fn arrays_of_both_dialects_and_all_orders_are_numbers() {
    let big = marked(&[
        ("__ndarray__", Value::Bool(true)),
        ("data", Value::Bin(&[0x3f, 0xc0, 0, 0])),
        ("dtype", Value::Str(">f4")),
        ("shape", Value::List(vec![Value::Int(1), Value::Int(1)])),
    ]);
    let old = marked(&[
        ("nd", Value::Bool(true)),
        ("type", Value::Str("<i2")),
        ("kind", Value::Bin(b"")),
        ("shape", Value::List(vec![Value::Int(2)])),
        ("data", Value::Bin(&[1, 0, 0xff, 0xff])),
    ]);
    let old_scalar =
        marked(&[("nd", Value::Bool(false)), ("type", Value::Str("<f8")), ("data", Value::Bin(&[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]))]);
    let half = marked(&[
        ("__ndarray__", Value::Bool(true)),
        ("data", Value::Bin(&[0, 0x3e])),
        ("dtype", Value::Str("<f2")),
        ("shape", Value::List(Vec::new())),
    ]);
    let lists = packed(|packer| {
        packer.list(2);
        for row in [[1, 2], [3, -300]] {
            packer.list(2);
            row.iter().for_each(|value| packer.int(*value));
        }
    });
    for (bytes, shape, values) in [
        (big, vec![1, 1], vec![1.5]),
        (old, vec![2], vec![1.0, -1.0]),
        (old_scalar, vec![], vec![1.5]),
        (half, vec![], vec![1.5]),
        (lists, vec![2, 2], vec![1.0, 2.0, 3.0, -300.0]),
    ] {
        assert_eq!(read(&bytes).unwrap().numbers(), Ok(Numbers { shape, values }));
    }
}

#[test]
fn what_is_not_known_or_too_much_is_refused_before_memory_is_taken() {
    let array = |dtype: &'static str, shape: Vec<i128>, data: &'static [u8]| {
        marked(&[
            ("__ndarray__", Value::Bool(true)),
            ("data", Value::Bin(data)),
            ("dtype", Value::Str(dtype)),
            ("shape", Value::List(shape.into_iter().map(Value::Int).collect())),
        ])
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "ends after 0 bytes"),
        (vec![0xc0, 0xc0], "1 bytes behind"),
        (vec![0xdd, 0xff, 0xff, 0xff, 0xff], "more than there can be"),
        (vec![0xdf, 0xff, 0xff, 0xff, 0xff], "more than there can be"),
        (vec![0xc6, 0xff, 0xff, 0xff, 0xff], "expected 4294967295 more"),
        (vec![0x91; 40], "too deep"),
        (vec![0xd4, 0, 0], "0xd4"),
        (vec![0xc1], "0xc1"),
        (vec![0xa1, 0xff], "no UTF-8"),
        (vec![0x81, 1, 1], "a number as a key"),
        (vec![0x82, 0xa1, b'a', 1, 0xc4, 1, b'a', 2], "the key \"a\" twice"),
        (array("|O", vec![1], b"x"), "the dtype \"|O\""),
        (array("<U2", vec![1], b"xxxxxxxx"), "the dtype \"<U2\""),
        (array("<c8", vec![1], b"xxxxxxxx"), "the dtype \"<c8\""),
        (array("f4", vec![1], b"xxxx"), "the dtype \"f4\""),
        (array("<f4", vec![2], b"xxxx"), "4 bytes for float32 [2]"),
        (array("<f4", vec![i128::from(u64::MAX / 2), 4], b""), "bytes for float32"),
        (array("<f4", vec![-1], b""), "whole numbers"),
        (array("<f4", vec![0; 9], b""), "9 dimensions"),
        (marked(&[("__ndarray__", Value::Bool(true))]), "no text dtype"),
        (marked(&[("__npgeneric__", Value::Bool(true)), ("dtype", Value::Str("<f4")), ("data", Value::Str("x"))]), "a text for a number"),
        (
            marked(&[("nd", Value::Bool(true)), ("type", Value::Str("|V8")), ("kind", Value::Bin(b"V")), ("data", Value::Bin(b""))]),
            "records or objects",
        ),
    ];
    for (bytes, words) in cases {
        let error = read(&bytes).expect_err(words);
        assert!(error.what.contains(words), "{words}: {error}");
    }
    let many = packed(|packer| {
        packer.list(70_000);
        (0..70_000).for_each(|_| packer.nil());
    });
    assert!(read(&many).unwrap_err().what.contains("more than there can be"));
}

fn values() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Nil),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        (-300_i64..70_000).prop_map(Tree::Int),
        (-1e300..1e300).prop_map(Tree::Float),
        ".{0,40}".prop_map(Tree::Str),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Tree::Bin),
        prop::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 0..20).prop_map(Tree::Floats),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Tree::List),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..20).prop_map(|map| Tree::Map(map.into_iter().collect())),
        ]
    })
}

/// A value that owns what is in it.
#[derive(Clone, Debug)]
enum Tree {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bin(Vec<u8>),
    Floats(Vec<f32>),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

fn write(packer: &mut Packer, tree: &Tree) {
    match tree {
        Tree::Nil => packer.nil(),
        Tree::Bool(value) => packer.bool(*value),
        Tree::Int(value) => packer.int(*value),
        Tree::Float(value) => packer.float(*value),
        Tree::Str(text) => packer.str(text),
        Tree::Bin(bytes) => packer.bin(bytes),
        Tree::Floats(values) => {
            packer.tensor(Dtype::F32, &[values.len()], |out| values.iter().for_each(|value| out.extend(value.to_le_bytes())));
        }
        Tree::List(items) => {
            packer.list(items.len());
            items.iter().for_each(|item| write(packer, item));
        }
        Tree::Map(entries) => {
            packer.map(entries.len());
            for (key, value) in entries {
                packer.str(key);
                write(packer, value);
            }
        }
    }
}

fn is_same(tree: &Tree, value: &Value<'_>) -> bool {
    match (tree, value) {
        (Tree::Nil, Value::Nil) => true,
        (Tree::Bool(a), Value::Bool(b)) => a == b,
        (Tree::Int(a), Value::Int(b)) => i128::from(*a) == *b,
        (Tree::Float(a), Value::Float(b)) => a == b,
        (Tree::Str(a), Value::Str(b)) => a == b,
        (Tree::Bin(a), Value::Bin(b)) => a == b,
        (Tree::Floats(a), Value::Tensor(b)) => b.to_f64() == a.iter().map(|value| f64::from(*value)).collect::<Vec<_>>(),
        (Tree::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Tree::Map(a), Value::Map(b)) => a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && is_same(a, b)),
        _ => false,
    }
}

proptest! {
    #[test]
    fn every_value_comes_back(tree in values()) {
        let bytes = packed(|packer| write(packer, &tree));
        let value = read(&bytes).unwrap();
        prop_assert!(is_same(&tree, &value), "{tree:?} became {value:?}");
    }

    #[test]
    fn what_is_cut_or_spoilt_never_panics(tree in values(), cut in 0.0..1.0_f64, at in 0.0..1.0_f64, byte in any::<u8>()) {
        let mut bytes = packed(|packer| write(packer, &tree));
        let length = bytes.len();
        let whole = read(&bytes[..(cut * length as f64) as usize]).is_ok();
        prop_assert!(!whole, "a message that was cut is none");
        bytes[(at * length as f64) as usize] = byte;
        drop(read(&bytes).map(|value| value.numbers()));
    }
}

#[test]
fn json_is_read_as_any_other_message() {
    let json = r#" {"actions": [[1, -2.5], [3e0, 18446744073709551615]], "a\"b": null, "ok": true, "x": {"y": []}} "#;
    let bytes = message_of_json(json.as_bytes(), Limits::default()).unwrap();
    let value = read(&bytes).unwrap();
    let numbers = value.get("actions").unwrap().numbers().unwrap();
    assert_eq!((numbers.shape, numbers.values), (vec![2, 2], vec![1.0, -2.5, 3.0, 18_446_744_073_709_551_615.0]));
    assert_eq!((value.get("a\"b"), value.get("ok")), (Some(&Value::Nil), Some(&Value::Bool(true))));
    assert_eq!(value.get("x").unwrap().get("y"), Some(&Value::List(Vec::new())));
}

#[test]
fn json_that_is_none_or_too_much_is_refused() {
    let few = Limits { depth: 3, values: 10 };
    let deep = "[".repeat(1_000_000);
    let many = format!("[{}0]", "0,".repeat(10));
    let cases = [
        ("[NaN]", "expected value"),
        ("[Infinity]", "expected value"),
        ("[1e999]", "out of range"),
        ("[1, 2", "EOF"),
        ("[1] 2", "trailing"),
        ("<!DOCTYPE html><html>", "expected value"),
        ("", "EOF"),
        (&deep, "too deep"),
        (&many, "too many values"),
        ("{\"a\": 1, \"b\": 2, \"c\": 3, \"d\": 4, \"e\": 5}", "too many values"),
    ];
    for (json, words) in cases {
        let error = message_of_json(json.as_bytes(), few).unwrap_err();
        let start: String = json.chars().take(40).collect();
        assert!(error.contains(words), "{start}: {error}");
    }
    let twice = message_of_json(b"{\"a\": 1, \"a\": 2}", few).unwrap();
    assert!(read(&twice).unwrap_err().to_string().contains("twice"));
}

proptest! {
    #[test]
    fn whatever_json_is_cut_never_panics(bytes in prop::collection::vec(prop::sample::select(b"[]{}\",:0123456789eE.-+ntrufals\\".to_vec()), 0..60)) {
        if let Ok(message) = message_of_json(&bytes, Limits::default()) {
            drop(read(&message));
        }
    }
}
