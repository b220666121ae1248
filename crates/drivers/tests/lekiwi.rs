//! A LeKiwi's host and its client, on real sockets of this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod network;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::RealClock;
use network::lekiwi::{PERIOD, Playing, decode, encode, greeting, lekiwi, message, push, scripted_host, with_camera};
use network::{tick, until, wanted};
use sinew_core::{Armed, Cameras, Clock, DriveError, GateFault, Observation, Robot, RobotDescription, StopBehaviour, Unwatched, Validity};
use sinew_drivers::{LeKiwiCameras, LeKiwiClient, LeKiwiClientOptions, LeKiwiError, LeKiwiHost, LeKiwiHostOptions};

const TOKEN: &str = "a token of this test";

fn host(robot: &RobotDescription, clock: &Arc<RealClock>, lerobot_clients: bool) -> LeKiwiHost {
    let options = LeKiwiHostOptions {
        bind: lerobot_clients.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        command_port: 0,
        observation_port: 0,
        token: (!lerobot_clients).then(|| TOKEN.to_owned()),
        lerobot_clients,
        ..LeKiwiHostOptions::default()
    };
    LeKiwiHost::open(Arc::new(robot.clone()), &options, clock.clone()).unwrap()
}

fn options(host: &LeKiwiHost) -> LeKiwiClientOptions {
    let [command_port, observation_port] = host.addresses().map(|address| address.port());
    LeKiwiClientOptions { command_port, observation_port, token: Some(TOKEN.to_owned()), within: Duration::from_secs(5) }
}

fn connect(robot: &RobotDescription, options: &LeKiwiClientOptions, clock: &Arc<RealClock>) -> Result<LeKiwiClient, LeKiwiError> {
    LeKiwiClient::connect(Arc::new(robot.clone()), "127.0.0.1", options, None, clock.clone()).map(|(client, _)| client)
}

fn arm<'a>(client: &'a mut LeKiwiClient, clock: &'a RealClock, observation: &mut Observation) -> Armed<'a> {
    Armed::new(client, &Unwatched, clock, &tick(clock, 0, PERIOD), observation).unwrap()
}

fn turn(armed: &mut Armed<'_>, clock: &RealClock, goals: &[f64], observation: &mut Observation) -> Result<(), DriveError> {
    let _ = armed.read(&tick(clock, 1, PERIOD), observation);
    let wanted = wanted(armed.description(), goals, clock.now());
    let driven = armed.drive(Some(&wanted), observation, PERIOD.as_secs_f64()).map(|_| ());
    clock.sleep_until(clock.now() + PERIOD);
    driven
}

#[test]
fn a_client_drives_the_robot_of_a_host_and_a_client_that_is_gone_does_not() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let host = host(&robot, &clock, false);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    let mut client = connect(&robot, &options(&host), &clock).unwrap();
    assert_eq!((host.counts().commands, playing.goals()), (0, vec![0.0; 9]));
    let mut observation = Observation::for_robot(&robot);
    let mut armed = arm(&mut client, &clock, &mut observation);
    let mut goals = armed.commanded().to_vec();
    (goals[0], goals[5], goals[6], goals[8]) = (0.3, 0.2, 0.1, -0.4);
    let begin = Instant::now();
    // The robot is told what the client wants, as far as two gates let it.
    while playing.goals().iter().zip(&goals).any(|(is, goal)| (is - goal).abs() > 1e-6) {
        turn(&mut armed, &clock, &goals, &mut observation).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}, expected {goals:?}", playing.goals());
    }
    let value = observation.state.get(8).unwrap();
    assert!((value + 0.4).abs() < 0.1, "{value}");
    drop(armed);
    until("the base stands where the client stops", || playing.goals()[6..] == [0.0; 3]);

    let mut armed = arm(&mut client, &clock, &mut observation);
    goals = armed.commanded().to_vec();
    (goals[0], goals[6]) = (-0.5, 0.2);
    while playing.goals()[6] < 0.15 {
        turn(&mut armed, &clock, &goals, &mut observation).unwrap();
    }
    // A client that hangs: nothing stops it, and nothing more comes.
    let _hangs = std::mem::ManuallyDrop::new(armed);
    let (silent, at) = (Instant::now(), playing.goals()[0]);
    until("the base stands", || playing.goals()[6] == 0.0);
    assert!(silent.elapsed() > Duration::from_millis(300), "{:?}", silent.elapsed());
    let held = playing.goals()[0];
    std::thread::sleep(Duration::from_millis(100));
    assert!((playing.goals()[0] - held).abs() < 1e-9 && held <= at, "the arm holds: {held}, was {at}");
    assert_eq!(playing.body.lock().unwrap().stops, 0, "the host goes on");
}

