//! A daemon that is a real process, and somebody who speaks to it as its page does.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::common::Desk;

/// A daemon, until it is dropped.
pub struct Daemon {
    pub child: Child,
    pub address: String,
    pub token: String,
}

/// `sinew daemon` with these options and a folder `state`.
pub fn command(desk: &Desk, args: &[&str]) -> Command {
    let mut command = desk.sinew(&[&["daemon", "--listen", "127.0.0.1:0", "--state", "state", "--json"], args].concat());
    command.env_remove("NOTIFY_SOCKET").env_remove("XDG_STATE_HOME").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Daemon {
    pub fn start(desk: &Desk, args: &[&str]) -> Self {
        Self::of(desk, &mut command(desk, args))
    }

    pub fn of(desk: &Desk, command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it did not start: {said}");
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        let token = std::fs::read_to_string(desk.path(ready["token_file"].as_str().unwrap())).unwrap().trim().to_owned();
        // What it says is read, so that it is never kept waiting.
        let mut errors = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::stderr()));
        Self { child, address: ready["address"].as_str().unwrap().to_owned(), token }
    }

    fn http(&self, head: &str, body: &str) -> (u16, Vec<u8>) {
        let mut tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let address = &self.address;
        write!(tcp, "{head} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", self.token, body.len()).unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).unwrap();
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer[at + 4..].to_vec())
    }

    pub fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        self.http(&format!("GET {path}"), "")
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.bytes(path);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    pub fn try_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = self.http(&format!("POST {path}"), &body.to_string());
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    pub fn state(&self) -> Value {
        self.get("/api/v1/state")
    }

    /// Waits until the state is as wanted.
    #[track_caller]
    pub fn wait(&self, what: &str, seconds: u64, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let state = self.state();
            if is_so(&state) {
                return state;
            }
            assert!(begun.elapsed() < Duration::from_secs(seconds), "{what}: {state}\n{}", self.get("/api/v1/work"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of a work; how it came out.
    #[track_caller]
    pub fn ended(&self, seconds: u64) -> Value {
        self.wait("an end", seconds, |state| state["mode"] == "idle");
        self.get("/api/v1/work")
    }

    pub fn socket(&self, path: &str, hello: &Value) -> WebSocket<TcpStream> {
        let request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        let tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (mut web, _) = tungstenite::client(request, tcp).unwrap();
        let mut hello = hello.clone();
        hello["token"] = self.token.clone().into();
        web.send(Message::text(hello.to_string())).unwrap();
        assert_eq!(heard(&mut web)["type"], "welcome");
        web
    }

    /// Sends a goal for a joint ten times a second for so long; the others stay where they are.
    pub fn steer(&self, web: &mut WebSocket<TcpStream>, joint: usize, goal: f64, time: Duration) {
        let mut goals: Vec<f64> =
            self.state()["position"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap_or_default()).collect();
        goals[joint] = goal;
        let begun = Instant::now();
        while begun.elapsed() < time {
            web.send(Message::text(json!({"type": "goals", "goals": goals}).to_string())).unwrap();
            let answer = heard(web);
            assert_eq!(answer["type"], "heard", "{answer}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub fn operator(&self) -> WebSocket<TcpStream> {
        let mut web = self.socket("/api/v1/command", &json!({}));
        web.send(Message::text(json!({"type": "take"}).to_string())).unwrap();
        assert_eq!(heard(&mut web)["type"], "lease");
        web
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its exit code, which comes in time.
    #[track_caller]
    pub fn exit(&mut self, seconds: u64) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(seconds), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The next message as JSON.
pub fn heard(web: &mut WebSocket<TcpStream>) -> Value {
    loop {
        match web.read().unwrap() {
            Message::Text(text) => return serde_json::from_str(text.as_str()).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
