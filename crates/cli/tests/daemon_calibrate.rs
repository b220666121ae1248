//! An arm is calibrated over the interface of `sinew daemon`: motors that are emulated behind a terminal, and a hand that moves them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;
mod played;

use std::time::{Duration, Instant};

use common::Desk;
use page::Daemon;
use played::Played;
use serde_json::{Value, json};

const JOINTS: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];
const FILE: &str = ".cache/huggingface/lerobot/calibration/robots/so_follower/one.json";

/// Motors whose joints stay where the hand leaves them.
fn played(desk: &Desk, args: &[&str]) -> Played {
    let mut arm = Played::start(desk, args);
    JOINTS.iter().for_each(|name| drop(arm.ask(&format!("load {name} 0"))));
    arm
}

/// Waits for a step; where the calibration is then.
#[track_caller]
fn step(daemon: &Daemon, name: &str) -> Value {
    daemon.wait(name, 20, |state| state["calibration"]["step"] == name)["calibration"].clone()
}

#[track_caller]
fn answer(daemon: &Daemon, step: &Value, answer: &str) {
    daemon.post("/api/v1/calibration", &json!({"number": step["number"], "answer": answer}));
}

/// A hand moves one joint after the other through its range, and rests at the ends.
fn sweep(arm: &mut Played) {
    for (i, name) in JOINTS.iter().enumerate().filter(|(_, name)| **name != "wrist_roll") {
        let mut place: f64 = arm.ask(&format!("position {name}")).parse().unwrap();
        for goal in [600.0, 3000.0, 2000.0 + 20.0 * i as f64] {
            while (goal - place).abs() > 1e-9 {
                place += (goal - place).clamp(-40.0, 40.0);
                arm.ask(&format!("move {name} {place}"));
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// What calibrating writes, of each motor.
fn registers(arm: &mut Played) -> Vec<i32> {
    let kept = ["homing_offset", "min_position_limit", "max_position_limit"];
    JOINTS.iter().flat_map(|name| kept.map(|register| format!("value {name} {register}"))).map(|command| arm.value(&command)).collect()
}

fn torque(arm: &mut Played) -> Vec<i32> {
    JOINTS.iter().map(|name| arm.value(&format!("value {name} torque_enable"))).collect()
}

#[test]
fn an_arm_that_has_no_calibration_gets_one_and_is_connected_with_it() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower"]);
    let daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower"]);
    let state = daemon.wait("trouble", 10, |state| state["trouble"].is_string());
    assert!(state["trouble"].as_str().unwrap().contains("calibration"), "{state}");
    assert_eq!(daemon.get("/api/v1/robot")["calibrate"], json!([{"arm": "robot", "name": "so101", "id": null}]));
    for (work, status, words) in [
        (json!({"kind": "calibrate"}), 400, "expected an id"),
        (json!({"kind": "calibrate", "id": "../one"}), 400, "one"),
        (json!({"kind": "calibrate", "arm": "leader", "id": "one"}), 400, "leader"),
        (json!({"kind": "calibrate", "arm": "both"}), 400, "both"),
        (json!({"kind": "calibrate", "id": "o\nne"}), 400, "o\\nne"),
        (json!({"kind": "calibrate", "id": "o\u{1b}[31mne"}), 400, "u{1b}"),
        (json!({"kind": "calibrate", "id": "x".repeat(300)}), 400, "300 bytes"),
    ] {
        let (found, refused) = daemon.try_post("/api/v1/work", &work);
        assert!(found == status && refused["error"].as_str().unwrap().contains(words), "{work}: {refused}");
    }
    assert_eq!(daemon.try_post("/api/v1/calibration", &json!({"number": 1, "answer": "next"})).0, 409, "none runs");
    daemon.post("/api/v1/work", &json!({"kind": "calibrate", "id": "one"}));
    let release = step(&daemon, "release");
    assert_eq!(release["answers"], json!(["next", "cancel"]));
    let state = daemon.state();
    assert!(state["mode"] == "calibrate" && state["trouble"].is_null() && state["position"][0].is_null(), "{state}");
    assert_eq!(daemon.try_post("/api/v1/work", &json!({"kind": "calibrate", "id": "one"})).0, 409, "one at a time");
    // Who answers another question, or what is not asked, has answered nothing.
    for wrong in [json!({"number": 99, "answer": "next"}), json!({"number": release["number"], "answer": "again"})] {
        assert_eq!(daemon.try_post("/api/v1/calibration", &wrong).0, 409, "{wrong}");
    }
    answer(&daemon, &release, "next");
    assert_eq!(daemon.try_post("/api/v1/calibration", &json!({"number": release["number"], "answer": "next"})).0, 409, "answered twice");
    let moving = step(&daemon, "sweep");
    assert_eq!(moving["joints"].as_array().unwrap().len(), 5, "{moving}");
    // Before anything was moved.
    answer(&daemon, &moving, "next");
    let state = daemon.wait("a problem", 5, |state| state["calibration"]["problem"].is_string());
    assert!(state["calibration"]["step"] == "sweep" && state["calibration"]["problem"].as_str().unwrap().contains("gripper"), "{state}");
    sweep(&mut arm);
    let state = daemon
        .wait("all joints", 5, |state| state["calibration"]["joints"].as_array().unwrap().iter().all(|joint| joint["is_enough"] == true));
    let joint = &state["calibration"]["joints"][0];
    let moved = joint["upper"].as_f64().unwrap() - joint["lower"].as_f64().unwrap();
    assert!(moved > joint["least"].as_f64().unwrap(), "{joint}");
    answer(&daemon, &state["calibration"], "next");
    let middle = step(&daemon, "middle");
    assert!(middle["text"].as_str().unwrap().contains("wrist_roll"), "{middle}");
    assert!(!desk.path(FILE).exists(), "nothing is kept before its end");
    arm.ask("move wrist_roll 1000");
    std::thread::sleep(Duration::from_millis(50));
    answer(&daemon, &middle, "next");
    let end = daemon.ended(20);
    assert!(end["mode"] == "calibrate" && end["error"].is_null() && end["is_interrupted"] == false, "{end}");
    assert_eq!((&end["result"]["used_file"], end["result"]["joints"].as_array().unwrap().len()), (&json!(false), 6));
    let known = &end["result"]["joints"][0];
    let ticks = known["range_max"].as_f64().unwrap() - known["range_min"].as_f64().unwrap();
    assert!((ticks * std::f64::consts::TAU / 4096.0 - moved).abs() < 0.01, "{known}: {moved} rad were shown");
    let state = daemon.wait("the arm", 20, |state| state["position"][0].is_number());
    assert!(state["trouble"].is_null() && state["armed"] == false && state["calibration"].is_null(), "{state}");
    assert_eq!(torque(&mut arm), [0; 6], "nothing has moved by itself");
    assert_eq!(arm.value("value wrist_roll homing_offset"), -1047);
    // The robot works with it.
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    let end = daemon.ended(20);
    assert!(end["error"].is_null(), "{end}");
    drop(daemon);
    desk.ok(&["calibrate", "--robot", "so101", "--port", "follower", "--id", "one", "--check"]);
}

#[test]
fn whoever_ends_it_at_any_step_has_changed_nothing() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let mut daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower", "--id", "one"]);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    let before = (std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm));
    let refused = daemon.try_post("/api/v1/work", &json!({"kind": "calibrate", "id": "other"}));
    assert!(refused.0 == 400 && refused.1["error"].as_str().unwrap().contains("one"), "{refused:?}");
    let begin = |daemon: &Daemon| {
        daemon.post("/api/v1/work", &json!({"kind": "calibrate"}));
        step(daemon, "found")
    };
    let to_sweep = |daemon: &Daemon| {
        answer(daemon, &begin(daemon), "again");
        answer(daemon, &step(daemon, "release"), "next");
        step(daemon, "sweep")
    };
    let same = |daemon: &Daemon, arm: &mut Played, what: &str| {
        let end = daemon.ended(10);
        assert!(end["mode"] == "calibrate" && end["error"].is_null() && end["is_interrupted"] == true, "{what}: {end}");
        assert!(end["result"].is_null(), "{what}: {end}");
        daemon.wait("the arm", 15, |state| state["trouble"].is_null() && state["position"][0].is_number());
        assert!((std::fs::read(desk.path(FILE)).unwrap(), registers(arm)) == before, "{what} changed something");
        assert_eq!(torque(arm), [0; 6], "{what}");
    };
    // Each way out, each at another step.
    let found = begin(&daemon);
    assert!(found["text"].as_str().unwrap().contains("one.json"), "{found}");
    answer(&daemon, &found, "cancel");
    same(&daemon, &mut arm, "cancel");
    answer(&daemon, &begin(&daemon), "again");
    step(&daemon, "release");
    let begun = Instant::now();
    daemon.post("/api/v1/stop", &json!({"stop": "stop"}));
    daemon.wait("an end", 5, |state| state["mode"] == "idle");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    same(&daemon, &mut arm, "a stop");
    to_sweep(&daemon);
    daemon.post("/api/v1/stop", &json!({"stop": "emergency"}));
    daemon.wait("an end", 5, |state| state["mode"] == "idle");
    assert_eq!(daemon.try_post("/api/v1/work", &json!({"kind": "calibrate"})).0, 409, "the emergency is not over");
    daemon.post("/api/v1/emergency/clear", &json!({}));
    same(&daemon, &mut arm, "an emergency");
    // Somebody has the lease, then nobody hears of him: it waits, as it was, and others go on.
    let sweeping = to_sweep(&daemon);
    let operator = daemon.operator();
    assert_eq!(daemon.try_post("/api/v1/calibration", &json!({"number": sweeping["number"], "answer": "cancel"})).0, 409);
    drop(operator);
    daemon.wait("no operator", 5, |state| state["operator"].is_null());
    assert_eq!(daemon.state()["calibration"]["step"], "sweep");
    assert_eq!(registers(&mut arm), before.1);
    answer(&daemon, &sweeping, "cancel");
    same(&daemon, &mut arm, "a lost lease");
    // Hands that begin too early: it is over when they rest.
    to_sweep(&daemon);
    daemon.signal("-TERM");
    assert_eq!(daemon.exit(5), Some(0));
    assert!((std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm)) == before, "SIGTERM changed something");
    assert_eq!(torque(&mut arm), [0; 6]);
}

#[test]
fn an_arm_that_is_unplugged_says_so_and_is_tried_again() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower", "--id", "one"]);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    let before = (std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm));
    daemon.post("/api/v1/work", &json!({"kind": "calibrate"}));
    answer(&daemon, &step(&daemon, "found"), "again");
    answer(&daemon, &step(&daemon, "release"), "next");
    step(&daemon, "sweep");
    arm.ask("unplug");
    let failed = step(&daemon, "failed");
    assert!(failed["problem"].is_string() && failed["answers"] == json!(["again", "cancel"]), "{failed}");
    // Still not there.
    answer(&daemon, &failed, "again");
    let later = daemon.wait("another failure", 20, |state| {
        state["calibration"]["step"] == "failed" && state["calibration"]["number"] != failed["number"]
    });
    arm.ask("replug");
    std::thread::sleep(Duration::from_millis(300));
    answer(&daemon, &later["calibration"], "again");
    // What was said before is not asked again.
    answer(&daemon, &step(&daemon, "release"), "next");
    step(&daemon, "sweep");
    assert!((std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm)) == before);
    sweep(&mut arm);
    answer(&daemon, &step(&daemon, "sweep"), "next");
    let middle = step(&daemon, "middle");
    // The last motor that is written.
    arm.ask("die gripper");
    answer(&daemon, &middle, "next");
    let rewrite = step(&daemon, "rewrite");
    assert!(rewrite["problem"].as_str().unwrap().contains("gripper"), "{rewrite}");
    assert_eq!(std::fs::read(desk.path(FILE)).unwrap(), before.0, "the file comes last");
    arm.ask("restart gripper");
    answer(&daemon, &rewrite, "next");
    let end = daemon.ended(20);
    assert!(end["error"].is_null() && end["result"]["used_file"] == false, "{end}");
    assert_ne!(std::fs::read(desk.path(FILE)).unwrap(), before.0);
    daemon.wait("the arm", 15, |state| state["trouble"].is_null() && state["position"][0].is_number());
}

