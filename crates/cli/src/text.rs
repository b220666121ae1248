//! Small ways to say things.

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Context as _;
use console::measure_text_width;
use serde::Serialize;
pub use sinew_recorder::bytes_in_words as bytes;

use crate::outlet::{self, Stream};
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

/// Who hears all lines beside the terminal.
static HEARER: OnceLock<fn(&str)> = OnceLock::new();

/// From now on `hearer` is given each line that is said or noted, too.
pub fn overhear(hearer: fn(&str)) {
    // There is one daemon in a process.
    let _ = HEARER.set(hearer);
}

fn overheard(words: Arguments<'_>) {
    if let Some(hearer) = HEARER.get() {
        harmless(&words.to_string()).lines().filter(|line| !line.trim().is_empty()).for_each(hearer);
    }
}

pub fn say_line(words: Arguments<'_>) {
    overheard(words);
    let is_terminal = columns_of(std::io::stdout()).is_some();
    let written = if is_terminal && prompt::say_above(words) { Ok(()) } else { writeln!(stdout(), "{words}") };
    written.unwrap_or_else(lose);
}

/// Something did not get to standard output. The first reason is told at the end; that a reader has gone is none to talk about.
fn lose(error: std::io::Error) {
    if error.kind() == ErrorKind::BrokenPipe {
        IS_UNREAD.store(true, Relaxed);
    } else {
        drop(LOST.set(error));
    }
}

static IS_UNREAD: AtomicBool = AtomicBool::new(false);

/// Whether something was lost because the reader of standard output had gone.
pub fn is_unread() -> bool {
    IS_UNREAD.load(Relaxed)
}

/// Before the process ends: waits until all that was said is written, as long as somebody reads it; not for long where it was told to end.
pub fn settle(was_told_to_end: bool) {
    outlet::settle(was_told_to_end).map_err(Output::told).unwrap_or_else(lose);
}

/// Why something that was said did not get to standard output, though a reader may wait for it.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// The first error of those by which something that was said was lost.
pub fn lost() -> Option<&'static std::io::Error> {
    LOST.get()
}

const WRITING: &str = "writing to standard output";

/// What is said of an error of standard output.
pub fn not_written(error: &std::io::Error) -> String {
    format!("{WRITING}: {error}")
}

/// Where the second column of what is said begins.
const INDENT: usize = 10;

/// Columns of the terminal that is written to; `None` where it is none, or does not say.
pub fn columns_of(terminal: impl rustix::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// What a line that is to be copied begins with: it is left whole.
const COMMANDS: [&str; 7] = ["sinew ", "lerobot-", "rerun ", "cargo ", "pip ", "python ", "sudo "];

/// Where a line goes on that is too long: below its second column where it has one ("policy    ..."), else below its first word.
fn indent_of(line: &str) -> usize {
    let is_labelled = line.chars().next().is_some_and(char::is_alphabetic)
        && line.chars().nth(INDENT - 1) == Some(' ')
        && line.chars().nth(INDENT).is_some_and(|c| c != ' ');
    if is_labelled {
        return INDENT;
    }
    let lead = line.chars().take_while(|c| *c == ' ').count();
    let rest: String = line.chars().skip(lead).collect();
    let second =
        rest.split_once("  ").map(|(before, after)| lead + before.chars().count() + 2 + after.chars().take_while(|c| *c == ' ').count());
    second.filter(|at| *at <= 3 * INDENT).unwrap_or(lead)
}

/// The line, broken between words where `columns` are not enough. Commands and rules of tables are left whole.
fn wrapped(line: &str, columns: usize) -> Cow<'_, str> {
    let words = line.trim_start();
    let is_whole = COMMANDS.iter().any(|command| words.starts_with(command)) || words.starts_with('─');
    if is_whole || columns < 3 * INDENT || measure_text_width(line) <= columns {
        return Cow::Borrowed(line);
    }
    let indent = Some(indent_of(line)).filter(|indent| 2 * indent <= columns).unwrap_or(0);
    let (mut text, mut at) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        if at > indent && at + measure_text_width(word.trim_end()) > columns {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            at = indent;
        }
        text.push_str(word);
        at += measure_text_width(word);
    }
    Cow::Owned(text)
}

