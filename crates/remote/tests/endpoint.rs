//! A policy behind a hosted endpoint: what is asked over HTTP, and that no fault of a server, of a proxy or of the network becomes an
//! action.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod faulty;
mod posted;

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use asker::{Allowed, Asker, ROWS, keys, robot};
use data_encoding::BASE64;
use faulty::Network;
use posted::{Plan, Request, answer, start};
use serde_json::{Value as Json, json};
use sinew_core::{Observation, Policy as _, Timestamp};
use sinew_remote::{LinkReport, RemoteError, RemoteOptions, RemotePolicy, metadata};

const DEADLINE: Duration = Duration::from_millis(400);
const ALLOWED: Allowed = Allowed { late: Duration::from_millis(200), value: 1e-9, pause: Duration::from_millis(10) };

const KEYS: &str = "units = \"si\"\nprompt = \"prompt\"\n[[image]]\nkey = [\"images\", \"base\"]\ncamera = \"front\"\nsize = \"32x32\"\n\
                    [[state]]\nkey = \"state\"\ndtype = \"f64\"\n";

fn options(address: impl std::fmt::Display) -> RemoteOptions {
    let address = format!("http://{address}").parse().unwrap();
    RemoteOptions { keys: Some(keys(KEYS)), deadline: Some(DEADLINE), ..RemoteOptions::new(address) }
}

/// Each row's first number is the request's first of the state.
fn rows(request: &Request) -> Json {
    let state = request.json["inputs"]["state"][0].as_f64().unwrap();
    (0..ROWS).map(|row| json!([state, row as f64 * 0.01])).collect()
}

fn well(request: &Request) -> Vec<u8> {
    answer(200, "application/json", &json!({ "actions": rows(request) }).to_string())
}

/// What a server sends in place of the fifth answer, after two for the first look and two more.
fn with(plan: impl Fn(&Request) -> Plan + Send + Sync + 'static) -> (Asker, posted::Posted) {
    let server = start(move |request| if request.serial == 4 { plan(request) } else { Plan::Send(well(request)) });
    let mut asker = Asker::new(&options(server.address), ALLOWED);
    for _ in 0..2 {
        asker.ask().unwrap();
    }
    (asker, server)
}

type Make = Box<dyn Fn(&Request) -> Plan + Send + Sync>;

fn text(status: u16, kind: &'static str, body: impl Fn(&Request) -> String + Send + Sync + 'static) -> Make {
    Box::new(move |request| Plan::Send(answer(status, kind, &body(request))))
}

#[test]
fn whatever_a_server_does_the_next_answers_are_right_again() {
    type Counts = fn(&LinkReport) -> u64;
    let json = "application/json";
    let faults: Vec<(&str, Make, &str, Counts)> = vec![
        ("silence", Box::new(|_| Plan::Silence), "no answer", |report| report.missed),
        ("late", Box::new(|request| Plan::After(600, well(request))), "no answer", |report| report.late),
        ("cut", Box::new(|request| Plan::Cut(well(request))), "in the middle of an answer", |report| report.reconnects),
        ("closed", Box::new(|_| Plan::Cut(Vec::new())), "closed the connection", |report| report.reconnects),
        ("slow", Box::new(|request| Plan::Drip(30, well(request))), "no answer", |report| report.missed),
        ("wide", text(200, json, |_| json!([[1, 2, 3]]).to_string()), "rows of 3 values, expected 2", |report| report.refused),
        ("narrow", text(200, json, |_| json!({ "actions": [[1], [2]] }).to_string()), "rows of 1 values", |report| report.refused),
        ("ragged", text(200, json, |_| "[[1, 2], [3]]".into()), "parts of the shapes", |report| report.refused),
        ("NaN", text(200, json, |_| "{\"actions\": [[NaN, 1]]}".into()), "no JSON", |report| report.refused),
        ("beyond", text(200, json, |_| "[[1e400, 1]]".into()), "no JSON", |report| report.refused),
        ("null", text(200, json, |_| "[[null, 1]]".into()), "nothing", |report| report.refused),
        ("texts", text(200, json, |_| "[[\"1\", \"2\"]]".into()), "a text", |report| report.refused),
        ("empty", text(200, json, |_| String::new()), "no JSON", |report| report.refused),
        ("error", text(200, json, |_| "[{\"error\": \"CUDA\"}]".into()), "the server says: CUDA", |report| report.refused),
        ("HTML", text(200, "text/html", |_| "<html>".into()), "a web page", |report| report.errors),
        ("400", text(400, json, |_| "{\"error\": \"no camera\"}".into()), "400 Bad Request: no camera", |report| report.errors),
        ("500", text(500, "text/plain", |_| "Traceback\nValueError: x".into()), "ValueError: x", |report| report.errors),
        (
            "429",
            Box::new(|_| Plan::Send(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec())),
            "429 Too Many Requests",
            |report| report.errors,
        ),
        ("503", text(503, json, |_| "{\"error\": \"loading\"}".into()), "503 Service Unavailable: loading", |report| report.errors),
        (
            "huge",
            Box::new(|_| Plan::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n".to_vec())),
            "longer than 4 MiB",
            |report| report.reconnects,
        ),
        ("endless", Box::new(|_| Plan::Endless), "", |report| report.reconnects + report.missed),
        ("endless head", Box::new(|_| Plan::EndlessHead), "", |report| report.reconnects + report.missed),
        (
            "two lengths",
            Box::new(|_| Plan::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]".to_vec())),
            "two lengths",
            |report| report.reconnects,
        ),
        ("no HTTP", Box::new(|_| Plan::Send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())), "does not speak HTTP", |report| report.reconnects),
        (
            "gzip",
            Box::new(|_| Plan::Send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]".to_vec())),
            "nobody asked for",
            |report| report.reconnects,
        ),
    ];
    std::thread::scope(|scope| {
        for (name, plan, words, count) in faults {
            scope.spawn(move || {
                let (mut asker, _server) = with(plan);
                let why = asker.ask().expect_err(name);
                assert!(why.contains(words), "{name}: {why}");
                asker.is_back_within(Duration::from_secs(3));
                for _ in 0..10 {
                    asker.ask().unwrap_or_else(|why| panic!("after {name}: {why}"));
                }
                let report = asker.report();
                assert!(count(&report) > 0, "{name}: {report:?}");
            });
        }
    });
}

