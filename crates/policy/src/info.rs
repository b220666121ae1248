//! What a checkpoint is, for people and programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::Serialize;

use crate::card::CardLicence;
use crate::features::{Feature, FeatureKind, IMAGES};
use crate::tensor_file::TensorFile;
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
    /// All that is stated about licences, each of which holds: the card's and `config.json`'s, and for an adapter those of its
    /// base. One of each checkpoint at least.
    pub terms: Vec<Terms>,
    /// The size of `model.safetensors`.
    pub file_bytes: u64,
    /// How the weights are kept in memory, where not in `f32`.
    pub quantization: Option<Quantization>,
    /// What inference needs: the weights in `f32`, as 16 bits where layers have them so in the file, or quantised,
    /// without tables that stay in the file, and, as an estimate, the largest intermediate.
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

/// A licence, and where it is stated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Such as `its card` or `the card of its base someone/base`.
    pub by: String,
    /// By the Hub's short names; whoever uses it keeps all of them. None where nothing is stated.
    pub licences: Vec<String>,
    /// The name and the link that the card gives of a licence that the Hub has no name for.
    pub more: Vec<String>,
}

/// What the Hub calls a licence that nobody knows.
pub(crate) const UNKNOWN: &str = "unknown";

impl Terms {
    /// What the checkpoint in `dir` states, whose `config.json` states `config`; `base` is its name where it is another's base.
    pub(crate) fn of(dir: &Path, config: Option<&str>, base: Option<&str>) -> Vec<Self> {
        let by = |what: &str| base.map_or_else(|| format!("its {what}"), |base| format!("the {what} of its base {base}"));
        let config = config.map(str::trim).filter(|licence| !licence.is_empty()).map(str::to_owned);
        let card = match CardLicence::of(dir) {
            Some(CardLicence { licences, more }) => Self { by: by("card"), licences, more },
            None => Self { by: format!("{}, which can't be understood", by("card")), licences: vec![UNKNOWN.into()], more: Vec::new() },
        };
        let config = Self { by: by("config.json"), licences: config.into_iter().collect(), more: Vec::new() };
        let (card_states, config_states) = (!card.licences.is_empty(), !config.licences.is_empty());
        // A card that states nothing is named where nothing else does.
        let mut terms = if card_states || !config_states { vec![card] } else { Vec::new() };
        terms.extend(config_states.then_some(config));
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_stated_holds() {
        let folder = tempfile::tempdir().unwrap();
        let texts = |terms: Vec<Terms>| terms.into_iter().map(|terms| (terms.by, terms.licences.join(" "))).collect::<Vec<_>>();
        let text = |by: &str, licences: &str| (by.to_owned(), licences.to_owned());
        assert_eq!(texts(Terms::of(folder.path(), None, Some("a/b"))), [text("the card of its base a/b", "")]);
        assert_eq!(texts(Terms::of(folder.path(), Some("mit"), None)), [text("its config.json", "mit")]);
        std::fs::write(folder.path().join("README.md"), "---\nlicense: mit\n---\n").unwrap();
        let both = texts(Terms::of(folder.path(), Some("cc-by-nc-4.0"), None));
        assert_eq!(both, [text("its card", "mit"), text("its config.json", "cc-by-nc-4.0")]);
        // One that nobody understands may state anything, whatever else is stated.
        std::fs::write(folder.path().join("README.md"), "---\nlicense: [mit\n---\n").unwrap();
        let odd = texts(Terms::of(folder.path(), Some("mit"), None));
        assert_eq!(odd, [text("its card, which can't be understood", UNKNOWN), text("its config.json", "mit")]);
    }
}