/// `text` in lines that the terminal on standard error need not break.
pub fn fitting(text: &str) -> String {
    columns_of(std::io::stderr()).map_or_else(|| text.to_owned(), |columns| all_wrapped(text, columns))
}

/// All lines of `text`, each [`wrapped`].
fn all_wrapped(text: &str, columns: usize) -> String {
    text.split('\n').map(|line| wrapped(line, columns)).collect::<Vec<_>>().join("\n")
}

pub fn note_line(words: Arguments<'_>) {
    overheard(words);
    if !prompt::say_above(words) {
        drop(writeln!(stderr(), "{words}"));
    }
}

/// Whether what is said goes to a terminal, where somebody reads it, and not to where lines are kept.
pub fn is_read_at_once() -> bool {
    std::io::stdout().is_terminal()
}

/// The one way to standard output: datasets, checkpoints and the Hub are written by strangers, and their words must
/// not be commands to the terminal.
pub fn stdout() -> Harmless<Output> {
    Harmless { to: raw_stdout(), columns: columns_of(std::io::stdout()) }
}

/// The same for what programs read, byte by byte.
pub fn raw_stdout() -> Output {
    Output(Stream::Out)
}

/// A stream of this process, as it [leaves](outlet) it. Errors of standard output say that it is.
pub struct Output(Stream);

impl Output {
    fn told(error: std::io::Error) -> std::io::Error {
        std::io::Error::new(error.kind(), not_written(&error))
    }

    fn named(&self, error: std::io::Error) -> std::io::Error {
        if self.0 == Stream::Out { Self::told(error) } else { error }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        outlet::write(self.0, bytes, false).map_err(|error| self.named(error))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        outlet::flush(self.0).map_err(|error| self.named(error))
    }
}

/// The same to standard error.
pub fn stderr() -> Harmless<Output> {
    Harmless { to: raw_stderr(), columns: columns_of(std::io::stderr()) }
}

/// The same for what is to be obeyed by the terminal.
pub fn raw_stderr() -> Output {
    Output(Stream::Errors)
}

