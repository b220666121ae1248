//! What is shown while files come from the Hub or go there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};
use serde::{Deserialize, Serialize};
use sinew_core::service::{TaskProgress, TransferStep};
use sinew_hub::{Event, Hub, HubOptions, Listener, Transfer, give_way_by};
use sinew_runtime::{Role, keep_apart, place};

use crate::locale;
use crate::text::{self, note};

/// Files below this size are counted in the whole, and have no bar of their own.
const SHOWN_FROM_BYTES: u64 = 4 << 20;

/// The Hub for what may take long: a robot may be at work on this machine, and its loop comes first. `limit` is in megabytes a second.
pub fn hub(limit: Option<f64>) -> Hub {
    give_way_by(keep_apart);
    let upload_limit = limit.map(|megabytes| (megabytes * 1e6) as u64);
    Hub::new(HubOptions { upload_limit, on_thread_start: Some(|| place(Role::Transfer)), ..HubOptions::from_env() })
}

/// Shows how far transfers are: a bar for each large file and one for all. Says once which commit is meant. On anything
/// but a terminal only the latter.
pub fn shown() -> Arc<Listener> {
    let bars = Mutex::new(Bars::default());
    Arc::new(move |event| {
        // A poisoned lock would mean that drawing panicked; then nothing more is drawn.
        let Ok(mut bars) = bars.lock() else { return };
        match event {
            Event::Resolved { repo, commit } => bars.say(&format!("{repo} is commit {commit}")),
            Event::FromCache { repo, commit, why } => bars.say(&format!("{repo}: commit {commit} from the cache, as {why}")),
            Event::Committed { repo, commit, number, of } if of > 1 => bars.say(&format!("{repo} is commit {commit}, {number} of {of}")),
            Event::Committed { .. } => {}
            Event::Reading(transfer) | Event::Transfer(transfer) => bars.draw(transfer),
            Event::Waiting { silent, at_most } => bars.wait(silent.as_secs(), at_most.as_secs()),
            Event::Streamed { file, streamed_bytes } => bars.stream(file, streamed_bytes),
        }
    })
}

/// Tells that transfers are to be followed by the program that has started this one: on standard output, a line of JSON as in [`Told`]
/// now and then.
pub const TELL: &str = "SINEW_TELLS_PROGRESS";

/// How far a transfer is, on a line of its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    pub progress: TaskProgress,
}

/// How often it is told that nothing moves.
const SILENCE: Duration = Duration::from_secs(1);

/// What was told last, and whether something has moved since it was looked at.
struct Telling {
    last: TaskProgress,
    has_moved: bool,
}

impl Telling {
    fn tell(&mut self, progress: TaskProgress) {
        // Who has stopped reading is told nothing.
        drop(text::print_json(&Told { progress: progress.clone() }));
        self.last = progress;
    }
}

/// Where this is a child that is followed, tells it of transfers, and of a Hub that was asked and says nothing.
pub fn told() -> Option<Arc<Listener>> {
    std::env::var_os(TELL)?;
    let asks = TaskProgress { step: TransferStep::Ask, file: String::new(), done_bytes: 0, total_bytes: 0, silent_s: 0 };
    let mut begun = Telling { last: asks.clone(), has_moved: true };
    begun.tell(asks);
    let telling = Arc::new(Mutex::new(begun));
    let silent = Arc::downgrade(&telling);
    // Without the thread a silence is not told, and nothing else is lost.
    let watching = std::thread::Builder::new().name("silence".into()).spawn(move || {
        while let Some(telling) = silent.upgrade() {
            {
                let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
                let silent_s = if std::mem::take(&mut telling.has_moved) { 0 } else { telling.last.silent_s + SILENCE.as_secs() };
                if silent_s != telling.last.silent_s {
                    let progress = TaskProgress { silent_s, ..telling.last.clone() };
                    telling.tell(progress);
                }
            }
            drop(telling);
            std::thread::sleep(SILENCE);
        }
    });
    drop(watching);
    Some(Arc::new(move |event| {
        let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = match event {
            Event::Reading(transfer) => progress_of(TransferStep::Read, transfer),
            Event::Transfer(transfer) => progress_of(TransferStep::Transfer, transfer),
            Event::Waiting { .. } => return,
            // The Hub has answered.
            _ => return telling.has_moved = true,
        };
        telling.has_moved = true;
        if is_far_from(&progress, &telling.last) {
            telling.tell(progress);
        }
    }))
}

