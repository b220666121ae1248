//! Setting up against emulated motors behind a terminal, in real time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "what fails here fails the test"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Bench, light};
use sinew_core::RobotDescription;
use sinew_drivers::setup::{CalibrationCheck, Calibrator, Chain, Identified, Identifier, MotorToSet, Refusal, SetupError, Swept};
use sinew_drivers::tables::{STS3215, STS3250, XL330_M288};
use sinew_drivers::{Calibration, PortAddress, Register};
use sinew_emulator::{Event, Options, Rates, Robot};

const LATENCY: Duration = Duration::from_millis(8);

/// A description of one bus; a motor as `name model id kind registers`.
fn described(role: &str, motors: &[(&str, &str, u8, &str, &str)]) -> Arc<RobotDescription> {
    let mut text = format!(
        "schema = 2\nname = \"arm\"\ntitle = \"arm\"\ncontrol_rate_hz = 30\nrole = \"{role}\"\nlerobot = {{ class = \"an_arm\" }}\nstop = {{ behaviour = \"limp\" }}\n\
         [[bus]]\nname = \"arm\"\nprotocol = \"any\"\n"
    );
    let command =
        if role == "robot" { "command = \"position\"\nlimits = { position = [-1.0, 1.0], velocity = 3.0, step = 0.35 }" } else { "" };
    for (name, model, id, kind, registers) in motors {
        text += &format!(
            "[[part]]\nname = \"{name}\"\nunit = \"degrees\"\n{command}\n\
             motor = {{ bus = \"arm\", model = \"{model}\", id = {id}, calibration = \"{kind}\", registers = {{ {registers} }} }}\n"
        );
    }
    Arc::new(RobotDescription::from_toml("arm", &text).unwrap())
}

const ARM: [&str; 6] = common::arm::ARM;

fn so(role: &str) -> Arc<RobotDescription> {
    let kind = |name: &str| if name == "wrist_roll" { "turn" } else { "range" };
    let motors: Vec<_> = ARM.iter().zip(1..).map(|(name, id)| (*name, "sts3215", id, kind(name), "")).collect();
    described(role, &motors)
}

fn koch_leader() -> Arc<RobotDescription> {
    let kind = |name: &str| if ["shoulder_pan", "wrist_roll"].contains(&name) { "turn" } else { "range" };
    let drive = |name: &str| if name == "elbow_flex" { "drive_mode = 1" } else { "" };
    let motors: Vec<_> = ARM.iter().zip(1..).map(|(name, id)| (*name, "xl330-m077", id, kind(name), drive(name))).collect();
    described("teleoperator", &motors)
}

fn ports(bench: &Bench) -> Vec<(String, PortAddress)> {
    vec![("arm".into(), PortAddress::Path(bench.emulator.port().to_str().unwrap().to_owned()))]
}

fn calibrator(bench: &Bench, robot: &Arc<RobotDescription>) -> Result<Calibrator, SetupError> {
    Calibrator::open(Arc::clone(robot), &ports(bench), LATENCY, bench.clock.clone())
}

/// Moves a joint through its range and rests at the ends.
fn hand(bench: &Bench, name: &str, [lower, upper, end]: [f64; 3], done: &AtomicUsize) {
    let mut place = bench.emulator.motor(name, |motor| motor.position()).unwrap();
    for goal in [lower, upper, end] {
        while (goal - place).abs() > 1e-9 {
            place += (goal - place).clamp(-30.0, 30.0);
            bench.emulator.move_by_hand(name, place).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(400));
    }
    done.fetch_add(1, Ordering::Release);
}

