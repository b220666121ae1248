//! How a camera is doing.

use std::collections::VecDeque;
use std::time::Duration;

use sinew_core::Timestamp;

use super::Stream;

/// Rates are measured over so long.
const WINDOW_NS: i64 = 2_000_000_000;
/// No more pictures count for a rate.
const MOST_TIMES: usize = 1024;

/// What a camera's thread is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CameraState {
    #[default]
    Opening,
    /// Its source is open; whether pictures come is another matter.
    Running,
    /// Its source was lost and is going to be opened again.
    Lost { why: String },
    /// There will be no more pictures.
    Over { why: String },
}

/// A camera at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraHealth {
    /// The description's name of it, and its source's.
    pub name: String,
    pub source: String,
    pub state: CameraState,
    /// What was agreed on when the source was opened the last time.
    pub stream: Option<Stream>,
    /// How many images there have been.
    pub pictures: u64,
    /// Pictures that came and were none, and what was wrong with the last of them.
    pub broken: u64,
    pub broken_why: Option<String>,
    /// Pictures that never came, by gaps in the source's numbers.
    pub lost: u64,
    /// Pictures that were no newer than the one before, and so were left out.
    pub repeated: u64,
    /// How often the source was opened anew.
    pub reopened: u64,
    /// Images a second over the last two seconds of capture; none before there were two.
    pub rate_hz: Option<f64>,
    /// The longest time from one image to the next, lost sources included.
    pub longest_gap: Duration,
    /// How long ago the newest was taken.
    pub age: Option<Duration>,
    /// How long an image takes to decode, on average, milliseconds.
    pub decode_ms: Option<f64>,
}

/// What a camera's thread writes down.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub state: CameraState,
    pub stream: Option<Stream>,
    pub pictures: u64,
    pub broken: u64,
    pub broken_why: Option<String>,
    pub lost: u64,
    pub repeated: u64,
    pub reopened: u64,
    longest_gap_ns: i64,
    decode_ns: i64,
    /// When the last images were taken.
    times: VecDeque<Timestamp>,
    /// How long after it was taken the last one was here.
    delay_ns: i64,
}

fn duration(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

impl Notes {
    /// An image that was taken then is here now, and took so long to decode.
    pub fn picture(&mut self, captured_at: Timestamp, decode_ns: i64, now: Timestamp) {
        self.pictures += 1;
        self.delay_ns = now.nanos_since(captured_at).max(0);
        self.decode_ns += decode_ns;
        if let Some(last) = self.times.back() {
            self.longest_gap_ns = self.longest_gap_ns.max(captured_at.nanos_since(*last));
        }
        self.times.push_back(captured_at);
        while self.times.len() > MOST_TIMES
            || self.times.len() > 2 && self.times.front().is_some_and(|first| captured_at.nanos_since(*first) > WINDOW_NS)
        {
            self.times.pop_front();
        }
    }

    /// How long the pictures span that the rate is measured over.
    pub fn measured_over(&self) -> Duration {
        duration(self.times.back().zip(self.times.front()).map_or(0, |(last, first)| last.nanos_since(*first)))
    }

    pub fn newest_at(&self) -> Option<Timestamp> {
        self.times.back().copied()
    }

    pub fn rate_hz(&self, now: Timestamp) -> Option<f64> {
        let (first, last) = (*self.times.front()?, *self.times.back()?);
        let (span_s, since_s) = (last.nanos_since(first) as f64 * 1e-9, (now.nanos_since(last) - self.delay_ns) as f64 * 1e-9);
        let rate = (span_s > 0.0).then(|| (self.times.len() - 1) as f64 / span_s)?;
        // One that has stopped delivers no longer at the rate that it had.
        Some(if since_s > 2.0 {
            0.0
        } else if since_s * rate > 2.0 {
            1.0 / since_s
        } else {
            rate
        })
    }

    pub fn health(&self, name: &str, source: &str, now: Timestamp) -> CameraHealth {
        CameraHealth {
            name: name.to_owned(),
            source: source.to_owned(),
            state: self.state.clone(),
            stream: self.stream,
            pictures: self.pictures,
            broken: self.broken,
            broken_why: self.broken_why.clone(),
            lost: self.lost,
            repeated: self.repeated,
            reopened: self.reopened,
            rate_hz: self.rate_hz(now),
            longest_gap: duration(self.longest_gap_ns),
            age: self.newest_at().map(|at| duration(now.nanos_since(at))),
            decode_ms: (self.pictures > 0).then(|| self.decode_ns as f64 * 1e-6 / self.pictures as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_two_seconds() {
        let mut notes = Notes::default();
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
        assert_eq!(notes.rate_hz(at(0)), None);
        (0..20).for_each(|i| notes.picture(at(i * 100), 1_000_000, at(i * 100)));
        (0..61).for_each(|i| notes.picture(at(2_000 + i * 50), 3_000_000, at(2_000 + i * 50)));
        let rate = notes.rate_hz(at(5_010)).unwrap();
        assert!((rate - 20.0).abs() < 0.01, "{rate}");
        assert_eq!(notes.rate_hz(at(6_000)), Some(1.0));
        assert_eq!(notes.rate_hz(at(7_100)), Some(0.0));
        // One that is late all the time delivers all the same.
        let mut late = Notes::default();
        (0..61).for_each(|i| late.picture(at(i * 33), 1_000_000, at(i * 33 + 150)));
        assert!((late.rate_hz(at(60 * 33 + 170)).unwrap() - 30.3).abs() < 0.1);
        let health = notes.health("a", "b", at(5_030));
        assert_eq!((health.longest_gap, health.age), (Duration::from_millis(100), Some(Duration::from_millis(30))));
        assert!((health.decode_ms.unwrap() - (20.0 + 61.0 * 3.0) / 81.0).abs() < 1e-9);
    }
}
