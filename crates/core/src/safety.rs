//! The gate that every command passes on its way to a goal register.

use serde::Serialize;

use crate::RobotDescription;

/// Joint goals that passed a [`SafetyGate`]. Only the gate makes one, and only one of these reaches
/// a goal register.
#[derive(Clone, Debug, PartialEq)]
pub struct SafeCommand {
    goals_rad: Vec<f64>,
}

impl SafeCommand {
    pub fn goals_rad(&self) -> &[f64] {
        &self.goals_rad
    }
}

/// Which limit changed a joint's goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitKind {
    NonFinite,
    Position,
    Velocity,
    Step,
}

/// How many joints each limit held back in one tick (or, summed, in an episode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interventions {
    pub non_finite: u32,
    pub position: u32,
    pub velocity: u32,
    pub step: u32,
}

impl Interventions {
    pub fn total(&self) -> u32 {
        self.non_finite + self.position + self.velocity + self.step
    }

    fn count(&mut self, kind: LimitKind) {
        match kind {
            LimitKind::NonFinite => self.non_finite += 1,
            LimitKind::Position => self.position += 1,
            LimitKind::Velocity => self.velocity += 1,
            LimitKind::Step => self.step += 1,
        }
    }
}

impl std::ops::AddAssign for Interventions {
    fn add_assign(&mut self, rhs: Self) {
        self.non_finite += rhs.non_finite;
        self.position += rhs.position;
        self.velocity += rhs.velocity;
        self.step += rhs.step;
    }
}

#[derive(Clone, Copy, Debug)]
struct JointGate {
    lower_rad: f64,
    upper_rad: f64,
    velocity_rad_per_s: f64,
    step_rad: f64,
}

/// Turns wanted goals into safe ones, joint by joint. It cannot be switched off, only given limits,
/// and those come from the robot's description.
///
/// In order, each on what the one before left:
/// 1. a goal that is not finite is refused: the last command stands;
/// 2. the goal lies within the position limits;
/// 3. the goal is at most `step` from the present position (skipped when that is not known to be
///    finite);
/// 4. the goal is at most `velocity * dt` from the last command.
///
/// Velocity comes last and therefore always holds, also when a reading of the present position is
/// wrong; position always holds too, since the last command was within it. An arm that was pushed
/// further than `step` from its goal is followed at the speed limit.
#[derive(Clone, Debug)]
pub struct SafetyGate {
    joints: Vec<JointGate>,
}

impl SafetyGate {
    pub fn of(robot: &RobotDescription) -> Self {
        let joints = robot
            .joints
            .iter()
            .map(|joint| JointGate {
                lower_rad: joint.limits.position_rad[0],
                upper_rad: joint.limits.position_rad[1],
                velocity_rad_per_s: joint.limits.velocity_rad_per_s,
                step_rad: joint.limits.step_rad,
            })
            .collect();
        Self { joints }
    }

    /// The command that asks for nothing: the present position, within the position limits. What a
    /// session starts from; a joint whose position is not finite is commanded to the middle of its
    /// range.
    pub fn hold(&self, present_rad: &[f64]) -> SafeCommand {
        let goals_rad = self
            .joints
            .iter()
            .enumerate()
            .map(|(i, gate)| {
                let present = present_rad.get(i).copied().unwrap_or(f64::NAN);
                if present.is_finite() {
                    present.clamp(gate.lower_rad, gate.upper_rad)
                } else {
                    f64::midpoint(gate.lower_rad, gate.upper_rad)
                }
            })
            .collect();
        SafeCommand { goals_rad }
    }

