//! Robots of other motors than an SO-101's, or of more: driven through the one door against emulated ones.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::time::{Duration, Instant};

use common::arm::{Loop, PERIOD, arm, calibration_of, connect_all, described, koch, leader_of, wanted};
use common::{Bench, light};
use sinew_core::{Clock, Observation, Retarget, Robot, RobotDescription, StopBehaviour, Teleoperator, Tick, Validity, Wanted};
use sinew_drivers::tables::{SM8512BL, STS3250, XL430_W250};
use sinew_drivers::wire::Protocol;
use sinew_drivers::{ArmOptions, ByFeature, ControlTable, PortAddress, Register, STS3215, SerialArm, SerialLeader};
use sinew_emulator::{Asked, Event, Log, Options, Rates, Robot as Emulated};

/// Drives all channels that are positions by `by` and back, and says how often one was missed.
fn wave(bench: &Bench, robot: &mut SerialArm, by: f64, period: Duration, ticks: u32) -> usize {
    let description = robot.description().clone();
    let mut observation = Observation::for_robot(&description);
    let mut armed = arm(bench, robot, &mut observation);
    let start = observation.state.values().to_vec();
    let begin = bench.clock.now();
    let (mut missed, mut farthest) = (0, vec![0.0_f64; start.len()]);
    for turn in 0..ticks {
        let tick = Tick { turn: turn.into(), due: begin + period * turn, period, wants_images: false };
        bench.clock.sleep_until(tick.due);
        armed.read(&tick, &mut observation).unwrap();
        missed += observation.state.readings().iter().filter(|reading| reading.validity == Validity::Missing).count();
        for ((far, value), start) in farthest.iter_mut().zip(observation.state.values()).zip(&start) {
            *far = far.max((value - start).abs());
        }
        let share = 0.5 - 0.5 * (f64::from(turn) / f64::from(ticks) * std::f64::consts::TAU).cos();
        let goals: Vec<f64> = start.iter().map(|start| start + by * share).collect();
        if let Err(error) = armed.drive(Some(&wanted(&description, &goals, bench.clock.now())), &observation, period.as_secs_f64()) {
            assert!(error.is_transient(), "{error}");
        }
    }
    for (far, channel) in farthest.iter().zip(description.state_channels()) {
        assert!(*far > 0.6 * by && *far < 1.3 * by, "{}: {far} of {by}", channel.name);
    }
    missed
}

#[test]
fn koch_goes_where_it_is_told_with_motors_of_two_models() {
    let bench = Bench::new(&light(Emulated::koch_follower()), Options::default());
    let mut described = koch();
    let elbow = &mut described.parts[2].motor.as_mut().unwrap().registers;
    elbow.extend([("position_p_gain", 1500), ("position_i_gain", 0), ("position_d_gain", 600)].map(|(name, value)| (name.into(), value)));
    // A turn beyond the first, where an offset may put it.
    let mut robot = connect_all(&[("arm", &bench)], &described).unwrap();
    let get = |name: &str, register| bench.emulator.register(name, register).unwrap();
    assert_eq!((get("elbow_flex", Register::PositionPGain), get("elbow_flex", Register::PositionDGain)), (1500, 600));
    assert_eq!((get("wrist_flex", Register::PositionPGain), get("elbow_flex", Register::OperatingMode)), (400, 4));
    assert_eq!((get("shoulder_pan", Register::OperatingMode), get("gripper", Register::OperatingMode)), (4, 5));
    assert_eq!(robot.report().firmware.len(), 2);
    let missed = wave(&bench, &mut robot, 0.25, PERIOD, 90);
    println!("koch: {missed} missed, connected in {:?} with {} requests", robot.report().took, robot.report().requests);
    let motors = robot.health().motors();
    assert!(motors.iter().all(|motor| motor.reads > 40 && motor.position.is_some()), "{motors:?}");
    // Robotis' motors that measure their current don't say their load.
    assert!(motors[0].load.is_some() && motors[5].load.is_none());
    let log = bench.emulator.take_log();
    assert!(log.garbage == 0 && log.entries.iter().any(|entry| !entry.writes(&XL430_W250, Register::GoalPosition).is_empty()));
    assert_eq!(bench.emulator.register("gripper", Register::TorqueEnable).unwrap(), 1, "it holds, as its description says");
    drop(robot);
    let again = connect_all(&[("arm", &bench)], &described).unwrap();
    assert!(again.report().changes.is_empty(), "{:?}", again.report().changes);
    println!("again: {:?} with {} requests", again.report().took, again.report().requests);
}

