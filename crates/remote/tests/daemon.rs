//! A daemon against those who may not, those who are slow, and those who are many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod robot;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use robot::{heard, raw, served, tell};
use serde_json::json;
use sinew_core::service::{
    CalibrationAnswer, CalibrationState, DatasetItem, EpisodeItem, EpisodeWish, LogLine, PolicyItem, RobotInfo, State, StopWish, Task,
    TaskProgress, TaskState, Work, WorkEnd,
};
use sinew_remote::{Daemon, DaemonOptions, Keyring, RemoteError, wire};
use tungstenite::{Error, Message};

#[test]
fn a_page_that_somebody_has_opened_elsewhere_gets_nowhere() {
    let served = served(10);
    let key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let auth = format!("Authorization: Bearer {}\r\n", served.token);
    let body = "{\"stop\":\"emergency\"}";
    let post = |headers: &str| {
        let head =
            format!("POST /api/v1/stop HTTP/1.1\r\nHost: 127.0.0.1:8450\r\n{headers}{auth}Content-Length: {}\r\n\r\n{body}", body.len());
        raw(served.address(), head.as_bytes()).0
    };
    // What a page can send without asking first; the browser's own headers tell of it.
    assert_eq!(post("Origin: http://evil.example\r\nContent-Type: text/plain\r\n"), 403);
    assert_eq!(post("Origin: null\r\nContent-Type: application/json\r\n"), 403);
    assert_eq!(post("Sec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\n"), 403);
    assert_eq!(post("Sec-Fetch-Site: same-site\r\nContent-Type: application/json\r\n"), 403);
    assert_eq!(post("Origin: http://127.0.0.1:9999\r\nContent-Type: application/json\r\n"), 403, "another port is another origin");
    // Without them, as an old browser would.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        assert_eq!(post(&format!("Content-Type: {kind}\r\n")), 415, "{kind}");
    }
    for path in ["/api/v1/state/stream", "/api/v1/cameras/stream", "/api/v1/command"] {
        assert_eq!(served.get(path, &format!("{key}{auth}Origin: http://evil.example\r\n")).0, 403, "{path}");
    }
    assert_eq!(served.get("/", "Origin: http://evil.example\r\n").0, 403);
    // A link from another site leads to the page, and the page's own requests are heard.
    assert_eq!(served.get("/", "Sec-Fetch-Site: cross-site\r\n").0, 200);
    assert!(served.robot.stops.lock().unwrap().is_empty());
    assert_eq!(
        post("Origin: http://127.0.0.1:8450\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json; charset=utf-8\r\n"),
        200
    );
    assert_eq!(*served.robot.stops.lock().unwrap(), [StopWish::Emergency]);
    let (_, answer) = served.get("/api/v1/me", &format!("{auth}Origin: http://127.0.0.1:1\r\n"));
    assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
}

#[test]
fn a_name_that_somebody_else_has_for_the_address_is_refused() {
    let served = served(10);
    let with = |host: &str| {
        let request = format!("GET /api/v1/me HTTP/1.1\r\n{host}Authorization: Bearer {}\r\n\r\n", served.token);
        raw(served.address(), request.as_bytes()).0
    };
    for own in [
        "127.0.0.1",
        "127.0.0.1:8450",
        "10.0.0.7:80",
        "[::1]:8450",
        "[fe80::1]",
        "localhost",
        "LOCALHOST:1",
        "arm.local",
        "robot.example:8450",
    ] {
        assert_eq!(with(&format!("Host: {own}\r\n")), 200, "{own}");
    }
    for foreign in [
        "evil.example",
        "evil.example:8450",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        ".local",
        "x.localx",
        "evil.example#.local",
        "evil.example/.local",
        "a..local",
        "-a.local",
        "a b.local",
        "[evil]",
        "127.0.0.1:",
        "127.0.0.1:x",
        "[::1]x",
        "",
    ] {
        assert_eq!(with(&format!("Host: {foreign}\r\n")), 421, "{foreign}");
    }
    assert_eq!(with(""), 421, "without Host");
    assert_eq!(with("Host: localhost\r\nHost: evil.example\r\n"), 400);
}

