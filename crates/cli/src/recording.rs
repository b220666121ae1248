//! Opens the recorder that a verb's options ask for.

use std::path::{Path, PathBuf};

use sinew_recorder::{DatasetInfo, DatasetRecorder, RecorderOptions};

use crate::args::RecordingArgs;
use crate::commands::dataset::settle;
use crate::rig::Rig;

/// Whether a recording into `root` could begin, or go on, as it is asked; nothing is written.
pub fn may_begin(root: &Path, args: &RecordingArgs) -> anyhow::Result<()> {
    if args.resume {
        DatasetInfo::open(root)?;
    } else if holds_something(root) && !DatasetInfo::open(root).is_ok_and(|info| info.total_episodes == 0 && !info.unfinished) {
        anyhow::bail!("recording to {}: it holds something, expected a folder that is empty or not there, or --resume", root.display());
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
        if sinew_recorder::remove_begun(root).is_ok_and(|removed| removed) && !was_there {
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// A recorder into `root` of what `rig` does, begun or gone on with; with `interventions` its rows say whether a human acted.
/// Episodes of a robot with another calibration can't be added. With each episode it keeps which `policy` acted.
pub fn open(
    root: &Path,
    rig: &Rig,
    args: &RecordingArgs,
    real_time: bool,
    interventions: bool,
    policy: Option<serde_json::Value>,
) -> anyhow::Result<DatasetRecorder> {
    let robot = rig.robot.description();
    let mut options = RecorderOptions { interventions, calibration: rig.calibration(), ..args.options(real_time) };
    if let Some(cameras) = rig.cameras.note() {
        options.note.insert("cameras".to_owned(), cameras);
    }
    options.note.extend(policy.map(|policy| ("policy".to_owned(), policy)));
    let fps = robot.control_rate_hz;
    if !args.resume {
        return Ok(DatasetRecorder::create(root, robot, fps, options)?);
    }
    let mut recorder = DatasetRecorder::resume(root, robot, fps, options)?;
    settle(&mut recorder, args.unfinished)?;
    Ok(recorder)
}
