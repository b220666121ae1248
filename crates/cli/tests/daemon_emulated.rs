//! `sinew daemon` with an emulated arm behind a port, in real time: killed at any moment.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;
mod played;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::Desk;
use page::Daemon;
use played::Played;
use serde_json::{Value, json};

const EMULATED: [&str; 5] = ["so101", "--link", "follower", "--id", "one"];
const ARM: [&str; 6] = ["--robot", "so101", "--port", "follower", "--camera", "front=pattern,320x240@30"];

#[test]
fn killed_while_it_moves_the_arm_comes_to_its_safe_action() {
    let desk = Desk::new();
    let mut arm = Played::start(&desk, &EMULATED);
    let mut daemon = Daemon::start(&desk, &ARM);
    // Temperatures are asked for in turns.
    let state = daemon.wait("the arm", 10, |state| state["position"][0].is_number() && state["temperature_c"][0].is_number());
    assert!(state["trouble"].is_null(), "{state}");
    assert_eq!(arm.value("value gripper torque_enable"), 0, "nothing moves because it starts");
    daemon.post("/api/v1/work", &json!({"kind": "teleop"}));
    let state = daemon.wait("torque", 20, |state| state["armed"] == true);
    let mut operator = daemon.operator();
    let from = state["position"][0].as_f64().unwrap();
    daemon.steer(&mut operator, 0, from + 1.5, Duration::from_millis(500));
    daemon.signal("-KILL");
    daemon.exit(5);
    // The second process brings it there: the description says that it holds.
    let begun = Instant::now();
    let mut last = arm.value("value shoulder_pan present_position");
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = arm.value("value shoulder_pan present_position");
        if (now - last).abs() <= 1 && begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "it still moves");
        last = now;
    }
    let goal = arm.value("value shoulder_pan goal_position");
    assert!((goal - last).abs() < 40, "it holds where it is: goal {goal}, position {last}");
    assert_eq!(arm.value("value shoulder_pan torque_enable"), 1);
    // Another one may own it at once, and works.
    drop(daemon);
    let daemon = Daemon::start(&desk, &ARM);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    let end = daemon.ended(20);
    assert!(end["error"].is_null(), "{end}");
}

#[test]
fn killed_while_it_records_what_was_recorded_is_recovered() {
    let desk = Desk::new();
    let _arm = Played::start(&desk, &EMULATED);
    let record = json!({"kind": "record", "dataset": "killed", "instruction": "Wave.", "episodes": 2, "episode_s": 2, "reset_s": 0});
    {
        let daemon = Daemon::start(&desk, &ARM);
        daemon.wait("the arm", 10, |state| state["position"][0].is_number());
        let (status, untold) = daemon.try_post("/api/v1/work", &json!({"kind": "record", "dataset": "killed"}));
        assert!(status == 400 && untold["error"].as_str().unwrap().contains("instruction"), "{untold}");
        daemon.post("/api/v1/work", &record);
        daemon.wait("the second episode", 30, |state| {
            state["work"]["episode"] == 1 && state["work"]["phase"] == "running" && state["work"]["tick"].as_u64() > Some(20)
        });
        daemon.signal("-KILL");
    }
    let daemon = Daemon::start(&desk, &ARM);
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    let datasets = daemon.get("/api/v1/datasets");
    assert!(datasets[0]["name"] == "killed" && datasets[0]["episodes"] == 1, "{datasets}");
    daemon.post(
        "/api/v1/work",
        &json!({"kind": "record", "dataset": "killed", "instruction": "Wave.", "episodes": 1, "episode_s": 1, "reset_s": 0}),
    );
    let end = daemon.ended(30);
    assert!(end["error"].is_null(), "{end}");
    let episodes = daemon.get("/api/v1/datasets/killed");
    // One that was whole, what reached the disk of the one that was cut short, if anything did, and a new one.
    assert!((2..=3).contains(&episodes.as_array().unwrap().len()), "{episodes}");
    drop(daemon);
    desk.recorded("state/datasets/killed", "a killed daemon recorded");
}

#[test]
fn an_arm_that_is_not_there_is_told_and_found_when_it_comes() {
    let desk = Desk::new();
    drop(Played::start(&desk, &EMULATED));
    let daemon = Daemon::start(&desk, &ARM);
    let state = daemon.wait("trouble", 10, |state| state["trouble"].is_string());
    assert!(state["trouble"].as_str().unwrap().contains("follower"), "{state}");
    let (status, answer) = daemon.try_post("/api/v1/work", &json!({"kind": "teleop"}));
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("not connected"), "{answer}");
    let _arm = Played::start(&desk, &EMULATED);
    daemon.wait("the arm", 15, |state| state["trouble"].is_null() && state["position"][0].is_number());
}

/// Shows pictures as long as it is told to.
struct Camera {
    address: String,
    shows: Arc<AtomicBool>,
}