#[test]
fn a_leader_is_calibrated_while_its_robot_stays_connected() {
    let desk = Desk::new();
    let _arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let mut leader = played(&desk, &["so101_leader", "--link", "leader", "--id", "two"]);
    let more = ["--robot", "so101", "--port", "follower", "--id", "one", "--teleop", "so101_leader", "--teleop-port", "leader"];
    let daemon = Daemon::start(&desk, &more);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    let arms = daemon.get("/api/v1/robot")["calibrate"].clone();
    assert_eq!(arms[1], json!({"arm": "leader", "name": "so101_leader", "id": null}), "{arms}");
    leader.ask("put elbow_flex max_position_limit 3333");
    // The only calibration that there is says what it is called.
    daemon.post("/api/v1/work", &json!({"kind": "calibrate", "arm": "leader"}));
    let found = step(&daemon, "found");
    assert!(found["text"].as_str().unwrap().contains("two.json") && found["name"] == "so101_leader", "{found}");
    answer(&daemon, &found, "next");
    let end = daemon.ended(20);
    assert!(end["error"].is_null(), "{end}");
    assert_eq!((&end["result"]["used_file"], &end["result"]["written"]), (&json!(true), &json!(1)));
    assert_ne!(leader.value("value elbow_flex max_position_limit"), 3333);
    assert!(daemon.state()["trouble"].is_null());
    daemon.wait("the arm", 5, |state| state["position"][0].is_number());
}

