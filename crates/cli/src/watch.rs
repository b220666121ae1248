//! A progress bar, Ctrl-C, and questions: what every long operation has.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget};
use sinew_recorder::{Progress, Step, ToolError};
use sinew_runtime::StopFlag;

use crate::text::{self, note};
use crate::{Done, locale, terminal};

/// From when it is made on, Ctrl-C no longer ends the process, but the operation.
pub struct Watch {
    stop: StopFlag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    Interrupted,
}

impl Watch {
    pub fn start() -> anyhow::Result<Self> {
        let stop = StopFlag::new();
        stop.escalate_on_signals().context("listening for Ctrl-C")?;
        Ok(Self { stop })
    }

    /// What to end with after a signal, where nothing was begun that had to end in order.
    pub fn ended(&self) -> Done {
        if self.stop.was_terminated() { Done::Terminated } else { Done::Interrupted }
    }

    /// Does `work` under a progress bar; `None` when Ctrl-C stopped it.
    pub fn run<T>(&self, work: impl FnOnce(&mut Progress<'_>) -> Result<T, ToolError>) -> anyhow::Result<Option<T>> {
        let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(locale::bar("{msg} {wide_bar} {pos}/{len} {elapsed}"));
        let mut progress = |step: Step<'_>| {
            bar.set_length(step.total);
            bar.set_position(step.done);
            if bar.message() != step.doing {
                bar.set_message(text::in_line(step.doing).into_owned());
            }
            if self.stop.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let result = work(&mut progress);
        bar.finish_and_clear();
        match result {
            Ok(done) => Ok(Some(done)),
            Err(error @ ToolError::Stopped) => {
                note!("{error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks on the terminal; `unasked` says what to type where there is none.
    pub fn ask(&self, question: &str, unasked: &str) -> anyhow::Result<Answer> {
        Ok(match self.choose(&format!("{question} [y/N]"), &['y', 'n'], unasked)? {
            Some('y') => Answer::Yes,
            Some(_) => Answer::No,
            None => Answer::Interrupted,
        })
    }

    /// Asks for one of `letters`; the last is what anything else means. `None` when Ctrl-C was pressed.
    pub fn choose(&self, question: &str, letters: &[char], unasked: &str) -> anyhow::Result<Option<char>> {
        anyhow::ensure!(
            std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            "{question}: there is no terminal to ask on; {unasked}"
        );
        let Some(line) = self.line(question)? else { return Ok(None) };
        let first = line.trim().to_lowercase().chars().next();
        Ok(first.filter(|first| letters.contains(first)).or_else(|| letters.last().copied()))
    }

    /// Asks for a line that is not shown while it is typed, on the terminal; `None` when Ctrl-C was pressed.
    pub fn secret(&self, question: &str) -> anyhow::Result<Option<String>> {
        terminal::hide().context("hiding what is typed")?;
        let line = self.line(question);
        terminal::restore();
        note!("");
        line
    }

    fn line(&self, question: &str) -> anyhow::Result<Option<String>> {
        let mut terminal = text::stderr();
        write!(terminal, "{question} ")?;
        terminal.flush()?;
        // On a thread, since Ctrl-C does not interrupt what reads a line.
        let (send, answer) = channel();
        std::thread::Builder::new().name("answer".into()).spawn(move || {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line).map(|_| line);
            // Whoever asked has gone.
            drop(send.send(read));
        })?;
        loop {
            match answer.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(Some(line.context("reading the answer")?)),
                Err(RecvTimeoutError::Timeout) if self.stop.is_requested() => {
                    note!("");
                    return Ok(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("reading the answer: nobody reads it any more"),
            }
        }
    }
}
