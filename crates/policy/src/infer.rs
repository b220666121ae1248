//! One inference: inputs by feature name, through the preprocessor, the model and the postprocessor.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;

use crate::chunk::{Actions, Chunk};
use crate::family::Model;
use crate::features::{ACTION, Feature, FeatureKind};
use crate::output;
use crate::processor::{Array, Batch, Precision, Prompt};
use crate::sampling::Sampling;
use crate::tensor_file::TensorFile;
use crate::{Checkpoint, Guidance, GuidanceMode, InferError};

/// Names of tensors in a file of inputs that are no features.
const NOISE: &str = "noise";
const NOISE_STEPS: &str = "noise_steps";

/// What a policy looks at, in the dataset's units and under the names that a robot gives. Policies
/// that take several observation steps get that many values a feature, oldest first; a feature
/// given once stands for all steps, as at the start of an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    vectors: BTreeMap<String, Vec<Vec<f32>>>,
    images: BTreeMap<String, Vec<RgbImage>>,
    task: String,
    noise: Option<Array>,
    step_noise: Option<Array>,
    seed: u64,
}

/// 8-bit RGB, row-major, top row first.
#[derive(Clone, Debug, PartialEq)]
struct RgbImage {
    height: usize,
    width: usize,
    rgb: Vec<u8>,
}

impl RgbImage {
    fn words(&self) -> String {
        format!("a {}x{} image", self.width, self.height)
    }
}

