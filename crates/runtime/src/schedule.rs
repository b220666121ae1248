//! When ticks are due.

use std::time::Duration;

use sinew_core::{Clock, Timestamp};

const NANOS_PER_S: u64 = 1_000_000_000;

/// How long a thread that waits for its tick sleeps at once: a third of what a watchdog waits for.
const SLICE: Duration = Duration::from_millis(25);

/// Absolute deadlines from a start on, at a whole number of ticks a second; no rounding adds up.
pub(crate) struct Schedule {
    start: Timestamp,
    rate_hz: u64,
    next: u64,
}

/// A tick whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) index: u64,
    pub(crate) due: Timestamp,
    pub(crate) began: Timestamp,
    /// From when the first tick that had not been run was due to `began`: more than a period where ticks were missed.
    pub(crate) late_ns: i64,
    /// Ticks before it whose whole period has passed unused.
    pub(crate) missed: u64,
}

impl Schedule {
    /// Tick 0 is due at `start`.
    pub(crate) fn new(start: Timestamp, rate_hz: u32) -> Self {
        Self { start, rate_hz: u64::from(rate_hz.max(1)), next: 0 }
    }

    pub(crate) fn period(&self) -> Duration {
        Duration::from_nanos(NANOS_PER_S / self.rate_hz)
    }

    fn due(&self, index: u64) -> Timestamp {
        self.start + Duration::from_nanos((u128::from(index) * u128::from(NANOS_PER_S) / u128::from(self.rate_hz)) as u64)
    }

    /// Sleeps until the next tick is due. When one after it is due by then too, that one is it. However slow the loop,
    /// `patient` is called every [`SLICE`] meanwhile, on a clock that runs by itself; when it says no the tick comes at
    /// once.
    pub(crate) fn wait(&mut self, clock: &dyn Clock, patient: impl Fn() -> bool) -> Turn {
        let first_due = self.due(self.next);
        let mut waits = true;
        if clock.runs_by_itself() {
            let mut next = clock.now() + SLICE;
            while waits && next < first_due {
                clock.sleep_until(next);
                waits = patient();
                next = next + SLICE;
            }
        }
        if waits {
            clock.sleep_until(first_due);
        }
        let began = clock.now();
        let elapsed_ns = began.nanos_since(self.start).max(0).unsigned_abs();
        let latest = (u128::from(elapsed_ns) * u128::from(self.rate_hz) / u128::from(NANOS_PER_S)) as u64;
        let index = latest.max(self.next);
        let missed = index - self.next;
        self.next = index + 1;
        Turn { index, due: self.due(index), began, late_ns: began.nanos_since(first_due), missed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sinew_core::MockClock;

    use super::*;

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let clock = MockClock::new();
        let mut schedule = Schedule::new(clock.now(), 30);
        let last = (0..=3000).map(|_| schedule.wait(&clock, || true)).last().unwrap();
        assert_eq!((last.index, last.due, last.missed), (3000, Timestamp::from_nanos(100_000_000_000), 0));
    }

    proptest! {
        #[test]
        fn whatever_stalls_ticks_rise_none_is_early_and_all_are_run_or_missed(
            rate_hz in 1u32..1000,
            stalls_ns in prop::collection::vec(0u64..3_000_000_000, 1..50),
        ) {
            let clock = MockClock::new();
            let mut schedule = Schedule::new(clock.now(), rate_hz);
            let (mut run, mut missed) = (0, 0);
            for stall_ns in stalls_ns {
                let turn = schedule.wait(&clock, || true);
                run += 1;
                missed += turn.missed;
                prop_assert_eq!(run + missed, turn.index + 1);
                let late_ns = turn.began.nanos_since(turn.due);
                prop_assert!(late_ns >= 0);
                prop_assert!(late_ns <= schedule.period().as_nanos() as i64 + 1, "a whole later tick was due");
                let missed_ns = turn.missed as i64 * schedule.period().as_nanos() as i64;
                prop_assert!((turn.late_ns - late_ns - missed_ns).abs() <= turn.missed as i64 + 1, "{turn:?}");
                clock.advance(Duration::from_nanos(stall_ns));
            }
        }
    }
}
