//! The operations, each answering its plan.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::assembly::{Assembly, Part};
use super::plan::{Plan, open};
use super::state::Origin;
use super::{CameraForm, CameraWork, Conversion, ToolError, quoted};
use crate::format::schema::{ACTION, DEFAULT_FEATURES, RIG, video_info};
use crate::format::schema::{is_camera, is_depth, picture_size};
use crate::write::dataset::rig;
use crate::{DatasetReader, DepthRange, ReadError};

fn refused(what: &str, why: impl Into<String>) -> ToolError {
    ToolError::Plan { what: what.to_owned(), why: why.into() }
}

fn parts_of(source: usize, reader: &DatasetReader, episodes: impl IntoIterator<Item = u64>) -> Result<Vec<Part>, ReadError> {
    episodes.into_iter().map(|episode| Ok(Part { source, episode, frames: reader.episode(episode)?.length })).collect()
}

fn listed(episodes: &BTreeSet<u64>) -> String {
    let mut text = episodes.iter().take(12).map(u64::to_string).collect::<Vec<_>>().join(", ");
    if episodes.len() > 12 {
        text.push_str(", …");
    }
    text
}

/// Plans to remove `episodes` from the dataset in `root`. Those that follow are numbered anew, tasks
/// that no episode has any more go, and the statistics are those of what stays.
///
/// # Errors
/// When the dataset can't be read, or has no such episode, or no other.
pub fn plan_delete(root: &Path, episodes: &[u64]) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let gone: BTreeSet<u64> = episodes.iter().copied().collect();
    for episode in &gone {
        reader.episode(*episode)?;
    }
    let stay = (0..reader.episodes().len() as u64).filter(|episode| !gone.contains(episode));
    let parts = parts_of(0, &reader, stay)?;
    let operation = format!("delete {} of {} episodes", gone.len(), reader.episodes().len());
    let changes = vec![format!("episodes that go: {}", listed(&gone))];
    Plan::new(operation, changes, vec![(String::new(), Assembly { parts, ..Assembly::of_all(reader) })])
}

/// Plans to make of each named list of episodes of the dataset in `root` a dataset of its own.
///
/// # Errors
/// When the dataset can't be read, a name makes no folder or stands twice, or there is no such episode.
pub fn plan_split(root: &Path, parts: &[(String, Vec<u64>)]) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let operation = format!("split {} into {}", plural(reader.episodes().len(), "episode"), plural(parts.len(), "dataset"));
    let (mut results, mut names) = (Vec::new(), BTreeSet::new());
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    for (name, episodes) in parts {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) || !names.insert(name) {
            return Err(refused(&operation, format!("{name:?} is no name of a part; expected a plain folder name")));
        }
        if let Some(twice) = episodes.iter().find(|episode| !taken.insert(**episode)) {
            return Err(refused(&operation, format!("episode {twice} is named twice")));
        }
        let parts = parts_of(0, &reader, episodes.iter().copied())?;
        results.push((name.clone(), Assembly { parts, ..Assembly::of_all(reader.clone()) }));
    }
    let left = reader.episodes().len() - taken.len();
    let changes = if left > 0 { vec![format!("{left} episodes are in none of them")] } else { Vec::new() };
    Plan::new(operation, changes, results)
}

/// Plans to split the dataset in `root` in order, each named part its share of the episodes.
///
/// # Errors
/// As [`plan_split`]; when shares are not positive or more than 1 together, or a part would be empty.
pub fn plan_split_by_share(root: &Path, shares: &[(String, f64)]) -> Result<Plan, ToolError> {
    let all: Vec<u64> = (0..open(root)?.episodes().len() as u64).collect();
    plan_split_chosen(root, shares, &all)
}

/// Plans to split `chosen` episodes of the dataset in `root` in their order, each named part its share of them.
///
/// # Errors
/// As [`plan_split_by_share`].
pub fn plan_split_chosen(root: &Path, shares: &[(String, f64)], chosen: &[u64]) -> Result<Plan, ToolError> {
    let episodes = chosen.len();
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    if shares.iter().any(|(_, share)| share.is_nan() || *share <= 0.0) || total > 1.0 + 1e-9 {
        return Err(refused(
            "split by shares",
            format!("the shares are {}, expected positive ones of at most 1 together", in_words(shares)),
        ));
    }
    let (mut parts, mut begin, mut sum) = (Vec::new(), 0usize, 0.0);
    for (name, share) in shares {
        sum += share;
        let end = ((sum * episodes as f64).round() as usize).clamp(begin, episodes);
        parts.push((name.clone(), chosen[begin..end].to_vec()));
        begin = end;
    }
    plan_split(root, &parts)
}

