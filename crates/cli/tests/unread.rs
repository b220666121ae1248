//! Loops whose output nobody reads: a pipe that is full, a terminal after Ctrl-S. They go on, are stopped, and end. Real processes, in
//! real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;

use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::Desk;
use common::pty::{Heard, PATIENCE, Terminal, signal};
use page::Daemon;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::{Value, json};

/// Fills the pipe, so that whoever writes to it waits.
fn fill(mut writer: &PipeWriter) {
    let flags = fcntl_getfl(writer).unwrap();
    fcntl_setfl(writer, flags | OFlags::NONBLOCK).unwrap();
    loop {
        match writer.write(&[b'\n'; 1024]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    fcntl_setfl(writer, flags).unwrap();
}

/// A daemon whose standard output and standard error are one pipe, which is full.
fn unread(desk: &Desk) -> (Daemon, PipeReader) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = page::command(desk, &[]);
    let child = command.stdout(writer.try_clone().unwrap()).stderr(writer.try_clone().unwrap()).spawn().unwrap();
    drop(command);
    let mut line = Vec::new();
    let ready: Value = loop {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
        if byte[0] == b'\n' {
            match serde_json::from_slice(&line) {
                Ok(ready) => break ready,
                Err(_) => line.clear(),
            }
        }
    };
    fill(&writer);
    let token = std::fs::read_to_string(desk.path("state/token")).unwrap().trim().to_owned();
    (Daemon { child, address: ready["address"].as_str().unwrap().to_owned(), token }, reader)
}

/// Waits until the process catches the signal of this number.
#[track_caller]
fn hears(child: &Child, signal: u32) {
    let begun = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (signal - 1) != 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn ends_within(child: &mut Child, time: Duration) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begun.elapsed() > time {
            drop(child.kill());
            panic!("it does not end within {time:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_daemon_that_nobody_reads_works_and_stops_and_who_reads_later_finds_what_was_said() {
    let desk = Desk::new();
    let (mut daemon, mut reader) = unread(&desk);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    for _ in 0..2 {
        daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
        let end = daemon.ended(15);
        assert_eq!(end["is_interrupted"], false, "{end}");
    }
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    daemon.wait("torque", 20, |state| state["loop"]["rate_hz"].is_number());
    let begun = Instant::now();
    daemon.post("/api/v1/stop", &json!({"stop": "now"}));
    daemon.ended(5);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let heard = Heard::listen(reader.try_clone().unwrap());
    heard.wait_for("limited   ", 3);
    daemon.signal("-TERM");
    assert_eq!(daemon.exit(5), Some(0));
    drop(reader.read(&mut []));
}

#[test]
fn a_daemon_that_nobody_reads_ends() {
    let desk = Desk::new();
    let (mut daemon, _reader) = unread(&desk);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    daemon.wait("torque", 20, |state| state["loop"]["rate_hz"].is_number());
    daemon.signal("-TERM");
    assert_eq!(daemon.exit(8), Some(0));
}

#[test]
fn a_run_that_nobody_reads_is_ended_by_a_signal() {
    let desk = Desk::new();
    let of_rollout = ["rollout", "--pace", "real", "--episodes", "50", "--no-rerun", "--no-record"];
    let of_record = ["record", "--teleop", "scripted", "--task", "reach", "--real-time", "--episodes", "50", "--out", "ds"];
    let as_json = [&of_rollout[..], &["--json"]].concat();
    let of_eval = ["eval", "--episodes", "5000", "--json"];
    let emulated = ["emulate", "so101", "--link", "arm"];
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for (args, code) in [(&of_rollout[..], 130), (&of_record, 130), (&as_json, 130), (&of_eval, 130), (&emulated, 130), (&serve, 0)] {
        let (_reader, writer) = std::io::pipe().unwrap();
        fill(&writer);
        let mut command = desk.sinew(args);
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        hears(&child, 2);
        std::thread::sleep(Duration::from_secs(2));
        signal(&child, "INT");
        assert_eq!(ends_within(&mut child, Duration::from_secs(10)), Some(code), "{args:?}");
    }
}

#[test]
fn a_terminal_that_was_stopped_keeps_no_run_from_its_end_and_shows_all_when_it_goes_on() {
    let desk = Desk::new();
    let args = ["record", "--teleop", "scripted", "--task", "reach", "--real-time", "--episodes", "2", "--out", "ds"];
    let mut terminal = Terminal::run_sized(&desk.sinew(&args), None, Some((24, 100)));
    terminal.heard.wait_for("recording 1/2", 1);
    terminal.press("\x13");
    let begun = Instant::now();
    let episodes = || {
        let info = std::fs::read_to_string(desk.path("ds/meta/info.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&info).unwrap_or_default()["total_episodes"].as_u64().unwrap_or_default()
    };
    while episodes() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{} episodes", episodes());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(terminal.child.try_wait().unwrap().is_none(), "its words are waited for");
    terminal.press("\x11");
    let (code, text) = terminal.end();
    assert!(code == Some(0) && text.contains("2 episodes, "), "{code:?}: {text}");

    // Who does not let it go on is not waited for.
    let args = ["rollout", "--pace", "real", "--episodes", "50", "--no-rerun", "--no-record"];
    let mut terminal = Terminal::run_sized(&desk.sinew(&args), None, Some((24, 100)));
    terminal.heard.wait_for("tick ", 3);
    terminal.press("\x13");
    std::thread::sleep(Duration::from_secs(1));
    signal(&terminal.child, "TERM");
    assert_eq!(ends_within(&mut terminal.child, Duration::from_secs(10)), Some(130));
    // Nor is one who stopped it when it had ended by itself.
    let args = ["rollout", "--pace", "real", "--episodes", "1", "--no-rerun", "--no-record", "--seed", "0"];
    let mut terminal = Terminal::run_sized(&desk.sinew(&args), None, Some((24, 100)));
    terminal.heard.wait_for("tick ", 3);
    terminal.press("\x13");
    std::thread::sleep(Duration::from_secs(20));
    signal(&terminal.child, "TERM");
    ends_within(&mut terminal.child, Duration::from_secs(5));
}

#[test]
fn a_run_whose_reader_has_gone_ends_with_a_code_that_says_so_and_a_list_does_not() {
    let desk = Desk::new();
    let rollout = ["rollout", "--pace", "real", "--episodes", "50", "--no-rerun", "--no-record", "--json"];
    let short = ["rollout", "--pace", "real", "--seconds", "1", "--no-rerun", "--no-record", "--json"];
    let list = ["robots", "--json"];
    for (args, is_told, code) in [(&rollout[..], true, 141), (&short[..], false, 141), (&list[..], false, 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = desk.sinew(args);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop((command, reader));
        if is_told {
            hears(&child, 2);
            std::thread::sleep(Duration::from_secs(2));
            signal(&child, "INT");
        }
        assert_eq!(ends_within(&mut child, Duration::from_secs(60)), Some(code), "{args:?}");
    }
}
