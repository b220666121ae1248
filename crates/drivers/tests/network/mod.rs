//! What the tests of robots on a network share: a daemon of Reachy Mini's kind that is not there, and ticks.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "what fails here fails the test, and no test uses all of it")]

pub mod lekiwi;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sinew_core::{Clock, RobotDescription, Tick, Timestamp, Wanted};
use tungstenite::{Message, WebSocket};

pub fn description(text: &str) -> RobotDescription {
    let so101 = include_str!("../../../../robots/so101/robot.toml");
    RobotDescription::from_toml_with("test", text, &|name| (name == "so101").then(|| so101.to_owned())).unwrap()
}

pub fn reachy_mini() -> RobotDescription {
    patient(description(include_str!("../../../../robots/reachy_mini/robot.toml")))
}

/// A busy machine is late: what is known may be older than on a robot.
pub fn patient(mut robot: RobotDescription) -> RobotDescription {
    (robot.feedback.max_age_ms, robot.feedback.fault_age_ms) = (3000, 9000);
    robot
}

pub fn tick(clock: &dyn Clock, turn: u64, period: Duration) -> Tick {
    Tick { turn, due: clock.now(), period, wants_images: false }
}

pub fn wanted(robot: &RobotDescription, goals: &[f64], time: Timestamp) -> Wanted {
    Wanted { goals: goals.to_vec(), time, ..Wanted::for_robot(robot) }
}

/// Waits until it `is_so`, for some seconds at most.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waiting until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// How a daemon does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Fine,
    /// Says nothing, and goes on reading.
    Silent,
    /// Says things that make no sense, beside those that do.
    Garbage,
    /// Announces a message of a gigabyte.
    Huge,
    /// Closes each connection right after it came about.
    Closes,
    /// Takes connections and no word of HTTP.
    Deaf,
    /// Goes on talking and reads nothing.
    Stalled,
    /// Cuts the connection that there is, once, and somebody turns the body meanwhile.
    Cut,
}

/// Where the body is turned to by hand, rad.
pub const BY_HAND: f64 = 0.15;

#[derive(Debug)]
pub struct Body {
    pub mood: Mood,
    pub head: [[f64; 4]; 4],
    pub joints: [f64; 7],
    pub antennas: [f64; 2],
    pub mode: String,
    /// What it was told, in order.
    pub told: Vec<Value>,
    /// How many connections there were.
    pub connections: usize,
}

/// Takes targets over at once, as the mock-up of the real daemon does; its legs stay where they are.
pub struct Daemon {
    pub port: u16,
    pub body: Arc<Mutex<Body>>,
    ends: Arc<AtomicBool>,
}

impl Daemon {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut head = [[0.0; 4]; 4];
        (0..4).for_each(|i| head[i][i] = 1.0);
        let body = Body {
            mood: Mood::Fine,
            head,
            joints: [0.1, 0.5, -0.6, 0.7, -0.6, 0.7, -0.5],
            antennas: [-0.2, 0.2],
            mode: "disabled".to_owned(),
            told: Vec::new(),
            connections: 0,
        };
        let (body, ends) = (Arc::new(Mutex::new(body)), Arc::new(AtomicBool::new(false)));
        let (shared, is_over) = (body.clone(), ends.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Relaxed) {
                    return;
                }
                let (body, is_over) = (shared.clone(), is_over.clone());
                thread::spawn(move || serve(stream.unwrap(), &body, &is_over));
            }
        });
        Self { port, body, ends }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn be(&self, mood: Mood) {
        self.body.lock().unwrap().mood = mood;
    }

    /// The types of what it was told, in order.
    pub fn told(&self) -> Vec<String> {
        self.body.lock().unwrap().told.iter().map(|told| told["type"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        // The listener looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, body: &Mutex<Body>, is_over: &AtomicBool) {
    stream.set_nodelay(true).unwrap();
    if body.lock().unwrap().mood == Mood::Deaf {
        thread::sleep(Duration::from_millis(100));
        let _ = (&stream).write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        let _ = (&stream).read(&mut [0; 100]);
        return;
    }
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    body.lock().unwrap().connections += 1;
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut next_state, mut next_status) = (Instant::now(), Instant::now());
    while !is_over.load(Relaxed) {
        let mood = body.lock().unwrap().mood;
        match mood {
            Mood::Closes => {
                let _ = socket.close(None);
                let _ = socket.flush();
                return;
            }
            Mood::Cut => {
                let mut body = body.lock().unwrap();
                (body.mood, body.joints[0]) = (Mood::Fine, BY_HAND);
                return;
            }
            Mood::Huge => {
                let _ = socket.get_mut().write_all(&[0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]);
                let _ = socket.get_mut().write_all(&[b'['; 300_000]);
                thread::sleep(Duration::from_millis(50));
                return;
            }
            Mood::Stalled => thread::sleep(Duration::from_millis(2)),
            _ => {
                if !hear(&mut socket, body) {
                    return;
                }
            }
        }
        if mood != Mood::Silent && Instant::now() >= next_state {
            next_state += Duration::from_millis(20);
            if !say(&mut socket, body, mood, &mut next_status) {
                return;
            }
        }
    }
}

fn hear(socket: &mut WebSocket<TcpStream>, body: &Mutex<Body>) -> bool {
    let text = match socket.read() {
        Ok(Message::Text(text)) => text,
        Ok(Message::Ping(_)) => return socket.flush().is_ok(),
        Ok(_) => return true,
        Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
        Err(_) => return false,
    };
    let told: Value = serde_json::from_str(&text).unwrap();
    let mut body = body.lock().unwrap();
    let numbers = |value: &Value| value.as_array().map(|all| all.iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>());
    match told["type"].as_str().unwrap() {
        "set_full_target" => {
            if let Some(head) = numbers(&told["head"]) {
                assert_eq!(head.len(), 16);
                body.head = std::array::from_fn(|i| std::array::from_fn(|j| head[4 * i + j]));
            }
            if let Some(antennas) = numbers(&told["antennas"]) {
                body.antennas = antennas.try_into().unwrap();
            }
            if let Some(yaw) = told["body_yaw"].as_f64() {
                body.joints[0] = yaw;
            }
        }
        "set_motor_mode" => told["mode"].as_str().unwrap().clone_into(&mut body.mode),
        "set_torque" | "set_automatic_body_yaw" => {}
        other => panic!("it was told {other}"),
    }
    body.told.push(told);
    true
}

fn say(socket: &mut WebSocket<TcpStream>, body: &Mutex<Body>, mood: Mood, next_status: &mut Instant) -> bool {
    let body = body.lock().unwrap();
    let mut all = vec![
        json!({"type": "joint_positions", "head_joint_positions": body.joints, "antennas_joint_positions": body.antennas}).to_string(),
        json!({"type": "head_pose", "head_pose": body.head}).to_string(),
    ];
    if Instant::now() >= *next_status {
        *next_status += Duration::from_secs(1);
        let status = json!({"motor_control_mode": body.mode, "error": null});
        all.push(json!({"type": "daemon_status", "state": "running", "backend_status": status}).to_string());
    }
    if mood == Mood::Garbage {
        all.extend(["", "{", "[1,2,3]", "{\"type\":\"joint_positions\",\"head_joint_positions\":[]}"].map(str::to_owned));
    }
    drop(body);
    all.into_iter().all(|text| socket.send(Message::text(text)).is_ok())
        && (mood != Mood::Garbage || socket.send(Message::binary(vec![255, 0, 255])).is_ok())
}