/// Plans to put the datasets in `roots`, one after another, into one. Tasks of the same words become
/// one. Videos are copied without being encoded again.
///
/// # Errors
/// When one can't be read, or they differ in rate, robot, or features.
pub fn plan_merge(roots: &[PathBuf]) -> Result<Plan, ToolError> {
    let operation = format!("merge {} datasets", roots.len());
    let sources: Vec<Origin> = roots.iter().map(|root| open(root)).collect::<Result<_, _>>()?;
    let Some(first) = sources.first() else { return Err(refused(&operation, "there is none")) };
    for other in &sources[1..] {
        let mut differences = vec![
            ("fps".to_owned(), first.fps().to_string(), other.fps().to_string()),
            ("robot_type".to_owned(), robot_type(first), robot_type(other)),
        ];
        differences.extend(differing_features(first.features(), other.features()));
        differences.retain(|(_, mine, theirs)| mine != theirs);
        if !differences.is_empty() {
            let (one, two) = (first.root().display(), other.root().display());
            let told: Vec<String> =
                differences.iter().map(|(what, mine, theirs)| format!("{what} is {mine} in {one}, but {theirs} in {two}")).collect();
            return Err(refused(&operation, told.join("; ")));
        }
    }
    let mut parts = Vec::new();
    for (source, reader) in sources.iter().enumerate() {
        parts.extend(parts_of(source, reader, 0..reader.episodes().len() as u64)?);
    }
    let changes = differing_rigs(&sources)?;
    let assembly = Assembly { parts, ..Assembly::of_all(first.clone()) };
    Plan::new(operation, changes, vec![(String::new(), Assembly { sources, ..assembly })])
}

fn in_words(shares: &[(String, f64)]) -> String {
    shares.iter().map(|(name, share)| format!("{name}={share}")).collect::<Vec<_>>().join(", ")
}

/// As errors show it.
fn robot_type(of: &DatasetReader) -> String {
    of.robot_type().map_or_else(|| "not said".to_owned(), |name| format!("{name:?}"))
}

/// What [`RIG`] says that is not the same in all of them, which is why the result has none.
fn differing_rigs(sources: &[Origin]) -> Result<Vec<String>, ReadError> {
    let rigs: Vec<Map<String, Value>> = sources.iter().map(|source| rig(source.root())).collect::<Result<_, _>>()?;
    let names: BTreeSet<&String> = rigs.iter().flat_map(Map::keys).collect();
    let line = |name: &String| {
        let said = |at: usize| rigs[at].get(name).map_or("not known".to_owned(), Value::to_string);
        let other = (1..rigs.len()).find(|at| rigs[*at].get(name) != rigs[0].get(name))?;
        let (one, two) = (sources[0].root().display(), sources[other].root().display());
        Some(format!("{RIG} is left out: {name} is {} in {one}, but {} in {two}", said(0), said(other)))
    };
    Ok(names.into_iter().filter_map(line).collect())
}

/// The features that are others in `theirs`, or are missing on one side: what each is on both.
fn differing_features(mine: &Map<String, Value>, theirs: &Map<String, Value>) -> Vec<(String, String, String)> {
    let text = |feature: Option<&Value>, names: bool| match feature {
        None => "missing".to_owned(),
        Some(feature) if names => format!("{} {} {}", feature["dtype"], feature["shape"], feature["names"]),
        Some(feature) => format!("{} {}", feature["dtype"], feature["shape"]),
    };
    let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
    let differing = keys.into_iter().filter_map(|key| {
        let (one, other) = (mine.get(key), theirs.get(key));
        // The names of its numbers are told where nothing else differs.
        let names = text(one, false) == text(other, false);
        let (one, other) = (text(one, names), text(other, names));
        (one != other).then(|| (key.clone(), one, other))
    });
    differing.collect()
}

