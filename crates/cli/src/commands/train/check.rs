//! What is looked at before a training starts: whether the dataset has what the policy needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use sinew_hub::{Hub, HubRepo, ModelRef, RepoKind};
use sinew_recorder::{DatasetReader, Version};

use super::family::{Family, Images, Norm};
use super::{line, stats};
use crate::args::RigArgs;
use crate::licence::Licence;
use crate::rig::Scenario;
use crate::text::note;
use crate::{text, transfer};

const STATE: &str = "observation.state";
const ENVIRONMENT: &str = "observation.environment_state";
pub const ACTION: &str = "action";
/// The version that LeRobot 0.6.1 opens (its `CODEBASE_VERSION`).
const OPENED: Version = Version::V30;
/// VQ-BeT cuts squares of so many pixels out of images (`crop_shape`).
const VQBET_CROP: u64 = 84;

/// A dataset that a policy can be trained on.
pub struct Dataset {
    /// `owner/name` on the Hub, or what LeRobot is to call a local one.
    pub repo_id: String,
    /// The commit, of one of the Hub.
    pub commit: Option<String>,
    /// The folder of a local one, an absolute path.
    pub root: Option<PathBuf>,
    /// What was found, in a few words.
    pub summary: String,
}

/// A policy to go on from.
pub struct Base {
    /// As `--policy.path` takes it.
    pub path: String,
    pub is_local: bool,
    config: Map<String, Value>,
}

impl Base {
    /// Reads the configuration of the policy that `name` names, and nothing else.
    pub fn open(hub: &Hub, name: &str, is_commercial: bool) -> anyhow::Result<(Self, Family)> {
        let (text, path, is_local) = match ModelRef::parse(name)? {
            ModelRef::Local(folder) => {
                let file = folder.join("config.json");
                let text =
                    std::fs::read_to_string(&file).with_context(|| format!("reading the policy's configuration {}", file.display()))?;
                let folder = std::path::absolute(&folder).with_context(|| format!("finding {}", folder.display()))?;
                (text, line::path_in_words(&folder)?.to_owned(), true)
            }
            ModelRef::Hub(repo) => {
                // It reads the configuration of the default branch, whatever `--policy.pretrained_revision` is.
                ensure!(
                    repo.revision() == HubRepo::DEFAULT_REVISION,
                    "going on from {name}: LeRobot 0.6.1 opens the default branch alone; `sinew hub download {name} --out DIR`, then --from DIR"
                );
                let licence = Licence::of(hub.info(&repo)?.licence().as_deref());
                licence.check(None, &format!("training from {name}"), is_commercial)?;
                if licence.allows_commercial_use() != Some(true) {
                    note!("the licence of {name} is {}", licence.in_words());
                }
                (hub.read_text(&repo, "config.json", &*transfer::shown())?, repo.repo(), false)
            }
        };
        let doing = || format!("reading the configuration of {name}");
        let config: Map<String, Value> = serde_json::from_str(&text).with_context(doing)?;
        let family = config.get("type").and_then(Value::as_str).with_context(|| format!("{}: it names no type of policy", doing()))?;
        let mut family = Family::named(family)?;
        let norm = |kind: &str| config.get("normalization_mapping")?.get(kind)?.as_str().and_then(Norm::named);
        family.state = norm("STATE").unwrap_or(family.state);
        family.action = norm("ACTION").unwrap_or(family.action);
        Ok((Self { path, is_local, config }, family))
    }

    /// Whether its cameras and the dataset's can be those of one policy: LeRobot's
    /// `validate_visual_features_consistency`.
    fn check_cameras(&self, cameras: &BTreeSet<&str>, renames: bool) -> anyhow::Result<()> {
        let Some(inputs) = self.config.get("input_features").and_then(Value::as_object) else { return Ok(()) };
        let own: BTreeSet<&str> = inputs.iter().filter(|(_, it)| it["type"] == "VISUAL").map(|(key, _)| key.as_str()).collect();
        ensure!(
            renames || own.is_empty() || own.is_subset(cameras) || cameras.is_subset(&own),
            "{} looks through {}, the dataset has {}; give lerobot-train a map: -- '--rename_map={{\"{}\": \"{}\"}}'",
            self.path,
            listed(own.iter()),
            listed(cameras.iter()),
            cameras.first().unwrap_or(&"observation.images.…"),
            own.first().unwrap_or(&"observation.images.…"),
        );
        Ok(())
    }

