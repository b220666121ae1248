//! How fast what is sent may go, and when it goes no more.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What tells of control loops; see [`give_way_by`].
static KEEPS_APART: OnceLock<fn() -> Option<bool>> = OnceLock::new();
static IS_BESIDE_LOOP: AtomicBool = AtomicBool::new(false);

/// What the threads of this process ask before each piece of a transfer, to give way to a control loop. It says whether there is one;
/// then less is sent at once. To a thread that is no transfer it says nothing. The first one told stays.
pub fn give_way_by(keeps_apart: fn() -> Option<bool>) {
    KEEPS_APART.get_or_init(|| keeps_apart);
}

/// Lets a thread that has just woken have this processor. A scheduler owes even the last of threads a slice, and looks again only at
/// the next tick (4 ms at 250 Hz): a thread that works long without a pause keeps a control loop waiting as long.
/// `sched_yield(2)` gives the slice back; it takes less than a microsecond where nobody waits.
pub(crate) fn give_way() {
    keep_apart();
    std::thread::yield_now();
}

/// Puts the thread where transfers are now.
pub(crate) fn keep_apart() {
    if let Some(is_beside_loop) = KEEPS_APART.get().and_then(|keeps_apart| keeps_apart()) {
        IS_BESIDE_LOOP.store(is_beside_loop, Relaxed);
    }
}

/// Waits for `work` on so many threads. None of it is done in the caller's, whose place it is not to change, unless the system gives no
/// other.
pub(crate) fn on_threads(name: &str, count: usize, work: impl Fn() + Copy + Send + Sync) {
    std::thread::scope(|scope| {
        let start = |_: &usize| std::thread::Builder::new().name(name.into()).spawn_scoped(scope, work).is_ok();
        if count > 0 && (0..count).filter(start).count() == 0 {
            work();
        }
    });
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
        // A write keeps a processor until the system has taken it all, which whoever works beside has to wait for; but the connection
        // pays for each. With a limit, a quarter of a second's makes a narrow one an even stream.
        let most = if self.bytes_per_s.is_some() || IS_BESIDE_LOOP.load(Relaxed) { PIECE_BYTES } else { 4 * PIECE_BYTES };
        self.bytes_per_s.map_or(most, |rate| usize::try_from(rate / 4).unwrap_or(usize::MAX).clamp(1 << 10, most))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static SAYS: Cell<Option<bool>> = const { Cell::new(None) };
    }

    #[test]
    fn what_a_thread_says_that_is_no_transfer_changes_nothing() {
        give_way_by(|| SAYS.get());
        let chunk_bytes = || Limit::new(None).chunk_bytes();
        SAYS.set(Some(true));
        give_way();
        assert_eq!(chunk_bytes(), PIECE_BYTES, "beside a loop");
        std::thread::spawn(give_way).join().unwrap();
        assert_eq!(chunk_bytes(), PIECE_BYTES);
        SAYS.set(Some(false));
        give_way();
        assert_eq!(chunk_bytes(), 4 * PIECE_BYTES);
    }
}
