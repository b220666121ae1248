//! The bottom of the terminal: the status line, and above it, where commands are typed, the line that is being edited. What
//! is said meanwhile appears above both.

use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, Config, Editor, Helper};

use crate::outlet::{self, Printer, Stream};
use crate::{locale, terminal, text};

/// What is there while a line is edited.
struct Editing {
    printer: Printer,
    /// Rows and columns for which the last row was set apart.
    size: (u16, u16),
}

static EDITING: Mutex<Option<Editing>> = Mutex::new(None);

fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    Some((size.ws_row, size.ws_col)).filter(|(rows, columns)| *rows > 2 && *columns > 1)
}

/// Whether lines on stderr can be drawn in the place of others.
pub fn can_redraw() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb" && !kind.is_empty())
}

/// One write, so that nothing comes between its parts. A terminal that can't be written to is no reason to stop an arm.
fn put(bytes: &str) {
    drop(text::raw_stderr().write_all(locale::shown(bytes.into()).as_bytes()));
}

/// The rows above the last one scroll by themselves from now on (DECSTBM); the cursor stays where it is.
fn set_apart(rows: u16) -> String {
    format!("\x1b7\x1b[1;{}r\x1b8", rows - 1)
}

/// Draws the status line, which has room for `line`, in the place of the last. One that nobody has read yet is not drawn over.
pub fn draw_status(line: &str) {
    if !line.is_empty() && outlet::is_behind(Stream::Errors) {
        return;
    }
    let mut editing = EDITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(editing) = editing.as_mut() else { return put(&format!("\r\x1b[2K{line}")) };
    let Some(now) = size() else { return };
    let again = if std::mem::replace(&mut editing.size, now) == now { String::new() } else { set_apart(now.0) };
    put(&format!("{again}\x1b7\x1b[{};1H\x1b[2K{line}\x1b8", now.0));
}

/// Says a line above the one that is being edited; `false` where none is.
pub fn say_above(words: Arguments<'_>) -> bool {
    let editing = EDITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(editing) = editing.as_ref() else { return false };
    let words = text::fitting(words.to_string().trim_start_matches('\n'));
    outlet::above(&editing.printer, format!("{}\n", locale::shown(text::harmless(&words))))
}

/// Completes commands.
struct Commands(&'static [&'static str]);

impl Completer for Commands {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        Ok((0, self.0.iter().filter(|command| command.starts_with(typed)).map(|command| (*command).to_owned()).collect()))
    }
}

impl Hinter for Commands {
    type Hint = String;
}

impl Highlighter for Commands {}
impl Validator for Commands {}
impl Helper for Commands {}

/// A line that is edited until it is entered, again and again.
pub struct Prompt(Editor<Commands, MemHistory>);

impl Prompt {
    /// `None` where standard input or standard error is no terminal of this process, or one that can only print.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn open(commands: &'static [&'static str]) -> anyhow::Result<Option<Self>> {
        let Some(size) = size().filter(|_| can_redraw()) else { return Ok(None) };
        if !terminal::keep() {
            return Ok(None);
        }
        let doing = "asking the terminal for a line that can be edited";
        // Ctrl-C stays what it is, a signal.
        let config = Config::builder().behavior(Behavior::PreferTerm).enable_signals(true).max_history_size(100).context(doing)?.build();
        let mut editor = Editor::with_history(config.clone(), MemHistory::with_config(&config)).context(doing)?;
        editor.set_helper(Some(Commands(commands)));
        let printer: Printer = Arc::new(Mutex::new(Box::new(editor.create_external_printer().context(doing)?)));
        outlet::catch_up();
        put(&format!("\n\x1b[A{}", set_apart(size.0)));
        *EDITING.lock().unwrap_or_else(PoisonError::into_inner) = Some(Editing { printer, size });
        Ok(Some(Self(editor)))
    }

    /// The next line that is entered; `None` when there will be none.
    pub fn line(&mut self) -> Option<String> {
        match self.0.readline("> ") {
            Ok(line) => {
                // Without it the line can't be had again by the arrow; nothing else is lost.
                let _ = self.0.add_history_entry(&line);
                Some(line)
            }
            // A line that was thrown away.
            Err(ReadlineError::Interrupted) => Some(String::new()),
            // It has bytes that are no UTF-8, and is no command; what comes after it is.
            Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => Some(char::REPLACEMENT_CHARACTER.to_string()),
            Err(_) => None,
        }
    }
}

/// Nothing is edited any more, and the terminal is as it was found; for every way out of the process.
pub fn close() {
    if EDITING.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
        let last = size().map_or_else(String::new, |(rows, _)| format!("\x1b[{rows};1H\x1b[2K"));
        put(&format!("\x1b7\x1b[r{last}\x1b8\r\x1b[2K"));
        terminal::restore();
    }
}
