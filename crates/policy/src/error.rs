//! What can go wrong, as types: opening a checkpoint, fitting it to a robot, running it.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{Device, Fit, Quantization};

/// A folder that is no checkpoint this crate can run. Raised by
/// [`Checkpoint::open`](crate::Checkpoint::open), before any weight is read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("opening the checkpoint {}: {what}", dir.display())]
    NotACheckpoint { dir: PathBuf, what: String },
    #[error("opening {}: a pickle file can run any program when it is read, so only safetensors are opened; convert the checkpoint first", path.display())]
    Pickle { path: PathBuf },
    #[error(
        "opening the checkpoint {}: it predates LeRobot's processor files, and how this family took its text then is not known here; convert it with `python -m lerobot.processor.migrate_policy_normalization --pretrained-path {}`",
        dir.display(), dir.display()
    )]
    OldNormalization { dir: PathBuf },
    #[error(
        "opening the checkpoint {}: the policy family is {found:?}, known families: {known}; another family can run in its \
         own program, behind a policy server as openpi's serve_policy, which --policy ws://HOST:PORT reaches",
        dir.display()
    )]
    UnknownFamily { dir: PathBuf, found: String, known: String },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("reading {}: it has {found} bytes, expected at most {limit}", path.display())]
    TooBig { path: PathBuf, found: u64, limit: u64 },
    #[error("parsing {}", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("reading {}: {key} is {found}, expected {expected}", path.display())]
    Config { path: PathBuf, key: String, found: String, expected: String },
    #[error("reading the safetensors header of {}: {what}", path.display())]
    Header { path: PathBuf, what: String },
    #[error("reading {}: the file ends early, it has {found} bytes, its header promises {expected}", path.display())]
    Truncated { path: PathBuf, found: u64, expected: u64 },
    #[error("checking {}: there is no tensor {name}, expected one{} as LeRobot's save_pretrained writes it", path.display(), of_shape(expected))]
    MissingTensor { path: PathBuf, name: String, expected: Vec<usize> },
    #[error("checking {}: tensor {name} has shape {found:?}, expected {}", path.display(), shape_words(expected))]
    WrongShape { path: PathBuf, name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("checking {}: tensor {name} has dtype {found}, expected F32, F16 or BF16", path.display())]
    WrongDtype { path: PathBuf, name: String, found: String },
    #[error("reading {}: NaN or infinity in {} tensors, expected finite numbers: {}", path.display(), names.len(), names.join(", "))]
    NotFinite { path: PathBuf, names: Vec<String> },
    #[error(
        "checking {}: names of tensors have {prefix} in them, which {by} puts there; expected names without it, as LeRobot's \
         save_pretrained writes them: save the policy that is inside", path.display()
    )]
    Wrapped { path: PathBuf, prefix: &'static str, by: &'static str },
    /// An adapter that changes what can't be changed here.
    #[error("reading the adapter {}: {name} {what}; merge the adapter into its base with peft's merge_and_unload, and save that", path.display())]
    Adapter { path: PathBuf, name: String, what: &'static str },
    #[error("checking {}: {} tensors are in no use, expected none: {}", path.display(), names.len(), names.join(", "))]
    UnusedTensors { path: PathBuf, names: Vec<String> },
    #[error("reading {}: step {index} is {found:?}, known steps: {known}", path.display())]
    UnknownStep { path: PathBuf, index: usize, found: String, known: String },
    #[error("reading {}: the configuration of step {index} ({name})", path.display())]
    Step {
        path: PathBuf,
        index: usize,
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("reading {}: {second} comes after {first}, where it has no effect or a wrong one; expected the other order, and each once", path.display())]
    StepOrder { path: PathBuf, first: String, second: String },
    #[error("reading the tokenizer {}: {what}", path.display())]
    Tokenizer { path: PathBuf, what: String },
    #[error("opening the checkpoint {}: {what} is not found; looked for: {}", dir.display(), looked.join(", "))]
    NotFound { dir: PathBuf, what: String, looked: Vec<String> },
    #[error("opening the checkpoint {}: looking for {what} on the Hub", dir.display())]
    Resource {
        dir: PathBuf,
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("renaming {rename} for the checkpoint {}: {what}", dir.display())]
    Rename { dir: PathBuf, rename: String, what: String },
    #[error("checking {}: feature {feature} is normalised by {mode}, but there is no statistic {stat} for it", path.display())]
    MissingStats { path: PathBuf, feature: String, mode: String, stat: String },
    #[error("checking {}: statistic {stat} of feature {feature} has shape {found:?}, expected {expected} values", path.display())]
    WrongStats { path: PathBuf, feature: String, stat: String, found: Vec<usize>, expected: usize },
    #[error("computing on {device}: this build or this machine has no such device")]
    Device {
        device: Device,
        #[source]
        source: candle_core::Error,
    },
    #[error("quantising weights to {quantization} on {device}: only the CPU kernels of this program can, expected the device cpu")]
    Quantize { quantization: Quantization, device: Device },
    #[error("starting threads to read the weights")]
    Threads {
        #[source]
        source: std::io::Error,
    },
    #[error("building the model from {}", path.display())]
    Build {
        path: PathBuf,
        #[source]
        source: candle_core::Error,
    },
}

