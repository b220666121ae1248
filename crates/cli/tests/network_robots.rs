//! What users get wrong about robots behind a network or on CAN buses, and what they are told: before anything is opened or
//! fetched.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{Desk, contains_all, demo_policy};

const LEADER: [&str; 4] = ["--teleop", "so101_leader", "--teleop-port", "/dev/nothing"];

#[test]
fn a_port_has_the_form_of_its_robot() {
    let desk = Desk::new();
    let rollout = |robot: &str, port: &str| desk.misused(&["rollout", "--robot", robot, "--port", port, "--policy", "./none"]);
    contains_all(&rollout("so101", "zmq://kiwi"), &["zmq://kiwi", "so101", "expected --port PATH or usb:SERIAL"]);
    contains_all(&rollout("lekiwi", "zmq://kiwi:5555"), &["PATH or usb:SERIAL", "or zmq://HOST[:COMMANDS:OBSERVATIONS]"]);
    contains_all(&rollout("reachy_mini", "/dev/ttyACM0"), &["a daemon that has its motors", "--port HOST[:8000]"]);
    contains_all(&rollout("openarm", "zmq://kiwi"), &["motors on CAN buses", "can0", "slcan:PATH"]);
    contains_all(&rollout("bi_openarm", "can0"), &["2 buses", "--port left=can0 --port right=can0"]);
    let error = desk.misused(&[&["teleop", "--robot", "lekiwi", "--port", "zmq://"][..], &LEADER].concat());
    contains_all(&error, &["zmq://HOST"]);
    assert_eq!(desk.run(&["rollout", "--port", "", "--policy", "./none"]).status.code(), Some(2));
}

#[cfg(not(feature = "can"))]
#[test]
fn a_build_without_can_says_which_has_it() {
    let error = Desk::new().error(&["rollout", "--robot", "openarm", "--port", "can0", "--policy", "./none"]);
    contains_all(&error, &["openarm", "CAN", "cargo build --release -p sinew-cli --features can"]);
}

#[test]
fn what_only_serial_ports_have_is_refused_elsewhere() {
    let desk = Desk::new();
    let rollout = |more: &[&str]| desk.misused(&[&["rollout", "--policy", "./none"], more].concat());
    let kiwi = ["--robot", "lekiwi", "--port", "zmq://kiwi"];
    let mini = ["--robot", "reachy_mini", "--port", "mini"];
    contains_all(&rollout(&[&kiwi[..], &["--id", "blue"]].concat()), &["--id", "its host has the motors, and their calibration"]);
    contains_all(&rollout(&[&mini[..], &["--write-calibration"]].concat()), &["--write-calibration", "its daemon"]);
    contains_all(&rollout(&[&mini[..], &["--reconnect", "3"]].concat()), &["--reconnect", "its daemon"]);
    contains_all(&rollout(&[&mini[..], &["--token", "secret-word"]].concat()), &["--token", "zmq://HOST"]);
    contains_all(&rollout(&[&kiwi[..], &["--camera", "front=sim:/eyes"]].concat()), &["front=sim", "front=zmq"]);
    let arm = ["--robot", "lekiwi", "--port", "/dev/nothing", "--camera", "front=zmq"];
    contains_all(&rollout(&arm), &["front=zmq", "zmq://HOST"]);
    let unknown = [&["rollout", "--policy", "./none"], &kiwi[..], &["--camera", "nose=zmq"]].concat();
    contains_all(&desk.misused(&unknown), &["nose", "front, wrist"]);
    let calibrate = ["calibrate", "--robot", "reachy_mini", "--port", "mini", "--id", "blue"];
    contains_all(&desk.misused(&calibrate), &["reachy_mini", "expected a serial port of this machine"]);
    let monitor = ["robots", "monitor", "--robot", "reachy_mini", "--port", "mini"];
    contains_all(&desk.misused(&[&monitor[..], &["--id", "blue"]].concat()), &["--id is for motors on a serial port"]);
    contains_all(&desk.misused(&[&monitor[..], &["--token", "secret-word"]].concat()), &["--token", "LeKiwi"]);
}

#[test]
fn a_policy_or_a_leader_of_another_robot_is_refused_before_a_daemon_is_asked() {
    let desk = Desk::new();
    let policy = demo_policy();
    // Nobody is there: whoever asked would say so.
    let reachy = ["--robot", "reachy_mini", "--port", "127.0.0.1:1"];
    let error = desk.error(&[&["rollout", "--policy", policy.to_str().unwrap()], &reachy[..]].concat());
    contains_all(&error, &["they don't fit", "head.yaw", "6 values", "9 values"]);
    let error = desk.error(&[&["teleop"], &reachy[..], &LEADER].concat());
    contains_all(&error, &["so101_leader", "reachy_mini", "shoulder_pan.pos", "head.yaw"]);
    assert!(!desk.path("outputs").exists());
}

#[test]
fn a_host_does_not_serve_everybody_unasked() {
    let desk = Desk::new();
    let host = ["lekiwi-host", "--port", "/dev/nothing"];
    let more = |more: &[&str]| desk.misused(&[&host[..], more].concat());
    contains_all(&more(&["--lerobot-clients"]), &["--lerobot-clients", "expected --bind ADDR"]);
    let everybody = ["--lerobot-clients", "--bind", "127.0.0.1"];
    let error = more(&[&everybody[..], &["--token", "a-secret-of-17-by"]].concat());
    assert!(error.contains("neither --token nor SINEW_TOKEN") && !error.contains("a-secret"), "{error}");
    let mut with_variable = desk.sinew(&[&host[..], &everybody].concat());
    let output = with_variable.env("SINEW_TOKEN", "a-secret-of-17-by").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("neither --token nor SINEW_TOKEN") && !error.contains("a-secret"), "{error}");
    let error = desk.error(&[&host[..], &["--token", "short-one"]].concat());
    assert!(error.contains("16 to 255 bytes") && !error.contains("short-one"), "{error}");
    contains_all(&desk.misused(&["lekiwi-host"]), &["lekiwi needs a port", "PATH"]);
    contains_all(&desk.misused(&["lekiwi-host", "--port", "zmq://kiwi"]), &["offering lekiwi", "expected a serial port of this machine"]);
    contains_all(&desk.misused(&["lekiwi-host", "--robot", "so101", "--port", "/dev/nothing"]), &["so101", "without a base"]);
}
