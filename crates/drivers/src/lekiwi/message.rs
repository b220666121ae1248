//! The two messages of LeRobot's LeKiwi: actions and observations as JSON objects of numbers, in the datasets' units.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sinew_core::{Channel, ChannelSource};

/// The key of ours in an observation. LeRobot's client takes the keys that it knows and no other.
pub(super) const OURS: &str = "_sinew";
/// The key under which an observation lists its cameras.
pub(super) const CAMERAS: &str = "_cams";

/// What an observation or action may say of its age.
const MOST_AGE: Duration = Duration::from_secs(60);

/// Channels by their names on the wire, and what makes SI of their values.
pub(super) struct Names(Vec<Name>);

struct Name {
    name: String,
    /// wire = scale · SI + offset.
    scale: f64,
    offset: f64,
    is_base: bool,
}

/// What one of ours says of an observation beside its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// Counts the host's observations.
    pub seq: u64,
    /// Of the oldest value in it that is not missing, when it was sent.
    pub age: Duration,
    pub missing: Vec<String>,
    /// Of each camera's picture: its age when it was sent, and its number, from 1.
    pub cameras: Vec<(Duration, u64)>,
}

impl Names {
    pub fn of(channels: &[Channel]) -> Self {
        let name = |channel: &Channel| {
            let (scale, offset) = channel.scale_offset;
            Name { name: channel.name.clone(), scale, offset, is_base: matches!(channel.source, ChannelSource::Base(_)) }
        };
        Self(channels.iter().map(name).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_base(&self, i: usize) -> bool {
        self.0.get(i).is_some_and(|name| name.is_base)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| name.name.as_str())
    }

    /// Writes an object of `values`, which are in SI, followed by `more` members. Allocates nothing where `text` has room.
    pub fn write(&self, values: &[f64], more: &[u8], text: &mut Vec<u8>) {
        text.clear();
        for (i, (name, value)) in self.0.iter().zip(values).enumerate() {
            text.extend_from_slice(if i == 0 { b"{\"" } else { b",\"" });
            text.extend_from_slice(name.name.as_bytes());
            // Into memory, which takes everything.
            let _ = write!(text, "\":{}", value * name.scale + name.offset);
        }
        text.extend_from_slice(more);
        text.push(b'}');
    }

    /// The values of an object, in SI; `None` for what is not there.
    ///
    /// # Errors
    /// When it is no object, or one of these is no finite number.
    pub fn read(&self, object: &Map<String, Value>) -> Result<Vec<Option<f64>>, String> {
        let value = |name: &Name| {
            let Some(value) = object.get(&name.name) else { return Ok(None) };
            let number = value.as_f64().map(|value| (value - name.offset) / name.scale).filter(|value| value.is_finite());
            number.map(Some).ok_or_else(|| format!("expected a number as {}, found {value}", name.name))
        };
        self.0.iter().map(value).collect()
    }
}

/// An object of a message.
///
/// # Errors
/// When it is none.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("expected a JSON object: {error}"))
}

impl Said {
    /// What an observation says; `None` where its host is not one of ours.
    pub fn of(object: &Map<String, Value>) -> Option<Self> {
        let said = object.get(OURS)?.as_object()?;
        let age = |value: &Value| {
            let age_ms = value.get("age_ms")?.as_f64().filter(|age| *age >= 0.0)?;
            Some(Duration::try_from_secs_f64(age_ms * 1e-3).unwrap_or(MOST_AGE).min(MOST_AGE))
        };
        let missing = said.get("missing")?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let cameras = said.get("cameras")?.as_array()?.iter().map(|camera| Some((age(camera)?, camera.get("seq")?.as_u64()?)));
        Some(Self { seq: said.get("seq")?.as_u64()?, age: age(object.get(OURS)?)?, missing, cameras: cameras.collect::<Option<_>>()? })
    }

    pub fn to_json(&self) -> Value {
        let ms = |age: &Duration| age.as_secs_f64() * 1e3;
        let cameras: Vec<Value> = self.cameras.iter().map(|(age, seq)| json!({"age_ms": ms(age), "seq": seq})).collect();
        json!({"seq": self.seq, "age_ms": ms(&self.age), "missing": self.missing, "cameras": cameras})
    }
}

#[cfg(test)]
mod tests {
    use sinew_core::RobotDescription;

    use super::*;

    fn lekiwi() -> RobotDescription {
        let text = include_str!("../../../../robots/lekiwi/robot.toml");
        let so101 = include_str!("../../../../robots/so101/robot.toml");
        RobotDescription::from_toml_with("lekiwi", text, &|_| Some(so101.to_owned())).unwrap()
    }

    #[test]
    fn values_are_written_as_lerobot_does_and_read_back() {
        let names = Names::of(&lekiwi().action_channels());
        let values = [0.1, -0.2, 0.3, 0.0, 1.0, 0.5, 0.1, -0.05, std::f64::consts::FRAC_PI_6];
        let mut text = Vec::new();
        names.write(&values, b",\"_cams\":[]", &mut text);
        let object = object(&text).unwrap();
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        assert_eq!(
            keys[..6],
            [
                "arm_shoulder_pan.pos",
                "arm_shoulder_lift.pos",
                "arm_elbow_flex.pos",
                "arm_wrist_flex.pos",
                "arm_wrist_roll.pos",
                "arm_gripper.pos"
            ]
        );
        assert_eq!(keys[6..], ["x.vel", "y.vel", "theta.vel", CAMERAS]);
        // Degrees, and degrees a second.
        assert!((object["arm_shoulder_pan.pos"].as_f64().unwrap() - 0.1_f64.to_degrees()).abs() < 1e-12);
        assert!((object["theta.vel"].as_f64().unwrap() - 30.0).abs() < 1e-12 && object["x.vel"] == 0.1);
        for (value, read) in values.iter().zip(names.read(&object).unwrap()) {
            assert!((value - read.unwrap()).abs() < 1e-12);
        }
        assert!(!names.is_base(5) && names.is_base(6));
    }

    #[test]
    fn what_is_not_there_is_told_from_what_makes_no_sense() {
        let names = Names::of(&lekiwi().action_channels());
        let read = |text: &str| object(text.as_bytes()).and_then(|object| names.read(&object));
        let values = read(r#"{"x.vel":1, "other":"text", "arm_gripper.pos":100}"#).unwrap();
        assert_eq!((values[6], values[7]), (Some(1.0), None));
        for bad in ["", "[]", "7", "{\"x.vel\":null}", "{\"x.vel\":\"1\"}", "{\"x.vel\":1e999}", "{\"x.vel\":[1]}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(object("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn an_age_is_believed_within_reason() {
        let said = Said {
            seq: 3,
            age: Duration::from_millis(7),
            missing: vec!["x.vel".to_owned()],
            cameras: vec![(Duration::from_millis(40), 5)],
        };
        let of = |json: Value| Said::of(json!({ OURS: json }).as_object().unwrap());
        assert_eq!(of(said.to_json()), Some(said.clone()));
        assert_eq!(Said::of(&Map::new()), None);
        assert_eq!(of(json!({"seq": 1, "age_ms": 1e300, "missing": [], "cameras": []})).unwrap().age, MOST_AGE);
        assert_eq!(of(json!({"seq": 1, "age_ms": -5, "missing": [], "cameras": []})), None);
    }
}