fn progress_of(step: TransferStep, transfer: Transfer<'_>) -> TaskProgress {
    let Transfer { file, done_bytes, total_bytes, .. } = transfer;
    TaskProgress { step, file: file.to_owned(), done_bytes, total_bytes, silent_s: 0 }
}

/// Whether somebody who saw `last` would see another bar.
fn is_far_from(now: &TaskProgress, last: &TaskProgress) -> bool {
    let is_end = now.done_bytes >= now.total_bytes && now.done_bytes != last.done_bytes;
    let way = now.done_bytes.abs_diff(last.done_bytes);
    is_end || way > now.total_bytes / 200 || (now.step, now.silent_s, now.total_bytes) != (last.step, last.silent_s, last.total_bytes)
}

/// Hears everything and shows nothing.
pub fn silent() -> Arc<Listener> {
    Arc::new(|_| {})
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    total: Option<ProgressBar>,
    files: BTreeMap<String, ProgressBar>,
    streamed: Option<ProgressBar>,
    /// Whether it was said that nothing moves, where there is no bar to say it.
    is_wait_said: bool,
}

impl Bars {
    fn say(&self, line: &str) {
        self.all.suspend(|| note!("{}", text::in_line(line)));
    }

    /// On the bar, where there is one; else once.
    fn wait(&mut self, silent_s: u64, at_most_s: u64) {
        match &self.total {
            Some(total) if !total.is_hidden() => total.set_message(format!("nothing moves for {silent_s} s of {at_most_s} s")),
            _ if std::mem::replace(&mut self.is_wait_said, true) => {}
            _ => self.say(&format!("nothing moves for {silent_s} s; it is given up after {at_most_s} s of that")),
        }
    }

    /// Of parts it is not known how many will be wanted.
    fn stream(&mut self, file: &str, bytes: u64) {
        let all = &self.all;
        let line = self.streamed.get_or_insert_with(|| all.add(bar("{msg:32!} {bytes} streamed")));
        line.set_message(text::in_line(file).into_owned());
        line.set_position(bytes);
    }

    fn draw(&mut self, transfer: Transfer<'_>) {
        let all = &self.all;
        let total = self.total.get_or_insert_with(|| all.add(bar("{msg:32!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")));
        total.set_length(transfer.total_bytes);
        total.set_position(transfer.done_bytes);
        total.set_message(if self.files.is_empty() { text::in_line(transfer.file).into_owned() } else { "all files".to_owned() });
        if transfer.file_bytes >= SHOWN_FROM_BYTES && transfer.file_bytes < transfer.total_bytes {
            let file = self.files.entry(transfer.file.to_owned()).or_insert_with(|| {
                let bar = all.insert_before(total, bar("  {msg:30!} {wide_bar} {bytes}/{total_bytes}"));
                bar.with_message(text::in_line(transfer.file).into_owned())
            });
            file.set_length(transfer.file_bytes);
            file.set_position(transfer.file_done_bytes);
            if transfer.file_done_bytes >= transfer.file_bytes {
                file.finish_and_clear();
                all.remove(file);
                self.files.remove(transfer.file);
            }
        }
        if transfer.done_bytes >= transfer.total_bytes {
            total.finish_and_clear();
            *self = Self::default();
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    ProgressBar::new(0).with_style(locale::bar(template))
}
