//! What a user asks of the control loop, and what stands by for it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Desk, announced, contains_all};

fn last_line(text: &str) -> serde_json::Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn the_loop_turns_faster_than_the_policy_and_records_at_its_rate() {
    let desk = Desk::new();
    let base = ["rollout", "--pace", "fast", "--episodes", "1", "--seed", "3", "--no-rerun", "--json", "--out"];
    let run = |name, more: &[&str]| last_line(&desk.ok(&[&base[..], &[name], more].concat()));
    let plain = run("plain", &[]);
    let fine = run("fine", &["--fps-multiplier", "4", "--interpolation", "cubic", "--on-starved", "slow-stop"]);
    let rate = |totals: &serde_json::Value| totals["cadence"]["target_rate_hz"].as_f64().unwrap();
    assert_eq!((rate(&plain), rate(&fine)), (30.0, 120.0));
    assert!(fine["cadence"]["parts"]["drive"]["count"].as_u64().unwrap() > 100, "{fine}");
    let info = |name| -> serde_json::Value { serde_json::from_str(&desk.ok(&["dataset", "info", name, "--json"])).unwrap() };
    let (rows, turns) = (info("fine")["total_frames"].as_u64().unwrap(), fine["cadence"]["ticks"].as_u64().unwrap());
    assert_eq!(info("fine")["fps"], 30);
    assert_eq!(turns.div_ceil(4), rows, "a row for every fourth turn");
}

/// A tiny policy of random weights that LeRobot made.
fn golden(case: &str) -> String {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../policy/tests/golden").join(case).display().to_string()
}

#[test]
fn chunks_are_continued_where_the_policy_can_and_refused_where_it_cannot() {
    let desk = Desk::new();
    let base = ["rollout", "--pace", "fast", "--episodes", "1", "--task", "reach", "--no-record", "--no-rerun", "--json"];
    let policy = golden("smolvla/bfloat16");
    let run = |more: &[&str]| {
        let text = desk.ok(&[&base[..], &["--policy", &policy], more].concat());
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        line["action_hash"].as_str().unwrap().to_owned()
    };
    let rtc = run(&["--inference", "rtc"]);
    assert_eq!(rtc, run(&["--inference", "rtc"]));
    assert_ne!(rtc, run(&["--inference", "async"]));
    assert_ne!(rtc, run(&["--inference", "rtc", "--rtc-schedule", "zeros", "--rtc-horizon", "2"]));
    let trained = golden("pi05/trained");
    let run_trained = |mode: &[&str]| {
        let text = desk.ok(&[&base[..], &["--policy", &trained, "--inference", "rtc"], mode].concat());
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["inference"]["unused_answers"], 0);
        line["action_hash"].as_str().unwrap().to_owned()
    };
    let own = run_trained(&[]);
    assert_eq!(own, run_trained(&["--rtc-mode", "trained"]));
    assert_ne!(own, run_trained(&["--rtc-mode", "guided"]));
    let error = desk.error(&["rollout", "--pace", "fast", "--inference", "rtc"]);
    contains_all(&error, &["the act policy", "sync or async"]);
    let refused = |more: &[&str], says: &[&str]| {
        contains_all(&desk.error(&[&base[..], &["--policy", &policy, "--inference", "rtc", "--rtc-mode", "trained"], more].concat()), says);
    };
    refused(&[], &["the smolvla policy", "rtc_training_max_delay 0"]);
    let weighed = [&base[..], &["--policy", &policy, "--inference", "rtc", "--rtc-mode", "trained", "--rtc-weight", "3"]].concat();
    contains_all(&desk.misused(&weighed), &["--rtc-weight is for guided chunks"]);
    assert!(!desk.path("outputs").exists(), "nothing may be begun");
}

#[test]
fn what_the_system_grants_is_one_line_and_the_doctor_says_more() {
    let desk = Desk::new();
    let text = desk.ok(&["rollout", "--episodes", "1", "--seed", "1000", "--no-record", "--no-rerun", "--realtime"]);
    let line = text.lines().find(|line| line.starts_with("realtime")).unwrap();
    contains_all(line, &["memory locked: ", "SCHED_FIFO at 80: "]);
    contains_all(&text, &["parts     read ", "late by "]);
    assert_eq!(desk.run(&["rollout", "--pace", "fast", "--realtime"]).status.code(), Some(2), "there is no real time in a fast run");
    let found: serde_json::Value = serde_json::from_str(&desk.ok(&["doctor", "--json"])).unwrap();
    let control = &found["control_loop"];
    let refused = control["realtime"]["asked"].as_array().unwrap().iter().filter(|asked| !asked["refused"].is_null()).count();
    let checks = found["checks"].as_array().unwrap();
    let advised = |check: &&serde_json::Value| check["advice"].is_string();
    assert!(checks.iter().filter(advised).count() >= refused, "{found}");
    assert_eq!(control["realtime_lateness"]["count"], 1000);
    for name in ["system", "realtime", "memory", "waking", "disk", "encoder", "hub", "serial", "camera"] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name} is missing in {found}");
    }
    // Who can't write where he is hears it, with what to do.
    let problem = String::from_utf8(desk.sinew(&["doctor"]).current_dir("/proc").output().unwrap().stdout).unwrap();
    contains_all(&problem, &["problem   disk: /proc can't be written to", "   do     record into a folder that is yours"]);
}

