//! An arm of emulated motors, driven through the one door.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::time::{Duration, Instant};

use common::arm::{ARM, Loop, PERIOD, arm, calibration, connect, options, so101, try_connect, wanted, with_stop};
use common::{Bench, light};
use sinew_core::{Clock, Observation, Robot, StopBehaviour, Tick, Validity};
use sinew_drivers::tables::STS3250;
use sinew_drivers::{ArmOptions, ConnectError, MotorId, Register, STS3215, SerialArm, WhenLost};
use sinew_emulator::{Asked, Event, Fault, Log, Options, Rates, Robot as Emulated};

fn writes(log: &Log) -> usize {
    log.count(|entry| matches!(entry.asked, Asked::Write { .. } | Asked::SyncWrite { .. }))
}

#[test]
fn connecting_writes_what_differs_and_nothing_else() {
    let bench = Bench::so101();
    let first = connect(&bench, so101());
    let changes = &first.report().changes;
    let of_gripper: Vec<_> = changes
        .iter()
        .filter(|change| change.part == "gripper")
        .map(|change| (change.register.name(), change.found, change.written))
        .collect();
    assert!(of_gripper.contains(&("return_delay_time", 250, 0)) && of_gripper.contains(&("max_torque_limit", 1000, 500)), "{of_gripper:?}");
    assert!(of_gripper.contains(&("min_position_limit", 0, 700)), "{of_gripper:?}");
    assert_eq!(first.report().firmware, [("sts3215", "3.10".to_owned())]);
    drop(first);
    let log = bench.emulator.take_log();
    assert!(log.writes(&STS3215, Register::TorqueEnable).is_empty());
    // What was written is kept when the motor loses its power.
    for name in ARM {
        bench.emulator.happen(Event::Restart(name.into())).unwrap();
    }
    let second = connect(&bench, so101());
    let volatile: Vec<&str> = second.report().changes.iter().map(|change| change.register.name()).collect();
    assert_eq!(volatile, ["acceleration"; 6]);
    drop(second);
    bench.emulator.take_log();
    let third = connect(&bench, so101());
    assert!(third.report().changes.is_empty());
    let log = bench.emulator.log();
    assert_eq!((writes(&log), log.garbage, log.collisions), (0, 0, 0));
}

#[test]
fn what_is_not_as_described_is_refused_by_name() {
    let says = |error: ConnectError| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    };
    let bench = Bench::so101();
    bench.emulator.happen(Event::Die("elbow_flex".into())).unwrap();
    let error = says(try_connect(&bench, so101()).err().unwrap());
    assert_eq!(
        error,
        "connecting so101: no answer from elbow_flex (motor 3 on bus arm, after shoulder_lift); shoulder_pan, shoulder_lift, wrist_flex, \
         wrist_roll, gripper answered; check its cable and its id"
    );

    let mut other = light(Emulated::so101_follower());
    other.joints[1].table = &STS3250;
    let bench = Bench::new(&other, Options::default());
    let error = says(try_connect(&bench, so101()).err().unwrap());
    assert_eq!(
        error,
        "connecting so101: shoulder_lift (motor 2 on bus arm, after shoulder_pan): expected a sts3215 (model number 777), found a sts3250 (2825)"
    );

    let bench = Bench::so101();
    let refuses = ArmOptions { writes_calibration: false, ..options(&bench, &so101()) };
    let error = SerialArm::connect(so101().into(), &refuses, &calibration(), bench.clock.clone()).err().unwrap();
    assert!(says(error).contains("gripper has min_position_limit = 0, the file 700"));
    assert_eq!(writes(&bench.emulator.log()), 0);

    bench.emulator.motor("gripper", |motor| motor.put(Register::FirmwareMinorVersion, 9)).unwrap();
    let error = says(try_connect(&bench, so101()).err().unwrap());
    assert!(error.contains("3.10 in wrist_roll, 3.9 in gripper"), "{error}");
    bench.emulator.motor("gripper", |motor| motor.put(Register::FirmwareMinorVersion, 10)).unwrap();

    bench.emulator.motor("gripper", |motor| motor.put(Register::TorqueEnable, 1)).unwrap();
    let error = try_connect(&bench, so101()).err().unwrap();
    assert!(matches!(&error, ConnectError::HasTorque { part, .. } if part.starts_with("gripper (motor 6")), "{error}");
    assert_eq!(bench.emulator.register("gripper", Register::TorqueEnable).unwrap(), 1);

    let no_port = ArmOptions { ports: Vec::new(), ..options(&bench, &so101()) };
    let error = SerialArm::connect(so101().into(), &no_port, &calibration(), bench.clock.clone()).err().unwrap();
    assert!(says(error).ends_with("expected a port for its bus arm, found none"));
}

