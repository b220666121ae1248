//! `sinew daemon` with the simulated arm: everything that its page does, from a real process, in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::Desk;
use page::{Daemon, command, heard};
use serde_json::{Value, json};
use tungstenite::Message;

fn position(state: &Value, joint: usize) -> f64 {
    state["position"][joint].as_f64().unwrap()
}

#[test]
fn a_robot_at_rest_is_seen_and_nothing_moves() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    let robot = daemon.get("/api/v1/robot");
    assert!(robot["name"] == "so101" && robot["is_simulated"] == true && robot["task"] == "pick-place", "{robot}");
    assert_eq!((robot["state"].as_array().unwrap().len(), &robot["state"][0]["unit"]), (6, &json!("rad")));
    let mesh = robot["meshes"][0].as_str().unwrap();
    assert!(daemon.bytes(&format!("/api/v1/robot/{mesh}")).1.len() > 84, "an STL file has a head of 84 bytes");
    assert_eq!(daemon.get("/api/v1/robot/description")["part"].as_array().unwrap().len(), 6);
    let first = daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    assert!(first["mode"] == "idle" && first["armed"] == false && first["loop"].is_null() && first["trouble"].is_null(), "{first}");
    let (status, jpeg) = daemon.bytes("/api/v1/cameras/front.jpg");
    if status == 404 {
        // The first image needs a moment.
        daemon.wait("an image", 10, |_| daemon.bytes("/api/v1/cameras/front.jpg").0 == 200);
    } else {
        assert!(jpeg.starts_with(&[0xff, 0xd8]), "a JPEG");
    }
    let mut states = daemon.socket("/api/v1/state/stream", &json!({}));
    let seen: Vec<u64> = (0..5).map(|_| heard(&mut states)["sequence"].as_u64().unwrap()).collect();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    let mut images = daemon.socket("/api/v1/cameras/stream", &json!({"cameras": ["front"]}));
    let Message::Binary(bytes) = images.read().unwrap() else { panic!("expected an image") };
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let head: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    assert!(head["camera"] == "front" && head["width"] == robot["cameras"][0]["width"], "{head}");
    assert!(bytes[4 + length..].starts_with(&[0xff, 0xd8]));
    // Without torque it sinks, as a real one does; and then it lies still.
    let is_still = |state: &Value| state["velocity"].as_array().unwrap().iter().all(|speed| speed.as_f64().unwrap_or(1.0).abs() < 1e-3);
    let first = daemon.wait("the robot to lie still", 20, is_still);
    std::thread::sleep(Duration::from_secs(1));
    let later = daemon.state();
    assert!(later["armed"] == false && later["goal"] == json!([]), "{later}");
    assert!((0..6).all(|joint| (position(&later, joint) - position(&first, joint)).abs() < 0.02), "{first} {later}");
}

#[test]
fn the_robot_follows_its_operator_and_holds_when_he_is_silent() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    let mut operator = daemon.operator();
    operator.send(Message::text(json!({"type": "goals", "goals": [0, 0, 0, 0, 0, 0]}).to_string())).unwrap();
    let refused = heard(&mut operator);
    assert!(refused["error"].as_str().unwrap().contains("start a work"), "{refused}");
    drop(operator);
    daemon.wait("the end of his lease", 5, |state| state["operator"].is_null());
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    let (status, busy) = daemon.try_post("/api/v1/work", &json!({"kind": "teleop"}));
    assert!(status == 409 && busy["error"].as_str().unwrap().contains("teleop runs"), "{busy}");
    daemon.wait("torque", 20, |state| state["armed"] == true);
    let mut operator = daemon.operator();
    let from = position(&daemon.state(), 0);
    daemon.steer(&mut operator, 0, from + 0.4, Duration::from_millis(2000));
    let there = daemon.state();
    assert!((position(&there, 0) - from - 0.4).abs() < 0.05 && there["operator"] == "owner", "{from} {there}");
    assert_eq!((&there["mode"], &there["work"]["acting"]), (&json!("teleop"), &json!("human")));
    // He wants to go far, and falls silent on the way.
    daemon.steer(&mut operator, 0, -1.8, Duration::from_millis(50));
    std::thread::sleep(Duration::from_millis(700));
    let held = position(&daemon.state(), 0);
    std::thread::sleep(Duration::from_millis(500));
    let state = daemon.state();
    assert!((position(&state, 0) - held).abs() < 0.01 && held > -1.5, "{held} {state}");
    assert!(state["mode"] == "teleop" && state["operator"].is_null() && state["armed"] == true, "{state}");
    assert_eq!(heard(&mut operator)["type"], "expired");
    // He comes back.
    let mut operator = daemon.operator();
    daemon.steer(&mut operator, 0, held + 0.3, Duration::from_millis(1500));
    assert!((position(&daemon.state(), 0) - held - 0.3).abs() < 0.05);
    daemon.post("/api/v1/stop", &json!({"stop": "now"}));
    daemon.post("/api/v1/stop", &json!({"stop": "now"}));
    let end = daemon.ended(10);
    assert!(end["mode"] == "teleop" && end["is_interrupted"] == true && end["error"].is_null(), "{end}");
}

