//! A checkpoint folder as LeRobot saves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::adapter;
use crate::config::ConfigFile;
use crate::device::has_kernels;
use crate::error::bare;
use crate::families::{self, FAMILIES};
use crate::family::{Family, Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, Features, IMAGES, OBSERVATION};
use crate::files::{ADAPTER_WEIGHTS, CONFIG, Files, Resources, WEIGHTS};
use crate::info::{self, CameraInfo, FeatureInfo, Info, Terms};
use crate::json::read_json;
use crate::processor::{Pipeline, Prompt, old};
use crate::tensor_file::{TensorFile, is_pickle};
use crate::weights::{Loader, Needs};
use crate::{CheckpointError, Device, Quantization};

const PREPROCESSOR: &str = "policy_preprocessor.json";
const POSTPROCESSOR: &str = "policy_postprocessor.json";

/// What lists the parts of weights that are in several files.
const INDEX: &str = "model.safetensors.index.json";

/// LeRobot's name for no normalisation.
const IDENTITY: &str = "IDENTITY";

/// A checkpoint folder that was checked and can be run: configuration, processors and the header of
/// the weights. The weights themselves are read when first needed, once, however many
/// [`BoundPolicy`](crate::BoundPolicy)s share them.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    device: candle_core::Device,
    pub(crate) family: &'static Family,
    pub(crate) plan: Box<dyn Plan>,
    pub(crate) interface: Interface,
    pub(crate) inputs: Features,
    pub(crate) action_names: Option<Vec<String>>,
    /// Cameras' features as the robot calls them, and as the user says that the policy does.
    pub(crate) renames: Vec<(String, String)>,
    pub(crate) preprocessor: Pipeline,
    pub(crate) postprocessor: Pipeline,
    pub(crate) weights: Arc<TensorFile>,
    model: Mutex<Option<Arc<dyn Model>>>,
    allow_nan: bool,
    pub(crate) quantization: Option<Quantization>,
    /// Whether it was told that there is no instruction for a policy that reads it.
    pub(crate) told_of_no_task: AtomicBool,
    info: Info,
}

/// How a checkpoint is opened.
///
/// ```
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/act/no_camera");
/// let checkpoint = sinew_policy::OpenOptions::new().open(folder)?;
/// # Ok::<(), sinew_policy::CheckpointError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions<'a> {
    resources: Option<&'a dyn Resources>,
    device: Device,
    allow_nan: bool,
    quantization: Option<Quantization>,
    renames: &'a [(String, String)],
}

impl<'a> OpenOptions<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the files are that a checkpoint names and does not bring, such as its tokenizer. Without
    /// this they are looked for in the checkpoint's folder alone.
    #[must_use]
    pub fn resources(mut self, resources: &'a dyn Resources) -> Self {
        self.resources = Some(resources);
        self
    }

    /// As [`resources`](Self::resources), unless there are some already.
    #[must_use]
    pub fn or_resources(mut self, resources: &'a dyn Resources) -> Self {
        self.resources.get_or_insert(resources);
        self
    }

    /// Where the policy is to compute; on the CPU unless set.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Takes weights with NaN or infinity among them, which are refused when they are read otherwise.
    #[must_use]
    pub fn allow_nan(mut self, allow: bool) -> Self {
        self.allow_nan = allow;
        self
    }

    /// Keeps weights in fewer bits than the file does, which takes less memory and changes the answers
    /// ([`Checkpoint::quantization_loss`] says by how much). On a CPU only.
    #[must_use]
    pub fn quantize(mut self, quantization: Option<Quantization>) -> Self {
        self.quantization = quantization;
        self
    }

    /// Cameras by the robot's name for them, and the policy's key for what each sees, as in LeRobot's rename
    /// map. Both may be written with or without `observation.images.`.
    #[must_use]
    pub fn rename(mut self, cameras: &'a [(String, String)]) -> Self {
        self.renames = cameras;
        self
    }

    /// Opens the folder `dir` as [`Checkpoint::open`] does.
    ///
    /// # Errors
    /// [`CheckpointError`] says which file, what was found there and what was expected.
    pub fn open(&self, dir: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::open_with(dir.as_ref(), self)
    }
}

