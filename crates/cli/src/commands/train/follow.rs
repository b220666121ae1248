//! Following a training: its log as it grows, wherever that is, until it is known how it ended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use sinew_hub::{Hub, HubError, JobId, JobStage};
use sinew_runtime::StopFlag;

use super::progress::{Lines, Progress};
use super::run::{Run, Standing};
use crate::locale;
use crate::text::{self, note};

/// Lines of the log that are shown when it failed.
const LAST_LINES: usize = 20;
/// Of a line, characters that are shown.
const LONGEST_SHOWN: usize = 2000;
/// Pieces of the log that may wait: a log that is faster than who writes it down waits where it is.
const MOST_WAITING: usize = 64;
/// Pauses before a log that broke off is asked for again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A training that goes on somewhere.
#[derive(Clone)]
pub enum Training {
    Run(Run),
    Job(Hub, JobId),
}

/// How a training stands when it is followed no longer.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Trained,
    Failed(String),
    /// The user wants to go; it goes on.
    Left,
}

enum Heard {
    Log(Vec<u8>),
    Note(String),
    Over(Result<End, anyhow::Error>),
}

/// Follows `training` until it is over or `stop` is requested. What it logs goes to the file `log`, where that is not
/// its own.
pub fn follow(training: &Training, steps: u64, log: Option<&Path>, stop: &StopFlag, json: bool) -> anyhow::Result<End> {
    let mut log = log.map(|path| File::create(path).with_context(|| format!("making {}", path.display()))).transpose()?;
    let (sender, receiver) = mpsc::sync_channel(MOST_WAITING);
    let followed = training.clone();
    // It waits for others; when the user goes, nobody waits for it.
    std::thread::Builder::new().name("log".into()).spawn(move || listen(&followed, &sender)).context("starting a thread for the log")?;
    let mut show = Show::new(steps, json);
    let mut lines = Lines::default();
    let end = loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(Heard::Log(bytes)) => {
                if let Some(log) = &mut log {
                    log.write_all(&bytes).context("keeping the log")?;
                }
                lines.take(&bytes, |line| show.line(line));
            }
            Ok(Heard::Note(words)) => show.note(&words),
            Ok(Heard::Over(end)) => break end,
            Err(RecvTimeoutError::Timeout) if !stop.is_requested() => {}
            Err(RecvTimeoutError::Timeout) => break Ok(End::Left),
            Err(RecvTimeoutError::Disconnected) => break Err(anyhow::anyhow!("following the training: its thread is gone")),
        }
        if stop.is_requested() {
            break Ok(End::Left);
        }
    };
    lines.finish(|line| show.line(line));
    show.close(matches!(end, Ok(End::Failed(_))));
    end
}

fn listen(training: &Training, to: &SyncSender<Heard>) {
    let end = match training {
        Training::Run(run) => listen_to_run(run, to),
        Training::Job(hub, id) => listen_to_job(hub, id, to),
    };
    drop(to.send(Heard::Over(end)));
}

/// Pauses that grow while nothing comes of anything.
struct Patience {
    pause: Duration,
    is_lost: bool,
}

impl Patience {
    const NEW: Self = Self { pause: FIRST_PAUSE, is_lost: false };

