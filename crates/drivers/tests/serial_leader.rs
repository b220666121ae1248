//! A leader of emulated motors, moved by hand.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

mod common;

use std::time::{Duration, Instant};

use common::arm::{ARM, Loop, calibration, koch_leader, leader_of, options, so101};
use common::{Bench, light};
use sinew_core::{Observation, Retarget, RobotDescription, Teleoperator, TeleoperatorError, Wanted};
use sinew_drivers::tables::XL330_M077;
use sinew_drivers::{ByFeature, ConnectError, LeaderFeedback, Register, STS3215, SerialArm, SerialLeader};
use sinew_emulator::{Event, Rates, Robot as Emulated};

fn try_connect(bench: &Bench, robot: RobotDescription) -> Result<SerialLeader, ConnectError> {
    let options = options(bench, &robot);
    SerialLeader::connect(robot.into(), &options, &calibration(), bench.clock.clone())
}

/// Asks it at 60 Hz; what came of each turn.
struct Hand<'a> {
    bench: &'a Bench,
    leader: SerialLeader,
    turns: Loop,
    nothing: Observation,
    action: [f64; 6],
}

impl<'a> Hand<'a> {
    fn new(bench: &'a Bench, robot: RobotDescription) -> Self {
        let nothing = Observation::for_robot(&so101());
        Self { bench, leader: try_connect(bench, robot).unwrap(), turns: Loop::new(bench), nothing, action: [f64::NAN; 6] }
    }

    fn turn(&mut self) -> Result<(), TeleoperatorError> {
        let tick = self.turns.tick(self.bench);
        self.leader.action(&tick, &self.nothing, &mut self.action).map(drop)
    }
}

#[test]
fn a_hand_moves_it_and_the_follower_is_told_the_same() {
    let bench = Bench::new(&light(Emulated::so101_leader()), Default::default());
    bench.emulator.motor("elbow_flex", |motor| motor.put(Register::TorqueEnable, 1)).unwrap();
    let mut narrow = so101();
    narrow.parts[5].range = Some([0.0, 0.9]);
    let mut way = ByFeature::new(&leader_of(so101()), &narrow).unwrap();
    let mut hand = Hand::new(&bench, leader_of(so101()));
    let report = hand.leader.report();
    let torque: Vec<_> = report.changes.iter().filter(|change| change.register == Register::TorqueEnable).collect();
    assert!(torque.len() == 1 && torque[0].part == "elbow_flex" && torque[0].written == 0, "{torque:?}");
    // Gains are those of arms that are driven.
    assert!(report.changes.iter().all(|change| change.register != Register::PCoefficient && change.register != Register::MaxTorqueLimit));
    bench.emulator.take_log();
    let mut wanted = Wanted::for_robot(&narrow);
    for step in 0..30 {
        let share = f64::from(step) / 30.0;
        let ticks = 1500.0 + 1000.0 * share;
        ["shoulder_pan", "gripper"].iter().for_each(|name| bench.emulator.move_by_hand(name, ticks).unwrap());
        let (pan, gripper) = ((ticks - 2050.0) / 4095.0 * std::f64::consts::TAU, (ticks - 700.0) / 2700.0 * 0.9);
        // A busy machine may cost a turn or some.
        let is_there = (0..20).any(|_| {
            let is_read = hand.turn().is_ok();
            way.retarget(&hand.action, &hand.nothing, &mut wanted).unwrap();
            is_read && (wanted.goals[0] - pan).abs() < 0.004 && (wanted.goals[5] - gripper).abs() < 0.002
        });
        assert!(is_there, "{:?} for {pan} and {gripper}", wanted.goals);
    }
    let log = bench.emulator.log();
    assert!(log.entries.iter().all(|entry| entry.writes(&STS3215, Register::TorqueEnable).is_empty()));
    assert!(log.sync_writes() == 0 && log.sync_reads() >= 30);
    hand.leader.close().unwrap();
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueEnable).unwrap() == 0));
}

#[test]
fn who_leads_and_who_follows_is_not_confused() {
    let bench = Bench::so101();
    let error = try_connect(&bench, so101()).err().unwrap().to_string();
    assert!(error.ends_with("expected a teleoperator, found a robot that is commanded"), "{error}");
    let leader = leader_of(so101());
    let error = SerialArm::connect(leader.clone().into(), &options(&bench, &leader), &calibration(), bench.clock.clone()).err().unwrap();
    assert!(error.to_string().ends_with("expected a robot that is commanded, found a teleoperator"), "{error}");
    assert!(bench.emulator.log().entries.is_empty());
}

