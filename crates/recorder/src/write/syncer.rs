//! Sees what is being recorded onto the disk.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::RecordError;
use crate::commit::OutFile;

/// How often. A killed process loses nothing; a machine without power what is younger than this and
/// the time that the disk takes.
const INTERVAL: Duration = Duration::from_millis(50);

/// Sees what is being recorded onto the disk, again and again, in a thread of its own.
pub(crate) struct Syncer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    fault: Arc<Mutex<Option<RecordError>>>,
}

impl Syncer {
    pub(crate) fn start(files: Vec<OutFile>) -> Self {
        let (stop, stopped) = channel();
        let fault = Arc::new(Mutex::new(None));
        let of_thread = fault.clone();
        let thread = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(INTERVAL) {
                if let Some(error) = files.iter().find_map(|file| file.sync().err()) {
                    *of_thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread), fault }
    }

    /// What went wrong since the last time.
    pub(crate) fn check(&self) -> Result<(), RecordError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    pub(crate) fn stop(&mut self) -> Result<(), RecordError> {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            let _ = thread.join();
        }
        self.check()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