/// Passes text on with [`harmless`] in place of what is not, in lines that a terminal of so many columns need not break.
pub struct Harmless<W> {
    to: W,
    columns: Option<usize>,
}

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write_all(locale::shown(harmless(&String::from_utf8_lossy(bytes))).as_bytes())?;
        Ok(bytes.len())
    }

    fn write_fmt(&mut self, text: Arguments<'_>) -> std::io::Result<()> {
        let text = text.to_string();
        match self.columns {
            Some(columns) => self.write_all(all_wrapped(&text, columns).as_bytes()),
            None => self.write_all(text.as_bytes()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
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

/// One JSON value on a line of its own on stdout, at once; none is left out. What a terminal would obey can stand in its strings only,
/// where JSON has an escape for it.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let json = serde_json::to_string(value)?;
    // JSON is UTF-8, whatever the locale.
    let line = format!("{}\n", replaced(&json, is_obeyed, |c| format!("\\u{:04x}", u32::from(c))));
    outlet::write(Stream::Out, line.as_bytes(), true).and_then(|()| outlet::flush(Stream::Out)).map_err(Output::told)?;
    Ok(())
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

/// A path as a shell reads it: in quotes where it has anything that a shell would take for something else. One that is no
/// UTF-8 is written in the shell's escapes.
pub fn quoted(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(text) = path.to_str().filter(|text| !text.contains(char::is_control)) else {
        let escaped = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'/' | b'-' => char::from(*byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        };
        return format!("$'{}'", path.as_os_str().as_bytes().iter().map(escaped).collect::<String>());
    };
    let is_plain = |c: char| c.is_alphanumeric() || "._/-+:@%,=~".contains(c);
    if !text.is_empty() && !text.starts_with('~') && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// A number of things: "1 episode", "2 episodes", "3 repositories".
pub fn plural(count: u64, what: &str) -> String {
    match what.strip_suffix("ry") {
        _ if count == 1 => format!("{count} {what}"),
        Some(begin) => format!("{count} {begin}ries"),
        None => format!("{count} {what}s"),
    }
}

/// Whether the reader of our output has gone (`sinew ... | head`). Another connection that broke is none of that.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_ours = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe && e.to_string().starts_with(WRITING);
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(is_ours))
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

/// Rows as aligned columns, the first row underlined as the head; on a terminal as wide as standard output's.
pub fn table(rows: &[Vec<String>]) -> String {
    table_within(rows, columns_of(std::io::stdout()))
}

/// The same on a terminal as wide as standard error's, where lines that change are.
pub fn table_on_stderr(rows: &[Vec<String>]) -> String {
    table_within(rows, columns_of(std::io::stderr()))
}

/// The narrowest that a column is made to fit a terminal.
const NARROWEST: usize = 6;

/// The same within so many columns: gaps are made smaller, then what is widest goes on in further lines of its row.
pub fn table_within(rows: &[Vec<String>], columns: Option<usize>) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows.iter().map(|row| row.iter().map(|cell| in_line(cell)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths: Vec<usize> =
        (0..count).map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| measure_text_width(s)).max().unwrap_or(0)).collect();
    let mut gap = 2;
    if let Some(columns) = columns {
        let total = |widths: &[usize], gap: usize| 2 + widths.iter().sum::<usize>() + gap * count.saturating_sub(1);
        if total(&widths, gap) > columns {
            gap = 1;
        }
        let longest = |c: usize| rows.iter().filter_map(|r| r.get(c)).flat_map(|cell| cell.split(' ')).map(measure_text_width).max();
        // Words are broken only where there is no other way.
        let words: Vec<usize> = (0..count).map(|c| longest(c).unwrap_or(0).max(NARROWEST)).collect();
        for least in [words, vec![NARROWEST; count]] {
            while total(&widths, gap) > columns
                && let Some((widest, _)) = widths.iter_mut().zip(&least).filter(|(width, least)| **width > **least).max()
            {
                *widest -= 1;
            }
        }
    }
    let gap = " ".repeat(gap);
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, width)| cell_lines(cell, *width)).collect();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let parts: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| {
                    let part = cell.get(line).map_or("", String::as_str);
                    format!("{part}{}", " ".repeat(width.saturating_sub(measure_text_width(part))))
                })
                .collect();
            let _ = writeln!(text, "  {}", parts.join(&gap).trim_end());
        }
        if i == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
            let _ = writeln!(text, "  {}", rule.join(&gap));
        }
    }
    text
}