#[test]
fn omx_is_koch_with_other_ids_and_motors() {
    let bench = Bench::new(&light(Emulated::omx_follower()), Options::default());
    let mut described = koch();
    for (part, id) in described.parts.iter_mut().zip(11..) {
        let motor = part.motor.as_mut().unwrap();
        motor.id = id;
        motor.model = if id < 14 { "xl430-w250" } else { "xl330-m288" }.into();
    }
    let mut robot = connect_all(&[("arm", &bench)], &described).unwrap();
    println!("omx: {} missed", wave(&bench, &mut robot, 0.2, PERIOD, 60));
    assert_eq!(bench.emulator.register("elbow_flex", Register::OperatingMode).unwrap(), 4);
}

#[test]
fn two_leaders_on_two_buses_are_one_teleoperator() {
    let described = leader_of(described("bi_so"));
    let benches = [Bench::so101(), Bench::so101()];
    let port = |bench: &Bench| PortAddress::Path(bench.emulator.port().to_str().unwrap().to_owned());
    let ports = vec![("left".to_owned(), port(&benches[0])), ("right".to_owned(), port(&benches[1]))];
    let options = ArmOptions { writes_calibration: true, latency: Duration::from_millis(5), ..ArmOptions::new(&described, ports) };
    let clock = benches[0].clock.clone();
    let mut leader = SerialLeader::connect(described.clone().into(), &options, &calibration_of(&described), clock).unwrap();
    let mut way = ByFeature::new(&described, &common::arm::described("bi_so")).unwrap();
    benches[0].emulator.move_by_hand("shoulder_pan", 2500.0).unwrap();
    benches[1].emulator.move_by_hand("shoulder_pan", 1600.0).unwrap();
    let (mut action, mut wanted) = ([0.0; 12], Wanted::for_robot(&common::arm::described("bi_so")));
    let mut turns = Loop::new(&benches[0]);
    let observation = Observation::default();
    assert!((0..5).any(|_| leader.action(&turns.tick(&benches[0]), &observation, &mut action).is_ok()));
    way.retarget(&action, &observation, &mut wanted).unwrap();
    let of = |ticks: f64| (ticks - 2050.0) / 4095.0 * std::f64::consts::TAU;
    assert!((wanted.goals[0] - of(2500.0)).abs() < 0.004 && (wanted.goals[6] - of(1600.0)).abs() < 0.004, "{:?}", wanted.goals);
}

#[test]
fn a_gripper_with_a_current_of_its_own_keeps_it_through_a_change_of_mode() {
    let bench = Bench::new(&light(Emulated::koch_follower()), Options::default());
    let mut described = koch();
    let gripper = &mut described.parts[5].motor.as_mut().unwrap().registers;
    gripper.extend([("current_limit", 300), ("goal_current", 100)].map(|(name, value)| (name.to_owned(), value)));
    bench.emulator.motor("gripper", |motor| motor.put(Register::GoalCurrent, 100)).unwrap();
    connect_all(&[("arm", &bench)], &described).unwrap();
    assert_eq!(bench.emulator.register("gripper", Register::CurrentLimit).unwrap(), 300);
    assert_eq!(bench.emulator.register("gripper", Register::GoalCurrent).unwrap(), 100, "the mode begins with the limit");
}

