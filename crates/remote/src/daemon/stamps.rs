//! How old a message is, by the clock of the device that sent it.

use std::time::Duration;

use crate::time::Watch;

/// Clocks of two machines differ by no more than this, as a share: of what was learned so much is forgotten meanwhile.
const DRIFT: f64 = 2e-4;

/// The stamps of one socket's messages. How far the two clocks are apart is learned from the message that was quickest.
pub(super) struct Stamps {
    clock: Watch,
    /// The last one, and when it came.
    last: Option<(f64, f64)>,
    /// The least that was between a stamp and its coming.
    apart_s: f64,
}

impl Stamps {
    pub fn new() -> Self {
        Self { clock: Watch::start(), last: None, apart_s: f64::INFINITY }
    }

    /// For how much longer than the quickest a message of now was on its way, which is stamped `time_s` in seconds of the device's clock.
    ///
    /// # Errors
    /// When it is not newer than the one before.
    pub fn age(&mut self, time_s: f64) -> Result<Duration, String> {
        let now_s = self.clock.elapsed().as_secs_f64();
        if !(time_s.is_finite() && time_s.abs() < 1e12) {
            return Err(format!("time_s is {time_s}, expected seconds of the device's clock"));
        }
        let passed_s = match self.last {
            Some((last, _)) if time_s <= last => {
                return Err(format!("time_s is {time_s}, expected more than the {last} of the message before"));
            }
            Some((_, came)) => now_s - came,
            None => 0.0,
        };
        self.last = Some((time_s, now_s));
        let apart_s = now_s - time_s;
        self.apart_s = (self.apart_s + DRIFT * passed_s).min(apart_s);
        Ok(Duration::try_from_secs_f64(apart_s - self.apart_s).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_on_its_way_is_as_old_as_that() {
        let mut stamps = Stamps::new();
        assert_eq!(stamps.age(1000.0), Ok(Duration::ZERO), "nothing is known of its clock yet");
        std::thread::sleep(Duration::from_millis(50));
        // It was sent 10 ms after the first, and has waited.
        let age = stamps.age(1000.01).unwrap();
        assert!((30..200).contains(&age.as_millis()), "{age:?}");
        // One that comes sooner after its stamp than all before shows that those had waited.
        assert_eq!(stamps.age(1010.0), Ok(Duration::ZERO));
        assert!(stamps.age(1001.0).unwrap_err().contains("expected more than the 1010"));
        assert!(stamps.age(1010.0).is_err());
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert!(stamps.age(wrong).unwrap_err().contains("expected seconds of the device's clock"), "{wrong}");
        }
        let age = stamps.age(1010.001).unwrap();
        assert!(age < Duration::from_millis(100), "what was refused has taught nothing: {age:?}");
    }
}