#[test]
fn torque_never_makes_it_jump() {
    let bench = Bench::new(&Emulated::so101_follower(), Options::default());
    let mut robot = connect(&bench, so101());
    for name in ARM {
        bench.emulator.motor(name, |motor| motor.put(Register::GoalPosition, 2500)).unwrap();
    }
    bench.emulator.take_log();
    let before: Vec<f64> = ARM.iter().map(|name| bench.emulator.motor(name, |motor| motor.position()).unwrap()).collect();
    let mut observation = Observation::for_robot(&so101());
    let armed = arm(&bench, &mut robot, &mut observation);
    std::thread::sleep(Duration::from_millis(300));
    for (name, before) in ARM.iter().zip(before) {
        let now = bench.emulator.motor(name, |motor| motor.position()).unwrap();
        // Less than 3 degrees, by which gravity has it yield.
        assert!((now - before).abs() < 34.0, "{name}: from {before} to {now}");
        assert_eq!(bench.emulator.register(name, Register::TorqueEnable).unwrap(), 1);
    }
    let log = bench.emulator.log();
    let (goals, torques) = (log.writes(&STS3215, Register::GoalPosition), log.writes(&STS3215, Register::TorqueEnable));
    for id in 1..=6 {
        let (at, _, value) = torques.iter().find(|(_, motor, _)| *motor == id).unwrap();
        assert_eq!(*value, 1);
        let goal = goals.iter().rfind(|(when, motor, _)| motor == &id && when < at).unwrap();
        assert_ne!(goal.2, 2500);
    }
    drop(armed);
}

#[derive(Debug, Default)]
struct Drive {
    ticks: usize,
    missed: usize,
    wrong: usize,
    retries: usize,
    unsent: usize,
    sync_reads: usize,
    sync_writes: usize,
}

/// Drives it around for `seconds` at 60 Hz.
fn drive(bench: &Bench, seconds: f64) -> Drive {
    let mut robot = connect(bench, so101());
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(bench, &mut robot, &mut observation);
    let start = observation.state.values().to_vec();
    let mut drive = Drive::default();
    let mut turns = Loop::new(bench);
    bench.emulator.take_log();
    while (turns.turn as f64) * PERIOD.as_secs_f64() < seconds {
        let tick = turns.tick(bench);
        let time_s = tick.turn as f64 * PERIOD.as_secs_f64();
        armed.read(&tick, &mut observation).unwrap();
        drive.retries += usize::try_from(observation.bus_retries).unwrap();
        let log = bench.emulator.take_log();
        for (channel, (name, id)) in ARM.iter().zip(1..).enumerate() {
            if observation.state.readings()[channel].validity == Validity::Missing {
                drive.missed += 1;
                continue;
            }
            let value = observation.state.values()[channel];
            let found = match *name {
                "gripper" => 700.0 + (value + 0.174_533) / (1.745_329_2 + 0.174_533) * 2700.0,
                "wrist_roll" => 2047.5 + value * 4095.0 / std::f64::consts::TAU,
                _ => 2050.0 + value * 4095.0 / std::f64::consts::TAU,
            };
            // What the motor said, whatever came of it on the way.
            // Who owes an answer is asked for what lies before its position, too.
            let ends_there = |asked: &Asked| match asked {
                Asked::SyncRead { block, .. } | Asked::Read(block) => block.address + u16::from(block.len) == 58,
                _ => false,
            };
            let said = log.entries.iter().filter(|entry| ends_there(&entry.asked));
            let mut said = said.flat_map(|entry| &entry.said).filter(|said| said.id == id && said.data.len() >= 2);
            let is_it = |data: &[u8]| {
                STS3215.decode(Register::PresentPosition, MotorId(id.into()), 56, data).is_ok_and(|said| f64::from(said) == found.round())
            };
            if !said.any(|said| is_it(&said.data[said.data.len() - 2..])) {
                drive.wrong += 1;
                println!("{name} is at {found}, which it never said");
            }
        }
        let goals: Vec<f64> = start.iter().map(|start| start + 0.15 * (1.0 - (time_s * 2.0).cos())).collect();
        // A machine that is busy may let the whole tick pass before the goals are sent.
        if let Err(error) = armed.drive(Some(&wanted(&so101(), &goals, bench.clock.now())), &observation, PERIOD.as_secs_f64()) {
            assert!(error.is_transient(), "{error}");
            drive.unsent += 1;
        }
        drive.ticks += 1;
        (drive.sync_reads, drive.sync_writes) = (drive.sync_reads + log.sync_reads(), drive.sync_writes + log.sync_writes());
    }
    let log = bench.emulator.take_log();
    (drive.sync_reads, drive.sync_writes) = (drive.sync_reads + log.sync_reads(), drive.sync_writes + log.sync_writes());
    let motors = health.motors();
    assert!(motors.iter().all(|motor| motor.temperature_c.is_some() && motor.voltage_v.is_some() && motor.resets == 0), "{motors:?}");
    drop(armed);
    drive
}

