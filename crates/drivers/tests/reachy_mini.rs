//! Reachy Mini against a daemon of its kind, on a real socket of this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod network;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::RealClock;
use network::{BY_HAND, Daemon, Mood, reachy_mini, tick, until, wanted};
use sinew_core::{Armed, Clock, DriveError, GateFault, Observation, RobotDescription, StopBehaviour, Unwatched, Validity};
use sinew_drivers::{ReachyMini, ReachyMiniError, TORQUE_LOST};

const PERIOD: Duration = Duration::from_millis(20);

fn connect(daemon: &Daemon, clock: &Arc<RealClock>, robot: RobotDescription) -> ReachyMini {
    ReachyMini::connect(Arc::new(robot), &daemon.address(), clock.clone()).unwrap()
}

/// What a session does at a tick; the goals are wanted now.
fn turn(armed: &mut Armed<'_>, clock: &RealClock, at: u64, goals: &[f64], observation: &mut Observation) -> Result<(), DriveError> {
    // The connection may be gone: what is known grows old.
    let _ = armed.read(&tick(clock, at, PERIOD), observation);
    let wanted = wanted(armed.description(), goals, clock.now());
    let driven = armed.drive(Some(&wanted), observation, PERIOD.as_secs_f64()).map(|_| ());
    clock.sleep_until(clock.now() + PERIOD);
    driven
}

fn index(names: &[String], name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap()
}

#[test]
fn nothing_moves_until_it_is_armed_and_then_as_it_is_told() {
    moves_as_it_is_told(reachy_mini(), 0.0);
    // A description that has the head on the body: a yaw of the body carries it.
    let mut carried = reachy_mini();
    carried.parts.iter_mut().find(|part| part.name.starts_with("head")).unwrap().parent = Some("body_yaw".into());
    moves_as_it_is_told(carried, 1.0);
}

/// `carries` is how much of the body's yaw the head's pose has in it.
fn moves_as_it_is_told(description: RobotDescription, carries: f64) {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let (state, action) = (description.state_names(), description.action_names());
    let mut robot = connect(&daemon, &clock, description.clone());
    assert_eq!(daemon.told(), Vec::<String>::new());
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap();
    assert_eq!(daemon.told(), ["set_automatic_body_yaw", "set_full_target", "set_motor_mode"]);
    {
        let body = daemon.body.lock().unwrap();
        // Told to stay where it was, and to have torque after that.
        assert_eq!((body.joints[0], body.antennas, body.mode.as_str()), (0.1, [-0.2, 0.2], "enabled"));
        assert!((body.head[0][0] - 1.0).abs() < 1e-12 && body.head[0][1].abs() < 1e-12);
    }
    // Where the body's yaw carries the head, 0.1 of it is -0.1 of the head that looks ahead.
    let head_yaw = observation.state.get(index(&state, "head.yaw")).unwrap();
    assert!((head_yaw + 0.1 * carries).abs() < 1e-9, "{head_yaw}");
    assert_eq!(observation.state.get(index(&state, "stewart_3.pos")), Some(0.7));
    // There is no IMU in this one.
    assert_eq!(observation.state.get(index(&state, "imu.gyro_z")), None);

    let mut goals = armed.commanded().to_vec();
    for (name, goal) in [("body_yaw.pos", 0.3), ("head.x", 0.01), ("head.yaw", 0.2), ("head.pitch", -0.1), ("right_antenna.pos", 0.5)] {
        goals[index(&action, name)] = goal;
    }
    for at in 1..60 {
        turn(&mut armed, &clock, at, &goals, &mut observation).unwrap();
    }
    for (name, goal) in action.iter().zip(&goals) {
        let value = observation.state.get(index(&state, name)).unwrap();
        assert!((value - goal).abs() < 1e-6, "{name}: {value}, expected {goal}");
    }
    {
        let body = daemon.body.lock().unwrap();
        // In the base's frame: what the body's yaw carries, and the head's own.
        let (yaw, carried) = (body.head[1][0].atan2(body.head[0][0]), 0.3 * carries);
        assert!((body.joints[0] - 0.3).abs() < 1e-6 && (yaw - 0.2 - carried).abs() < 1e-6, "{body:?}");
        assert!((body.head[0][3] - 0.01 * carried.cos()).abs() < 1e-6 && (body.head[1][3] - 0.01 * carried.sin()).abs() < 1e-6);
        assert!((body.antennas[0] - 0.5).abs() < 1e-6);
    }
    let before = daemon.told().len();
    let confirmed = armed.disarm();
    until("it is told to stop", || daemon.told().len() >= before + 2);
    // The antennas end without torque, the others where they are.
    let body = daemon.body.lock().unwrap();
    assert_eq!(body.told[before]["type"], "set_torque");
    assert_eq!(body.told[before]["ids"], serde_json::json!(["right_antenna", "left_antenna"]));
    assert_eq!(body.told[before]["on"], false);
    assert!((body.told[before + 1]["body_yaw"].as_f64().unwrap() - 0.3).abs() < 1e-6 && body.told[before + 1]["antennas"].is_null());
    // Where it was not confirmed in time it is told again.
    assert!(body.told.len() == before + 2 || confirmed.is_err());
    assert_eq!(body.mode, "enabled");
}