#[test]
fn what_is_old_is_told_and_is_not_served_as_new() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let host = host(&robot, &clock, false);
    // The client's own patience is that of the robot.
    let mut quick = robot.clone();
    (quick.feedback.max_age_ms, quick.feedback.fault_age_ms) = (150, 500);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    let mut client = connect(&quick, &options(&host), &clock).unwrap();
    let mut observation = Observation::for_robot(&robot);
    let read = |client: &mut LeKiwiClient, observation: &mut Observation| {
        observation.age();
        client.finish_read(&tick(clock.as_ref(), 0, PERIOD), clock.now(), observation).unwrap();
    };
    until("all is fresh", || {
        read(&mut client, &mut observation);
        observation.state.readings().iter().all(|reading| reading.validity == Validity::Fresh)
    });
    // The host goes on, and its robot's bus is mute: the client is told what is missing.
    playing.body.lock().unwrap().is_mute = true;
    std::thread::sleep(Duration::from_millis(60));
    let before = client.counts().observations;
    until("it was told some times", || {
        read(&mut client, &mut observation);
        client.counts().observations > before + 5
    });
    let newest = observation.state.readings().iter().filter_map(|reading| reading.time).max().unwrap();
    assert!(clock.now().nanos_since(newest) > 60_000_000, "an observation without values makes none fresh");
    // It says nothing at all.
    let mut armed_observation = Observation::for_robot(&robot);
    playing.body.lock().unwrap().is_mute = false;
    drop(playing);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    until("it is heard again", || {
        read(&mut client, &mut observation);
        observation.state.readings()[0].validity == Validity::Fresh
    });
    let mut armed = arm(&mut client, &clock, &mut armed_observation);
    let goals = armed.commanded().to_vec();
    playing.body.lock().unwrap().is_over = true;
    let begin = Instant::now();
    let fault = loop {
        if let Err(error) = turn(&mut armed, &clock, &goals, &mut armed_observation) {
            break error;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nobody noticed");
    };
    assert!(matches!(fault, DriveError::Gate(GateFault::Silent { .. })), "{fault}");
    assert_eq!(armed_observation.state.readings()[0].validity, Validity::Missing);
}

#[test]
fn who_does_not_say_the_token_neither_commands_nor_observes() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let host = host(&robot, &clock, false);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    for token in [None, Some("another of that len"), Some("a token of this tesT")] {
        let within = Duration::from_millis(600);
        let error =
            connect(&robot, &LeKiwiClientOptions { token: token.map(str::to_owned), within, ..options(&host) }, &clock).err().unwrap();
        assert!(error.to_string().contains("refuses: expected the host's token"), "{error}");
    }
    // As LeRobot's client would.
    let mut lerobot = push(host.addresses()[0].port());
    let text = br#"{"x.vel":0.2,"y.vel":0,"theta.vel":0}"#;
    lerobot.write_all(&message(&[text])).unwrap();
    lerobot.read_to_end(&mut Vec::new()).unwrap_or_default();
    assert_eq!((host.counts().commands, playing.goals()), (0, vec![0.0; 9]));
    assert!(host.counts().refused_clients >= 7, "{:?}", host.counts());
}

#[test]
fn whoever_says_nothing_keeps_no_client_out() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let host = host(&robot, &clock, false);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    // Half of a greeting, and no more: as many as may be served, and 20 more a second on each port.
    let press = |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&[0xff, 0, 0]);
        stream
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for address in host.addresses() {
            let mut idle: Vec<TcpStream> = (0..8).map(|_| press(address)).collect();
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Relaxed) {
                    idle.push(press(address));
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let served = connect(&robot, &options(&host), &clock);
        let again = connect(&robot, &options(&host), &clock);
        is_over.store(true, Relaxed);
        assert!(served.is_ok() && again.is_ok(), "{:?} {:?}", served.err(), again.err());
    });
    // Many at once neither.
    let _flood: Vec<TcpStream> = (0..300).map(|_| press(host.addresses()[0])).collect();
    connect(&robot, &options(&host), &clock).unwrap();
    drop(playing);
}

