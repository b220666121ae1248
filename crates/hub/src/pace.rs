//! How fast what is sent may go, and when it goes no more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a thread that has just woken have this processor. A scheduler owes even the last of threads a slice, and looks again only at
/// the next tick (4 ms at 250 Hz): a thread that works long without a pause keeps a control loop waiting as long.
/// `sched_yield(2)` gives the slice back; it takes less than a microsecond where nobody waits.
pub(crate) fn give_way() {
    std::thread::yield_now();
}

/// How many bytes are worked on before others may have the processor: about 50 microseconds of hashing.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Done when what is `sent` has not grown for so long.
pub(crate) async fn stalls(sent: impl Fn() -> u64, patience: Duration) {
    let mut last = sent();
    let mut since = Instant::now();
    while since.elapsed() < patience {
        tokio::time::sleep((patience / 8).min(Duration::from_secs(1))).await;
        let now = sent();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// How many bytes a second all that is sent together may have.
#[derive(Debug)]
pub(crate) struct Limit {
    bytes_per_s: Option<u64>,
    /// When the next bytes may leave.
    free_at: Mutex<Instant>,
}

impl Limit {
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s: bytes_per_s.filter(|rate| *rate > 0), free_at: Mutex::new(Instant::now()) }
    }

    /// How many bytes are best sent at once.
    pub fn chunk_bytes(&self) -> usize {
        // Without a limit fewer would have the connection pay for each. With one, whoever set it has something else to do meanwhile: a
        // write keeps a processor until the system has taken it all. A quarter of a second's makes a narrow limit an even stream.
        self.bytes_per_s.map_or(4 * PIECE_BYTES, |rate| usize::try_from(rate / 4).unwrap_or(usize::MAX).clamp(1 << 10, PIECE_BYTES))
    }

    /// Waits until `bytes` may leave.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_s else { return };
        let now = Instant::now();
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free_at).max(now);
            *free_at = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
            begin
        };
        if begin > now {
            tokio::time::sleep(begin - now).await;
        }
    }
}
