//! `sinew watchdog`, which other verbs start beside themselves.

use std::os::fd::AsFd;

use anyhow::Context;
use sinew_runtime::{Realtime, RealtimeRequest, WATCHDOG_PATIENCE, Watched, watch, write_lifeline};

use crate::Done;

/// Listens on standard input until the process at its other end has ended in order, or does for it what
/// it can't any more.
pub fn run(title: &str, priority: Option<u8>) -> anyhow::Result<Done> {
    Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standing by: finding the process to watch")?;
    let watched = watch(socket, WATCHDOG_PATIENCE, write_lifeline)?;
    let why = match watched {
        Watched::Ended => return Ok(Done::Ok),
        Watched::Gone => "was gone while torque was on",
        Watched::Frozen => "made no progress for 0.1 s while torque was on",
    };
    crate::text::note!("watchdog: the process that drove {title} {why}; its safe action was done");
    Ok(Done::Refused)
}