#[test]
fn an_emergency_latches_until_it_is_cleared() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    daemon.wait("torque", 20, |state| state["armed"] == true);
    daemon.post("/api/v1/stop", &json!({"stop": "emergency"}));
    // The safe action of this arm is to hold.
    let ends = |state: &Value| state["work"]["phase"] == "ending" && state["stop"] == "emergency" && state["armed"] == true;
    let (held, begun) = (daemon.wait("the safe action", 5, ends), Instant::now());
    let later = daemon.wait("half a second", 5, |state| ends(state) && begun.elapsed() > Duration::from_millis(500));
    assert!((0..6).all(|joint| (position(&later, joint) - position(&held, joint)).abs() < 0.02), "{held} {later}");
    assert_eq!(daemon.try_post("/api/v1/work", &json!({"kind": "teleop"})).0, 409);
    assert_eq!(daemon.post("/api/v1/emergency/clear", &json!({})), json!({"done": true}));
    assert_eq!(daemon.post("/api/v1/emergency/clear", &json!({})), json!({"done": false}));
    daemon.ended(10);
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 0.5}));
    let end = daemon.ended(20);
    assert!(end["error"].is_null() && end["is_interrupted"] == false, "{end}");
}

#[test]
fn episodes_are_recorded_kept_dropped_replayed_and_seen() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &["--datasets", "datasets"]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": "cubes", "episodes": 2, "instruction": "Wave.", "reset_s": 20}));
    let wish = |wish: Value| daemon.post("/api/v1/episode", &wish);
    let ticks = |number: u64| {
        move |state: &Value| state["work"]["phase"] == "running" && state["work"]["tick"].as_u64() > Some(number) && state["armed"] == true
    };
    let state = daemon.wait("an episode", 20, ticks(20));
    assert!(state["work"]["instruction"] == "Wave." && state["work"]["dataset"] == "cubes", "{state}");
    assert!(state["work"]["wishes"].as_array().unwrap().contains(&json!("keep")), "{state}");
    let (status, mark) = daemon.try_post("/api/v1/episode", &json!({"wish": "mark"}));
    assert!(status == 409, "{mark}");
    // The first is dropped, and done again.
    wish(json!({"wish": "drop"}));
    let state = daemon.wait("the time between", 20, |state| state["work"]["phase"] == "resetting");
    assert!(state["work"]["max_ticks"] == 600 && state["work"]["kept"] == 0, "{state}");
    // Whoever sets up the next one moves the robot and sees it.
    let shown =
        |state: &Value| state["work"]["phase"] == "resetting" && state["armed"] == true && state["work"]["tick"].as_u64() > Some(20);
    let state = daemon.wait("the reset", 10, shown);
    assert!(state["image_age_s"][0].as_f64() < Some(0.5), "{state}");
    let from = position(&state, 0);
    let mut operator = daemon.operator();
    daemon.steer(&mut operator, 0, from + 0.3, Duration::from_millis(1500));
    let state = daemon.wait("the joint", 2, |state| (position(state, 0) - from - 0.3).abs() < 0.05);
    assert!(state["work"]["phase"] == "resetting" && state["work"]["instruction"] == "Wave.", "{state}");
    drop(operator);
    daemon.wait("the lease to end", 2, |state| state["operator"].is_null());
    wish(json!({"wish": "keep"}));
    for number in 0..2 {
        daemon.wait("an episode", 20, |state| ticks(30)(state) && state["work"]["episode"] == number);
        wish(json!({"wish": "keep"}));
        if number == 0 {
            daemon.wait("the time between", 20, |state| state["work"]["phase"] == "resetting");
            wish(json!({"wish": "keep"}));
        }
    }
    let end = daemon.ended(30);
    assert!(end["error"].is_null(), "{end}");
    let kept: Vec<bool> = end["episodes"].as_array().unwrap().iter().map(|report| report["kept"].as_bool().unwrap()).collect();
    assert_eq!(kept, [false, true, true], "{end}");

    let datasets = daemon.get("/api/v1/datasets");
    assert!(datasets[0]["name"] == "cubes" && datasets[0]["episodes"] == 2 && datasets[0]["trouble"].is_null(), "{datasets}");
    let episodes = daemon.get("/api/v1/datasets/cubes");
    assert!(episodes[1]["instructions"] == json!(["Wave."]) && episodes[1]["frames"].as_u64() > Some(30), "{episodes}");
    let (status, jpeg) = daemon.bytes("/api/v1/datasets/cubes/episodes/1.jpg");
    assert!(status == 200 && jpeg.starts_with(&[0xff, 0xd8]), "{}", String::from_utf8_lossy(&jpeg));
    assert_eq!(daemon.bytes("/api/v1/datasets/cubes/episodes/2.jpg").0, 404);
    assert_eq!(daemon.bytes("/api/v1/datasets/..%2f").0, 400);
    let number = daemon.post("/api/v1/tasks", &json!({"kind": "verify_dataset", "dataset": "cubes"}))["number"].clone();
    let begun = Instant::now();
    let task = loop {
        let tasks = daemon.get("/api/v1/tasks");
        let task = tasks.as_array().unwrap().iter().find(|task| task["number"] == number).unwrap().clone();
        if task["is_done"] == true {
            break task;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{task}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(task["error"].is_null(), "{task}");

    // The recording goes on where it ended.
    daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": "cubes", "episodes": 1, "leader": "scripted"}));
    daemon.wait("an episode", 20, ticks(30));
    wish(json!({"wish": "keep"}));
    assert!(daemon.ended(30)["error"].is_null());
    assert_eq!(daemon.get("/api/v1/datasets")[0]["episodes"], 3);
    daemon.post("/api/v1/work", &json!({"kind": "replay", "dataset": "cubes", "episode": 1}));
    let end = daemon.ended(60);
    assert!(end["mode"] == "replay" && end["error"].is_null() && end["episodes"][0]["outcome"] == "ended", "{end}");
    assert_eq!(daemon.try_post("/api/v1/work", &json!({"kind": "replay", "dataset": "none"})).0, 404);
    drop(daemon);
    desk.recorded("datasets/cubes", "a daemon recorded");
}

#[test]
fn a_policy_works_and_is_evaluated() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "episodes": 1, "dataset": "tried"}));
    let state = daemon.wait("the policy", 60, |state| state["work"]["acting"] == "policy" && state["work"]["tick"].as_u64() > Some(30));
    assert!(state["mode"] == "rollout" && state["loop"]["rate_hz"].as_f64() > Some(5.0), "{state}");
    assert_eq!(daemon.post("/api/v1/episode", &json!({"wish": "pause"}))["done"], true);
    daemon.wait("a pause", 5, |state| state["work"]["acting"] == "nobody");
    daemon.post("/api/v1/episode", &json!({"wish": "resume"}));
    daemon.wait("the policy", 5, |state| state["work"]["acting"] == "policy");
    daemon.post("/api/v1/episode", &json!({"wish": "finish"}));
    let end = daemon.ended(30);
    assert!(end["error"].is_null() && end["episodes"][0]["kept"] == true, "{end}");
    for (policy, status) in [("/etc", 400), ("../x", 400), ("nobody/nothing", 200)] {
        assert_eq!(daemon.try_post("/api/v1/work", &json!({"kind": "rollout", "policy": policy})).0, status, "{policy}");
    }
    let end = daemon.ended(30);
    assert!(end["error"].as_str().unwrap().contains("nobody/nothing"), "{end}");
    daemon.post("/api/v1/work", &json!({"kind": "eval", "episodes": 1, "task": "pick-place"}));
    daemon.wait("an evaluation", 10, |state| state["mode"] == "eval");
    let end = daemon.ended(120);
    assert!(end["error"].is_null() && end["episodes"][1]["episodes"] == 1, "{end}");
    assert_eq!(daemon.get("/api/v1/policies")[0]["policy"], Value::Null);
    // What was printed is in the log, and the token is not.
    let log = daemon.get("/api/v1/log").to_string();
    assert!(log.contains("nobody/nothing") && !log.contains(&daemon.token), "{log}");
}

