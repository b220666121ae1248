//! Normalisation by dataset statistics, in the five modes of LeRobot's `NormalizationMode`. The
//! order of operations is LeRobot's, so results agree to the last bit or two of an `f32`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::parse;
use crate::features::ACTION;
use crate::processor::{Array, Batch};
use crate::weights::TensorFile;
use crate::{CheckpointError, FeatureKind, Features};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Identity,
    MeanStd,
    MinMax,
    Quantiles,
    Quantile10,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::MeanStd => "MEAN_STD",
            Self::MinMax => "MIN_MAX",
            Self::Quantiles => "QUANTILES",
            Self::Quantile10 => "QUANTILE10",
        }
    }

    /// The two statistics that the mode takes.
    fn stats(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Identity => None,
            Self::MeanStd => Some(["mean", "std"]),
            Self::MinMax => Some(["min", "max"]),
            Self::Quantiles => Some(["q01", "q99"]),
            Self::Quantile10 => Some(["q10", "q90"]),
        }
    }
}

#[derive(Deserialize)]
struct NormalizerJson {
    #[serde(default = "default_eps")]
    eps: f64,
    features: Features,
    norm_map: BTreeMap<FeatureKind, Mode>,
    normalize_observation_keys: Option<Vec<String>>,
}

fn default_eps() -> f64 {
    1e-8
}

/// What one feature goes through.
#[derive(Clone, Debug)]
struct Rule {
    feature: String,
    kind: FeatureKind,
    mode: Mode,
    /// The mode's two statistics for each channel of an image, or each entry of a vector.
    stats: Vec<[f32; 2]>,
}

/// A `normalizer_processor` or `unnormalizer_processor` with its statistics.
#[derive(Clone, Debug)]
pub(crate) struct Normalizer {
    eps: f32,
    rules: Vec<Rule>,
}

impl Normalizer {
    /// `wanted` are the features of the model. Those that this step normalises must have their
    /// statistics, where LeRobot would let them pass unnormalised.
    pub(crate) fn open(
        dir: &Path,
        path: &Path,
        config: Value,
        state_file: Option<&str>,
        wanted: &Features,
    ) -> Result<Self, CheckpointError> {
        let json: NormalizerJson = parse(path, config)?;
        let state = state_file.map(|name| open_state(dir, path, name)).transpose()?;
        let mut rules = Vec::new();
        for (name, feature) in wanted.iter() {
            // LeRobot treats the action as one of the features whether the JSON lists it or not.
            let kind = match json.features.get(name) {
                Some(listed) => listed.kind,
                None if name == ACTION => FeatureKind::Action,
                None => continue,
            };
            let mode = json.norm_map.get(&kind).copied().unwrap_or(Mode::Identity);
            let skipped = json.normalize_observation_keys.as_ref().is_some_and(|keys| !keys.iter().any(|key| key == name));
            if skipped && kind != FeatureKind::Action {
                continue;
            }
            let channels = match feature.shape.as_slice() {
                [channels, _, _] if kind == FeatureKind::Visual => *channels,
                [width] => *width,
                shape => {
                    let (found, expected) = (format!("{shape:?}"), "[C, H, W] for an image, [D] for anything else".into());
                    return Err(CheckpointError::Config {
                        path: path.to_owned(),
                        key: format!("shape of feature {name}"),
                        found,
                        expected,
                    });
                }
            };
            let stats = match mode.stats() {
                None => Vec::new(),
                Some(pair) => {
                    let [a, b] = pair.map(|stat| read_stat(state.as_ref(), path, name, mode, stat, channels));
                    a?.into_iter().zip(b?).map(|(a, b)| [a, b]).collect()
                }
            };
            rules.push(Rule { feature: name.to_owned(), kind, mode, stats });
        }
        Ok(Self { eps: json.eps as f32, rules })
    }

    pub(crate) fn mode_of(&self, feature: &str) -> Option<&'static str> {
        self.rules.iter().find(|rule| rule.feature == feature).map(|rule| rule.mode.name())
    }

    pub(crate) fn normalize(&self, batch: &mut Batch) {
        let eps = self.eps;
        self.each(batch, |rule, array| match rule.mode {
            Mode::Identity => {}
            Mode::MeanStd => rule.apply(array, |x, [mean, std]| (x - mean) / (std + eps)),
            Mode::MinMax | Mode::Quantiles | Mode::Quantile10 => {
                rule.apply(array, |x, [low, high]| 2.0 * (x - low) / range(low, high, eps) - 1.0)
            }
        });
    }

    pub(crate) fn unnormalize(&self, batch: &mut Batch) {
        let eps = self.eps;
        self.each(batch, |rule, array| match rule.mode {
            Mode::Identity => {}
            Mode::MeanStd => rule.apply(array, |y, [mean, std]| y * std + mean),
            Mode::MinMax => rule.apply(array, |y, [low, high]| (y + 1.0) / 2.0 * range(low, high, eps) + low),
            Mode::Quantiles | Mode::Quantile10 => rule.apply(array, |y, [low, high]| (y + 1.0) * range(low, high, eps) / 2.0 + low),
        });
    }

    fn each(&self, batch: &mut Batch, apply: impl Fn(&Rule, &mut Array)) {
        for rule in &self.rules {
            if let Some(array) = batch.features.get_mut(&rule.feature) {
                apply(rule, array);
            }
        }
    }
}