impl Checkpoint {
    /// Opens the folder `dir` and checks everything that can be known before the weights are read:
    /// the family, the configuration, the processor steps and their statistics, and that each tensor
    /// that the model needs is there with the right shape and dtype, and no other.
    /// [`OpenOptions`] is the longer form.
    ///
    /// # Errors
    /// [`CheckpointError`] says which file, what was found there and what was expected.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        OpenOptions::new().open(dir)
    }

    fn open_with(dir: &Path, options: &OpenOptions) -> Result<Self, CheckpointError> {
        let files = &Files { dir, resources: options.resources };
        let dir = dir.to_owned();
        check_files(&dir)?;
        let device = options.device.open().map_err(|source| CheckpointError::Device { device: options.device, source: bare(source) })?;
        if let Some(quantization) = options.quantization.filter(|_| !has_kernels(&device)) {
            return Err(CheckpointError::Quantize { quantization, device: options.device });
        }
        let config_path = dir.join(CONFIG);
        let json = read_json(&config_path)?;
        let family = family(&dir, &config_path, &json)?;
        let config = ConfigFile::new(files, config_path, json)?;
        let (inputs, outputs) = (&config.inputs, &config.outputs);
        let plan = (family.plan)(&config)?;
        let unknown_keys = config.unknown_keys(family.unused_keys);
        if !unknown_keys.is_empty() {
            let keys = unknown_keys.join(", ");
            tracing::warn!(path = %config.path.display(), keys, "keys that LeRobot 0.6 doesn't know; nothing is made of them");
        }
        let interface = plan.interface();
        let mut terms = Terms::of(&dir, config.license.as_deref(), None);
        let (weights, adapter_base) = if config.use_peft || !dir.join(WEIGHTS).exists() {
            let (weights, base, of_base) = adapter::open(files)?;
            terms.extend(of_base);
            (Arc::new(weights), Some(base))
        } else {
            (Arc::new(TensorFile::open(&dir.join(WEIGHTS))?), None)
        };
        check_wrapping(&weights)?;
        let is_old = !dir.join(PREPROCESSOR).exists() && weights.names().iter().any(|name| old::is_statistic(name));
        let known = families::steps();
        let (mut preprocessor, postprocessor) = if is_old {
            let Some(modes) = &config.normalization else {
                return Err(config.fault("normalization_mapping", "not there".into(), "how each type of feature is normalised"));
            };
            let text = if family.prompt == Prompt::None { Some(Vec::new()) } else { plan.old_text_steps() };
            let text = text.ok_or_else(|| CheckpointError::OldNormalization { dir: dir.clone() })?;
            let pipeline = |steps, features, before: Option<&Pipeline>, prefix| {
                Pipeline::old(files, &known, &config.path, steps, features, before, (&weights, prefix))
            };
            let preprocessor = pipeline(old::preprocessor(text, inputs, modes), inputs, None, old::INPUTS)?;
            let postprocessor = pipeline(old::postprocessor(outputs, modes), outputs, Some(&preprocessor), old::OUTPUTS)?;
            (preprocessor, postprocessor)
        } else {
            let preprocessor = Pipeline::open(files, &known, PREPROCESSOR, inputs, None)?;
            let postprocessor = Pipeline::open(files, &known, POSTPROCESSOR, outputs, Some(&preprocessor))?;
            (preprocessor, postprocessor)
        };
        check_preprocessor(&dir.join(PREPROCESSOR), &preprocessor, family.prompt, plan.needed_steps())?;
        let renames = renames(&dir, options.renames, inputs)?;
        preprocessor.rename(&renames);

        let mut loader = Loader::check(&weights).quantizing(options.quantization);
        plan.build(&mut loader)?;
        let Needs { parameters, in_file, saved_bytes } = loader.finish(|name| old::is_statistic(name) || plan.knows_unused(name))?;
        for (file, pipeline) in [(PREPROCESSOR, &preprocessor), (POSTPROCESSOR, &postprocessor)] {
            if let Some(name) = pipeline.unknown_feature([inputs, outputs]) {
                let expected = format!("a feature of {CONFIG}");
                return Err(CheckpointError::Config { path: dir.join(file), key: "features".into(), found: name.to_owned(), expected });
            }
        }
        if let Some(mapping) = &config.normalization {
            check_modes(&dir.join(PREPROCESSOR), &preprocessor, inputs, mapping)?;
            check_modes(&dir.join(POSTPROCESSOR), &postprocessor, outputs, mapping)?;
        }

        let features = |features: &Features, pipeline: &Pipeline| {
            let one = |(name, feature): (&str, &Feature)| FeatureInfo {
                name: name.to_owned(),
                kind: feature.kind,
                shape: feature.shape.clone(),
                normalization: pipeline.mode_of(name).unwrap_or(IDENTITY).to_owned(),
            };
            features.iter().map(one).collect::<Vec<_>>()
        };
        let info = Info {
            dir: dir.clone(),
            family: family.name.to_owned(),
            parameters,
            dtype: info::dtypes(&weights),
            cameras: inputs.of(FeatureKind::Visual).map(|(name, feature)| CameraInfo::new(name, feature)).collect(),
            inputs: features(inputs, &preprocessor),
            outputs: features(outputs, &postprocessor),
            preprocessor: preprocessor.names().map(str::to_owned).collect(),
            postprocessor: postprocessor.names().map(str::to_owned).collect(),
            adapter_base,
            unknown_keys,
            backbone: interface.backbone.clone(),
            backbone_source: interface.backbone_source.clone(),
            tokenizer: preprocessor.tokenizer(),
            n_obs_steps: interface.n_obs_steps,
            chunk_size: interface.chunk_size,
            n_action_steps: interface.n_action_steps,
            temporal_ensemble_coeff: interface.temporal_ensemble_coeff,
            guidance: interface.guidance,
            trained_delay: interface.trained_delay,
            licence: terms.first().map(|terms| terms.licences.join(" and ")).filter(|licence| !licence.is_empty()),
            terms,
            file_bytes: weights.len_bytes(),
            quantization: options.quantization,
            memory_bytes: (parameters - in_file) * 4 + interface.scratch_bytes - saved_bytes,
        };
        let allow_nan = options.allow_nan;
        let ConfigFile { inputs, action_names, .. } = config;
        Ok(Self {
            dir,
            device,
            family,
            plan,
            interface,
            inputs,
            action_names,
            renames,
            preprocessor,
            postprocessor,
            weights,
            model: Mutex::new(None),
            allow_nan,
            quantization: options.quantization,
            told_of_no_task: AtomicBool::new(false),
            info,
        })
    }

    /// What the checkpoint is.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the weights, unless that was done already. Inference does it by itself; call this to
    /// choose when.
    ///
    /// # Errors
    /// When there is not enough memory in a way that can be told, or the file has changed.
    pub fn load(&self) -> Result<(), CheckpointError> {
        self.model().map(drop)
    }

    pub(crate) fn model(&self) -> Result<Arc<dyn Model>, CheckpointError> {
        // Nothing that is done under this lock takes on other work of the caller's threads, which could ask for the
        // model, too: `build` has its own. A panic in it leaves `None` behind, which is a valid state.
        let mut slot = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = slot.as_ref() {
            return Ok(Arc::clone(model));
        }
        let model: Arc<dyn Model> = Arc::from(self.build(|loader| loader.quantizing(self.quantization))?);
        *slot = Some(Arc::clone(&model));
        Ok(model)
    }

    /// The network with its weights, by a loader that `set` may change.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn build(&self, set: impl FnOnce(Loader) -> Loader) -> Result<Box<dyn Model>, CheckpointError> {
        tracing::debug!(path = %self.weights.path().display(), parameters = self.info.parameters, "reading the weights");
        let mut loader = set(Loader::load(&self.weights, &self.device));
        let model = on_own_threads(|| self.plan.build(&mut loader)).map_err(|source| CheckpointError::Threads { source })??;
        match loader.check_finite() {
            Err(error) if self.allow_nan => tracing::warn!(%error, "going on, as told"),
            result => result?,
        }
        Ok(model)
    }

    /// How many entries the action has.
    pub fn action_width(&self) -> usize {
        self.interface.action_width
    }
}

