//! That something is over, for threads that wait in between.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::RemoteError;
use crate::time::Watch;

/// After which those who were not met are tried again.
const AGAIN: Duration = Duration::from_secs(2);
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

    /// Meets others and stays with them until it is over; `stay` says by an error that they have to be met anew. Who can't be met is tried
    /// again, and why is told, once for as long as it is the same but for numbers, such as the time of a clock.
    pub fn meet<T>(&self, tell: &dyn Fn(&str), meet: impl Fn() -> Result<T, RemoteError>, stay: impl Fn(T) -> Result<(), RemoteError>) {
        let mut told = String::new();
        loop {
            let met = meet();
            if met.is_ok() {
                told.clear();
            }
            let Err(error) = met.and_then(&stay) else { return };
            let words = error.to_string().replace(|c: char| c.is_ascii_digit(), "");
            if words != told {
                tell(&format!("{error}; it is tried again"));
                told = words;
            }
            if self.wait(AGAIN) {
                return;
            }
        }
    }

    pub fn end(&self) {
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
