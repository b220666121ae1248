//! Connecting to emulated motors: what it costs, what it survives, and what it says when it can't.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::error::Error;
use std::time::{Duration, Instant};

use common::arm::{ARM, Loop, PERIOD, calibration, calibration_of, connect, described, koch, leader_of, options, so101, try_connect};
use common::{Bench, light};
use sinew_core::{Observation, Robot, RobotDescription, Teleoperator};
use sinew_drivers::{ArmOptions, Calibration, ConnectError, MotorCalibration, Register, SerialArm, SerialLeader};
use sinew_emulator::{Event, Joint, Options, Rates, Robot as Emulated};

/// With all its causes.
fn says(error: ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

fn fails(bench: &Bench, robot: RobotDescription) -> String {
    says(try_connect(bench, robot).err().unwrap())
}

#[test]
fn a_healthy_arm_is_connected_by_a_few_questions() {
    let (follows, leads) = (Bench::so101(), Bench::so101());
    let connect_both = || {
        let leader = leader_of(so101());
        let options = options(&leads, &leader);
        (connect(&follows, so101()), SerialLeader::connect(leader.into(), &options, &calibration(), leads.clock.clone()).unwrap())
    };
    let first = connect_both();
    println!("new motors: {:?} with {} requests", first.0.report().took, first.0.report().requests);
    drop(first);
    follows.emulator.take_log();
    let begin = Instant::now();
    let (mut arm, mut leader) = connect_both();
    let connected = begin.elapsed();
    let mut observation = Observation::for_robot(&so101());
    let tick = Loop::new(&follows).tick(&follows);
    arm.begin_read(&tick).unwrap();
    arm.finish_read(&tick, tick.due + PERIOD, &mut observation).unwrap();
    assert!((0..5).any(|_| leader.action(&tick, &observation, &mut [0.0; 6]).is_ok()));
    println!("both: connected after {connected:?}, first tick read after {:?}", begin.elapsed());
    println!("follower: {:?} with {} requests", arm.report().took, arm.report().requests);
    assert!(begin.elapsed() < Duration::from_millis(300));
    assert!(arm.report().requests <= 6 && leader.report().requests <= 6, "{}", arm.report().requests);
    assert!(arm.report().changes.is_empty() && arm.report().advice.is_empty());
}

#[test]
fn lost_answers_do_not_keep_it_from_connecting() {
    for (loss, flips) in [(0.01, 0.001), (0.05, 0.005)] {
        let (mut slowest, mut writes) = (Duration::ZERO, 0);
        for seed in 0..15 {
            let rates = Rates { drop: loss, flip_bit: flips, lost_instruction: loss / 2.0, ..Rates::default() };
            let bench = Bench::new(&light(Emulated::so101_follower()), Options { seed, rates, ..Options::default() });
            // New motors, whose registers are written first.
            for _ in 0..2 {
                let begin = Instant::now();
                let arm = try_connect(&bench, so101()).map_err(says).unwrap();
                slowest = slowest.max(begin.elapsed());
                writes += arm.report().changes.len();
            }
            for name in ARM {
                assert_eq!(bench.emulator.register(name, Register::PCoefficient).unwrap(), 16);
            }
        }
        println!("{} % lost: 30 of 30, {writes} registers written, the slowest {slowest:?}", 100.0 * loss);
    }
}

#[test]
fn two_motors_of_one_id_are_noticed() {
    let mut robot = light(Emulated::so101_follower());
    robot.joints.push(Joint { name: "another".into(), ..robot.joints[2].clone() });
    let bench = Bench::new(&robot, Options::default());
    let error = fails(&bench, so101());
    println!("{error}");
    assert!(error.contains("answers of elbow_flex (motor 3 on bus arm, after shoulder_lift) were garbled: two motors"), "{error}");
    // One that should be 3 is still 2.
    let mut robot = light(Emulated::so101_follower());
    robot.joints[2].id = 2;
    let bench = Bench::new(&robot, Options::default());
    let error = fails(&bench, so101());
    assert!(error.contains("answers of shoulder_lift (motor 2 on bus arm, after shoulder_pan) were garbled: two motors"), "{error}");
    assert!(error.ends_with("give each motor its own id, one at a time"), "{error}");
}

#[test]
fn motors_at_another_speed_are_found_and_left_as_they_are() {
    let bench = Bench::so101();
    for name in ARM {
        bench.emulator.motor(name, |motor| motor.put(Register::BaudRate, 1)).unwrap();
    }
    let error = fails(&bench, so101());
    // Where the machine is busy, not everybody is heard.
    assert!(error.contains("to answer at 1000000 bits a second, found ") && error.contains("elbow_flex, "), "{error}");
    assert!(error.contains(" at 500000. Set their baud_rate"), "{error}");
    assert_eq!(bench.emulator.register("gripper", Register::BaudRate).unwrap(), 1);
    // One alone.
    let bench = Bench::so101();
    bench.emulator.motor("gripper", |motor| motor.put(Register::BaudRate, 4)).unwrap();
    let error = fails(&bench, so101());
    assert!(error.contains("no answer from gripper (motor 6 on bus arm, after wrist_roll); shoulder_pan"), "{error}");
    assert!(error.ends_with("gripper at 115200 bits a second, expected 1000000"), "{error}");
}

#[test]
fn who_is_not_there_is_told_from_what_is_something_else() {
    let bench = Bench::so101();
    ARM[3..].iter().for_each(|name| bench.emulator.happen(Event::Die((*name).into())).unwrap());
    let error = fails(&bench, so101());
    assert!(error.ends_with("shoulder_pan, shoulder_lift, elbow_flex answered; check the cable after elbow_flex"), "{error}");
    ARM.iter().for_each(|name| bench.emulator.happen(Event::Die((*name).into())).unwrap());
    let begin = Instant::now();
    let error = fails(&bench, so101());
    println!("nobody: after {:?}", begin.elapsed());
    assert!(error.contains("nobody answers on") && error.contains("nor at any other speed: check that the motors have power"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    // A robot that speaks another protocol.
    let bench = Bench::new(&light(Emulated::koch_follower()), Options::default());
    let error = fails(&bench, so101());
    assert!(error.contains("nobody answers on"), "{error}");
}

#[test]
fn a_port_that_can_not_be_had_says_why() {
    let bench = Bench::so101();
    let arm = connect(&bench, so101());
    let error = fails(&bench, so101());
    assert!(error.contains("another program has"), "{error}");
    drop(arm);
    drop(connect(&bench, so101()));
    bench.emulator.happen(Event::Unplug).unwrap();
    let error = fails(&bench, so101());
    let hint = error.contains("there is no serial port") || error.contains("there are ");
    assert!(error.contains("bus arm: opening") && hint, "{error}");
}

#[test]
fn a_calibration_of_another_arm_is_refused_with_what_differs() {
    let bench = Bench::so101();
    let connect_with = |calibration: &Calibration| {
        let options = ArmOptions { writes_calibration: false, ..options(&bench, &so101()) };
        says(SerialArm::connect(so101().into(), &options, calibration, bench.clock.clone()).err().unwrap())
    };
    let error = connect_with(&calibration());
    assert!(error.contains("another calibration than the file: shoulder_pan has min_position_limit = 0, the file 700"), "{error}");
    let error = connect_with(&calibration_of(&described("lekiwi")));
    assert!(error.ends_with("found arm_shoulder_pan, arm_shoulder_lift, arm_elbow_flex, arm_wrist_flex, arm_wrist_roll, arm_gripper, base_left_wheel, base_back_wheel, base_right_wheel"), "{error}");
    let known = calibration();
    let one_more = known.motors().map(|(name, motor)| (name.to_owned(), *motor));
    let extra = MotorCalibration { id: 7, drive_mode: 0, homing_offset: 0, range_min: 0, range_max: 4095 };
    let error = connect_with(&Calibration::new(one_more.chain([("wheel".to_owned(), extra)])));
    assert!(error.ends_with("expected the calibration of motors of so101, found one of wheel, which it does not have"), "{error}");
    assert_eq!(bench.emulator.log().count(|entry| matches!(entry.asked, sinew_emulator::Asked::Write { .. })), 0);
}

#[test]
fn all_motors_of_a_model_have_one_firmware_and_others_their_own() {
    let bench = Bench::new(&light(Emulated::koch_follower()), Options::default());
    for name in ["shoulder_pan", "shoulder_lift"] {
        bench.emulator.motor(name, |motor| motor.put(Register::FirmwareVersion, 45)).unwrap();
    }
    let robot = koch();
    let port = options(&bench, &robot);
    let arm = SerialArm::connect(robot.clone().into(), &port, &calibration(), bench.clock.clone()).unwrap();
    assert_eq!(arm.report().firmware, [("xl430-w250", "45".to_owned()), ("xl330-m288", "52".to_owned())]);
    drop(arm);
    bench.emulator.motor("shoulder_pan", |motor| motor.put(Register::FirmwareVersion, 46)).unwrap();
    let error = says(SerialArm::connect(robot.into(), &port, &calibration(), bench.clock.clone()).err().unwrap());
    assert!(error.contains("expected all motors of a model to have the same firmware, found 46 in shoulder_pan, 45 in"), "{error}");
}

#[test]
fn an_adapter_that_sends_back_what_it_gets_is_no_motor() {
    let bench = Bench::new(&light(Emulated::so101_follower()), Options { echo: true, ..Options::default() });
    // As a calibrated arm: more writes are answered before the first register is read back.
    drop(try_connect(&bench, so101()).unwrap_or_else(|error| panic!("{}", says(error))));
    for name in ARM {
        for register in [Register::ReturnDelayTime, Register::PCoefficient] {
            bench.emulator.motor(name, |motor| motor.put(register, 32)).unwrap();
        }
    }
    bench.emulator.motor("gripper", |motor| motor.put(Register::MaxTorqueLimit, 1000)).unwrap();
    let arm = try_connect(&bench, so101()).unwrap_or_else(|error| panic!("{}", says(error)));
    assert_eq!(bench.emulator.register("gripper", Register::MaxTorqueLimit).unwrap(), 500);
    drop(arm);
    assert!(connect(&bench, so101()).report().changes.is_empty());
}
