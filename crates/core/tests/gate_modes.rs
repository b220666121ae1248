//! Velocities, efforts and impedance: what is granted, what falls to zero, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Rig, one};
use sinew_core::{Impedance, Interventions, RobotDescription, Wanted};

const DT_S: f64 = 0.02;
const NONE: Interventions = Interventions {
    non_finite: 0,
    unknown: 0,
    stale: 0,
    position: 0,
    velocity: 0,
    acceleration: 0,
    jerk: 0,
    step: 0,
    effort: 0,
    temperature: 0,
    torque: 0,
    workspace: 0,
};

fn wheel() -> RobotDescription {
    one("kind = \"continuous\"\ncommand = \"velocity\"\nlimits = { velocity = 4.0, acceleration = 20.0, jerk = 20000.0, stale_ms = 200 }")
}

fn clamp() -> RobotDescription {
    one("command = \"effort\"\nlimits = { torque = 0.4, stale_ms = 200 }")
}

fn arm() -> RobotDescription {
    let limits = "position = [-1.0, 1.0], velocity = 2.0, step = 0.4, torque = 0.5, stiffness = 100.0, damping = 4.0";
    one(&format!("command = \"impedance\"\nlimits = {{ {limits} }}"))
}

/// A turn in which `wanted` was wanted `age_s` ago.
fn turn(rig: &mut Rig, wanted: f64, age_s: f64) -> (f64, Interventions) {
    rig.wait(DT_S);
    let present = vec![0.0; rig.observed.state.width()];
    rig.measure(&present);
    let now = rig.now;
    let time = sinew_core::Timestamp::from_nanos(now.as_nanos() - (age_s * 1e9) as i64);
    let wanted = Wanted { goals: vec![wanted; rig.wanted.goals.len()], time, ..rig.wanted.clone() };
    let verdict = rig.gate.propose(Some(&wanted), &rig.observed, now, DT_S).unwrap();
    rig.send();
    (rig.sent()[0], verdict.interventions)
}

#[test]
fn a_velocity_is_granted_within_its_limits_and_falls_to_zero_when_it_is_stale() {
    let mut rig = Rig::new(wheel(), &[0.0]);
    assert_eq!(rig.sent(), [0.0]);
    let mut last = 0.0;
    for _ in 0..10 {
        last = turn(&mut rig, 0.3, 0.0).0;
    }
    assert_eq!((last, turn(&mut rig, 0.3, 0.0)), (0.3, (0.3, NONE)));
    for tick in 0..100 {
        let wanted = if tick < 40 { 9.0 } else { -9.0 };
        let (sent, counted) = turn(&mut rig, wanted, 0.0);
        assert!((sent - last).abs() <= 20.0 * DT_S + 1e-12 && sent.abs() <= 4.0, "{last} to {sent}");
        assert_eq!(counted, Interventions { velocity: 1, ..NONE });
        last = sent;
    }
    assert_eq!(last, -4.0);
    assert_eq!(turn(&mut rig, -4.0, 0.199), (-4.0, NONE), "young enough");
    for tick in 0..25 {
        let (sent, counted) = turn(&mut rig, -4.0, 0.201);
        assert_eq!(counted, Interventions { stale: 1, ..NONE });
        assert!(sent >= last && sent - last <= 20.0 * DT_S + 1e-12, "at {tick}: {last} to {sent}");
        last = sent;
    }
    assert_eq!(last, 0.0);
    // Nobody wants anything, and something that is no number.
    for wanted in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        for _ in 0..20 {
            turn(&mut rig, 2.0, 0.0);
        }
        assert_eq!(rig.sent(), [2.0]);
        let goals = wanted.map(|wanted| [wanted]);
        for _ in 0..11 {
            let before = rig.sent()[0];
            rig.wait(DT_S);
            let verdict = rig.propose(goals.as_ref().map(|goals| &goals[..]), DT_S).unwrap();
            assert_eq!(verdict.interventions.non_finite, u32::from(wanted.is_some()));
            rig.send();
            assert!(before - rig.sent()[0] <= 20.0 * DT_S + 1e-12);
        }
        assert_eq!(rig.sent(), [0.0]);
    }
}

#[test]
fn a_velocity_that_was_not_sent_goes_on_in_the_motor() {
    let mut rig = Rig::new(wheel(), &[0.0]);
    for _ in 0..10 {
        turn(&mut rig, 2.0, 0.0);
    }
    rig.wait(DT_S);
    rig.propose(Some(&[0.0]), DT_S).unwrap();
    rig.send_only(&[]);
    assert_eq!(rig.sent(), [2.0]);
    let mut sent = sinew_core::Sent::new(1);
    rig.propose(Some(&[0.0]), DT_S).unwrap();
    sent.reach(0, 1.0);
    rig.gate.commit(&sent);
    assert_eq!(rig.sent(), [1.0], "the robot made something else of it");
    assert_eq!(turn(&mut rig, 0.0, 0.0).0, 0.6);
}