#[test]
fn nobody_without_a_token_sees_or_moves_anything() {
    let served = served(10);
    for path in
        ["/api/v1/me", "/api/v1/state", "/api/v1/robot", "/api/v1/cameras/front.jpg", "/api/v1/log", "/api/v1/tasks", "/api/v1/devices"]
    {
        let (status, answer) = served.get(path, "");
        assert!(status == 401 && answer.contains("WWW-Authenticate: Bearer"), "{path}: {answer}");
    }
    for path in ["/", "/main.js", "/healthz", "/api/v1/openapi.json"] {
        assert_eq!(served.get(path, "").0, 200, "{path}");
    }
    let (_, page) = served.get("/", "");
    for header in ["Content-Security-Policy: default-src 'self'", "frame-ancestors 'none'", "Referrer-Policy: no-referrer", "nosniff"] {
        assert!(page.contains(header), "{page}");
    }
    let (_, welcome) = served.socket("/api/v1/state/stream", &json!({"token": "wrong"}));
    assert!(welcome["status"] == 401 && welcome["type"] == "error", "{welcome}");
    let (_, welcome) = served.socket("/api/v1/command", &json!({}));
    assert_eq!(welcome["status"], 401);
    // The sixth wrong token is one too many, and the right one is let in all the same.
    for status in [401, 401, 401, 401, 429, 429] {
        assert_eq!(served.get("/api/v1/me", "Authorization: Bearer wrong\r\n").0, status);
    }
    assert_eq!(served.ask("/api/v1/me").0, 200);
}

#[test]
fn each_role_may_what_it_may() {
    let served = served(10);
    let (look, operate) = (served.paired("look", "tablet"), served.paired("operate", "phone"));
    let work = json!({"kind": "teleop"}).to_string();
    assert_eq!(served.post("/api/v1/work", &look, "", &work).0, 403);
    assert_eq!(served.post("/api/v1/work", &operate, "", &work), (200, json!({"done": true})));
    assert_eq!(served.post("/api/v1/pairing", &operate, "", "{\"role\":\"administer\"}").0, 403);
    // Everybody who may look may stop.
    assert_eq!(served.post("/api/v1/stop", &look, "", "{\"stop\":\"now\"}").0, 200);
    assert_eq!(served.robot.stops.lock().unwrap().len(), 1);
    let (_, welcome) = served.socket("/api/v1/command", &json!({"token": look}));
    assert!(welcome["status"] == 403 && welcome["error"].as_str().unwrap().contains("tablet may look"), "{welcome}");
    let (_, devices) = served.ask("/api/v1/devices");
    assert_eq!(devices[1]["name"], "phone");
    let id = json!({"id": devices[1]["id"]}).to_string();
    // Who is revoked is driving just now.
    let (mut web, welcome) = served.socket("/api/v1/command", &json!({"token": operate}));
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    tell(&mut web, &json!({"type": "take"}));
    assert_eq!(heard(&mut web)["type"], "lease");
    let (mut states, _) = served.socket("/api/v1/state/stream", &json!({"token": operate}));
    assert_eq!(served.post("/api/v1/devices/revoke", &served.token, "", &id).0, 200);
    for web in [&mut web, &mut states] {
        let last = std::iter::repeat_with(|| heard(web)).find(|message| message["type"] == "error").unwrap();
        assert_eq!((&last["status"], &last["error"]), (&json!(401), &json!("this device was revoked")));
    }
    assert_eq!(served.post("/api/v1/work", &served.token, "", &work).0, 200, "nobody has the lease");
    assert_eq!(served.post("/api/v1/devices/revoke", &served.token, "", &id).0, 404);
    assert_eq!(served.post("/api/v1/work", &operate, "", &work).0, 401);
}