impl Inputs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a vector such as `observation.state [D]`.
    #[must_use]
    pub fn vector(self, feature: &str, values: Vec<f32>) -> Self {
        self.vectors(feature, vec![values])
    }

    /// Sets a vector's values at each observation step, oldest first.
    #[must_use]
    pub fn vectors(mut self, feature: &str, steps: Vec<Vec<f32>>) -> Self {
        self.vectors.insert(feature.to_owned(), steps);
        self
    }

    /// Sets a camera's image `[height, width, 3]`, 8-bit RGB, row-major, top row first.
    #[must_use]
    pub fn image(self, feature: &str, height: usize, width: usize, rgb: Vec<u8>) -> Self {
        self.images(feature, height, width, vec![rgb])
    }

    /// Sets a camera's images at each observation step, oldest first.
    #[must_use]
    pub fn images(mut self, feature: &str, height: usize, width: usize, steps: Vec<Vec<u8>>) -> Self {
        let images = steps.into_iter().map(|rgb| RgbImage { height, width, rgb }).collect();
        self.images.insert(feature.to_owned(), images);
        self
    }

    /// Sets the instruction sentence; empty where there is none.
    #[must_use]
    pub fn task(mut self, sentence: &str) -> Self {
        sentence.clone_into(&mut self.task);
        self
    }

    /// Sets the initial noise of a diffusion or flow policy, `[rows, width]` in its own dimensions,
    /// or the numbers of 0..1 by which VQ-BeT picks its primary and secondary code, `[2, 1]`: the
    /// first code up to which the probabilities add up to more than the number. Without it, noise is
    /// drawn from the seed.
    #[must_use]
    pub fn noise(mut self, shape: [usize; 2], values: Vec<f32>) -> Self {
        self.noise = Some(Array { shape: shape.to_vec(), values });
        self
    }

    /// Sets what noise is drawn from where none is given; 0 unless set. The same seed gives the same
    /// answer.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Reads a safetensors file: vectors as `f32 [D]` or `[T, D]`, images as `u8 [H, W, 3]` or
    /// `[T, H, W, 3]` with `T` observation steps, oldest first; optionally `noise` (`f32 [rows,
    /// width]`, see [`noise`](Self::noise)), and `noise_steps` (`f32 [steps, rows, width]`), both also with
    /// the batch axis of 1 that LeRobot's have before the rows, for
    /// samplers that add noise at each step: DDPM adds one at each of its steps but the last, in
    /// their order; the sentence in the metadata entry `task`.
    ///
    /// # Errors
    /// When the file can't be read or a tensor is none of these.
    pub fn read(path: &Path) -> Result<Self, InferError> {
        let file = TensorFile::open(path)?;
        let mut inputs = Self { task: file.metadata("task").unwrap_or_default().to_owned(), ..Self::default() };
        for name in file.names() {
            let Some(info) = file.spec(&name) else { continue };
            match (name.as_str(), info.dtype, info.shape.as_slice()) {
                (NOISE, Dtype::F32, [rows, width] | [1, rows, width]) => {
                    inputs.noise = Some(Array { shape: vec![*rows, *width], values: file.floats(&name, info)? });
                }
                (NOISE_STEPS, Dtype::F32, [steps, rows, width] | [steps, 1, rows, width]) => {
                    inputs.step_noise = Some(Array { shape: vec![*steps, *rows, *width], values: file.floats(&name, info)? });
                }
                (_, Dtype::F32, [.., width]) if info.shape.len() <= 2 && *width > 0 => {
                    let steps = file.floats(&name, info)?.chunks_exact(*width).map(<[f32]>::to_vec).collect();
                    inputs = inputs.vectors(&name, steps);
                }
                (_, Dtype::U8, [.., height, width, 3]) if info.shape.len() <= 4 && height * width > 0 => {
                    let steps = file.bytes(info)?.chunks_exact(height * width * 3).map(<[u8]>::to_vec).collect();
                    inputs = inputs.images(&name, *height, *width, steps);
                }
                (_, dtype, shape) => {
                    let expected = "F32 [D] or [T, D] for a vector, U8 [H, W, 3] or [T, H, W, 3] for an image, \
                                    F32 [rows, width] or [1, rows, width] for noise, F32 [steps, rows, width] or [steps, 1, rows, width] for noise_steps";
                    return Err(InferError::WrongInput { key: name, found: format!("{dtype:?} {shape:?}"), expected: expected.into() });
                }
            }
        }
        Ok(inputs)
    }

    /// The names of the images, as they were given.
    pub fn image_names(&self) -> impl Iterator<Item = &str> {
        self.images.keys().map(String::as_str)
    }

    /// Puts what `make` answers in the place of each image: its height and width, and as many bytes. `make` gets
    /// the name, height and width, and the bytes; with no answer the image stays.
    #[must_use]
    pub fn map_images(mut self, make: impl Fn(&str, [usize; 2], &[u8]) -> Option<([usize; 2], Vec<u8>)>) -> Self {
        for (name, images) in &mut self.images {
            for image in images {
                if let Some(([height, width], rgb)) = make(name, [image.height, image.width], &image.rgb) {
                    *image = RgbImage { height, width, rgb };
                }
            }
        }
        self
    }

    /// One observation for each of some steps, oldest first, as one; the newest has the task, the noise and the seed. A feature that
    /// one of them lacks has fewer steps than the others.
    pub(crate) fn of_steps(steps: &VecDeque<Self>) -> Self {
        let mut all = steps.back().cloned().unwrap_or_default();
        for (name, values) in &mut all.vectors {
            *values = steps.iter().filter_map(|step| step.vectors.get(name)?.last().cloned()).collect();
        }
        for (name, images) in &mut all.images {
            *images = steps.iter().filter_map(|step| step.images.get(name)?.last().cloned()).collect();
        }
        all
    }

    /// So many chunks later than the first that has this seed.
    pub(crate) fn after_chunks(mut self, count: u64) -> Self {
        self.seed = self.seed.wrapping_add(count);
        self
    }

    /// What the model draws from.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling::new(self.noise.clone(), self.step_noise.clone(), self.seed)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.vectors.keys().chain(self.images.keys()).map(String::as_str)
    }
}

/// What [`Checkpoint::infer_file`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferReport {
    pub rows: usize,
    pub width: usize,
    pub timing: Timing,
    /// Tensors in the input file that the policy has no use for.
    pub unused_inputs: Vec<String>,
    /// Cameras that the policy can do without and did.
    pub absent_cameras: Vec<String>,
}

/// How long a policy took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// From the checked checkpoint to a model in memory.
    pub load_milliseconds: f64,
    /// From the inputs in memory to the actions in memory, in the order of the calls; the first may
    /// pay for what the later ones find warm.
    pub infer_milliseconds: Vec<f64>,
}

impl Timing {
    /// The `q`-th part (0..1) of the calls took so long or less, by the nearest rank.
    pub fn quantile_milliseconds(&self, q: f64) -> f64 {
        let mut sorted = self.infer_milliseconds.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
    }
}

impl Checkpoint {
    /// Runs the policy once.
    ///
    /// # Errors
    /// When an input is missing or has another shape than the checkpoint says, the weights can't be
    /// read, the computation fails, or its answer is not finite.
    pub fn infer(&self, inputs: &Inputs) -> Result<Actions, InferError> {
        let (answer, observed) = self.normalized(inputs, None)?;
        self.unnormalized(answer, observed)
    }

