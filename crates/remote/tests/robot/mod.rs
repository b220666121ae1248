//! A robot that is not there, behind a daemon, and clients of every kind.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sinew_core::service::*;
use sinew_remote::{Daemon, DaemonOptions, Https, Keyring};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

/// Shows a new state and new images 100 times a second.
pub struct Fake {
    begun: Instant,
    pub goals: Mutex<Vec<Vec<f64>>>,
    pub hands: Mutex<Vec<(u64, Vec<HandPose>, Duration)>>,
    pub stops: Mutex<Vec<StopWish>>,
    pub started: Mutex<Vec<Work>>,
    pub encoded: AtomicU64,
    newest: Mutex<Option<(u64, Quality, Arc<[u8]>)>>,
    pub image_bytes: usize,
    /// What each state is like, but for its number.
    template: State,
}

impl Fake {
    fn now(&self) -> u64 {
        1 + self.begun.elapsed().as_millis() as u64 / 10
    }
}

impl Service for Fake {
    fn robot(&self) -> RobotInfo {
        let channel =
            ChannelInfo { name: "a.pos".into(), unit: Unit::Radian, lower: Some(-1.0), upper: Some(1.0), scale: 1.0, offset: 0.0 };
        RobotInfo {
            name: "fake".into(),
            title: "Fake".into(),
            version: "0".into(),
            is_simulated: true,
            rate_hz: 100,
            state: vec![channel.clone()],
            action: vec![channel],
            parts: vec!["a".into()],
            cameras: vec![CameraInfo { name: "front".into(), width: 8, height: 8, fps: None }],
            meshes: vec!["meshes/a.stl".into()],
            teleoperator: None,
            task: None,
            calibrate: Vec::new(),
            tools: vec![HeldTool { name: "gripper".into(), side: None }],
        }
    }

    fn description(&self) -> Json {
        json!({"name": "fake"})
    }

    fn mesh(&self, name: &str) -> Option<Vec<u8>> {
        (name == "meshes/a.stl").then(|| b"solid".to_vec())
    }

