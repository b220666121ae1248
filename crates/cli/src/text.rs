//! Small ways to say things.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A line on stdout like `println!`, but a reader who has gone away (`sinew ... | head`) ends nothing: a
/// session goes on, and above all it ends in order.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stdout(), $($part)*));
    }};
}
pub(crate) use say;

/// The same on stderr: a terminal that is gone is no reason to leave an arm to itself.
macro_rules! note {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stderr(), $($part)*));
    }};
}
pub(crate) use note;

/// One JSON value on a line of its own on stdout, at once.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// An error and what caused it, each said once, on lines of their own.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !last.ends_with(&cause) {
            let _ = write!(text, "\n  because: {}", cause.replace('\n', "\n  "));
        }
        last = cause;
    }
    text
}

/// Whether the reader of our output has gone (`sinew ... | head`).
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
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

/// Bytes as "1.2 MB".
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// Rows as aligned columns, the first row underlined as the head.
pub fn table(rows: &[Vec<String>]) -> String {
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
    fn columns_line_up() {
        let text = table(&[vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]]);
        assert_eq!(text, "  a    bb\n  ───  ──\n  ccc  d\n");
    }
}
