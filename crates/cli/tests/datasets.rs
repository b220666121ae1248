//! What a user does with a recorded dataset: looks at it, mends it, changes it, and changes his mind.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::BufReader;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Desk, contains_all, files};
use serde_json::Value;
use sinew_recorder::DatasetReader;

/// Records `episodes` of the quickest task into `out`.
fn record(desk: &Desk, out: &str, episodes: u32, seed: u32, more: &[&str]) {
    let (episodes, seed) = (episodes.to_string(), seed.to_string());
    let args = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", &episodes, "--seed", &seed, "--out", out];
    desk.ok(&[&args[..], more].concat());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn lengths(desk: &Desk, name: &str) -> Vec<u64> {
    DatasetReader::open(&desk.path(name)).unwrap().episodes().iter().map(|episode| episode.length).collect()
}

#[test]
fn a_change_is_shown_first_done_when_told_and_undone() {
    let desk = Desk::new();
    record(&desk, "ds", 3, 1, &[]);
    let (before, rows) = (files(&desk.path("ds")), lengths(&desk, "ds"));
    let plan = desk.ok(&["dataset", "delete", "ds", "--episodes", "1", "--dry-run"]);
    contains_all(&plan, &["delete 1 of 3 episodes", "episodes that go: 1", "2 episodes"]);
    let error = desk.error(&["dataset", "delete", "ds", "--episodes", "1"]);
    contains_all(&error, &["no terminal", "--yes", "--dry-run"]);
    assert!(files(&desk.path("ds")) == before, "only looked at");

    let report = json(&desk.ok(&["dataset", "delete", "ds", "--episodes", "1", "--yes", "--json"]));
    assert_eq!((&report["done"], &report["roots"]), (&true.into(), &serde_json::json!(["ds"])));
    assert_eq!(report["plan"]["results"][0]["episodes"], 2);
    assert_eq!(lengths(&desk, "ds"), [rows[0], rows[2]]);
    contains_all(&desk.ok(&["dataset", "verify", "ds", "--deep"]), &["every picture decodes"]);
    desk.ok(&["dataset", "undo", "ds", "--yes"]);
    assert!(files(&desk.path("ds")) == before, "undone");
    contains_all(
        &desk.error(&["dataset", "delete", "ds", "--episodes", "7", "--yes"]),
        &["looking up episode 7", "it has 3 episodes, counted from 0"],
    );
    assert_eq!(desk.run(&["dataset", "delete", "ds", "--episodes", "x", "--yes"]).status.code(), Some(2));
}

#[test]
fn undo_keeps_what_is_newer_and_frees_its_room_when_told() {
    let desk = Desk::new();
    record(&desk, "ds", 3, 1, &[]);
    let plan = desk.ok(&["dataset", "delete", "ds", "--episodes", "1", "--yes"]);
    contains_all(&plan, &["room: about", "free there", "sinew dataset undo ds"]);
    record(&desk, "ds", 1, 9, &["--resume"]);
    let rows = lengths(&desk, "ds");
    contains_all(
        &desk.ok(&["dataset", "info", "ds"]),
        &["success           3 of 3", "kept for undo     3 episodes", "delete 1 of 3 episodes"],
    );
    contains_all(&desk.error(&["dataset", "undo", "ds", "--yes"]), &["episode 2", "recorded since", "--lose-newer", "sinew dataset split"]);
    assert_eq!(lengths(&desk, "ds"), rows);
    contains_all(&desk.ok(&["dataset", "undo", "ds", "--dry-run"]), &["brings back 3 episodes", "takes away  3 episodes"]);
    desk.ok(&["dataset", "undo", "ds", "--yes", "--lose-newer"]);
    desk.ok(&["dataset", "undo", "ds", "--yes"]);
    assert_eq!(lengths(&desk, "ds"), rows);
    contains_all(&desk.ok(&["dataset", "undo", "ds", "--forget", "--yes"]), &["3 episodes", "done"]);
    contains_all(&desk.error(&["dataset", "undo", "ds", "--yes"]), &["none to undo"]);
    contains_all(
        &desk.ok(&["dataset", "delete", "ds", "--where", "length<1000", "--where", "episode_index>=2", "--dry-run"]),
        &["episodes that go: 2"],
    );
    let split = ["dataset", "split", "ds", "--out", "parts", "--part", "good=success=true", "--yes"];
    desk.ok(&split);
    assert_eq!(lengths(&desk, "parts/good"), rows);
    contains_all(
        &desk.error(&["dataset", "delete", "ds", "--where", "colour=red", "--yes"]),
        &["there is no field colour; there are ", "length, "],
    );
    assert_eq!(desk.run(&["dataset", "delete", "ds", "--where", "success", "--yes"]).status.code(), Some(2));
}

#[test]
fn datasets_are_split_merged_converted_and_renamed() {
    let desk = Desk::new();
    record(&desk, "ds", 3, 1, &[]);
    let rows = lengths(&desk, "ds");
    desk.ok(&["dataset", "split", "ds", "--out", "parts", "--part", "train=67%", "--part", "val=0.33", "--yes"]);
    assert_eq!((lengths(&desk, "parts/train"), lengths(&desk, "parts/val")), (rows[..2].to_vec(), rows[2..].to_vec()));
    desk.ok(&["dataset", "split", "ds", "--out", "listed", "--part", "one=2,0", "--yes"]);
    assert_eq!(lengths(&desk, "listed/one"), [rows[2], rows[0]]);
    contains_all(&desk.misuse("dataset split ds --out x --part a=0.5 --part b=0 --yes"), &["--part"]);
    desk.ok(&["dataset", "merge", "parts/val", "parts/train", "--out", "both", "--yes"]);
    assert_eq!(lengths(&desk, "both"), [rows[2], rows[0], rows[1]]);
    contains_all(&desk.error(&["dataset", "merge", "parts/val", "parts/train", "--out", "both", "--yes"]), &["both", "holds"]);

    desk.ok(&["dataset", "convert", "both", "--to", "v2.1", "--out", "older", "--yes"]);
    contains_all(&desk.ok(&["dataset", "info", "older"]), &["v2.1", "total_episodes    3"]);
    desk.ok(&["dataset", "convert", "older", "--to", "v3.0", "--yes"]);
    contains_all(&desk.error(&["dataset", "convert", "older", "--to", "v3.0", "--yes"]), &["v3.0 already"]);
    desk.ok(&["dataset", "convert", "older", "--quality", "20", "--gop", "1", "--yes"]);
    desk.ok(&["dataset", "remove-feature", "older", "observation.images.wrist", "--yes"]);
    let task = DatasetReader::open(&desk.path("older")).unwrap().tasks()[0].clone();
    desk.ok(&["dataset", "rename-task", "older", &task, "Point at it.", "--yes"]);
    desk.ok(&["dataset", "stats", "older", "--yes"]);
    desk.ok(&["dataset", "verify", "older", "--deep"]);
    let reader = DatasetReader::open(&desk.path("older")).unwrap();
    assert_eq!((reader.tasks(), reader.cameras().count()), (&["Point at it.".to_owned()][..], 1));
}

#[test]
fn a_broken_dataset_is_mended_and_a_whole_one_left_alone() {
    let desk = Desk::new();
    record(&desk, "ds", 2, 1, &[]);
    contains_all(&desk.ok(&["dataset", "repair", "ds"]), &["whole, nothing to repair"]);
    let rows = lengths(&desk, "ds");
    std::fs::remove_dir_all(desk.path("ds/meta/episodes")).unwrap();
    assert_eq!(desk.run(&["dataset", "verify", "ds"]).status.code(), Some(1));
    contains_all(&desk.ok(&["dataset", "repair", "ds", "--dry-run"]), &["repair the dataset", "2 episodes"]);
    desk.ok(&["dataset", "repair", "ds", "--out", "mended", "--yes"]);
    assert_eq!(lengths(&desk, "mended"), rows);
    let beside: Vec<_> = std::fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(beside.iter().all(|name| !name.to_string_lossy().starts_with(".ds")), "{beside:?}");
}

#[test]
fn a_dataset_is_shown_elsewhere() {
    let desk = Desk::new();
    record(&desk, "ds", 2, 1, &[]);
    let shown = json(&desk.ok(&["dataset", "view", "ds", "--html", "pages/ds.html", "--json"]));
    assert_eq!((&shown["to"], &shown["episodes"]), (&"pages/ds.html".into(), &serde_json::json!([0, 1])));
    let page = std::fs::read_to_string(desk.path("pages/ds.html")).unwrap();
    contains_all(&page, &["id=\"episode-1\"", "shoulder_pan.pos", "\"units\":[\"°\"", "{\"mp4\":\""]);
    contains_all(&desk.error(&["dataset", "view", "ds", "--html", "pages/ds.html"]), &["pages/ds.html"]);
    desk.ok(&["dataset", "export", "ds", "--rrd", "ds.rrd", "--episodes", "1"]);
    assert!(desk.path("ds.rrd").metadata().unwrap().len() > 10_000);
    desk.ok(&["dataset", "export", "ds", "--mcap", "ds.mcap"]);
    assert!(std::fs::read(desk.path("ds.mcap")).unwrap().starts_with(b"\x89MCAP0\r\n"));
    assert_eq!(desk.run(&["dataset", "export", "ds"]).status.code(), Some(2));
    contains_all(
        &desk.error(&["dataset", "export", "ds", "--rrd", "other.rrd", "--episodes", "2"]),
        &["looking up episode 2", "it has 2 episodes"],
    );
    assert!(!desk.path("other.rrd").exists());
    contains_all(&desk.error(&["dataset", "view", "ds", "--connect", "127.0.0.1:1"]), &["127.0.0.1:1", "viewer"]);
}

#[test]
fn recording_goes_on_with_the_same_rig_only() {
    let desk = Desk::new();
    record(&desk, "ds", 1, 1, &["--quality", "30", "--no-telemetry"]);
    assert!(!desk.path("ds/sinew").exists());
    record(&desk, "ds", 2, 2, &["--resume", "--no-telemetry"]);
    assert_eq!(lengths(&desk, "ds").len(), 3);
    desk.ok(&["dataset", "verify", "ds", "--deep"]);
    let again = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds", "--resume"];
    contains_all(&desk.error(&[&again[..], &["--layout", "v2.1"]].concat()), &["version", "v3.0", "v2.1"]);
    let path = desk.path("ds/meta/info.json");
    let info = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, info.replace("\"fps\": 30", "\"fps\": 50")).unwrap();
    contains_all(&desk.error(&again), &["fps is 50 there, expected 30"]);
    std::fs::write(&path, info.replace("wrist_flex.pos", "wrist_bend.pos")).unwrap();
    contains_all(&desk.error(&again), &["feature action", "wrist_bend.pos", "wrist_flex.pos"]);
    record(&desk, "older", 1, 1, &["--layout", "v2.1"]);
    contains_all(&desk.ok(&["dataset", "info", "older"]), &["v2.1"]);
    contains_all(&desk.misuse("rollout --resume --pace fast"), &["--out"]);
}