impl Camera {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let shows = Arc::new(AtomicBool::new(true));
        let seen = shows.clone();
        // A picture that is the last one once more is none.
        let jpegs = [30, 90, 150].map(|red| {
            let (mut jpeg, pixels) = (Vec::new(), image::RgbImage::from_pixel(320, 240, image::Rgb([red, 120, 30])));
            image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&pixels).unwrap();
            jpeg
        });
        std::thread::spawn(move || {
            for mut tcp in listener.incoming().flatten() {
                let (seen, jpegs) = (seen.clone(), jpegs.clone());
                std::thread::spawn(move || -> std::io::Result<()> {
                    drop(tcp.read(&mut [0; 4096]));
                    tcp.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")?;
                    for jpeg in jpegs.iter().cycle() {
                        if seen.load(SeqCst) {
                            write!(tcp, "--f\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
                            tcp.write_all(jpeg)?;
                            tcp.write_all(b"\r\n")?;
                        }
                        std::thread::sleep(Duration::from_millis(33));
                    }
                    Ok(())
                });
            }
        });
        Self { address, shows }
    }
}

#[test]
fn at_rest_an_arm_that_is_unplugged_and_a_camera_that_is_frozen_are_told_and_so_is_their_return() {
    let desk = Desk::new();
    let mut arm = Played::start(&desk, &EMULATED);
    let camera = Camera::start();
    let front = format!("front={},320x240@30", camera.address);
    let daemon = Daemon::start(&desk, &["--robot", "so101", "--port", "follower", "--id", "one", "--camera", &front]);
    let is_well = |state: &Value| state["trouble"].is_null() && state["position"][0].is_number() && state["image_age_s"][0].is_number();
    daemon.wait("all of it", 20, is_well);
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.state()["trouble"].is_null(), "nothing is wrong: {}", daemon.state());
    let told = |words: &str| {
        let begun = Instant::now();
        let state = daemon.wait(words, 10, |state| state["trouble"].as_str().is_some_and(|trouble| trouble.contains(words)));
        assert!(begun.elapsed() < Duration::from_millis(2500), "{words}: {:?}: {state}", begun.elapsed());
        let log = daemon.get("/api/v1/log").to_string();
        assert!(log.contains(words), "{log}");
    };
    let lines = |words: &str| {
        daemon.get("/api/v1/log").as_array().unwrap().iter().filter(|line| line["text"].as_str().unwrap().contains(words)).count()
    };
    arm.ask("unplug");
    told("does not answer");
    let (status, answer) = daemon.try_post("/api/v1/work", &json!({"kind": "teleop"}));
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("does not answer"), "{answer}");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lines("so101 does not answer"), 1, "it is told once");
    arm.ask("replug");
    daemon.wait("the arm", 10, is_well);
    assert_eq!(lines("all is there again"), 1, "{}", daemon.get("/api/v1/log"));
    camera.shows.store(false, SeqCst);
    told("camera front");
    camera.shows.store(true, SeqCst);
    daemon.wait("the camera", 10, is_well);
    assert_eq!(lines("all is there again"), 2);
    daemon.post("/api/v1/work", &json!({"kind": "teleop", "seconds": 1}));
    let end = daemon.ended(20);
    assert!(end["error"].is_null(), "{end}");
}

#[test]
fn the_daemons_own_leader_arm_leads_and_is_recorded() {
    let desk = Desk::new();
    let mut follower = Played::start(&desk, &EMULATED);
    let mut leader = Played::start(&desk, &["so101_leader", "--link", "leader", "--id", "one"]);
    let more = ["--teleop", "so101_leader", "--teleop-port", "leader"];
    let daemon = Daemon::start(&desk, &[&ARM[..], &more].concat());
    daemon.wait("the arm", 10, |state| state["position"][0].is_number());
    assert_eq!(daemon.get("/api/v1/robot")["teleoperator"], "so101_leader");
    let work = json!({"kind": "record", "leader": "own", "dataset": "led", "instruction": "Wave.", "episodes": 1, "episode_s": 3});
    daemon.post("/api/v1/work", &work);
    daemon.wait("the human", 30, |state| state["work"]["acting"] == "human" && state["work"]["tick"].as_u64() > Some(60));
    let apart = (follower.value("value wrist_flex present_position") - leader.value("value wrist_flex present_position")).abs();
    assert!(apart < 100, "it is where its leader is: {apart} ticks apart");
    // Goals from afar are for nobody then.
    let mut operator = daemon.operator();
    operator.send(tungstenite::Message::text(json!({"type": "goals", "goals": [0, 0, 0, 0, 0, 0]}).to_string())).unwrap();
    let refused = page::heard(&mut operator);
    assert!(refused["type"] == "refused" && refused["error"].as_str().unwrap().contains("leader remote"), "{refused}");
    drop(operator);
    let end = daemon.ended(30);
    assert!(end["error"].is_null() && end["episodes"][0]["kept"] == true, "{}", end["error"]);
    drop(daemon);
    desk.recorded("state/datasets/led", "a leader arm led a daemon's");
}
