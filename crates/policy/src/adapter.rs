//! PEFT adapters: small matrices that change the weights of another checkpoint. They are added while
//! the weights are read, so there is no second copy of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::CheckpointError;
use crate::files::{self, ADAPTER_WEIGHTS, Files, WEIGHTS};
use crate::info::{Terms, UNKNOWN};
use crate::json::{parse, read_json};
use crate::tensor_file::{TensorChanges, TensorFile};

const CONFIG: &str = "adapter_config.json";
/// What `peft` puts before the names of a policy's tensors.
const PREFIX: &str = "base_model.model.";

/// The keys that change what an adapter does. Of the others those with a value that is not in
/// [`HARMLESS`] are refused, as some would change the result.
#[derive(Deserialize)]
struct AdapterJson {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    revision: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    modules_to_save: Option<Vec<String>>,
    target_modules: Option<Modules>,
    exclude_modules: Option<Modules>,
    layers_to_transform: Option<Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl AdapterJson {
    /// Whether the adapter brings the whole of the base's tensor `name`.
    fn saves(&self, name: &str) -> bool {
        let modules = self.modules_to_save.as_deref().unwrap_or_default();
        modules.iter().any(|module| {
            !module.is_empty() && name.match_indices('.').any(|(dot, _)| name.get(..dot).is_some_and(|path| path.ends_with(module)))
        })
    }
}

/// Names of modules in an adapter's configuration: an expression for the whole of a name, or ends of names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Modules {
    Expression(String),
    Ends(Vec<String>),
}

impl Modules {
    /// What says whether a module is among them, by its name; `None` where that can't be told.
    fn matcher(&self) -> Option<Box<dyn Fn(&str) -> bool + '_>> {
        match self {
            Self::Expression(all) if all == "all-linear" => None,
            Self::Expression(expression) => {
                let expression = Regex::new(&format!("^(?:{expression})$")).ok()?;
                Some(Box::new(move |name| expression.is_match(name)))
            }
            Self::Ends(ends) => Some(Box::new(|name| {
                let is_end = |end: &String| name.strip_suffix(end.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                ends.iter().any(is_end)
            })),
        }
    }
}

/// Keys that say how an adapter was found or trained, or repeat what its tensors say.
const HARMLESS: [&str; 13] = [
    "arrow_config",
    "auto_mapping",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "layers_pattern",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "task_type",
    "lora_ga_config",
];

/// What becomes of one tensor of the base.
#[derive(Debug)]
enum Change {
    /// Another takes its place.
    Replace(String),
    /// `scale * b · a` is added to its rows, `a [r, columns]` and `b [rows, r]`.
    LowRank { a: Vec<f32>, b: Vec<f32>, rank: usize, scale: f32 },
}

/// An adapter's changes to the tensors of its base, by their names.
#[derive(Debug)]
pub(crate) struct Adapter {
    file: TensorFile,
    changes: BTreeMap<String, Change>,
}

