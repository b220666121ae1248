use proptest::prelude::*;

use super::*;
use crate::{RobotDescription, Workspace};

const LOWER: f64 = -1.0;
const UPPER: f64 = 1.5;
const VELOCITY: f64 = 2.0;
const ACCELERATION: f64 = 40.0;
const JERK: f64 = 2500.0;
const STEP: f64 = 0.3;
const DT_S: f64 = 0.02;

fn joint() -> JointGate {
    let motion = MotionLimits {
        lower_rad: LOWER,
        upper_rad: UPPER,
        velocity_rad_per_s: VELOCITY,
        acceleration_rad_per_s2: ACCELERATION,
        jerk_rad_per_s3: JERK,
    };
    JointGate { motion, step_rad: STEP, effort: 0.8, temperature_c: 60.0 }
}

fn gate() -> SafetyGate {
    let slow = MotionLimits { velocity_rad_per_s: 0.5, ..joint().motion };
    SafetyGate { joints: vec![joint(), JointGate { motion: slow, ..joint() }], workspace: None }
}

fn at(position_rad: &[f64]) -> Observation {
    Observation { position_rad: position_rad.to_vec(), ..Observation::default() }
}

fn advance(command: &mut SafeCommand, wanted: f64, present: f64) -> Interventions {
    gate().advance(command, &[wanted, 0.0], &at(&[present, 0.0]), DT_S)
}

#[test]
fn each_limit_holds_and_is_the_one_that_is_counted() {
    let none = Interventions::default();
    // What a tick allows from rest: the acceleration limit, which the jerk limit allows at once.
    let most = ACCELERATION * DT_S * DT_S;
    let cases = [
        (0.01, 0.0, 0.01, none),
        (f64::NAN, 0.0, 0.0, Interventions { non_finite: 1, ..none }),
        (f64::INFINITY, 0.0, 0.0, Interventions { non_finite: 1, ..none }),
        (2.0, 0.0, most, Interventions { position: 1, ..none }),
        (-0.2, 0.0, -most, Interventions { velocity: 1, ..none }),
        (0.01, 0.33, 0.33 - STEP, Interventions { step: 1, ..none }),
        (0.01, f64::NAN, 0.01, none),
    ];
    for (wanted, present, expected, interventions) in cases {
        let mut command = gate().hold(&[0.0, 0.0]);
        assert_eq!(advance(&mut command, wanted, present), interventions, "wanted {wanted}, present {present}");
        assert!((command.goals_rad()[0] - expected).abs() < 1e-5, "wanted {wanted}, present {present}: {command:?}");
        assert_eq!(command.goals_rad()[1], 0.0, "joints don't mix");
    }
    let mut command = gate().hold(&[0.0, 0.0]);
    assert_eq!(advance(&mut command, 0.02, 0.0), Interventions { acceleration: 1, ..none });
    assert!((0.004..most).contains(&command.goals_rad()[0]), "on the way, and able to stop there: {command:?}");
    let mut command = gate().hold(&[0.0, 0.0]);
    advance(&mut command, 0.016, 0.0);
    // From 40 rad/s² to -15: a change of 55, where a tick allows 50.
    assert_eq!(advance(&mut command, 0.016 + 0.016 - 0.006, 0.0), Interventions { jerk: 1, ..none });
    // Near a limit the joint may not be so fast that it could not stop.
    let mut command = gate().hold(&[UPPER - 0.06, 0.0]);
    assert_eq!(advance(&mut command, UPPER - 0.05, UPPER), none);
    assert_eq!(advance(&mut command, UPPER - 0.026, UPPER), Interventions { position: 1, ..none });
}