#[test]
fn every_legal_form_of_an_answer_is_read() {
    let chunked = |request: &Request| {
        let body = json!({ "action": [rows(request)] }).to_string();
        let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.as_bytes().chunks(7) {
            bytes.extend(format!("{:x};a=b\r\n", piece.len()).bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
        bytes
    };
    let forms: Vec<(&str, Make)> = vec![
        ("bare", text(200, "application/json", |request| rows(request).to_string())),
        ("in a list", text(201, "text/plain", |request| json!([{ "actions": rows(request) }]).to_string())),
        ("chunked", Box::new(move |request| Plan::Send(chunked(request)))),
        ("byte by byte", Box::new(move |request| Plan::Drip(0, chunked(request)))),
        (
            "until it closes",
            Box::new(|request| Plan::Cut([b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), rows(request).to_string().into_bytes()].concat())),
        ),
    ];
    for (name, plan) in forms {
        let (mut asker, _server) = with(plan);
        asker.ask().unwrap_or_else(|why| panic!("{name}: {why}"));
        asker.is_back_within(Duration::from_secs(1));
    }
}

#[test]
fn an_answer_that_is_given_twice_is_used_once() {
    for delay in [0, 20] {
        let (mut asker, _server) = with(|request| Plan::Send([well(request), well(request)].concat()));
        asker.ask().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        asker.is_back_within(Duration::from_secs(2));
        for _ in 0..10 {
            asker.ask().unwrap();
        }
        assert!(asker.report().reconnects >= 1, "{:?}", asker.report());
    }
}

#[test]
fn a_black_out_of_five_seconds_is_over_two_seconds_later() {
    let server = start(|request| Plan::Send(well(request)));
    let network = Network::before(server.address);
    let mut asker = Asker::new(&options(network.address), ALLOWED);
    asker.ask().unwrap();
    network.switch().store(true, SeqCst);
    let dark = Instant::now();
    let mut refused = 0;
    while dark.elapsed() < Duration::from_secs(5) {
        asker.ask().expect_err("in the dark");
        refused += 1;
    }
    assert!(refused > 20, "{refused}: who asks is told soon, not only at the deadline");
    network.switch().store(false, SeqCst);
    asker.is_back_within(Duration::from_secs(2));
    asker.ask().unwrap();
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_again() {
    let server = start(|request| Plan::Cut([b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), rows(request).to_string().into_bytes()].concat()));
    let mut asker = Asker::new(&options(server.address), ALLOWED);
    for _ in 0..10 {
        asker.is_back_within(Duration::from_secs(1));
    }
    assert!(server.connections.load(SeqCst) >= 12);
}

#[test]
fn what_is_sent_is_json_with_jpegs() {
    let server = start(|request| Plan::Send(well(request)));
    let url = format!("{}/predict?x=1", server.address);
    let options = RemoteOptions { token: Some("open-sesame".into()), ..options(url) };
    let robot = robot();
    let mut policy = RemotePolicy::connect(&options, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    observation.state.set(0, 0.1, Timestamp::ZERO);
    observation.state.set(1, -0.75, Timestamp::ZERO);
    observation.images[0].rgb.chunks_exact_mut(3).for_each(|pixel| pixel[0] = 200);
    policy.infer(&[observation], "say \"hello\"\n").unwrap();
    let seen = server.requests.lock().unwrap();
    let Request { head, json, .. } = seen.last().unwrap();
    assert_eq!(json["inputs"].as_object().unwrap().keys().collect::<Vec<_>>(), ["images", "state", "prompt"]);
    assert_eq!((&json["inputs"]["state"], &json["inputs"]["prompt"]), (&json!([0.1, -0.75]), &json!("say \"hello\"\n")));
    let jpeg = BASE64.decode(json["inputs"]["images"]["base"].as_str().unwrap().as_bytes()).unwrap();
    let image = image::load_from_memory(&jpeg).unwrap().to_rgb8();
    assert_eq!(image.dimensions(), (32, 32));
    // 4x3 in 32x32: bars of four rows, and red between.
    assert!(image.get_pixel(16, 1).0.iter().all(|value| *value < 30), "{:?}", image.get_pixel(16, 1));
    let [red, green, blue] = image.get_pixel(16, 16).0;
    assert!(red > 170 && green < 40 && blue < 40, "{red} {green} {blue}");
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "POST /predict?x=1 HTTP/1.1");
    for line in [&*format!("Host: {}", server.address), "Authorization: Bearer open-sesame", "Content-Type: application/json"] {
        assert!(lines.contains(&line), "{line}: {head}");
    }
}

#[test]
fn a_cold_start_is_waited_for_with_a_word() {
    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let server = start(|request| {
        Plan::Send(if request.serial < 3 {
            answer(503, "application/json", &json!({ "error": "Service is loading", "estimated_time": 20.0 }).to_string())
        } else {
            well(request)
        })
    });
    let began = Instant::now();
    let hear = |what: &str, _: Duration| HEARD.lock().unwrap().push(what.to_owned());
    let mut asker = Asker::new(&RemoteOptions { on_wait: Some(hear), ..options(server.address) }, ALLOWED);
    assert!(began.elapsed() > Duration::from_secs(2), "it is left alone for a second each time: {:?}", began.elapsed());
    let heard = HEARD.lock().unwrap();
    assert!(!heard.is_empty() && heard[0].contains("503 Service Unavailable: Service is loading"), "{heard:?}");
    asker.ask().unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), 3 + 2 + 1, "no question more than it takes");
}