#[test]
fn a_stop_counts_when_the_daemon_has_read_it() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let description = reachy_mini();
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let begin = tick(clock.as_ref(), 0, PERIOD);
    // A busy machine may take longer than a stop may.
    until("a stop is confirmed", || {
        let armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &begin, &mut observation);
        armed.is_ok_and(|armed| armed.disarm().is_ok())
    });
    let armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &begin, &mut observation).unwrap();
    daemon.be(Mood::Stalled);
    std::thread::sleep(Duration::from_millis(50));
    let error = armed.disarm().unwrap_err();
    assert!(error.to_string().contains("did not confirm"), "{error}");
}

#[test]
fn what_all_ends_limp_has_its_motors_disabled() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let mut description = reachy_mini();
    description.stop.behaviour = StopBehaviour::Limp;
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    drop(Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap());
    until("the motors are off", || daemon.body.lock().unwrap().mode == "disabled");
}

#[test]
fn a_daemon_that_falls_silent_brakes_the_robot_and_then_ends_the_episode() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let mut description = reachy_mini();
    (description.feedback.max_age_ms, description.feedback.fault_age_ms) = (100, 400);
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap();
    let goals = armed.commanded().to_vec();
    daemon.be(Mood::Silent);
    let begin = Instant::now();
    let (mut at, mut missing_after) = (0, None);
    let fault = loop {
        at += 1;
        let driven = turn(&mut armed, &clock, at, &goals, &mut observation);
        if missing_after.is_none() && observation.state.readings()[0].validity == Validity::Missing {
            missing_after = Some(begin.elapsed());
        }
        if let Err(error) = driven {
            break error;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "nobody noticed");
    };
    assert!(matches!(fault, DriveError::Gate(GateFault::Silent { .. })), "{fault}");
    let missing_after = missing_after.unwrap();
    assert!(missing_after > Duration::from_millis(60), "{missing_after:?}: the description allows 100 ms");
    // After two seconds the connection counts as lost, and a new one is made.
    until("it is connected again", || daemon.body.lock().unwrap().connections == 2);
}

#[test]
fn after_a_connection_was_lost_the_robot_is_told_first_to_stay_where_it_is() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let description = reachy_mini();
    let action = description.action_names();
    let yaw = index(&action, "body_yaw.pos");
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap();
    let mut goals = armed.commanded().to_vec();
    turn(&mut armed, &clock, 1, &goals, &mut observation).unwrap();
    daemon.body.lock().unwrap().told.clear();
    daemon.be(Mood::Cut);
    goals[yaw] = -0.5;
    let (mut at, mut lost) = (1, 0);
    while !daemon.told().iter().rev().skip(2).any(|told| told == "set_automatic_body_yaw") {
        at += 1;
        match turn(&mut armed, &clock, at, &goals, &mut observation) {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                lost += 1;
            }
        }
        assert!(at < 500, "it is not connected again");
    }
    assert!(lost > 0 && daemon.body.lock().unwrap().connections == 2);
    let body = daemon.body.lock().unwrap();
    // One or two went out before the connection was cut; the first of the new one is where it is.
    let rest = body.told.iter().position(|told| told["type"] == "set_automatic_body_yaw").unwrap();
    assert_eq!(body.told[rest + 1]["body_yaw"], BY_HAND);
    let last = body.told.last().unwrap()["body_yaw"].as_f64().unwrap();
    assert!(body.told.len() == rest + 2 || last < BY_HAND, "then it goes on: {last}");
}

