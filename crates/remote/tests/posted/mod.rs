//! An HTTP server that does what a test tells it, to the byte.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counted over all connections.
    pub serial: u64,
    pub head: String,
    /// Nothing, of a GET.
    pub json: serde_json::Value,
}

/// What a server does then.
pub enum Plan {
    Send(Vec<u8>),
    After(u64, Vec<u8>),
    /// It closes the connection behind these bytes, or in their middle where there are many.
    Cut(Vec<u8>),
    /// A byte each so many milliseconds.
    Drip(u64, Vec<u8>),
    Silence,
    /// A body without an end.
    Endless,
    EndlessHead,
}

pub struct Posted {
    pub address: SocketAddr,
    pub connections: Arc<AtomicU64>,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

/// A whole answer.
pub fn answer(status: u16, kind: &str, body: &str) -> Vec<u8> {
    let reason = tungstenite::http::StatusCode::from_u16(status).unwrap().canonical_reason().unwrap();
    format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn start(plan: impl Fn(&Request) -> Plan + Send + Sync + 'static) -> Posted {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Posted { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
    let (connections, requests, plan) = (server.connections.clone(), server.requests.clone(), Arc::new(plan));
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            connections.fetch_add(1, SeqCst);
            let (requests, plan) = (requests.clone(), plan.clone());
            thread::spawn(move || {
                tcp.set_nodelay(true).unwrap();
                // A client that has gone ends it.
                let _ = serve(tcp, &requests, &*plan);
            });
        }
    });
    server
}

fn serve(mut tcp: TcpStream, requests: &Mutex<Vec<Request>>, plan: &dyn Fn(&Request) -> Plan) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let Some((head, body)) = read(&mut tcp, &mut bytes)? else { return Ok(()) };
        let json = serde_json::from_slice(&body).unwrap_or_default();
        let request = {
            let mut requests = requests.lock().unwrap();
            let request = Request { serial: requests.len() as u64, head, json };
            requests.push(request.clone());
            request
        };
        match plan(&request) {
            Plan::Send(answer) => tcp.write_all(&answer)?,
            Plan::After(ms, answer) => {
                thread::sleep(Duration::from_millis(ms));
                tcp.write_all(&answer)?;
            }
            Plan::Cut(answer) => {
                let is_whole = !answer.starts_with(b"HTTP/1.1");
                return tcp.write_all(&answer[..if is_whole { answer.len() } else { answer.len() - 5 }]);
            }
            Plan::Drip(ms, answer) => answer.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(ms));
                tcp.write_all(&[*byte])
            })?,
            Plan::Silence => {
                while tcp.read(&mut [0; 1024])? > 0 {}
                return Ok(());
            }
            Plan::Endless => {
                tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    tcp.write_all(&[&b"1000\r\n"[..], &[b'['; 4096], b"\r\n"].concat())?;
                }
            }
            Plan::EndlessHead => {
                tcp.write_all(b"HTTP/1.1 200 OK\r\n")?;
                loop {
                    tcp.write_all(b"X-More: and more\r\n")?;
                }
            }
        }
    }
}

fn read(tcp: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut piece = [0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Ok(Some((head, body)));
            }
        }
        match tcp.read(&mut piece)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
