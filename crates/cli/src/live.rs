//! One live line while a session runs, and the last resort when its end never comes.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{measure_text_width, truncate_str};
use sinew_drivers::camera::CameraMonitor;
use sinew_runtime::{Progress, ProgressSnapshot, StopFlag, StopLevel};

use crate::outlet::{self, Stream};
use crate::{cameras, locale, prompt, text};

const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is written where none can be drawn in the place of another.
pub const PLAIN: Duration = Duration::from_secs(10);
/// How long a disarmed session may take to wind up when it is told again, after it was to stop at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the last words before that may take, and the terminal's mode.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a live line says of a session now, which turned at so many Hz lately: parts, the most important first. A narrow
/// terminal shows as many as it has room for.
pub type Words = Box<dyn Fn(&ProgressSnapshot, f64) -> Vec<String> + Send>;

fn tick(now: &ProgressSnapshot) -> String {
    if now.max_ticks == u64::MAX { format!("tick {}", now.tick) } else { format!("tick {}/{}", now.tick, now.max_ticks) }
}

fn late(now: &ProgressSnapshot) -> String {
    format!("late {:.1} ms", now.lateness_ns as f64 * 1e-6)
}

/// Of a policy's run.
pub fn of_episodes(stage: Arc<Stage>) -> Words {
    Box::new(move |now, rate| {
        if now.max_ticks == 0 {
            return vec![stage.in_words("episode"), "not started".to_owned()];
        }
        vec![
            stage.in_words("episode"),
            tick(now),
            format!("{rate:.1} Hz"),
            format!("starved {}", now.starved_ticks),
            late(now),
            format!("missed {}", now.missed_ticks),
            format!("limited {}", now.interventions),
            format!("inference {:.0} ms", now.inference_ns as f64 * 1e-6),
            format!("queue {}", now.queued),
        ]
    })
}

/// Of a robot that is moved by a human, or by what was recorded.
pub fn of_one() -> Words {
    Box::new(move |now, rate| {
        vec![
            tick(now),
            format!("{rate:.1} Hz"),
            late(now),
            format!("missed {}", now.missed_ticks),
            format!("limited {}", now.interventions),
        ]
    })
}

/// Where a series is between its episodes, shared with the one who draws.
pub struct Stage {
    episodes: u64,
    done: AtomicU64,
    is_resetting: AtomicBool,
}

impl Stage {
    pub fn new(episodes: u64) -> Self {
        Self { episodes, done: AtomicU64::new(0), is_resetting: AtomicBool::new(false) }
    }

    /// The next episode is being set up, or no longer.
    pub fn is_resetting(&self, is: bool) {
        self.is_resetting.store(is, Ordering::Release);
    }

    fn in_words(&self, what: &str) -> String {
        let number = (self.done.load(Ordering::Acquire) + 1).min(self.episodes);
        if self.episodes == 1 { what.to_owned() } else { format!("{what} {number}/{}", self.episodes) }
    }

    /// The one after `done` runs now.
    pub fn begins_after(&self, done: u64) {
        self.done.store(done, Ordering::Release);
        self.is_resetting(false);
    }
}

/// Of a recording into `out`, of a robot with `fps` ticks a second: what matters to the one who leads it.
pub fn of_recording(stage: Arc<Stage>, fps: f64, out: &Path, cameras: Option<CameraMonitor>) -> Words {
    let disk = Mutex::new(DiskLeft::of(out));
    Box::new(move |now, rate| {
        let what = if stage.is_resetting.load(Ordering::Acquire) { "reset" } else { "recording" };
        let end = if now.max_ticks == u64::MAX { String::new() } else { format!(" of {:.0}", now.max_ticks as f64 / fps) };
        let mut parts = vec![
            stage.in_words(what),
            format!("{:.1}{end} s", now.tick as f64 / fps),
            format!("{rate:.1} Hz"),
            format!("lost {}", now.frames_lost),
            format!("missed {}", now.missed_ticks),
        ];
        parts.extend(disk.lock().ok().and_then(|mut disk| disk.bytes()).map(|bytes| format!("{} left", in_bytes(bytes))));
        parts.extend(cameras.as_ref().map(cameras::ages).filter(|ages| !ages.is_empty()));
        parts.extend([late(now), format!("limited {}", now.interventions)]);
        parts
    })
}

fn in_bytes(bytes: u64) -> String {
    if bytes >= 10_000_000_000 { format!("{} GB", bytes / 1_000_000_000) } else { format!("{} MB", bytes / 1_000_000) }
}

/// What a disk has left, asked for now and then.
struct DiskLeft {
    place: PathBuf,
    asked: Option<Instant>,
    bytes: Option<u64>,
}

impl DiskLeft {
    const EVERY: Duration = Duration::from_secs(2);

    fn of(place: &Path) -> Self {
        Self { place: place.to_owned(), asked: None, bytes: None }
    }

    fn bytes(&mut self) -> Option<u64> {
        if self.asked.is_none_or(|asked| asked.elapsed() > Self::EVERY) {
            self.asked = Some(Instant::now());
            self.bytes = rustix::fs::statvfs(&self.place).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        }
        self.bytes
    }
}

/// How long a viewer may take for what it has still to read, or a file for what is still to be written.
pub const VIEW_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Rings the terminal's bell, where there is one.
pub fn ring() {
    if std::io::stderr().is_terminal() {
        // A terminal that has gone hears nothing.
        drop(text::raw_stderr().write_all(b"\x07"));
    }
}