    /// Whether state and action are as wide as what it has learnt from; families that pad them take others. LeRobot takes
    /// the action's width from the dataset and the weights from the policy, so that reading them fails.
    fn check_widths(&self, family: &Family, state: Option<u64>, action: Option<u64>) -> anyhow::Result<()> {
        for (features, key, found) in [("input_features", STATE, state), ("output_features", ACTION, action)] {
            let own = self.config.get(features).and_then(|features| features[key]["shape"].as_array());
            let own = own.map(|shape| shape.iter().filter_map(Value::as_u64).product::<u64>());
            ensure!(
                family.widest.is_some() || own.is_none() || found == own,
                "{} has learnt from {} values of {key}, the dataset has {}",
                self.path,
                own.unwrap_or_default(),
                found.map_or_else(|| "none".to_owned(), |width| width.to_string())
            );
        }
        Ok(())
    }
}

/// The word that gives cameras other names.
const RENAMES: &str = "rename_map";

/// How the dataset is to be used.
pub struct Use<'a> {
    pub family: &'a Family,
    pub base: Option<&'a Base>,
    /// Further words for lerobot-train.
    pub extra: &'a [String],
    /// A task of the simulator at which the policy is to be evaluated.
    pub evaluate: Option<&'a str>,
    pub is_commercial: bool,
    /// Whether the training runs on this machine.
    pub is_here: bool,
}

/// Looks at the dataset that `name` names; of one of the Hub its tables are fetched, neither rows nor videos.
///
/// # Errors
/// For the first thing that it lacks.
pub fn dataset(hub: &Hub, name: &str, wanted: &Use<'_>) -> anyhow::Result<Dataset> {
    let place = ModelRef::parse(name)?;
    let (licence, commit, shown, root) = match &place {
        ModelRef::Local(folder) => {
            let root = std::path::absolute(folder).with_context(|| format!("finding {}", folder.display()))?;
            (Licence::of(stated_licence(&root).as_deref()), None, format!("local/{}", plain_name(&root)), Some(root))
        }
        ModelRef::Hub(repo) => {
            let repo = repo.clone().of_kind(RepoKind::Dataset);
            let resolved = hub.resolve(&repo)?;
            let licence = match &resolved.from_cache {
                None => Licence::of(hub.info(&repo)?.licence().as_deref()),
                Some(_) => Licence::NotStated,
            };
            (licence, Some(resolved.commit), repo.repo(), None)
        }
    };
    licence.check(None, &format!("training on {name}"), wanted.is_commercial)?;
    if licence.allows_commercial_use() != Some(true) && root.is_none() {
        note!("the licence of {name} is {}", licence.in_words());
    }
    let at_commit = commit.as_ref().map_or_else(|| name.to_owned(), |commit| format!("{shown}@{commit}"));
    let reader = sinew::open_dataset_of(hub, &at_commit, transfer::shown())?;
    let doing = || format!("checking {name} for {}", wanted.family.name);
    let summary = check(&reader, wanted).with_context(doing)?;
    if let Some(root) = &root {
        check_whole(root).with_context(doing)?;
    }
    if let (None, true) = (&root, wanted.is_here)
        && let Some(other) = lerobot_copy(&shown)
    {
        note!("LeRobot takes its own copy of {shown} in {}, whatever commit that is; remove it to train on the Hub's", other.display());
    }
    let licence = if licence == Licence::NotStated { "not stated".to_owned() } else { licence.in_words() };
    Ok(Dataset { repo_id: shown, commit, root, summary: format!("{summary}, licence {licence}") })
}

/// That all of a dataset is there which is said to be.
fn check_whole(root: &Path) -> anyhow::Result<()> {
    const WHAT: &str = "it is not whole; see `sinew dataset verify` and `sinew dataset repair`";
    let mut faults = sinew_recorder::verify(root).context(WHAT)?;
    // Statistics are held against what the family needs of them.
    faults.retain(|fault| fault.path != Path::new("meta/stats.json"));
    let Some(first) = faults.first() else { return Ok(()) };
    let more = if faults.len() > 1 { format!(" (and {} more faults)", faults.len() - 1) } else { String::new() };
    anyhow::bail!("{WHAT}: {}{more}", text::harmless(&first.to_string()))
}