/// The weights of the adapter in `files.dir` over those of its base, the base's name, and what it states about its licence.
///
/// # Errors
/// When the adapter is of a kind that is not known, its base is not found, or the two don't fit.
pub(crate) fn open(files: &Files) -> Result<(TensorFile, String, Vec<Terms>), CheckpointError> {
    let path = files.dir.join(CONFIG);
    if let Some(missing) = [CONFIG, ADAPTER_WEIGHTS].into_iter().find(|file| !files.dir.join(file).is_file()) {
        let what = format!(
            "there is no {missing}, but config.json says use_peft or there is no {WEIGHTS}; expected {CONFIG} and {ADAPTER_WEIGHTS}, \
             or use_peft false where {WEIGHTS} holds all weights"
        );
        return Err(CheckpointError::NotACheckpoint { dir: files.dir.to_owned(), what });
    }
    let json: AdapterJson = parse(&path, read_json(&path)?)?;
    let fault = |key: &str, found: String, expected: &str| CheckpointError::config(&path, key, found, expected);
    if json.peft_type != "LORA" {
        return Err(fault("peft_type", json.peft_type, "LORA"));
    }
    for (key, value) in json.rest.iter().filter(|(key, _)| !HARMLESS.contains(&key.as_str())) {
        let is_off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::String(text) => {
                key == "bias" && text == "none" || key == "init_lora_weights" && ["gaussian", "eva", "orthogonal"].contains(&text.as_str())
            }
            Value::Bool(true) => key == "init_lora_weights",
            Value::Number(_) => false,
        };
        if !is_off {
            return Err(fault(
                key,
                value.to_string(),
                "plain or rank-stabilised LoRA; merge another adapter into its base with peft's merge_and_unload, and save that",
            ));
        }
    }
    let Some(name) = json.base_model_name_or_path.clone().filter(|name| !name.is_empty()) else {
        return Err(fault("base_model_name_or_path", "not there".into(), "the checkpoint that the adapter changes"));
    };
    let folder = base_folder(files, &name, json.revision.as_deref())?;
    let base = TensorFile::open(&folder.join(WEIGHTS))?;
    // Of the base only weights are used; one without a configuration states nothing there, and of one that can't be read
    // nobody knows.
    let config = folder.join(files::CONFIG);
    let stated = match read_json(&config) {
        Ok(json) => json
            .get("license")
            .filter(|value| !value.is_null())
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        Err(_) => config.exists().then(|| UNKNOWN.to_owned()),
    };
    let terms = Terms::of(&folder, stated.as_deref(), Some(&name));
    let base = untied(base);
    let adapter = Adapter::open(&files.dir.join(ADAPTER_WEIGHTS), &path, &json, &base)?;
    adapter.warn_of_missing(&json, &base);
    Ok((base.with_changes(adapter), name, terms))
}

/// The tokens' table and the head that gives tokens back may share their numbers. The file then has one of the two names. An adapter
/// changes only the one that it names, so both are made to be there.
fn untied(base: TensorFile) -> TensorFile {
    const HEAD: &str = ".lm_head.weight";
    const TABLES: [&str; 2] = [".model.text_model.embed_tokens.weight", ".model.language_model.embed_tokens.weight"];
    let mut pairs = Vec::new();
    for name in base.names() {
        for table in TABLES {
            let other = match (name.strip_suffix(HEAD), name.strip_suffix(table)) {
                (Some(model), _) => format!("{model}{table}"),
                (_, Some(model)) => format!("{model}{HEAD}"),
                _ => continue,
            };
            if base.spec(&other).is_none() {
                pairs.push((other, name.clone()));
            }
        }
    }
    pairs.into_iter().fold(base, |base, (name, other)| base.with_shared(name, other))
}

fn base_folder(files: &Files, name: &str, revision: Option<&str>) -> Result<PathBuf, CheckpointError> {
    // Never in the current folder, where anything may lie.
    let local = files.dir.join(name);
    if local.join(WEIGHTS).is_file() {
        return Ok(local);
    }
    let what = format!("the base model {name} of the adapter");
    if let Some(resources) = files.resources {
        let resource = |source| CheckpointError::Resource { dir: files.dir.to_owned(), what: what.clone(), source };
        if let Some(folder) = resources.folder(name, revision).map_err(resource)? {
            return Ok(folder);
        }
    }
    let looked = vec![local.display().to_string(), files.hub_words(name)];
    Err(CheckpointError::NotFound { dir: files.dir.to_owned(), what, looked })
}

