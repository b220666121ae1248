//! The program accepts every command of README.md and of the guide in `docs`, and the errors that the guide shows are the ones that
//! it gives.
//!
//! Three kinds of blocks: lines of ```` ```sh ```` are given to the program with `--help` behind them, which reads every option and
//! value and does nothing. Lines of ```` ```sh run ```` are run, page by page, in a folder that has the repository's `robots` and
//! `policies`. Lines of ```` ```sh fails ```` are run too, and have to fail. A ```` ```text ```` block below the last two has what
//! they print, with `…` for anything; numbers may differ where they are run. ```` ```bash ```` is for other programs.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::shell;

/// A fenced block: what stands behind its fence, and its lines.
struct Block {
    page: String,
    line: usize,
    kind: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// README.md and the pages of docs, but not the decisions, in order.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

fn blocks(page: &Path) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in fs::read_to_string(page).unwrap().lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => {
                let page = page.file_name().unwrap().to_string_lossy().into_owned();
                open = Some(Block { page, line: index + 1, kind: kind.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", page.display());
    blocks
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// A folder such as the guide's reader is in: the repository's, as far as commands name it.
fn desk() -> tempfile::TempDir {
    let desk = tempfile::tempdir().unwrap();
    for name in ["robots", "policies", "docs", "scripts"] {
        std::os::unix::fs::symlink(root().join(name), desk.path().join(name)).unwrap();
    }
    desk
}

/// The commands of a block, with lines that go on put together.
fn commands(text: &str) -> Vec<String> {
    text.replace("\\\n", " ").lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Each call of sinew in a command, ready to be given `--help` at the end.
fn calls(command: &str) -> Vec<String> {
    // A remark, also in brackets behind the example; and ellipses that stand for more.
    let command = command.split(" #").next().unwrap();
    let parts = command.split("&&").flat_map(|part| part.split(';')).flat_map(|part| part.split(" | "));
    let is_call = |part: &&str| part.split_whitespace().find(|word| !word.contains('=')).is_some_and(|word| word == "sinew");
    parts.map(str::trim).filter(is_call).map(str::to_owned).collect()
}

/// `call` with what makes the program read it and do nothing; what stands behind `--` is another program's.
fn to_be_read(call: &str) -> String {
    let call = call.split(" > ").next().unwrap().replace(" … ", " ").replace('…', "x");
    let (own, _) = call.split_once(" -- ").unwrap_or((&call, ""));
    // One of several.
    let words =
        own.split(' ').map(|word| if word.starts_with('\'') || word.contains("://") { word } else { word.split('|').next().unwrap() });
    format!("{} --help", words.collect::<Vec<_>>().join(" "))
}

#[test]
fn the_program_reads_every_command_of_the_guide() {
    let desk = desk();
    let mut faults = Vec::new();
    // Commands with --rig read the rig that the guide shows.
    let rigs = desk.path().join("home/.config/sinew/rigs");
    let shown = blocks(&root().join("docs/set-up-an-arm.md")).into_iter().find(|block| block.kind == "toml").unwrap();
    fs::create_dir_all(&rigs).unwrap();
    fs::write(rigs.join("kitchen.toml"), shown.text).unwrap();
    let output = shell(desk.path(), "sinew rig show kitchen");
    assert!(output.status.success(), "{}", said(&output));
    let mut count = 0;
    for block in pages().iter().flat_map(|page| blocks(page)).filter(|block| block.kind == "sh") {
        for call in commands(&block.text).iter().flat_map(|command| calls(command)) {
            let output = shell(desk.path(), &to_be_read(&call));
            count += 1;
            if !output.status.success() {
                faults.push(format!("{} below line {}: {call}\n{}", block.page, block.line, said(&output)));
            }
        }
    }
    assert!(count > 100, "only {count} commands were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `text` with one space for several, and `#` for each number with its unit: another machine has other sizes and times.
fn without_numbers(text: &str) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "µs", "ms", "s", "min"];
    let mut plain: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let after_number = plain.last().is_some_and(|last| last.ends_with('#'));
        let unit = word.trim_end_matches([',', ';', '.', ')', ':']);
        if after_number && UNITS.contains(&unit) {
            plain.last_mut().unwrap().push_str(word.strip_prefix(unit).unwrap_or_default());
            continue;
        }
        let mut without = String::new();
        for c in word.chars() {
            match c {
                c if without.ends_with('#') && (c.is_ascii_digit() || c == '.') => {}
                '0'..='9' => without.push('#'),
                c => without.push(c),
            }
        }
        plain.push(without);
    }
    plain.join(" ")
}

#[test]
fn sizes_and_times_of_another_machine_are_the_same_line() {
    assert_eq!(without_numbers("room: about 1.1 MB, 25.82 GB are free"), without_numbers("room:  about 970 kB, 765.3 MB are free"));
    assert_eq!(without_numbers("took 8 ms."), "took #.");
    assert_ne!(without_numbers("6 episodes"), without_numbers("6 frames"));
}

/// Whether `said` has each line of `shown` in turn; `…` is anything.
fn shows(said: &str, shown: &str, are_numbers_fixed: bool) -> Result<(), String> {
    let plain = |text: &str| if are_numbers_fixed { text.to_owned() } else { without_numbers(text) };
    let said = plain(said);
    let mut rest = said.as_str();
    for part in shown.lines().flat_map(|line| line.split('…')).map(str::trim).filter(|part| !part.is_empty()) {
        match rest.split_once(&plain(part)) {
            Some((_, after)) => rest = after,
            None => return Err(part.to_owned()),
        }
    }
    Ok(())
}

#[test]
fn what_the_guide_has_run_runs_and_what_it_has_fail_fails_with_its_words() {
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let pages: Vec<_> = pages().into_iter().map(|page| scope.spawn(move || page_faults(&page))).collect();
        faults.extend(pages.into_iter().flat_map(|page| page.join().unwrap()));
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn page_faults(page: &Path) -> Vec<String> {
    let (desk, blocks) = (desk(), blocks(page));
    let mut faults = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let place = format!("{} at line {}", block.page, block.line);
        let shown = blocks.get(at + 1).filter(|next| next.kind == "text");
        match block.kind.as_str() {
            kind @ ("sh run" | "sh fails") => {
                let output = shell(desk.path(), &format!("set -e\n{}", block.text));
                let is_to_fail = kind == "sh fails";
                if output.status.success() == is_to_fail {
                    faults.push(format!("{place}: {} {}", output.status, said(&output)));
                }
                match shown.map(|shown| shows(&said(&output), &shown.text, is_to_fail)) {
                    Some(Err(part)) => faults.push(format!("{place}: it does not say {part:?}, but\n{}", said(&output))),
                    None if is_to_fail => faults.push(format!("{place}: expected a block of text below, with what is said")),
                    _ => {}
                }
            }
            // A word that was mistyped would leave a block out without a word.
            "sh" | "bash" | "json" | "text" | "toml" | "rust" | "python" => {}
            other => faults.push(format!("{place}: a block of kind {other:?}")),
        }
    }
    faults
}