#[test]
fn an_effort_is_cut_and_falls_to_zero() {
    let mut rig = Rig::new(clamp(), &[0.0]);
    for (wanted, age_s, expected, counted) in [
        (0.3, 0.0, 0.3, NONE),
        (-0.4, 0.0, -0.4, NONE),
        (5.0, 0.0, 0.4, Interventions { torque: 1, ..NONE }),
        (-5.0, 0.0, -0.4, Interventions { torque: 1, ..NONE }),
        (0.3, 0.3, 0.0, Interventions { stale: 1, ..NONE }),
        (0.3, 0.1, 0.3, NONE),
        (f64::NAN, 0.0, 0.0, Interventions { non_finite: 1, ..NONE }),
        (f64::NEG_INFINITY, 0.0, 0.0, Interventions { non_finite: 1, ..NONE }),
    ] {
        assert_eq!(turn(&mut rig, wanted, age_s), (expected, counted), "{wanted}");
    }
    turn(&mut rig, 0.3, 0.0);
    rig.propose(None, DT_S).unwrap();
    assert_eq!(rig.gate.proposed().goals(), [0.0]);
    rig.send_only(&[]);
    assert_eq!(rig.sent(), [0.3], "what was not sent is not known to have fallen");
}

#[test]
fn impedance_is_bounded_in_all_that_it_says() {
    let mut rig = Rig::new(arm(), &[0.0]);
    let most = Impedance { stiffness: 100.0, damping: 4.0, torque: 0.0 };
    let least = Impedance::default();
    for (asked, expected) in [
        (Impedance { stiffness: 30.0, damping: 1.0, torque: -0.2 }, Impedance { stiffness: 30.0, damping: 1.0, torque: -0.2 }),
        (Impedance { stiffness: 1e9, damping: 1e9, torque: 1e9 }, Impedance { torque: 0.5, ..most }),
        (Impedance { stiffness: -1.0, damping: -1.0, torque: -1e9 }, Impedance { torque: -0.5, ..least }),
        (Impedance { stiffness: f64::NAN, damping: f64::NAN, torque: f64::NAN }, most),
        (Impedance { stiffness: f64::INFINITY, damping: f64::INFINITY, torque: f64::INFINITY }, most),
    ] {
        rig.wanted.impedance = vec![asked];
        turn(&mut rig, 0.01, 0.0);
        assert_eq!(rig.gate.proposed().impedance(0), Some(expected), "{asked:?}");
    }
    assert_eq!(Wanted::for_robot(&rig.robot).impedance, [most], "and so has one who only says where");
    rig.wanted.impedance = Vec::new();
    turn(&mut rig, 0.01, 0.0);
    assert_eq!(rig.gate.proposed().impedance(0), Some(most), "who says nothing of it has it held");
    rig.wanted.impedance = vec![Impedance { stiffness: 1.0, damping: 1.0, torque: 0.4 }];
    rig.propose(None, DT_S).unwrap();
    assert_eq!(rig.gate.proposed().impedance(0), Some(most), "and so has one who wants nothing");
    assert_eq!(Rig::new(wheel(), &[0.0]).gate.proposed().impedance(0), None);
}

#[test]
fn a_goal_of_impedance_keeps_the_limits_of_a_position() {
    let mut rig = Rig::new(arm(), &[0.0]);
    let mut last = 0.0;
    for _ in 0..60 {
        let sent = rig.follow(Some(&[7.0]), DT_S)[0];
        assert!(sent - last <= 2.0 * DT_S + 1e-12);
        last = sent;
    }
    assert!((last - 1.0).abs() < 1e-6);
}

#[test]
fn what_is_no_number_or_not_there_is_refused_in_every_mode() {
    let base = "[base]\nkind = \"differential\"\nwheel_radius_m = 0.05\nwheel_velocity_rad_per_s = 9.0\nstale_ms = 200\n\
        linear = { velocity = 0.4 }\nangular = { velocity = 2.0 }\n\
        [[base.wheel]]\npart = \"l\"\nrim_m_per_s = [1.0, 0.0, -0.1]\n[[base.wheel]]\npart = \"r\"\nrim_m_per_s = [1.0, 0.0, 0.1]\n\
        [[part]]\nname = \"l\"\nkind = \"wheel\"\n[[part]]\nname = \"r\"\nkind = \"wheel\"\n";
    let turning = common::joints(&["position = [-1.0, 1.0], velocity = 2.0, step = 0.4"], base);
    for robot in [wheel(), clamp(), arm(), turning] {
        let width = robot.action_channels().len();
        let state = vec![0.0; robot.state_channels().len()];
        for goals in [vec![f64::NAN; width], vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width], Vec::new()] {
            let mut rig = Rig::new(robot.clone(), &state);
            let sent = rig.turn(Some(&goals), &state, DT_S).unwrap();
            assert_eq!(sent, vec![0.0; width], "{} {goals:?}", robot.parts[0].name);
            let refused = rig.propose(Some(&goals), DT_S).unwrap().interventions;
            assert_eq!((refused.non_finite, refused.total()), (width as u32, width as u32));
        }
    }
}

#[test]
fn a_base_is_driven_within_its_own_limits() {
    let text = include_str!("robots/mecanum.toml");
    let mut rig = Rig::new(RobotDescription::from_toml("mecanum", text).unwrap(), &[0.0; 3]);
    let mut last = vec![0.0; 3];
    for _ in 0..100 {
        let sent = rig.follow(Some(&[5.0, -5.0, 9.0]), DT_S);
        for (i, most) in [3.0, 3.0, 9.0].into_iter().enumerate() {
            assert!((sent[i] - last[i]).abs() <= most * DT_S + 1e-12, "{last:?} to {sent:?}");
        }
        last = sent;
    }
    assert_eq!(last, [1.0, -1.0, 3.0]);
    // It is not known how fast it goes, and it is driven on: nothing hangs on it.
    rig.wait(2.0);
    assert!(!rig.propose(Some(&[1.0, 0.0, 0.0]), DT_S).unwrap().brakes);
}