impl Adapter {
    fn open(path: &Path, config: &Path, json: &AdapterJson, base: &TensorFile) -> Result<Self, CheckpointError> {
        let file = TensorFile::open(path)?;
        let ranks = Patterns::new(config, "rank_pattern", &json.rank_pattern)?;
        let alphas = Patterns::new(config, "alpha_pattern", &json.alpha_pattern)?;
        let mut changes = BTreeMap::new();
        let mut second = BTreeSet::new();
        for name in file.names() {
            let Some(own) = name.strip_prefix(PREFIX) else {
                return Err(CheckpointError::UnusedTensors { path: path.to_owned(), names: vec![name] });
            };
            let unknown = |what| Err(CheckpointError::Adapter { path: path.to_owned(), name: name.clone(), what });
            if let Some(module) = own.strip_suffix(".lora_A.weight") {
                let other = format!("{PREFIX}{module}.lora_B.weight");
                if base.spec(&format!("{module}.in_proj_weight")).is_some() {
                    return unknown("changes an nn.MultiheadAttention as a whole, which is not known here");
                }
                let rank = *ranks.of(module).unwrap_or(&json.r);
                let alpha = *alphas.of(module).unwrap_or(&json.lora_alpha);
                let scale = alpha / if json.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
                let target = format!("{module}.weight");
                let change = low_rank(&file, base, &target, [&name, &other], rank, scale as f32)?;
                if is_bypassed(base, module) {
                    tracing::warn!(path = %path.display(), module, "PyTorch's attention passes this layer's adapter over, so it changes nothing here either");
                } else {
                    changes.insert(target, change);
                }
                second.insert(other);
            } else if own.contains(".lora_embedding_") {
                return unknown("changes an embedding, which is not known here");
            } else if own.contains(".lora_magnitude_vector") {
                return unknown("is of a DoRA adapter, which is not known here");
            } else if own.contains(".lora_") && !is_second(own) {
                return unknown("is none of a plain LoRA adapter");
            } else if !is_second(own) {
                let (found, expected) = (shape(&file, &name)?, shape(base, own)?);
                if found != expected {
                    return Err(CheckpointError::WrongShape { path: path.to_owned(), name, found, expected });
                }
                file.require_float(&name)?;
                changes.insert(own.to_owned(), Change::Replace(name));
            }
        }
        if let Some(name) = base.names().into_iter().find(|name| json.saves(name) && !changes.contains_key(name)) {
            let expected = shape(base, &name)?;
            return Err(CheckpointError::MissingTensor { path: path.to_owned(), name: format!("{PREFIX}{name}"), expected });
        }
        // Each second matrix belongs to a first.
        let names: Vec<String> = file.names().into_iter().filter(|name| is_second(name) && !second.contains(name)).collect();
        if names.is_empty() { Ok(Self { file, changes }) } else { Err(CheckpointError::UnusedTensors { path: path.to_owned(), names }) }
    }

    /// Tells of layers that the configuration says are changed, and for which there is nothing. As with `peft` they stay as they are.
    fn warn_of_missing(&self, json: &AdapterJson, base: &TensorFile) {
        if json.layers_to_transform.as_ref().is_some_and(|layers| !layers.is_null()) {
            return;
        }
        let Some(is_target) = json.target_modules.as_ref().and_then(Modules::matcher) else { return };
        let is_excluded = match &json.exclude_modules {
            None => Some(Box::new(|_: &str| false) as Box<dyn Fn(&str) -> bool>),
            Some(modules) => modules.matcher(),
        };
        let Some(is_excluded) = is_excluded else { return };
        let is_missing = |name: &String| {
            name.strip_suffix(".weight").is_some_and(|module| {
                let own = format!("{PREFIX}{module}.lora_A.weight");
                is_target(module) && !is_excluded(module) && !json.saves(name) && self.file.spec(&own).is_none()
            })
        };
        let missing: Vec<String> = base.names().into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            let (path, missing) = (self.file.path().display(), missing.join(", "));
            tracing::warn!(%path, missing, "the adapter lacks the matrices of layers that its target_modules names; they stay as in the base");
        }
    }
}

impl TensorChanges for Adapter {
    fn not_finite(&self, name: &str) -> Option<(&Path, Vec<String>)> {
        let names = match self.changes.get(name)? {
            Change::Replace(own) => vec![own.clone()],
            Change::LowRank { a, b, .. } => {
                let module = name.strip_suffix(".weight").unwrap_or(name);
                let both = [("lora_A", a), ("lora_B", b)].into_iter().filter(|(_, values)| values.iter().any(|value| !value.is_finite()));
                both.map(|(which, _)| format!("{PREFIX}{module}.{which}.weight")).collect()
            }
        };
        (!names.is_empty()).then(|| (self.file.path(), names))
    }

    fn has(&self, name: &str) -> bool {
        self.changes.contains_key(name)
    }