#[test]
fn what_has_no_motors_is_not_calibrated() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &[]);
    assert_eq!(daemon.get("/api/v1/robot")["calibrate"], json!([]));
    let (status, refused) = daemon.try_post("/api/v1/work", &json!({"kind": "calibrate", "id": "one"}));
    assert!(status == 400 && refused["error"].as_str().unwrap().contains("serial port"), "{refused}");
}

fn to_sweep(daemon: &Daemon) -> Value {
    daemon.post("/api/v1/work", &json!({"kind": "calibrate"}));
    answer(daemon, &step(daemon, "found"), "again");
    answer(daemon, &step(daemon, "release"), "next");
    step(daemon, "sweep")
}

/// All joints are moved, and the one without ends is held.
fn to_middle(daemon: &Daemon, arm: &mut Played) -> Value {
    to_sweep(daemon);
    sweep(arm);
    answer(daemon, &step(daemon, "sweep"), "next");
    let middle = step(daemon, "middle");
    arm.ask("move wrist_roll 1000");
    std::thread::sleep(Duration::from_millis(50));
    middle
}

fn connected(daemon: &Daemon) -> Value {
    daemon.wait("the arm", 15, |state| state["trouble"].is_null() && state["position"][0].is_number())
}

#[test]
fn torque_that_somebody_has_left_on_is_told_and_can_be_switched_off() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let args = ["--robot", "so101", "--port", "follower", "--id", "one"];
    let mut daemon = Daemon::start(&desk, &args);
    assert_eq!(connected(&daemon)["armed"], false);
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    assert!(daemon.ended(20)["error"].is_null());
    assert_eq!((daemon.state()["armed"].clone(), torque(&mut arm)), (json!(true), vec![1; 6]));
    daemon.signal("-KILL");
    daemon.exit(5);
    let mut daemon = Daemon::start(&desk, &args);
    assert_eq!(connected(&daemon)["armed"], true, "the motors hold");
    // Whatever becomes of them.
    JOINTS.iter().for_each(|name| drop(arm.ask(&format!("put {name} torque_enable 0"))));
    daemon.wait("no torque", 8, |state| state["armed"] == false);
    arm.ask("put elbow_flex torque_enable 1");
    daemon.wait("torque", 8, |state| state["armed"] == true);
    daemon.post("/api/v1/work", &json!({"kind": "limp"}));
    let end = daemon.ended(10);
    assert!(end["mode"] == "limp" && end["error"].is_null(), "{end}");
    assert_eq!((connected(&daemon)["armed"].clone(), torque(&mut arm)), (json!(false), vec![0; 6]));
    // Also one that can't be connected, as its calibration is another.
    arm.ask("put gripper torque_enable 1");
    arm.ask("put elbow_flex max_position_limit 3333");
    daemon.signal("-TERM");
    daemon.exit(5);
    let daemon = Daemon::start(&desk, &args);
    let state = daemon.wait("trouble", 10, |state| state["trouble"].is_string());
    assert!(state["trouble"].as_str().unwrap().contains("sinew calibrate"), "{state}");
    daemon.post("/api/v1/work", &json!({"kind": "limp"}));
    assert!(daemon.ended(10)["error"].is_null());
    assert_eq!(torque(&mut arm), [0; 6]);
    let (status, refused) = daemon.try_post("/api/v1/work", &json!({"kind": "limp", "arm": "leader"}));
    assert!(status == 400 && refused["error"].as_str().unwrap().contains("leader"), "{refused}");
}

