//! The simulated arm in `sinew daemon` repeats what a hand does, over real sockets, in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;
mod page;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::Desk;
use page::{Daemon, heard};
use serde_json::{Value, json};
use sinew_core::RobotDescription;
use tungstenite::{Message, WebSocket};

const SO101: &str = include_str!("../../../robots/so101/robot.toml");

/// A hand that somebody holds, and the tool that it moves.
struct Hand<'a> {
    daemon: &'a Daemon,
    robot: RobotDescription,
    web: WebSocket<TcpStream>,
    begun: Instant,
    /// Where it is.
    at: [f64; 3],
    rotation: [f64; 4],
}

impl<'a> Hand<'a> {
    fn of(daemon: &'a Daemon) -> Self {
        let robot = RobotDescription::from_toml("so101", SO101).unwrap();
        Self { daemon, robot, web: daemon.operator(), begun: Instant::now(), at: [0.4, -3.0, 1.2], rotation: [0.5, 0.5, 0.5, 0.5] }
    }

    fn say(&mut self, enabled: bool, gripper: f64) -> Value {
        let hand = json!({"position_m": self.at, "rotation_wxyz": self.rotation, "enabled": enabled, "gripper": gripper});
        let message = json!({"type": "hands", "time_s": self.begun.elapsed().as_secs_f64(), "hands": [hand]});
        self.web.send(Message::text(message.to_string())).unwrap();
        heard(&mut self.web)
    }

    /// Goes by `way` within `time`, at that rate, and stays there for as long.
    fn go(&mut self, way: [f64; 3], time: Duration, rate_hz: f64, enabled: bool) {
        let (from, begun) = (self.at, Instant::now());
        while begun.elapsed() < time * 2 {
            let share = (begun.elapsed().as_secs_f64() / time.as_secs_f64()).min(1.0);
            self.at = std::array::from_fn(|k| from[k] + way[k] * share);
            let answer = self.say(enabled, 0.0);
            assert_eq!(answer["type"], "heard", "{answer}");
            std::thread::sleep(Duration::from_secs_f64(1.0 / rate_hz));
        }
        self.at = std::array::from_fn(|k| from[k] + way[k]);
    }

