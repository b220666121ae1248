//! What a checkpoint is, for people and programs.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::Serialize;

use crate::features::{Feature, FeatureKind, IMAGES};
use crate::weights::TensorFile;
use crate::{GuidanceSettings, Quantization};

/// What [`Checkpoint::info`](crate::Checkpoint::info) tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    pub dir: PathBuf,
    /// LeRobot's name of the policy family, such as `act`.
    pub family: String,
    /// How many numbers inference uses (what only training needs is not counted).
    pub parameters: u64,
    /// The dtypes in the file, such as `F32` or `F16+F32`. Computation is always in `f32`.
    pub dtype: String,
    /// In the order of `config.json`, which is the order of the cameras in the model.
    pub inputs: Vec<FeatureInfo>,
    pub outputs: Vec<FeatureInfo>,
    /// Keys of `config.json` that LeRobot 0.6 doesn't know; nothing is made of them.
    pub unknown_keys: Vec<String>,
    pub cameras: Vec<CameraInfo>,
    /// Registry names of the steps, in order.
    pub preprocessor: Vec<String>,
    pub postprocessor: Vec<String>,
    /// The checkpoint that an adapter changes, as the adapter names it.
    pub adapter_base: Option<String>,
    /// The vision backbone, where there is one.
    pub backbone: Option<String>,
    /// Where the backbone's dimensions are from, if they are not in `config.json`: the path of its own
    /// `config.json`, or `built in`.
    pub backbone_source: Option<String>,
    /// What turns the instruction into numbers, where the policy takes one.
    pub tokenizer: Option<TokenizerInfo>,
    pub n_obs_steps: usize,
    /// Rows in each answer.
    pub chunk_size: usize,
    /// Rows of an answer that are meant to be executed before the next.
    pub n_action_steps: usize,
    pub temporal_ensemble_coeff: Option<f64>,
    /// How the checkpoint wants its chunks to continue each other (LeRobot's `rtc_config`).
    pub guidance: Option<GuidanceSettings>,
    /// How many rows at the beginning of a chunk the policy was trained to be given
    /// ([`GuidanceMode::Trained`](crate::GuidanceMode); LeRobot's `rtc_training_max_delay`); 0 for none.
    pub trained_delay: usize,
    /// From the model card (`license:` in README.md), else from `config.json`.
    pub licence: Option<String>,
    /// The size of `model.safetensors`.
    pub file_bytes: u64,
    /// How the weights are kept in memory, where not in `f32`.
    pub quantization: Option<Quantization>,
    /// What inference needs: the weights in `f32` or quantised, without tables that stay in the file and, as an
    /// estimate, the largest intermediate.
    pub memory_bytes: u64,
}

/// A tokenizer that a checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// `owner/name`, or a folder's name.
    pub name: String,
    /// The `tokenizer.json` that was found for it.
    pub file: PathBuf,
}

/// A feature as the checkpoint declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeatureInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: FeatureKind,
    /// Images are `[3, height, width]`.
    pub shape: Vec<usize>,
    /// LeRobot's mode name: `IDENTITY`, `MEAN_STD`, `MIN_MAX`, `QUANTILES` or `QUANTILE10`.
    pub normalization: String,
}

/// A camera that the policy looks through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CameraInfo {
    /// The feature's name without `observation.images.`.
    pub name: String,
    pub width: usize,
    pub height: usize,
}

impl CameraInfo {
    pub(crate) fn new(name: &str, feature: &Feature) -> Self {
        // Image features were checked to have three dimensions when the configuration was read.
        let dim = |i: usize| feature.shape.get(i).copied().unwrap_or(0);
        Self { name: name.strip_prefix(IMAGES).unwrap_or(name).to_owned(), width: dim(2), height: dim(1) }
    }
}

pub(crate) fn dtypes(weights: &TensorFile) -> String {
    let names = weights.names();
    let kind = |name: &String| Some(weights.spec(name)?.dtype);
    // Only training counts in whole numbers.
    let is_float = |dtype: &Dtype| matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let kinds: BTreeSet<String> = names.iter().filter_map(kind).filter(is_float).map(|dtype| format!("{dtype:?}")).collect();
    kinds.into_iter().collect::<Vec<_>>().join("+")
}

/// The `license:` entry of the front matter of `dir/README.md`.
pub(crate) fn card_licence(dir: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(dir.join("README.md")).ok()?.take(64 << 10).read_to_end(&mut text).ok()?;
    front_matter_licence(&String::from_utf8_lossy(&text))
}

fn front_matter_licence(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let value = lines.take_while(|line| line.trim_end() != "---").find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_read_from_the_front_matter_only() {
        assert_eq!(front_matter_licence("---\ntags: [a]\nlicense: apache-2.0\n---\n# x").as_deref(), Some("apache-2.0"));
        assert_eq!(front_matter_licence("---\nlicense: 'mit'\n---\n").as_deref(), Some("mit"));
        assert_eq!(front_matter_licence("---\ntags: [a]\n---\nlicense: mit\n"), None);
        assert_eq!(front_matter_licence("license: mit\n"), None);
    }
}