#[test]
fn a_joint_that_is_hot_stays_and_one_that_pushes_too_hard_is_led_no_further() {
    let sensed = |effort: f64, temperature: f64| Observation {
        effort: vec![effort, 0.0],
        temperature_c: vec![temperature, 20.0],
        ..at(&[0.0, 0.0])
    };
    let cases = [
        (0.01, 0.79, 59.0, 0.01, Interventions::default()),
        (0.01, 0.0, 61.0, 0.0, Interventions { temperature: 1, ..Interventions::default() }),
        (0.01, 0.9, 20.0, 0.0, Interventions { effort: 1, ..Interventions::default() }),
        (-0.01, 0.9, 20.0, -0.01, Interventions::default()),
        (-0.01, -0.9, 20.0, 0.0, Interventions { effort: 1, ..Interventions::default() }),
        (0.01, f64::NAN, f64::NAN, 0.01, Interventions::default()),
    ];
    for (wanted, effort, temperature, expected, interventions) in cases {
        let mut command = gate().hold(&[0.0, 0.0]);
        let found = gate().advance(&mut command, &[wanted, 0.0], &sensed(effort, temperature), DT_S);
        assert_eq!((found, command.goals_rad()[0]), (interventions, expected), "wanted {wanted}, effort {effort}, {temperature} degrees");
    }
}

#[test]
fn an_arm_found_outside_its_limits_is_held_at_the_nearest_one() {
    assert_eq!(gate().hold(&[7.0, -7.0]).goals_rad(), [UPPER, LOWER]);
    let mut command = gate().hold(&[7.0, 0.0]);
    advance(&mut command, 7.0, 7.0);
    assert_eq!(command.goals_rad()[0], UPPER, "position outranks step");
}

#[test]
fn an_arm_pushed_away_is_followed_at_the_speed_limit() {
    let mut command = gate().hold(&[0.0, 0.0]);
    assert_eq!(advance(&mut command, 0.0, 0.9), Interventions { step: 1, ..Interventions::default() });
    assert_eq!(command.goals_rad()[0], VELOCITY * DT_S);
}

#[test]
fn missing_values_are_as_those_that_are_no_numbers() {
    let mut command = gate().hold(&[0.2, 0.1]);
    let before = command.clone();
    assert_eq!(gate().advance(&mut command, &[], &Observation::default(), DT_S).non_finite, 2);
    assert_eq!(command, before);
}

fn so101_in(workspace: Workspace) -> RobotDescription {
    let text = include_str!("../../../../robots/so101/robot.toml");
    RobotDescription { workspace: Some(workspace), ..RobotDescription::from_toml("so101", text).unwrap() }
}

#[test]
fn a_workspace_that_makes_no_sense_is_refused() {
    let text = include_str!("../../../../robots/so101/robot.toml");
    let with = |min: &str| text.replace("[stop]", &format!("[workspace]\nmin_m = {min}\nmax_m = [1.0, 1.0, 1.0]\n\n[stop]"));
    assert!(RobotDescription::from_toml("so101", &with("[-1.0, -1.0, -1.0]")).is_ok());
    for (min, words) in [("[-1.0, 2.0, -1.0]", "expected finite and rising"), ("[-1.0, -1.0, 0.9]", "stop.rest_rad brings the tool to")] {
        let error = RobotDescription::from_toml("so101", &with(min)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let odd = text.replacen("step_rad = 0.35 }", "step_rad = 0.35, jerk_rad_per_s3 = -1.0 }", 1);
    let error = RobotDescription::from_toml("so101", &odd).unwrap_err().to_string();
    assert!(error.contains("joint shoulder_pan: jerk_rad_per_s3 is -1, expected finite and above 0"), "{error}");
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -3.0..3.0,
        2 => proptest::num::f64::ANY,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0, LOWER, UPPER]),
    ]
}