/// All of it, with what a hand does meanwhile. Those that only turn are brought to `poses` in the end.
fn calibrate(
    bench: &Bench,
    robot: &Arc<RobotDescription>,
    joints: &[(&str, [f64; 3])],
    poses: &[(&str, f64)],
) -> Result<Calibration, SetupError> {
    let mut calibrator = calibrator(bench, robot)?;
    calibrator.relax()?;
    while !calibrator.rests()? {}
    let done = AtomicUsize::new(0);
    let ranges = std::thread::scope(|scope| {
        // Before the hand begins.
        for _ in 0..3 {
            calibrator.sample()?;
        }
        for (name, way) in joints {
            let done = &done;
            scope.spawn(move || hand(bench, name, *way, done));
        }
        while done.load(Ordering::Acquire) < joints.len() {
            calibrator.sample()?;
        }
        calibrator.ranges()
    })?;
    for (name, pose) in poses {
        bench.emulator.move_by_hand(name, *pose).unwrap();
    }
    let calibration = calibrator.calibration(&ranges)?;
    calibrator.write(&calibration)?;
    assert_eq!(calibrator.write(&calibration)?, [], "it was all written");
    Ok(calibration)
}

/// What a motor says when its shaft is at a place, from the middle of its range, in degrees.
fn degrees_at(bench: &Bench, name: &str, place: f64, calibration: &Calibration) -> f64 {
    let known = calibration.get(name).unwrap();
    bench.emulator.move_by_hand(name, place).unwrap();
    bench.emulator.motor(name, |motor| motor.set_noise(0.0)).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let ticks = bench.emulator.register(name, Register::PresentPosition).unwrap();
    (f64::from(ticks) - f64::from(known.range_min + known.range_max) / 2.0) * 360.0 / 4095.0
}

#[test]
fn many_mountings_over_the_wire() {
    let (mut rng, mut refused) = (fastrand::Rng::with_seed(3), 0);
    for case in 0..36 {
        let mut arm = light(Robot::so101_follower());
        let mut joints = Vec::new();
        for (joint, name) in arm.joints.iter_mut().zip(ARM) {
            let span = 1400.0 + (rng.f64() * 1500.0).round();
            let lower = (rng.f64() * 8192.0 - 4096.0).round();
            joint.stops = (lower, lower + span);
            joint.position = lower + rng.f64() * span;
            if name != "wrist_roll" {
                joints.push((name, [lower, lower + span, lower + span * rng.f64()]));
            }
        }
        let roll = arm.joints[4].position.round();
        let rates = Rates { drop: 0.02, flip_bit: 0.01, ..Rates::default() };
        let bench = Bench::new(&arm, Options { seed: case, rates, ..Options::default() });
        for (i, name) in ARM.iter().enumerate() {
            bench.emulator.motor(name, |motor| motor.put(Register::HomingOffset, rng.i32(-2047..=2047) * i32::from(i % 2 == 0))).unwrap();
        }
        let robot = so(if case % 2 == 0 { "robot" } else { "teleoperator" });
        let calibration = match calibrate(&bench, &robot, &joints, &[("wrist_roll", roll)]) {
            Ok(calibration) => calibration,
            // The machine was too busy to look often enough. Seldom, that is right.
            Err(SetupError::Refused { .. }) if refused < 6 => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("case {case}: {error}, {refused} others refused"),
        };
        for (name, [lower, upper, _]) in joints {
            let known = calibration.get(name).unwrap();
            for (place, end) in [(lower, known.range_min), (upper, known.range_max)] {
                degrees_at(&bench, name, place, &calibration);
                let ticks = bench.emulator.register(name, Register::PresentPosition).unwrap();
                assert!((ticks - end).abs() <= 2, "case {case}: {name} at {place} is {ticks}, {known:?}");
            }
            assert_eq!(bench.emulator.register(name, Register::HomingOffset).unwrap(), known.homing_offset);
            assert_eq!(bench.emulator.register(name, Register::MaxPositionLimit).unwrap(), known.range_max);
            assert_eq!(bench.emulator.register(name, Register::Lock).unwrap(), 1);
        }
        let off = degrees_at(&bench, "wrist_roll", roll, &calibration);
        assert!(off.abs() < 0.2, "case {case}: {off}");
    }
}