#[test]
fn a_motor_that_dies_while_somebody_moves_or_holds_the_arm_is_told_of_at_once() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower", "--id", "one"]);
    connected(&daemon);
    let dies = |arm: &mut Played, daemon: &Daemon, name: &str| {
        arm.ask(&format!("die {name}"));
        let begun = Instant::now();
        let failed = step(daemon, "failed");
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
        assert!(failed["problem"].as_str().unwrap().contains(name), "{failed}");
        arm.ask(&format!("restart {name}"));
        arm.ask(&format!("load {name} 0"));
        std::thread::sleep(Duration::from_millis(300));
        failed
    };
    to_sweep(&daemon);
    std::thread::sleep(Duration::from_millis(300));
    let failed = dies(&mut arm, &daemon, "elbow_flex");
    answer(&daemon, &failed, "again");
    // Before it is begun, and at its end.
    step(&daemon, "release");
    let failed = dies(&mut arm, &daemon, "gripper");
    answer(&daemon, &failed, "cancel");
    daemon.ended(5);
    connected(&daemon);
    to_middle(&daemon, &mut arm);
    let failed = dies(&mut arm, &daemon, "shoulder_pan");
    answer(&daemon, &failed, "cancel");
    assert_eq!(daemon.ended(5)["is_interrupted"], true);
}