    fn wait(&self, seen: u64, within: Duration) -> u64 {
        let begun = Instant::now();
        while self.now() <= seen && begun.elapsed() < within {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.now()
    }

    fn state(&self) -> Arc<State> {
        Arc::new(State { sequence: self.now(), ..self.template.clone() })
    }

    fn shot(&self, _: usize, seen: u64, quality: Quality) -> Option<Shot> {
        let sequence = self.now();
        if sequence <= seen {
            return None;
        }
        let mut newest = self.newest.lock().unwrap();
        if newest.as_ref().is_none_or(|(number, of, _)| *number != sequence || *of != quality) {
            self.encoded.fetch_add(1, SeqCst);
            *newest = Some((sequence, quality, vec![7; self.image_bytes].into()));
        }
        let jpeg = newest.as_ref().unwrap().2.clone();
        Some(Shot { sequence, width: 8, height: 8, age: Duration::ZERO, jpeg })
    }

    fn steer(&self, goals: &[f64]) -> Result<(), Refusal> {
        if goals.len() != 1 {
            return Err(Refusal::Bad(format!("found {} goals, expected 1", goals.len())));
        }
        self.goals.lock().unwrap().push(goals.to_vec());
        Ok(())
    }

    fn hold(&self, by: u64, hands: &[HandPose], age: Duration) -> Result<(), Refusal> {
        if hands.len() != 1 {
            return Err(Refusal::Bad(format!("found {} hands, expected 1", hands.len())));
        }
        self.hands.lock().unwrap().push((by, hands.to_vec(), age));
        Ok(())
    }

    fn stop(&self, wish: StopWish) {
        self.stops.lock().unwrap().push(wish);
    }

    fn clear_emergency(&self) -> bool {
        false
    }

    fn start(&self, work: Work) -> Result<(), Refusal> {
        self.started.lock().unwrap().push(work);
        Ok(())
    }

    fn last(&self) -> Option<WorkEnd> {
        None
    }

    fn wish(&self, _: EpisodeWish) -> Result<(), Refusal> {
        Err(Refusal::Conflict("nothing runs".into()))
    }

    fn log(&self, after: u64) -> Vec<LogLine> {
        vec![LogLine { number: after + 1, time_ms: 0, text: "a line".into() }]
    }

    fn datasets(&self) -> Result<Vec<DatasetItem>, Refusal> {
        Ok(Vec::new())
    }

    fn episodes(&self, dataset: &str) -> Result<Vec<EpisodeItem>, Refusal> {
        Err(Refusal::Missing(format!("there is no dataset {dataset}")))
    }

    fn thumbnail(&self, _: &str, _: u64) -> Result<Vec<u8>, Refusal> {
        Ok(b"jpeg".to_vec())
    }

    fn policies(&self) -> Result<Vec<PolicyItem>, Refusal> {
        panic!("a service that panics")
    }

    fn begin_task(&self, _: Task) -> Result<u64, Refusal> {
        Ok(1)
    }

    fn tasks(&self) -> Vec<TaskState> {
        Vec::new()
    }

    fn cancel_task(&self, number: u64) -> Result<(), Refusal> {
        Err(Refusal::Missing(format!("there is no task {number} that runs")))
    }

    fn answer(&self, _: CalibrationAnswer) -> Result<(), Refusal> {
        Err(Refusal::Conflict("no calibration runs".into()))
    }
}

/// A daemon in front of a [`Fake`].
pub struct Served {
    pub daemon: Option<Daemon>,
    pub robot: Arc<Fake>,
    pub token: String,
    _folder: tempfile::TempDir,
}

pub fn served(image_bytes: usize) -> Served {
    served_as(image_bytes, State { position: vec![Some(0.5)], ..State::default() })
}

pub fn served_as(image_bytes: usize, template: State) -> Served {
    served_over(image_bytes, template, |_| None)
}

/// The same with the certificate that `https` makes in a folder.
pub fn served_over(image_bytes: usize, template: State, https: impl FnOnce(&Path) -> Option<Https>) -> Served {
    served_in(tempfile::tempdir().unwrap(), image_bytes, template, https)
}

/// The same with a folder that may have been another daemon's.
pub fn served_in(folder: tempfile::TempDir, image_bytes: usize, template: State, https: impl FnOnce(&Path) -> Option<Https>) -> Served {
    let (keyring, token) = Keyring::open(folder.path()).unwrap();
    let robot = Arc::new(Fake {
        begun: Instant::now(),
        goals: Mutex::default(),
        hands: Mutex::default(),
        stops: Mutex::default(),
        started: Mutex::default(),
        encoded: AtomicU64::new(0),
        newest: Mutex::default(),
        image_bytes,
        template,
    });
    let (listen, https) = ("127.0.0.1:0".parse().unwrap(), https(folder.path()));
    let options = DaemonOptions { listen, hosts: vec!["Robot.example".into()], version: "0".into(), https };
    let daemon = Daemon::serve(options, keyring, robot.clone()).unwrap();
    Served { daemon: Some(daemon), robot, token, _folder: folder }
}

/// The answer to a request's bytes as they are.
pub fn raw(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Who is refused early may not take all of it.
    drop(tcp.write_all(request));
    let mut answer = Vec::new();
    drop(tcp.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

impl Served {
    /// Ends it, and leaves its folder.
    pub fn end(self) -> tempfile::TempDir {
        drop(self.daemon);
        self._folder
    }

    pub fn address(&self) -> SocketAddr {
        self.daemon.as_ref().unwrap().address()
    }

    pub fn get(&self, path: &str, headers: &str) -> (u16, String) {
        raw(self.address(), format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{headers}\r\n").as_bytes())
    }

    /// With the owner's token.
    pub fn ask(&self, path: &str) -> (u16, Json) {
        let (status, answer) = self.get(path, &format!("Authorization: Bearer {}\r\n", self.token));
        (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap_or_default().1).unwrap_or_default())
    }

    pub fn post(&self, path: &str, token: &str, more: &str, body: &str) -> (u16, Json) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAuthorization: Bearer {token}\r\n{more}\r\n",
            body.len()
        );
        let (status, answer) = raw(self.address(), (head + body).as_bytes());
        (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap_or_default().1).unwrap_or_default())
    }

    /// A token for a device of the role.
    pub fn paired(&self, role: &str, name: &str) -> String {
        let (status, pairing) = self.post("/api/v1/pairing", &self.token, "", &json!({ "role": role }).to_string());
        assert_eq!(status, 200, "{pairing}");
        let body = json!({"code": pairing["code"], "name": name}).to_string();
        let (status, paired) = self.post("/api/v1/pair", "", "", &body);
        assert_eq!(status, 200, "{paired}");
        paired["token"].as_str().unwrap().to_owned()
    }

    /// A websocket, after its first message and what came back.
    pub fn socket(&self, path: &str, hello: &Json) -> (WebSocket<TcpStream>, Json) {
        let request = format!("ws://{}{path}", self.address()).into_client_request().unwrap();
        let tcp = TcpStream::connect(self.address()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut web, _) = tungstenite::client(request, tcp).unwrap();
        web.send(Message::text(hello.to_string())).unwrap();
        let welcome = heard(&mut web);
        (web, welcome)
    }
}

/// The next message as JSON.
pub fn heard(web: &mut WebSocket<TcpStream>) -> Json {
    loop {
        match web.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn tell(web: &mut WebSocket<TcpStream>, message: &Json) {
    web.send(Message::text(message.to_string())).unwrap();
}
