//! `sinew fleet` with daemons that are real processes, and a robot that is led from another room, with emulated arms, in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
#[path = "../../remote/tests/faulty/mod.rs"]
mod faulty;
mod page;
mod played;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::{Desk, contains_all};
use faulty::Network;
use page::Daemon;
use played::Played;
use serde_json::{Value, json};

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What `sinew` prints as JSON, and its exit code.
fn json_of(desk: &Desk, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = desk.run(args);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}\n{}", String::from_utf8_lossy(&output.stderr))));
    (output.status.code(), lines.collect())
}

#[test]
fn daemons_are_listed_watched_and_stopped_and_one_that_hangs_is_told() {
    let (first, second) = (Desk::new(), Desk::new());
    let address = format!("tcp/127.0.0.1:{}", port());
    let here = format!("listen:{address}");
    let kitchen = Daemon::start(&first, &["--robot", "so101", "--task", "reach", "--fleet", &here, "--fleet-name", "kitchen-1"]);
    let lab = Daemon::start(&second, &["--robot", "so101", "--task", "push", "--fleet", &address, "--fleet-name", "lab"]);
    let list = || json_of(&first, &["fleet", "list", "--fleet", &address, "--json"]).1.remove(0);
    let begun = Instant::now();
    let robots = loop {
        let robots = list();
        if robots.as_array().is_some_and(|robots| robots.len() == 2 && robots.iter().all(|robot| robot["state"].is_object())) {
            break robots;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{robots}");
    };
    assert_eq!(
        (&robots[0]["robot"], &robots[1]["robot"], &robots[1]["info"]["task"]),
        (&json!("kitchen-1"), &json!("lab"), &json!("push"))
    );
    let table = first.ok(&["fleet", "list", "--fleet", &address]);
    contains_all(&table, &["kitchen-1", "lab", "so101, simulated", "idle"]);

    kitchen.post("/api/v1/work", &json!({"kind": "teleop"}));
    kitchen.wait("torque", 20, |state| state["armed"] == true);
    let (code, seen) =
        json_of(&first, &["fleet", "watch", "kitchen-1", "--fleet", &address, "--seconds", "3", "--images", "seen", "--json"]);
    assert_eq!(code, Some(0));
    let of = |kind: &str| seen.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let states = of("state");
    assert!(states.len() > 15 && states.last().unwrap()["state"]["mode"] == "teleop", "{}", states.len());
    assert!(of("image").len() > 4 && of("alive").len() == 1, "{}", of("image").len());
    let image = image::open(first.path("seen/front.jpg")).unwrap();
    assert!(image.width() > 0);
    let watched = first.run(&["fleet", "watch", "nobody", "--fleet", &address, "--seconds", "2.5"]);
    assert!(watched.status.code() == Some(1) && String::from_utf8_lossy(&watched.stderr).contains("nobody is not there"));

    let stopped = first.ok(&["fleet", "stop", "--all", "--fleet", &address]);
    contains_all(&stopped, &["kitchen-1  stops; it was at teleop", "lab  stops; it was at idle"]);
    let end = kitchen.ended(10);
    assert_eq!(end["is_interrupted"], true, "{end}");
    // An emergency holds until it is cleared there.
    let (code, rows) = json_of(&first, &["fleet", "stop", "lab", "--how", "emergency", "--fleet", &address, "--json"]);
    assert_eq!((code, &rows[0][0]["confirmed"], &rows[0][0]["stop"]), (Some(0), &json!(true), &json!("emergency")));
    assert_eq!(lab.try_post("/api/v1/work", &json!({"kind": "teleop"})).0, 409);
    // One that hangs: all the others stop, and the exit code says that not all did.
    lab.signal("-STOP");
    let output = first.run(&["fleet", "stop", "--all", "--within", "2", "--fleet", &address]);
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{why}");
    assert!(said.contains("kitchen-1  stops") && why.contains("lab  DOES NOT CONFIRM: no answer"), "{said}{why}");
    lab.signal("-CONT");
}

#[test]
fn a_stop_of_nobody_is_a_failure() {
    let desk = Desk::new();
    let address = format!("tcp/127.0.0.1:{}", port());
    // A place where no robot of a fleet is.
    let here = format!("listen:{address}");
    let _place = Daemon::start(&desk, &["--robot", "so101", "--task", "reach", "--ros2", "7", "--ros2-at", &here, "--fleet-name", "node"]);
    let begun = Instant::now();
    while !desk.run(&["fleet", "list", "--fleet", &address]).status.success() {
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
    for args in [&["--all"][..], &["gone"]] {
        let output = desk.run(&[&["fleet", "stop", "--within", "2", "--fleet", &address], args].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (code, rows) = json_of(&desk, &["fleet", "stop", "--all", "--fleet", &address, "--json"]);
    assert_eq!((code, &rows[0]), (Some(1), &json!([])));
}

#[test]
fn what_makes_no_sense_of_a_fleet_is_refused() {
    let desk = Desk::new();
    for (words, why) in [
        ("fleet stop - --fleet tcp/127.0.0.1:7447", "begins and ends with a letter or a digit"),
        ("fleet watch a- --fleet tcp/127.0.0.1:7447", "begins and ends with a letter or a digit"),
        ("daemon --fleet tcp/127.0.0.1:7447 --fleet-name=--", "begins and ends with a letter or a digit"),
        ("fleet list", "expected --fleet PLACE"),
        ("fleet list --fleet listen:tcp/127.0.0.1:7447", "is looked at from outside"),
        ("fleet stop --fleet tcp/127.0.0.1:7447", "required"),
        ("fleet stop a --all --fleet tcp/127.0.0.1:7447", "cannot be used with"),
        ("fleet stop * --fleet tcp/127.0.0.1:7447", "lower-case letters"),
        ("fleet watch a/b --fleet tcp/127.0.0.1:7447", "lower-case letters"),
        ("fleet watch a --fleet tls/127.0.0.1:7447", "needs certificates"),
        ("daemon --fleet listen:tcp/0.0.0.0:7447", "is reached by other machines"),
        ("daemon --fleet tcp/127.0.0.1:7447 --fleet-name Kitchen", "lower-case letters"),
        ("daemon --fleet-name kitchen", "--fleet-name is for --fleet, --ros2, or another --listen"),
        ("daemon --ros2-commands", "--ros2"),
        ("daemon --ros2 300", "from 0 to 232"),
        ("teleop --port x --teleop zenoh:arm", "expected --fleet PLACE"),
        ("teleop --port x --teleop zenoh:a/b --fleet tcp/a:1", "lower-case letters"),
        ("teleop --to arm --teleop so101_leader --teleop-port y", "expected --fleet PLACE"),
        ("teleop --to arm --port x --teleop so101_leader --fleet tcp/a:1", "--port is for the robot's side"),
        ("teleop --to arm --teleop keyboard --fleet tcp/a:1", "leader arm, gamepad or spacemouse"),
        ("record --teleop zenoh:arm --out x --instruction y", "expected --fleet PLACE"),
    ] {
        let said = desk.misuse(words);
        assert!(said.contains(why), "{words}: {said}");
    }
    // A default for all, which holds where it has a use.
    desk.ok(&["config", "set", "all.fleet", &format!("tcp/127.0.0.1:{}", port())]);
    assert!(desk.error(&["fleet", "list"]).contains("meeting the fleet at tcp/127.0.0.1:"));
    assert!(desk.misuse("teleop --teleop so101_leader --teleop-port y").contains("expected --port"));
    desk.ok(&["config", "unset", "all.fleet"]);
    let error = desk.error(&["fleet", "list", "--fleet", &format!("tcp/127.0.0.1:{}", port())]);
    assert!(error.contains("meeting the fleet at tcp/127.0.0.1:"), "{error}");
    std::fs::write(desk.path("bad.json5"), "{ mode: \"robot\" }").unwrap();
    let error = desk.error(&["fleet", "list", "--fleet", "bad.json5"]);
    assert!(error.contains("reading bad.json5"), "{error}");
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until a motor's goal moves or stands; how long that took.
fn goal_moves(arm: &mut Played, within: Duration) -> Duration {
    let (begun, first) = (Instant::now(), arm.value("value shoulder_pan goal_position"));
    loop {
        if (arm.value("value shoulder_pan goal_position") - first).abs() > 2 {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < within, "the goal does not move");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// When the goal changed last, within this time.
fn last_move(arm: &mut Played, time: Duration) -> Duration {
    let begun = Instant::now();
    let (mut last, mut moved) = (arm.value("value shoulder_pan goal_position"), Duration::ZERO);
    while begun.elapsed() < time {
        let now = arm.value("value shoulder_pan goal_position");
        if now != last {
            (last, moved) = (now, begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    moved
}

#[test]
fn a_leader_and_a_follower_in_different_rooms_are_recorded_as_one_and_a_black_out_is_a_pause() {
    let (here, there) = (Desk::new(), Desk::new());
    let mut arm = Played::start(&here, &["so101", "--link", "follower", "--id", "one"]);
    let mut hand = Played::start(&there, &["so101_leader", "--link", "leader", "--id", "one", "--hand"]);
    let address = format!("127.0.0.1:{}", port());
    let network = Network::before(address.parse().unwrap());
    let place = format!("listen:tcp/{address}");
    let record = [
        "record",
        "--robot",
        "so101",
        "--port",
        "follower",
        "--camera",
        "front=pattern,320x240@30",
        "--teleop",
        "zenoh:arm",
        "--fleet",
        &place,
        "--instruction",
        "Do as the hand does.",
        "--out",
        "demos",
        "--episodes",
        "1",
        "--episode-time",
        "24",
        "--json",
    ];
    let recording = here.sinew(&record).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(15), "the robot's side does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let way = format!("tcp/{}", network.address);
    // Nobody leads at first.
    while arm.value("value shoulder_pan torque_enable") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(25), "no torque");
        std::thread::sleep(Duration::from_millis(20));
    }
    let armed = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let lead = ["teleop", "--robot", "so101", "--to", "arm", "--fleet", &way, "--teleop", "so101_leader", "--teleop-port", "leader"];
    let mut leading = Ended(there.sinew(&lead).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap());
    goal_moves(&mut arm, Duration::from_secs(10));
    let before = armed.elapsed();
    std::thread::sleep(Duration::from_secs(4));
    // It does as the hand does, a moment later.
    for motor in ["shoulder_pan", "elbow_flex", "wrist_roll"] {
        let apart = (arm.value(&format!("value {motor} goal_position")) - hand.value(&format!("value {motor} present_position"))).abs();
        assert!(apart < 150, "{motor}: {apart} of 4096");
    }
    network.switch().store(true, SeqCst);
    let held = last_move(&mut arm, Duration::from_secs(5));
    network.switch().store(false, SeqCst);
    let again = goal_moves(&mut arm, Duration::from_secs(5));
    println!("the goal changed last {held:?} after the network went dark, and moved {again:?} after it was light");
    // One that is over before the robot holds.
    std::thread::sleep(Duration::from_millis(1500));
    network.switch().store(true, SeqCst);
    std::thread::sleep(Duration::from_millis(280));
    network.switch().store(false, SeqCst);
    // The dead-man, a tick to hear of it, and what the gate needs to brake.
    assert!(held < Duration::from_millis(300 + 2 * 34 + 60), "{held:?}");
    assert!(again < Duration::from_secs(2), "{again:?}");
    let output = recording.wait_with_output().unwrap();
    let (report, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{report}{said}");
    let led_by_nobody = said.split("nobody led the robot for ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    let led_by_nobody = led_by_nobody.unwrap_or_else(|| panic!("{said}"));
    println!("led by nobody for {led_by_nobody} s, of which {before:?} at the beginning");
    assert!(led_by_nobody > before.as_secs_f64() - 1.5 + 5.0 - 0.15 && said.contains("marked as starved"), "{before:?} {said}");
    let info = here.recorded("demos", "it was led from another room");
    assert_eq!(info["episodes"].as_array().unwrap().len(), 1, "{info}");
    // The one who leads waits for the next, and ends in order.
    assert!(leading.0.try_wait().unwrap().is_none());
}

#[test]
fn a_robot_of_another_kind_is_not_led() {
    let (here, there) = (Desk::new(), Desk::new());
    let _arm = Played::start(&here, &["koch", "--link", "follower", "--id", "one"]);
    let _hand = Played::start(&there, &["so101_leader", "--link", "leader", "--id", "one", "--hand"]);
    let address = format!("tcp/127.0.0.1:{}", port());
    let follow = ["teleop", "--robot", "koch", "--port", "follower", "--teleop", "zenoh:arm", "--fleet", &format!("listen:{address}")];
    let _led = Ended(here.sinew(&follow).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let lead = ["teleop", "--robot", "so101", "--to", "arm", "--fleet", &address, "--teleop", "so101_leader", "--teleop-port", "leader"];
    let begun = Instant::now();
    let said = loop {
        let output = there.run(&[&lead[..], &["--seconds", "3"]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.code() == Some(1) && !said.contains("meeting the fleet") {
            break said;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
    };
    contains_all(&said, &["leading arm: expected the robot that --robot names", "here   so101: ", "there  koch: "]);
}
