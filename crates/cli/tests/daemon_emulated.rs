//! `sinew daemon` with an emulated arm behind a port, in real time: killed at any moment.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;
mod played;

use std::time::{Duration, Instant};

use common::Desk;
use page::Daemon;
use played::Played;
use serde_json::json;

const EMULATED: [&str; 5] = ["so101", "--link", "follower", "--id", "one"];
const ARM: [&str; 6] = ["--robot", "so101", "--port", "follower", "--camera", "front=pattern,320x240@30"];

#[test]
fn killed_while_it_moves_the_arm_comes_to_its_safe_action() {
    let desk = Desk::new();
    let mut arm = Played::start(&desk, &EMULATED);
    let mut daemon = Daemon::start(&desk, &ARM);
    // Temperatures are asked for in turns.
    let state = daemon.wait("the arm", 10, |state| state["position"][0].is_number() && state["temperature_c"][0].is_number());
    assert!(state["trouble"].is_null(), "{state}");
    assert_eq!(arm.value("value gripper torque_enable"), 0, "nothing moves because it starts");
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    let state = daemon.wait("torque", 20, |state| state["armed"] == true);
    let mut operator = daemon.operator();
    let from = state["position"][0].as_f64().unwrap();
    daemon.steer(&mut operator, 0, from + 1.5, Duration::from_millis(500));
    daemon.signal("-KILL");
    daemon.exit(5);
    // The second process brings it there: the description says that it holds.
    let begun = Instant::now();
    let mut last = arm.value("value shoulder_pan present_position");
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = arm.value("value shoulder_pan present_position");
        if (now - last).abs() <= 1 && begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "it still moves");
        last = now;
    }
    let goal = arm.value("value shoulder_pan goal_position");
    assert!((goal - last).abs() < 40, "it holds where it is: goal {goal}, position {last}");
    assert_eq!(arm.value("value shoulder_pan torque_enable"), 1);
    // Another one may own it at once, and works.
    drop(daemon);
    let daemon = Daemon::start(&desk, &ARM);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    let end = daemon.ended(20);
    assert!(end["error"].is_null(), "{end}");
}

#[test]
fn killed_while_it_records_what_was_recorded_is_recovered() {
    let desk = Desk::new();
    let _arm = Played::start(&desk, &EMULATED);
    let record = json!({"kind": "record", "dataset": "killed", "instruction": "Wave.", "episodes": 2, "episode_s": 2, "reset_s": 0});
    {
        let daemon = Daemon::start(&desk, &ARM);
        daemon.wait("the arm", 10, |state| state["position"][0].is_number());
        let (status, untold) = daemon.try_post("/api/v1/work", &json!({"kind": "record", "dataset": "killed"}));
        assert!(status == 400 && untold["error"].as_str().unwrap().contains("instruction"), "{untold}");
        daemon.post("/api/v1/work", &record);
        daemon.wait("the second episode", 30, |state| {
            state["work"]["episode"] == 1 && state["work"]["phase"] == "running" && state["work"]["tick"].as_u64() > Some(20)
        });
        daemon.signal("-KILL");
    }
    let daemon = Daemon::start(&desk, &ARM);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    let datasets = daemon.get("/api/v1/datasets");
    assert!(datasets[0]["name"] == "killed" && datasets[0]["episodes"] == 1, "{datasets}");
    daemon.post(
        "/api/v1/work",
        &json!({"kind": "record", "dataset": "killed", "instruction": "Wave.", "episodes": 1, "episode_s": 1, "reset_s": 0}),
    );
    let end = daemon.ended(30);
    assert!(end["error"].is_null(), "{end}");
    let episodes = daemon.get("/api/v1/datasets/killed");
    // One that was whole, what reached the disk of the one that was cut short, if anything did, and a new one.
    assert!((2..=3).contains(&episodes.as_array().unwrap().len()), "{episodes}");
    drop(daemon);
    desk.recorded("state/datasets/killed", "a killed daemon recorded");
}

#[test]
fn an_arm_that_is_not_there_is_told_and_found_when_it_comes() {
    let desk = Desk::new();
    drop(Played::start(&desk, &EMULATED));
    let daemon = Daemon::start(&desk, &ARM);
    let state = daemon.wait("trouble", 10, |state| state["trouble"].is_string());
    assert!(state["trouble"].as_str().unwrap().contains("follower"), "{state}");
    let (status, answer) = daemon.try_post("/api/v1/work", &json!({"kind": "teleop"}));
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("not connected"), "{answer}");
    let _arm = Played::start(&desk, &EMULATED);
    daemon.wait("the arm", 15, |state| state["trouble"].is_null() && state["position"][0].is_number());
}
