//! How a running session is told to stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
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
/// so, and its further episodes end before they begin. An emergency stands beside it: whoever sees to it clears it,
/// and what else was asked for stays.
#[derive(Clone, Debug, Default)]
pub struct StopFlag {
    /// Up to [`StopLevel::Now`].
    level: Arc<AtomicU8>,
    emergency: Arc<AtomicBool>,
    abandoned: Arc<AtomicBool>,
    suspended: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
}

impl StopFlag {
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest of what was asked for.
    pub fn level(&self) -> StopLevel {
        if self.is_emergency() {
            return StopLevel::Emergency;
        }
        match self.level.load(Ordering::Acquire) {
            0 => StopLevel::Run,
            1 => StopLevel::Stop,
            _ => StopLevel::Now,
        }
    }

    fn is_emergency(&self) -> bool {
        self.emergency.load(Ordering::Acquire)
    }

    pub fn is_requested(&self) -> bool {
        self.level() != StopLevel::Run
    }

    /// Raises the level to at least `level`; [`StopLevel::Emergency`] is an [`emergency`](Self::emergency).
    pub fn request(&self, level: StopLevel) {
        match level {
            StopLevel::Emergency => self.emergency.store(true, Ordering::Release),
            level => drop(self.level.fetch_max(level as u8, Ordering::AcqRel)),
        }
    }

    /// One level up: what each Ctrl-C does. From [`StopLevel::Now`] on, and in an emergency, it abandons the session.
    pub fn escalate(&self) {
        if self.level() >= StopLevel::Now {
            self.abandoned.store(true, Ordering::Release);
        }
        // The closure always answers, so the update cannot fail.
        let _ = self.level.fetch_update(Ordering::AcqRel, Ordering::Acquire, |level| Some((level + 1).min(StopLevel::Now as u8)));
    }

    /// What Ctrl-\\ does: the safe action at once, and from then on, and in an emergency, it abandons the session.
    pub fn quit(&self) {
        if self.level() >= StopLevel::Now {
            self.abandoned.store(true, Ordering::Release);
        }
        self.request(StopLevel::Now);
    }

    /// What Ctrl-Z does: [`escalate`](Self::escalate). A frozen process can't hold an arm, so it ends instead.
    pub fn suspend(&self) {
        self.suspended.store(true, Ordering::Release);
        self.escalate();
    }

    /// Whether the session was told to freeze (Ctrl-Z), which stopped it: for a word to the user.
    pub fn was_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// Whether SIGTERM was among what stopped it: for the exit code.
    pub fn was_terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    /// What the loss of the terminal does: one stop, since a shell and the system may both tell of it; and in an
    /// emergency, which now nobody clears, as [`escalate`](Self::escalate).
    pub fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        if self.is_emergency() { self.escalate() } else { self.request(StopLevel::Stop) }
    }

    /// Whether the terminal was lost, which nobody need have wanted.
    pub fn was_hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Acquire)
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

    /// The emergency is over: episodes may be run again, unless a stop was asked for, before it or in it. Says whether
    /// there was an emergency.
    pub fn clear_emergency(&self) -> bool {
        self.emergency.swap(false, Ordering::AcqRel)
    }

    /// From now on no signal that a user or a system sends ends or freezes this process, but those that nobody can
    /// catch (SIGKILL, SIGSTOP). SIGINT, SIGTERM, SIGUSR1, SIGUSR2 and SIGALRM [`escalate`](Self::escalate) this flag, SIGTSTP (Ctrl-Z) is a
    /// [`suspend`](Self::suspend), SIGQUIT (Ctrl-\\) a [`quit`](Self::quit), and SIGHUP a [`hang_up`](Self::hang_up),
    /// unless it is ignored, as by `nohup`. SIGTTIN and SIGTTOU are ignored: a process in the background that reads the
    /// terminal finds an error (EIO) instead of being frozen. Its children ignore the two as well.
    ///
    /// # Errors
    /// When the handlers or their thread cannot be set up.
    pub fn escalate_on_signals(&self) -> io::Result<()> {
        ignore(SIGTTIN)?;
        ignore(SIGTTOU)?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGQUIT, SIGTSTP, SIGUSR1, SIGUSR2, SIGALRM])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let flag = self.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGHUP => flag.hang_up(),
                    SIGQUIT => flag.quit(),
                    SIGTSTP => flag.suspend(),
                    SIGTERM => {
                        flag.terminated.store(true, Ordering::Release);
                        flag.escalate();
                    }
                    _ => flag.escalate(),
                }
            }
        })?;
        Ok(())
    }
}