/// A recorder is killed in the middle of an episode: what it committed is whole, and the rest is offered.
#[test]
fn a_killed_recorder_s_episode_is_recovered_or_discarded() {
    let desk = Desk::new();
    let args = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "9", "--out", "ds", "--pace", "real"];
    let mut child = desk.sinew(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while sinew_recorder::unfinished(&desk.path("ds")).ok().flatten().is_none_or(|episode| episode.rows < 10) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no row reached the disk");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    contains_all(&desk.ok(&["dataset", "recover", "ds", "--dry-run"]), &["was not finished", "rows"]);
    let resume = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds", "--resume"];
    contains_all(&desk.error(&resume), &["was not finished", "--unfinished recover"]);
    contains_all(&desk.error(&["dataset", "delete", "ds", "--episodes", "0", "--yes"]), &["error"]);
    desk.ok(&["dataset", "recover", "ds", "--yes"]);
    let recovered = lengths(&desk, "ds");
    assert!(recovered.last().is_some_and(|rows| *rows >= 10), "{recovered:?}");
    desk.ok(&["dataset", "verify", "ds", "--deep"]);
    contains_all(&desk.ok(&["dataset", "discard", "ds", "--yes"]), &["no episode waits"]);
    desk.ok(&[&resume[..], &["--unfinished", "discard"]].concat());
    assert_eq!(lengths(&desk, "ds").len(), recovered.len() + 1);
}