    /// Runs the policy once, so that its answer continues the chunk in `guidance`, where there is
    /// one.
    ///
    /// # Errors
    /// As [`infer`](Self::infer), and when the checkpoint can't continue a chunk in that way or the
    /// chunk is larger than its own.
    pub fn infer_chunk(&self, inputs: &Inputs, guidance: Option<&Guidance>) -> Result<Chunk, InferError> {
        let (answer, observed) = self.normalized(inputs, guidance)?;
        let width = self.action_width();
        let normalized = Actions { rows: answer.values.len() / width, width, values: answer.values.clone() };
        Ok(Chunk { actions: self.unnormalized(answer, observed)?, normalized })
    }

    /// Whether a new chunk can be made to continue the one before while a robot moves.
    pub fn can_continue(&self) -> bool {
        self.plan.takes_guidance()
    }

    /// # Errors
    /// Unless the checkpoint can continue a chunk by `mode`.
    pub(crate) fn check_guidance(&self, mode: GuidanceMode) -> Result<(), InferError> {
        match mode {
            _ if !self.can_continue() => Err(InferError::NoGuidance { family: self.info().family.clone() }),
            GuidanceMode::Trained if self.info().trained_delay == 0 => {
                Err(InferError::NotTrained { dir: self.dir().to_owned(), family: self.info().family.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Runs the policy `repeat` times (at least once) on the same inputs and tells the last answer
    /// and how long each took.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub fn time(&self, inputs: &Inputs, repeat: usize) -> Result<(Actions, Timing), InferError> {
        let since = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        self.load()?;
        let mut timing = Timing { load_milliseconds: since(start), infer_milliseconds: Vec::with_capacity(repeat) };
        let mut once = || {
            let start = Instant::now();
            let actions = self.infer(inputs);
            timing.infer_milliseconds.push(since(start));
            actions
        };
        let mut actions = once()?;
        for _ in 1..repeat {
            actions = once()?;
        }
        Ok((actions, timing))
    }

    /// How many milliseconds an answer took where `count` of the same inputs were answered at once, for each of `repeat` times.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub fn time_together(&self, inputs: &Inputs, count: usize, repeat: usize) -> Result<Vec<f64>, InferError> {
        let inputs: Vec<Inputs> = (0..count as u64).map(|index| inputs.clone().after_chunks(index)).collect();
        let mut milliseconds = Vec::with_capacity(repeat);
        for _ in 0..repeat {
            let start = Instant::now();
            for answer in self.infer_many(&inputs) {
                answer?;
            }
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3 / count.max(1) as f64);
        }
        Ok(milliseconds)
    }

    /// Runs the policy `repeat` times on the tensors of the file `inputs` and writes `action` (`f32
    /// [n, A]`, unnormalised) to the file `out`.
    ///
    /// # Errors
    /// As [`Inputs::read`] and [`Checkpoint::infer`], and when `out` is a file of the checkpoint or `inputs`, or can't be written.
    pub fn infer_file(&self, inputs: &Path, out: &Path, repeat: usize) -> Result<InferReport, InferError> {
        self.infer_into(&Inputs::read(inputs)?, inputs, out, repeat)
    }

    /// The same for inputs in memory, which came from the file `from`.
    ///
    /// # Errors
    /// As [`infer`](Self::infer), and when `out` is a file of the checkpoint or `from`, or can't be written.
    pub fn infer_into(&self, inputs: &Inputs, from: &Path, out: &Path, repeat: usize) -> Result<InferReport, InferError> {
        output::check(out, from, self.weights.path(), self.dir())?;
        let (actions, timing) = self.time(inputs, repeat)?;

        let write = |what: String| InferError::Write { path: out.to_owned(), what };
        let bytes: Vec<u8> = actions.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![actions.rows, actions.width], &bytes).map_err(|e| write(e.to_string()))?;
        let file = safetensors::serialize([(ACTION, view)], None).map_err(|e| write(e.to_string()))?;
        output::write(out, &file)?;
        let used = |name: &str| self.inputs.get(self.preprocessor.renamed(name)).is_some();
        let unused_inputs = inputs.names().filter(|name| !used(name)).map(str::to_owned).collect();
        let is_given = |camera: &str| inputs.names().any(|name| self.preprocessor.renamed(name) == camera);
        let cameras = self.inputs.of(FeatureKind::Visual).map(|(name, _)| name);
        let absent_cameras = cameras.filter(|name| !is_given(name)).map(str::to_owned).collect();
        Ok(InferReport { rows: actions.rows, width: actions.width, timing, unused_inputs, absent_cameras })
    }

    /// Black images, zeros and no task, in the shapes that the checkpoint takes: something to time
    /// it on.
    pub fn blank_inputs(&self) -> Inputs {
        self.inputs.iter().fold(Inputs::new(), |inputs, (name, feature)| match (feature.kind, feature.shape.as_slice()) {
            (FeatureKind::Visual, [_, height, width]) => inputs.image(name, *height, *width, vec![0; height * width * 3]),
            (_, shape) => inputs.vector(name, vec![0.0; shape.iter().product()]),
        })
    }

    /// The model's own answer `[1, rows, width]`, before the postprocessor, and what the
    /// preprocessor left for it.
    pub(crate) fn normalized(&self, inputs: &Inputs, guidance: Option<&Guidance>) -> Result<(Array, Batch), InferError> {
        if self.family.prompt != Prompt::None && inputs.task.trim().is_empty() && !self.told_of_no_task.swap(true, Ordering::Relaxed) {
            tracing::warn!(family = self.info().family, "there is no instruction, and this policy reads one");
        }
        let batch = self.preprocessed(inputs)?;
        let guidance = guidance.map(|guidance| self.prepared(guidance, &batch)).transpose()?;
        self.normalized_by(&*self.model()?, batch, inputs, guidance)
    }

    /// `guidance` as the model takes it beside what it sees, `observed`.
    fn prepared(&self, guidance: &Guidance, observed: &Batch) -> Result<Guidance, InferError> {
        self.check_guidance(guidance.settings.mode)?;
        let (given, trained) = (guidance.given_rows(), self.info().trained_delay);
        if given > trained {
            return Err(InferError::DelayTooLong { given, trained });
        }
        let mut guidance = guidance.clone();
        if self.preprocessor.makes_relative() {
            let Chunk { actions, normalized } = &mut guidance.previous;
            if actions.width != self.action_width() {
                let (found, expected) = (format!("rows of {}", actions.width), format!("rows of {}", self.action_width()));
                return Err(InferError::WrongInput { key: "the previous chunk".into(), found, expected });
            }
            let previous = Array { shape: vec![1, actions.rows, actions.width], values: actions.values.clone() };
            let mut batch =
                Batch { features: BTreeMap::from([(ACTION.to_owned(), previous)]), state: observed.state.clone(), ..Batch::default() };
            self.postprocessor.undo(&mut batch)?;
            let values = batch.features.remove(ACTION).map(|array| array.values).unwrap_or_default();
            *normalized = Actions { values, ..*actions };
        }
        Ok(guidance)
    }

    /// What the model sees of `inputs`.
    pub(crate) fn preprocessed(&self, inputs: &Inputs) -> Result<Batch, InferError> {
        let mut batch = self.batch(inputs)?;
        self.preprocessor.run(&mut batch)?;
        Ok(batch)
    }

    /// The answer of one `model` of this checkpoint to what it sees of `inputs`.
    pub(crate) fn normalized_by(
        &self,
        model: &dyn Model,
        batch: Batch,
        inputs: &Inputs,
        guidance: Option<Guidance>,
    ) -> Result<(Array, Batch), InferError> {
        let mut sampling = inputs.sampling();
        sampling.guidance = guidance;
        // On a thread of the pool, as in loading.
        Ok((rayon::scope(|_| model.run(&batch, &mut sampling))?, batch))
    }

    /// `answer` in the dataset's units; `observed` is what [`normalized`](Self::normalized) gave
    /// with it.
    pub(crate) fn unnormalized(&self, answer: Array, observed: Batch) -> Result<Actions, InferError> {
        let (rows, width) = (answer.values.len() / self.action_width(), self.action_width());
        let features = BTreeMap::from([(ACTION.to_owned(), answer)]);
        let mut batch = Batch { features, precision: Precision::F32, ..observed };
        self.postprocessor.run(&mut batch)?;
        let values = batch.features.remove(ACTION).map(|array| array.values).unwrap_or_default();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(InferError::NotFinite { row: at / width, column: at % width, value: values[at] });
        }
        Ok(Actions { rows, width, values })
    }