#[test]
fn what_is_cut_off_while_it_is_written_is_finished_when_the_arm_is_connected_and_what_is_ended_is_undone() {
    let desk = Desk::new();
    // Each register takes a while.
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one", "--latency", "12"]);
    let args = ["--robot", "so101", "--port", "follower", "--id", "one", "--latency-ms", "20"];
    let mut daemon = Daemon::start(&desk, &args);
    connected(&daemon);
    let before = (std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm));
    let middle = to_middle(&daemon, &mut arm);
    answer(&daemon, &middle, "next");
    let begun = Instant::now();
    while registers(&mut arm) == before.1 {
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing is written");
    }
    daemon.signal("-KILL");
    daemon.exit(5);
    let cut = registers(&mut arm);
    assert!(std::fs::read(desk.path(FILE)).unwrap() == before.0 && cut != before.1, "the file comes last");
    assert!(desk.path(&format!("{FILE}.unfinished")).exists());
    let mut daemon = Daemon::start(&desk, &args);
    connected(&daemon);
    let after = (std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm));
    assert!(after.0 != before.0 && after.1 != cut && after.1 != before.1, "{after:?}");
    assert!(!desk.path(&format!("{FILE}.unfinished")).exists());
    // Somebody ends it when a motor could not be written.
    let middle = to_middle(&daemon, &mut arm);
    arm.ask("move wrist_roll 1500");
    std::thread::sleep(Duration::from_millis(50));
    answer(&daemon, &middle, "next");
    let begun = Instant::now();
    while !desk.path(&format!("{FILE}.unfinished")).exists() {
        assert!(begun.elapsed() < Duration::from_secs(5), "nothing is written");
    }
    // The last that is written.
    arm.ask("die gripper");
    let rewrite = step(&daemon, "rewrite");
    assert!(rewrite["text"].as_str().unwrap().contains("some motors may hold"), "{rewrite}");
    assert_ne!(registers(&mut arm), after.1);
    answer(&daemon, &rewrite, "cancel");
    let end = daemon.ended(10);
    assert!(end["error"].as_str().unwrap().contains("get back"), "{end}");
    arm.ask("restart gripper");
    arm.ask("load gripper 0");
    connected(&daemon);
    assert!((std::fs::read(desk.path(FILE)).unwrap(), registers(&mut arm)) == after, "it is undone");
    daemon.signal("-TERM");
    daemon.exit(5);
    desk.ok(&["calibrate", "--robot", "so101", "--port", "follower", "--id", "one", "--latency-ms", "20", "--check"]);
}