#[test]
fn a_tick_is_one_read_and_one_write() {
    let bench = Bench::so101();
    let drive = drive(&bench, 2.0);
    println!("{drive:?}");
    assert_eq!(drive.wrong, 0);
    // Where the machine is so busy that the emulator answers too late, it is asked again, and may be spoken to while it
    // answers.
    let slack = drive.retries + drive.missed + drive.unsent;
    // The log of the last tick may lack what has just been sent.
    assert!((drive.ticks - 1..=drive.ticks + slack).contains(&drive.sync_reads), "{drive:?}");
    assert!((drive.ticks - 1 - slack.min(drive.ticks - 1)..=drive.ticks).contains(&drive.sync_writes), "{drive:?}");
}

fn survives(loss: f64, seconds: f64) {
    let bench = Bench::so101();
    // Connecting has its own tests, and no time limit to speak of.
    drop(connect(&bench, so101()));
    bench.emulator.happen(Event::Rates(Rates { drop: loss, flip_bit: 0.001, ..Rates::default() })).unwrap();
    let drive = drive(&bench, seconds);
    println!("{} % lost, 0.1 % flipped: {drive:?}", 100.0 * loss);
    assert_eq!(drive.wrong, 0);
    // Most of what is missed is the machine's, when it is busy.
    assert!((drive.missed as f64) < 0.2 * 6.0 * drive.ticks as f64, "{drive:?}");
}

#[test]
fn lost_answers_end_nothing() {
    for loss in [0.001, 0.01, 0.05] {
        survives(loss, 3.0);
    }
}

/// `cargo test --release -p sinew-drivers --test serial_arm -- --ignored --nocapture`
#[test]
#[ignore = "takes four minutes"]
fn lost_answers_end_nothing_in_minutes() {
    for loss in [0.0, 0.001, 0.01, 0.05] {
        survives(loss, 60.0);
    }
}

