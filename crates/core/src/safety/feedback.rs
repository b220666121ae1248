//! What of a channel's measurements is believed.

use crate::Timestamp;

/// How much faster than its limit a part may be seen to move: pushed by a hand, or falling.
const FASTER: f64 = 3.0;
/// So many measurements in a row that agree are believed, however far they are from those before.
const AGREEING: u32 = 3;

/// The believed measurements of one position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Believed {
    /// A change a second that is plausible.
    fastest: f64,
    /// What noise and resolution may add.
    margin: f64,
    /// A jump that is further than this, and than its own speed explains, is no proof by itself.
    step: f64,
    /// For longer than this nothing is extrapolated.
    max_age_ns: i64,
    /// Value and time of the last that is believed.
    last: Option<(f64, Timestamp)>,
    /// The last that is not, and how many there have been in a row that agree with it.
    odd: Option<(f64, Timestamp, u32)>,
    /// When the first since the last that is believed was not.
    doubted_since: Option<Timestamp>,
}

impl Believed {
    /// Of a part whose goals move at most `velocity` a second and are at most `step` from it.
    pub(super) fn new(velocity: f64, margin: f64, step: f64, max_age_ns: i64) -> Self {
        Self { fastest: FASTER * velocity, margin, step, max_age_ns, last: None, odd: None, doubted_since: None }
    }

    /// Believes `value` without asking.
    pub(super) fn begin(&mut self, value: f64, time: Timestamp) {
        (self.last, self.odd, self.doubted_since) = (Some((value, time)), None, None);
    }

    /// `value` was measured at `time`; now it is `now`, and what is said to be measured later is no measurement.
    pub(super) fn hear(&mut self, value: f64, time: Timestamp, now: Timestamp) {
        if time > now {
            return;
        }
        let Some(last) = self.last.filter(|(_, time)| *time <= now) else { return self.begin(value, time) };
        if time <= last.1 {
            return;
        }
        // What speaks nonsense is not silent: that it goes on so makes nothing more plausible.
        let until = self.doubted_since.map_or(time, |since| since.min(time));
        if self.are_near(last.0, value, until.nanos_since(last.1)) {
            return self.begin(value, time);
        }
        self.doubted_since.get_or_insert(time);
        self.odd = match self.odd {
            Some((_, at, _)) if time <= at => self.odd,
            Some((odd, at, count)) if self.agree((odd, at), (value, time)) => Some((value, time, count + 1)),
            _ => Some((value, time, 1)),
        };
        if self.odd.is_some_and(|(_, _, count)| count >= AGREEING) {
            self.begin(value, time);
        }
    }

    fn agree(&self, (from, earlier): (f64, Timestamp), (to, later): (f64, Timestamp)) -> bool {
        self.are_near(from, to, later.nanos_since(earlier))
    }

    fn are_near(&self, from: f64, to: f64, elapsed_ns: i64) -> bool {
        // What has not been heard of for longer must convince as one that was never heard of.
        let elapsed_ns = elapsed_ns.min(self.max_age_ns);
        let moved = self.fastest * elapsed_ns as f64 * 1e-9;
        // What is believed within a step pulls no goal after it.
        (to - from).abs() <= (self.margin + moved).min(self.step.max(self.margin + moved / FASTER))
    }

    /// What is said to be measured later than `now` was measured now at the latest.
    pub(super) fn not_after(&mut self, now: Timestamp) {
        if let Some((_, time)) = &mut self.last {
            *time = (*time).min(now);
        }
    }

    /// The last position that is believed.
    pub(super) fn position(&self) -> Option<f64> {
        self.last.map(|(value, _)| value)
    }

    /// How long ago it was measured, nanoseconds.
    pub(super) fn age_ns(&self, now: Timestamp) -> i64 {
        self.last.map_or(i64::MAX, |(_, time)| now.nanos_since(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    /// Hears of what was measured just now.
    struct Heard(Believed);

    impl Heard {
        fn hear(&mut self, value: f64, time: Timestamp) {
            self.0.hear(value, time, time);
        }

        fn position(&self) -> Option<f64> {
            self.0.position()
        }

        fn age_ns(&self, now: Timestamp) -> i64 {
            self.0.age_ns(now)
        }
    }

    #[test]
    fn what_is_of_a_time_to_come_is_not_believed_and_keeps_nothing_out() {
        let mut believed = Believed::new(3.0, 0.05, f64::INFINITY, 150_000_000);
        believed.begin(0.0, at(0));
        believed.hear(0.01, at(90_000), at(33));
        assert_eq!((believed.position(), believed.age_ns(at(33))), (Some(0.0), 33_000_000));
        believed.begin(0.5, at(90_000));
        believed.hear(0.02, at(66), at(66));
        assert_eq!(believed.position(), Some(0.02), "a start by another clock");
    }

    #[test]
    fn silence_does_not_make_any_place_plausible() {
        let mut believed = Heard(Believed::new(3.0, 0.05, f64::INFINITY, 150_000_000));
        believed.hear(0.0, at(0));
        believed.hear(2.0, at(450));
        assert_eq!(believed.position(), Some(0.0));
        believed.hear(1.3, at(480));
        assert_eq!(believed.position(), Some(1.3), "so far it can have come in 150 ms");
    }

    #[test]
    fn values_that_never_agree_are_not_believed_however_long_they_come() {
        let mut believed = Heard(Believed::new(3.0, 0.05, f64::INFINITY, 150_000_000));
        believed.hear(0.0, at(0));
        for tick in 1..60 {
            let side = if tick % 2 == 0 { 1.0 } else { -1.0 };
            believed.hear(side * (0.8 + 0.01 * f64::from(tick)), at(33 * i64::from(tick)));
            assert_eq!(believed.position(), Some(0.0), "at tick {tick}");
        }
        for (ms, value) in [(2000, 0.1), (2033, 0.1)] {
            believed.hear(value, at(ms));
        }
        assert_eq!(believed.position(), Some(0.1), "what is near where it was");
    }

    #[test]
    fn one_wild_value_is_not_believed_and_three_that_agree_are() {
        let mut believed = Heard(Believed::new(3.0, 0.05, f64::INFINITY, 150_000_000));
        believed.hear(0.0, at(0));
        believed.hear(0.2, at(33));
        assert_eq!(believed.position(), Some(0.2), "what a part can do is believed at once");
        believed.hear(2.0, at(66));
        assert_eq!((believed.position(), believed.age_ns(at(66))), (Some(0.2), 33_000_000));
        believed.hear(0.21, at(100));
        assert_eq!(believed.position(), Some(0.21));
        for (ms, value) in [(133, 2.0), (166, -2.0), (200, 2.0), (233, 2.0)] {
            believed.hear(value, at(ms));
            assert_eq!(believed.position(), Some(0.21), "wild values that don't agree");
        }
        // Repeated at the same time it is no new witness.
        believed.hear(2.0, at(233));
        assert_eq!(believed.position(), Some(0.21));
        believed.hear(2.01, at(266));
        assert_eq!(believed.position(), Some(2.01), "the arm was moved while nobody looked");
    }
}
