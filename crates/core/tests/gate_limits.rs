//! Whatever comes in, what goes out keeps the limits: at every rate, with bad readings, jitter and missed ticks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Rig, joints};
use proptest::prelude::*;
use sinew_core::{Impedance, RobotDescription, Sent, Timestamp, Wanted};

const RATES_HZ: [f64; 8] = [30.0, 50.0, 60.0, 90.0, 120.0, 200.0, 500.0, 1000.0];

/// The limits of a joint, as a test knows them.
#[derive(Clone, Copy, Debug)]
struct Known {
    lower: f64,
    upper: f64,
    velocity: f64,
    acceleration: f64,
    jerk: f64,
    step: f64,
}

impl Known {
    fn robot(&self) -> RobotDescription {
        let Self { lower, upper, velocity, acceleration, jerk, step } = self;
        let limits = format!(
            "position = [{lower:?}, {upper:?}], velocity = {velocity:?}, acceleration = {acceleration:?}, jerk = {jerk:?}, step = {step:?}, effort = 0.8, temperature_c = 60.0"
        );
        joints(&[&limits], "")
    }
}

fn any_limits() -> impl Strategy<Value = Known> {
    (-2.0..-0.1, 0.1..2.0, 0.2..8.0, 0.02..0.5, 0.005..0.3, 0.05..0.6).prop_map(
        |(lower, upper, velocity, to_velocity_s, to_most_s, step)| {
            let acceleration = velocity / to_velocity_s;
            Known { lower, upper, velocity, acceleration, jerk: acceleration / to_most_s, step }
        },
    )
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -3.0..3.0,
        2 => proptest::num::f64::ANY,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0]),
    ]
}

/// What happens for some ticks.
#[derive(Clone, Debug)]
struct Span {
    wanted: Option<f64>,
    ticks: usize,
    /// What is measured instead of where the joint is; nothing at all for what is no number.
    measured: Option<f64>,
    effort: f64,
    temperature_c: f64,
    is_sent: bool,
}

fn any_span() -> impl Strategy<Value = Span> {
    (
        prop::option::weighted(0.95, any_number()),
        1_usize..40,
        prop::option::weighted(0.2, any_number()),
        prop_oneof![4 => Just(0.0), 1 => -1.0..1.0],
        prop_oneof![9 => Just(30.0), 1 => Just(70.0)],
        prop::bool::weighted(0.9),
    )
        .prop_map(|(wanted, ticks, measured, effort, temperature_c, is_sent)| Span {
            wanted,
            ticks,
            measured,
            effort,
            temperature_c,
            is_sent,
        })
}