#[test]
fn bad_requests_are_told_what_was_expected() {
    let served = served(10);
    let post = |path: &str, body: &str| served.post(path, &served.token, "", body);
    for (path, body, status, words) in [
        ("/api/v1/work", "{}", 400, "kind"),
        ("/api/v1/work", "{\"kind\":\"fly\"}", 400, "fly"),
        ("/api/v1/work", "{\"kind\":\"teleop\",\"speed\":3}", 400, "speed"),
        ("/api/v1/work", "nonsense", 400, "reading the request"),
        ("/api/v1/stop", "{\"stop\":\"never\"}", 400, "never"),
        ("/api/v1/episode", "{\"wish\":\"keep\"}", 409, "nothing runs"),
        ("/api/v1/nothing", "{}", 404, "no such path"),
        ("/api/v1/me", "{}", 405, "method"),
    ] {
        let (found, problem) = post(path, body);
        assert!(found == status && problem["error"].as_str().unwrap().contains(words), "{path} {body}: {found} {problem}");
    }
    assert_eq!(served.ask("/api/v1/datasets/none").0, 404);
    assert_eq!(served.ask("/api/v1/cameras/back.jpg").0, 404);
    assert_eq!(served.ask("/api/v1/log?after=x").0, 400);
    assert_eq!(served.ask("/api/v1/log?after=7").1[0]["number"], 8);
    assert_eq!(served.ask("/api/v1/robot/meshes/../Cargo.toml").0, 404);
    // A service that panics costs its own connection alone.
    assert_eq!(served.ask("/api/v1/policies").0, 500);
    assert_eq!(served.ask("/api/v1/me").0, 200);
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let served = served(10);
    let begun = Instant::now();
    let head = format!(
        "POST /api/v1/work HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n",
        served.token
    );
    let mut tcp = TcpStream::connect(served.address()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    tcp.write_all(format!("{head}Content-Length: 1073741824\r\n\r\n").as_bytes()).unwrap();
    let piece = vec![b' '; 1 << 16];
    let sent = (0..1 << 14).take_while(|_| tcp.write_all(&piece).is_ok()).count();
    assert!(sent < 1 << 10, "{sent} pieces of 64 KiB were taken");
    let mut answer = String::new();
    // The end may come as a reset, as not all was read.
    drop(tcp.read_to_string(&mut answer));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let (status, _) = raw(served.address(), format!("{head}Content-Length: 1073741824\r\n\r\n").as_bytes());
    assert_eq!(status, 413);
    let (status, _) = raw(served.address(), format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").as_bytes());
    assert_eq!(status, 411);
    // A websocket's message of any length, too.
    let (mut web, _) = served.socket("/api/v1/command", &json!({"token": served.token}));
    drop(web.send(Message::text(" ".repeat(1 << 20))));
    assert!(std::iter::from_fn(|| Some(web.read())).take(5).any(|read| matches!(read, Err(_) | Ok(Message::Close(_)))));
}

#[test]
fn one_operator_at_a_time_who_has_to_be_heard() {
    let served = served(10);
    let (phone, laptop) = (served.paired("operate", "phone"), served.paired("operate", "laptop"));
    let (mut first, welcome) = served.socket("/api/v1/command", &json!({"token": phone}));
    assert_eq!((welcome["type"].as_str(), welcome["name"].as_str()), (Some("welcome"), Some("phone")));
    tell(&mut first, &json!({"type": "goals", "goals": [0.1]}));
    assert_eq!(heard(&mut first)["type"], "refused", "without a lease nothing moves");
    tell(&mut first, &json!({"type": "take"}));
    let lease = heard(&mut first);
    assert_eq!((lease["type"].as_str(), lease["dead_man_ms"].as_u64()), (Some("lease"), Some(300)));
    let lease = lease["lease"].as_str().unwrap().to_owned();

    let (mut second, _) = served.socket("/api/v1/command", &json!({"token": laptop}));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        tell(&mut first, &json!({"type": "alive"}));
        tell(&mut second, &json!({"type": "take"}));
        let refused = heard(&mut second);
        assert!(refused["error"].as_str().unwrap().contains("phone has the lease"), "{refused}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(served.ask("/api/v1/state").1["operator"], "phone");
    // While somebody has the lease, what an operator does needs it.
    let work = "{\"kind\":\"teleop\"}";
    tell(&mut first, &json!({"type": "alive"}));
    let (status, problem) = served.post("/api/v1/work", &laptop, "", work);
    assert!(status == 409 && problem["error"].as_str().unwrap().contains("phone"), "{problem}");
    let stolen = lease.chars().rev().collect::<String>();
    tell(&mut first, &json!({"type": "alive"}));
    assert_eq!(served.post("/api/v1/work", &laptop, &format!("Sinew-Lease: {stolen}\r\n"), work).0, 409);
    tell(&mut first, &json!({"type": "alive"}));
    assert_eq!(served.post("/api/v1/work", &phone, &format!("Sinew-Lease: {lease}\r\n"), work).0, 200);
    // But anybody stops.
    assert_eq!(served.post("/api/v1/stop", &laptop, "", "{\"stop\":\"now\"}").0, 200);
    tell(&mut first, &json!({"type": "goals", "goals": [0.2], "number": 7}));
    assert_eq!(heard(&mut first), json!({"type": "heard", "number": 7}));
    tell(&mut first, &json!({"type": "goals", "goals": [0.2, 0.3]}));
    assert_eq!(heard(&mut first)["type"], "refused");
    assert_eq!(*served.robot.goals.lock().unwrap(), [[0.2]]);

    // Silence ends it; the first is told, and what it sends then moves nothing.
    assert_eq!(heard(&mut first)["type"], "expired");
    tell(&mut second, &json!({"type": "take"}));
    assert_eq!(heard(&mut second)["type"], "lease");
    tell(&mut first, &json!({"type": "goals", "goals": [0.9]}));
    assert_eq!(heard(&mut first)["type"], "refused");
    assert_eq!(served.robot.goals.lock().unwrap().len(), 1);
    // Who goes gives it back at once.
    drop(second);
    let begun = Instant::now();
    loop {
        tell(&mut first, &json!({"type": "take"}));
        if heard(&mut first)["type"] == "lease" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_millis(250), "the lease of a socket that ended was kept");
    }
}

#[test]
fn hands_need_the_lease_and_are_stamped_in_order() {
    let served = served(10);
    let (phone, viewer) = (served.paired("operate", "phone"), served.paired("look", "viewer"));
    let (_, refused) = served.socket("/api/v1/command", &json!({"token": viewer}));
    assert_eq!(refused["status"], 403, "{refused}");
    let (mut web, _) = served.socket("/api/v1/command", &json!({"token": phone}));
    let hand = json!({"position_m": [0.1, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "enabled": true, "gripper": -0.5});
    let hands = |time_s: f64, hands: &[&serde_json::Value]| json!({"type": "hands", "time_s": time_s, "hands": hands, "number": 7});
    tell(&mut web, &hands(1.0, &[&hand]));
    assert_eq!(heard(&mut web)["type"], "refused", "without a lease nothing moves");
    tell(&mut web, &json!({"type": "take"}));
    assert_eq!(heard(&mut web)["type"], "lease");
    tell(&mut web, &hands(1.0, &[&hand]));
    assert_eq!(heard(&mut web), json!({"type": "heard", "number": 7}));
    for (wrong, words) in [(1.0, "expected more than the 1 of"), (0.5, "expected more than the 1 of"), (1e300, "the device's clock")] {
        tell(&mut web, &hands(wrong, &[&hand]));
        let refused = heard(&mut web);
        assert!(refused["type"] == "refused" && refused["error"].as_str().unwrap().contains(words), "{refused}");
    }
    tell(&mut web, &hands(1.1, &[]));
    assert!(heard(&mut web)["error"].as_str().unwrap().contains("found 0 hands"));
    // They keep the lease.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(600) {
        tell(&mut web, &hands(1.2 + begun.elapsed().as_secs_f64(), &[&hand]));
        assert_eq!(heard(&mut web)["type"], "heard");
        std::thread::sleep(Duration::from_millis(50));
    }
    // One that waited on its way is as old as that.
    tell(&mut web, &hands(1.2 + begun.elapsed().as_secs_f64() - 0.05, &[&hand]));
    assert_eq!(heard(&mut web)["type"], "heard");
    let held = served.robot.hands.lock().unwrap();
    let (by, poses, age) = held.last().unwrap();
    assert!((40..300).contains(&age.as_millis()) && held[0].2.is_zero() && held.iter().all(|one| one.0 == *by), "{age:?}");
    assert!(poses[0].tool.is_none() && poses[0].enabled && poses[0].position_m == [0.1, 0.0, 0.0] && poses[0].gripper == -0.5);
    drop(held);
    // What is none ends the socket, with a reason.
    for wrong in [
        r#"{"type":"hands","time_s":9,"hands":[{"position_m":[1,2],"rotation_wxyz":[1,0,0,0],"enabled":true}]}"#,
        r#"{"type":"hands","time_s":9,"hands":[{"position_m":[NaN,0,0],"rotation_wxyz":[1,0,0,0],"enabled":true}]}"#,
        r#"{"type":"hands","time_s":9,"hands":[{"position_m":[1e999,0,0],"rotation_wxyz":[1,0,0,0],"enabled":true}]}"#,
        r#"{"type":"hands","time_s":9,"hands":[{"position_m":[0,0,0],"rotation_wxyz":[1,0,0],"enabled":true}]}"#,
        r#"{"type":"hands","time_s":9,"hands":[{"position_m":[0,0,0],"rotation_wxyz":[1,0,0,0]}]}"#,
        r#"{"type":"hands","hands":[]}"#,
    ] {
        let (mut web, _) = served.socket("/api/v1/command", &json!({"token": phone}));
        web.send(Message::text(wrong)).unwrap();
        let error = heard(&mut web);
        assert!(error["type"] == "error" && error["status"] == 400, "{wrong}: {error}");
    }
}

/// Numbers of the images that came within a while, each acknowledged so much later.
fn watch(served: &robot::Served, later: Duration, within: Duration) -> Vec<u64> {
    let (mut web, welcome) = served.socket("/api/v1/cameras/stream", &json!({"token": served.token, "rate_hz": 100}));
    assert_eq!(welcome["type"], "welcome");
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while begun.elapsed() < within {
        let Message::Binary(bytes) = web.read().unwrap() else { continue };
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let head: serde_json::Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
        assert_eq!(bytes.len() - 4 - length, served.robot.image_bytes);
        seen.push(head["sequence"].as_u64().unwrap());
        std::thread::sleep(later);
        tell(&mut web, &json!({"ack": head["number"]}));
    }
    seen
}

#[test]
fn images_are_compressed_once_for_all_and_come_as_fast_as_they_are_acknowledged() {
    let served = served(20_000);
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let viewers: Vec<_> = (0..4).map(|_| scope.spawn(|| watch(&served, Duration::ZERO, Duration::from_secs(1)).len())).collect();
        viewers.into_iter().map(|viewer| viewer.join().unwrap()).collect()
    });
    let encoded = served.robot.encoded.load(SeqCst);
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    assert!(encoded <= 130, "{encoded} images were compressed in a second of 100, for {counts:?}");
    // Who is slow sees the newest, not what piled up.
    let seen = watch(&served, Duration::from_millis(150), Duration::from_secs(2));
    let gaps: Vec<u64> = seen.windows(2).skip(4).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (8..40).contains(gap)), "each is about 15 images after the one before: {gaps:?}");
}

