//! One inference: inputs by feature name, through the preprocessor, the model and the postprocessor.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Serialize;

use crate::features::{ACTION, Feature, FeatureKind};
use crate::processor::{Array, Batch};
use crate::weights::TensorFile;
use crate::{Checkpoint, InferError};

/// What a policy looks at, in the dataset's units and under the names that a robot gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    vectors: BTreeMap<String, Vec<f32>>,
    images: BTreeMap<String, RgbImage>,
    task: String,
}

/// 8-bit RGB, row-major, top row first.
#[derive(Clone, Debug, PartialEq)]
struct RgbImage {
    height: usize,
    width: usize,
    rgb: Vec<u8>,
}

impl Inputs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a vector such as `observation.state [D]`.
    #[must_use]
    pub fn vector(mut self, feature: &str, values: Vec<f32>) -> Self {
        self.vectors.insert(feature.to_owned(), values);
        self
    }

    /// Sets a camera's image `[height, width, 3]`, 8-bit RGB, row-major, top row first.
    #[must_use]
    pub fn image(mut self, feature: &str, height: usize, width: usize, rgb: Vec<u8>) -> Self {
        self.images.insert(feature.to_owned(), RgbImage { height, width, rgb });
        self
    }

    /// Sets the instruction sentence; empty where there is none.
    #[must_use]
    pub fn task(mut self, sentence: &str) -> Self {
        sentence.clone_into(&mut self.task);
        self
    }

    /// Reads a safetensors file: vectors as `f32 [D]`, images as `u8 [H, W, 3]`, the sentence in the
    /// metadata entry `task`.
    ///
    /// # Errors
    /// When the file can't be read or a tensor is neither of the two.
    pub fn read(path: &Path) -> Result<Self, InferError> {
        let file = TensorFile::open(path)?;
        let mut inputs = Self { task: file.metadata("task").unwrap_or_default().to_owned(), ..Self::default() };
        for name in file.names() {
            let Some(info) = file.spec(&name) else { continue };
            match (info.dtype, info.shape.as_slice()) {
                (Dtype::F32, [_]) => inputs = inputs.vector(&name, file.floats(&name, info)?),
                (Dtype::U8, [height, width, 3]) => inputs = inputs.image(&name, *height, *width, file.bytes(info).to_vec()),
                (dtype, shape) => {
                    let expected = "F32 [D] for a vector or U8 [H, W, 3] for an image".into();
                    return Err(InferError::WrongInput { key: name, found: format!("{dtype:?} {shape:?}"), expected });
                }
            }
        }
        Ok(inputs)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.vectors.keys().chain(self.images.keys()).map(String::as_str)
    }
}

/// Rows of actions in the dataset's units, as a robot would receive them: `[rows, width]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    pub rows: usize,
    pub width: usize,
    pub values: Vec<f32>,
}

/// What [`Checkpoint::infer_file`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferReport {
    pub rows: usize,
    pub width: usize,
    /// From the inputs in memory to the actions in memory; the weights were read before.
    pub milliseconds: f64,
    /// Tensors in the input file that the policy has no use for.
    pub unused_inputs: Vec<String>,
}

impl Checkpoint {
    /// Runs the policy once.
    ///
    /// # Errors
    /// When an input is missing or has another shape than the checkpoint says, the weights can't be
    /// read, the computation fails, or its answer is not finite.
    pub fn infer(&self, inputs: &Inputs) -> Result<Actions, InferError> {
        self.unnormalized(self.normalized(inputs)?)
    }

