//! What became of requests, and how long their ways took.

use serde::{Serialize, Serializer};

/// A link in figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LinkReport {
    pub address: String,
    pub requests: u64,
    /// Answers that were used.
    pub answers: u64,
    /// Requests that had no answer by their deadline.
    pub missed: u64,
    /// Answers that came after their deadline, and were not used.
    pub late: u64,
    /// Answers that were given twice, or without a question, and were not used.
    pub repeated: u64,
    /// Answers of a wrong shape, or with a number that is not finite.
    pub refused: u64,
    /// Errors that the server told.
    pub errors: u64,
    pub reconnects: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// What the link gave lately, as far as that was measured.
    pub bytes_s: Option<f64>,
    /// How images were sent last: as JPEGs of this quality at most, or as they are or as the key map says. And the worst of all.
    pub image_quality: Option<u8>,
    pub worst_image_quality: Option<u8>,
    /// The newest reason for which the connection was closed or could not be made.
    pub last_error: Option<String>,
    pub prepare_ms: Milliseconds,
    pub send_ms: Milliseconds,
    /// From the last byte that was sent to the last that came.
    pub wait_ms: Milliseconds,
    /// What of the waiting was the server's own, as it says.
    pub server_ms: Milliseconds,
    pub read_ms: Milliseconds,
    /// All of it.
    pub total_ms: Milliseconds,
}

/// How long the ways of an answer took, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Legs {
    /// Scaling images and packing.
    pub prepare: f64,
    pub send: f64,
    pub wait: f64,
    /// As the server says.
    pub server: Option<f64>,
    /// Unpacking and checking.
    pub read: f64,
}

impl LinkReport {
    pub(crate) fn accept(&mut self, legs: Legs) {
        self.answers += 1;
        self.prepare_ms.record(legs.prepare);
        self.send_ms.record(legs.send);
        self.wait_ms.record(legs.wait);
        legs.server.into_iter().for_each(|ms| self.server_ms.record(ms));
        self.read_ms.record(legs.read);
        self.total_ms.record(legs.prepare + legs.send + legs.wait + legs.read);
    }
}

/// The last of many times; serialised as their number, median, 99th percentile and largest.
#[derive(Clone, Debug, Default)]
pub struct Milliseconds {
    ring: Vec<f32>,
    count: usize,
}

/// So many are remembered.
const REMEMBERED: usize = 4096;

impl Milliseconds {
    fn record(&mut self, ms: f64) {
        match self.ring.get_mut(self.count % REMEMBERED) {
            Some(slot) => *slot = ms as f32,
            None => self.ring.push(ms as f32),
        }
        self.count += 1;
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// By the nearest rank; `None` of none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.ring.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).map(|ms| f64::from(*ms))
    }
}

#[derive(Serialize)]
struct Summary {
    count: usize,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| self.quantile(q));
        Summary { count: self.count, p50, p99, max }.serialize(serializer)
    }
}
