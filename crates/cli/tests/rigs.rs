//! `sinew rig`, and what `--rig` stands for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

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
    contains_all(&desk.misused(&["config", "set", "eval.colour", "red"]), &["sinew eval has no option --colour"]);
    let text = desk.ok(&["eval"]);
    contains_all(&text, &["1 episode from seed 20"]);
    let explained = desk.ok(&["eval", "--seed", "21", "--explain"]);
    let line = |option: &str| explained.lines().find(|line| line.contains(option)).unwrap_or_default().to_owned();
    assert!(line("--seed").contains("21") && line("--seed").contains("the command line"), "{explained}");
    assert!(line("--episodes").contains("config.toml") && line("--threads").contains("config.toml"), "{explained}");
    assert!(line("--robot").contains("the default"), "{explained}");
    // A rig that is not there is no default; one that has gone is told, but not to who asks for help or names a simulator.
    contains_all(&desk.misused(&["config", "set", "rig", "kitchen"]), &["setting rig", "sinew rig init NAME"]);
    let rig = desk.path(".config/sinew/rigs/kitchen.toml");
    std::fs::create_dir_all(rig.parent().unwrap()).unwrap();
    std::fs::write(&rig, "robot = \"so101\"\n").unwrap();
    desk.ok(&["config", "set", "rig", "kitchen"]);
    std::fs::remove_file(&rig).unwrap();
    contains_all(&desk.error(&["record", "--out", "ds"]), &["reading the rig", "sinew rig init NAME"]);
    desk.ok(&["record", "--help"]);
    desk.ok(&["rollout", "--sim", "--pace", "fast", "--episodes", "1", "--no-record", "--no-rerun"]);
    // What was written by hand and is wrong is told by its place; `config` alone still works.
    let config = desk.run(&["config", "--json"]);
    contains_all(&String::from_utf8(config.stdout.clone()).unwrap(), &["kitchen.toml", "problem"]);
    assert_eq!(config.status.code(), Some(1));
    let path = serde_json::from_slice::<serde_json::Value>(&config.stdout).unwrap()["path"].as_str().unwrap().to_owned();
    std::fs::write(&path, "[rollout]\nspeed = 1\n").unwrap();
    contains_all(&desk.error(&["rollout", "--pace", "fast"]), &["config.toml", "no option --speed"]);
    assert_eq!(desk.run(&["config", "--help"]).status.code(), Some(0));
    // Who looks at it or mends it sees what is wrong, and is not kept from it.
    for (text, problem) in [("[rollout]\nspeed = 1\n", "no option --speed"), ("rig = \n", "TOML parse error")] {
        std::fs::write(&path, text).unwrap();
        for args in [&["config"][..], &["config", "--json"], &["doctor"], &["doctor", "--json"]] {
            let output = desk.run(args);
            contains_all(&String::from_utf8(output.stdout).unwrap(), &["config.toml", problem]);
            assert_eq!(output.status.code(), Some(i32::from(args[0] == "config")), "{args:?}");
        }
        desk.ok(&["completions", "bash"]);
    }
    std::fs::write(&path, "colour = 1\n[rollout]\nspeed = 1\n").unwrap();
    for key in ["eval.seed", "rig"] {
        desk.run(&["config", "set", key, "7"]);
    }
    contains_all(&std::fs::read_to_string(&path).unwrap(), &["seed = 7", "speed = 1"]);
    desk.run(&["config", "unset", "rollout.speed"]);
    desk.ok(&["config", "unset", "colour"]);
    contains_all(&desk.error(&["config", "unset", "colour"]), &["removing colour", "it is not set there; there are eval.seed"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    contains_all(&desk.error(&["rollout"]), &["config.toml: expected a file, found a folder"]);
}

#[test]
fn every_option_is_explained_and_the_command_is_checked() {
    let desk = Desk::new();
    let text = desk.ok(&["rollout", "--seconds", "3", "--explain"]);
    let line = |option: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(option));
        line.unwrap_or_else(|| panic!("{option}: {text}")).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("--seconds"), "3 the command line");
    assert_eq!(line("--episodes"), "5 the default");
    assert_eq!(line("--rig"), "- not given");
    assert_eq!(line("--json"), "no the default");
    contains_all(&desk.misuse("rollout --fps 10 --explain"), &["--fps is for a robot behind --port"]);
}
