//! The strategies of a rollout through `sinew daemon`, with the simulated arm, in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;

use std::time::Duration;

use common::Desk;
use page::Daemon;
use serde_json::{Value, json};

fn start(desk: &Desk) -> Daemon {
    let daemon = Daemon::start(desk, &[]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon
}

fn wish(daemon: &Daemon, wish: &str) {
    daemon.post("/api/v1/episode", &json!({ "wish": wish }));
}

fn acts(who: &'static str, after: u64) -> impl Fn(&Value) -> bool {
    move |state| state["work"]["acting"] == who && state["work"]["tick"].as_u64() > Some(after) && state["work"]["phase"] == "running"
}

/// The frames of a dataset's episodes.
fn frames(daemon: &Daemon, name: &str) -> Vec<u64> {
    let episodes = daemon.get(&format!("/api/v1/datasets/{name}"));
    episodes.as_array().unwrap().iter().map(|episode| episode["frames"].as_u64().unwrap()).collect()
}

#[test]
fn episodic_has_a_time_between_two_episodes_in_which_the_last_can_be_dropped() {
    let desk = Desk::new();
    let daemon = start(&desk);
    let work = json!({"kind": "rollout", "strategy": "episodic", "dataset": "episodic", "episodes": 2, "reset_s": 20});
    daemon.post("/api/v1/work", &work);
    let state = daemon.wait("the policy", 60, acts("policy", 20));
    assert_eq!(state["work"]["wishes"], json!(["keep", "drop", "pause", "resume", "instruct", "finish"]), "{state}");
    wish(&daemon, "keep");
    daemon.wait("the time between", 20, |state| state["work"]["phase"] == "resetting");
    // It is not what was wanted: once more.
    wish(&daemon, "drop");
    for number in 0..2 {
        daemon.wait("an episode", 20, |state| acts("policy", 20)(state) && state["work"]["episode"] == number);
        wish(&daemon, "keep");
        if number == 0 {
            daemon.wait("the time between", 20, |state| state["work"]["phase"] == "resetting");
            wish(&daemon, "keep");
        }
    }
    let end = daemon.ended(30);
    let kept: Vec<_> = end["episodes"].as_array().unwrap().iter().map(|report| report["kept"].clone()).collect();
    assert!(end["error"].is_null() && kept == [false, true, true], "{kept:?}");
    assert_eq!(frames(&daemon, "episodic").len(), 2);
    drop(daemon);
    desk.recorded("state/datasets/episodic", "a daemon rolled out");
}

#[test]
fn highlight_records_what_is_marked() {
    let desk = Desk::new();
    let daemon = start(&desk);
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "strategy": "highlight", "dataset": "highlight", "seconds": 0}));
    let state = daemon.wait("the policy", 60, acts("policy", 30));
    assert!(state["work"]["wishes"].as_array().unwrap().contains(&json!("mark")), "{state}");
    wish(&daemon, "mark");
    let from = state["work"]["tick"].as_u64().unwrap();
    daemon.wait("a second of it", 20, acts("policy", from + 30));
    wish(&daemon, "mark");
    daemon.wait("what is not recorded", 20, acts("policy", from + 90));
    wish(&daemon, "finish");
    let end = daemon.ended(30);
    assert!(end["error"].is_null(), "{end}");
    let frames = frames(&daemon, "highlight");
    // What was before the mark is in it, and what came after the second is not.
    assert!(frames.len() == 1 && (from + 25..from + 70).contains(&frames[0]), "{frames:?}, marked at {from}");
    drop(daemon);
    desk.recorded("state/datasets/highlight", "a daemon rolled out");
}

#[test]
fn dagger_records_what_somebody_does_who_takes_over() {
    let desk = Desk::new();
    let daemon = start(&desk);
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "strategy": "dagger", "dataset": "dagger", "seconds": 0}));
    daemon.wait("the policy", 60, acts("policy", 20));
    wish(&daemon, "pause");
    daemon.wait("a pause", 5, |state| state["work"]["acting"] == "nobody");
    wish(&daemon, "correct");
    let state = daemon.wait("the human", 5, acts("human", 0));
    let from = state["position"][0].as_f64().unwrap();
    let mut operator = daemon.operator();
    daemon.steer(&mut operator, 0, from + 0.3, Duration::from_millis(1500));
    drop(operator);
    daemon.wait("the lease to end", 2, |state| state["operator"].is_null());
    let moved = daemon.state()["position"][0].as_f64().unwrap() - from;
    assert!(moved > 0.2, "{moved}");
    wish(&daemon, "correct");
    daemon.wait("a pause again", 5, |state| state["work"]["acting"] != "human");
    wish(&daemon, "resume");
    daemon.wait("the policy again", 5, |state| state["work"]["acting"] == "policy");
    wish(&daemon, "finish");
    let end = daemon.ended(30);
    assert!(end["error"].is_null(), "{end}");
    let frames = frames(&daemon, "dagger");
    assert!(frames.len() == 1 && (30..120).contains(&frames[0]), "{frames:?}");
    drop(daemon);
    desk.recorded("state/datasets/dagger", "a daemon rolled out");
}
