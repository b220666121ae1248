//! Time, as every part of Sinew sees it: nanoseconds of one [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Nanoseconds since the epoch of the [`Clock`] that made it. Stamps of two clocks don't compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const ZERO: Self = Self(0);

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// Time from `earlier` to `self` in nanoseconds; negative when `self` is the earlier one.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// The only source of time stamps. The runtime has one on the monotonic system clock; tests and
/// faster-than-real-time runs use [`MockClock`].
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;

    /// Returns at or after `deadline`; at once when it has passed.
    fn sleep_until(&self, deadline: Timestamp);

    /// Whether time passes while nobody sleeps. Where it doesn't, waiting costs no time, and a
    /// session may wait for those it could otherwise outrun.
    fn runs_by_itself(&self) -> bool;
}

/// A clock that moves only when someone sleeps on it (or sets it): time costs nothing, and the same
/// program sees the same stamps every time.
#[derive(Debug, Default)]
pub struct MockClock(AtomicI64);

impl MockClock {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::AcqRel);
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }

    fn sleep_until(&self, deadline: Timestamp) {
        self.0.fetch_max(deadline.0, Ordering::AcqRel);
    }

    fn runs_by_itself(&self) -> bool {
        false
    }
}

/// One turn of the control loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Counts the loop's turns: 0 for the first of an episode. One that was missed leaves a gap: numbers never shift. A
    /// loop that turns faster than its policy has several for each tick of that.
    pub turn: u64,
    /// When it was due (not when it ran).
    pub due: Timestamp,
    /// The time from one to the next.
    pub period: Duration,
    /// Whether anyone will look at its images. A robot whose images cost time to make (the
    /// simulator) may leave the old ones in place when nobody does.
    pub wants_images: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mock_clock_moves_only_forward_and_only_when_slept_on() {
        let clock = MockClock::new();
        assert_eq!(clock.now(), Timestamp::ZERO);
        clock.sleep_until(Timestamp::from_nanos(50));
        clock.sleep_until(Timestamp::from_nanos(20));
        assert_eq!(clock.now(), Timestamp::from_nanos(50));
    }
}
