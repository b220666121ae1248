//! How works of `sinew daemon` end that nobody waited for: at a server that says nothing, by signals, and by a stop in the middle of an
//! episode. Real processes, in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;
#[allow(dead_code, reason = "its motors are asked nothing here")]
mod played;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::Desk;
use page::Daemon;
use played::Played;
use serde_json::{Value, json};

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok()) == Some(parent)
    })
    .collect()
}

/// Whether it runs still; what has ended may wait for somebody to ask how.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

fn is_up(daemon: &Daemon) {
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
}

/// Begins an evaluation that does not come to its own end.
fn evaluate(daemon: &Daemon) {
    daemon.post("/api/v1/work", &json!({"kind": "eval", "episodes": 100_000}));
    daemon.wait("an evaluation", 60, |state| state["work"]["phase"] == "running");
}

/// Accepts connections, and says nothing.
fn mute() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_stop_and_a_signal_do_not_wait_for_a_server_that_says_nothing() {
    let desk = Desk::new();
    let (_listener, port) = mute();
    let mut daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    for (address, stop) in [("ws://127.0.0.1:PORT", "stop"), ("zenoh://127.0.0.1:PORT/x", "now")] {
        let policy = address.replace("PORT", &port.to_string());
        daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": policy, "episodes": 1}));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(daemon.state()["work"]["phase"], "starting");
        let begun = Instant::now();
        daemon.post("/api/v1/stop", &json!({ "stop": stop }));
        let end = daemon.ended(5);
        assert!(begun.elapsed() < Duration::from_secs(1), "{address}: {:?}", begun.elapsed());
        assert!(end["is_interrupted"] == true && end["error"].is_null(), "{end}");
    }
    // Those that still wait are not many: the next waits for them, and is stopped as soon.
    for _ in 0..6 {
        daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": format!("ws://127.0.0.1:{port}"), "episodes": 1}));
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        daemon.post("/api/v1/stop", &json!({"stop": "now"}));
        daemon.ended(5);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap().flatten();
    let preparing =
        threads.filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "preparing"));
    assert!((1..=4).contains(&preparing.count()));
    let log = daemon.get("/api/v1/log").to_string();
    assert!(log.contains("still wait for their servers"), "{log}");
    drop(daemon);
    daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": format!("ws://127.0.0.1:{port}"), "episodes": 1}));
    std::thread::sleep(Duration::from_millis(500));
    daemon.signal("-TERM");
    let begun = Instant::now();
    assert_eq!(daemon.exit(10), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_signal_is_heard_while_a_camera_is_waited_for_at_the_start() {
    let desk = Desk::new();
    let _arm = Played::start(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let (_listener, port) = mute();
    let camera = format!("front=http://127.0.0.1:{port}/stream");
    let mut child = page::command(&desk, &["--robot", "so101", "--port", "follower", "--camera", &camera]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none());
    common::pty::signal(&child, "TERM");
    let begun = Instant::now();
    let code = common::pty::exit_code(&mut child, &common::pty::Heard::default());
    assert!(code == Some(0) && begun.elapsed() < Duration::from_secs(1), "{code:?} {:?}", begun.elapsed());
}

/// Its children, as soon as there are so many.
fn children_once(pid: u32, count: usize) -> Vec<u32> {
    let begun = Instant::now();
    loop {
        let started = children(pid);
        if started.len() == count {
            return started;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{started:?}, expected {count}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_it_leaves_no_process_behind() {
    let desk = Desk::new();
    let (_listener, port) = mute();
    let mut daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    evaluate(&daemon);
    daemon.post("/api/v1/tasks", &json!({"kind": "check_policy", "policy": format!("ws://127.0.0.1:{port}")}));
    let started = children_once(daemon.child.id(), 2);
    daemon.signal("-KILL");
    daemon.exit(5);
    let begun = Instant::now();
    while started.iter().any(|pid| runs(*pid)) {
        assert!(begun.elapsed() < Duration::from_secs(2), "{started:?} are left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_evaluation_and_a_task_end_with_a_stop_and_with_the_daemon() {
    let desk = Desk::new();
    let (_listener, port) = mute();
    let mut daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    evaluate(&daemon);
    daemon.post("/api/v1/stop", &json!({"stop": "stop"}));
    let end = daemon.ended(5);
    assert!(end["is_interrupted"] == true && end["error"].is_null(), "{end}");
    daemon.post("/api/v1/tasks", &json!({"kind": "check_policy", "policy": format!("ws://127.0.0.1:{port}")}));
    let started = children_once(daemon.child.id(), 1);
    daemon.signal("-TERM");
    assert_eq!(daemon.exit(5), Some(0));
    assert!(!runs(started[0]));
    // What has done its work says how, as before.
    let daemon = Daemon::start(&desk, &[]);
    daemon.post("/api/v1/tasks", &json!({"kind": "check_policy"}));
    let begun = Instant::now();
    let task = loop {
        let task = daemon.get("/api/v1/tasks")[0].clone();
        if task["is_done"] == true {
            break task;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{task}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(task["error"].is_null() && task["result"].is_object(), "{task}");
}

#[test]
fn what_was_recorded_until_a_stop_or_a_signal_can_be_recovered() {
    let desk = Desk::new();
    let record = |name: &str| json!({"kind": "record", "dataset": name, "instruction": "Wave.", "episodes": 3, "reset_s": 0});
    let unfinished = |daemon: &Daemon, name: &str| {
        let all = daemon.get("/api/v1/datasets");
        all.as_array().unwrap().iter().find(|dataset| dataset["name"] == name).map(|dataset| dataset["is_unfinished"] == true)
    };
    let running = |state: &Value| state["work"]["phase"] == "running" && state["work"]["tick"].as_u64() > Some(45);
    for (name, how) in [("termed", "-TERM"), ("interrupted", "-INT"), ("hung-up", "-HUP"), ("stopped", "stop"), ("at-once", "now")] {
        let mut daemon = Daemon::start(&desk, &[]);
        is_up(&daemon);
        daemon.post("/api/v1/work", &record(name));
        daemon.wait("an episode", 20, running);
        if how.starts_with('-') {
            daemon.signal(how);
            assert_eq!(daemon.exit(10), Some(0), "{name}");
            daemon = Daemon::start(&desk, &[]);
            is_up(&daemon);
        } else {
            daemon.post("/api/v1/stop", &json!({ "stop": how }));
            let end = daemon.ended(10);
            assert!(end["is_interrupted"] == true && end["error"].is_null() && end["episodes"][0]["kept"] == false, "{end}");
            let log = daemon.get("/api/v1/log").to_string();
            assert!(log.contains("that was stopped after") && log.contains("sinew dataset discard"), "{log}");
        }
        assert_eq!(unfinished(&daemon, name), Some(true), "{name}");
        // The next recording takes it in.
        daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": name, "instruction": "Wave.", "episodes": 1, "episode_s": 1}));
        let end = daemon.ended(30);
        assert!(end["error"].is_null() && end["is_interrupted"] == false, "{name}: {end}");
        let episodes = daemon.get(&format!("/api/v1/datasets/{name}"));
        let frames: Vec<u64> = episodes.as_array().unwrap().iter().map(|episode| episode["frames"].as_u64().unwrap()).collect();
        assert!(frames.len() == 2 && frames[0] >= 30 && (29..=31).contains(&frames[1]), "{name}: {frames:?}");
        assert_eq!(unfinished(&daemon, name), Some(false), "{name}");
        drop(daemon);
        desk.recorded(&format!("state/datasets/{name}"), "a daemon was stopped");
    }
    // Who drops it has dropped it, whatever stops the rest.
    let mut daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": "dropped", "instruction": "Wave.", "episodes": 3, "reset_s": 30}));
    daemon.wait("an episode", 20, running);
    daemon.post("/api/v1/episode", &json!({"wish": "drop"}));
    daemon.wait("the time between", 10, |state| state["work"]["phase"] == "resetting");
    daemon.signal("-TERM");
    assert_eq!(daemon.exit(10), Some(0));
    let daemon = Daemon::start(&desk, &[]);
    assert_eq!(unfinished(&daemon, "dropped"), None);
}

#[test]
fn an_episode_in_the_simulator_is_as_long_as_was_asked_for() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": "short", "episodes": 2, "episode_s": 1.5, "reset_s": 0}));
    let state = daemon.wait("an episode", 20, |state| state["work"]["tick"].as_u64() > Some(5));
    assert_eq!(state["work"]["max_ticks"], 45, "{state}");
    let end = daemon.ended(30);
    let ends: Vec<_> =
        end["episodes"].as_array().unwrap().iter().map(|report| (report["outcome"].clone(), report["ticks"].clone())).collect();
    assert_eq!(ends, [(json!("ended"), json!(45)), (json!("ended"), json!(45))], "{end}");
    assert_eq!(daemon.get("/api/v1/datasets")[0]["episodes"], 2);
}

#[test]
fn a_robot_that_holds_says_that_torque_is_on() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    assert_eq!(daemon.state()["armed"], false);
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    daemon.ended(20);
    std::thread::sleep(Duration::from_millis(300));
    let state = daemon.state();
    assert!(state["armed"] == true && state["goal"] == json!([]) && state["loop"].is_null(), "{state}");
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_the_interface() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    is_up(&daemon);
    for (work, says) in [
        (json!({"kind": "teleop", "seconds": -1}), "seconds is -1"),
        (json!({"kind": "teleop", "seconds": 1e300}), "seconds is 1e300"),
        (json!({"kind": "record", "dataset": "a", "episodes": 0}), "episodes is 0"),
        (json!({"kind": "record", "dataset": "a", "seed": u64::MAX}), "seed is 18446744073709551615"),
        (json!({"kind": "record", "dataset": "a", "instruction": "a\nb"}), "line breaks"),
        (json!({"kind": "record", "dataset": "a", "instruction": "x".repeat(2000)}), "2000 characters"),
        (json!({"kind": "rollout", "reset_s": -1}), "reset_s is -1"),
        (json!({"kind": "rollout", "strategy": "dagger"}), "expected a dataset"),
        (json!({"kind": "rollout", "policy": "ws://x\u{0}y"}), "reading the address"),
        (json!({"kind": "rollout", "policy": "https://127.0.0.1:1"}), "does not say which joints"),
        (json!({"kind": "eval", "policy": "ws://127.0.0.1:1"}), "on the Hub"),
        (json!({"kind": "eval", "episodes": 0}), "episodes is 0"),
    ] {
        let (status, answer) = daemon.try_post("/api/v1/work", &work);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(says) && !error.contains("--") && error.len() < 300, "{work}: {answer}");
    }
    let (status, answer) = daemon.try_post("/api/v1/tasks", &json!({"kind": "fetch_policy", "policy": "ws://127.0.0.1:1"}));
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("on the Hub"), "{answer}");
    let instruct = |text: &str| daemon.try_post("/api/v1/episode", &json!({"wish": "instruct", "instruction": text})).0;
    assert_eq!(instruct("Wave."), 409, "nothing runs");
    daemon.post("/api/v1/work", &json!({"kind": "record", "dataset": "told", "instruction": "Wave.", "episodes": 1}));
    daemon.wait("an episode", 20, |state| state["work"]["tick"].as_u64() > Some(5));
    for (text, status) in [("", 400), ("  ", 400), ("a\nb\u{0}", 400), (&*"x".repeat(60_000), 400), (" Bow. ", 200)] {
        assert_eq!(instruct(text), status, "{} bytes", text.len());
    }
    daemon.wait("the other instruction", 5, |state| state["work"]["instruction"] == "Bow.");
}