#[test]
fn where_nothing_could_be_written_it_is_said_so_and_what_was_measured_is_kept() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower", "--id", "one"]);
    connected(&daemon);
    let before = registers(&mut arm);
    let middle = to_middle(&daemon, &mut arm);
    // In the way of the new file, as a full disk is.
    let in_the_way = desk.path(&format!("{FILE}.new"));
    std::fs::create_dir(&in_the_way).unwrap();
    answer(&daemon, &middle, "next");
    let rewrite = step(&daemon, "rewrite");
    let (text, problem) = (rewrite["text"].as_str().unwrap(), rewrite["problem"].as_str().unwrap());
    assert!(text.contains("Nothing was written") && text.contains("Cancel loses"), "{rewrite}");
    assert!(problem.contains("one.json") && problem.contains("which is as it was"), "{rewrite}");
    assert_eq!(registers(&mut arm), before);
    std::fs::remove_dir(&in_the_way).unwrap();
    answer(&daemon, &rewrite, "next");
    let end = daemon.ended(20);
    assert!(end["error"].is_null() && end["result"]["used_file"] == false, "{end}");
    assert_ne!(registers(&mut arm), before);
}

#[test]
fn a_robot_that_goes_while_its_leader_is_calibrated_is_told_of() {
    let desk = Desk::new();
    let mut arm = played(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let _leader = played(&desk, &["so101_leader", "--link", "leader", "--id", "two"]);
    let more = ["--robot", "so101", "--port", "follower", "--id", "one", "--teleop", "so101_leader", "--teleop-port", "leader"];
    let daemon = Daemon::start(&desk, &more);
    connected(&daemon);
    daemon.post("/api/v1/work", &json!({"kind": "calibrate", "arm": "leader"}));
    let found = step(&daemon, "found");
    arm.ask("unplug");
    let state = daemon.wait("trouble", 5, |state| state["trouble"].is_string());
    assert_eq!((&state["mode"], &state["calibration"]["number"]), (&json!("calibrate"), &found["number"]));
    arm.ask("replug");
    connected(&daemon);
    answer(&daemon, &found, "cancel");
    assert_eq!(daemon.ended(5)["is_interrupted"], true);
}
