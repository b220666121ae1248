//! The second process that stands by, in case this one can't bring its robot into the safe action.

use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use sinew_core::RobotDescription;
use sinew_runtime::{StopFlag, Watchdog};

/// Starts this program once more, to stand by. Wherever a real motor is given torque there is one. With a `priority` it
/// runs before all ordinary programs, just below the control thread.
pub fn watch(robot: &RobotDescription, stop: &StopFlag, priority: Option<u8>) -> anyhow::Result<Arc<Watchdog>> {
    let program = std::env::current_exe().context("starting the watchdog: finding this program")?;
    let priority = priority.map(|priority| priority.saturating_sub(1).max(1));
    let mut command = Command::new(program);
    command.arg("watchdog").args(priority.map(|priority| format!("--fifo={priority}"))).args(["--", &robot.title]);
    Ok(Arc::new(Watchdog::start(&mut command, stop.clone(), priority).context("starting the watchdog")?))
}

/// What is not plain from what the user did.
pub fn say_why_it_ended(stop: &StopFlag) {
    if stop.was_suspended() {
        crate::text::note!("Ctrl-Z ended the run: a frozen process can't hold an arm");
    }
}
