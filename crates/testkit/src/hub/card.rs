//! A card's metadata: the YAML that cards begin with, as far as cards use it (maps, lists and scalars by indentation,
//! lists and maps in brackets, quoted texts, texts in blocks).

use serde_json::{Map, Value};

/// The metadata of a `README.md`, or nothing where it has none.
pub fn metadata(readme: &str) -> Value {
    let mut lines = readme.lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Value::Null;
    }
    let block: Vec<&str> = lines.take_while(|line| line.trim_end() != "---").collect();
    let lines: Vec<Line<'_>> = block.iter().map(|line| Line::new(line)).collect();
    let mut at = 0;
    node(&lines, &mut at, 0)
}

/// The values under a key, whether there is one or a list of them.
pub fn texts(card: &Value, key: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match card.get(key) {
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

#[derive(Clone, Debug)]
struct Line<'a> {
    indent: usize,
    text: &'a str,
    raw: &'a str,
}

impl<'a> Line<'a> {
    fn new(raw: &'a str) -> Self {
        let text = raw.trim_start();
        let indent = raw.len() - text.len();
        let text = if text.starts_with('#') { "" } else { text.split(" #").next().unwrap_or(text).trim_end() };
        Self { indent, text, raw }
    }
}

fn skip_blank(lines: &[Line<'_>], at: &mut usize) {
    while lines.get(*at).is_some_and(|line| line.text.is_empty()) {
        *at += 1;
    }
}

/// The node that begins at `at`, of lines indented by `indent` or more.
fn node(lines: &[Line<'_>], at: &mut usize, indent: usize) -> Value {
    skip_blank(lines, at);
    match lines.get(*at) {
        Some(line) if line.indent >= indent && (line.text == "-" || line.text.starts_with("- ")) => list(lines, at, line.indent),
        Some(line) if line.indent >= indent && pair(line.text).is_some() => map(lines, at, line.indent),
        Some(line) if line.indent >= indent => {
            *at += 1;
            scalar(line.text)
        }
        _ => Value::Null,
    }
}

fn list(lines: &[Line<'_>], at: &mut usize, indent: usize) -> Value {
    let mut values = Vec::new();
    loop {
        skip_blank(lines, at);
        let Some(line) = lines.get(*at).filter(|line| line.indent == indent && line.text.starts_with('-')) else { break };
        let rest = line.text.trim_start_matches('-').trim_start();
        let inner = indent + (line.text.len() - rest.len());
        if rest.is_empty() {
            *at += 1;
            values.push(node(lines, at, indent + 1));
        } else if pair(rest).is_some() && !rest.starts_with(['"', '\'', '[', '{']) {
            // A map whose first key stands on the dash's line.
            let mut shifted = lines.to_vec();
            shifted[*at] = Line { indent: inner, text: rest, raw: line.raw };
            values.push(map(&shifted, at, inner));
        } else {
            *at += 1;
            values.push(scalar(rest));
        }
    }
    Value::Array(values)
}

fn map(lines: &[Line<'_>], at: &mut usize, indent: usize) -> Value {
    let mut values = Map::new();
    loop {
        skip_blank(lines, at);
        let Some((key, rest)) = lines.get(*at).filter(|line| line.indent == indent).and_then(|line| pair(line.text)) else { break };
        *at += 1;
        let value = if rest.is_empty() {
            skip_blank(lines, at);
            // A list may stand as far left as its key.
            let is_list = lines.get(*at).is_some_and(|line| line.indent == indent && line.text.starts_with('-'));
            node(lines, at, if is_list { indent } else { indent + 1 })
        } else if rest.starts_with(['|', '>']) {
            let first = *at;
            while lines.get(*at).is_some_and(|line| line.indent > indent || line.raw.trim().is_empty()) {
                *at += 1;
            }
            let glue = if rest.starts_with('|') { "\n" } else { " " };
            let texts: Vec<&str> = lines[first..*at].iter().map(|line| line.raw.trim()).collect();
            Value::String(texts.join(glue).trim_end().to_owned())
        } else {
            scalar(rest)
        };
        values.insert(key, value);
    }
    Value::Object(values)
}

/// `key: value`, or `key:`.
fn pair(text: &str) -> Option<(String, &str)> {
    let (key, rest) = text.strip_suffix(':').map(|key| (key, "")).or_else(|| text.split_once(": "))?;
    let is_plain = !key.starts_with(['[', '{']) && !key.contains(": ");
    is_plain.then(|| (key.trim().trim_matches(['"', '\'']).to_owned(), rest.trim()))
}

fn scalar(text: &str) -> Value {
    let inside = |open: char, close: char| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(inner) = inside('[', ']') {
        return Value::Array(split(inner).into_iter().map(scalar).collect());
    }
    if let Some(inner) = inside('{', '}') {
        return Value::Object(split(inner).into_iter().filter_map(pair).map(|(key, value)| (key, scalar(value))).collect());
    }
    if let Some(inner) = inside('"', '"').filter(|_| text.len() > 1) {
        return serde_json::from_str(text).unwrap_or_else(|_| Value::String(inner.to_owned()));
    }
    if let Some(inner) = inside('\'', '\'').filter(|_| text.len() > 1) {
        return Value::String(inner.replace("''", "'"));
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            _ => Value::String(text.to_owned()),
        },
    }
}

/// Parts between commas that no brackets or quotes enclose.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut quote) = (0_i32, None);
    let parts = text.split(move |c: char| {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') => return depth == 0,
            (None, _) => {}
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}