#[test]
fn a_dead_motor_is_named_at_once_and_the_others_go_on() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, so101());
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let mut turns = Loop::new(&bench);
    for _ in 0..10 {
        let tick = turns.tick(&bench);
        armed.read(&tick, &mut observation).unwrap();
    }
    bench.emulator.happen(Event::Die("wrist_flex".into())).unwrap();
    let begin = Instant::now();
    let named = loop {
        let tick = turns.tick(&bench);
        armed.read(&tick, &mut observation).unwrap();
        let motors = health.motors();
        if let Some(motor) = motors.iter().find(|motor| motor.misses >= 5) {
            break (motor.part.clone(), motor.motor.0, begin.elapsed());
        }
        assert!(begin.elapsed() < Duration::from_secs(1));
    };
    println!("{named:?}");
    assert_eq!((named.0.as_str(), named.1), ("wrist_flex", 4));
    assert!(named.2 < Duration::from_millis(200), "{:?}", named.2);
    // The others go on until the description has it end.
    let (mut others, mut ticks) = (0, 0);
    let error = loop {
        let tick = turns.tick(&bench);
        if let Err(error) = armed.read(&tick, &mut observation) {
            break error;
        }
        ticks += 1;
        assert_eq!(observation.state.readings()[3].validity, Validity::Missing);
        others += (0..6).filter(|i| observation.state.get(*i).is_some()).count();
        assert!(begin.elapsed() < Duration::from_secs(1));
    };
    println!("after {} ms: {error}", begin.elapsed().as_millis());
    assert!(ticks >= 10 && others >= 5 * ticks - 5, "{others} in {ticks}");
    assert!(error.to_string().contains("wrist_flex (motor 4 on bus arm, after elbow_flex): silent for "), "{error}");
    let motor = &health.motors()[3];
    let json = serde_json::to_value(motor).unwrap();
    assert_eq!((json["part"].as_str(), json["motor"].as_u64(), json["after"].as_str()), (Some("wrist_flex"), Some(4), Some("elbow_flex")));
    assert!(json["errors"]["no_answer"].as_u64() >= Some(5) && json["longest_age_s"].as_f64() > Some(0.45));
    assert!(motor.errors.no_answer >= 5 && motor.longest_age_s > 0.45 && motor.reads >= 10, "{motor:?}");
    let error = armed.disarm().unwrap_err();
    assert!(error.to_string().contains("wrist_flex (motor 4 on bus arm, after elbow_flex): no answer"), "{error}");
    // Whoever could be told to, holds.
    for name in ARM.iter().filter(|name| **name != "wrist_flex") {
        assert_eq!(bench.emulator.register(name, Register::TorqueEnable).unwrap(), 1, "{name}");
    }
}

#[test]
fn who_was_not_asked_for_long_is_not_silent() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, so101());
    let mut observation = Observation::for_robot(&so101());
    arm(&bench, &mut robot, &mut observation).disarm().unwrap();
    assert_eq!(bench.emulator.register("gripper", Register::TorqueEnable).unwrap(), 1, "it holds");
    std::thread::sleep(Duration::from_millis(700));
    for _ in 0..6 {
        bench.emulator.happen(Event::Answer("gripper".into(), Fault::Drop)).unwrap();
    }
    let tick = Loop::new(&bench).tick(&bench);
    robot.begin_read(&tick).unwrap();
    robot.finish_read(&tick, tick.due + PERIOD, &mut observation).unwrap();
    assert_eq!(observation.state.readings()[5].validity, Validity::Missing);
}

#[test]
fn a_pulled_cable_that_comes_back_finds_it_at_rest() {
    let bench = Bench::so101();
    let mut patient = so101();
    patient.feedback.fault_age_ms = 10_000;
    let mut robot = connect(&bench, patient);
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let mut turns = Loop::new(&bench);
    let start = observation.state.values().to_vec();
    let goals: Vec<f64> = start.iter().map(|start| start + 0.5).collect();
    let (mut was_lost, mut errors) = (false, 0);
    let (pulled, mut back, mut resumed) = (12, None, None);
    for turn in 0..330 {
        let tick = turns.tick(&bench);
        if turn == pulled {
            bench.emulator.happen(Event::Unplug).unwrap();
        }
        if turn == pulled + 180 {
            // Somebody has pushed it meanwhile.
            bench.emulator.motor("shoulder_pan", |motor| motor.put(Register::GoalPosition, 1800)).unwrap();
            bench.emulator.take_log();
            bench.emulator.happen(Event::Replug).unwrap();
            back = Some(Instant::now());
        }
        match armed.read(&tick, &mut observation) {
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                errors += 1;
            }
            Ok(()) => resumed = resumed.or(back.map(|back| back.elapsed())),
        }
        was_lost |= health.buses()[0].is_lost;
        // What the gate says of it is its business.
        let _ = armed.drive(Some(&wanted(&so101(), &goals, bench.clock.now())), &observation, PERIOD.as_secs_f64());
    }
    assert!(was_lost && errors > 120 && !health.buses()[0].is_lost, "{errors}");
    assert!(observation.state.get(0).is_some());
    let log = bench.emulator.log();
    let first = log.entries.iter().find(|entry| !entry.writes(&STS3215, Register::GoalPosition).is_empty()).unwrap();
    let read =
        log.entries.iter().take_while(|entry| entry.at <= first.at).filter(|entry| matches!(entry.asked, Asked::SyncRead { .. })).last();
    assert!(read.is_some(), "it was read before it was told anything");
    let told = first.writes(&STS3215, Register::GoalPosition);
    assert_eq!(told.len(), 6);
    // Where it was then: by what it had said last before that.
    let said = log
        .entries
        .iter()
        .take_while(|entry| entry.at <= first.at)
        .filter(|entry| matches!(&entry.asked, Asked::SyncRead { block, .. } if block.address == 56))
        .last()
        .unwrap();
    for (id, goal) in told {
        let data = &said.said.iter().find(|said| said.id == id).unwrap().data;
        let present = STS3215.decode(Register::PresentPosition, MotorId(id.into()), 56, data).unwrap();
        assert!((goal - present).abs() <= 1, "motor {id}: {goal}, at {present}");
    }
    println!("{errors} ticks without a port; resumed {resumed:?} after it was back; first goals after it are where it was");
    assert!(resumed.unwrap() < Duration::from_secs(2));
}

