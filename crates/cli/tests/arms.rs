//! Verbs that drive an arm, where it doesn't come to that.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

mod common;

use common::{Desk, demo_policy};

/// A calibration of an SO-101, or its leader.
fn calibrate(desk: &Desk, of: &str, class: &str, id: &str) {
    let folder = desk.path(".cache/huggingface/lerobot/calibration").join(of).join(class);
    std::fs::create_dir_all(&folder).unwrap();
    let motors = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];
    let motor = |(i, name): (usize, &&str)| {
        let id = i + 1;
        (name.to_string(), serde_json::json!({"id": id, "drive_mode": 0, "homing_offset": 0, "range_min": 800, "range_max": 3200}))
    };
    let map: serde_json::Map<String, serde_json::Value> = motors.iter().enumerate().map(motor).collect();
    std::fs::write(folder.join(format!("{id}.json")), serde_json::Value::Object(map).to_string()).unwrap();
}

const TELEOP: [&str; 9] =
    ["teleop", "--robot", "so101", "--port", "/dev/nowhere", "--teleop", "so101_leader", "--teleop-port", "/dev/gone"];

#[test]
fn what_does_not_fit_is_said_before_a_port_is_opened() {
    let desk = Desk::new();
    let with = |change: &[(&str, &str)]| -> Vec<String> {
        TELEOP.iter().map(|word| change.iter().find(|(from, _)| from == word).map_or(*word, |(_, to)| to).to_owned()).collect()
    };
    let error = |args: Vec<String>| desk.error(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let misused = |args: Vec<String>| desk.misused(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let swapped = misused(with(&[("so101", "so101_leader"), ("so101_leader", "so101")]));
    assert!(swapped.contains("so101_leader is a leader arm, expected a robot that is commanded"), "{swapped}");
    let robot = misused(with(&[("so101_leader", "koch")]));
    assert!(robot.contains("koch is a robot, expected a leader arm"), "{robot}");
    let other = error(with(&[("so101_leader", "omx_leader")]));
    assert!(other.contains("expected the same unit of shoulder_pan.pos in both"), "{other}");
    let names = error(with(&[("so101_leader", "openarm_mini")]));
    assert!(names.contains("expected the same features of both"), "{names}");
    let two = misused(with(&[("so101", "bi_so"), ("so101_leader", "bi_so_leader")]));
    assert!(two.contains("has 2 buses, expected --port left=PATH --port right=PATH"), "{two}");
}

#[test]
fn an_arm_without_a_calibration_or_with_several_is_asked_for_one() {
    let desk = Desk::new();
    let none = desk.error(&TELEOP);
    assert!(none.contains("expected a calibration of it in") && none.contains("sinew calibrate"), "{none}");
    calibrate(&desk, "robots", "so_follower", "blue");
    calibrate(&desk, "teleoperators", "so_leader", "None");
    let leader = desk.error(&TELEOP);
    // Whose robot has no name is taken only when that is said, and the follower's port is not there.
    assert!(leader.contains("/dev/nowhere") || leader.contains("so101_leader: expected a calibration of it"), "{leader}");
    calibrate(&desk, "robots", "so_follower", "green");
    let several = desk.error(&TELEOP);
    assert!(several.contains("expected --id to say which calibration, found blue, green"), "{several}");
    let wrong = desk.error(&[&TELEOP[..], &["--id", "red"]].concat());
    assert!(wrong.contains("reading its calibration red") && wrong.contains("sinew calibrate --robot so101"), "{wrong}");
    let named = desk.error(&[&TELEOP[..], &["--id", "blue", "--teleop-id", "None"]].concat());
    assert!(named.contains("/dev/nowhere"), "{named}");
    let path = desk.misused(&[&TELEOP[..], &["--id", "../blue"]].concat());
    assert!(path.contains("expected a name of at most 100 bytes"), "{path}");
}

#[test]
fn the_demonstration_policy_runs_on_no_arm_unasked() {
    let desk = Desk::new();
    let error = desk.misused(&["rollout", "--robot", "so101", "--port", "/dev/nowhere"]);
    assert!(error.contains("expected --policy with --port"), "{error}");
    let policy = demo_policy();
    let policy = policy.to_str().unwrap();
    let rollout = |more: &[&str]| {
        desk.error(&[&["rollout", "--port", "/dev/nowhere", "--policy", policy, "--no-record", "--no-rerun"], more].concat())
    };
    let blind = rollout(&[]);
    assert!(blind.contains("observation.images.wrist") && blind.contains("no such camera"), "{blind}");
    let unknown = rollout(&["--camera", "top=sim:socket"]);
    assert!(unknown.contains("observation.images.top    not used"), "{unknown}");
    let gone = rollout(&["--camera", "front=sim:gone", "--camera", "wrist=sim:gone"]);
    assert!(gone.contains("camera front: opening sim:gone: No such file"), "{gone}");
    let nameless = ["rollout", "--port", "/dev/nowhere", "--policy", policy, "--camera", "front=sim:gone", "--camera", "wrist=sim:gone"];
    let nameless = desk.misused(&nameless);
    assert!(nameless.contains("expected --instruction \"WHAT IT IS TO DO\" with --port"), "{nameless}");
    assert!(!desk.path("outputs").exists());
}

#[test]
fn an_emulated_robot_makes_sense_or_is_refused() {
    let desk = Desk::new();
    let emulate = |args: &[&str]| desk.error(&[&["emulate"], args].concat());
    let misused = |args: &[&str]| desk.misused(&[&["emulate"], args].concat());
    let unknown = misused(&["so101", "--link", "port", "--fault", "die:elbow@1"]);
    assert!(unknown.contains("the fault names the motor elbow; there are shoulder_pan"), "{unknown}");
    let two = misused(&["bi_so", "--link", "port"]);
    assert!(two.contains("expected --link left=PATH --link right=PATH"), "{two}");
    let daemon = emulate(&["reachy_mini", "--link", "port"]);
    assert!(daemon.contains("reachy_mini"), "{daemon}");
    let model = misused(&["new:sts9999", "--link", "port"]);
    assert!(model.contains("there is no model sts9999"), "{model}");
    std::fs::write(desk.path("file"), "mine").unwrap();
    emulate(&["so101", "--link", "file"]);
    assert_eq!(std::fs::read_to_string(desk.path("file")).unwrap(), "mine", "what is no link stays");
    emulate(&["so101", "--link", "no/such/folder/port"]);
    // Another calibration of that name is not lost.
    calibrate(&desk, "robots", "so_follower", "mine");
    let taken = emulate(&["so101", "--link", "port", "--id", "mine"]);
    assert!(taken.contains("holds another calibration"), "{taken}");
}