#[test]
fn ctrl_c_leaves_everything_as_it_was() {
    let desk = Desk::new();
    record(&desk, "ds", 4, 1, &[]);
    let before = files(&desk.path("ds"));
    let mut interrupted = 0;
    for delay_ms in [0, 30, 60, 100, 150, 250] {
        let args = ["dataset", "convert", "ds", "--quality", "12", "--yes"];
        let mut child = desk.sinew(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // Signals are handled from before the plan is shown.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        match child.wait().unwrap().code() {
            Some(130) => interrupted += 1,
            // It was done by then.
            Some(0) => drop(desk.ok(&["dataset", "undo", "ds", "--yes"])),
            other => panic!("{other:?} after {delay_ms} ms"),
        }
        assert!(files(&desk.path("ds")) == before, "after {delay_ms} ms");
    }
    assert!(interrupted > 0);
}

#[test]
fn every_verb_says_how_it_is_used() {
    let desk = Desk::new();
    let verbs = [
        "info",
        "verify",
        "repair",
        "view",
        "export",
        "delete",
        "split",
        "merge",
        "convert",
        "stats",
        "remove-feature",
        "rename-task",
        "undo",
        "recover",
        "discard",
    ];
    for verb in verbs {
        contains_all(&desk.ok(&["dataset", verb, "--help"]), &["Example", "sinew dataset", "--json"]);
    }
}