#[test]
fn a_pulled_cable_ends_a_session_that_is_to_end() {
    let bench = Bench::so101();
    let robot = so101();
    let options = ArmOptions { when_lost: WhenLost::End, ..options(&bench, &robot) };
    let mut robot = SerialArm::connect(robot.into(), &options, &calibration(), bench.clock.clone()).unwrap();
    let mut observation = Observation::for_robot(&so101());
    let mut turns = Loop::new(&bench);
    let tick = turns.tick(&bench);
    let read = |robot: &mut SerialArm, tick: &Tick, observation: &mut Observation| {
        robot.begin_read(tick).and_then(|()| robot.finish_read(tick, tick.due + PERIOD, observation))
    };
    read(&mut robot, &tick, &mut observation).unwrap();
    bench.emulator.happen(Event::Unplug).unwrap();
    let error = (0..3).find_map(|_| read(&mut robot, &turns.tick(&bench), &mut observation).err()).unwrap();
    assert!(!error.is_transient() && error.to_string().ends_with("of bus arm is gone"), "{error}");
}

#[test]
fn it_ends_as_it_is_declared() {
    for behaviour in [StopBehaviour::Hold, StopBehaviour::Limp] {
        let bench = Bench::so101();
        let mut robot = connect(&bench, with_stop(behaviour));
        let lifeline = robot.lifeline().unwrap();
        // Those that hold do so by themselves, and are only asked.
        assert_eq!((lifeline.ports.len(), lifeline.ports[0].frames.is_empty()), (1, behaviour == StopBehaviour::Hold));
        let mut observation = Observation::for_robot(&so101());
        let armed = arm(&bench, &mut robot, &mut observation);
        armed.disarm().unwrap();
        for name in ARM {
            let torque = bench.emulator.register(name, Register::TorqueEnable).unwrap();
            assert_eq!(torque, i32::from(behaviour == StopBehaviour::Hold), "{name}");
        }
        drop(robot);
        if behaviour == StopBehaviour::Limp {
            // What the watchdog has is enough.
            for name in ARM {
                bench.emulator.motor(name, |motor| motor.put(Register::TorqueEnable, 1)).unwrap();
            }
            for port in lifeline.ports {
                let mut file: std::fs::File = port.descriptor.into();
                for frame in port.frames {
                    std::io::Write::write_all(&mut file, &frame).unwrap();
                    std::thread::sleep(port.gap);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
            for name in ARM {
                assert_eq!(bench.emulator.register(name, Register::TorqueEnable).unwrap(), 0, "{name}");
            }
        }
    }
}

#[test]
fn who_was_frozen_makes_no_goal_of_where_it_was_before() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, with_stop(StopBehaviour::Hold));
    let mut observation = Observation::for_robot(robot.description());
    let driven = arm(&bench, &mut robot, &mut observation);
    std::thread::sleep(Duration::from_millis(150));
    // Somebody else acted meanwhile.
    for name in ARM {
        bench.emulator.motor(name, |motor| motor.put(Register::GoalPosition, 2100)).unwrap();
    }
    bench.emulator.happen(Event::Rates(Rates { drop: 1.0, ..Rates::default() })).unwrap();
    driven.disarm().unwrap_err();
    for name in ARM {
        assert_eq!(bench.emulator.register(name, Register::GoalPosition).unwrap(), 2100, "{name}");
    }
    // Where it is now, it holds.
    bench.emulator.happen(Event::Rates(Rates::default())).unwrap();
    let driven = arm(&bench, &mut robot, &mut observation);
    std::thread::sleep(Duration::from_millis(150));
    driven.disarm().unwrap();
}

