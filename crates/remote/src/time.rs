//! How long something took, and until when it may take: the system's monotonic clock, as a network keeps no other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An instant that is not to be passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// None is left.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }

    pub fn earlier(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

/// A stop watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(Instant);

impl Watch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub fn ms(self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }

    /// The time since the start or the last lap, milliseconds.
    pub fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f64() * 1e3
    }
}

/// The system's clock, for people.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
