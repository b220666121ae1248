//! `sinew teleop`, `rollout --port` and `robots monitor` with emulated arms, in real time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

mod common;
mod played;

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Desk, demo_policy};
use played::Played;
use serde_json::Value;

fn arms(desk: &Desk) -> (Played, Played) {
    (
        Played::start(desk, &["so101", "--link", "follower", "--id", "one"]),
        Played::start(desk, &["so101_leader", "--link", "leader", "--id", "one", "--hand"]),
    )
}

const TELEOP: [&str; 9] = ["teleop", "--robot", "so101", "--port", "follower", "--teleop", "so101_leader", "--teleop-port", "leader"];

#[test]
fn a_follower_follows_and_the_report_is_true() {
    let desk = Desk::new();
    let (mut follower, mut leader) = arms(&desk);
    // Goals from before would make it jump.
    follower.ask("put shoulder_pan goal_position 900");
    let report = desk.ok(&[&TELEOP[..], &["--seconds", "4", "--fps", "60", "--json"]].concat());
    let report: Value = serde_json::from_str(report.trim()).unwrap();
    assert_eq!((&report["outcome"], &report["ticks"].as_u64().map(|ticks| ticks > 200)), (&"ended".into(), &Some(true)), "{report}");
    let motors = report["motors"].as_array().unwrap();
    assert_eq!(motors.len(), 12);
    assert!(motors.iter().all(|motor| motor["reads"].as_u64().unwrap() > 100), "{report}");
    let goal: i32 = follower.ask("value wrist_flex goal_position").parse().unwrap();
    let leads: i32 = leader.ask("value wrist_flex present_position").parse().unwrap();
    assert!((goal - 2048).abs() > 3 || (leads - 2048).abs() < 20, "{goal} {leads}");
    assert_eq!(follower.ask("value gripper torque_enable"), "1", "it holds");
    desk.ok(&[&TELEOP[..], &["--seconds", "0.5", "--on-exit", "limp"]].concat());
    assert_eq!(follower.ask("value gripper torque_enable"), "0");
}

#[test]
fn a_dead_motor_is_named_and_a_pulled_plug_is_waited_for() {
    let desk = Desk::new();
    let (mut follower, _leader) = arms(&desk);
    let teleop = |more: &[&str]| {
        let mut command = desk.sinew(&[&TELEOP[..], more].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let waits = teleop(&["--seconds", "8"]);
    std::thread::sleep(Duration::from_secs(2));
    follower.ask("unplug");
    std::thread::sleep(Duration::from_secs(3));
    follower.ask("replug");
    let output = waits.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let ends = teleop(&["--seconds", "20"]);
    std::thread::sleep(Duration::from_secs(2));
    follower.ask("die elbow_flex");
    let died = Instant::now();
    let output = ends.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("elbow_flex (motor 3 on bus arm, after shoulder_lift)"), "{text}");
    assert!(died.elapsed() < Duration::from_secs(3), "{:?}", died.elapsed());
    assert_eq!(follower.ask("value shoulder_lift torque_enable"), "1", "the others hold");
}

#[test]
fn a_watchdog_that_reaches_nobody_says_so() {
    let desk = Desk::new();
    let (mut follower, _leader) = arms(&desk);
    let mut command = desk.sinew(&[&TELEOP[..], &["--seconds", "20", "--reconnect", "0"]].concat());
    let ends = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    follower.ask("unplug");
    // Its standard error is the watchdog's, too.
    let output = ends.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("watchdog: the process that drove SO-101 follower arm ended before its motors were in their safe state"),
        "{text}"
    );
    assert!(text.contains("none of the 6 motors that are to hold answered") && !text.contains("was done"), "{text}");
}