/// Draws until it is dropped.
pub struct LiveLine {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LiveLine {
    /// Draws on stderr when that is a terminal.
    pub fn start(progress: Arc<Progress>, words: Words, stop: StopFlag) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        // Without the thread there is no line, and nothing else is lost.
        let thread = std::thread::Builder::new().name("live line".into()).spawn(move || draw(&progress, &words, &stop, &seen)).ok();
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

/// As many of `parts`, from the first on, as have room in so many columns.
fn fitted(parts: &[String], columns: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() { "" } else { "  " };
        if measure_text_width(&line) + gap.len() + measure_text_width(part) > columns {
            break;
        }
        line.push_str(gap);
        line.push_str(part);
    }
    // A first part that has no room is cut: something is to be seen.
    if line.is_empty() { parts.first().map(|part| truncate_str(part, columns, "").into_owned()).unwrap_or_default() } else { line }
}

/// What comes first where a stop was asked for. In an emergency a run may wait to be cleared, and go on.
fn stopping(level: StopLevel) -> Option<&'static str> {
    match level {
        StopLevel::Run => None,
        StopLevel::Stop | StopLevel::Now => Some("stopping"),
        StopLevel::Emergency => Some("emergency stop"),
    }
}

fn draw(progress: &Progress, words: &Words, stop: &StopFlag, done: &AtomicBool) {
    let shown = prompt::can_redraw();
    let (mut last, mut last_ticks, mut rate) = (Instant::now(), 0, 0.0);
    let mut written = Instant::now();
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(REDRAW);
        let now = progress.snapshot();
        // The rate as the user feels it, on his clock.
        let elapsed = last.elapsed();
        if elapsed >= Duration::from_millis(500) {
            rate = (now.total_ticks - last_ticks) as f64 / elapsed.as_secs_f64();
            (last, last_ticks) = (Instant::now(), now.total_ticks);
        }
        if !shown && written.elapsed() < PLAIN {
            continue;
        }
        let mut parts = words(&now, rate);
        if let Some(words) = stopping(stop.level()) {
            parts.insert(0, words.to_owned());
        }
        if shown {
            // What is wider than the terminal would go on in the next line, and stay there.
            prompt::draw_status(&fitted(&parts, width()));
        } else {
            let columns = text::columns_of(std::io::stderr());
            text::note!("{}", columns.map_or_else(|| parts.join("  "), |columns| fitted(&parts, columns)));
            written = Instant::now();
        }
    }
    if shown {
        prompt::draw_status("");
    }
}

/// Columns of the terminal on stderr.
fn width() -> usize {
    text::columns_of(std::io::stderr()).unwrap_or(80).max(10) - 1
}

/// Rows of the terminal on stderr that can be drawn on, with the cursor below.
fn rows() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(24, |size| usize::from(size.ws_row)).max(2) - 1
}

/// Lines on stderr that are drawn anew in their place, where that is a terminal.
pub struct LiveText {
    lines: usize,
    drawn: Option<Instant>,
}

impl LiveText {
    pub fn new() -> Self {
        Self { lines: 0, drawn: None }
    }

    /// Draws `text`, which may be asked for as often as one likes, now and then.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        let is_early = self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW);
        // What nobody has read yet is not drawn over.
        if is_early || !prompt::can_redraw() || outlet::is_behind(Stream::Errors) {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = text();
        let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A", self.lines) };
        // What is wider or higher than the terminal would scroll, and stand there again and again.
        let (columns, rows) = (width(), rows());
        let fitting: Vec<_> = text.lines().take(rows).collect();
        let draw = |line: &&str| format!("\r\x1b[2K{}\n", truncate_str(&text::in_line(line), columns, ""));
        let lines: String = fitting.iter().map(draw).collect();
        self.lines = fitting.len();
        // What was drawn when there was more room is wiped away below.
        drop(text::raw_stderr().write_all(format!("{up}\x1b[J{}", locale::shown(lines.into())).as_bytes()));
    }
}

/// From now on, as long as the process lives, ends it when it was told so once more than it can be told
/// ([`StopFlag::is_abandoned`]) and has not wound up 3 s later, the robot being safe: it may wait for ever for a disk, for
/// somebody who reads its output, or for a terminal.
pub fn leave_when_abandoned(progress: Arc<Progress>, stop: StopFlag) {
    let leave = move || {
        let mut idle_since: Option<Instant> = None;
        loop {
            std::thread::sleep(REDRAW);
            if !stop.is_abandoned() || progress.snapshot().armed {
                idle_since = None;
            } else if idle_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                text::note!("\nleaving before all was saved, as you insist; the robot is in its safe state, and --resume offers the rest");
                // Neither is waited for: both may be what this process hangs in.
                wait_a_little(|| text::settle(true), LAST_WORDS);
                wait_a_little(crate::terminal::restore, LAST_WORDS);
                #[expect(clippy::exit, reason = "a thread that waits for a disk can be ended in no other way")]
                std::process::exit(i32::from(crate::INTERRUPTED));
            }
        }
    };
    // Without the thread a process that hangs has to be killed, as without this.
    drop(std::thread::Builder::new().name("last resort".into()).spawn(leave));
}

/// Does something that may never end, and waits so long for it; says whether it has ended.
pub fn wait_a_little(work: impl FnOnce() + Send + 'static, time: Duration) -> bool {
    let (done, is_done) = std::sync::mpsc::channel();
    let worked = std::thread::Builder::new().spawn(move || {
        work();
        // Whoever asked may have gone on.
        let _ = done.send(());
    });
    worked.is_ok() && is_done.recv_timeout(time).is_ok()
}