#[test]
fn a_motor_that_is_silent_keeps_its_value_for_a_while_and_is_named_then() {
    let bench = Bench::so101();
    let mut hand = Hand::new(&bench, leader_of(so101()));
    for _ in 0..10 {
        hand.turn().unwrap();
    }
    bench.emulator.happen(Event::Die("elbow_flex".into())).unwrap();
    let begin = Instant::now();
    let (mut kept, before) = (0, hand.action[2]);
    let error = loop {
        match hand.turn() {
            Ok(()) => kept += 1,
            Err(error) if error.to_string().contains("elbow_flex") => break error,
            // Of a busy machine.
            Err(_) => {}
        }
        assert_eq!(hand.action[2], before);
        assert!(begin.elapsed() < Duration::from_secs(1));
    };
    println!("after {} ms and {kept} actions: {error}", begin.elapsed().as_millis());
    let TeleoperatorError::Transient { what, .. } = error else { panic!("{error}") };
    assert!(what.as_str().starts_with("elbow_flex (motor 3 on bus arm, after shoulder_lift): silent for "), "{what}");
    assert!(kept >= 3 && begin.elapsed() >= Duration::from_millis(130), "{kept}");
    assert!(hand.leader.health().motors()[2].misses >= 5);
    // Alive again, it counts again.
    bench.emulator.happen(Event::Restart("elbow_flex".into())).unwrap();
    assert!((0..60).any(|_| hand.turn().is_ok()));
}

#[test]
fn lost_answers_cost_it_nothing() {
    let bench = Bench::so101();
    let mut hand = Hand::new(&bench, leader_of(so101()));
    bench.emulator.happen(Event::Rates(Rates { drop: 0.05, flip_bit: 0.001, ..Rates::default() })).unwrap();
    let failed = (0..180).filter(|_| hand.turn().is_err()).count();
    // A machine that is busy costs more than the losses do.
    assert!(failed <= 40, "{failed}");
    assert!(hand.leader.health().motors().iter().map(|motor| motor.retries).sum::<u32>() > 10);
}

