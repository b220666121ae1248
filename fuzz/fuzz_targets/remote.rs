#![no_main]
//! A message of a server or client on the network.

use libfuzzer_sys::fuzz_target;
use sinew_remote::codec::{Limits, Value, decode, message_of_json, to_json};

fn look(value: &Value<'_>) {
    drop((value.numbers(), value.number(), value.text(), value.kind()));
    match value {
        Value::List(items) => items.iter().for_each(look),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| look(value)),
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = decode(bytes, Limits::default()) {
        look(&value);
        drop(to_json(&value));
    }
    if let Ok(message) = message_of_json(bytes, Limits::default()) {
        drop(decode(&message, Limits::default()).map(|value| look(&value)));
    }
    drop(sinew_remote::Told::read(bytes));
});