fn any_pair() -> impl Strategy<Value = [f64; 2]> {
    prop::array::uniform2(any_number())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_what_goes_out_is_finite_and_within_the_limits(
        start in any_pair(),
        stream in prop::collection::vec((any_pair(), any_pair(), any_pair(), any_pair(), any_number()), 0..40),
    ) {
        let gate = gate();
        let mut command = gate.hold(&start);
        for (wanted, present, effort, temperature, dt_s) in stream {
            let before = command.clone();
            let observed = Observation { effort: effort.to_vec(), temperature_c: temperature.to_vec(), ..at(&present) };
            let interventions = gate.advance(&mut command, &wanted, &observed, dt_s);
            for (i, (now, last)) in command.goals_rad().iter().zip(before.goals_rad()).enumerate() {
                prop_assert!((LOWER..=UPPER).contains(now), "{now}");
                let reach = gate.joints[i].motion.velocity_rad_per_s * if dt_s.is_finite() { dt_s.max(0.0) } else { 0.0 };
                prop_assert!((now - last).abs() <= reach * (1.0 + 1e-12) + 1e-11, "{last} to {now} in {dt_s} s");
                let (near, was) = ((now - present[i]).abs(), (last - present[i]).abs());
                prop_assert!(!present[i].is_finite() || near <= was.max(STEP) + 1e-11, "{last} to {now}, further from {present:?}");
            }
            prop_assert!(interventions.total() <= 2, "a joint is counted once");
            let settled = command.clone();
            let mut again = before;
            gate.advance(&mut again, settled.goals_rad(), &observed, dt_s);
            for (again, settled) in again.goals_rad().iter().zip(settled.goals_rad()) {
                prop_assert!((again - settled).abs() <= 1e-9, "asking for what was granted grants the same: {again}, {settled}");
            }
        }
    }

    #[test]
    fn a_legal_slow_stream_passes_unchanged(
        start in -0.9..1.4,
        changes in prop::collection::vec((-0.99..0.99f64, -0.5..0.5f64), 1..100),
    ) {
        let gate = gate();
        let mut command = gate.hold(&[start, 0.0]);
        let (mut wanted, mut velocity) = (start, 0.0f64);
        for (share, lag) in changes {
            // Half of the speed that could still be stopped before the limits; half a tick's jerk.
            let room = f64::min(UPPER - wanted, wanted - LOWER).max(0.0);
            let fastest = f64::min(0.9 * VELOCITY, 2.0 * room);
            velocity = (velocity + share * 0.5 * JERK * DT_S * DT_S).clamp(-fastest, fastest);
            wanted += velocity * DT_S;
            let interventions = gate.advance(&mut command, &[wanted, 0.0], &at(&[wanted + lag * STEP, 0.0]), DT_S);
            let smooth = interventions == Interventions::default();
            prop_assert!(smooth || room < 0.2, "{interventions:?} at {wanted}");
            if !smooth {
                return Ok(());
            }
            prop_assert_eq!(command.goals_rad(), &[wanted, 0.0]);
        }
    }

    #[test]
    fn no_command_takes_the_tool_out_of_its_workspace(
        stream in prop::collection::vec((prop::collection::vec(-2.0..2.0f64, 6), 1usize..20), 1..15),
        start in prop::collection::vec(-1.0..1.0f64, 6),
        low in -0.1..0.05f64,
    ) {
        let workspace = Workspace { min_m: [0.0, -0.2, low], max_m: [0.35, 0.15, 0.4] };
        let robot = so101_in(workspace);
        let gate = SafetyGate::of(&robot);
        let mut command = gate.hold(&start);
        let outside = |goals: &[f64]| {
            let tool = robot.base_from_tool(goals).translation.vector;
            (0..3).map(|i| (workspace.min_m[i] - tool[i]).max(tool[i] - workspace.max_m[i])).fold(0.0, f64::max)
        };
        let mut acted = false;
        for (wanted, times) in stream {
            for _ in 0..times {
                let before = outside(command.goals_rad());
                let observed = at(command.goals_rad());
                acted |= gate.advance(&mut command, &wanted, &observed, 1.0 / 30.0).workspace > 0;
                let after = outside(command.goals_rad());
                prop_assert!(after <= before + 2e-9, "from {before} m outside to {after}");
            }
        }
        // Else every stream of these stays in the box, which is smaller than the arm's reach.
        prop_assert!(acted || outside(command.goals_rad()) < 0.2);
    }
}