/// The same after a noun, or nothing where no shape is known.
fn of_shape(shape: &[usize]) -> String {
    if shape.is_empty() { String::new() } else { format!(" of shape {},", shape_words(shape)) }
}

/// A shape of which only the number of axes may be known: then all its sizes are 0.
fn shape_words(shape: &[usize]) -> String {
    let axes: Vec<String> = shape.iter().map(|size| if *size == 0 { "any".to_owned() } else { size.to_string() }).collect();
    format!("[{}]", axes.join(", "))
}

/// An error of the tensor library without the trace that `RUST_BACKTRACE` adds to its words.
pub(crate) fn bare(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => bare(*inner),
        error => error,
    }
}

impl From<candle_core::Error> for InferError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute(bare(error))
    }
}

impl CheckpointError {
    /// That the value of `key` in the file at `path` is another than expected.
    pub(crate) fn config(path: &Path, key: &str, found: String, expected: &str) -> Self {
        Self::Config { path: path.to_owned(), key: key.to_owned(), found, expected: expected.to_owned() }
    }
}

/// A checkpoint that cannot drive a robot.
#[derive(Debug, Error)]
pub enum BindError {
    /// Both sides are in `fit`, and in the message as two columns.
    #[error("binding the checkpoint to robot {}: they don't fit\n{fit}", fit.robot)]
    Mismatch { fit: Fit },
    #[error("starting {count} threads for the policy")]
    Threads {
        count: usize,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// An inference that did not happen.
#[derive(Debug, Error)]
pub enum InferError {
    #[error("reading the inputs: there is no {key}, expected {expected}")]
    MissingInput { key: String, expected: String },
    #[error("reading the inputs: {key} is {found}, expected {expected}")]
    WrongInput { key: String, found: String, expected: String },
    #[error("turning the instruction into tokens")]
    Tokenize(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The policy answered with NaN or infinity.
    #[error("running the policy: row {row} of its answer holds {value} for action {column}, expected a finite number")]
    NotFinite { row: usize, column: usize, value: f32 },
    #[error("running the policy: a policy of the family {family} can't continue another chunk, expected no guidance")]
    NoGuidance { family: String },
    #[error(
        "running the {family} policy in {}: rtc_config.mode is trained and rtc_training_max_delay 0; expected the mode guided, \
         as the policy was not trained to continue rows that are given", dir.display()
    )]
    NotTrained { dir: PathBuf, family: String },
    #[error(
        "running the policy: {given} rows are given to continue, expected at most {trained} (rtc_training_max_delay), for which it was trained"
    )]
    DelayTooLong { given: usize, trained: usize },
    #[error("running the policy")]
    Compute(#[source] candle_core::Error),
    /// The weights could not be read, or a tensor file could not be opened.
    #[error(transparent)]
    File(#[from] CheckpointError),
    #[error("writing {}: {what}", path.display())]
    Write { path: PathBuf, what: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_no_part_of_the_words() {
        let inner = Box::new(candle_core::Error::Msg("shapes differ".to_owned()));
        let traced = candle_core::Error::WithBacktrace { inner, backtrace: Box::new(std::backtrace::Backtrace::force_capture()) };
        assert!(traced.to_string().lines().count() > 1);
        let error = InferError::from(traced);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "shapes differ");
    }
}
