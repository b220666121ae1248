//! Small ways to say things.

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};
use std::io::{ErrorKind, StderrLock, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use console::measure_text_width;
use serde::Serialize;
pub use sinew_recorder::bytes_in_words as bytes;

use crate::{locale, prompt};

/// A line on stdout like `println!`, but a reader who has gone away (`sinew ... | head`) ends nothing: a
/// session goes on, and above all it ends in order. What a terminal would obey is shown instead.
macro_rules! say {
    ($($part:tt)*) => { $crate::text::say_line(format_args!($($part)*)) };
}
pub(crate) use say;

/// The same on stderr: a terminal that is gone is no reason to leave an arm to itself.
macro_rules! note {
    ($($part:tt)*) => { $crate::text::note_line(format_args!($($part)*)) };
}
pub(crate) use note;

pub fn say_line(words: Arguments<'_>) {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    let written = if columns == 0 {
        writeln!(stdout(), "{words}")
    } else if prompt::say_above(words) {
        Ok(())
    } else {
        let words = words.to_string();
        let lines: Vec<String> = words.split('\n').map(|line| wrapped(line, columns)).collect();
        writeln!(stdout(), "{}", lines.join("\n"))
    };
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first one is told at the end.
        drop(LOST.set(error));
    }
}

/// Why something that was said did not get to standard output, though a reader may wait for it.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// The first error of those by which something that was said was lost.
pub fn lost() -> Option<&'static std::io::Error> {
    LOST.get()
}

/// What is said of an error of standard output.
pub fn not_written(error: &std::io::Error) -> String {
    format!("writing to standard output: {error}")
}

/// Where the second column of what is said begins.
const INDENT: usize = 10;

/// A line with a word in front ("policy    ...") that goes on below its second column, where `columns` are not enough. Other
/// lines are commands and tables, which are left whole.
fn wrapped(line: &str, columns: usize) -> String {
    let is_labelled = line.chars().next().is_some_and(char::is_alphabetic)
        && line.chars().nth(INDENT - 1) == Some(' ')
        && line.chars().nth(INDENT).is_some_and(|c| c != ' ');
    if !is_labelled || measure_text_width(line) <= columns || columns < 3 * INDENT {
        return line.to_owned();
    }
    let (mut text, mut at) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        if at > INDENT && at + measure_text_width(word.trim_end()) > columns {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(INDENT));
            at = INDENT;
        }
        text.push_str(word);
        at += measure_text_width(word);
    }
    text
}

pub fn note_line(words: Arguments<'_>) {
    if !prompt::say_above(words) {
        drop(writeln!(stderr(), "{words}"));
    }
}

/// The one way to standard output: datasets, checkpoints and the Hub are written by strangers, and their words must
/// not be commands to the terminal. Locked, until it is dropped.
pub fn stdout() -> Harmless<Stdout> {
    Harmless(raw_stdout())
}

/// The same for what programs read, byte by byte.
pub fn raw_stdout() -> Stdout {
    Stdout(std::io::stdout().lock())
}

/// Standard output, whose errors say that it is.
pub struct Stdout(StdoutLock<'static>);

impl Stdout {
    fn told(error: std::io::Error) -> std::io::Error {
        std::io::Error::new(error.kind(), not_written(&error))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(Self::told)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(Self::told)
    }
}

/// The same to standard error.
pub fn stderr() -> Harmless<StderrLock<'static>> {
    Harmless(std::io::stderr().lock())
}

/// Passes text on with [`harmless`] in place of what is not.
pub struct Harmless<W>(W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(locale::shown(harmless(&String::from_utf8_lossy(bytes))).as_bytes())?;
        Ok(bytes.len())
    }

    fn write_fmt(&mut self, text: Arguments<'_>) -> std::io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// What a terminal obeys or is confused by instead of showing it: control characters but for the end of a line and
/// the tabulator, and what changes the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn replaced(text: &str, is_bad: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut result = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) { result.push_str(&escape(c)) } else { result.push(c) }
    }
    Cow::Owned(result)
}