/// Plans to remove features, such as a camera, from the dataset in `root`.
///
/// # Errors
/// When the dataset can't be read, or has no such feature, or can't be without it.
pub fn plan_remove_features(root: &Path, names: &[String]) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let operation = format!("remove the features {}", names.join(", "));
    let mut assembly = Assembly { first_tasks: reader.tasks().to_vec(), ..Assembly::of_all(reader) };
    for name in names {
        if DEFAULT_FEATURES.iter().any(|(default, _)| default == name) {
            return Err(refused(&operation, format!("every dataset has {name}")));
        }
        if name == ACTION {
            return Err(refused(&operation, format!("{name} is what LeRobot trains policies to answer")));
        }
        if assembly.features.shift_remove(name).is_none() {
            let known: Vec<&str> = assembly.features.keys().map(String::as_str).collect();
            return Err(refused(&operation, format!("there is no {name}, but {}", known.join(", "))));
        }
    }
    Plan::new(operation, Vec::new(), vec![(String::new(), assembly)])
}

/// Plans to give a task of the dataset in `root` other words; those of another task make them one.
///
/// # Errors
/// When the dataset can't be read or has no such task.
pub fn plan_rename_task(root: &Path, from: &str, to: &str) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let operation = format!("rename the task {from:?} to {to:?}");
    if !reader.tasks().iter().any(|task| task == from) {
        return Err(refused(&operation, format!("its tasks are {}", quoted(reader.tasks()))));
    }
    if to.trim().is_empty() {
        return Err(refused(&operation, "a task needs words"));
    }
    let assembly = Assembly { first_tasks: reader.tasks().to_vec(), ..Assembly::of_all(reader) };
    let renamed_tasks = [(from.to_owned(), to.to_owned())].into();
    Plan::new(operation, Vec::new(), vec![(String::new(), Assembly { renamed_tasks, ..assembly })])
}

/// Plans to compute all statistics of the dataset in `root` anew, those of images from decoded ones.
///
/// # Errors
/// When the dataset can't be read.
pub fn plan_stats(root: &Path) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let assembly = Assembly { first_tasks: reader.tasks().to_vec(), recompute_images: true, ..Assembly::of_all(reader) };
    Plan::new("recompute the statistics".to_owned(), Vec::new(), vec![(String::new(), assembly)])
}

/// Plans to bring the dataset in `root` into another version of the format, or its images into another
/// form. Rows, and videos that are not encoded anew, stay as they are.
///
/// # Errors
/// When the dataset can't be read, or nothing would change, or cameras can't be in that form.
pub fn plan_convert(root: &Path, conversion: &Conversion) -> Result<Plan, ToolError> {
    let reader = open(root)?;
    let version = conversion.version.unwrap_or(reader.version());
    let mut changes = Vec::new();
    let mut assembly = Assembly { first_tasks: reader.tasks().to_vec(), ..Assembly::of_all(reader.clone()) };
    assembly.version = version;
    if version != reader.version() {
        changes.push(format!("format {} becomes {version}", reader.version()));
    }
    let operation = "convert the dataset".to_owned();
    for (key, feature) in reader.features().iter().filter(|(_, feature)| is_camera(feature)) {
        let is_video = feature["dtype"] == "video";
        let Some(form) = conversion.cameras.as_ref() else { continue };
        if is_depth(feature) {
            changes.push(format!("{key} stays: it is of depth"));
            continue;
        }
        let target = &mut assembly.features[key.as_str()];
        match form {
            CameraForm::Images if is_video => {
                target["dtype"] = "image".into();
                target["info"] = Value::Null;
                if let Value::Object(target) = target {
                    target.shift_remove("info");
                }
                changes.push(format!("{key}: video becomes images"));
            }
            CameraForm::Images => {}
            CameraForm::Video(options) => {
                let form = if is_video { "video is encoded anew" } else { "images become video" };
                changes.push(format!("{key}: {form} by {}", options.encoder));
                let (width, height) = picture_size(feature).unwrap_or_default();
                target["dtype"] = "video".into();
                target["info"] = video_info((width as u32, height as u32, reader.fps()), false, options, &DepthRange::default());
                assembly.cameras.insert(key.clone(), CameraWork::Encode(options.clone()));
            }
        }
    }
    if changes.iter().all(|change| change.ends_with("of depth")) {
        return Err(refused(&operation, format!("it is in format {version} already, and no camera changes")));
    }
    Plan::new(operation, changes, vec![(String::new(), assembly)])
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
