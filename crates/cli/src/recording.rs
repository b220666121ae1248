//! Opens the recorder that a verb's options ask for.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value as Json;
use sinew_core::RobotDescription;
use sinew_recorder::{DatasetInfo, DatasetRecorder, RecorderOptions};

use crate::args::{Misuse, RecordingArgs};
use crate::commands::dataset::settle;
use crate::rig::Rig;
use crate::text::note;

/// Whether a recording of `robot` into `root` could begin, or go on, as it is asked; nothing is written.
pub fn may_begin(root: &Path, robot: &RobotDescription, args: &RecordingArgs, real_time: bool) -> anyhow::Result<()> {
    let doing = || format!("recording to {}", root.display());
    anyhow::ensure!(root.to_str().is_some(), Misuse(format!("{}: expected a name in UTF-8, as datasets' readers do", doing())));
    if root.exists() && !root.is_dir() {
        anyhow::bail!("{}: it is a file, expected a folder that is empty or not there, or a dataset's with --resume", doing());
    }
    if let Some(above) = root.ancestors().skip(1).find(|above| above.exists() && !above.is_dir()) {
        anyhow::bail!("{}: {} is a file, expected a folder", doing(), above.display());
    }
    DatasetRecorder::check(robot, robot.control_rate_hz, &args.options(real_time)).with_context(doing)?;
    if args.resume {
        DatasetInfo::open(root)?;
    } else if holds_something(root) {
        let info = DatasetInfo::open(root).ok().filter(|info| info.total_episodes == 0);
        anyhow::ensure!(
            info.as_ref().is_none_or(|info| !info.unfinished),
            "{}: it holds an episode that was not finished; --resume offers to keep it, `sinew dataset discard {}` removes it",
            doing(),
            root.display()
        );
        anyhow::ensure!(info.is_some(), "{}: it holds something, expected a folder that is empty or not there, or --resume", doing());
    }
    Ok(())
}

fn holds_something(root: &Path) -> bool {
    std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some())
}

/// A recording that may fail before there is an episode: unless it [`stands`](Self::stands), nothing is left of it then when
/// this goes out of scope. To be made before the recorder, which has to be gone.
pub struct Begun(Option<(PathBuf, bool)>);

impl Begun {
    pub fn at(root: &Path, args: &RecordingArgs) -> Self {
        Self((!args.resume && !holds_something(root)).then(|| (root.to_owned(), root.exists())))
    }

    /// It came to its end in order.
    pub fn stands(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some((root, was_there)) = &self.0 else { return };
        // What can't be removed is a dataset without an episode, which is told by whoever looks.
        drop(sinew_recorder::remove_begun(root));
        // A disk that is full may have taken no more than the folder, and a folder goes only when nothing is in it.
        if !was_there {
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// Says what is left of an episode that a stop broke off, and whether anything is; the recorder has to be gone.
pub fn tell_left(root: &Path) -> bool {
    let Ok(Some(left)) = sinew_recorder::unfinished(root) else { return false };
    note!(
        "the episode that was stopped after {:.1} s is kept in {} as one that was not finished: the next recording into it takes it in, \
         `sinew dataset discard {}` removes it",
        left.duration_s,
        root.display(),
        crate::text::quoted(root)
    );
    true
}

/// A recorder into `root` of what `rig` does, begun or gone on with; with `interventions` its rows say whether a human acted.
/// A file that has `file_episodes` is closed. Episodes of a robot with another calibration can't be added. With each episode it keeps which `policy` acted.
pub fn open(
    root: &Path,
    rig: &Rig,
    args: &RecordingArgs,
    (real_time, interventions): (bool, bool),
    file_episodes: Option<u64>,
    policy: Option<serde_json::Value>,
) -> anyhow::Result<DatasetRecorder> {
    let robot = rig.robot.description();
    let mut options = RecorderOptions { interventions, file_episodes, calibration: rig.calibration(), ..args.options(real_time) };
    let cameras = rig.cameras.note();
    if let Some(cameras) = &cameras {
        options.note.insert("cameras".to_owned(), cameras.clone());
    }
    options.note.extend(policy.map(|policy| ("policy".to_owned(), policy)));
    let fps = robot.control_rate_hz;
    if !args.resume {
        return DatasetRecorder::create(root, robot, fps, options).with_context(|| format!("recording to {}", root.display()));
    }
    let mut recorder = DatasetRecorder::resume(root, robot, fps, options)?;
    let last = recorder.last_episode()?.unwrap_or_default();
    if let Some(cameras) = cameras.filter(|_| !args.other_cameras) {
        check_cameras(root, &last["cameras"], &cameras)?;
    }
    let has_telemetry = root.join("sinew/ticks").is_dir();
    if recorder.totals().episodes > 0 && has_telemetry == args.no_telemetry {
        let (were, are) = if has_telemetry { ("have", "will have none") } else { ("have no", "will have it") };
        note!("{}: its episodes {were} telemetry, those to come {are}", root.display());
    }
    settle(&mut recorder, args.unfinished)?;
    Ok(recorder)
}

/// Whether cameras see from where those of the last episode did: two that are swapped spoil all episodes.
fn check_cameras(root: &Path, before: &Json, now: &Json) -> anyhow::Result<()> {
    let moved = now.as_object().into_iter().flatten().filter_map(|(name, camera)| {
        let (before, now) = (before[name]["source"].as_str()?, camera["source"].as_str()?);
        (before != now).then(|| format!("{name} is {now} and was {before}"))
    });
    let moved: Vec<String> = moved.collect();
    anyhow::ensure!(
        moved.is_empty(),
        "going on with {}: expected the cameras of its last episode, found that {}; --other-cameras goes on all the same",
        root.display(),
        moved.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        recording: RecordingArgs,
    }

    #[test]
    fn a_recording_that_could_not_begin_leaves_no_folder_of_its_own() {
        let args = Line::parse_from(["x"]).recording;
        let folder = tempfile::tempdir().unwrap();
        let (new, old, used) = (folder.path().join("new"), folder.path().join("old"), folder.path().join("used"));
        std::fs::create_dir(&old).unwrap();
        let begun: Vec<_> = [&new, &old, &used].map(|root| Begun::at(root, &args)).into();
        // What a full disk leaves.
        std::fs::create_dir(&new).unwrap();
        std::fs::create_dir(&used).unwrap();
        std::fs::write(used.join("of somebody"), "x").unwrap();
        drop(begun);
        assert!(!new.exists() && old.exists() && used.join("of somebody").exists());
    }
}