#[test]
fn dynamixels_are_calibrated_as_lerobot_does_it() {
    let bench = Bench::new(&light(Robot::koch_leader()), Options::default());
    let ways: Vec<(&str, [f64; 3])> = ["shoulder_lift", "elbow_flex", "wrist_flex", "gripper"]
        .iter()
        .zip([1400.0, 1500.0, 1600.0, 1700.0])
        .map(|(name, end)| (*name, [500.0, 2700.0, end]))
        .collect();
    let calibration = calibrate(&bench, &koch_leader(), &ways, &[("shoulder_pan", 1000.0), ("wrist_roll", 3000.0)]).unwrap();
    let of = |name: &str| *calibration.get(name).unwrap();
    assert_eq!((of("shoulder_pan").range_min, of("shoulder_pan").range_max), (0, 4095));
    assert!((of("shoulder_pan").homing_offset - 1047).abs() <= 1 && (of("wrist_roll").homing_offset + 953).abs() <= 1, "{calibration:?}");
    assert!((of("wrist_flex").homing_offset - 447).abs() <= 1, "{calibration:?}");
    let elbow = of("elbow_flex");
    assert!(elbow.drive_mode == 1 && (elbow.homing_offset - (2047 + 1600)).abs() <= 1, "{elbow:?}");
    assert_eq!(bench.emulator.register("elbow_flex", Register::DriveMode).unwrap() & 1, 1);
    assert!(degrees_at(&bench, "elbow_flex", 500.0, &calibration) > 90.0, "it counts the other way");
    assert_eq!(bench.emulator.register("gripper", Register::OperatingMode).unwrap(), 4);
}

#[test]
fn motors_that_nobody_moves_get_what_the_description_says() {
    let bench = Bench::new(&light(Robot::omx_leader()), Options::default());
    let model = |name: &str| if name == "gripper" { "xl330-m077" } else { "xl330-m288" };
    let registers = |name: &str| if name == "gripper" { "drive_mode = 1, homing_offset = 100" } else { "" };
    let motors: Vec<_> = ARM.iter().zip(1..).map(|(name, id)| (*name, model(name), id, "fixed", registers(name))).collect();
    let calibration = calibrate(&bench, &described("teleoperator", &motors), &[], &[]).unwrap();
    let gripper = *calibration.get("gripper").unwrap();
    assert_eq!((gripper.drive_mode, gripper.homing_offset, gripper.range_min, gripper.range_max), (1, 100, 0, 4095));
    let other = *calibration.get("wrist_flex").unwrap();
    assert_eq!((other.drive_mode, other.homing_offset, other.range_min, other.range_max), (0, 0, 0, 4095));
    assert_eq!(bench.emulator.register("gripper", Register::HomingOffset).unwrap(), 100);
}

#[test]
fn what_is_refused_changes_no_calibration() {
    let bench = Bench::so101();
    let before: Vec<i32> = ARM.iter().map(|name| bench.emulator.register(name, Register::HomingOffset).unwrap()).collect();
    let ways = [("shoulder_pan", [1000.0, 3000.0, 2000.0]), ("shoulder_lift", [1900.0, 2100.0, 2000.0])];
    // A busy machine does not look often enough.
    let mut tries = (0..5).map(|_| calibrate(&bench, &so("robot"), &ways, &[]).unwrap_err());
    let is_busy = |error: &SetupError| {
        matches!(error, SetupError::Refused { refusal: Refusal::Gap { .. } | Refusal::Jump { .. } | Refusal::NotHeld { .. }, .. })
    };
    let error = tries.find(|error| !is_busy(error)).unwrap();
    assert!(matches!(&error, SetupError::Refused { refusal: Refusal::TooLittle { joint, .. }, .. } if joint == "shoulder_lift"), "{error}");
    let after: Vec<i32> = ARM.iter().map(|name| bench.emulator.register(name, Register::HomingOffset).unwrap()).collect();
    assert_eq!(before, after);

    bench.emulator.happen(Event::Die("gripper".into())).unwrap();
    let error = calibrator(&bench, &so("robot")).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no answer from gripper (6)") && error.contains("shoulder_pan (1)"), "{error}");

    // Turned on beyond its first turn, a Dynamixel says something else after it was switched off.
    let koch = Bench::new(&light(Robot::koch_leader()), Options::default());
    koch.emulator.motor("wrist_roll", |motor| motor.move_by_hand(6000.0)).unwrap();
    let error = calibrate(&koch, &koch_leader(), &[], &[]).unwrap_err();
    assert!(matches!(error, SetupError::Refused { refusal: Refusal::Turned { .. }, .. }), "{error}");
}

