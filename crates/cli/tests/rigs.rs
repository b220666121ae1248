//! `sinew rig`, and what `--rig` stands for.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::Write as _;
use std::process::Stdio;

use common::{Desk, contains_all};

fn init(desk: &Desk, answers: &str) -> std::process::Output {
    let mut command = desk.sinew(&["rig", "init", "kitchen"]);
    let mut child =
        command.env_remove("XDG_CONFIG_HOME").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_answered_once_stands_for_options() {
    let desk = Desk::new();
    // A robot that there is not, a camera that is none, and then what is right.
    let done =
        init(&desk, "so909\nso101\n/dev/nowhere\nblue\nso101_leader\nusb:5A46\nblack\nfront=what\nfront=pattern,320x240@30\n\nDo it.\n");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let path = desk.path(".config/sinew/rigs/kitchen.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    contains_all(
        &text,
        &[
            "robot = \"so101\"",
            "port = \"/dev/nowhere\"",
            "teleop_port = \"usb:5A46\"",
            "front = \"pattern,320x240@30\"",
            "instruction = \"Do it.\"",
        ],
    );
    let list = desk.sinew(&["rig", "list", "--json"]).env_remove("XDG_CONFIG_HOME").output().unwrap();
    assert_eq!(String::from_utf8(list.stdout).unwrap().trim(), "[\"kitchen\"]");
    // It is not replaced unasked.
    let again = init(&desk, "");
    assert!(again.status.code() == Some(1) && String::from_utf8_lossy(&again.stderr).contains("--force"));
    let say = |args: &[&str]| {
        let output = desk.sinew(args).env_remove("XDG_CONFIG_HOME").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // The calibration is asked for first, and nothing is begun.
    contains_all(&say(&["record", "--rig", "kitchen", "--out", "demos"]), &["calibration", "blue"]);
    assert!(!desk.path("demos").exists());
    contains_all(&say(&["record", "--rig", "garage", "--out", "demos"]), &["garage.toml", "there are kitchen"]);
}

#[test]
fn answers_that_end_write_nothing() {
    let desk = Desk::new();
    let done = init(&desk, "so101\n/dev/nowhere\n");
    assert!(done.status.code() == Some(1) && String::from_utf8_lossy(&done.stderr).contains("nothing more was done"));
    assert!(!desk.path(".config").exists());
}

#[test]
fn defaults_are_kept_used_and_explained() {
    let desk = Desk::new();
    contains_all(&desk.ok(&["config"]), &["config.toml", "empty"]);
    desk.ok(&["config", "set", "all.threads", "1"]);
    desk.ok(&["config", "set", "eval.episodes", "1"]);
    desk.ok(&["config", "set", "eval.seed", "20"]);
    contains_all(&desk.error(&["config", "set", "eval.colour", "red"]), &["sinew eval has no option --colour"]);
    let text = desk.ok(&["eval"]);
    contains_all(&text, &["1 episode from seed 20"]);
    let explained = desk.ok(&["eval", "--seed", "21", "--explain"]);
    let line = |option: &str| explained.lines().find(|line| line.contains(option)).unwrap_or_default().to_owned();
    assert!(line("--seed").contains("21") && line("--seed").contains("the command line"), "{explained}");
    assert!(line("--episodes").contains("config.toml") && line("--threads").contains("config.toml"), "{explained}");
    assert!(line("--robot").contains("the default"), "{explained}");
    // A rig that is not there is told, but not to who asks for help or names a simulator.
    desk.ok(&["config", "set", "rig", "kitchen"]);
    contains_all(&desk.error(&["record", "--out", "ds"]), &["reading the rig", "sinew rig init NAME"]);
    desk.ok(&["record", "--help"]);
    desk.ok(&["rollout", "--sim", "--pace", "fast", "--episodes", "1", "--no-record", "--no-rerun"]);
    // What was written by hand and is wrong is told by its place; `config` alone still works.
    let path = desk.ok(&["config", "--json"]);
    let path = serde_json::from_str::<serde_json::Value>(&path).unwrap()["path"].as_str().unwrap().to_owned();
    std::fs::write(&path, "[rollout]\nspeed = 1\n").unwrap();
    contains_all(&desk.error(&["rollout", "--pace", "fast"]), &["config.toml", "no option --speed"]);
    assert_eq!(desk.run(&["config", "--help"]).status.code(), Some(0));
}
