//! Normalisation by dataset statistics, in the five modes of LeRobot's `NormalizationMode`. The
//! order of operations is LeRobot's, so results agree to the last bit or two of an `f32`, and to the
//! last bit of a narrower type.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::precision::{AsBf16, AsF16, AsF32, Round};
use super::{Array, Batch, Precision, Source, State, old};
use crate::features::{ACTION, Feature};
use crate::tensor_file::TensorFile;
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
#[serde(deny_unknown_fields)]
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
    mode: Mode,
    /// The mode's two statistics for each channel of an image, or each entry of a vector.
    stats: Vec<[f32; 2]>,
}

/// A `normalizer_processor` or `unnormalizer_processor` with its statistics.
#[derive(Clone, Debug)]
pub(crate) struct Normalizer {
    eps: f32,
    rules: Vec<Rule>,
    /// Features that pass as they are.
    excluded: Vec<String>,
    /// The features that the step lists, whether it is given them or not.
    listed: Vec<String>,
}

impl Normalizer {
    /// The model's features that this step normalises must have their statistics, where LeRobot would
    /// let them pass unnormalised.
    ///
    /// # Errors
    /// When a statistic is missing or has another shape, or the step and the model disagree about a
    /// feature's shape.
    pub(crate) fn open(source: &Source) -> Result<Self, CheckpointError> {
        let json: NormalizerJson = source.parse()?;
        let path = source.path;
        let stats = Statistics::open(source)?;
        let (mut rules, mut excluded) = (Vec::new(), Vec::new());
        for (name, feature) in source.features.iter() {
            let listed = json.features.get(name);
            // LeRobot treats the action as one of the features whether the JSON lists it or not.
            let kind = match listed {
                Some(listed) => listed.kind,
                None if name == ACTION => FeatureKind::Action,
                None => continue,
            };
            let channels = channels(kind, &feature.shape);
            if let Some(listed) = listed
                && (channels.is_none() || channels != self::channels(kind, &listed.shape) || kind != feature.kind)
            {
                let words = |feature: &Feature| format!("{} {:?}", feature.kind, feature.shape);
                return Err(source.fault(&format!("features.{name}"), words(listed), &format!("{}, as in config.json", words(feature))));
            }
            if kind != FeatureKind::Action
                && json.normalize_observation_keys.as_ref().is_some_and(|keys| !keys.iter().any(|key| key == name))
            {
                excluded.push(name.to_owned());
                continue;
            }
            let mode = json.norm_map.get(&kind).copied().unwrap_or(Mode::Identity);
            let stats = match (mode.stats(), channels) {
                (Some(pair), Some(channels)) => {
                    let [a, b] = pair.map(|stat| stats.read(path, name, mode, stat, channels));
                    a?.into_iter().zip(b?).map(|(a, b)| [a, b]).collect()
                }
                _ => Vec::new(),
            };
            rules.push(Rule { feature: name.to_owned(), mode, stats });
        }
        let listed = json.features.iter().map(|(name, _)| name.to_owned()).collect();
        Ok(Self { eps: json.eps as f32, rules, excluded, listed })
    }

    /// The features that the step lists.
    pub(crate) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// Whether the step's configuration says that `feature` is to pass as it is.
    pub(crate) fn excludes(&self, feature: &str) -> bool {
        self.excluded.iter().any(|name| name == feature)
    }

    pub(crate) fn mode_of(&self, feature: &str) -> Option<&'static str> {
        self.rules.iter().find(|rule| rule.feature == feature).map(|rule| rule.mode.name())
    }

    pub(crate) fn normalize(&self, batch: &mut Batch) {
        self.each(batch, |rule, array, eps, precision| match precision {
            Precision::F32 => rule.normalize::<AsF32>(array, eps),
            Precision::F16 => rule.normalize::<AsF16>(array, eps),
            Precision::Bf16 => rule.normalize::<AsBf16>(array, eps),
        });
    }

    pub(crate) fn unnormalize(&self, batch: &mut Batch) {
        self.each(batch, |rule, array, eps, precision| match precision {
            Precision::F32 => rule.unnormalize::<AsF32>(array, eps),
            Precision::F16 => rule.unnormalize::<AsF16>(array, eps),
            Precision::Bf16 => rule.unnormalize::<AsBf16>(array, eps),
        });
    }

    fn each(&self, batch: &mut Batch, apply: impl Fn(&Rule, &mut Array, f32, Precision)) {
        for rule in &self.rules {
            if let Some(array) = batch.features.get_mut(&rule.feature) {
                apply(rule, array, self.eps, batch.precision);
            }
        }
    }
}