    /// Runs the policy on the tensors of the file `inputs` and writes `action` (`f32 [n, A]`,
    /// unnormalised) to the file `out`.
    ///
    /// # Errors
    /// As [`Inputs::read`] and [`Checkpoint::infer`], and when `out` can't be written.
    pub fn infer_file(&self, inputs: &Path, out: &Path) -> Result<InferReport, InferError> {
        let inputs = Inputs::read(inputs)?;
        self.load()?;
        let start = Instant::now();
        let actions = self.infer(&inputs)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;

        let write = |what: String| InferError::Write { path: out.to_owned(), what };
        let bytes: Vec<u8> = actions.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![actions.rows, actions.width], &bytes).map_err(|e| write(e.to_string()))?;
        safetensors::serialize_to_file([(ACTION, view)], None, out).map_err(|e| write(e.to_string()))?;
        let used = |name: &str| self.inputs.get(self.preprocessor.renamed(name)).is_some();
        let unused_inputs = inputs.names().filter(|name| !used(name)).map(str::to_owned).collect();
        Ok(InferReport { rows: actions.rows, width: actions.width, milliseconds, unused_inputs })
    }

    /// Black images, zeros and no task, in the shapes that the checkpoint takes: something to time
    /// it on.
    pub fn blank_inputs(&self) -> Inputs {
        self.inputs.iter().fold(Inputs::new(), |inputs, (name, feature)| match (feature.kind, feature.shape.as_slice()) {
            (FeatureKind::Visual, [_, height, width]) => inputs.image(name, *height, *width, vec![0; height * width * 3]),
            (_, shape) => inputs.vector(name, vec![0.0; shape.iter().product()]),
        })
    }

    /// The model's own answer `[1, rows, width]`, before the postprocessor.
    pub(crate) fn normalized(&self, inputs: &Inputs) -> Result<Array, InferError> {
        let mut batch = self.batch(inputs)?;
        self.preprocessor.run(&mut batch);
        Ok(self.model()?.run(&batch)?)
    }

    pub(crate) fn unnormalized(&self, answer: Array) -> Result<Actions, InferError> {
        let (rows, width) = (answer.values.len() / self.action_width(), self.action_width());
        let mut batch = Batch { features: BTreeMap::from([(ACTION.to_owned(), answer)]), ..Batch::default() };
        self.postprocessor.run(&mut batch);
        let values = batch.features.remove(ACTION).map(|array| array.values).unwrap_or_default();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(InferError::NotFinite { row: at / width, column: at % width, value: values[at] });
        }
        Ok(Actions { rows, width, values })
    }

    /// Only what the model takes, checked and as floats: images channel-first in 0..1.
    fn batch(&self, inputs: &Inputs) -> Result<Batch, InferError> {
        let mut batch = Batch { task: inputs.task.clone(), ..Batch::default() };
        for name in inputs.names() {
            let wanted = self.preprocessor.renamed(name);
            let Some(feature) = self.inputs.get(wanted) else { continue };
            let (found, array) = match (inputs.images.get(name), inputs.vectors.get(name)) {
                (Some(image), _) => (format!("a {}x{} image", image.width, image.height), planes(image)),
                (_, Some(values)) => {
                    (format!("{} values", values.len()), Some(Array { shape: vec![values.len()], values: values.clone() }))
                }
                _ => continue,
            };
            match array {
                Some(array) if array.shape == feature.shape => batch.features.insert(name.to_owned(), array),
                _ => return Err(InferError::WrongInput { key: name.to_owned(), found, expected: describe(feature) }),
            };
        }
        for (wanted, feature) in self.inputs.iter() {
            let key = || wanted.to_owned();
            match batch.features.keys().filter(|name| self.preprocessor.renamed(name) == wanted).count() {
                0 => return Err(InferError::MissingInput { key: key(), expected: describe(feature) }),
                1 => {}
                n => return Err(InferError::WrongInput { key: key(), found: format!("given by {n} inputs"), expected: "one".into() }),
            }
        }
        Ok(batch)
    }
}

/// A feature in words.
pub(crate) fn describe(feature: &Feature) -> String {
    match (feature.kind, feature.shape.as_slice()) {
        (FeatureKind::Visual, [_, height, width]) => format!("a {width}x{height} image"),
        (_, [n]) => format!("{n} values"),
        (_, shape) => format!("shape {shape:?}"),
    }
}

/// `[3, height, width]` in 0..1, as LeRobot feeds images to its preprocessors; `None` when the bytes
/// are not as many as the size says.
fn planes(image: &RgbImage) -> Option<Array> {
    let (pixels, rest) = image.rgb.as_chunks::<3>();
    if !rest.is_empty() || image.height.checked_mul(image.width) != Some(pixels.len()) {
        return None;
    }
    let values = (0..3).flat_map(|channel| pixels.iter().map(move |pixel| f32::from(pixel[channel]) / 255.0)).collect();
    Some(Array { shape: vec![3, image.height, image.width], values })
}