#[test]
fn a_motor_that_started_anew_is_named_and_left_alone() {
    let bench = Bench::so101();
    let mut robot = connect(&bench, so101());
    let health = robot.health();
    let mut observation = Observation::for_robot(&so101());
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let start = observation.state.values().to_vec();
    let mut turns = Loop::new(&bench);
    bench.emulator.happen(Event::Restart("elbow_flex".into())).unwrap();
    let mut noticed = None;
    for turn in 0..120 {
        let tick = turns.tick(&bench);
        if let Err(error) = armed.read(&tick, &mut observation) {
            noticed = Some((turn, error));
            break;
        }
        if let Err(error) = armed.drive(Some(&wanted(&so101(), &start, bench.clock.now())), &observation, PERIOD.as_secs_f64()) {
            assert!(error.is_transient(), "{error}");
        }
    }
    let (turn, error) = noticed.unwrap();
    println!("noticed after {turn} ticks");
    assert!(turn < 60 && !error.is_transient(), "{turn}: {error}");
    let named = "elbow_flex (motor 3 on bus arm, after shoulder_lift): its torque went off by itself";
    assert!(error.to_string().contains(named), "{error}");
    assert_eq!((health.motors()[2].resets, health.motors()[2].has_lost_torque), (1, true));
    bench.emulator.take_log();
    armed.disarm().unwrap();
    assert_eq!(bench.emulator.register("elbow_flex", Register::TorqueEnable).unwrap(), 0);
    assert_eq!(bench.emulator.register("shoulder_lift", Register::TorqueEnable).unwrap(), 1, "the others hold");
    let goals = bench.emulator.log().writes(&STS3215, Register::GoalPosition);
    assert!(goals.iter().all(|(_, id, _)| *id != 3), "{goals:?}");
}

/// Drives an arm whose port is away for a while, in which `meanwhile` happens; what ends it, and the goals after its return.
fn outage(meanwhile: impl Fn(&Bench)) -> (Option<String>, usize) {
    let bench = Bench::so101();
    let robot = so101();
    let options = ArmOptions { when_lost: WhenLost::Resume { within: Duration::from_secs(10) }, ..options(&bench, &robot) };
    let mut connected = SerialArm::connect(robot.clone().into(), &options, &calibration(), bench.clock.clone()).unwrap();
    let mut observation = Observation::for_robot(&robot);
    let mut armed = arm(&bench, &mut connected, &mut observation);
    let start = observation.state.values().to_vec();
    let mut turns = Loop::new(&bench);
    let mut ended = None;
    for turn in 0..150 {
        match turn {
            20 => bench.emulator.happen(Event::Unplug).unwrap(),
            40 => {
                meanwhile(&bench);
                bench.emulator.take_log();
                bench.emulator.happen(Event::Replug).unwrap();
            }
            _ => {}
        }
        let tick = turns.tick(&bench);
        if let Err(error) = armed.read(&tick, &mut observation)
            && !error.is_transient()
        {
            ended = Some(error.to_string());
            break;
        }
        let _ = armed.drive(Some(&wanted(&robot, &start, bench.clock.now())), &observation, PERIOD.as_secs_f64());
    }
    let goals = bench.emulator.log().writes(&STS3215, Register::GoalPosition).len();
    drop(armed);
    (ended, goals)
}

#[test]
fn what_comes_back_at_a_port_is_obeyed_only_as_the_arm_that_went() {
    let (ended, goals) = outage(|_| {});
    assert_eq!(ended, None);
    assert!(goals > 6 * 20, "{goals}");
    // Another arm of the same kind.
    let (ended, goals) = outage(|bench| bench.emulator.motor("wrist_flex", |motor| motor.put(Register::HomingOffset, 300)).unwrap());
    assert!(ended.as_ref().is_some_and(|ended| ended.contains("came back with another arm: its wrist_flex")), "{ended:?}");
    assert_eq!(goals, 0);
    // The same, whose power was off.
    let (ended, _) = outage(|bench| bench.emulator.motor("elbow_flex", |motor| motor.put(Register::TorqueEnable, 0)).unwrap());
    assert!(
        ended.as_ref().is_some_and(|ended| ended.contains("elbow_flex (motor 3 on bus arm, after shoulder_lift): its torque")),
        "{ended:?}"
    );
}