/// From now on nothing comes of `signal`.
fn ignore(signal: i32) -> io::Result<()> {
    #![expect(unsafe_code, reason = "std and signal-hook catch signals or leave them; a read fails with EIO only where it is ignored")]
    // SAFETY: SIG_IGN is no function that could be called at a wrong time.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process was started with `signal` ignored; where the system doesn't say, it wasn't.
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Calls `say` when SIGINT or SIGTERM is about to end this process, which it then does. For work that may be cut anywhere: it is not
/// waited for. Signals that are ignored stay so.
///
/// # Errors
/// When the handlers or their thread cannot be set up.
pub fn before_it_ends(say: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let heard: Vec<i32> = [SIGINT, SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)).collect();
    let mut signals = Signals::new(heard)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Where nobody reads, it would be said for ever.
            let (said, is_said) = std::sync::mpsc::channel::<()>();
            let speaks = std::thread::Builder::new().spawn(move || {
                say();
                drop(said);
            });
            if speaks.is_ok() {
                let _ = is_said.recv_timeout(LAST_WORDS);
            }
            drop(signal_hook::low_level::emulate_default_handler(signal));
        }
    })?;
    Ok(())
}

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
        assert!(!flag.was_hung_up());
        flag.hang_up();
        assert!(flag.was_hung_up());
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
        assert!(flag.clear_emergency() && flag.level() == StopLevel::Now, "what was asked for in it stays");
        assert!(!flag.clear_emergency(), "an ordinary stop stays");
        assert_eq!(flag.level(), StopLevel::Now);
        let flag = StopFlag::new();
        flag.emergency();
        assert!(flag.clear_emergency() && !flag.is_requested() && !flag.is_abandoned());
    }

    #[test]
    fn a_stop_before_an_emergency_outlives_it() {
        let flag = StopFlag::new();
        // SIGTERM, then the keys `e` and `c`.
        flag.escalate();
        flag.emergency();
        assert_eq!(flag.level(), StopLevel::Emergency);
        assert!(flag.clear_emergency());
        assert_eq!(flag.level(), StopLevel::Stop);
    }

    #[test]
    fn a_second_quit_abandons_and_a_first_does_not() {
        let flag = StopFlag::new();
        flag.quit();
        assert!(flag.level() == StopLevel::Now && !flag.is_abandoned());
        flag.quit();
        assert!(flag.level() == StopLevel::Now && flag.is_abandoned());
    }

    #[test]
    fn each_signal_escalates_and_none_kills_or_freezes() {
        let quit = StopFlag::new();
        let flag = StopFlag::new();
        quit.escalate_on_signals().unwrap();
        signal_hook::low_level::raise(SIGQUIT).unwrap();
        wait_for(&quit, StopLevel::Now);
        assert!(!quit.is_abandoned());
        flag.escalate_on_signals().unwrap();
        // Had they frozen this process, nothing would follow.
        signal_hook::low_level::raise(SIGTTIN).unwrap();
        signal_hook::low_level::raise(SIGTTOU).unwrap();
        assert!(!cfg!(target_os = "linux") || is_ignored(SIGTTIN) && is_ignored(SIGTTOU), "a read is to fail");
        signal_hook::low_level::raise(SIGTSTP).unwrap();
        wait_for(&flag, StopLevel::Stop);
        assert!(flag.was_suspended());
        // Ignored, if these tests are run by `nohup`; either way it kills nothing.
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert!(!flag.was_terminated());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        wait_for(&flag, StopLevel::Now);
        assert!(flag.was_terminated());
        signal_hook::low_level::raise(SIGINT).unwrap();
        let start = Instant::now();
        while !flag.is_abandoned() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
}
