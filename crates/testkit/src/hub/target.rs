//! What an address names.

use data_encoding::HEXLOWER_PERMISSIVE;

/// The path in parts, decoded, and the query.
#[derive(Clone, Debug)]
pub struct Target {
    /// Each part, percent-decoded: a `%2F` stays inside its part.
    pub parts: Vec<String>,
    pub query: Vec<(String, String)>,
}

impl Target {
    pub fn new(path: &str, query: &str) -> Self {
        let parts = path.split('/').skip(1).map(|part| decode(part, false)).collect();
        Self { parts, query: pairs(query) }
    }

    /// The first value of this name; `name[]` is the same name.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !["", "0", "false", "False"].contains(&value))
    }
}

/// `a=1&b=2`, decoded.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name, true), decode(value, true))
    };
    text.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Percent-decodes; what is no escape stays as it is.
pub fn decode(text: &str, is_form: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(|hex| HEXLOWER_PERMISSIVE.decode(hex).ok());
        match escaped {
            Some(decoded) => {
                out.extend(decoded);
                at += 3;
            }
            None => {
                out.push(if is_form && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes everything but unreserved characters and `also`.
pub fn encode(text: &str, also: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