#[test]
fn a_check_names_what_differs_and_writes_nothing() {
    let bench = Bench::so101();
    let robot = so("robot");
    let mut chain = Chain::open(Arc::clone(&robot), &ports(&bench), LATENCY, bench.clock.clone()).unwrap();
    let known = common::arm::calibration();
    for (name, motor) in known.motors() {
        for (register, value) in [(Register::MinPositionLimit, motor.range_min), (Register::MaxPositionLimit, motor.range_max)] {
            bench.emulator.motor(name, |motor| motor.put(register, value)).unwrap();
        }
    }
    let check = CalibrationCheck::of(&mut chain, Some(&known)).unwrap();
    assert_eq!(check.differences().collect::<Vec<_>>(), Vec::<String>::new());
    assert!(check.motors.iter().all(|motor| motor.answers && motor.voltage_v.is_some() && motor.has_torque == Some(false)), "{check:?}");
    assert_eq!((check.cables[0].first.0.as_str(), check.cables[0].last.0.as_str()), ("shoulder_pan", "gripper"));
    bench.emulator.motor("elbow_flex", |motor| motor.put(Register::HomingOffset, 12)).unwrap();
    bench.emulator.move_by_hand("wrist_flex", 300.0).unwrap();
    bench.emulator.happen(Event::Die("gripper".into())).unwrap();
    bench.emulator.take_log();
    let began = std::time::Instant::now();
    let check = CalibrationCheck::of(&mut chain, Some(&known)).unwrap();
    let differences: Vec<String> = check.differences().collect();
    assert_eq!(differences.len(), 3, "{differences:?}");
    assert!(differences[0] == "elbow_flex: homing_offset is 12, the file has 0", "{differences:?}");
    assert!(
        differences[1].starts_with("wrist_flex: it is at ") && differences[1].ends_with("outside its range 700..3400"),
        "{differences:?}"
    );
    assert!(differences[2].starts_with("gripper: no answer"), "{differences:?}");
    assert!(!check.cables[0].last.1 && began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // A robot with these does not connect.
    bench.emulator.motor("shoulder_lift", |motor| motor.put(Register::FirmwareMinorVersion, 99)).unwrap();
    let differences: Vec<String> = CalibrationCheck::of(&mut chain, Some(&known)).unwrap().differences().collect();
    assert!(differences[0].starts_with("shoulder_lift: its firmware is 3.99, that of shoulder_pan is 3."), "{differences:?}");
}

fn set(bench: &Bench, table: &'static sinew_drivers::ControlTable, id: u16) -> Result<Identified, SetupError> {
    let motor = MotorToSet { part: "gripper".into(), bus: "arm".into(), id, table, baud: 1_000_000 };
    Identifier::new(ports(bench).remove(0).1, LATENCY, bench.clock.clone()).set(&motor, &mut |_| {})
}

#[test]
fn a_new_motor_gets_its_id_and_speed_once() {
    for (table, baud) in [(&STS3215, 1_000_000), (&STS3215, 115_200), (&XL330_M288, 57_600)] {
        let bench = Bench::new(&Robot::new_motor(table), Options::default());
        bench.emulator.motor("motor", |motor| motor.put(Register::BaudRate, i32::from(table.baud_code(baud).unwrap()))).unwrap();
        assert_eq!(set(&bench, table, 6).unwrap(), Identified::Set { id: 1, baud });
        let value = |register| bench.emulator.register("motor", register).unwrap();
        assert_eq!((value(Register::Id), table.baud(value(Register::BaudRate) as u8)), (6, Some(1_000_000)));
        // It outlives the power.
        bench.emulator.happen(Event::Restart("motor".into())).unwrap();
        assert_eq!(bench.emulator.register("motor", Register::Id).unwrap(), 6);
        bench.emulator.take_log();
        assert_eq!(set(&bench, table, 6).unwrap(), Identified::Already);
    }
}

#[test]
fn the_wrong_motor_several_or_none_are_refused() {
    let bench = Bench::new(&Robot::new_motor(&STS3250), Options::default());
    let error = set(&bench, &STS3215, 6).unwrap_err().to_string();
    assert!(error.ends_with("gripper (motor 1): expected a sts3215, found a sts3250"), "{error}");
    assert_eq!(bench.emulator.register("motor", Register::Id).unwrap(), 1);

    let bench = Bench::so101();
    let error = set(&bench, &STS3215, 6).unwrap_err().to_string();
    assert!(error.contains("several motors are connected (id 1, id 2, id 3, id 4, id 5, id 6 at 1000000 bits a second)"), "{error}");

    let twins = Robot { is_new: true, ..Robot::new("twins", STS3215.protocol, ["a", "b"].map(|name| (name.to_owned(), 1, &STS3215))) };
    let bench = Bench::new(&twins, Options::default());
    let error = set(&bench, &STS3215, 6).unwrap_err().to_string();
    assert!(error.contains("several motors are connected"), "{error}");
    assert_eq!(bench.emulator.register("a", Register::Id).unwrap(), 1);

    let bench = Bench::new(&Robot::new_motor(&STS3215), Options::default());
    bench.emulator.happen(Event::Die("motor".into())).unwrap();
    let error = set(&bench, &STS3215, 6).unwrap_err().to_string();
    assert!(error.starts_with("setting up gripper: no motor answered at any speed from 19200 to 1000000"), "{error}");
}

#[test]
fn a_joint_that_only_turns_is_held_still_and_within_its_turn() {
    let bench = Bench::new(&light(Robot::koch_leader()), Options::default());
    let mut calibrator = calibrator(&bench, &koch_leader()).unwrap();
    calibrator.relax().unwrap();
    let refused = |found: Result<Calibration, SetupError>| match found {
        Err(SetupError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    };
    let mut ranges = [Swept { lower: 1000, upper: 3000 }; 4];
    // The elbow counts the other way round.
    ranges[1] = Swept { lower: -3000, upper: -1000 };
    bench.emulator.move_by_hand("wrist_roll", 2048.0 + 8192.0).unwrap();
    let refusal = refused(calibrator.calibration(&ranges));
    assert!(matches!(&refusal, Refusal::Turned { joint, .. } if joint == "wrist_roll"), "{refusal}");
    let done = AtomicUsize::new(0);
    let refusal = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut place = 1000.0;
            while done.load(Ordering::Acquire) == 0 {
                place = if place > 3000.0 { 1000.0 } else { place + 5.0 };
                bench.emulator.move_by_hand("wrist_roll", place).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let found = calibrator.calibration(&ranges);
        done.store(1, Ordering::Release);
        refused(found)
    });
    assert_eq!(refusal.to_string(), "shoulder_pan, wrist_roll moved: expected it to be held still");
}

#[test]
fn a_motor_that_was_just_set_is_not_taken_for_the_next() {
    let bench = Bench::new(&Robot::new_motor(&STS3215), Options::default());
    let to_set = |part: &str, id| MotorToSet { part: part.into(), bus: "arm".into(), id, table: &STS3215, baud: 1_000_000 };
    let identifier = || Identifier::new(ports(&bench).remove(0).1, LATENCY, bench.clock.clone());
    identifier().set(&to_set("gripper", 6), &mut |_| {}).unwrap();
    let error = identifier().after(&[to_set("gripper", 6)]).set(&to_set("wrist_roll", 5), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("has id 6, as gripper was just given"), "{error}");
    assert_eq!(bench.emulator.register("motor", Register::Id).unwrap(), 6);
    identifier().set(&to_set("wrist_roll", 5), &mut |_| {}).unwrap();
}

#[test]
fn a_calibration_is_written_after_the_port_was_lost() {
    let bench = Bench::new(&light(Robot::so101_follower()), Options::default());
    let mut calibrator = calibrator(&bench, &so("robot")).unwrap();
    calibrator.relax().unwrap();
    let known = common::arm::calibration();
    bench.emulator.happen(Event::Unplug).unwrap();
    let error = calibrator.write(&known).unwrap_err().to_string();
    assert!(error.contains("shoulder_pan"), "{error}");
    bench.emulator.happen(Event::Replug).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!calibrator.write(&known).unwrap().is_empty());
    assert_eq!(calibrator.write(&known).unwrap(), []);
}
