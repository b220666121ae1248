//! `sinew lekiwi-host` with an emulated LeKiwi and clients of it, in real time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Desk;
use rustix::process::{Pid, Signal, kill_process};
use sinew_core::{Armed, Clock, Observation, Tick, Unwatched, Wanted};
use sinew_drivers::{LeKiwiClient, LeKiwiClientOptions, Register};
use sinew_emulator::{Emulator, Options, Robot};
use sinew_runtime::MonotonicClock;

const PERIOD: Duration = Duration::from_millis(33);
const WHEELS: [&str; 3] = ["base_left_wheel", "base_back_wheel", "base_right_wheel"];

fn calibration(robot: &Robot) -> String {
    let motors = robot.joints.iter().map(|joint| {
        let of = serde_json::json!({ "id": joint.id, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": 4095 });
        (joint.name.clone(), of)
    });
    serde_json::Value::Object(motors.collect()).to_string()
}

struct Host {
    child: Child,
    stderr: BufReader<ChildStderr>,
    ports: (u16, u16),
}

impl Host {
    fn start(desk: &Desk, more: &[&str]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = (free(), free());
        let (command, observation) = (ports.0.to_string(), ports.1.to_string());
        let port = desk.path("port");
        let args =
            ["lekiwi-host", "--port", port.to_str().unwrap(), "--command-port", &command, "--observation-port", &observation, "--json"];
        let mut child = desk.sinew(&[&args[..], more].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, ports }
    }

    /// The line that says this.
    fn says(&mut self, words: &str) -> String {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {
            if line.contains(words) {
                return line;
            }
            line.clear();
        }
        String::new()
    }

    fn address(&self) -> String {
        format!("zmq://127.0.0.1:{}:{}", self.ports.0, self.ports.1)
    }

    /// After Ctrl-C: its exit code, its report, and what it said last.
    fn ends(mut self) -> (Option<i32>, serde_json::Value, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap(), rest)
    }
}

fn speeds(emulator: &Emulator) -> [i32; 3] {
    WHEELS.map(|name| emulator.register(name, Register::GoalVelocity).unwrap())
}

/// Drives forward for so many ticks and leaves without a word, as a process that is killed.
fn drive_and_vanish(emulator: &Emulator, ports: (u16, u16), token: &str, turns: u64) -> Instant {
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let mut robot = sinew_sim::robots::get("lekiwi").unwrap().description;
    robot.cameras.clear();
    // A busy machine is late.
    (robot.feedback.max_age_ms, robot.feedback.fault_age_ms) = (1000, 3000);
    let options = LeKiwiClientOptions {
        command_port: ports.0,
        observation_port: ports.1,
        token: Some(token.to_owned()),
        within: Duration::from_secs(20),
    };
    let robot = Arc::new(robot);
    let (mut client, _) = LeKiwiClient::connect(robot.clone(), "127.0.0.1", &options, None, clock.clone()).unwrap();
    let tick = |turn| Tick { turn, due: clock.now(), period: PERIOD, wants_images: false };
    let mut observation = Observation::for_robot(&robot);
    let mut armed = Armed::new(&mut client, &Unwatched, &*clock, &tick(0), &mut observation).unwrap();
    let mut wanted = Wanted::for_robot(&robot);
    wanted.goals.copy_from_slice(armed.commanded());
    wanted.goals[6] = 0.1;
    for turn in 1..=turns {
        clock.sleep_until(clock.now() + PERIOD);
        wanted.time = clock.now();
        let _ = armed.read(&tick(turn), &mut observation);
        armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64()).unwrap();
    }
    let last = Instant::now();
    let [left, _, right] = speeds(emulator);
    assert!(left < -900 && right > 900, "{left} {right}: 0.1 m/s are 1129 steps a second");
    // Dropping it would stop the robot; who is killed says nothing. Its connection stays open.
    std::mem::forget(armed);
    std::mem::forget(client);
    last
}

#[test]
fn a_lekiwi_is_driven_over_the_network_and_stands_when_nobody_speaks() {
    let desk = Desk::new();
    let robot = Robot::lekiwi();
    let emulator = Emulator::start(&robot, &desk.path("port"), Options::default()).unwrap();
    let folder = desk.path(".cache/huggingface/lerobot/calibration/robots/lekiwi");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mine.json"), calibration(&robot)).unwrap();

    let mut host = Host::start(&desk, &["--id", "mine"]);
    let line = host.says("token ");
    let token = line.split_whitespace().nth(1).unwrap().to_owned();
    assert!(token.len() == 32 && token.chars().all(|c| c.is_ascii_hexdigit()), "{line}");

    // Whoever doesn't know it sees nothing.
    let monitor = ["robots", "monitor", "--robot", "lekiwi", "--port", &host.address(), "--seconds", "1", "--json"];
    let error = desk.error(&monitor);
    assert!(error.contains("no token was given") && error.contains("SINEW_TOKEN"), "{error}");
    let error = desk.error(&[&monitor[..], &["--token", "not-the-right-word"]].concat());
    assert!(error.contains("refuses") && !error.contains("not-the-right"), "{error}");
    let output = desk.sinew(&monitor).env("SINEW_TOKEN", &token).output().unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of =
        |name: &str| seen["state"].as_array().unwrap().iter().find(|value| value["feature"] == name).unwrap()["value"].as_f64().unwrap();
    assert!(of("x.vel").abs() < 1e-3 && of("arm_gripper.pos") > 1.0, "{seen}");
    assert_eq!(speeds(&emulator), [0; 3]);

    let last = drive_and_vanish(&emulator, host.ports, &token, 60);
    while speeds(&emulator) != [0; 3] && last.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let after = last.elapsed();
    // Half a second, a tick or two of both loops, and 0.1 s to brake; a busy machine adds to that.
    assert!((Duration::from_millis(400)..Duration::from_millis(1200)).contains(&after), "it stood after {after:?}");
    assert_eq!(host.child.try_wait().unwrap(), None, "a client that goes ends nothing");

    // The next one; and the host ends while it drives.
    drive_and_vanish(&emulator, host.ports, &token, 45);
    let (code, report, rest) = host.ends();
    assert_eq!(code, Some(130), "{rest}");
    assert_eq!(speeds(&emulator), [0; 3]);
    assert_eq!(emulator.register("arm_shoulder_pan", Register::TorqueEnable).unwrap(), 1, "the arm holds");
    let clients = &report["clients"];
    assert!(clients["commands"].as_u64().unwrap() > 60 && clients["refused_clients"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["motors"][0]["robot"], report["motors"].as_array().unwrap().len()), (&"lekiwi".into(), 9));
    assert!(!rest.contains(&token) && !report.to_string().contains(&token));
}
