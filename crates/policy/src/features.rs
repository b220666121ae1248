//! Features: what a checkpoint's `config.json` says goes in and comes out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the names of all that a policy may look at begin with.
pub(crate) const OBSERVATION: &str = "observation.";
/// The feature that holds the robot's joint positions.
pub(crate) const STATE: &str = "observation.state";
/// The feature that holds the answer.
pub(crate) const ACTION: &str = "action";
/// What a camera's feature name starts with; the camera's name follows.
pub(crate) const IMAGES: &str = "observation.images.";

/// LeRobot's `FeatureType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FeatureKind {
    Visual,
    State,
    Env,
    Action,
    Reward,
    Language,
}

impl FeatureKind {
    /// As LeRobot writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Visual => "VISUAL",
            Self::State => "STATE",
            Self::Env => "ENV",
            Self::Action => "ACTION",
            Self::Reward => "REWARD",
            Self::Language => "LANGUAGE",
        }
    }
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// LeRobot's `PolicyFeature`. Images are channel-first: `[3, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    #[serde(rename = "type")]
    pub kind: FeatureKind,
    pub shape: Vec<usize>,
}

/// Features by name, in the order of the file: the order of the cameras is part of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct Features(pub Vec<(String, Feature)>);

impl TryFrom<serde_json::Map<String, serde_json::Value>> for Features {
    type Error = serde_json::Error;

    fn try_from(map: serde_json::Map<String, serde_json::Value>) -> Result<Self, Self::Error> {
        map.into_iter().map(|(name, value)| Ok((name, serde_json::from_value(value)?))).collect::<Result<_, _>>().map(Self)
    }
}

impl Features {
    pub fn get(&self, name: &str) -> Option<&Feature> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, feature)| feature)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Feature)> {
        self.0.iter().map(|(name, feature)| (name.as_str(), feature))
    }

    /// The features of one kind, in order.
    pub fn of(&self, kind: FeatureKind) -> impl Iterator<Item = (&str, &Feature)> {
        self.iter().filter(move |(_, feature)| feature.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_keep_the_order_of_the_file() {
        let json = r#"{"z": {"type": "VISUAL", "shape": [3, 4, 5]}, "a": {"type": "VISUAL", "shape": [3, 4, 5]}, "m": {"type": "STATE", "shape": [2]}}"#;
        let features: Features = serde_json::from_str(json).unwrap();
        assert_eq!(features.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(features.of(FeatureKind::Visual).map(|(name, _)| name).collect::<Vec<_>>(), ["z", "a"]);
        assert!(serde_json::from_str::<Features>(r#"{"a": {"type": "SMELL", "shape": []}}"#).is_err());
    }
}
