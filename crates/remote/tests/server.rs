//! A server against clients of every kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sinew_remote::codec::{Dtype, Limits, Packer, Value, decode};
use sinew_remote::{Answerer, Served, Server, ServerOptions};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Error, Message, WebSocket};

#[derive(Default)]
struct Doubles {
    takes: Duration,
    inside: AtomicU64,
    together: AtomicU64,
    at_once: bool,
    took: Option<Duration>,
}

impl Answerer for Doubles {
    fn metadata(&self) -> Vec<u8> {
        b"\x81\xa4name\xa7doubles".to_vec()
    }

    fn take_turns(&self) -> bool {
        !self.at_once
    }

    fn answer(&self, observation: &Value<'_>) -> Result<Served, String> {
        self.together.fetch_max(self.inside.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(self.takes);
        self.inside.fetch_sub(1, SeqCst);
        let numbers = observation.get("x").ok_or("there is no x")?.numbers()?;
        assert!(numbers.values.first() != Some(&-13.0), "minus thirteen");
        Ok(Served {
            rows: 1,
            width: numbers.values.len(),
            values: numbers.values.iter().map(|value| *value as f32 * 2.0).collect(),
            took: self.took,
        })
    }
}

fn start(takes: Duration, change: impl FnOnce(&mut ServerOptions)) -> (Server, Arc<Doubles>) {
    let mut options = ServerOptions::new("127.0.0.1:0".parse().unwrap());
    change(&mut options);
    let server = Server::bind(options).unwrap();
    let answerer = Arc::new(Doubles { takes, ..Doubles::default() });
    server.serve(answerer.clone());
    (server, answerer)
}

fn client(address: SocketAddr, token: Option<&str>) -> Result<WebSocket<TcpStream>, Error> {
    let mut request = format!("ws://{address}/any/path").into_client_request()?;
    request.headers_mut().extend(token.map(|token| (tungstenite::http::header::AUTHORIZATION, token.parse().unwrap())));
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut web, _) = tungstenite::client(request, tcp).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => panic!("interrupted"),
    })?;
    assert_eq!(web.read()?.into_data(), b"\x81\xa4name\xa7doubles"[..], "the greeting");
    Ok(web)
}

fn status(error: &Error) -> u16 {
    if let Error::Http(answer) = error { answer.status().as_u16() } else { panic!("{error}") }
}

fn question(x: f32) -> Message {
    let mut packer = Packer::default();
    packer.map(2);
    packer.str("x");
    packer.tensor(Dtype::F32, &[2], |out| [x, x].iter().for_each(|value| out.extend(value.to_le_bytes())));
    packer.str("sinew_request");
    packer.int(77);
    Message::binary(packer.into_bytes())
}

fn ask(web: &mut WebSocket<TcpStream>, x: f32) -> f64 {
    web.send(question(x)).unwrap();
    let answer = web.read().unwrap().into_data();
    let answer = decode(&answer, Limits::default()).unwrap();
    assert_eq!(answer.get("sinew_request"), Some(&Value::Int(77)));
    assert!(answer.get("server_timing").unwrap().get("infer_ms").unwrap().number().unwrap() >= 0.0);
    let numbers = answer.get("actions").unwrap().numbers().unwrap();
    assert_eq!(numbers.shape, [1, 2]);
    numbers.values[0]
}

