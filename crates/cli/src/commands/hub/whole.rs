//! What is checked of a folder before others see it: that it is whole, as far as that is known without reading all of it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sinew_hub::{CheckFolder, RepoKind};
use sinew_recorder::{DatasetInfo, verify_files};

use crate::text;

const CONFIG: &str = "config.json";
/// Where LeRobot keeps the steps before and after the model, each with the file of its numbers.
const PROCESSORS: [&str; 2] = ["policy_preprocessor.json", "policy_postprocessor.json"];
/// What weights may be in: one file, an adapter's, or several with their list.
const WEIGHTS: [&str; 3] = ["model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json"];
/// How statistics begin their names where they are among the weights, as before LeRobot had processors.
const OLD_STATISTICS: [&str; 3] = ["normalize_inputs.", "normalize_targets.", "unnormalize_outputs."];
/// More than a configuration, or the head of any file of weights, has.
const MOST_BYTES: u64 = 100 << 20;

/// What is checked of a folder that goes up as `kind`. Of chosen files (`is_all` is false) nobody expects a whole policy or dataset.
pub fn check(kind: RepoKind, is_all: bool) -> Option<Box<CheckFolder>> {
    match kind {
        RepoKind::Dataset if is_all => Some(Box::new(|dir: &Path| dataset(dir).and_then(|()| files_of_dataset(dir)))),
        RepoKind::Dataset => Some(Box::new(dataset)),
        RepoKind::Model if is_all => Some(Box::new(policy)),
        _ => None,
    }
}

/// Says what keeps a dataset from being shown to others.
fn dataset(dir: &Path) -> Result<(), String> {
    let info = DatasetInfo::open(dir).map_err(|error| error.to_string())?;
    let shown = text::quoted(dir);
    if info.unfinished {
        return Err(format!(
            "it is being recorded, or a recorder was killed in it; end it, or settle it with `sinew dataset recover {shown}` or \
             `sinew dataset discard {shown}`"
        ));
    }
    if info.total_episodes == 0 {
        return Err("it has no episode; record one first".into());
    }
    Ok(())
}

fn files_of_dataset(dir: &Path) -> Result<(), String> {
    let faults = verify_files(dir).map_err(|error| error.to_string())?;
    let Some(first) = faults.first() else { return Ok(()) };
    let more = if faults.len() > 1 { format!(", and {} more", text::plural(faults.len() as u64 - 1, "fault")) } else { String::new() };
    let shown = text::quoted(dir);
    Err(format!(
        "it is damaged: {first}{more}; `sinew dataset verify {shown}` names all, and `sinew dataset repair {shown}` mends what can be mended"
    ))
}

/// Says what keeps a folder that has a policy's configuration from being one. What else people keep in such a repository is theirs.
fn policy(dir: &Path) -> Result<(), String> {
    let refuse = |what: String| Err(format!("the policy is damaged: {what}; bring the file again from where it was trained"));
    let there = |name: &str| dir.join(name).exists();
    if !there(CONFIG) {
        return Ok(());
    }
    let config = match json(&dir.join(CONFIG)) {
        Ok(config @ Value::Object(_)) => config,
        Ok(_) => return refuse(format!("expected {CONFIG} to hold an object")),
        Err(why) => return refuse(format!("{CONFIG}: {why}")),
    };
    let mut names = Vec::new();
    for path in weights_in(dir).map_err(|error| format!("listing {}: {error}", dir.display()))? {
        match tensors(&path) {
            Ok(tensors) => names.extend(tensors),
            Err(why) => return refuse(format!("{}: {why}", path.file_name().unwrap_or_default().display())),
        }
    }
    // LeRobot's word for the family. Other libraries have other files.
    if config.get("type").and_then(Value::as_str).is_none() {
        return Ok(());
    }
    if !WEIGHTS.iter().any(|name| there(name)) {
        return refuse(format!("there are no weights, expected {} or {}", WEIGHTS[0], WEIGHTS[1]));
    }
    let is_old = names.iter().any(|name| OLD_STATISTICS.iter().any(|begin| name.starts_with(begin)));
    for name in PROCESSORS {
        if !there(name) {
            if is_old {
                continue;
            }
            return refuse(format!("there is no {name}, which has the statistics"));
        }
        let steps = match json(&dir.join(name)) {
            Ok(steps) => steps,
            Err(why) => return refuse(format!("{name}: {why}")),
        };
        let steps = steps.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let lost = steps.iter().filter_map(|step| step.get("state_file")?.as_str()).find(|file| !there(file));
        if let Some(file) = lost {
            return refuse(format!("there is no {file}, whose statistics {name} names"));
        }
    }
    Ok(())
}

/// At most so many bytes of a regular file: nothing is waited for.
fn begin(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    if !path.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".into());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn json(path: &Path) -> Result<Value, String> {
    serde_json::from_slice(&begin(path, MOST_BYTES)?).map_err(|error| format!("it is no JSON ({error})"))
}

fn weights_in(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = dir.read_dir()?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
    paths.sort();
    Ok(paths)
}

/// The names of a file's tensors, if it is as long as its head says: eight bytes with the length of the head, the head, the tensors.
fn tensors(path: &Path) -> Result<Vec<String>, String> {
    let found = path.metadata().map_err(|error| error.to_string())?.len();
    let short = || format!("it has {found} bytes, and its head is longer");
    let length: [u8; 8] = begin(path, 8)?.try_into().map_err(|_short| short())?;
    let length = u64::from_le_bytes(length);
    if length > MOST_BYTES || length > found.saturating_sub(8) {
        return Err(short());
    }
    let head: serde_json::Map<String, Value> =
        serde_json::from_slice(&begin(path, 8 + length)?[8..]).map_err(|error| format!("its head is no JSON ({error})"))?;
    let tensors = || head.iter().filter(|(name, _)| *name != "__metadata__");
    let ends = tensors().map(|(_, tensor)| tensor.get("data_offsets").and_then(|ends| ends.get(1)?.as_u64()));
    let end = ends.collect::<Option<Vec<u64>>>().ok_or("a tensor in its head has no place")?.into_iter().max().unwrap_or_default();
    let expected = end.saturating_add(8 + length);
    if found != expected {
        return Err(format!("it has {found} bytes, expected {expected}"));
    }
    Ok(tensors().map(|(name, _)| name.clone()).collect())
}
