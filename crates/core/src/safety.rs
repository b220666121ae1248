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
pub enum LimitKind {
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
/// 2. the goal is at most `velocity * dt` from the last command;
/// 3. the goal is at most `step` from the present position (skipped when that is not known to be
///    finite);
/// 4. the goal lies within the position limits.
///
/// Position comes last and therefore always holds; an arm found outside its limits is commanded to
/// the nearest one.
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
                if present.is_finite() { present.clamp(gate.lower_rad, gate.upper_rad) } else { f64::midpoint(gate.lower_rad, gate.upper_rad) }
            })
            .collect();
        SafeCommand { goals_rad }
    }

    /// Moves `command`, the last one that was sent, towards `wanted_rad` as far as the limits let
    /// it within `dt_s` seconds, the arm being at `present_rad`. Total: any input gives a command
    /// within the position limits. Never allocates.
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
            // Position first too, so that a goal far outside is counted as that and not as speed.
            hold(&mut goal, gate.lower_rad, gate.upper_rad, LimitKind::Position);
            let reach = gate.velocity_rad_per_s * dt_s;
            hold(&mut goal, *last - reach, *last + reach, LimitKind::Velocity);
            if present.is_finite() {
                hold(&mut goal, present - gate.step_rad, present + gate.step_rad, LimitKind::Step);
            }
            hold(&mut goal, gate.lower_rad, gate.upper_rad, LimitKind::Position);
            if let Some(kind) = held_by {
                interventions.count(kind);
            }
            *last = goal;
        }
        interventions
    }
}