    fn lost(&mut self, why: &str, to: &SyncSender<Heard>) {
        if !self.is_lost {
            drop(to.send(Heard::Note(format!("the log broke off ({why}); reading on as soon as it can be had"))));
        }
        self.is_lost = true;
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn found(&mut self) {
        *self = Self::NEW;
    }
}

fn listen_to_run(run: &Run, to: &SyncSender<Heard>) -> anyhow::Result<End> {
    let (mut at, mut patience) = (0, Patience::NEW);
    loop {
        let came = run.follow(at, |bytes| to.send(Heard::Log(bytes.to_vec())).is_ok())?;
        at += came;
        if came > 0 {
            patience.found();
        }
        match run.standing() {
            Ok(Standing::Ended { code: 0 }) => return Ok(End::Trained),
            Ok(Standing::Ended { code }) => return Ok(End::Failed(format!("lerobot-train ended with exit code {code}"))),
            Ok(Standing::Lost) => return Ok(End::Failed("its process is gone and has not said how it ended".to_owned())),
            Ok(Standing::None | Standing::Claimed) => anyhow::bail!("{}", run.nothing_there()),
            Ok(Standing::Running { .. }) => patience.lost("nothing more came", to),
            Err(error) => patience.lost(&text::chain(&error).replace('\n', " "), to),
        }
    }
}

fn listen_to_job(hub: &Hub, id: &JobId, to: &SyncSender<Heard>) -> anyhow::Result<End> {
    let (mut told, mut patience, mut waits) = (0, Patience::NEW, false);
    loop {
        let before = told;
        let mut tell = |mut line: String| {
            told += 1;
            line.push('\n');
            if to.send(Heard::Log(line.into_bytes())).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let log = hub.job_log(id, before, &mut tell);
        if told > before {
            patience.found();
        }
        let job = match hub.job(id) {
            Ok(Some(job)) => job,
            // That need not be its end, and nothing is written down as such.
            Ok(None) => anyhow::bail!("{}", unseen(id)),
            // The token may not: that does not change by waiting.
            Err(error @ (HubError::Refused { .. } | HubError::Offline { .. } | HubError::Client { .. })) => return Err(error.into()),
            Err(error) => {
                patience.lost(&error.to_string(), to);
                continue;
            }
        };
        if job.stage.is_over() && (log.is_ok() || patience.pause >= LONGEST_PAUSE) {
            let message = job.message.map(|message| format!(": {}", text::in_line(&cut(&message)))).unwrap_or_default();
            return Ok(match job.stage {
                JobStage::Completed => End::Trained,
                stage => End::Failed(format!("the job {}/{} {stage}{message}", id.namespace, id.id)),
            });
        }
        match log {
            Err(error) => patience.lost(&error.to_string(), to),
            Ok(()) if job.stage == JobStage::Scheduling => {
                if !waits {
                    drop(to.send(Heard::Note("the job waits for a machine".to_owned())));
                }
                waits = true;
                std::thread::sleep(FIRST_PAUSE);
            }
            // A stream that ends before its job does; the next begins with what is new.
            Ok(()) => std::thread::sleep(FIRST_PAUSE),
        }
    }
}

/// The Hub says the same of a job that is gone and of one that the token may not see.
/// The most of a Hub's message that is shown and kept.
fn cut(message: &str) -> String {
    message.chars().take(500).collect()
}

pub fn unseen(id: &JobId) -> String {
    format!(
        "looking at the job {}/{}: the Hub says there is none, or none that this token may see; log in as who started it (`sinew hub login`)",
        id.namespace, id.id
    )
}

/// What the user sees.
struct Show {
    progress: Progress,
    bar: ProgressBar,
    json: bool,
    last: VecDeque<String>,
}

impl Show {
    fn new(steps: u64, json: bool) -> Self {
        let is_drawn = !json && std::io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target).with_style(locale::bar("{wide_bar} {pos}/{len} steps  {msg}"));
        Self { progress: Progress::new(steps), bar, json, last: VecDeque::new() }
    }

    fn line(&mut self, line: &str) {
        let has_loss = self.progress.read(line);
        self.bar.set_position(self.progress.step);
        let Progress { step, steps, .. } = self.progress;
        if has_loss {
            self.bar.set_message(self.progress.in_words());
            if self.json {
                let event = json!({"event": "progress", "step": step, "steps": steps, "loss": self.progress.loss, "left_s": self.progress.left_s()});
                // Who reads no longer gets the rest in the log.
                drop(text::print_json(&event));
            } else if self.bar.is_hidden() {
                note!("step {step} of {steps}, {}", self.progress.in_words());
            }
        } else if !line.trim_start().starts_with("Training:") && !line.trim().is_empty() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            let shown: String = line.chars().take(LONGEST_SHOWN).collect();
            self.last.push_back(text::in_line(&shown).into_owned());
        }
    }

    fn note(&self, words: &str) {
        self.bar.suspend(|| note!("{}", text::in_line(words)));
    }

    fn close(&self, has_failed: bool) {
        self.bar.finish_and_clear();
        if has_failed {
            self.last.iter().for_each(|line| note!("  {line}"));
        }
    }
}
