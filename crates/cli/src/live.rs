//! One live line while a session runs, and the last resort when saving it never ends.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sinew_runtime::{Progress, StopFlag};

const REDRAW: Duration = Duration::from_millis(100);
/// How long a disarmed session may take to wind up when it is told again, after it was to stop at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// Draws until it is dropped.
pub struct LiveLine {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LiveLine {
    /// Draws on stderr when that is a terminal.
    pub fn start(progress: Arc<Progress>, episodes: u64, stop: StopFlag) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        // Without the thread there is no line, and nothing else is lost.
        let thread = std::thread::Builder::new().name("live line".into()).spawn(move || draw(&progress, episodes, &stop, &seen)).ok();
        Self { done, thread }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic while drawing was printed where it happened.
            drop(thread.join());
        }
    }
}

fn draw(progress: &Progress, episodes: u64, stop: &StopFlag, done: &AtomicBool) {
    let shown = std::io::stderr().is_terminal();
    let mut idle_since: Option<Instant> = None;
    let (mut last, mut last_ticks, mut rate) = (Instant::now(), 0, 0.0);
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(REDRAW);
        let now = progress.snapshot();
        // The rate as the user feels it, on his clock.
        let elapsed = last.elapsed();
        if elapsed >= Duration::from_millis(500) {
            rate = (now.total_ticks - last_ticks) as f64 / elapsed.as_secs_f64();
            (last, last_ticks) = (Instant::now(), now.total_ticks);
        }
        if shown {
            let line = format!(
                "episode {}/{episodes}  tick {}{}  {rate:.1} Hz  late {:.2} ms  inference {:.1} ms  queue {}  limited {}  missed {}  starved {}{}",
                now.attempt + 1,
                now.tick,
                if now.max_ticks == u64::MAX { String::new() } else { format!("/{}", now.max_ticks) },
                now.lateness_ns as f64 * 1e-6,
                now.inference_ns as f64 * 1e-6,
                now.queued,
                now.interventions,
                now.missed_ticks,
                now.starved_ticks,
                if stop.is_requested() { "  stopping" } else { "" },
            );
            // A terminal that cannot be written to is no reason to stop an arm.
            drop(write!(std::io::stderr(), "\r\x1b[2K{line}"));
        }
        if stop.is_abandoned() && !now.armed {
            let since = *idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                crate::text::note!(
                    "\nleaving before all was saved, as you insist; the robot is in its safe state, and --resume offers the rest"
                );
                crate::terminal::restore();
                #[expect(clippy::exit, reason = "a thread that waits for a disk can be ended in no other way")]
                std::process::exit(i32::from(crate::INTERRUPTED));
            }
        } else {
            idle_since = None;
        }
    }
    if shown {
        drop(write!(std::io::stderr(), "\r\x1b[2K"));
    }
}