#[test]
fn a_register_that_makes_no_sense_is_refused_by_its_name() {
    let bench = Bench::new(&light(Emulated::koch_follower()), Options::default());
    for (name, says) in [
        ("p_coefficient", "elbow_flex: expected registers of a xl330-m288, found p_coefficient"),
        ("torque_enable", "elbow_flex: expected registers that a description may set, found torque_enable"),
        ("id", "that a description may set, found id"),
        ("present_position", "that a description may set, found present_position"),
    ] {
        let mut robot = koch();
        robot.parts[2].motor.as_mut().unwrap().registers.insert(name.into(), 1);
        let error = connect_all(&[("arm", &bench)], &robot).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(bench.emulator.log().entries.is_empty());
}

fn with_motors(mut robot: RobotDescription, motors: &[(&str, &'static ControlTable)]) -> RobotDescription {
    robot.parts.truncate(motors.len());
    for ((part, (name, table)), id) in robot.parts.iter_mut().zip(motors).zip(1..) {
        part.name = (*name).to_owned();
        part.parent = None;
        let motor = part.motor.as_mut().unwrap();
        (motor.model, motor.id) = (table.model.into(), id);
    }
    robot.tools.clear();
    robot.simulation = None;
    robot
}

#[test]
fn hope_jr_s_arm_has_two_models_on_one_wire() {
    let motors = [
        ("shoulder_pitch", &SM8512BL),
        ("shoulder_yaw", &STS3250),
        ("shoulder_roll", &STS3250),
        ("elbow_flex", &STS3250),
        ("wrist_roll", &STS3250),
        ("wrist_yaw", &STS3250),
    ];
    let emulated =
        Emulated::new("arm", Protocol::Feetech0, motors.iter().zip(1..).map(|((name, table), id)| ((*name).to_owned(), id, *table)));
    let bench = Bench::new(&light(emulated), Options::default());
    let mut described = with_motors(described("so101"), &motors);
    for part in &mut described.parts {
        part.motor.as_mut().unwrap().registers.extend([("maximum_acceleration", 30), ("acceleration", 30)].map(|(n, v)| (n.to_owned(), v)));
    }
    let mut robot = connect_all(&[("arm", &bench)], &described).unwrap();
    assert_eq!(bench.emulator.register("wrist_yaw", Register::MaximumAcceleration).unwrap(), 30);
    assert_eq!(bench.emulator.register("shoulder_pitch", Register::Acceleration).unwrap(), 30);
    println!("hope_jr_arm: {} missed", wave(&bench, &mut robot, 0.2, PERIOD * 2, 60));
}

#[test]
fn hope_jr_s_hand_is_asked_motor_by_motor() {
    let bench = Bench::new(&light(Emulated::hope_jr_hand()), Options::default());
    let described = described("hope_jr_hand");
    let mut robot = connect_all(&[("hand", &bench)], &described).unwrap();
    println!("hand: {:?} with {} requests", robot.report().took, robot.report().requests);
    bench.emulator.take_log();
    let missed = wave(&bench, &mut robot, 0.3, PERIOD * 2, 60);
    println!("hand: {missed} of {} missed", 16 * 60);
    assert!(missed < 16 * 30, "{missed}");
    let log = bench.emulator.take_log();
    assert_eq!(log.sync_reads(), 0);
    assert!(log.count(|entry| matches!(entry.asked, Asked::Read(block) if block.len == 2)) >= 30 * 16);
    let motors = robot.health().motors();
    assert!(motors.iter().all(|motor| motor.reads > 20), "{motors:?}");
}

/// Each channel of a LeKiwi: six positions, then forward, left, turning.
fn base(x: f64, y: f64, theta_deg: f64, arm: &[f64]) -> Vec<f64> {
    arm.iter().take(6).copied().chain([x, y, theta_deg.to_radians()]).collect()
}

/// The last velocities that were written for left, back, right.
fn wheels(log: &Log) -> Option<[i32; 3]> {
    let entry = log.entries.iter().rfind(|entry| matches!(&entry.asked, Asked::SyncWrite { address: 46, .. }))?;
    let told = entry.writes(&STS3215, Register::GoalVelocity);
    Some([7, 8, 9].map(|id| told.iter().find(|(motor, _)| *motor == id).unwrap().1))
}

#[test]
fn lekiwi_rolls_as_lerobot_has_it_and_stands_at_every_end() {
    for stop in [StopBehaviour::Hold, StopBehaviour::Limp] {
        let bench = Bench::new(&light(Emulated::lekiwi()), Options::default());
        let mut described = described("lekiwi");
        described.stop.behaviour = stop;
        // What is checked is the wheels', not the gate's limits.
        described.base.as_mut().unwrap().linear.acceleration = Some(100.0);
        described.base.as_mut().unwrap().linear.jerk = Some(1e5);
        described.base.as_mut().unwrap().angular.acceleration = Some(1000.0);
        described.base.as_mut().unwrap().angular.jerk = Some(1e6);
        let mut robot = connect_all(&[("robot", &bench)], &described).unwrap();
        let get = |name: &str, register| bench.emulator.register(name, register).unwrap();
        assert_eq!((get("base_back_wheel", Register::OperatingMode), get("arm_gripper", Register::OperatingMode)), (1, 0));
        // What it was told before does not roll it when it gets torque.
        bench.emulator.motor("base_left_wheel", |motor| motor.put(Register::GoalVelocity, 900)).unwrap();
        let lifeline = robot.lifeline().unwrap();
        let mut observation = Observation::for_robot(&described);
        let mut armed = arm(&bench, &mut robot, &mut observation);
        assert_eq!(get("base_left_wheel", Register::GoalVelocity), 0);
        let rest = observation.state.values().to_vec();
        let mut turns = Loop::new(&bench);
        for (x, y, theta, expected) in
            [(0.1, 0.0, 0.0, [-1129, 0, 1129]), (0.0, 0.1, 0.0, [652, -1304, 652]), (0.0, 0.0, 30.0, [853, 853, 853])]
        {
            bench.emulator.take_log();
            let goals = base(x, y, theta, &rest);
            for _ in 0..40 {
                let tick = turns.tick(&bench);
                armed.read(&tick, &mut observation).unwrap();
                let _ = armed.drive(Some(&wanted(&described, &goals, bench.clock.now())), &observation, PERIOD.as_secs_f64());
            }
            let log = bench.emulator.take_log();
            assert_eq!(wheels(&log), Some(expected), "{x} {y} {theta}");
            let reads = |address| log.count(|entry| matches!(&entry.asked, Asked::SyncRead { block, .. } if block.address == address));
            assert!(reads(56) >= 20 && reads(58) >= 20, "{} {}", reads(56), reads(58));
            // A busy machine may cost a turn or some.
            let is_read = (0..20).any(|_| {
                let is_read = armed.read(&turns.tick(&bench), &mut observation).is_ok();
                is_read && (6..9).all(|i| observation.state.get(i).is_some())
            });
            assert!(is_read);
            let [vx, vy, vtheta] = [6, 7, 8].map(|i| observation.state.get(i).unwrap());
            println!("{x} {y} {theta}: {vx:.3} {vy:.3} {:.1}", vtheta.to_degrees());
            assert!((vx - x).abs() < 0.01 && (vy - y).abs() < 0.01 && (vtheta.to_degrees() - theta).abs() < 3.0);
        }
        // Nobody wants anything any more: it stands after a while, though the loop goes on with what was wanted.
        let stale = wanted(&described, &base(0.1, 0.0, 0.0, &rest), bench.clock.now());
        for _ in 0..60 {
            let tick = turns.tick(&bench);
            armed.read(&tick, &mut observation).unwrap();
            let _ = armed.drive(Some(&stale), &observation, PERIOD.as_secs_f64());
        }
        assert_eq!(wheels(&bench.emulator.log()), Some([0, 0, 0]));
        let moving = wanted(&described, &base(0.1, 0.0, 0.0, &rest), bench.clock.now());
        for _ in 0..5 {
            let tick = turns.tick(&bench);
            armed.read(&tick, &mut observation).unwrap();
            armed.drive(Some(&moving), &observation, PERIOD.as_secs_f64()).unwrap();
        }
        assert_ne!(get("base_left_wheel", Register::GoalVelocity), 0);
        armed.disarm().unwrap();
        for name in ["base_left_wheel", "base_back_wheel", "base_right_wheel"] {
            assert_eq!(get(name, Register::GoalVelocity), 0, "{name}");
            assert_eq!(get(name, Register::TorqueEnable), i32::from(stop == StopBehaviour::Hold), "{name}");
        }
        // What the watchdog has is enough.
        drop(robot);
        bench.emulator.motor("base_right_wheel", |motor| motor.put(Register::GoalVelocity, 700)).unwrap();
        assert_eq!(lifeline.ports.len(), 1);
        for port in lifeline.ports {
            let mut file: std::fs::File = port.descriptor.into();
            for frame in port.frames {
                std::io::Write::write_all(&mut file, &frame).unwrap();
                std::thread::sleep(port.gap);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(get("base_right_wheel", Register::GoalVelocity), 0);
    }
}

#[test]
fn a_wheel_that_lost_its_torque_keeps_the_base_standing() {
    let bench = Bench::new(&light(Emulated::lekiwi()), Options::default());
    let described = described("lekiwi");
    let mut robot = connect_all(&[("robot", &bench)], &described).unwrap();
    let health = robot.health();
    let mut observation = Observation::for_robot(&described);
    let mut armed = arm(&bench, &mut robot, &mut observation);
    let rest = observation.state.values().to_vec();
    let mut turns = Loop::new(&bench);
    bench.emulator.happen(Event::Restart("base_back_wheel".into())).unwrap();
    for _ in 0..120 {
        let tick = turns.tick(&bench);
        // From when it is noticed on, reading is an error that names it.
        let _ = armed.read(&tick, &mut observation);
        let wanted = wanted(&described, &base(0.1, 0.0, 0.0, &rest), bench.clock.now());
        let _ = armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64());
    }
    assert!(health.motors().iter().any(|motor| motor.part == "base_back_wheel" && motor.has_lost_torque));
    assert_eq!(wheels(&bench.emulator.log()), Some([0, 0, 0]));
    assert_eq!(bench.emulator.register("base_back_wheel", Register::TorqueEnable).unwrap(), 0);
}

#[test]
fn two_arms_on_two_buses_are_asked_at_once() {
    let described = described("bi_so");
    let benches = [Bench::so101(), Bench::so101()];
    let mut robot = connect_all(&[("left", &benches[0]), ("right", &benches[1])], &described).unwrap();
    println!("two arms: {:?} with {} requests", robot.report().took, robot.report().requests);
    benches.iter().for_each(|bench| drop(bench.emulator.take_log()));
    benches[1].emulator.happen(Event::Rates(Rates { drop: 0.02, ..Rates::default() })).unwrap();
    let mut observation = Observation::for_robot(&described);
    let mut armed = arm(&benches[0], &mut robot, &mut observation);
    let start = observation.state.values().to_vec();
    let mut turns = Loop::new(&benches[0]);
    let (mut missed, mut gaps) = (0, Vec::new());
    for turn in 0..90 {
        let tick = turns.tick(&benches[0]);
        let begin = Instant::now();
        armed.read(&tick, &mut observation).unwrap();
        missed += (0..12).filter(|i| observation.state.get(*i).is_none()).count();
        let asked = |bench: &Bench| {
            let entries = bench.emulator.log().entries;
            entries
                .into_iter()
                .rev()
                .find(|entry| entry.at >= begin && matches!(&entry.asked, Asked::SyncRead { block, .. } if block.address == 56))
        };
        if let (Some(left), Some(right)) = (asked(&benches[0]), asked(&benches[1])) {
            gaps.push(right.at.saturating_duration_since(left.at));
        }
        let goals: Vec<f64> = start.iter().map(|start| start + 0.003 * f64::from(turn)).collect();
        let _ = armed.drive(Some(&wanted(&described, &goals, benches[0].clock.now())), &observation, PERIOD.as_secs_f64());
        if turn % 20 == 0 {
            benches.iter().for_each(|bench| drop(bench.emulator.take_log()));
        }
    }
    gaps.sort();
    println!("two arms: {missed} missed; the second was asked {:?} after the first (median)", gaps[gaps.len() / 2]);
    assert!(missed < 300, "{missed}");
    // An answer of six motors takes 0.8 ms: it is not waited for.
    assert!(gaps[gaps.len() / 2] < Duration::from_micros(700));
    for (bench, name) in benches.iter().zip(["left", "right"]) {
        let goal = bench.emulator.register("shoulder_pan", Register::GoalPosition).unwrap();
        assert!((goal - 2048).abs() > 60, "{name}: {goal}");
    }
    drop(armed);
    // Buses by their names: the left motor is named as such.
    drop(robot);
    benches[1].emulator.happen(Event::Die("gripper".into())).unwrap();
    let error = connect_all(&[("left", &benches[0]), ("right", &benches[1])], &described).err().unwrap().to_string();
    assert!(error.contains("no answer from right_gripper (motor 6 on bus right, after right_wrist_roll)"), "{error}");
    assert!(error.ends_with("check the cable after right_wrist_roll"), "{error}");
}