#[test]
fn who_refuses_the_token_is_not_asked_again_and_again() {
    let server = start(|_| Plan::Send(answer(401, "application/json", "{\"error\": \"Invalid token wrong-one\"}")));
    let options = RemoteOptions { token: Some("wrong-one".into()), ..options(server.address) };
    let error = RemotePolicy::connect(&options, &robot()).unwrap_err();
    assert!(matches!(error, RemoteError::Probe { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("401 Unauthorized: Invalid token …") && !error.contains("wrong-one"), "{error}");
    assert_eq!(server.requests.lock().unwrap().len(), 1);

    let (mut asker, server) = with(|_| Plan::Send(answer(403, "text/plain", "no")));
    asker.ask().unwrap_err();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let why = asker.ask().unwrap_err();
        assert!(why.contains("403 Forbidden"), "{why}");
    }
    assert_eq!(server.requests.lock().unwrap().len(), 5);
}

#[test]
fn nothing_is_sent_to_where_a_server_redirects() {
    let elsewhere = start(|request| Plan::Send(well(request)));
    let place = format!("http://{}/x", elsewhere.address);
    for status in [301, 302, 303, 307, 308] {
        let place = place.clone();
        let server =
            start(move |_| Plan::Send(format!("HTTP/1.1 {status} Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n").into_bytes()));
        let options = RemoteOptions { token: Some("secret".into()), ..options(server.address) };
        let error = RemotePolicy::connect(&options, &robot()).unwrap_err().to_string();
        assert!(error.contains(&status.to_string()) && error.contains(&elsewhere.address.to_string()), "{error}");
        assert!(metadata(&options).unwrap_err().to_string().contains("sends to"));
    }
    assert_eq!(elsewhere.connections.load(SeqCst), 0);
}

#[test]
fn what_can_be_said_without_asking_is_said() {
    let says = |status, body: &'static str| {
        let server = start(move |_| Plan::Send(answer(status, "application/json", body)));
        let said = metadata(&options(server.address)).map(|(told, all)| (told.is_ours, all)).map_err(|error| error.to_string());
        assert!(server.requests.lock().unwrap()[0].head.starts_with("GET / HTTP/1.1\r\n"));
        said
    };
    let (is_ours, all) = says(200, "{\"message\": \"I am ready\"}").unwrap();
    assert_eq!((is_ours, all), (false, json!({ "get": "200 OK", "says": "I am ready" })));
    assert_eq!(says(405, "").unwrap().1["get"], "405 Method Not Allowed");
    assert_eq!(says(503, "{\"error\": \"loading\"}").unwrap().1["says"], "loading");
    assert!(says(404, "").unwrap_err().contains("404 Not Found"));
    assert!(says(401, "").unwrap_err().contains("401 Unauthorized"));
}

#[test]
fn a_key_map_that_jpegs_cannot_be_is_refused() {
    let server = start(|request| Plan::Send(well(request)));
    let chw = KEYS.replace("size = \"32x32\"", "layout = \"chw\"");
    let error = RemotePolicy::connect(&RemoteOptions { keys: Some(keys(&chw)), ..options(server.address) }, &robot()).unwrap_err();
    assert!(error.to_string().contains("JPEGs, which have no layout"), "{error}");
    assert!(server.requests.lock().unwrap().is_empty());
}