/// The same seed is the same scene: nobody wants it twice among his demonstrations.
#[test]
fn a_recording_goes_on_with_scenes_that_it_does_not_have() {
    let desk = Desk::new();
    let record = |seed: &str, more: &[&str]| {
        let base = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "2", "--out", "ds", "--seed", seed];
        let output = desk.run(&[&base[..], more].concat());
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words}");
        words
    };
    let seeds = || -> Vec<u64> {
        let log = std::fs::read_to_string(desk.path("ds/meta/sinew_episodes.jsonl")).unwrap();
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seed"].as_u64().unwrap()).collect()
    };
    assert_eq!(record("5", &[]), "");
    let last = *seeds().last().unwrap();
    let words = record("5", &["--resume"]);
    contains_all(&words, &[&format!("ds has scenes up to seed {last}; going on with seed {}", last + 1)]);
    // What is asked for beyond them is what is recorded.
    assert_eq!(record("100", &["--resume"]), "");
    let seeds = seeds();
    assert!(seeds.len() == 6 && seeds.windows(2).all(|pair| pair[0] < pair[1]) && seeds[2] == last + 1 && seeds[4] >= 100, "{seeds:?}");
}

/// What a terminal obeys instead of showing it, but for the end of a line.
fn obeyed(text: &str) -> Vec<char> {
    text.chars().filter(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c)).collect()
}

#[test]
fn what_a_stranger_wrote_is_no_command_to_the_terminal() {
    let desk = Desk::new();
    record(&desk, "ds", 1, 1, &[]);
    let task = json(&desk.ok(&["dataset", "info", "ds", "--json"]))["tasks"][0].as_str().unwrap().to_owned();
    let hostile = "\u{1b}]0;mine\u{7}\u{9b}2J\u{202e}\u{7f}\r\nds: whole";
    desk.ok(&["dataset", "rename-task", "ds", &task, hostile, "--yes"]);
    let path = desk.path("ds/meta/info.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text
        .replace("\"robot_type\": \"", "\"robot_type\": \"\\u001b[31m")
        .replace("\"features\": {", "\"features\": {\"\\u009b1m\": {\"dtype\": \"float32\", \"shape\": [1], \"names\": null},");
    std::fs::write(&path, &changed).unwrap();
    let name = "\u{1b}[31mx";
    for args in [
        &["dataset", "info", "ds"][..],
        &["dataset", "info", "ds", "--json"],
        &["dataset", "verify", "ds"],
        &["dataset", "verify", "ds", "--json"],
        &["dataset", "delete", "ds", "--episodes", "0", "--dry-run"],
        &["dataset", "rename-task", "ds", hostile, "Touch it.", "--dry-run"],
        &["dataset", "rename-task", "ds", name, "Touch it.", "--dry-run"],
        &["dataset", "remove-feature", "ds", name, "--yes"],
        &["dataset", "view", "ds", "--html", "page.html"],
        &["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--out", "ds", "--resume"],
    ] {
        let output = desk.run(args);
        for text in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(text.clone()).unwrap();
            assert!(obeyed(&text).is_empty(), "{args:?}: {text:?}");
        }
    }
    let info = desk.ok(&["dataset", "info", "ds"]);
    contains_all(&info, &["\\u{1b}]0;mine\\u{7}", "\\u{202e}", "\\nds: whole", "\\u{9b}1m"]);
    // The words are the same for a program that reads them.
    assert_eq!(json(&desk.ok(&["dataset", "info", "ds", "--json"]))["tasks"][0], hostile);
}
