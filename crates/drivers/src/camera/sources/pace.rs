//! Pictures that are due at a rate, by a clock.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

/// When each picture is due, from 0 on.
pub struct Pace {
    clock: Arc<dyn Clock>,
    begun: Timestamp,
    period_ns: f64,
    /// The number of the next.
    next: u64,
}

impl Pace {
    /// `begun` is when the picture 0 was due: now, where nobody knows. `None` where the rate is none.
    pub fn new(clock: Arc<dyn Clock>, begun: &mut Option<Timestamp>, fps: f64) -> Option<Self> {
        let period_ns = (0.01..=1000.0).contains(&fps).then(|| 1e9 / fps)?;
        let now = clock.now();
        let begun = *begun.get_or_insert(now);
        let next = (now.nanos_since(begun) as f64 / period_ns).ceil() as u64;
        Some(Self { clock, begun, period_ns, next })
    }

    fn due(&self, number: u64) -> Timestamp {
        self.begun + Duration::from_nanos((number as f64 * self.period_ns) as u64)
    }

    /// Waits at most `wait` for the next that is due; its number, and when that was. What there was no time for is left out.
    pub fn next(&mut self, wait: Duration) -> Option<(u64, Timestamp)> {
        let until = self.clock.now() + wait;
        let due = self.due(self.next);
        if until < due {
            self.clock.sleep_until(until);
            return None;
        }
        self.clock.sleep_until(due);
        let newest = (self.clock.now().nanos_since(self.begun) as f64 / self.period_ns) as u64;
        let number = self.next.max(newest);
        self.next = number + 1;
        Some((number, self.due(number)))
    }
}

pub(super) fn no_rate(fps: f64) -> String {
    format!("expected 0.01 to 1000 pictures a second, found {fps}")
}
