//! Opens the recorder that a verb's options ask for.

use std::path::Path;

use sinew_core::RobotDescription;
use sinew_recorder::{DatasetRecorder, RecorderOptions};

use crate::args::RecordingArgs;
use crate::commands::dataset::settle;

/// A recorder into `root`, begun or gone on with; with `interventions` its rows say whether a human acted.
pub fn open(
    root: &Path,
    robot: &RobotDescription,
    args: &RecordingArgs,
    real_time: bool,
    interventions: bool,
) -> anyhow::Result<DatasetRecorder> {
    let (fps, options) = (robot.control_rate_hz, RecorderOptions { interventions, ..args.options(real_time) });
    if !args.resume {
        return Ok(DatasetRecorder::create(root, robot, fps, options)?);
    }
    let mut recorder = DatasetRecorder::resume(root, robot, fps, options)?;
    settle(&mut recorder, args.unfinished)?;
    Ok(recorder)
}