/// A killed process can't say anything; the one beside it does.
#[test]
fn a_watchdog_stands_by_for_a_rollout_in_real_time() {
    let desk = Desk::new();
    let mut command = desk.sinew(&["rollout", "--episodes", "3", "--no-record", "--no-rerun", "--realtime"]);
    let (mut child, _output) = announced(&mut command);
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().unwrap();
    child.wait().unwrap();
    // Ends when the watchdog has, which has the other end too.
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    contains_all(&words, &["watchdog: the process that drove SO-101", "ended before its motors were in their safe state"]);
}

#[test]
fn an_interrupted_episode_is_said_to_be_left_out() {
    let desk = Desk::new();
    let (mut child, mut output) = announced(&mut desk.sinew(&["rollout", "--episodes", "3", "--no-rerun"]));
    std::thread::sleep(Duration::from_millis(2500));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    contains_all(&text, &["episode 1: it was interrupted, so it is not in the dataset", "dataset   none, as no episode was recorded"]);
}

/// A run in real time that is told what to do.
fn talk(desk: &Desk, args: &[&str], words: &[(u64, &str)]) -> String {
    let mut command = desk.sinew(&[&["rollout", "--interactive", "--no-rerun"], args].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.lines().any(|line| line.starts_with("task")) {
        assert!(output.read_line(&mut text).unwrap() > 0, "it ended too early: {text}");
    }
    for (after_ms, word) in words {
        std::thread::sleep(Duration::from_millis(*after_ms));
        writeln!(input, "{word}").unwrap();
    }
    output.read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

#[test]
fn corrections_of_a_human_are_recorded_and_marked() {
    let desk = Desk::new();
    let args = ["--strategy", "dagger", "--teleop", "scripted", "--out", "ds", "--seconds", "0", "--episodes", "2"];
    let words =
        [(0, "/start"), (1000, "/correct"), (1000, "/pause"), (200, "/correct"), (600, "/correct"), (300, "/correct"), (600, "/correct")];
    let text = talk(&desk, &args, &words);
    contains_all(&text, &["nobody can take over; pause it first", "the teleoperator acts", "paused", "dataset   ds (2 episodes)"]);
    let info = desk.recorded("ds", "corrections");
    assert_eq!((&info["total_episodes"], &info["features"]["intervention"]["dtype"]), (&2.into(), &"bool".into()));
    let frames = info["total_frames"].as_u64().unwrap();
    assert!((20..=80).contains(&frames), "{frames}");
}

#[test]
fn a_run_without_an_episode_says_so_and_leaves_no_dataset() {
    let desk = Desk::new();
    let text = talk(&desk, &["--out", "ds"], &[(0, "/quit")]);
    contains_all(&text, &["no episode was run", "dataset   none, as no episode was recorded"]);
    assert!(!text.contains("───") && !desk.path("ds").exists(), "{text}");
}

#[test]
fn the_instruction_changes_and_the_arm_stands_still_without_an_end() {
    let desk = Desk::new();
    let args = ["--strategy", "sentry", "--out", "ds", "--seconds", "0", "--rotate", "1"];
    let words = [
        (300, "/task stack the cubes"),
        (0, "/start"),
        (2500, "/stop"),
        (300, "/task sort them"),
        (0, "/start"),
        (1500, "/walk"),
        (0, "/quit"),
    ];
    let text = talk(&desk, &args, &words);
    contains_all(&text, &["\"/walk\" is no command", "ended"]);
    let info = desk.recorded("ds", "highlights");
    assert_eq!(info["tasks"], serde_json::json!(["stack the cubes", "sort them"]));
    assert!(info["total_episodes"].as_u64().unwrap() >= 4, "{info}");
}

#[test]
fn a_highlight_has_what_was_before_it_and_an_emergency_latches() {
    let desk = Desk::new();
    let args = ["--strategy", "highlight", "--out", "ds", "--seconds", "0", "--ring-seconds", "1"];
    let words = [(0, "/start"), (3000, "/save"), (500, "/save"), (200, "/emergency"), (400, "/clear"), (0, "/start"), (1500, "/quit")];
    let text = talk(&desk, &args, &words);
    contains_all(&text, &["emergency stop", "the emergency is over", "interrupted"]);
    let frames = desk.recorded("ds", "the session")["total_frames"].as_u64().unwrap();
    assert!((30..=60).contains(&frames), "1 s before, 0.5 s of it: {frames}");
}

#[test]
fn nothing_is_corrected_without_somebody_who_does() {
    let desk = Desk::new();
    contains_all(&desk.misuse("rollout --pace fast --strategy dagger"), &["--teleop"]);
    let error = desk.error(&["rollout", "--pedal", "no-such-pedal", "--no-record", "--no-rerun"]);
    contains_all(&error, &["opening the pedal no-such-pedal"]);
}