    /// Moves `command`, the last one that was sent, towards `wanted_rad` as far as the limits let
    /// it within `dt_s` seconds, the arm being at `present_rad`. Total: any input gives a command
    /// within the position and velocity limits; a time that is negative or not finite counts as 0.
    /// Never allocates.
    pub fn advance(&self, command: &mut SafeCommand, wanted_rad: &[f64], present_rad: &[f64], dt_s: f64) -> Interventions {
        let mut interventions = Interventions::default();
        let dt_s = if dt_s.is_finite() { dt_s.max(0.0) } else { 0.0 };
        for (i, (gate, last)) in self.joints.iter().zip(&mut command.goals_rad).enumerate() {
            let wanted = wanted_rad.get(i).copied().unwrap_or(f64::NAN);
            let present = present_rad.get(i).copied().unwrap_or(f64::NAN);
            let mut goal = wanted;
            let mut held_by = None;
            if !goal.is_finite() {
                goal = *last;
                held_by = Some(LimitKind::NonFinite);
            }
            let mut hold = |goal: &mut f64, lower: f64, upper: f64, kind: LimitKind| {
                let held = goal.clamp(lower, upper);
                if held != *goal {
                    *goal = held;
                    held_by.get_or_insert(kind);
                }
            };
            let reach = gate.velocity_rad_per_s * dt_s;
            hold(&mut goal, gate.lower_rad, gate.upper_rad, LimitKind::Position);
            if present.is_finite() {
                hold(&mut goal, present - gate.step_rad, present + gate.step_rad, LimitKind::Step);
            }
            hold(&mut goal, *last - reach, *last + reach, LimitKind::Velocity);
            // Changes nothing but what rounding may have left.
            goal = goal.clamp(gate.lower_rad, gate.upper_rad);
            if let Some(kind) = held_by {
                interventions.count(kind);
            }
            *last = goal;
        }
        interventions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOWER: f64 = -1.0;
    const UPPER: f64 = 1.5;
    const VELOCITY: f64 = 2.0;
    const STEP: f64 = 0.3;
    const DT_S: f64 = 0.02;

    fn gate() -> SafetyGate {
        let joint = JointGate { lower_rad: LOWER, upper_rad: UPPER, velocity_rad_per_s: VELOCITY, step_rad: STEP };
        SafetyGate { joints: vec![joint, JointGate { velocity_rad_per_s: 0.5, ..joint }] }
    }

    fn advance(command: &mut SafeCommand, wanted: f64, present: f64) -> Interventions {
        gate().advance(command, &[wanted, 0.0], &[present, 0.0], DT_S)
    }

    #[test]
    fn each_limit_holds_and_is_the_one_that_is_counted() {
        let cases = [
            (0.01, 0.0, 0.01, Interventions::default()),
            (f64::NAN, 0.0, 0.0, Interventions { non_finite: 1, ..Interventions::default() }),
            (f64::INFINITY, 0.0, 0.0, Interventions { non_finite: 1, ..Interventions::default() }),
            (2.0, 0.0, VELOCITY * DT_S, Interventions { position: 1, ..Interventions::default() }),
            (-0.2, 0.0, -VELOCITY * DT_S, Interventions { velocity: 1, ..Interventions::default() }),
            (0.01, 0.33, 0.33 - STEP, Interventions { step: 1, ..Interventions::default() }),
            (0.01, f64::NAN, 0.01, Interventions::default()),
        ];
        for (wanted, present, expected, interventions) in cases {
            let mut command = gate().hold(&[0.0, 0.0]);
            assert_eq!(advance(&mut command, wanted, present), interventions, "wanted {wanted}, present {present}");
            assert!((command.goals_rad()[0] - expected).abs() < 1e-12, "wanted {wanted}, present {present}: {command:?}");
            assert_eq!(command.goals_rad()[1], 0.0, "joints don't mix");
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
        assert_eq!(gate().advance(&mut command, &[], &[], DT_S).non_finite, 2);
        assert_eq!(command, before);
    }

    fn any_number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -3.0..3.0,
            2 => proptest::num::f64::ANY,
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0, LOWER, UPPER]),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_finite_and_within_the_limits(
            start in prop::array::uniform2(any_number()),
            stream in prop::collection::vec((prop::array::uniform2(any_number()), prop::array::uniform2(any_number()), any_number()), 0..40),
        ) {
            let gate = gate();
            let mut command = gate.hold(&start);
            for (wanted, present, dt_s) in stream {
                let before = command.clone();
                let interventions = gate.advance(&mut command, &wanted, &present, dt_s);
                for (i, (now, before)) in command.goals_rad().iter().zip(before.goals_rad()).enumerate() {
                    prop_assert!((LOWER..=UPPER).contains(now), "{now}");
                    let reach = gate.joints[i].velocity_rad_per_s * if dt_s.is_finite() { dt_s.max(0.0) } else { 0.0 };
                    prop_assert!((now - before).abs() <= reach * (1.0 + 1e-12) + 1e-12, "{before} to {now} in {dt_s} s");
                    let (near, was) = ((now - present[i]).abs(), (before - present[i]).abs());
                    prop_assert!(!present[i].is_finite() || near <= was.max(STEP) + 1e-12, "{before} to {now}, further from {present:?}");
                }
                prop_assert!(interventions.total() <= 2, "a joint is counted once");
                let settled = command.clone();
                gate.advance(&mut command, settled.goals_rad(), &present, 0.0);
                prop_assert_eq!(&command, &settled, "asking for what was granted changes nothing");
            }
        }

        #[test]
        fn a_legal_slow_stream_passes_unchanged(
            start in -0.9..1.4,
            moves in prop::collection::vec((-0.99..0.99, -0.5..0.5), 1..100),
        ) {
            let gate = gate();
            let mut command = gate.hold(&[start, 0.0]);
            let mut wanted = start;
            for (share, lag) in moves {
                wanted = f64::clamp(wanted + share * VELOCITY * DT_S, LOWER, UPPER);
                let interventions = gate.advance(&mut command, &[wanted, 0.0], &[wanted + lag * STEP, 0.0], DT_S);
                prop_assert_eq!(interventions, Interventions::default());
                prop_assert_eq!(command.goals_rad(), &[wanted, 0.0]);
            }
        }
    }
}
