//! A process that ends with the one that started it, however that ends: it has its standard input from a pipe that nobody writes
//! to, and whose other end the system closes with the process that holds it.

use std::io::{ErrorKind, Read as _};

use rustix::fs::FileType;
use rustix::process::{Signal, getpgrp, getpid, kill_process_group};

/// Tells a process to do so.
pub const VARIABLE: &str = "SINEW_ENDS_WITH_STDIN";

/// Where the environment says so, this process ends with its standard input, and all that it has started in its group.
pub fn hold_on() {
    // Who inherits the variable alone is not meant.
    let is_pipe = || rustix::fs::fstat(std::io::stdin()).is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::Fifo);
    if std::env::var_os(VARIABLE).is_none() || !is_pipe() {
        return;
    }
    #[expect(clippy::exit, reason = "nobody is left whom an end in order would be for")]
    let wait = || {
        let mut bytes = [0; 64];
        loop {
            match std::io::stdin().lock().read(&mut bytes) {
                Ok(0) => break,
                // Nobody writes anything.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if getpgrp() == getpid() {
            let _ = kill_process_group(getpid(), Signal::KILL);
        }
        std::process::exit(1);
    };
    if let Err(error) = std::thread::Builder::new().name("lifeline".into()).spawn(wait) {
        tracing::warn!(%error, "starting the thread that ends this process with the one that started it");
    }
}
