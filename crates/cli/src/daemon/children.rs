//! Verbs of this program as processes of their own, which never outlive the daemon.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::lifeline;
use crate::transfer;

/// Between two looks whether one has ended.
pub const LOOK: Duration = Duration::from_millis(50);

/// Starts this program with `words`. It ends when what comes second is dropped, which the system does with this process.
pub fn start(words: &[String]) -> io::Result<(Child, Option<ChildStdin>)> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(words).env(lifeline::VARIABLE, "1").env(transfer::TELL, "1").process_group(0);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lifeline = child.stdin.take();
    Ok((child, lifeline))
}

/// Ends it at once, and what it has started.
pub fn end(child: &Child) {
    // One that has ended by itself is fine, too.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}
