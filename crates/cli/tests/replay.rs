//! `sinew replay`, in the simulator.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{Desk, contains_all};

fn record(desk: &Desk) {
    let args = ["record", "--robot", "so101", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "2", "--seed", "40"];
    desk.ok(&[&args[..], &["--out", "demos"]].concat());
}

#[test]
fn what_was_recorded_is_done_again_and_comes_out_as_it_did() {
    let desk = Desk::new();
    record(&desk);
    let replay = |episode: &str, seed: &str| -> serde_json::Value {
        let text = desk.ok(&["replay", "demos", "--episode", episode, "--sim", "--task", "reach", "--seed", seed, "--json"]);
        serde_json::from_str(text.trim()).unwrap()
    };
    for (episode, seed) in [("0", "40"), ("1", "41")] {
        let line = replay(episode, seed);
        assert_eq!(line["outcome"], "success", "{line}");
    }
    assert_eq!(replay("0", "47")["outcome"], "failure", "the marker is somewhere else in another scene");
}

#[test]
fn what_was_recorded_otherwise_is_refused_with_both_sides() {
    let desk = Desk::new();
    record(&desk);
    let error = desk.error(&["replay", "demos", "--sim", "--robot", "example", "--task", "reach"]);
    contains_all(&error, &["so_follower", "expected example"]);
    contains_all(&desk.error(&["replay", "demos", "--episode", "7", "--sim", "--task", "reach"]), &["7"]);
    // The same names in other units: a degree is no per cent of a range.
    let table = desk.path("demos/meta/info.json");
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, text.replace("shoulder_pan.pos", "main_shoulder_pan")).unwrap();
    contains_all(&desk.error(&["replay", "demos", "--sim", "--task", "reach"]), &["main_shoulder_pan", "shoulder_pan.pos"]);
    contains_all(&desk.error(&["replay", "nowhere", "--sim"]), &["nowhere"]);
}

/// An episode of the simulator is replayed in its own scene, whoever does not say which that is.
#[test]
fn the_scene_is_the_one_that_was_recorded() {
    let desk = Desk::new();
    record(&desk);
    for episode in ["0", "1"] {
        let text = desk.ok(&["replay", "demos", "--episode", episode]);
        contains_all(&text, &["in        the scene of reach with seed 4", "scene     success"]);
    }
    desk.ok(&["dataset", "rename-task", "demos", "Touch the green marker with the gripper.", "Dance.", "--yes"]);
    let output = desk.run(&["replay", "demos"]);
    assert!(output.status.success());
    contains_all(
        &String::from_utf8(output.stderr).unwrap(),
        &["\"Dance.\" is the instruction of no task of the simulator: the scene is that of pick-place; --task names another one"],
    );
}