    /// Waits, and is heard meanwhile, but nothing of the hand is.
    fn wait(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.web.send(Message::text(json!({"type": "alive"}).to_string())).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the tool is now.
    fn tool(&self) -> [f64; 3] {
        let state = self.daemon.state();
        let values: Vec<f64> = state["position"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        self.robot.base_from_tool(0, &values).translation.vector.into()
    }

    /// The tool, when it is still.
    fn rest(&mut self) -> [f64; 3] {
        let begun = Instant::now();
        let mut last = self.tool();
        loop {
            self.wait(Duration::from_millis(120));
            let now = self.tool();
            if apart(now, last) < 5e-4 {
                return now;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "it does not come to rest");
            last = now;
        }
    }
}

fn apart(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn moved(from: [f64; 3], to: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|k| to[k] - from[k])
}

/// Teleoperation has begun, and the arm stands where its tool can go each way.
fn ready(desk: &Desk) -> Daemon {
    let daemon = Daemon::start(desk, &[]);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    daemon.wait("torque", 20, |state| state["armed"] == true);
    let mut operator = daemon.operator();
    // The shoulder comes last, or the tool would go through the table.
    let mut goals = [0.0, -1.7, 0.6, 1.2, 0.0, 0.5];
    let begun = Instant::now();
    loop {
        operator.send(Message::text(json!({"type": "goals", "goals": goals}).to_string())).unwrap();
        assert_eq!(heard(&mut operator)["type"], "heard");
        let state = daemon.state();
        let is_there = |joint: usize| (state["position"][joint].as_f64().unwrap() - goals[joint]).abs() < 0.08;
        if (0..6).all(is_there) {
            if goals[1] > -1.0 {
                break;
            }
            goals[1] = -0.8;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{state}");
        std::thread::sleep(Duration::from_millis(30));
    }
    operator.send(Message::text(json!({"type": "release"}).to_string())).unwrap();
    assert_eq!(heard(&mut operator)["type"], "expired");
    daemon
}

#[test]
fn the_tool_goes_where_the_hand_goes_at_any_rate() {
    let desk = Desk::new();
    let daemon = ready(&desk);
    for (rate_hz, way) in [(10.0, [0.0, 0.0, 0.05]), (72.0, [0.0, 0.05, 0.0]), (500.0, [-0.04, 0.0, 0.0]), (72.0, [0.02, -0.03, -0.03])] {
        let mut hand = Hand::of(&daemon);
        hand.go([0.0; 3], Duration::from_millis(100), rate_hz, false);
        let from = hand.rest();
        hand.say(false, 0.0);
        hand.go(way, Duration::from_millis(800), rate_hz, true);
        let there = hand.tool();
        let off = apart(moved(from, there), way);
        println!("{rate_hz} Hz: the hand went {way:?} m, the tool {:?} m, {:.1} mm off", moved(from, there), off * 1e3);
        assert!(off < 0.006, "{:?}, expected {way:?}", moved(from, there));
        // It is let go, and the hand goes on.
        hand.go([0.2, 0.1, -0.1], Duration::from_millis(200), rate_hz, false);
        assert!(apart(hand.tool(), there) < 0.004, "it moves though nobody holds it");
        drop(hand);
        daemon.wait("the end of the lease", 2, |state| state["operator"].is_null());
    }
}

#[test]
fn what_is_not_wanted_moves_nothing() {
    let desk = Desk::new();
    let daemon = ready(&desk);
    let mut hand = Hand::of(&daemon);
    // Enabled from the first pose on.
    let from = hand.rest();
    hand.go([0.0, 0.0, 0.04], Duration::from_millis(400), 72.0, true);
    assert!(apart(hand.tool(), from) < 0.003, "a hand that was closed from the beginning moves the tool");
    hand.say(false, 0.0);
    hand.go([0.0, 0.0, 0.02], Duration::from_millis(400), 72.0, true);
    assert!(apart(moved(from, hand.tool()), [0.0, 0.0, 0.02]) < 0.005);
    // A tracker that finds another place: 1 m in a moment.
    let there = hand.rest();
    hand.at[0] += 1.0;
    let refused = hand.say(true, 0.0);
    assert!(refused["type"] == "refused" && refused["error"].as_str().unwrap().contains("jumped by 1.00 m"), "{refused}");
    hand.go([0.0, 0.05, 0.0], Duration::from_millis(300), 72.0, true);
    assert!(apart(hand.tool(), there) < 0.003, "it moves after a jump");
    hand.say(false, 0.0);
    assert_eq!(hand.say(true, 0.0)["type"], "heard");
    // Poses that waited on their way: their stamps say so.
    hand.begun += Duration::from_millis(400);
    hand.wait(Duration::from_millis(405));
    let refused = hand.say(true, 0.0);
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("ms on their way")), "{refused}");
    hand.begun -= Duration::from_millis(400);
    // It goes far, and the line is dark on the way.
    hand.say(false, 0.0);
    let from = hand.rest();
    hand.say(false, 0.0);
    hand.go([0.0, -0.02, 0.0], Duration::from_millis(200), 72.0, true);
    hand.at[1] -= 0.1;
    hand.wait(Duration::from_millis(300));
    let dark = hand.tool();
    hand.go([0.0, -0.05, 0.0], Duration::from_millis(300), 72.0, true);
    assert!(apart(hand.tool(), dark) < 0.003 && apart(moved(from, dark), [0.0, -0.02, 0.0]) < 0.006, "{:?}", moved(from, hand.tool()));
    // Two operators.
    let mut other = daemon.socket("/api/v1/command", &json!({}));
    hand.say(false, 0.0);
    other.send(Message::text(json!({"type": "take"}).to_string())).unwrap();
    assert!(heard(&mut other)["error"].as_str().unwrap().contains("has the lease"));
    let pose = json!({"position_m": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "enabled": true});
    other.send(Message::text(json!({"type": "hands", "time_s": 1, "hands": [pose]}).to_string())).unwrap();
    assert!(heard(&mut other)["error"].as_str().unwrap().contains("no lease"));
    // The gripper opens as long as it is wanted, and then keeps its goal.
    let jaw = |daemon: &Daemon| daemon.state()["position"][5].as_f64().unwrap();
    let before = jaw(&daemon);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        hand.say(false, 1.0);
        std::thread::sleep(Duration::from_millis(14));
    }
    hand.say(false, 0.0);
    assert!(jaw(&daemon) > before + 0.1, "{before} {}", jaw(&daemon));
    let wrong = json!({"position_m": [0, 0, 0], "rotation_wxyz": [0, 0, 0, 0], "enabled": true});
    let wrong = json!({"type": "hands", "time_s": 1e6, "hands": [wrong]});
    hand.web.send(Message::text(wrong.to_string())).unwrap();
    assert!(heard(&mut hand.web)["error"].as_str().unwrap().contains("quaternion of length 1"));
    // After a stop there is nothing that it could lead.
    drop(hand);
    daemon.wait("the end of the lease", 2, |state| state["operator"].is_null());
    daemon.post("/api/v1/stop", &json!({"stop": "now"}));
    daemon.ended(10);
    let tools = daemon.get("/api/v1/robot")["tools"].clone();
    assert_eq!(tools, json!([{"name": "gripper", "side": null}]));
    let mut hand = Hand::of(&daemon);
    assert!(hand.say(false, 0.0)["error"].as_str().unwrap().contains("nothing runs that is led by goals or hands"));
}