#[test]
fn what_a_daemon_should_not_say_harms_nobody() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let description = reachy_mini();
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let mut read = |robot: &mut ReachyMini| {
        use sinew_core::Robot;
        observation.age();
        let result = robot.finish_read(&tick(clock.as_ref(), 0, PERIOD), clock.now() + PERIOD, &mut observation);
        result.map(|()| observation.state.get(0).is_some())
    };
    daemon.be(Mood::Garbage);
    until("garbage was counted", || read(&mut robot).is_ok() && robot.counts().malformed > 20);
    assert_eq!((read(&mut robot), robot.counts().connections), (Ok(true), 1), "what made sense beside it counts");
    daemon.be(Mood::Huge);
    until("the connection is given up", || read(&mut robot).is_err());
    daemon.be(Mood::Closes);
    until("it was closed some times", || daemon.body.lock().unwrap().connections > 3);
    daemon.be(Mood::Deaf);
    std::thread::sleep(Duration::from_millis(300));
    assert!(read(&mut robot).is_err());
    daemon.be(Mood::Fine);
    until("it is fine again", || read(&mut robot) == Ok(true));
}

#[test]
fn a_socket_that_is_full_is_an_error_and_holds_nobody_up() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let description = reachy_mini();
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap();
    let goals = armed.commanded().to_vec();
    daemon.be(Mood::Stalled);
    let mut worst = Duration::ZERO;
    let mut found = None;
    for at in 1..200_000 {
        armed.read(&tick(clock.as_ref(), at, PERIOD), &mut observation).unwrap();
        let wanted = wanted(&description, &goals, clock.now());
        let begin = Instant::now();
        let driven = armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64());
        worst = worst.max(begin.elapsed());
        if let Err(error) = driven {
            found = Some(error);
            break;
        }
    }
    let found = found.unwrap();
    assert!(found.is_transient() && found.to_string().contains("full"), "{found}");
    // A processor may be busy with others; a socket that blocks does so until the daemon reads.
    assert!(worst < Duration::from_millis(500), "{worst:?}");
    // Nothing was torn: when the daemon reads again, it understands all of it.
    daemon.be(Mood::Fine);
    let before = daemon.told().len();
    until("it goes on", || {
        let _ = turn(&mut armed, &clock, 1, &goals, &mut observation);
        daemon.told().len() > before
    });
    assert_eq!(daemon.body.lock().unwrap().connections, 1);
}

#[test]
fn motors_that_somebody_switched_off_are_not_switched_on_again() {
    let (daemon, clock) = (Daemon::start(), RealClock::new());
    let description = reachy_mini();
    let mut robot = connect(&daemon, &clock, description.clone());
    let mut observation = Observation::for_robot(&description);
    let mut armed = Armed::new(&mut robot, &Unwatched, clock.as_ref(), &tick(clock.as_ref(), 0, PERIOD), &mut observation).unwrap();
    let goals = armed.commanded().to_vec();
    "disabled".clone_into(&mut daemon.body.lock().unwrap().mode);
    let mut at = 0;
    let error = loop {
        at += 1;
        match turn(&mut armed, &clock, at, &goals, &mut observation) {
            Ok(()) => assert!(at < 300, "nobody noticed"),
            Err(error) => break error,
        }
    };
    assert!(error.is_transient() && error.to_string().contains("not enabled"), "{error}");
    // A value that stands from before has no alert: the next one that the daemon sends has it.
    until("a fresh value says it", || {
        turn(&mut armed, &clock, at, &goals, &mut observation).unwrap_err();
        observation.state.readings().iter().any(|reading| reading.alert == TORQUE_LOST)
    });
    assert_eq!(daemon.body.lock().unwrap().mode, "disabled");
}

#[test]
fn what_cannot_be_driven_is_refused_with_what_was_expected() {
    let clock = RealClock::new();
    let refused = |robot: RobotDescription, address: &str| match ReachyMini::connect(Arc::new(robot), address, clock.clone()) {
        Err(error) => error,
        Ok(_) => panic!("{address} was connected to"),
    };
    let error = refused(reachy_mini(), "ws://127.0.0.1");
    assert!(matches!(error, ReachyMiniError::Address { .. }), "{error}");
    let error = refused(common::arm::so101(), "127.0.0.1");
    assert!(error.to_string().contains("found shoulder_pan.pos"), "{error}");
    let mut odd = reachy_mini();
    odd.parts.retain(|part| part.name != "left_antenna");
    let error = refused(odd, "127.0.0.1");
    assert!(error.to_string().contains("all or none of right_antenna.pos, left_antenna.pos"), "{error}");
    // Nobody listens there: the listener is gone.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(reachy_mini(), &format!("127.0.0.1:{port}"));
    assert!(error.to_string().contains("refused"), "{error}");
    let silent = Daemon::start();
    silent.be(Mood::Silent);
    let error = refused(reachy_mini(), &silent.address());
    assert!(matches!(error, ReachyMiniError::Silent { .. }), "{error}");
    let says = "it is connected, and said nothing of its joints and head pose; 0 of its messages made no sense";
    assert!(error.to_string().ends_with(says), "{error}");
}