impl Rule {
    fn normalize<R: Round>(&self, array: &mut Array, eps: f32) {
        match self.mode {
            Mode::Identity => {}
            // eps is added in f32.
            Mode::MeanStd => {
                self.apply::<R>(array, |[mean, std]| [mean, R::round(std + eps)], |x, [mean, std]| R::round(R::round(x - mean) / std))
            }
            Mode::MinMax | Mode::Quantiles | Mode::Quantile10 => self
                .apply::<R>(array, range::<R>(eps), |x, [low, range]| R::round(R::round(R::round(2.0 * R::round(x - low)) / range) - 1.0)),
        }
    }

    fn unnormalize<R: Round>(&self, array: &mut Array, eps: f32) {
        match self.mode {
            Mode::Identity => {}
            // LeRobot adds eps on the way in only.
            Mode::MeanStd => self.apply::<R>(array, |stats| stats, |y, [mean, std]| R::round(R::round(y * std) + mean)),
            Mode::MinMax => self
                .apply::<R>(array, range::<R>(eps), |y, [low, range]| R::round(R::round(R::round(R::round(y + 1.0) / 2.0) * range) + low)),
            Mode::Quantiles | Mode::Quantile10 => self
                .apply::<R>(array, range::<R>(eps), |y, [low, range]| R::round(R::round(R::round(R::round(y + 1.0) * range) / 2.0) + low)),
        }
    }

    /// `prepare` is what `f` takes instead of a channel's or entry's two statistics.
    fn apply<R: Round>(&self, array: &mut Array, prepare: impl Fn([f32; 2]) -> [f32; 2], f: impl Fn(f32, [f32; 2]) -> f32) {
        /// How often the statistics are laid out side by side, so that vectors of values meet vectors of them.
        const TIMES: usize = 16;
        let stats: Vec<[f32; 2]> = self.stats.iter().map(|stats| prepare(stats.map(R::round))).collect();
        let [first, second] = [0, 1].map(|which| stats.iter().map(|stats| stats[which]).collect::<Vec<_>>().repeat(TIMES));
        // The last axis has the image's channels or the vector's entries.
        for values in array.values.chunks_mut(first.len().max(1)) {
            for (value, (first, second)) in values.iter_mut().zip(first.iter().zip(&second)) {
                *value = f(*value, [*first, *second]);
            }
        }
    }
}

/// The lower bound and the distance to the upper one, or `eps` where the two are the same.
fn range<R: Round>(eps: f32) -> impl Fn([f32; 2]) -> [f32; 2] {
    move |[low, high]| {
        let range = R::round(high - low);
        [low, if range == 0.0 { R::round(eps) } else { range }]
    }
}

/// How many statistics a feature of this shape has, where it can be normalised.
fn channels(kind: FeatureKind, shape: &[usize]) -> Option<usize> {
    match shape {
        [channels, _, _] if kind == FeatureKind::Visual => Some(*channels),
        [width] => Some(*width),
        _ => None,
    }
}

/// A step's statistics.
enum Statistics<'a> {
    None,
    /// `<feature>.<statistic>` in a file of the step's own.
    Own(TensorFile),
    Weights(&'a TensorFile, &'static str),
}

