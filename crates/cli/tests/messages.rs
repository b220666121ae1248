//! What `sinew` answers to what is wrong, all of it in one file, so that its wording can be read from top to bottom.
//!
//! `messages.txt` has sections; each runs in a folder of its own, without a network, a terminal or a home that has anything in it.
//! A line `$ COMMAND` is run by bash. Below it stands its exit code and what it wrote to standard error, with the folder as `DESK`.
//! A line `: COMMAND` prepares something: it has to succeed, and what it says is not looked at. To add a message, write a line
//! `$ COMMAND` and run this test with `UPDATE=1`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use common::shell;

fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages.txt")
}

/// `text` as it is on every machine.
fn stable(text: &str, folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let text = text.replace(&*folder.to_string_lossy(), "DESK").replace(&*root.to_string_lossy(), "ROOT");
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    // What hangs on this machine.
    let lines =
        lines.map(|line| match line.split_once("the serial ports here are ").or_else(|| line.split_once("there is no serial port")) {
            Some((before, _)) => format!("{before}the serial ports here are ..."),
            None => match line.split_once("expected one of 0-") {
                Some((before, _)) => format!("{before}expected one of 0-..."),
                None => line.to_owned(),
            },
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// A section as it is written anew: its commands with what they answer now.
fn answered(section: &str) -> String {
    let desk = tempfile::tempdir().unwrap();
    let folder = desk.path().canonicalize().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    for name in ["robots", "policies"] {
        std::os::unix::fs::symlink(root.join(name), folder.join(name)).unwrap();
    }
    let mut out = String::new();
    for line in section.lines() {
        if let Some(command) = line.strip_prefix(": ") {
            let output = shell(&folder, command);
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            writeln!(out, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("$ ") {
            let output = shell(&folder, command);
            // A verdict is a result, on standard output.
            let told = if output.stderr.is_empty() { output.stdout } else { output.stderr };
            let text = String::from_utf8(told).unwrap();
            assert!(!text.contains("panicked"), "{command}: {text}");
            let code = output.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            writeln!(out, "\n{line}\n[{code}]\n{}", stable(&text, &folder)).unwrap();
        } else if line.starts_with("== ") {
            writeln!(out, "{line}").unwrap();
        }
    }
    out.trim_end().to_owned()
}

#[test]
fn every_message_is_as_it_was_read() {
    let text = fs::read_to_string(list()).unwrap();
    let (head, rest) = text.split_once("\n== ").unwrap();
    let sections: Vec<String> = rest.split("\n== ").map(|section| format!("== {section}")).collect();
    let new: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = sections.iter().map(|section| scope.spawn(|| answered(section))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    if std::env::var_os("UPDATE").is_some() {
        fs::write(list(), format!("{}\n\n{}\n", head.trim_end(), new.join("\n\n"))).unwrap();
        return;
    }
    let known = sections.iter().map(|section| section.trim_end());
    let changed: Vec<String> = known.zip(&new).filter(|(known, new)| known != new).map(|(known, new)| differences(known, new)).collect();
    assert!(changed.is_empty(), "{}\nUPDATE=1 writes them to tests/messages.txt, to be read there", changed.join("\n"));
    assert!(new.iter().map(|section| section.matches("\n$ ").count()).sum::<usize>() > 100, "few commands are left");
}

/// The lines in which two sections differ.
fn differences(known: &str, new: &str) -> String {
    let gone = known.lines().filter(|line| !new.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let came = new.lines().filter(|line| !known.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    gone.chain(came).collect::<Vec<_>>().join("\n")
}