/// What the dataset lacks is an error, what was found the answer.
fn check(reader: &DatasetReader, wanted: &Use<'_>) -> anyhow::Result<String> {
    let family = wanted.family;
    ensure!(
        reader.version() == OPENED,
        "it is of version {}, LeRobot 0.6.1 opens {OPENED}; make one by `sinew dataset convert DIR --to {OPENED} --out NEW`",
        reader.version()
    );
    ensure!(!reader.episodes().is_empty(), "it has no episode");
    let left: u64 = reader.episodes().iter().map(|episode| episode.length.saturating_sub(family.drops)).sum();
    ensure!(
        left > 0,
        "all {} episodes are of {} frames at most, and {} can't learn from the last {} of an episode",
        reader.episodes().len(),
        reader.episodes().iter().map(|episode| episode.length).max().unwrap_or(0),
        family.name,
        family.drops
    );
    let hz = reader.fps().hz();
    if hz.fract() != 0.0 {
        note!("the dataset's rate is {hz} Hz; LeRobot's own tools know whole numbers alone");
    }
    let width = |key: &str| Some(reader.features().get(key)?["shape"].as_array()?.iter().filter_map(Value::as_u64).product::<u64>());
    ensure!(width(ACTION).is_some(), "it has no feature {ACTION}; it has {}", listed(reader.features().keys()));
    if family.needs_state {
        ensure!(
            width(STATE).is_some(),
            "it has no feature {STATE}, which {} reads; it has {}",
            family.name,
            listed(reader.features().keys())
        );
    }
    let dtype = reader.features()[ACTION]["dtype"].as_str().unwrap_or_default();
    let shape = &reader.features()[ACTION]["shape"];
    ensure!(
        dtype.starts_with("float") && shape.as_array().is_some_and(|shape| shape.len() == 1) && width(ACTION) > Some(0),
        "{ACTION} is {dtype:?} of the shape {shape}, expected numbers (float32) in one row"
    );
    if let (None, Some(exact)) = (wanted.base, family.exact) {
        for (key, (name, exact)) in [STATE, ACTION].into_iter().zip(exact) {
            let word = format!("policy.{name}");
            ensure!(
                width(key).is_none_or(|width| width == exact) || line::said(wanted.extra, &word).is_some(),
                "{key} has {} values, {} takes {exact}; say otherwise by -- --{word}=…",
                width(key).unwrap_or_default(),
                family.name
            );
        }
    }
    for (key, of_family) in [(STATE, family.widest.map(|it| it.0)), (ACTION, family.widest.map(|it| it.1))] {
        if let (Some(width), Some(widest)) = (width(key), of_family) {
            ensure!(width <= widest, "{key} has {width} values, {} takes {widest} at most", family.name);
        }
    }
    let cameras: BTreeSet<&str> = reader.cameras().collect();
    check_images(reader, family, &cameras)?;
    if let Some(base) = wanted.base {
        base.check_cameras(&cameras, line::said(wanted.extra, RENAMES).is_some())?;
        base.check_widths(family, width(STATE), width(ACTION))?;
    }
    if family.reads_task {
        let is_told = reader.tasks().iter().any(|task| !task.trim().is_empty());
        ensure!(is_told, "no episode has a task in words, which {} reads", family.name);
    }
    stats::check(reader, family, &cameras)?;
    if let Some(task) = wanted.evaluate {
        check_evaluation(reader, task, wanted).with_context(|| format!("--evaluate {task}"))?;
    }
    let count = reader.episodes().len();
    Ok(format!("{count} episodes, {} frames at {hz} Hz, {} cameras", reader.total_frames(), cameras.len()))
}