    /// Only what the model takes, checked and as floats.
    fn batch(&self, inputs: &Inputs) -> Result<Batch, InferError> {
        let mut batch = Batch { task: inputs.task.clone(), ..Batch::default() };
        for name in inputs.names() {
            let Some(feature) = self.inputs.get(self.preprocessor.renamed(name)) else { continue };
            let wrong = |found: String, expected: String| InferError::WrongInput { key: name.to_owned(), found, expected };
            let steps: Vec<Array> = match (inputs.images.get(name), inputs.vectors.get(name)) {
                (Some(images), _) => {
                    let is_free = self.plan.takes_any_image_size();
                    let fits = |image: &RgbImage| {
                        feature.kind == FeatureKind::Visual && (is_free || feature.shape == [3, image.height, image.width])
                    };
                    let array = |image| floats(image).filter(|_| fits(image));
                    let step = |image| array(image).ok_or_else(|| wrong(image.words(), describe(feature)));
                    images.iter().map(step).collect::<Result<_, _>>()?
                }
                (_, Some(vectors)) => {
                    let array = |values: &Vec<f32>| Array { shape: vec![values.len()], values: values.clone() };
                    if let Some(value) = vectors.iter().flatten().find(|value| !value.is_finite()) {
                        return Err(wrong(format!("{value} among its values"), "finite numbers".into()));
                    }
                    let step = |values: &Vec<f32>| {
                        Some(array(values))
                            .filter(|array| array.shape == feature.shape)
                            .ok_or_else(|| wrong(format!("{} values", values.len()), describe(feature)))
                    };
                    vectors.iter().map(step).collect::<Result<_, _>>()?
                }
                _ => continue,
            };
            let array = self.stack(steps).map_err(|(found, expected)| wrong(found, expected))?;
            batch.features.insert(name.to_owned(), array);
        }
        for (wanted, feature) in self.inputs.iter() {
            let key = || wanted.to_owned();
            match batch.features.keys().filter(|name| self.preprocessor.renamed(name) == wanted).count() {
                0 if self.plan.may_miss(wanted) => {}
                0 => return Err(InferError::MissingInput { key: key(), expected: describe(feature) }),
                1 => {}
                n => return Err(InferError::WrongInput { key: key(), found: format!("given by {n} inputs"), expected: "one".into() }),
            }
        }
        Ok(batch)
    }