#[test]
fn a_cable_that_comes_back_brings_it_back() {
    let bench = Bench::new(&light(Emulated::so101_leader()), Default::default());
    let mut hand = Hand::new(&bench, leader_of(so101()));
    hand.turn().unwrap();
    bench.emulator.happen(Event::Unplug).unwrap();
    let mut errors: Vec<String> = Vec::new();
    for _ in 0..40 {
        if let Err(error) = hand.turn() {
            assert!(matches!(error, TeleoperatorError::Transient { .. }), "{error}");
            errors.push(error.to_string());
        }
    }
    assert!(errors.len() > 35 && errors[1].ends_with("of bus arm is lost; it is tried again"), "{errors:?}");
    bench.emulator.move_by_hand("shoulder_pan", 2500.0).unwrap();
    bench.emulator.happen(Event::Replug).unwrap();
    let begin = Instant::now();
    while hand.turn().is_err() {
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
    println!("back after {} ms", begin.elapsed().as_millis());
    let expected = (2500.0 - 2050.0) / 4095.0 * std::f64::consts::TAU;
    assert!((hand.action[0] - expected).abs() < 0.004, "{:?}", hand.action);
}

#[test]
fn a_trigger_pulls_from_where_it_is_and_lets_go_at_the_end() {
    let bench = Bench::new(&light(Emulated::koch_leader()), Default::default());
    // What it was told before is no matter.
    bench.emulator.motor("gripper", |motor| motor.put(Register::GoalPosition, 300)).unwrap();
    bench.emulator.move_by_hand("gripper", 2400.0).unwrap();
    let mut hand = Hand::new(&bench, koch_leader());
    let log = bench.emulator.take_log();
    let torque = log.writes(&XL330_M077, Register::TorqueEnable);
    assert!(torque.len() == 1 && torque[0].1 == 6 && torque[0].2 == 1, "{torque:?}");
    let goals = log.writes(&XL330_M077, Register::GoalPosition);
    assert_eq!(goals.len(), 2);
    assert!(goals[0].0 < torque[0].0 && (goals[0].2 - 2400).abs() < 4 && goals[1].0 > torque[0].0, "{goals:?}");
    // Half of 700..3400, as 0.8 is half of the range.
    assert_eq!(goals[1].2, 2050);
    std::thread::sleep(Duration::from_millis(600));
    assert!((0..60).any(|_| hand.turn().is_ok()));
    assert!((hand.action[5] - 0.8).abs() < 0.05, "{:?}", hand.action);
    assert_eq!(bench.emulator.register("gripper", Register::OperatingMode).unwrap(), 5);
    assert_eq!(bench.emulator.register("elbow_flex", Register::OperatingMode).unwrap(), 4);
    drop(hand);
    assert_eq!(bench.emulator.register("gripper", Register::TorqueEnable).unwrap(), 0);
}

#[test]
fn a_leader_is_carried_to_the_robot_while_another_leads_and_lets_go_at_once() {
    let bench = Bench::new(&light(Emulated::so101_leader()), Default::default());
    ARM.iter().for_each(|name| bench.emulator.move_by_hand(name, 2050.0).unwrap());
    let (mut leader, follower) = (leader_of(so101()), so101());
    leader.lerobot.class = "so_leader".into();
    let way = ByFeature::new(&leader, &follower).unwrap();
    let mut hand = Hand::new(&bench, leader.clone());
    const RAD_PER_S: f64 = 0.5;
    hand.leader = hand.leader.with_feedback(LeaderFeedback::Follow { back: way.back(), rad_per_s: RAD_PER_S }).unwrap();
    for _ in 0..5 {
        hand.turn().unwrap();
    }
    let start = hand.action;
    bench.emulator.take_log();
    // Nothing moves because there is a way back: only when somebody else leads.
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueEnable).unwrap() == 0));
    let mut sent: Vec<f64> = start.to_vec();
    sent[0] += 0.4;
    sent[3] -= 0.3;
    for _ in 0..120 {
        let tick = hand.turns.tick(&bench);
        hand.leader.follow(&tick, &hand.nothing, &sent);
    }
    let log = bench.emulator.take_log();
    let mut torque = log.writes(&STS3215, Register::TorqueEnable);
    assert!(torque.len() < 12, "{torque:?}");
    // On a busy machine an answer is late, and a motor is told twice.
    torque.sort_by_key(|(time, motor, _)| (*motor, *time));
    torque.dedup_by_key(|(_, motor, _)| *motor);
    assert_eq!(torque.len(), 6, "{torque:?}");
    let goals = log.writes(&STS3215, Register::GoalPosition);
    for (time, motor, value) in &torque {
        assert_eq!(*value, 1);
        let before: Vec<_> = goals.iter().filter(|(at, of, _)| of == motor && at < time).collect();
        assert!(!before.is_empty() && before.iter().all(|(.., goal)| (goal - 2050).abs() < 8), "{motor}: {before:?}");
    }
    // No faster than it was told, in ticks a second.
    for motor in [1, 4] {
        let mine: Vec<_> = goals.iter().filter(|(_, of, _)| *of == motor).collect();
        let most = RAD_PER_S * 4096.0 / std::f64::consts::TAU * 0.1 + 4.0;
        assert!(mine.windows(2).all(|two| f64::from((two[1].2 - two[0].2).abs()) <= most), "{mine:?}");
        assert!(mine.len() > 30, "{}", mine.len());
    }
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueLimit).unwrap() == 500));
    let there: Vec<f64> = (0..20).find_map(|_| hand.turn().ok().map(|()| hand.action.to_vec())).unwrap();
    println!("{there:?} for {sent:?}");
    assert!(there.iter().zip(&sent).take(5).all(|(a, b)| (a - b).abs() < 0.05), "{there:?} for {sent:?}");
    // A hand takes over.
    hand.leader.reset(&hand.nothing).unwrap();
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueEnable).unwrap() == 0));
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueLimit).unwrap() == 1000));
    bench.emulator.take_log();
    for _ in 0..20 {
        drop(hand.turn());
    }
    let log = bench.emulator.take_log();
    assert!(log.writes(&STS3215, Register::GoalPosition).is_empty() && log.writes(&STS3215, Register::TorqueEnable).is_empty());
    // Led by another again, it is carried again; dropped, it is let go of.
    for _ in 0..30 {
        let tick = hand.turns.tick(&bench);
        hand.leader.follow(&tick, &hand.nothing, &sent);
    }
    assert!(ARM.iter().any(|name| bench.emulator.register(name, Register::TorqueEnable).unwrap() == 1));
    drop(hand);
    assert!(ARM.iter().all(|name| bench.emulator.register(name, Register::TorqueEnable).unwrap() == 0));
}

#[test]
fn a_leader_with_a_trigger_is_not_carried() {
    let bench = Bench::new(&light(Emulated::koch_leader()), Default::default());
    let leader = try_connect(&bench, koch_leader()).unwrap();
    let way = ByFeature::new(&leader_of(so101()), &so101()).unwrap();
    let error = leader.with_feedback(LeaderFeedback::Follow { back: way.back(), rad_per_s: 0.5 }).err().unwrap().to_string();
    assert!(
        error.contains("expected a leader whose motors can carry it (so_leader, bi_so_leader, openarm_mini, bi_openarm_mini)"),
        "{error}"
    );
}