/// `high - low`, or `eps` where the two are the same.
fn range(low: f32, high: f32, eps: f32) -> f32 {
    if high - low == 0.0 { eps } else { high - low }
}

impl Rule {
    fn apply(&self, array: &mut Array, f: impl Fn(f32, [f32; 2]) -> f32) {
        // The last axis has the image's channels or the vector's entries.
        for values in array.values.chunks_exact_mut(self.stats.len().max(1)) {
            for (value, stats) in values.iter_mut().zip(&self.stats) {
                *value = f(*value, *stats);
            }
        }
    }
}

fn open_state(dir: &Path, path: &Path, name: &str) -> Result<TensorFile, CheckpointError> {
    // A name, never a way out of the folder.
    if Path::new(name).file_name().is_none_or(|file| file != name) {
        let (found, expected) = (name.to_owned(), "a file name in the checkpoint's folder".into());
        return Err(CheckpointError::Config { path: path.to_owned(), key: "state_file".into(), found, expected });
    }
    TensorFile::open(&dir.join(name))
}

fn read_stat(
    state: Option<&TensorFile>,
    path: &Path,
    feature: &str,
    mode: Mode,
    stat: &str,
    expected: usize,
) -> Result<Vec<f32>, CheckpointError> {
    let name = format!("{feature}.{stat}");
    let Some((file, info)) = state.and_then(|file| Some((file, file.spec(&name)?))) else {
        let path = state.map_or(path, TensorFile::path).to_owned();
        return Err(CheckpointError::MissingStats { path, feature: feature.to_owned(), mode: mode.name().into(), stat: stat.to_owned() });
    };
    // [D] for vectors; [C] or [C, 1, 1] for images.
    if info.shape.first() != Some(&expected) || info.shape.iter().skip(1).any(|n| *n != 1) {
        let (path, feature, stat) = (file.path().to_owned(), feature.to_owned(), stat.to_owned());
        return Err(CheckpointError::WrongStats { path, feature, stat, found: info.shape.clone(), expected });
    }
    file.floats(&name, info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(shape: &[usize], values: &[f32]) -> Batch {
        let array = Array { shape: shape.to_vec(), values: values.to_vec() };
        Batch { features: BTreeMap::from([("x".to_owned(), array)]), ..Batch::default() }
    }

    fn normalizer(kind: FeatureKind, mode: Mode, stats: &[[f32; 2]]) -> Normalizer {
        Normalizer { eps: 1e-8, rules: vec![Rule { feature: "x".into(), kind, mode, stats: stats.to_vec() }] }
    }

    #[test]
    fn a_dimension_that_never_moved_comes_back_as_its_only_value() {
        for mode in [Mode::MinMax, Mode::Quantiles, Mode::Quantile10] {
            let step = normalizer(FeatureKind::State, mode, &[[3.0, 3.0]]);
            let mut there = batch(&[1, 1], &[3.0]);
            step.normalize(&mut there);
            assert_eq!(there.features["x"].values, [-1.0]);
            step.unnormalize(&mut there);
            assert_eq!(there.features["x"].values, [3.0]);
        }
        // LeRobot adds eps on the way in only.
        let step = normalizer(FeatureKind::State, Mode::MeanStd, &[[3.0, 0.0]]);
        let mut back = batch(&[1, 1], &[5.0]);
        step.unnormalize(&mut back);
        assert_eq!(back.features["x"].values, [3.0]);
    }

    #[test]
    fn images_are_normalised_by_channel_and_vectors_by_entry() {
        let stats = [[0.0, 1.0], [0.0, 2.0]];
        let mut image = batch(&[1, 1, 2, 2], &[1.0, 2.0, 2.0, 4.0]);
        normalizer(FeatureKind::Visual, Mode::MinMax, &stats).normalize(&mut image);
        assert_eq!(image.features["x"].values, [1.0, 1.0, 3.0, 3.0]);
        let mut rows = batch(&[1, 2, 2], &[1.0, 2.0, 2.0, 4.0]);
        normalizer(FeatureKind::Action, Mode::MinMax, &stats).normalize(&mut rows);
        assert_eq!(rows.features["x"].values, [1.0, 1.0, 3.0, 3.0]);
    }
}
