//! Episodes chosen by what is known of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::ToolError;
use super::plan::open;
use crate::format::marks::{marks, notes};

/// What an episode has to be like to be chosen, such as `success=false`, `reason~"time"` or `length<100`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    field: String,
    comparison: Comparison,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Is,
    IsNot,
    Below,
    AtMost,
    Above,
    AtLeast,
    Contains,
}

const COMPARISONS: [(&str, Comparison); 7] = [
    ("!=", Comparison::IsNot),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("=", Comparison::Is),
    ("<", Comparison::Below),
    (">", Comparison::Above),
    ("~", Comparison::Contains),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected FIELD=VALUE, with != < <= > >= or ~ (contains) in place of =, such as success=false or length<100";
        // The first sign in the text; of those that begin there, the longer one.
        let signs = COMPARISONS.iter().filter_map(|(sign, comparison)| Some((text.find(sign)?, *sign, *comparison)));
        let first = signs.min_by_key(|(at, sign, _)| (*at, usize::MAX - sign.len()));
        let found = first.and_then(|(at, sign, comparison)| {
            let (field, rest) = text.split_at(at);
            Some((field.trim(), comparison, rest.strip_prefix(sign)?.trim()))
        });
        let (field, comparison, value) =
            found.filter(|(field, ..)| !field.is_empty()).ok_or_else(|| format!("{text:?} is no condition: {expected}"))?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = match (quoted, comparison) {
            (Some(text), _) => json!(text),
            (None, Comparison::Contains) => json!(value),
            // true, false, null and numbers are those; everything else is text.
            (None, _) => serde_json::from_str(value)
                .ok()
                .filter(|value: &Value| !value.is_array() && !value.is_object())
                .unwrap_or_else(|| json!(value)),
        };
        let is_order = !matches!(comparison, Comparison::Is | Comparison::IsNot | Comparison::Contains);
        if is_order && !value.is_number() {
            return Err(format!("{text:?} is no condition: only numbers are smaller or larger"));
        }
        Ok(Self { field: field.to_owned(), comparison, value })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS.iter().find(|(_, comparison)| *comparison == self.comparison).map_or("", |(sign, _)| sign);
        write!(f, "{}{sign}{}", self.field, self.value)
    }
}

impl Condition {
    /// Whether what is known of an episode is so. What is not known is nothing but null.
    fn holds(&self, known: &Map<String, Value>) -> bool {
        let found = known.get(&self.field).unwrap_or(&Value::Null);
        match found {
            // Of several tasks one is enough.
            Value::Array(values) if self.comparison == Comparison::IsNot => values.iter().all(|value| self.holds_for(value)),
            Value::Array(values) => values.iter().any(|value| self.holds_for(value)),
            found => self.holds_for(found),
        }
    }

    fn holds_for(&self, found: &Value) -> bool {
        let order = || found.as_f64().zip(self.value.as_f64()).and_then(|(found, value)| found.partial_cmp(&value));
        let is = || match (found.as_f64(), self.value.as_f64()) {
            (Some(found), Some(value)) => found.to_bits() == value.to_bits(),
            _ => *found == self.value,
        };
        match self.comparison {
            Comparison::Is => is(),
            Comparison::IsNot => !is(),
            Comparison::Below => order().is_some_and(|order| order.is_lt()),
            Comparison::AtMost => order().is_some_and(|order| order.is_le()),
            Comparison::Above => order().is_some_and(|order| order.is_gt()),
            Comparison::AtLeast => order().is_some_and(|order| order.is_ge()),
            Comparison::Contains => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned).to_lowercase();
                !found.is_null() && text(found).contains(&text(&self.value))
            }
        }
    }
}

/// The episodes of the dataset in `root` of which all `conditions` hold.
///
/// An episode has the fields `episode_index`, `length` (frames), `task` (each of its tasks), `success` (true,
/// false or null), `reason`, and what else Sinew notes of it, such as `seed`.
///
/// # Errors
/// When the dataset can't be read, or no episode has a field.
pub fn select_episodes(root: &Path, conditions: &[Condition]) -> Result<Vec<u64>, ToolError> {
    let reader = open(root)?;
    let (mut noted, mut marks) = (notes(reader.root())?, marks(reader.root())?);
    let mut fields: BTreeMap<String, u64> = BTreeMap::new();
    let mut chosen = Vec::new();
    for episode in reader.episodes() {
        let number = episode.episode_index;
        let mut known = noted.remove(&number).unwrap_or_default();
        let marks = marks.remove(&number).unwrap_or_default();
        let of_format = [
            ("episode_index", json!(number)),
            ("length", json!(episode.length)),
            ("task", json!(episode.tasks)),
            ("success", json!(marks.success)),
            ("reason", json!(marks.reason)),
        ];
        known.extend(of_format.into_iter().map(|(field, value)| (field.to_owned(), value)));
        for field in known.keys() {
            *fields.entry(field.clone()).or_default() += 1;
        }
        if conditions.iter().all(|condition| condition.holds(&known)) {
            chosen.push(number);
        }
    }
    if let Some(unknown) = conditions.iter().find(|condition| !fields.contains_key(&condition.field)) {
        let known = fields.into_keys().collect::<Vec<_>>().join(", ");
        let why = format!("there is no field {}; there are {known}", unknown.field);
        return Err(ToolError::Plan { what: format!("choose episodes with {unknown}"), why });
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_hold_as_they_say() {
        let known = json!({
            "success": false, "reason": "Time is up", "length": 100, "task": ["pick", "place"], "seed": 7, "failure": null,
        });
        let known = known.as_object().unwrap();
        let holds = |text: &str| text.parse::<Condition>().unwrap().holds(known);
        for so in [
            "success=false",
            "success != true",
            "reason~time",
            "reason=\"Time is up\"",
            "reason = Time is up",
            "length<=100",
            "length>99.5",
            "task=pick",
            "task~PLA",
            "seed=7",
            "failure=null",
            "task!=push",
            "other=null",
        ] {
            assert!(holds(so), "{so}");
        }
        for not in ["success=true", "success=null", "length<100", "length>100", "task!=pick", "reason~cube", "other=1", "failure~null"] {
            assert!(!holds(not), "{not}");
        }
        for wrong in ["success", "=false", "length<long", ""] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
        assert_eq!("length>=9".parse::<Condition>().unwrap().to_string(), "length>=9");
    }
}