#[test]
fn who_is_not_there_is_told_from_who_says_nothing() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let within = Duration::from_millis(600);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = LeKiwiClientOptions { command_port: free, observation_port: free, token: None, within };
    let error = connect(&robot, &nobody, &clock).err().unwrap();
    assert!(matches!(error, LeKiwiError::Silent { is_there: false, .. }), "{error}");
    let host = host(&robot, &clock, false);
    let error = connect(&robot, &LeKiwiClientOptions { within, token: None, ..options(&host) }, &clock).err().unwrap();
    assert!(matches!(error, LeKiwiError::Silent { is_there: true, .. }), "{error}");
    // Nobody plays the robot: a host that is served, and says nothing.
    let error = connect(&robot, &LeKiwiClientOptions { within, ..options(&host) }, &clock).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("0 observations") && !text.contains("LeKiwiCounts"), "{text}");
}

#[test]
fn lerobots_clients_are_served_where_that_was_said() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let host = host(&robot, &clock, true);
    let playing = Playing::start(&host, robot.clone(), &clock, None);
    let [commands, observations] = host.addresses().map(|address| address.port());
    let mut lerobot = push(commands);
    let text = br#"{"arm_shoulder_pan.pos":10,"x.vel":0.2,"y.vel":0,"theta.vel":30.0}"#;
    until("it is told", || {
        lerobot.write_all(&message(&[text])).unwrap();
        let goals = playing.goals();
        (goals[0] - 10_f64.to_radians()).abs() < 1e-6 && (goals[6] - 0.2).abs() < 1e-6 && (goals[8] - 30_f64.to_radians()).abs() < 1e-6
    });
    let mut stream = TcpStream::connect(("127.0.0.1", observations)).unwrap();
    stream.write_all(&greeting("PULL")).unwrap();
    let mut bytes = vec![0; 600];
    stream.read_exact(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"arm_gripper.pos\":") && text.contains("\"_cams\":[]") && text.contains("\"_sinew\":{\"seq\":"), "{text}");

    // Another one commands at the same time, and then things that are no commands.
    let refused = host.counts().refused_commands;
    let mut second = push(commands);
    lerobot.write_all(&message(&[br#"{"x.vel":0.2,"y.vel":0,"theta.vel":0}"#])).unwrap();
    second.write_all(&message(&[br#"{"x.vel":-0.2,"y.vel":0,"theta.vel":0}"#])).unwrap();
    until("it is refused", || host.counts().refused_commands > refused);
    for bad in [
        "",
        "[]",
        "{}",
        "{\"x.vel\":0.1}",
        "{\"x.vel\":0.1,\"y.vel\":0,\"theta.vel\":null}",
        "{\"x.vel\":1e999,\"y.vel\":0,\"theta.vel\":0}",
    ] {
        lerobot.write_all(&message(&[bad.as_bytes()])).unwrap();
    }
    until("they are refused", || host.counts().refused_commands >= refused + 7);
    assert!(playing.goals()[6] >= 0.0);
    // It listens to the second when the first was silent for long enough.
    until("the second is heard", || {
        second.write_all(&message(&[br#"{"x.vel":-0.2,"y.vel":0,"theta.vel":0}"#])).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        playing.goals()[6] < -0.1
    });
    // Strangers.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 200],
        &[0; 3],
        &greeting("PULL"),
        &[greeting("PUSH"), vec![2, 255, 255, 255, 255, 0, 0, 0, 0]].concat(),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", commands)).unwrap();
        let _ = stream.write_all(bytes);
    }
    let before = host.counts().commands;
    second.write_all(&message(&[text_of_rest()])).unwrap();
    until("it goes on", || host.counts().commands > before);
}

fn text_of_rest() -> &'static [u8] {
    br#"{"x.vel":0,"y.vel":0,"theta.vel":0}"#
}

#[test]
fn pictures_come_with_their_age_and_number() {
    let (robot, clock) = (with_camera(64, 48), RealClock::new());
    let host = host(&robot, &clock, false);
    let _playing = Playing::start(&host, robot.clone(), &clock, Some(Box::new(encode)));
    let connect = |robot: &RobotDescription| {
        LeKiwiClient::connect(Arc::new(robot.clone()), "127.0.0.1", &options(&host), Some(Box::new(decode)), clock.clone()).unwrap()
    };
    let (client, cameras) = connect(&robot);
    let mut cameras: LeKiwiCameras = cameras.unwrap();
    let mut observation = Observation::for_robot(&robot);
    let mut newest = |observation: &mut Observation| cameras.newest(&tick(clock.as_ref(), 0, PERIOD), &mut observation.images);
    until("there is a picture", || {
        newest(&mut observation).unwrap();
        observation.images[0].sequence > 0
    });
    let first = observation.images[0].clone();
    for (i, byte) in first.rgb.iter().enumerate().filter(|(i, _)| i / 3 % 64 % 8 > 1) {
        let expected = (i / 3 % 7 * 30) as i32;
        assert!((i32::from(*byte) - expected).abs() < 60, "{i}: {byte}, expected {expected}");
    }
    assert_eq!((first.width, first.height, first.rgb.len()), (64, 48, 64 * 48 * 3));
    let age_s = clock.now().nanos_since(first.captured_at) as f64 * 1e-9;
    assert!((0.0..3.0).contains(&age_s), "{age_s}");
    until("there is another", || {
        newest(&mut observation).unwrap();
        observation.images[0].sequence > first.sequence
    });
    assert!(observation.images[0].captured_at > first.captured_at);
    // Another size than the description says is an error.
    let (_client, other) = connect(&with_camera(32, 48));
    let mut other = other.unwrap();
    let mut small = Observation::for_robot(&with_camera(32, 48));
    let mut error = None;
    until("the size is noticed", || {
        error = other.newest(&tick(clock.as_ref(), 0, PERIOD), &mut small.images).err();
        error.is_some()
    });
    assert!(error.unwrap().to_string().contains("expected pictures of 32 by 48, found 64 by 48"));
    assert_eq!(client.counts().malformed, 0);
}

#[test]
fn what_a_host_should_not_say_harms_nobody() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let values = robot.state_names().iter().map(|name| format!("\"{name}\":1")).collect::<Vec<_>>().join(",");
    let fine = format!("{{{values},\"_cams\":[]}}");
    let commands = scripted_host(greeting("PULL"), false);
    let of = |rest: &[u8], ends: bool| {
        let observation_port = scripted_host([greeting("PUSH"), rest.to_vec()].concat(), ends);
        let options = LeKiwiClientOptions { command_port: commands, observation_port, token: None, within: Duration::from_millis(700) };
        connect(&robot, &options, &clock)
    };
    // One that sends no time is believed from when it arrives on.
    let mut client = of(&message(&[fine.as_bytes()]), false).unwrap();
    let mut observation = Observation::for_robot(&robot);
    client.finish_read(&tick(clock.as_ref(), 0, PERIOD), clock.now(), &mut observation).unwrap();
    assert!((observation.state.values()[0] - 1_f64.to_radians()).abs() < 1e-12);
    let bad = [
        b"".to_vec(),
        b"{".to_vec(),
        b"[1]".to_vec(),
        format!("{{{values},\"_sinew\":7,\"x.vel\":[]}}").into_bytes(),
        b"[".repeat(100_000),
    ];
    let client =
        of(&[bad.iter().flat_map(|text| message(&[text])).collect::<Vec<_>>(), message(&[fine.as_bytes()])].concat(), false).unwrap();
    assert_eq!((client.counts().malformed, client.counts().observations), (5, 1));
    // A part of the state is no state.
    let error = of(&message(&[br#"{"x.vel":0}"#]), false).err().unwrap();
    assert!(error.to_string().contains("expected an observation with arm_shoulder_pan.pos, "), "{error}");
    // Too much, too many, somebody else, nobody.
    let huge = [2, 0, 0, 0, 1, 0, 0, 0, 0].to_vec();
    let error = of(&huge, false).err().unwrap();
    assert!(error.to_string().contains("expected at most 16777216 bytes"), "{error}");
    let error = of(&message(&[&b""[..]; 40]), false).err().unwrap();
    assert!(error.to_string().contains("at most 17 parts"), "{error}");
    let error = of(&[], true).err().unwrap();
    assert!(error.to_string().contains("the host has closed the connection"), "{error}");
    let port = scripted_host(b"220 mail.example.org ESMTP says hello to everybody who connects, and a lot more\r\n".to_vec(), false);
    let options = LeKiwiClientOptions { command_port: port, observation_port: port, token: None, within: Duration::from_millis(300) };
    let error = connect(&robot, &options, &clock).err().unwrap();
    assert!(error.to_string().contains("expected ZeroMQ's greeting"), "{error}");
}

#[test]
fn after_a_host_was_away_the_robot_is_told_first_to_rest() {
    let (robot, clock) = (lekiwi(), RealClock::new());
    let first = host(&robot, &clock, false);
    let playing = Playing::start(&first, robot.clone(), &clock, None);
    let client_options = options(&first);
    let mut client = connect(&robot, &client_options, &clock).unwrap();
    let mut observation = Observation::for_robot(&robot);
    let mut armed = arm(&mut client, &clock, &mut observation);
    let mut goals = armed.commanded().to_vec();
    turn(&mut armed, &clock, &goals, &mut observation).unwrap();
    drop((playing, first));
    let again = LeKiwiHostOptions {
        command_port: client_options.command_port,
        observation_port: client_options.observation_port,
        token: Some(TOKEN.to_owned()),
        ..LeKiwiHostOptions::default()
    };
    let mut failed = false;
    until("the client notices", || {
        failed |= turn(&mut armed, &clock, &goals, &mut observation).is_err();
        failed
    });
    let second = LeKiwiHost::open(Arc::new(robot.clone()), &again, clock.clone()).unwrap();
    let playing = Playing::start(&second, robot.clone(), &clock, None);
    // Somebody has moved the arm meanwhile.
    playing.body.lock().unwrap().goals[0] = 0.05;
    (goals[0], goals[6]) = (-0.6, 0.2);
    let mut at_rest = None;
    until("a command comes", || {
        let driven = turn(&mut armed, &clock, &goals, &mut observation);
        if driven.is_ok() && at_rest.is_none() {
            at_rest = Some((armed.commanded()[0], armed.commanded()[6]));
        }
        second.counts().commands > 20
    });
    let (arm, base) = at_rest.unwrap();
    assert!(base == 0.0 && arm > -0.1, "{at_rest:?}");
}

#[test]
fn nobody_is_offered_a_robot_by_accident() {
    let (robot, clock) = (Arc::new(lekiwi()), RealClock::new());
    let any = LeKiwiHostOptions { command_port: 0, observation_port: 0, ..LeKiwiHostOptions::default() };
    let (all, token) = (Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), Some(TOKEN.to_owned()));
    for (options, expected) in [
        (any.clone(), "expected a token"),
        (LeKiwiHostOptions { bind: all, ..any.clone() }, "expected a token"),
        (LeKiwiHostOptions { token: Some("short".to_owned()), ..any.clone() }, "16 to 255 bytes"),
        (LeKiwiHostOptions { lerobot_clients: true, ..any.clone() }, "expected an explicit address"),
        (LeKiwiHostOptions { lerobot_clients: true, bind: all, token: token.clone(), ..any.clone() }, "found both"),
    ] {
        let error = LeKiwiHost::open(robot.clone(), &options, clock.clone()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let fine = LeKiwiHost::open(robot.clone(), &LeKiwiHostOptions { token: token.clone(), ..any.clone() }, clock.clone()).unwrap();
    assert!(fine.addresses().iter().all(|address| address.ip().is_loopback()));
    let taken = LeKiwiHostOptions { command_port: fine.addresses()[0].port(), token, ..any };
    let error = LeKiwiHost::open(robot.clone(), &taken, clock.clone()).err().unwrap();
    assert!(matches!(error, LeKiwiError::Bind { .. }), "{error}");
    let mut limp = lekiwi();
    limp.stop.behaviour = StopBehaviour::Limp;
    let error = connect(&limp, &LeKiwiClientOptions::default(), &clock).err().unwrap();
    assert!(error.to_string().contains("found arm_shoulder_pan limp"), "{error}");
}
