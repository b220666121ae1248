//! A checkpoint's `config.json`: what every family has in it, and the way to a family's own part.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::CheckpointError;
use crate::features::{ACTION, Feature, FeatureKind, Features};
use crate::files::Files;
use crate::json::{keys_of, parse};

/// As of a robot's cameras.
const MAX_IMAGE_SIDE: usize = 8192;

/// Keys that LeRobot writes for every family and that inference has no use for: those of version 0.6,
/// and those that earlier ones wrote. (`type` and, where it matters, `n_obs_steps` are read elsewhere.)
const UNUSED_KEYS: &[&str] = &[
    "type",
    "n_obs_steps",
    "device",
    "use_amp",
    "push_to_hub",
    "repo_id",
    "private",
    "tags",
    "pretrained_path",
    "pretrained_revision",
    "optimizer_lr",
];

/// Those of an optimizer, which most families have.
pub(crate) const OPTIMIZER_KEYS: &[&str] = &["optimizer_betas", "optimizer_eps", "optimizer_weight_decay"];

/// A `config.json`.
pub(crate) struct ConfigFile<'a> {
    pub path: PathBuf,
    json: Value,
    /// The way to what the configuration only names.
    pub files: &'a Files<'a>,
    pub inputs: Features,
    pub outputs: Features,
    pub license: Option<String>,
    pub use_peft: bool,
    /// The names of the action's dimensions, which some families write.
    pub action_names: Option<Vec<String>>,
    /// LeRobot's mode names by feature type.
    pub normalization: Option<BTreeMap<String, String>>,
    /// The keys that were asked for.
    read_keys: RefCell<BTreeSet<&'static str>>,
}

/// What every family's `config.json` has.
#[derive(Deserialize)]
struct CommonJson {
    input_features: Features,
    output_features: Features,
    license: Option<String>,
    #[serde(default)]
    use_peft: bool,
    action_feature_names: Option<Vec<String>>,
    normalization_mapping: Option<BTreeMap<String, String>>,
}

impl<'a> ConfigFile<'a> {
    /// The configuration `json`, which was read from `path`.
    ///
    /// # Errors
    /// When what all families have is not there or has the wrong type.
    pub(crate) fn new(files: &'a Files<'a>, path: PathBuf, json: Value) -> Result<Self, CheckpointError> {
        let common: CommonJson = parse(&path, json.clone())?;
        Ok(Self {
            path,
            json,
            files,
            inputs: common.input_features,
            outputs: common.output_features,
            license: common.license,
            use_peft: common.use_peft,
            action_names: common.action_feature_names,
            normalization: common.normalization_mapping,
            read_keys: RefCell::new(keys_of::<CommonJson>().iter().copied().collect()),
        })
    }

    /// Some of the family's own keys, which are known from then on.
    ///
    /// # Errors
    /// When one has the wrong type.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        self.read_keys.borrow_mut().extend(keys_of::<T>());
        parse(&self.path, self.json.clone())
    }

    /// The keys that nothing was made of, but for those of which nothing is to be made: the common ones
    /// and `unused`, the family's own.
    pub(crate) fn unknown_keys(&self, unused: &[&[&str]]) -> Vec<String> {
        let read = self.read_keys.borrow();
        let is_known = |key: &str| read.contains(key) || UNUSED_KEYS.contains(&key) || unused.iter().any(|keys| keys.contains(&key));
        self.json.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| !is_known(key)).cloned().collect()
    }

    /// An error about the value of `key`.
    pub(crate) fn fault(&self, key: &str, found: String, expected: &str) -> CheckpointError {
        CheckpointError::config(&self.path, key, found, expected)
    }

    /// The cameras among the inputs, in the order of the file.
    ///
    /// # Errors
    /// When the images of one are no colours, or have no size that a camera's have.
    pub(crate) fn cameras(&self) -> Result<Vec<Camera>, CheckpointError> {
        let camera = |(name, feature): (&str, &Feature)| {
            Camera::new(name, feature).ok_or_else(|| {
                let found = format!("{} {:?}", feature.kind, feature.shape);
                self.fault(&format!("input_features.{name}"), found, "VISUAL [3, H, W] of at most 8192 a side")
            })
        };
        self.inputs.of(FeatureKind::Visual).map(camera).collect()
    }

    /// The width of the one action feature that a robot can be driven by, 1 or more.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn action_width(&self) -> Result<usize, CheckpointError> {
        match self.outputs.get(ACTION) {
            Some(Feature { kind: FeatureKind::Action, shape }) if shape.len() == 1 && shape[0] > 0 => Ok(shape[0]),
            other => {
                let found = other.map_or("not there".into(), |f| format!("{} {:?}", f.kind, f.shape));
                Err(self.fault("output_features.action", found, "an ACTION of shape [A] with 1 entry or more"))
            }
        }
    }
}

/// A camera's image as `config.json` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Camera {
    /// The feature's name.
    pub name: String,
    pub height: usize,
    pub width: usize,
}

impl Camera {
    /// The camera that `feature` is; `None` unless it is a VISUAL `[3, height, width]` of 1 to 8192
    /// pixels a side.
    pub(crate) fn new(name: &str, feature: &Feature) -> Option<Self> {
        match (feature.kind, feature.shape.as_slice()) {
            (FeatureKind::Visual, &[3, height, width]) if is_image_size([height, width]) => {
                Some(Self { name: name.to_owned(), height, width })
            }
            _ => None,
        }
    }

    /// Height and width.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// Whether images can have these sides.
pub(crate) fn is_image_size(size: [usize; 2]) -> bool {
    size.iter().all(|side| (1..=MAX_IMAGE_SIDE).contains(side))
}