    fn apply(&self, name: &str, rows: Range<usize>, values: &mut [f32]) -> Result<(), CheckpointError> {
        let columns = values.len() / rows.len().max(1);
        match self.changes.get(name) {
            None => {}
            Some(Change::Replace(other)) => {
                if let Some(info) = self.file.spec(other) {
                    self.file.rows(other, info, rows, values)?;
                }
            }
            Some(Change::LowRank { a, b, rank, scale }) => {
                for (row, values) in rows.zip(values.chunks_exact_mut(columns.max(1))) {
                    for (factor, a) in b[row * rank..][..*rank].iter().zip(a.chunks_exact(columns.max(1))) {
                        values.iter_mut().zip(a).for_each(|(value, a)| *value += scale * factor * a);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether `module` is the last layer of an `nn.MultiheadAttention`, which takes that layer's weight alone and never calls it, nor the
/// adapter around it.
fn is_bypassed(base: &TensorFile, module: &str) -> bool {
    module.strip_suffix(".out_proj").is_some_and(|attention| base.spec(&format!("{attention}.in_proj_weight")).is_some())
}

fn is_second(name: &str) -> bool {
    name.ends_with(".lora_B.weight")
}

/// The two matrices of `target`, checked against it: `[r, in]` and `[out, r]` for a weight `[out, in]`,
/// with the axes of a convolution after them.
fn low_rank(
    file: &TensorFile,
    base: &TensorFile,
    target: &str,
    names: [&str; 2],
    rank: usize,
    scale: f32,
) -> Result<Change, CheckpointError> {
    let weight = shape(base, target)?;
    let (rows, inner) = (weight.first().copied().unwrap_or(0), weight.iter().skip(1).copied());
    let a = [rank].into_iter().chain(inner).collect();
    let b = [rows, rank].into_iter().chain(vec![1; weight.len().saturating_sub(2)]).collect();
    let read = |name: &str, expected: Vec<usize>| {
        let found = shape(file, name)?;
        if found != expected {
            return Err(CheckpointError::WrongShape { path: file.path().to_owned(), name: name.to_owned(), found, expected });
        }
        Ok(file.spec(name).map(|info| file.floats(name, info)).transpose()?.unwrap_or_default())
    };
    Ok(Change::LowRank { a: read(names[0], a)?, b: read(names[1], b)?, rank, scale })
}

fn shape(file: &TensorFile, name: &str) -> Result<Vec<usize>, CheckpointError> {
    match file.spec(name) {
        Some(info) => Ok(info.shape.clone()),
        None => Err(CheckpointError::MissingTensor { path: file.path().to_owned(), name: name.to_owned(), expected: Vec::new() }),
    }
}

/// Values for modules whose name, or the end of it after a dot, matches an expression.
struct Patterns<'a, T>(Vec<(Regex, &'a T)>);

impl<'a, T> Patterns<'a, T> {
    fn new(path: &Path, key: &str, patterns: &'a BTreeMap<String, T>) -> Result<Self, CheckpointError> {
        let one = |(pattern, value): (&String, &'a T)| match Regex::new(&format!(r"^(.*\.)?({pattern})$")) {
            Ok(regex) => Ok((regex, value)),
            Err(_) => {
                let expected = "regular expressions for names of modules".into();
                Err(CheckpointError::Config { path: path.to_owned(), key: key.to_owned(), found: pattern.clone(), expected })
            }
        };
        patterns.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    fn of(&self, module: &str) -> Option<&'a T> {
        self.0.iter().find(|(regex, _)| regex.is_match(module)).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_modules_are_an_expression_or_ends_of_names() {
        let modules = |value: Value| serde_json::from_value::<Modules>(value).unwrap();
        let ends = modules(serde_json::json!(["q_proj", "linear1"]));
        let is_target = ends.matcher().unwrap();
        for (name, expected) in [("model.q_proj", true), ("q_proj", true), ("model.eq_proj", false), ("q_proj.other", false)] {
            assert_eq!(is_target(name), expected, "{name}");
        }
        let expression = modules(serde_json::json!(r"model\.(q|v)_proj"));
        let is_target = expression.matcher().unwrap();
        for (name, expected) in [("model.q_proj", true), ("a.model.q_proj", false), ("model.q_proj.a", false)] {
            assert_eq!(is_target(name), expected, "{name}");
        }
        assert!(modules(serde_json::json!("all-linear")).matcher().is_none());
    }
}