impl<'a> Statistics<'a> {
    fn open(source: &'a Source) -> Result<Self, CheckpointError> {
        let name = match &source.state {
            State::Weights(file, prefix) => return Ok(Self::Weights(file, prefix)),
            State::File(None) => return Ok(Self::None),
            State::File(Some(name)) => name,
        };
        // A name, never a way out of the folder.
        if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
            return Err(source.fault("state_file", name.clone(), "a file name in the checkpoint's folder"));
        }
        TensorFile::open(&source.files.dir.join(name)).map(Self::Own)
    }

    fn read(&self, path: &Path, feature: &str, mode: Mode, stat: &str, expected: usize) -> Result<Vec<f32>, CheckpointError> {
        let (file, name) = match self {
            Self::None => (None, String::new()),
            Self::Own(file) => (Some(file), format!("{feature}.{stat}")),
            Self::Weights(file, prefix) => (Some(*file), old::statistic(prefix, feature, stat)),
        };
        let Some((file, info)) = file.and_then(|file| Some((file, file.spec(&name)?))) else {
            let path = file.map_or(path, TensorFile::path).to_owned();
            return Err(CheckpointError::MissingStats {
                path,
                feature: feature.to_owned(),
                mode: mode.name().into(),
                stat: stat.to_owned(),
            });
        };
        // [D] or [1, D] for vectors; [C] or [C, 1, 1] for images. One for all would do for PyTorch, but is what `count` looks like.
        let is_each = match info.shape[..] {
            [1, width] => width == expected,
            [width, ref others @ ..] => width == expected && others.iter().all(|n| *n == 1),
            [] => false,
        };
        if !is_each {
            let (path, feature, stat) = (file.path().to_owned(), feature.to_owned(), stat.to_owned());
            return Err(CheckpointError::WrongStats { path, feature, stat, found: info.shape.clone(), expected });
        }
        let values = file.floats(&name, info)?;
        // LeRobot once wrote infinities where there were no statistics.
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(CheckpointError::NotFinite { path: file.path().to_owned(), names: vec![name] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(shape: &[usize], values: &[f32]) -> Batch {
        let array = Array { shape: shape.to_vec(), values: values.to_vec() };
        Batch { features: BTreeMap::from([("x".to_owned(), array)]), ..Batch::default() }
    }

    fn normalizer(mode: Mode, stats: &[[f32; 2]]) -> Normalizer {
        Normalizer {
            eps: 1e-8,
            rules: vec![Rule { feature: "x".into(), mode, stats: stats.to_vec() }],
            excluded: Vec::new(),
            listed: Vec::new(),
        }
    }

    #[test]
    fn a_dimension_that_never_moved_comes_back_as_its_only_value() {
        for mode in [Mode::MinMax, Mode::Quantiles, Mode::Quantile10] {
            let step = normalizer(mode, &[[3.0, 3.0]]);
            let mut there = batch(&[1, 1], &[3.0]);
            step.normalize(&mut there);
            assert_eq!(there.features["x"].values, [-1.0]);
            step.unnormalize(&mut there);
            assert_eq!(there.features["x"].values, [3.0]);
        }
        // LeRobot adds eps on the way in only.
        let step = normalizer(Mode::MeanStd, &[[3.0, 0.0]]);
        let mut back = batch(&[1, 1], &[5.0]);
        step.unnormalize(&mut back);
        assert_eq!(back.features["x"].values, [3.0]);
    }

    #[test]
    fn images_are_normalised_by_channel_and_vectors_by_entry() {
        let stats = [[0.0, 1.0], [0.0, 2.0]];
        let mut image = batch(&[1, 1, 2, 2], &[1.0, 2.0, 2.0, 4.0]);
        normalizer(Mode::MinMax, &stats).normalize(&mut image);
        assert_eq!(image.features["x"].values, [1.0, 1.0, 3.0, 3.0]);
        let mut rows = batch(&[1, 2, 2], &[1.0, 2.0, 2.0, 4.0]);
        normalizer(Mode::MinMax, &stats).normalize(&mut rows);
        assert_eq!(rows.features["x"].values, [1.0, 1.0, 3.0, 3.0]);
    }
}