/// That `sinew eval` will have the task, and the dataset is one of its robot.
fn check_evaluation(reader: &DatasetReader, task: &str, wanted: &Use<'_>) -> anyhow::Result<()> {
    let family = wanted.family.name;
    ensure!(sinew_policy::FAMILIES.contains(&family), "sinew runs policies of {}, not of {family}", sinew_policy::FAMILIES.join(", "));
    let scenario = Scenario::of(&RigArgs { task: Some(task.to_owned()), ..RigArgs::default() })?;
    let robot = scenario.robot();
    for (key, expected) in [(STATE, robot.state_names()), (ACTION, robot.action_names())] {
        let Some(feature) = reader.features().get(key) else { continue };
        let names: Option<Vec<&str>> = feature["names"].as_array().and_then(|names| names.iter().map(Value::as_str).collect());
        let fits = match &names {
            Some(names) => *names == expected,
            None => feature["shape"][0] == expected.len(),
        };
        ensure!(
            fits,
            "the simulator has the robot {}, whose {key} is {}; the dataset's is {}",
            robot.name,
            expected.join(", "),
            names.map_or_else(|| feature["shape"].to_string(), |names| listed(names.iter()))
        );
    }
    let known: Vec<String> = robot.cameras.iter().map(|camera| format!("observation.images.{}", camera.name)).collect();
    // A policy that goes on from another may look through cameras of other names.
    let other = reader.cameras().find(|camera| wanted.base.is_none() && !known.iter().any(|known| known == camera));
    if let Some(camera) = other {
        anyhow::bail!("the simulator's robot {} looks through {}; the dataset has {}", robot.name, known.join(", "), text::in_line(camera));
    }
    Ok(())
}

fn check_images(reader: &DatasetReader, family: &Family, cameras: &BTreeSet<&str>) -> anyhow::Result<()> {
    let sizes: Vec<(&str, Value)> = cameras.iter().map(|key| (*key, reader.features()[*key]["shape"].clone())).collect();
    let (name, found) = (family.name, if cameras.is_empty() { "none".to_owned() } else { listed(cameras.iter()) });
    match family.images {
        Images::OneOrEnvironment => ensure!(
            !cameras.is_empty() || reader.features().contains_key(ENVIRONMENT),
            "{name} needs a camera, or the feature {ENVIRONMENT}; it has neither"
        ),
        Images::AtLeastOne => ensure!(!cameras.is_empty(), "{name} needs a camera; it has none"),
        Images::ExactlyOne => ensure!(
            cameras.len() == 1,
            "{name} needs one camera and no more, found {found}; take the others away by `sinew dataset remove-feature`"
        ),
        Images::OneSquareAtMost => {
            ensure!(cameras.len() <= 1, "{name} takes one camera at most, found {found}");
            let is_square = |shape: &Value| shape[0] == shape[1];
            ensure!(sizes.iter().all(|(_, shape)| is_square(shape)), "{name} takes square images alone, found {}", sizes[0].1);
        }
        Images::Any => {}
    }
    if family.same_size {
        let other = sizes.iter().find(|(_, shape)| *shape != sizes[0].1);
        if let Some((key, shape)) = other {
            anyhow::bail!("{name} needs images of one size: {} is {}, {key} is {shape}", sizes[0].0, sizes[0].1);
        }
    }
    if name == "vqbet" {
        let is_large = |shape: &Value| [0, 1].iter().all(|at| shape[*at].as_u64().is_some_and(|pixels| pixels >= VQBET_CROP));
        ensure!(
            sizes.iter().all(|(_, shape)| is_large(shape)),
            "vqbet cuts {VQBET_CROP}x{VQBET_CROP} pixels out of images, found {}",
            sizes[0].1
        );
    }
    Ok(())
}

fn listed<T: AsRef<str>>(names: impl Iterator<Item = T>) -> String {
    names.map(|name| text::in_line(name.as_ref()).into_owned()).collect::<Vec<_>>().join(", ")
}

/// The licence that the card of a local dataset states.
fn stated_licence(root: &Path) -> Option<String> {
    let card = std::fs::read_to_string(root.join("README.md")).ok()?;
    let head = card.strip_prefix("---")?.split("\n---").next()?.to_owned();
    let line = head.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

/// The last part of a path, in the characters that names on the Hub have.
pub fn plain_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let plain = plain.trim_matches(['.', '-']);
    if plain.is_empty() { "dataset".to_owned() } else { plain.to_owned() }
}

/// A dataset of this name that LeRobot finds before it asks the Hub (its `HF_LEROBOT_HOME`).
fn lerobot_copy(repo_id: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let hf_home = || set("HF_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")));
    let home = set("HF_LEROBOT_HOME").or_else(|| Some(hf_home()?.join("lerobot")))?;
    Some(home.join(repo_id)).filter(|folder| folder.join("meta/info.json").is_file())
}

/// The name of a dataset as it stands in the default folder of a run.
pub fn short_name(dataset: &str) -> String {
    let name = dataset.split('@').next().unwrap_or(dataset);
    plain_name(Path::new(name.trim_end_matches('/')))
}