#[test]
fn who_does_not_read_loses_images_and_then_the_connection() {
    let served = served(400_000);
    let (mut states, _) = served.socket("/api/v1/state/stream", &json!({"token": served.token, "rate_hz": 100}));
    let (web, _) = served.socket("/api/v1/cameras/stream", &json!({"token": served.token, "rate_hz": 100}));
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let encoded = served.robot.encoded.load(SeqCst);
    assert!(encoded < 10, "{encoded} images were compressed for somebody who takes none");
    // Others see all meanwhile.
    let first = heard(&mut states)["sequence"].as_u64().unwrap();
    for _ in 0..20 {
        heard(&mut states);
    }
    assert!(heard(&mut states)["sequence"].as_u64().unwrap() > first);
    drop(states);
    let mut tcp = web.into_inner();
    std::thread::sleep(Duration::from_secs(12).saturating_sub(begun.elapsed()));
    let mut piece = vec![0; 1 << 16];
    let mut read = 0;
    let ended = loop {
        match tcp.read(&mut piece) {
            Ok(0) | Err(_) => break true,
            Ok(count) => read += count,
        }
        if begun.elapsed() > Duration::from_secs(18) {
            break false;
        }
    };
    assert!(ended, "after {read} bytes it was still there");
    assert!(read < 8 << 20, "{read} bytes were kept for it");
}