    /// One feature's observation steps as one array: with a leading axis where the policy takes
    /// several, without where it takes one.
    ///
    /// # Errors
    /// Found and expected in words.
    fn stack(&self, mut steps: Vec<Array>) -> Result<Array, (String, String)> {
        let count = self.interface.n_obs_steps;
        match (steps.len(), count) {
            (1, 1) => Ok(steps.swap_remove(0)),
            (1, _) => Ok(joined(vec![steps.swap_remove(0); count])),
            (n, _) if n == count && steps.iter().all(|step| step.shape == steps[0].shape) => Ok(joined(steps)),
            (n, _) => Err((format!("{n} observation steps"), format!("{count}, all of one shape"))),
        }
    }
}

/// Arrays of one shape with a new leading axis.
fn joined(steps: Vec<Array>) -> Array {
    let mut shape = vec![steps.len()];
    shape.extend(steps.first().map(|step| step.shape.clone()).unwrap_or_default());
    Array { shape, values: steps.into_iter().flat_map(|step| step.values).collect() }
}

/// A feature in words.
pub(crate) fn describe(feature: &Feature) -> String {
    match (feature.kind, feature.shape.as_slice()) {
        (FeatureKind::Visual, [_, height, width]) => format!("a {width}x{height} image"),
        (_, [n]) => format!("{n} values"),
        (_, shape) => format!("shape {shape:?}"),
    }
}

/// `[height, width, 3]` in 0..1; `None` when the bytes are not as many as the size says.
fn floats(image: &RgbImage) -> Option<Array> {
    let shape = vec![image.height, image.width, 3];
    let is_whole = image.height.checked_mul(image.width).and_then(|n| n.checked_mul(3)) == Some(image.rgb.len());
    is_whole.then(|| Array { shape, values: image.rgb.iter().map(|value| f32::from(*value) / 255.0).collect() })
}

/// What `does` comes to, and how long that took.
pub(crate) fn timed<T>(does: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = does();
    (done, start.elapsed())
}