#[test]
fn a_monitor_of_another_arm_says_what_to_look_at() {
    let desk = Desk::new();
    let _follower = Played::start(&desk, &["so101", "--link", "follower", "--id", "one"]);
    let monitor = |robot: &str| {
        let output = desk.run(&["robots", "monitor", "--robot", robot, "--port", "follower", "--seconds", "1"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // In a pipe it says how many answer while it watches.
    let none = monitor("koch");
    assert!(none.contains("0 of 6 motors answer"), "{none}");
    assert!(
        none.contains("none of its 6 motors answered; check the power, the cable, and whether the robot on this port is koch"),
        "{none}"
    );
    let some = monitor("lekiwi");
    assert!(some.contains("no answer from base_left_wheel") && some.contains("the others answered"), "{some}");
}

#[test]
fn what_somebody_leads_is_recorded_with_its_cameras_and_replayed() {
    let desk = Desk::new();
    let (mut follower, _leader) = arms(&desk);
    let rig = "schema = 1\nrobot = \"so101\"\nport = \"follower\"\nteleop = \"so101_leader\"\nteleop_port = \"leader\"\ninstruction = \"Do as the \
        hand does.\"\n[camera]\nfront = \"pattern,320x240@30\"\nwrist = \"pattern,64x48@60\"\n";
    std::fs::write(desk.path("rig.toml"), rig).unwrap();
    let record = |episodes: &str| -> Value {
        let times = ["--episode-time", "1.5", "--reset-time", "0.3", "--json"];
        let text = desk.ok(&[&["record", "--rig", "./rig.toml", "--out", "demos", "--episodes", episodes], &times[..]].concat());
        serde_json::from_str(text.trim()).unwrap()
    };
    let report = record("2");
    assert_eq!((&report["total_episodes"], report["motors"].as_array().unwrap().len()), (&2.into(), 12), "{report}");
    let cameras = report["cameras"].as_array().unwrap();
    assert_eq!((&cameras[0]["name"], &cameras[0]["source"], &cameras[0]["broken"]), (&"front".into(), &"pattern".into(), &0.into()));
    assert!(cameras[1]["images"].as_u64().unwrap() > 60, "{report}");
    // Begun again, it goes on.
    assert_eq!(record("1")["total_episodes"], 3);
    let info = desk.recorded("demos", "after it was begun again");
    assert_eq!(info["episodes"].as_array().unwrap().len(), 3, "{info}");
    let notes = std::fs::read_to_string(desk.path("demos/meta/sinew_episodes.jsonl")).unwrap();
    let note: Value = serde_json::from_str(notes.lines().next().unwrap()).unwrap();
    assert!(note.to_string().contains("rate_hz"), "{note}");
    assert_eq!(follower.ask("value gripper torque_enable"), "1", "it holds");
    let line = desk.ok(&["replay", "demos", "--episode", "1", "--rig", "./rig.toml", "--json"]);
    let line: Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!((&line["outcome"], &line["ticks"]), (&"ended".into(), &45.into()), "{line}");
    // A camera that sees from elsewhere spoils it, unless it is meant.
    let away = [
        "record",
        "--rig",
        "./rig.toml",
        "--out",
        "demos",
        "--episodes",
        "1",
        "--episode-time",
        "1",
        "--camera",
        "wrist=file:stills,64x48@60",
    ];
    std::fs::create_dir(desk.path("stills")).unwrap();
    image::RgbImage::new(64, 48).save(desk.path("stills/1.png")).unwrap();
    let moved = [&away[..], &["--fps", "30"]].concat();
    let refused = desk.run(&moved);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && error.contains("wrist is file:stills and was pattern; --other-cameras goes on"), "{error}");
    desk.ok(&[&moved[..], &["--other-cameras", "--no-telemetry"]].concat());
    // Another rate is no episode of this dataset.
    let refused = desk.run(&["record", "--rig", "./rig.toml", "--out", "demos", "--fps", "60", "--episodes", "1"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && error.contains("fps is 30 there, expected 60"), "{error}");
}

#[test]
fn a_leader_arm_takes_over_from_a_policy_and_the_correction_is_recorded() {
    let desk = Desk::new();
    let mut arm = Played::start(&desk, &["so101", "--link", "arm", "--id", "one", "--world", "pick-place", "--seed", "1001"]);
    let mut leader = Played::start(&desk, &["so101_leader", "--link", "leader", "--id", "one"]);
    let policy = demo_policy();
    let args = ["rollout", "--robot", "so101", "--port", "arm", "--camera", "front=sim:arm.cameras", "--camera", "wrist=sim:arm.cameras"];
    let led = ["--teleop", "so101_leader", "--teleop-port", "leader", "--strategy", "dagger", "--interactive", "--episodes", "1"];
    let rest = ["--task", "Put the cube into the green bin.", "--out", "corrections", "--no-rerun", "--json", "--policy"];
    let mut command = desk.sinew(&[&args[..], &led[..], &rest[..], &[policy.to_str().unwrap()]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut commands = child.stdin.take().unwrap();
    let mut say = |command: &str, after_ms: u64| {
        std::thread::sleep(Duration::from_millis(after_ms));
        writeln!(commands, "{command}").unwrap();
    };
    say("/start", 0);
    say("/pause", 5000);
    // Meanwhile the leader arm has been carried to where the robot is.
    let apart = |arm: &mut Played, leader: &mut Played, motor: &str| {
        let place = |played: &mut Played| played.value(&format!("value {motor} present_position"));
        (place(arm) - place(leader)).abs()
    };
    std::thread::sleep(Duration::from_millis(1500));
    for motor in ["shoulder_pan", "elbow_flex"] {
        assert!(apart(&mut arm, &mut leader, motor) < 200, "{motor}: {}", apart(&mut arm, &mut leader, motor));
    }
    assert_eq!(leader.ask("value elbow_flex torque_enable"), "1", "it is carried");
    say("/correct", 0);
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(leader.ask("value elbow_flex torque_enable"), "0", "it is in the human's hands");
    say("/correct", 500);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let info = desk.recorded("corrections", "a correction");
    assert_eq!(info["episodes"].as_array().unwrap().len(), 1, "{info}");
    assert!(info["features"].to_string().contains("intervention"), "{info}");
}

#[test]
fn a_monitor_writes_nothing() {
    let desk = Desk::new();
    let (mut follower, _leader) = arms(&desk);
    let before = follower.ask("value gripper return_delay_time");
    let seen: Value =
        serde_json::from_str(desk.ok(&["robots", "monitor", "--robot", "so101", "--port", "follower", "--seconds", "1", "--json"]).trim())
            .unwrap();
    assert_eq!((&seen["motors"].as_array().unwrap().len(), &seen["calibrated"]), (&6, &Value::Bool(false)));
    assert!(seen["motors"][0]["temperature_c"].is_number() && seen["looks"].as_u64().unwrap() > 20, "{seen}");
    assert_eq!(follower.ask("value gripper return_delay_time"), before);
    assert!(follower.ask("counts").contains(" 0 sync writes"));
}

#[test]
fn a_policy_works_through_bus_drivers_and_gate() {
    let desk = Desk::new();
    let _arm = Played::start(&desk, &["so101", "--link", "arm", "--id", "one", "--world", "pick-place", "--seed", "1001"]);
    let policy = demo_policy();
    let report = desk.ok(&[
        "rollout",
        "--robot",
        "so101",
        "--port",
        "arm",
        "--policy",
        policy.to_str().unwrap(),
        "--camera",
        "front=sim:arm.cameras",
        "--camera",
        "wrist=sim:arm.cameras",
        "--seconds",
        "4",
        "--task",
        "Put the cube into the green bin.",
        "--out",
        "run",
        "--no-rerun",
        "--json",
    ]);
    let totals: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!((&totals["recorded_episodes"], totals["motors"].as_array().unwrap().len()), (&Value::from(1), 6), "{totals}");
    desk.recorded("run", "an arm was driven");
}
