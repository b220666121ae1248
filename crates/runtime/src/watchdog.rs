//! A process beside the main one that ends in the robot's safe action when that can't any more.
//!
//! The main process starts it and writes it a byte every few milliseconds through its standard input:
//! `+` while torque is on, `-` while it is off. The watchdog acts when the last byte was `+` and the
//! pipe closes (the main process was killed) or nothing comes for a while (it was frozen).

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{Progress, Realtime, RealtimeRequest, StopFlag, StopLevel};

/// How often the main process says that it is alive.
const BEAT: Duration = Duration::from_millis(5);
/// How long the main process may say nothing while torque is on: 0.1 s, so that the safe action is
/// done within 0.15 s.
pub const WATCHDOG_PATIENCE: Duration = Duration::from_millis(100);

const ARMED: u8 = b'+';
const DISARMED: u8 = b'-';

/// The main process's end. Dropping it lets the watchdog go.
pub struct Watchdog {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts `command`, which is to call [`watch`] with its standard input, and tells it from now on
    /// whether the session behind `progress` is armed. It runs in a process group of its own, so Ctrl-C
    /// doesn't reach it. With a `priority` the thread that writes to it asks for `SCHED_FIFO`, so that a busy
    /// machine is not taken for a frozen process; the watchdog should ask for the same, and both for less than the
    /// control thread. Should it end, or have acted because this process was frozen, `stop` is raised
    /// to [`StopLevel::Now`]: the arm is no longer this process's.
    ///
    /// # Errors
    /// When the process or its thread cannot be started.
    pub fn start(command: &mut Command, progress: Arc<Progress>, stop: StopFlag, priority: Option<u8>) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let Some(pipe) = child.stdin.take() else { return Err(io::Error::other("the watchdog has no standard input")) };
        let done = Arc::new(AtomicBool::new(false));
        let ending = done.clone();
        let thread = thread::Builder::new().name("heartbeat".into()).spawn(move || {
            // What is refused was told of the control thread.
            Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
            beat(child, pipe, &progress, &stop, &ending);
        })?;
        Ok(Self { done, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed where it happened; the watchdog saw its pipe close.
            drop(thread.join());
        }
    }
}

fn beat(mut child: Child, mut pipe: ChildStdin, progress: &Progress, stop: &StopFlag, done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        let byte = if progress.snapshot().armed { ARMED } else { DISARMED };
        if pipe.write_all(&[byte]).is_err() {
            stop.request(StopLevel::Now);
            break;
        }
        thread::sleep(BEAT);
    }
    // Whoever drops the watchdog while armed wants it to act; else it ends by itself. Where it has ended,
    // there is nobody to tell.
    if !progress.snapshot().armed {
        drop(pipe.write_all(&[DISARMED]));
    }
    drop(pipe);
    drop(child.wait());
}

/// What a watchdog came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The main process ended with torque off.
    Ended,
    /// It was gone while torque was on; the safe action was called.
    Gone,
    /// It said nothing for too long while torque was on; the safe action was called.
    Frozen,
}

/// The watchdog's life: listens to `input` until the main process ends or has to be replaced, which it
/// does by calling `make_safe` once. Signals that end a process don't end it.
///
/// # Errors
/// What `make_safe` answered, or when signals or the listening thread could not be set up.
pub fn watch<E: From<io::Error>>(
    mut input: impl Read + Send + 'static,
    patience: Duration,
    make_safe: impl FnOnce() -> Result<(), E>,
) -> Result<Watched, E> {
    // They would end it first in a shutdown, when it is wanted most.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, ignored.clone())?;
    }
    let (sender, beats) = mpsc::channel();
    thread::Builder::new().name("heartbeat".into()).spawn(move || {
        let mut bytes = [0; 64];
        loop {
            match input.read(&mut bytes) {
                // The newest byte is what counts.
                Ok(count @ 1..) if sender.send(bytes[count - 1]).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    })?;
    let mut armed = false;
    loop {
        let beat = if armed { beats.recv_timeout(patience) } else { beats.recv().map_err(|_| RecvTimeoutError::Disconnected) };
        let found = match beat {
            Ok(byte) => {
                armed = byte == ARMED;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) if !armed => return Ok(Watched::Ended),
            Err(RecvTimeoutError::Disconnected) => Watched::Gone,
            Err(RecvTimeoutError::Timeout) => Watched::Frozen,
        };
        make_safe()?;
        return Ok(found);
    }
}