#[test]
fn who_does_not_read_for_a_while_gets_the_newest_states_then() {
    let served = served(1000);
    let (mut web, _) = served.socket("/api/v1/state/stream", &json!({"token": served.token, "rate_hz": 100}));
    heard(&mut web);
    std::thread::sleep(Duration::from_secs(4));
    let now = served.ask("/api/v1/state").1["sequence"].as_u64().unwrap();
    // States are 10 ms apart.
    let old = (0..50).map(|_| heard(&mut web)["sequence"].as_u64().unwrap()).filter(|seen| *seen + 50 < now).count();
    assert!(old <= 3, "{old} states were older than half a second");
    // Who takes none at all is told so in the end, and sent away.
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(12));
    let mut tcp = web.into_inner();
    tcp.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut all = Vec::new();
    tcp.read_to_end(&mut all).unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("\"status\":408,\"error\":\"no ping was answered for ten seconds\""), "{all}");
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
}

#[test]
fn sixty_four_sockets_of_a_device_keep_no_other_out() {
    let served = served(1000);
    let phone = served.paired("operate", "phone");
    let sockets: Vec<_> = (0..64).map(|_| served.socket("/api/v1/command", &json!({"token": phone}))).collect();
    assert!(sockets.iter().all(|(_, welcome)| welcome["type"] == "welcome"));
    for path in ["/api/v1/command", "/api/v1/state/stream"] {
        let (_web, welcome) = served.socket(path, &json!({"token": served.token}));
        assert_eq!(welcome["type"], "welcome", "{path}: {welcome}");
    }
    let (_web, welcome) = served.socket("/api/v1/command", &json!({"token": phone}));
    assert_eq!(welcome["type"], "welcome", "the phone's own next: {welcome}");
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() {
    let served = served(1000);
    let (mut operator, _) = served.socket("/api/v1/command", &json!({"token": served.token}));
    tell(&mut operator, &json!({"type": "take"}));
    assert_eq!(heard(&mut operator)["type"], "lease");
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    let (mut idle, mut slowest) = (Vec::new(), Duration::ZERO);
    for number in 0..1000 {
        let mut tcp = TcpStream::connect(served.address()).unwrap();
        // Some say something, and no more.
        if number % 3 == 0 {
            drop(tcp.write_all(b"GET / HTTP/1.1\r\nHost: "));
        }
        idle.push(tcp);
        if number % 50 == 0 {
            let begun = Instant::now();
            tell(&mut operator, &json!({"type": "goals", "goals": [0.1], "number": number}));
            assert_eq!(heard(&mut operator), json!({"type": "heard", "number": number}));
            assert_eq!(served.ask("/api/v1/me").0, 200);
            slowest = slowest.max(begun.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(threads() < before + 300, "{} threads, {before} before", threads());
    tell(&mut operator, &json!({"type": "stop", "stop": "now"}));
    let begun = Instant::now();
    while served.robot.stops.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(1));
    }
    // They are sent away by themselves.
    std::thread::sleep(Duration::from_secs(6));
    assert!(threads() < before + 20, "{} threads, {before} before", threads());
}

/// What the guide shows can be sent, and is what is answered.
#[test]
fn the_examples_of_the_guide_are_the_interface() {
    fn is<T: serde::de::DeserializeOwned>(text: &str) -> bool {
        serde_json::from_str::<T>(text).inspect_err(|error| println!("{error}")).is_ok()
    }
    let guide = include_str!("../../../docs/daemon.md");
    let blocks: Vec<&str> = guide.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let mut seen = 0;
    for block in &blocks {
        // Several in a block are one a line.
        let texts: Vec<&str> = if serde_json::from_str::<serde_json::Value>(block).is_ok() { vec![block] } else { block.lines().collect() };
        for text in texts {
            let value: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let first = value.as_array().map_or(&value, |list| &list[0]);
            let has = |keys: &[&str]| keys.iter().all(|key| first.get(key).is_some());
            let is_good = match () {
                () if has(&["kind"]) => is::<Work>(text) || is::<Task>(text),
                () if has(&["answers", "step"]) => is::<CalibrationState>(text),
                () if has(&["number", "answer"]) => is::<CalibrationAnswer>(text),
                () if has(&["done_bytes"]) => is::<TaskProgress>(text),
                () if has(&["number"]) && first.as_object().is_some_and(|fields| fields.len() == 1) => is::<wire::Begun>(text),
                () if has(&["wish"]) => is::<EpisodeWish>(text),
                () if has(&["sequence", "mode"]) => is::<State>(text),
                () if has(&["rate_hz", "parts"]) => is::<RobotInfo>(text),
                () if has(&["number", "episodes"]) => is::<WorkEnd>(text),
                () if has(&["number", "task"]) => is::<Vec<TaskState>>(text),
                () if has(&["number", "camera"]) => is::<wire::ShotHead>(text),
                () if has(&["robot_type"]) => is::<Vec<DatasetItem>>(text),
                () if has(&["index"]) => is::<Vec<EpisodeItem>>(text),
                () if has(&["policy", "commits"]) => is::<Vec<PolicyItem>>(text),
                () if has(&["time_ms"]) => is::<Vec<LogLine>>(text),
                () if has(&["stop"]) && !has(&["type"]) => is::<wire::Stop>(text),
                () if has(&["seconds_left"]) => is::<wire::Pairing>(text),
                () if has(&["code"]) => is::<wire::Pair>(text),
                () if has(&["paired_s"]) => is::<Vec<wire::Device>>(text),
                () if has(&["fingerprint"]) => is::<wire::Certificate>(text),
                () if has(&["id"]) => is::<wire::Revoke>(text),
                () if has(&["token"]) => is::<wire::Hello>(text) || is::<wire::Paired>(text),
                () if has(&["type"]) => is::<wire::Command>(text) || is::<wire::CommandMessage>(text),
                () => panic!("what is this? {text}"),
            };
            assert!(is_good, "{text}");
            seen += 1;
        }
    }
    assert!(seen > 35, "{seen} examples");
}

#[test]
fn a_daemon_ends_its_sockets_and_its_port_is_free_again() {
    let mut served = served(10);
    let address = served.address();
    let folder = tempfile::tempdir().unwrap();
    let options = || DaemonOptions { listen: address, hosts: Vec::new(), version: "0".into(), https: None };
    let open = || Keyring::open(folder.path()).unwrap().0;
    assert!(matches!(Daemon::serve(options(), open(), served.robot.clone()), Err(RemoteError::Listen { .. })), "the port is in use");
    let (mut web, _) = served.socket("/api/v1/state/stream", &json!({"token": served.token}));
    let begun = Instant::now();
    drop(served.daemon.take());
    assert!(begun.elapsed() < Duration::from_secs(3));
    let last = std::iter::from_fn(|| web.read().ok().map(Some).or(Some(None))).take(200).take_while(Option::is_some).flatten().last();
    assert!(matches!(last, Some(Message::Close(_))), "{last:?}");
    assert!(matches!(web.read(), Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_))));
    Daemon::serve(options(), open(), served.robot.clone()).unwrap();
}