/// Does `work` on threads that do nothing else, as many as the caller's pool has, while the caller waits and
/// takes on nothing.
///
/// # Errors
/// When they could not be started.
fn on_own_threads<R: Send>(work: impl FnOnce() -> R + Send) -> std::io::Result<R> {
    let count = rayon::current_num_threads();
    std::thread::scope(|scope| {
        // Not from one of a pool's threads, which would look for other work while it waits.
        let waiting = std::thread::Builder::new().name("load".into()).spawn_scoped(scope, move || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("load-{i}")).build();
            pool.map(|pool| pool.install(work)).map_err(std::io::Error::other)
        })?;
        waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The whole names of what the user calls otherwise.
///
/// # Errors
/// When a key is none of a camera's, or a camera or a key is there twice.
fn renames(dir: &Path, wanted: &[(String, String)], inputs: &Features) -> Result<Vec<(String, String)>, CheckpointError> {
    let whole = |name: &str| if name.starts_with(OBSERVATION) { name.to_owned() } else { format!("{IMAGES}{name}") };
    let keys: Vec<&str> = inputs.of(FeatureKind::Visual).map(|(name, _)| name).collect();
    let mut renames: Vec<(String, String)> = Vec::new();
    for (camera, key) in wanted {
        let fault = |what: String| {
            let rename = format!("{camera}={key}");
            Err(CheckpointError::Rename { dir: dir.to_owned(), rename, what })
        };
        let (from, to) = (whole(camera), whole(key));
        if !keys.contains(&to.as_str()) {
            return fault(format!("the policy has no camera {key}, expected one of {}", keys.join(", ")));
        }
        if renames.iter().any(|(camera, _)| *camera == from) {
            return fault(format!("{camera} was renamed before, expected each camera once"));
        }
        if let Some((other, _)) = renames.iter().find(|(_, key)| *key == to) {
            return fault(format!("{key} is what {other} sees already, expected each key once"));
        }
        renames.push((from, to));
    }
    Ok(renames)
}

/// # Errors
/// When the weights are those of a policy inside of something else that PyTorch put around it.
fn check_wrapping(weights: &TensorFile) -> Result<(), CheckpointError> {
    let names = weights.names();
    for (prefix, by) in [("_orig_mod.", "torch.compile"), ("module.", "DataParallel")] {
        if !names.is_empty() && names.iter().all(|name| name.starts_with(prefix)) {
            return Err(CheckpointError::Wrapped { path: weights.path().to_owned(), prefix, by });
        }
    }
    Ok(())
}

/// # Errors
/// When a step that the model can't do without is missing.
fn check_preprocessor(path: &Path, pipeline: &Pipeline, expected: Prompt, needed: &[&str]) -> Result<(), CheckpointError> {
    let fault = |found, expected| Err(CheckpointError::Config { path: path.to_owned(), key: "steps".into(), found, expected });
    if !pipeline.adds_batch_axis() {
        return fault(pipeline.names().collect::<Vec<_>>().join(", "), "a to_batch_processor among them".into());
    }
    if let Some(missing) = needed.iter().find(|step| !pipeline.names().any(|name| name == **step)) {
        return fault(pipeline.names().collect::<Vec<_>>().join(", "), format!("a {missing} among them"));
    }
    let found = pipeline.prompt();
    if expected != Prompt::None && found != expected {
        return fault(format!("steps that give the model {found}"), expected.to_string());
    }
    Ok(())
}

/// # Errors
/// Unless `pipeline` normalises each of `features` as the configuration's `mapping` says.
fn check_modes(path: &Path, pipeline: &Pipeline, features: &Features, mapping: &BTreeMap<String, String>) -> Result<(), CheckpointError> {
    for (name, feature) in features.iter().filter(|(name, _)| !pipeline.excludes(name)) {
        let expected = mapping.get(feature.kind.name()).map_or(IDENTITY, String::as_str);
        let found = pipeline.mode_of(name).unwrap_or(IDENTITY);
        if found != expected {
            return Err(CheckpointError::Config {
                path: path.to_owned(),
                key: format!("the normalisation of {name}"),
                found: found.to_owned(),
                expected: format!("{expected}, as normalization_mapping in {CONFIG} says"),
            });
        }
    }
    Ok(())
}

/// The files without which a folder is no checkpoint, and those that are never opened.
fn check_files(dir: &Path) -> Result<(), CheckpointError> {
    let not_one = |what: String| Err(CheckpointError::NotACheckpoint { dir: dir.to_owned(), what });
    if is_pickle(dir) {
        return Err(CheckpointError::Pickle { path: dir.to_owned() });
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(_) if dir.is_file() => return not_one("it is a file, expected a folder".into()),
        Err(source) => return Err(CheckpointError::Read { path: dir.to_owned(), source }),
    };
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let has = |name: &str| names.iter().any(|n| n == name);
    if !has(CONFIG) {
        let found = match &names[..] {
            [] => "it is empty".to_owned(),
            few if few.len() <= 8 => format!("it holds {}", few.join(", ")),
            many => format!("it holds {} other files", many.len()),
        };
        return not_one(format!("it is no checkpoint: there is no {CONFIG} ({found})"));
    }
    if !has(WEIGHTS) && !has(ADAPTER_WEIGHTS) {
        if let Some(pickle) = names.iter().find(|name| is_pickle(Path::new(name))) {
            return Err(CheckpointError::Pickle { path: dir.join(pickle) });
        }
        if names.iter().any(|name| name == INDEX) {
            return not_one(format!(
                "its weights are in several files (there is a {INDEX} and no {WEIGHTS}), expected all in one {WEIGHTS}, as LeRobot's \
                 save_pretrained writes them: load the policy in LeRobot and save it again"
            ));
        }
        return not_one(format!("there is no {WEIGHTS} and no {ADAPTER_WEIGHTS}; copy or download the folder anew"));
    }
    for name in [CONFIG, WEIGHTS, ADAPTER_WEIGHTS].into_iter().filter(|name| has(name)) {
        if let (Ok(target), false) = (std::fs::read_link(dir.join(name)), dir.join(name).exists()) {
            return not_one(format!("{name} is a link to {}, which is not there; copy or download the folder anew", target.display()));
        }
    }
    Ok(())
}

/// # Errors
/// When the configuration `json` names no family, or an unknown one.
fn family(dir: &Path, path: &Path, json: &Value) -> Result<&'static Family, CheckpointError> {
    match json.get("type") {
        Some(Value::String(name)) => families::find(name).ok_or_else(|| CheckpointError::UnknownFamily {
            dir: dir.to_owned(),
            found: name.clone(),
            known: FAMILIES.join(", "),
        }),
        other => Err(CheckpointError::Config {
            path: path.to_owned(),
            key: "type".into(),
            found: other.map_or("not there".into(), Value::to_string),
            expected: format!("a policy family ({})", FAMILIES.join(", ")),
        }),
    }
}
