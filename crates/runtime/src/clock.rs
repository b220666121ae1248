//! The system's monotonic clock.

use sinew_core::{Clock, Timestamp};

/// The system's monotonic clock: on Linux CLOCK_MONOTONIC as it is, so that its stamps are those of the kernel's
/// drivers too, and all of these clocks are one. Sleeps to absolute deadlines, so that being late once doesn't
/// make the next tick late.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl MonotonicClock {
    pub fn new() -> Self {
        Self
    }
}

/// A time of the system's clock, whatever the session's is: for how long something really took. It does not compare
/// with a [`Timestamp`], which may be of another clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostTime(i64);

impl HostTime {
    pub(crate) fn now() -> Self {
        Self(system::now_ns())
    }

    pub(crate) fn nanos_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(system::now_ns())
    }

    fn sleep_until(&self, deadline: Timestamp) {
        system::sleep_until_ns(deadline.as_nanos());
    }

    fn runs_by_itself(&self) -> bool {
        true
    }
}

/// Nanoseconds of the system's monotonic clock; on Linux since the machine started, in every process.
pub(crate) fn monotonic_ns() -> i64 {
    system::now_ns()
}

/// Processor time that the calling thread has used, nanoseconds; `None` where the system isn't asked.
pub(crate) fn thread_cpu_ns() -> Option<i64> {
    system::thread_cpu_ns()
}

#[cfg(target_os = "linux")]
mod system {
    #![expect(unsafe_code, reason = "std has no sleep to an absolute deadline")]

    pub(super) fn now_ns() -> i64 {
        read_ns(libc::CLOCK_MONOTONIC)
    }

    pub(super) fn thread_cpu_ns() -> Option<i64> {
        Some(read_ns(libc::CLOCK_THREAD_CPUTIME_ID))
    }

    fn read_ns(clock: libc::clockid_t) -> i64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a valid timespec to write to; the clocks asked for always exist on Linux.
        unsafe { libc::clock_gettime(clock, &raw mut now) };
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    }

    pub(super) fn sleep_until_ns(deadline_ns: i64) {
        let deadline_ns = deadline_ns.max(0);
        let deadline = libc::timespec { tv_sec: deadline_ns / 1_000_000_000, tv_nsec: deadline_ns % 1_000_000_000 };
        loop {
            // SAFETY: `deadline` is a valid timespec with nanoseconds below 1e9; with an absolute
            // deadline the remaining time is not written, so null is allowed.
            let result =
                unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const deadline, std::ptr::null_mut()) };
            if result != libc::EINTR {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now_ns() -> i64 {
        i64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    pub(super) fn thread_cpu_ns() -> Option<i64> {
        None
    }

    pub(super) fn sleep_until_ns(deadline_ns: i64) {
        let remaining_ns = deadline_ns.saturating_sub(now_ns());
        if remaining_ns > 0 {
            std::thread::sleep(Duration::from_nanos(remaining_ns.unsigned_abs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_never_returns_before_the_deadline_and_at_once_after_it() {
        let clock = MonotonicClock::new();
        let deadline = clock.now() + Duration::from_millis(20);
        clock.sleep_until(deadline);
        let woke = clock.now();
        assert!(woke >= deadline);
        clock.sleep_until(deadline);
        clock.sleep_until(Timestamp::from_nanos(i64::MIN));
        assert!(clock.now().nanos_since(woke) < 15_000_000, "a deadline that has passed is not waited for");
    }
}