/// A cell in lines of so many columns, broken between words, and within those that are wider.
fn cell_lines(cell: &str, width: usize) -> Vec<String> {
    if measure_text_width(cell) <= width {
        return vec![cell.to_owned()];
    }
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in cell.split_inclusive(' ') {
        if !line.is_empty() && measure_text_width(&line) + measure_text_width(word.trim_end()) > width {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        for c in word.chars() {
            if c != ' ' && measure_text_width(&line) >= width.max(1) {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// The first of `folder/prefix1suffix`, `folder/prefix2suffix`, ... that was not there, which is its owner's from then on: two
/// processes never get the same. What is empty when this goes out of scope is removed.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    is_folder: bool,
    /// The folder that it is in, where that was not there before.
    made: Option<PathBuf>,
}

impl Claim {
    /// # Errors
    /// When none can be made.
    pub fn folder(folder: &str, prefix: &str) -> anyhow::Result<Self> {
        Self::first(folder, prefix, "", true, |path| std::fs::create_dir(path))
    }

    /// # Errors
    /// When none can be made.
    pub fn file(folder: &str, prefix: &str, suffix: &str) -> anyhow::Result<Self> {
        Self::first(folder, prefix, suffix, false, |path| std::fs::File::create_new(path).map(drop))
    }

    fn first(
        folder: &str,
        prefix: &str,
        suffix: &str,
        is_folder: bool,
        make: impl Fn(&Path) -> std::io::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut number = 1u64;
        let made = Some(PathBuf::from(folder)).filter(|folder| !folder.exists());
        loop {
            let path = Path::new(folder).join(format!("{prefix}{number}{suffix}"));
            match std::fs::create_dir_all(folder).and_then(|()| make(&path)) {
                Ok(()) => return Ok(Self { path, is_folder, made }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.symlink_metadata().is_ok() => number += 1,
                Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A folder with something in it stays.
        if self.is_folder {
            let _ = std::fs::remove_dir(&self.path);
        } else if self.path.metadata().is_ok_and(|file| file.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(made) = &self.made {
            let _ = std::fs::remove_dir(made);
        }
    }
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
        let mut out = Harmless { to: Vec::new(), columns: None };
        write!(out, "x\u{1b}{}", 1).unwrap();
        assert_eq!(out.to, b"x\\u{1b}1");
    }

    #[test]
    fn what_is_too_long_goes_on_below_its_second_column() {
        let line = "cadence   29.99 of 30 Hz over 576 ticks; late by 0.1 ms (median)";
        assert_eq!(wrapped(line, 40), "cadence   29.99 of 30 Hz over 576 ticks;\n          late by 0.1 ms (median)");
        assert_eq!(wrapped(line, 80), line);
        let command = "            lerobot-dataset-viz --repo-id local/rollout --root outputs";
        assert_eq!(wrapped(command, 40), command);
        assert_eq!(
            wrapped("  a longer sentence that is no fact and is broken", 40),
            "  a longer sentence that is no fact and\n  is broken"
        );
        let help = "/next         this episode ends and is kept";
        assert_eq!(wrapped(help, 36), "/next         this episode ends and\n              is kept");
    }

    #[test]
    fn columns_line_up() {
        let text = table(&[vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]]);
        assert_eq!(text, "  a    bb\n  ───  ──\n  ccc  d\n");
        let rows = [vec!["name".into(), "what it is".into()], vec!["so101".into(), "an arm of six parts".into()]];
        let text = table_within(&rows, Some(20));
        assert_eq!(text, "  name  what it is\n  ───── ────────────\n  so101 an arm of\n        six parts\n");
        for columns in [10, 20, 24, 30, 80] {
            let widest = table_within(&rows, Some(columns)).lines().map(measure_text_width).max().unwrap();
            assert!(widest <= columns.max(2 + 2 * NARROWEST + 1), "{columns}: {widest}");
        }
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        use std::os::unix::ffi::OsStrExt as _;
        for (path, is) in
            [("outputs/rollout-1", "outputs/rollout-1"), ("my data set", "'my data set'"), ("it's", "'it'\\''s'"), ("a$b", "'a$b'")]
        {
            assert_eq!(quoted(Path::new(path)), is);
        }
        assert_eq!(quoted(Path::new(std::ffi::OsStr::from_bytes(b"d\xff"))), "$'d\\xff'");
    }

    #[test]
    fn no_two_get_the_same_place() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("outputs");
        let below = below.to_str().unwrap();
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Claim::file(below, "eval-", ".png").unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut paths: Vec<&Path> = claims.iter().map(Claim::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 8);
        std::fs::write(claims[0].path(), "picture").unwrap();
        drop(claims);
        assert_eq!(std::fs::read_dir(below).unwrap().count(), 1, "what is empty is gone");
    }
}