fn http(address: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    tcp.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Whoever was refused early may hear of it by a reset, too.
    drop(tcp.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn clients_are_answered_in_turn_and_errors_close_their_own_connection_only() {
    let (server, answerer) = start(Duration::from_millis(5), |_| {});
    let address = server.address();
    std::thread::scope(|scope| {
        for i in 0..4 {
            scope.spawn(move || {
                let mut web = client(address, None).unwrap();
                (0..30).for_each(|n| assert_eq!(ask(&mut web, (i * 100 + n) as f32), f64::from(2 * (i * 100 + n))));
            });
        }
    });
    assert_eq!(answerer.together.load(SeqCst), 1, "one at a time has the policy");

    let mut well = client(address, None).unwrap();
    for (bad, words) in [
        (Message::binary(b"\x80".to_vec()), "there is no x"),
        (Message::binary(b"\xc1".to_vec()), "decoding msgpack"),
        (Message::binary(b"\x01".to_vec()), "expected a map"),
        (question(-13.0), "panicked"),
    ] {
        let mut web = client(address, None).unwrap();
        web.send(bad).unwrap();
        let Message::Text(text) = web.read().unwrap() else { panic!("expected the error as text") };
        assert!(text.contains(words), "{text}");
        let Message::Close(Some(close)) = web.read().unwrap() else { panic!("expected a close") };
        assert_eq!((u16::from(close.code), &*close.reason), (1011, "Internal server error. Traceback included in previous frame."));
        assert_eq!(ask(&mut well, 1.0), 2.0);
    }
    let counts = server.counts();
    assert_eq!((counts.answers, counts.errors), (124, 4));
    drop(server);
    assert!(matches!(well.read(), Ok(Message::Close(_)) | Err(_)), "who is connected is told of the end");
}

#[test]
fn clients_who_take_no_turns_ask_at_once() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let answerer = Arc::new(Doubles { takes: Duration::from_millis(300), at_once: true, ..Doubles::default() });
    server.serve(answerer.clone());
    let address = server.address();
    std::thread::scope(|scope| {
        for i in 0..4 {
            scope.spawn(move || assert_eq!(ask(&mut client(address, None).unwrap(), i as f32), f64::from(2 * i)));
        }
    });
    assert!(answerer.together.load(SeqCst) > 1, "all waited for each other");
}

#[test]
fn who_answers_several_together_says_how_long_that_took_and_the_wait_is_told_apart() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let took = Some(Duration::from_millis(5));
    server.serve(Arc::new(Doubles { takes: Duration::from_millis(300), at_once: true, took, ..Doubles::default() }));
    let mut web = client(server.address(), None).unwrap();
    web.send(question(1.0)).unwrap();
    let answer = web.read().unwrap().into_data();
    let answer = decode(&answer, Limits::default()).unwrap();
    for timing in ["server_timing", "policy_timing"] {
        assert_eq!(answer.get(timing).unwrap().get("infer_ms").unwrap().number(), Some(5.0), "{timing}");
    }
    let metrics = http(server.address(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.trim().parse().unwrap()
    };
    assert!((value("sinew_infer_seconds_sum ") - 0.005).abs() < 1e-6, "{metrics}");
    assert!(value("sinew_wait_seconds_total ") > 0.28, "{metrics}");
}

#[test]
fn the_end_of_a_server_is_told_to_all_also_to_those_who_wait_for_an_answer() {
    let (server, _) = start(Duration::from_secs(5), |_| {});
    let address = server.address();
    let [mut idle, mut first, mut second] = [(); 3].map(|()| client(address, None).unwrap());
    // One is with the policy, another waits for its turn.
    first.send(question(1.0)).unwrap();
    second.send(question(2.0)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let ending = std::thread::spawn(move || drop(server));
    for web in [&mut idle, &mut first, &mut second] {
        let Message::Close(Some(close)) = web.read().unwrap() else { panic!("expected a close") };
        assert_eq!((u16::from(close.code), &*close.reason), (1001, "the server ends"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    ending.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits for the policy: {:?}", begun.elapsed());
}

/// Whoever asks all the time has no more turns than one who asks as others do.
#[test]
fn a_busy_client_keeps_nobody_waiting() {
    let (server, _) = start(Duration::from_millis(10), |_| {});
    let address = server.address();
    let end = Instant::now() + Duration::from_secs(2);
    let counts: Vec<u32> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let mut web = client(address, None).unwrap();
                    let mut count = 0;
                    while Instant::now() < end {
                        ask(&mut web, 1.0);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*least >= 10 && most - least <= 3, "{counts:?}");
}

#[test]
fn before_it_is_ready_it_says_so() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = server.address();
    assert!(http(address, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
    assert_eq!(status(&client(address, None).unwrap_err()), 503);
    server.serve(Arc::new(Doubles::default()));
    let health = http(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nOK\n"), "{health}");
    ask(&mut client(address, None).unwrap(), 1.0);
    let metrics = http(address, "GET /metrics HTTP/1.1\r\n\r\n");
    for line in
        ["sinew_ready 1\n", "sinew_requests_total 1\n", "sinew_infer_seconds_count 1\n", "sinew_infer_seconds_bucket{le=\"+Inf\"} 1\n"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(http(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 426 "));
    assert!(http(address, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let page = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    assert!(http(address, page).starts_with("HTTP/1.1 403 "), "no page in a browser may drive a policy");
    let taken = ServerOptions::new(address);
    assert!(Server::bind(taken).err().unwrap().to_string().contains(&address.to_string()));
}

#[test]
fn a_token_is_needed_where_there_is_one_and_guessing_ends() {
    let (server, _) = start(Duration::ZERO, |options| options.token = Some("open sesame".into()));
    let address = server.address();
    for token in ["Bearer open sesame", "Api-Key open sesame"] {
        ask(&mut client(address, Some(token)).unwrap(), 1.0);
    }
    assert!(http(address, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 401 "));
    assert!(http(address, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "), "health is no secret");
    let refused: Vec<u16> = (0..6).map(|i| status(&client(address, Some(&format!("Bearer guess {i}"))).unwrap_err())).collect();
    assert_eq!(refused, [401, 401, 401, 401, 429, 429], "with the one of above");
    assert_eq!(status(&client(address, Some("Bearer open sesame")).unwrap_err()), 429, "for a while nobody there is heard");
    assert_eq!(server.counts().refused, 5);
}

#[test]
fn hostile_clients_take_little_and_hold_up_nobody() {
    let (server, _) = start(Duration::ZERO, |options| options.max_clients = 3);
    let address = server.address();
    // A request of a terabyte, of which nothing is kept.
    let mut huge = client(address, None).unwrap();
    huge.get_mut().write_all(&[&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[1, 2, 3, 4]].concat()).unwrap();
    assert!(matches!(huge.read(), Ok(Message::Close(_)) | Err(_)));
    drop(huge);
    // Heads that never end.
    let slow: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut tcp = TcpStream::connect(address).unwrap();
            tcp.write_all(b"GET / HT").unwrap();
            tcp
        })
        .collect();
    // One who does not read.
    let mut deaf = client(address, None).unwrap();
    for _ in 0..50 {
        deaf.send(question(2.0)).unwrap();
    }
    let mut well = client(address, None).unwrap();
    let began = Instant::now();
    assert_eq!(ask(&mut well, 4.0), 8.0);
    assert!(began.elapsed() < Duration::from_secs(1));
    let third = client(address, None).unwrap();
    assert_eq!(status(&client(address, None).unwrap_err()), 503, "three are enough");
    drop(third);
    let again = Instant::now();
    while client(address, None).is_err() {
        assert!(again.elapsed() < Duration::from_secs(3), "who leaves makes room");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Text is not this protocol.
    deaf.close(None).unwrap();
    drop((slow, deaf));
    well.send(Message::text("{}")).unwrap();
    let Message::Close(Some(close)) = well.read().unwrap() else { panic!("expected a close") };
    assert_eq!(u16::from(close.code), 1003);
}
