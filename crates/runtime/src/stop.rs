//! How a running session is told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How urgently a session is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// Go on.
    Run,
    /// End the episode; go to rest if the session is told to.
    Stop,
    /// The safe action at once.
    Now,
    /// The same, and no further episode until [`StopFlag::clear_emergency`].
    Emergency,
}

/// Shared by a session and those who may stop it. It only rises: a session that was stopped stays
/// so, and its further episodes end before they begin. What clears it is only the word of whoever sees
/// to an emergency.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    level: Arc<AtomicU8>,
    abandoned: Arc<AtomicBool>,
}

impl StopFlag {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn level(&self) -> StopLevel {
        match self.level.load(Ordering::Acquire) {
            0 => StopLevel::Run,
            1 => StopLevel::Stop,
            2 => StopLevel::Now,
            _ => StopLevel::Emergency,
        }
    }

    pub fn is_requested(&self) -> bool {
        self.level() != StopLevel::Run
    }

    /// Raises the level to at least `level`.
    pub fn request(&self, level: StopLevel) {
        self.level.fetch_max(level as u8, Ordering::AcqRel);
    }

    /// One level up: what each Ctrl-C does. From [`StopLevel::Now`] on it abandons the session.
    pub fn escalate(&self) {
        if self.level() >= StopLevel::Now {
            self.abandoned.store(true, Ordering::Release);
        }
        // The closure always answers, so the update cannot fail.
        let _ =
            self.level.fetch_update(Ordering::AcqRel, Ordering::Acquire, |level| Some(level.max((level + 1).min(StopLevel::Now as u8))));
    }

    /// What the loss of the terminal does: one stop, since a shell and the system may both tell of it; and in an
    /// emergency, which now nobody clears, as [`escalate`](Self::escalate).
    pub fn hang_up(&self) {
        match self.level() {
            StopLevel::Emergency => self.escalate(),
            _ => self.request(StopLevel::Stop),
        }
    }

    /// Whether the session was told to stop once more after [`StopLevel::Now`], or in an emergency, which then
    /// nobody will clear: the process is to end.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The emergency button: a key, a pedal, a command.
    pub fn emergency(&self) {
        self.request(StopLevel::Emergency);
    }

    /// The emergency is over: episodes may be run again, whatever else had been asked for. Says whether
    /// there was one.
    pub fn clear_emergency(&self) -> bool {
        let emergency = StopLevel::Emergency as u8;
        self.level.compare_exchange(emergency, StopLevel::Run as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// From now on SIGINT and SIGTERM [`escalate`](Self::escalate) this flag instead of ending the process, and
    /// SIGHUP is a [`hang_up`](Self::hang_up), unless it is ignored, as by `nohup`.
    ///
    /// # Errors
    /// When the handlers or their thread cannot be set up.
    pub fn escalate_on_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let flag = self.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP { flag.hang_up() } else { flag.escalate() }
            }
        })?;
        Ok(())
    }
}

/// Whether this process was started with `signal` ignored; where the system doesn't say, it wasn't.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for(flag: &StopFlag, level: StopLevel) {
        let start = Instant::now();
        while flag.level() != level {
            assert!(start.elapsed() < Duration::from_secs(5), "still at {:?}, expected {level:?}", flag.level());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_rises_and_never_falls() {
        let flag = StopFlag::new();
        assert!(!flag.is_requested());
        flag.request(StopLevel::Now);
        flag.request(StopLevel::Stop);
        assert!(flag.level() == StopLevel::Now && !flag.is_abandoned());
        flag.escalate();
        assert!(flag.level() == StopLevel::Now && flag.is_abandoned());
    }

    #[test]
    fn a_terminal_is_lost_once() {
        let flag = StopFlag::new();
        flag.hang_up();
        flag.hang_up();
        assert!(flag.level() == StopLevel::Stop && !flag.is_abandoned());
        let flag = StopFlag::new();
        flag.emergency();
        flag.hang_up();
        assert!(flag.level() == StopLevel::Emergency && flag.is_abandoned());
    }

    #[test]
    fn an_emergency_latches_until_it_is_cleared() {
        let flag = StopFlag::new();
        assert!(!flag.clear_emergency());
        flag.emergency();
        flag.request(StopLevel::Stop);
        flag.escalate();
        assert_eq!(flag.level(), StopLevel::Emergency);
        assert!(flag.clear_emergency() && !flag.is_requested());
        flag.request(StopLevel::Now);
        assert!(!flag.clear_emergency(), "an ordinary stop stays");
        assert_eq!(flag.level(), StopLevel::Now);
    }

    #[test]
    fn each_signal_escalates_and_none_kills() {
        let flag = StopFlag::new();
        flag.escalate_on_signals().unwrap();
        // Ignored, if these tests are run by `nohup`; either way it kills nothing.
        signal_hook::low_level::raise(SIGHUP).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        signal_hook::low_level::raise(SIGINT).unwrap();
        wait_for(&flag, StopLevel::Now);
    }
}