/// The text with `\u{1b}` for ESC, and so for everything that a terminal would not just show.
pub fn harmless(text: &str) -> Cow<'_, str> {
    replaced(text, is_obeyed, |c| c.escape_unicode().to_string())
}

/// The same for what stands within a line: a stranger's words make no further lines that look like ours.
pub fn in_line(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c == '\n' || is_obeyed(c), |c| if c == '\n' { "\\n".to_owned() } else { c.escape_unicode().to_string() })
}

/// One JSON value on a line of its own on stdout, at once. What a terminal would obey can stand in its strings only,
/// where JSON has an escape for it.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_string(value)?;
    // JSON is UTF-8, whatever the locale.
    let mut out = raw_stdout();
    writeln!(out, "{}", replaced(&json, is_obeyed, |c| format!("\\u{:04x}", u32::from(c))))?;
    Ok(out.flush()?)
}

/// An error and what caused it, each said once, on lines of their own.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !last.ends_with(&cause) {
            let _ = write!(text, "\n  because: {}", cause.trim_end().replace('\n', "\n  "));
        }
        last = cause;
    }
    text
}

/// A number of things: "1 episode", "2 episodes", "3 repositories".
pub fn plural(count: u64, what: &str) -> String {
    match what.strip_suffix("ry") {
        _ if count == 1 => format!("{count} {what}"),
        Some(begin) => format!("{count} {begin}ries"),
        None => format!("{count} {what}s"),
    }
}

/// Whether the reader of our output has gone (`sinew ... | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}

/// 11234567 as "11.2 M".
pub fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// Rows as aligned columns, the first row underlined as the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|cell| in_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
        if i == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
            let _ = writeln!(text, "  {}", rule.join("  "));
        }
    }
    text
}

/// The first of `folder/prefix1suffix`, `folder/prefix2suffix`, ... that is not there yet.
pub fn next_free(folder: &str, prefix: &str, suffix: &str) -> PathBuf {
    let free = (1..).map(|n: u64| Path::new(folder).join(format!("{prefix}{n}{suffix}"))).find(|path| !path.exists());
    free.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_already_said_is_not_said_again() {
        let root = anyhow::anyhow!("no such file");
        let error = root.context("reading config.json").context("opening the checkpoint x: reading config.json");
        assert_eq!(chain(&error), "opening the checkpoint x: reading config.json\n  because: no such file");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let hostile = "a\u{1b}[31m\u{9b}2J\u{202e}b\r\u{7}\tc\né 😀";
        assert_eq!(harmless(hostile), "a\\u{1b}[31m\\u{9b}2J\\u{202e}b\\u{d}\\u{7}\tc\né 😀");
        assert_eq!(in_line("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert!(matches!(harmless("usual"), Cow::Borrowed(_)));
        let mut out = Harmless(Vec::new());
        write!(out, "x\u{1b}{}", 1).unwrap();
        assert_eq!(out.0, b"x\\u{1b}1");
    }

    #[test]
    fn what_is_too_long_goes_on_below_its_second_column() {
        let line = "cadence   29.99 of 30 Hz over 576 ticks; late by 0.1 ms (median)";
        assert_eq!(wrapped(line, 40), "cadence   29.99 of 30 Hz over 576 ticks;\n          late by 0.1 ms (median)");
        assert_eq!(wrapped(line, 80), line);
        let command = "            lerobot-dataset-viz --repo-id local/rollout --root outputs";
        assert_eq!(wrapped(command, 40), command);
        assert_eq!(wrapped("a longer sentence that is no fact and stays as it is", 40).lines().count(), 1);
    }

    #[test]
    fn columns_line_up() {
        let text = table(&[vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]]);
        assert_eq!(text, "  a    bb\n  ───  ──\n  ccc  d\n");
    }
}