/// Runs `spans` and checks every command against the limits, each tick lasting as long as `tick_s` says; acceleration
/// may be `slack` times its limit.
fn check(known: &Known, start: f64, spans: &[Span], slack: f64, mut tick_s: impl FnMut() -> f64) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(known.robot(), &[start]);
    let (mut last, mut velocity) = (start, 0.0);
    for span in spans {
        for _ in 0..span.ticks {
            let dt_s = tick_s();
            rig.wait(dt_s);
            rig.observed.age();
            rig.observed.state.set(0, span.measured.unwrap_or(last), rig.now);
            rig.observed.effort.set(0, span.effort, rig.now);
            rig.observed.temperature_c.set(0, span.temperature_c, rig.now);
            let goals = span.wanted.map(|wanted| [wanted]);
            let Ok(verdict) = rig.propose(goals.as_ref().map(|goals| &goals[..]), dt_s) else { return Ok(()) };
            prop_assert!(verdict.interventions.total() <= 1, "a channel is counted once");
            let now = rig.gate.proposed().goals()[0];
            // Outside it may be where it was found, and not further out.
            let (lower, upper) = (known.lower.min(start), known.upper.max(start));
            prop_assert!((lower - 1e-9..=upper + 1e-9).contains(&now), "from {last} to {now} in {known:?}");
            let speed = (now - last) / dt_s;
            prop_assert!(speed.abs() <= known.velocity * (1.0 + 1e-9) + 1e-9, "from {last} to {now} in {dt_s} s, {known:?}");
            let most = slack * known.acceleration * (1.0 + 1e-6) + 1e-10 / (dt_s * dt_s);
            prop_assert!((speed - velocity).abs() / dt_s <= most, "from {velocity}/s to {speed}/s in {dt_s} s, {known:?}");
            if span.is_sent {
                rig.send();
                (last, velocity) = (now, speed);
            } else {
                rig.send_only(&[]);
                velocity = 0.0;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rate_keeps_every_limit(
        known in any_limits(),
        start in -3.0..3.0f64,
        rate_hz in prop::sample::select(RATES_HZ.to_vec()),
        spans in prop::collection::vec(any_span(), 1..12),
    ) {
        check(&known, start, &spans, 1.0, || 1.0 / rate_hz)?;
    }

    /// Where ticks are of different lengths, a motion may have to end within one that was planned for another: position
    /// and velocity are kept even so, and acceleration gives way a little.
    #[test]
    fn jitter_and_missed_ticks_keep_every_limit(
        known in any_limits(),
        start in -3.0..3.0f64,
        rate_hz in prop::sample::select(RATES_HZ.to_vec()),
        spans in prop::collection::vec(any_span(), 1..12),
        seed in any::<u64>(),
    ) {
        let mut noise = common::Noise(seed);
        check(&known, start, &spans, 1.5, || {
            let missed = if noise.next() > 0.9 { 2.0 } else { 1.0 };
            (missed + 0.2 * noise.next()) / rate_hz
        })?;
    }

    #[test]
    fn a_legal_slow_stream_passes_unchanged(
        known in any_limits(),
        rate_hz in prop::sample::select(RATES_HZ.to_vec()),
        changes in prop::collection::vec((-1.0..1.0f64, -0.1..0.1f64), 1..200),
    ) {
        let dt_s = 1.0 / rate_hz;
        let mut rig = Rig::new(known.robot(), &[0.0]);
        let (mut wanted, mut velocity, mut acceleration) = (0.0, 0.0_f64, 0.0_f64);
        for (share, lag) in changes {
            // A quarter of what acceleration and jerk allow, a speed that a quarter could stop before the limits.
            let target = share * 0.25 * known.acceleration;
            let change = 0.25 * known.jerk * dt_s;
            acceleration += (target - acceleration).clamp(-change, change);
            let room = f64::min(known.upper - wanted, wanted - known.lower);
            velocity += acceleration * dt_s;
            if velocity.abs() > 0.5 * known.velocity || room < 0.5 * velocity.abs() * known.velocity / known.acceleration * 4.0 + velocity.abs() * 4.0 * (known.acceleration / known.jerk + dt_s) + 0.02 {
                return Ok(());
            }
            wanted += velocity * dt_s;
            let measured = wanted + lag * known.step;
            rig.wait(dt_s);
            rig.measure(&[measured]);
            let verdict = rig.propose(Some(&[wanted]), dt_s).unwrap();
            rig.send();
            prop_assert_eq!(verdict.interventions.total(), 0, "{:?} at {}, {} a second", verdict, wanted, velocity);
            prop_assert_eq!(rig.sent(), vec![wanted]);
        }
    }

    #[test]
    fn no_input_makes_a_command_that_is_no_number(
        goals in prop::collection::vec(any_number(), 0..3),
        numbers in prop::collection::vec((any_number(), any_number(), any_number()), 1..10),
        dt_s in any_number(),
        times in prop::collection::vec(any::<i32>(), 2),
        gains in prop::array::uniform3(any_number()),
        sent in any_number(),
    ) {
        for text in [include_str!("../../../robots/openarm/robot.toml"), include_str!("robots/lift.toml"), include_str!("robots/mecanum.toml")] {
            let robot = RobotDescription::from_toml("it", text).unwrap();
            let state = vec![0.0; robot.state_channels().len()];
            let mut rig = Rig::new(robot, &state);
            let [stiffness, damping, torque] = gains;
            rig.wanted.impedance.fill(Impedance { stiffness, damping, torque });
            for (measured, effort, temperature_c) in &numbers {
                let at = |ns: i32| Timestamp::from_nanos(rig.now.as_nanos() + i64::from(ns));
                let time = at(times[0]);
                (0..state.len()).for_each(|i| rig.observed.state.set(i, *measured, time));
                rig.observed.effort.set(0, *effort, time);
                rig.observed.temperature_c.set(0, *temperature_c, time);
                let wanted = Wanted { goals: goals.clone(), time: at(times[1]), ..rig.wanted.clone() };
                if rig.gate.propose(Some(&wanted), &rig.observed, rig.now, dt_s).is_err() {
                    break;
                }
                let command = rig.gate.proposed();
                prop_assert!(command.goals().iter().all(|goal| goal.is_finite()), "{:?}", command);
                for i in 0..command.goals().len() {
                    let given = command.impedance(i).unwrap_or_default();
                    prop_assert!((0.0..=240.0).contains(&given.stiffness) && (0.0..=5.0).contains(&given.damping) && given.torque.abs() <= 0.5);
                }
                let mut told = Sent::new(command.goals().len());
                told.reach_all(command);
                if sent.abs() < 1e3 || !sent.is_finite() {
                    told.reach(0, sent);
                }
                rig.gate.commit(&told);
                prop_assert!(rig.sent().iter().all(|sent| sent.is_finite()));
            }
        }
    }
}
