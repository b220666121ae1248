//! That something is over, for threads that wait in between.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::RemoteError;
use crate::time::Watch;

/// How long a thread may take to end.
const ENDS: Duration = Duration::from_millis(500);

/// Whether it is over. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Over(Arc<(Mutex<bool>, Condvar)>);

impl Over {
    /// Waits so long, or until it is over; whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let (over, news) = &*self.0;
        let over = over.lock().unwrap_or_else(PoisonError::into_inner);
        *news.wait_timeout_while(over, time, |over| !*over).unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self) {
        let (over, news) = &*self.0;
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        news.notify_all();
    }
}

/// A thread that is told to end when this is dropped.
pub(crate) struct Until {
    over: Over,
    thread: JoinHandle<()>,
}

impl Until {
    pub fn spawn(who: &'static str, over: Over, run: impl FnOnce() + Send + 'static) -> Result<Self, RemoteError> {
        let thread = std::thread::Builder::new().name(who.into()).spawn(run);
        let thread = thread.map_err(|source| RemoteError::Thread { who, source })?;
        Ok(Self { over, thread })
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        self.over.end();
        // One that waits for somebody's hand-shake is left to itself.
        let waited = Watch::start();
        while !self.thread.is_finished() && waited.elapsed() < ENDS {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
