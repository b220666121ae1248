use proptest::prelude::*;

use super::*;
use checks::{Clock, Figures, GENTLE, Kind, RATES_HZ, Random, SO101};

#[path = "checks.rs"]
mod checks;

fn held(figures: &Figures) -> Result<(), TestCaseError> {
    prop_assert!(figures.by_name.is_empty(), "{figures:#?}");
    Ok(())
}

fn kept(kind: Kind, seed: u64, rate_hz: f64) -> Result<(), TestCaseError> {
    let mut figures = Figures::default();
    checks::episode(Some(kind), Some(rate_hz), &mut Random::from_seed(seed), &mut figures);
    held(&figures)
}

fn any_rate() -> impl Strategy<Value = f64> {
    prop::sample::select(RATES_HZ.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_target_that_stands_is_reached_exactly_and_soon_and_without_hunting(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Stand, seed, rate_hz)?;
    }

    #[test]
    fn a_legal_slow_stream_passes_unchanged(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Slow, seed, rate_hz)?;
    }

    #[test]
    fn a_target_that_moves_steadily_is_caught_up_with_and_followed(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Ramp, seed, rate_hz)?;
    }

    #[test]
    fn waypoints_with_corners_are_followed_within_the_limits(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Corners, seed, rate_hz)?;
    }

    #[test]
    fn no_stall_and_no_tick_of_any_length_leads_out_of_the_limits(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Stalls, seed, rate_hz)?;
    }

    #[test]
    fn a_velocity_that_is_wanted_is_come_to_exactly_and_not_passed(seed: u64, rate_hz in any_rate()) {
        kept(Kind::Velocity, seed, rate_hz)?;
    }
}

#[test]
fn noise_comes_out_at_most_three_times_as_large() {
    // The same streams every time: by chance, one in some ten thousand is legal for long enough to swing further.
    let mut random = Random::from_seed(1);
    let mut figures = Figures::default();
    for rate_hz in RATES_HZ {
        for _ in 0..10 {
            checks::episode(Some(Kind::Noise), Some(rate_hz), &mut random, &mut figures);
        }
    }
    held(&figures).unwrap();
}

#[test]
fn steps_of_any_size_are_reached_without_hunting_by_the_known_arms() {
    let mut random = Random::from_seed(1);
    let mut figures = Figures::default();
    for limits in [SO101, GENTLE] {
        for rate_hz in RATES_HZ {
            for size in 1..=400 {
                let clock = Clock::even(rate_hz);
                checks::step(&limits, clock, f64::from(size) * 0.0025, &mut random, &mut figures);
            }
        }
    }
    held(&figures).unwrap();
}

#[test]
fn a_small_step_is_granted_at_once_and_a_large_one_takes_the_time_its_limits_need() {
    let dt_s = 0.005;
    let limits = MotionLimits { lower: -1.0, upper: 1.5, velocity: 3.0, acceleration: 60.0, jerk: 3000.0 };
    let rest = Motion::resting_at(0.0);
    assert_eq!(limits.towards(&rest, 1e-5, dt_s), (Motion { position: 1e-5, ..limits.towards(&rest, 1e-5, dt_s).0 }, None));
    let mut motion = rest;
    let mut ticks = 0;
    let mut fastest = 0.0;
    while motion.position != 1.0 {
        motion = limits.towards(&motion, 1.0, dt_s).0;
        fastest = f64::max(fastest, motion.velocity);
        ticks += 1;
        assert!(ticks < 200, "{motion:?}");
    }
    // 1 rad at 3 rad/s, 0.05 s to gain or lose the speed and 0.02 s to begin doing so.
    assert!((79..90).contains(&ticks), "{ticks} ticks");
    assert!(fastest > 2.99, "{fastest}");
}

#[test]
fn the_limit_that_holds_is_named() {
    let limits = MotionLimits { lower: -1.0, upper: 1.5, velocity: 2.0, acceleration: 40.0, jerk: 2500.0 };
    let rest = Motion::resting_at(0.0);
    let named = |last: &Motion, target: f64, dt_s: f64| limits.towards(last, target, dt_s).1;
    assert_eq!(named(&rest, 0.01, 0.02), None);
    assert_eq!(named(&rest, 0.05, 0.02), Some(LimitKind::Velocity));
    assert_eq!(named(&rest, 0.02, 0.02), Some(LimitKind::Acceleration));
    let moves = limits.towards(&rest, 0.016, 0.02).0;
    // From 40 rad/s² to -15: a change of 55, where a tick allows 50.
    assert_eq!(named(&moves, 0.026, 0.02), Some(LimitKind::Jerk));
    let near = limits.towards(&Motion::resting_at(1.44), 1.45, 0.02).0;
    assert_eq!(named(&near, 1.474, 0.02), Some(LimitKind::Position));
    assert_eq!(limits.towards(&moves, 0.3, 0.0), (Motion { target: 0.3, ..moves }, Some(LimitKind::Velocity)), "no time, no motion");
}