#[test]
fn one_daemon_a_robot_and_a_token_for_other_machines() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    // The same simulated robot is another one at another address; the port is not to be had twice.
    let taken = desk.error(&["daemon", "--state", "other", "--listen", &daemon.address]);
    assert!(taken.contains("is another one running?") && taken.contains("in use"), "{taken}");
    let port = format!("127.0.0.1:{}", daemon.address.rsplit(':').next().unwrap().parse::<u16>().unwrap() - 1);
    let both: Vec<_> = (0..2)
        .map(|_| {
            let mut command = desk.sinew(&["daemon", "--state", "state", "--listen", &port, "--json"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    let mut said = Vec::new();
    for mut child in both {
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
        }
        said.push(String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap());
    }
    assert_eq!(said.iter().filter(|said| said.contains("another daemon owns")).count(), 1, "{said:?}");

    let refused = desk.misuse("daemon --listen 0.0.0.0:0 --state new");
    assert!(refused.contains("sinew daemon token") && !desk.path("new").exists(), "{refused}");
    desk.misuse("daemon --teleop keyboard");
    desk.misuse("daemon --id blue");
    let made = desk.ok(&["daemon", "token", "--state", "new"]);
    assert_eq!((made.trim().len(), &desk.ok(&["daemon", "token", "--state", "new"])), (64, &made));
    let digits = desk.ok(&["daemon", "pair", "--role", "look", "--state", "state", "--json"]);
    let code = serde_json::from_str::<Value>(&digits).unwrap()["code"].clone();
    let paired = daemon.post("/api/v1/pair", &json!({"code": code, "name": "tablet"}));
    assert_eq!(paired["role"], "look");
    let none = desk.error(&["daemon", "pair", "--state", "new"]);
    assert!(none.contains("no daemon runs"), "{none}");
}

#[test]
fn systemd_is_told_and_a_signal_ends_it_in_order() {
    let desk = Desk::new();
    let place = desk.path("notify");
    let systemd = UnixDatagram::bind(&place).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut bytes = [0; 512];
        let count = systemd.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let mut command = command(&desk, &[]);
    command.env("NOTIFY_SOCKET", &place).env("WATCHDOG_USEC", "600000");
    let mut daemon = Daemon::of(&desk, &mut command);
    assert!(told().starts_with("READY=1\nSTATUS=owns so101 at http://127.0.0.1:"));
    for _ in 0..4 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    daemon.wait("torque", 20, |state| state["armed"] == true);
    for _ in 0..4 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    daemon.signal("-TERM");
    let begun = Instant::now();
    while told() != "STOPPING=1" {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(daemon.exit(10), Some(0));
}

#[test]
fn what_starts_it_at_boot_is_shown_and_then_written() {
    let desk = Desk::new();
    let shown = desk.ok(&["daemon", "install", "--user", "root", "--dry-run", "--", "--robot", "so101", "--instruction", "Put it."]);
    common::contains_all(&shown, &["ExecStart=", "--robot so101 --instruction \"Put it.\"", "WatchdogSec=2s", "rtprio 60", "idVendor"]);
    // A calibration that is made over the interface is written.
    common::contains_all(&shown, &["ReadWritePaths=-/", "/lerobot/calibration\n", "-- mkdir -p /"]);
    let options = ["daemon", "install", "--user", "root", "--image", "image", "--yes", "--", "--robot", "so101"];
    desk.ok(&options);
    let unit = desk.path("image/etc/systemd/system/sinew-daemon.service");
    assert!(std::fs::read_to_string(&unit).unwrap().contains("--robot so101\n"));
    desk.ok(&options);
    std::fs::write(&unit, "[Unit]\n").unwrap();
    let refused = desk.error(&options);
    assert!(refused.contains("this command did not write it"), "{refused}");
    let bad = desk.misused(&["daemon", "install", "--user", "root", "--dry-run", "--", "--colour", "red"]);
    assert!(bad.contains("--colour"), "{bad}");
    let broken = ["daemon", "install", "--user", "root", "--dry-run", "--", "--robot", "so101", "--instruction", "a\nExecStartPre=/bin/x"];
    let broken = desk.misused(&broken);
    assert!(broken.contains("line break") && !broken.contains("\nExecStartPre"), "{broken}");
    for host in ["a b", "*", "evil.example:80", "a/b", "-a"] {
        let refused = desk.misused(&["daemon", &format!("--host={host}")]);
        assert!(refused.contains("--host") && refused.contains("without a port"), "{host}: {refused}");
    }
    let unasked = desk.error(&["daemon", "install", "--user", "root", "--image", "other", "--", "--robot", "so101"]);
    assert!(unasked.contains("--yes") && !desk.path("other").exists(), "{unasked}");
}
