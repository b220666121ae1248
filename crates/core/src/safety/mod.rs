//! The gate that every command passes on its way to a goal register.

mod motion;
mod workspace;

use serde::Serialize;

use crate::{JointLimits, Observation, RobotDescription};
use motion::{Motion, MotionLimits};
use workspace::WorkspaceGate;

/// Joint goals that passed a [`SafetyGate`], and how they move. Only the gate makes one, and only one
/// of these reaches a goal register.
#[derive(Clone, Debug)]
pub struct SafeCommand {
    goals_rad: Vec<f64>,
    motions: Vec<Motion>,
    /// The motions before these; room to try the next.
    before: Vec<Motion>,
}

impl SafeCommand {
    pub fn goals_rad(&self) -> &[f64] {
        &self.goals_rad
    }
}

impl PartialEq for SafeCommand {
    fn eq(&self, other: &Self) -> bool {
        self.goals_rad == other.goals_rad && self.motions == other.motions
    }
}

/// Which limit changed a joint's goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitKind {
    NonFinite,
    Position,
    Velocity,
    Acceleration,
    Jerk,
    Step,
    Effort,
    Temperature,
}

/// How many joints each limit held back in one tick (or, summed, in an episode). A joint counts once
/// a tick, for the first limit that acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interventions {
    /// The wanted goal was no finite number.
    pub non_finite: u32,
    /// It was outside the position limits, or too fast towards one to stop before it.
    pub position: u32,
    pub velocity: u32,
    pub acceleration: u32,
    pub jerk: u32,
    /// It was too far from the present position.
    pub step: u32,
    /// The joint pushed harder than its ceiling, and was to go on pushing.
    pub effort: u32,
    /// The motor was hotter than its ceiling.
    pub temperature: u32,
    /// Ticks (not joints) in which the tool would have left the workspace.
    pub workspace: u32,
}

impl Interventions {
    /// Each kind by its name.
    pub fn by_kind(&self) -> [(&'static str, u32); 9] {
        [
            ("non_finite", self.non_finite),
            ("position", self.position),
            ("velocity", self.velocity),
            ("acceleration", self.acceleration),
            ("jerk", self.jerk),
            ("step", self.step),
            ("effort", self.effort),
            ("temperature", self.temperature),
            ("workspace", self.workspace),
        ]
    }

    pub fn total(&self) -> u32 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    fn count(&mut self, kind: LimitKind) {
        *match kind {
            LimitKind::NonFinite => &mut self.non_finite,
            LimitKind::Position => &mut self.position,
            LimitKind::Velocity => &mut self.velocity,
            LimitKind::Acceleration => &mut self.acceleration,
            LimitKind::Jerk => &mut self.jerk,
            LimitKind::Step => &mut self.step,
            LimitKind::Effort => &mut self.effort,
            LimitKind::Temperature => &mut self.temperature,
        } += 1;
    }
}

impl std::ops::AddAssign for Interventions {
    fn add_assign(&mut self, rhs: Self) {
        self.non_finite += rhs.non_finite;
        self.position += rhs.position;
        self.velocity += rhs.velocity;
        self.acceleration += rhs.acceleration;
        self.jerk += rhs.jerk;
        self.step += rhs.step;
        self.effort += rhs.effort;
        self.temperature += rhs.temperature;
        self.workspace += rhs.workspace;
    }
}

#[derive(Clone, Copy, Debug)]
struct JointGate {
    motion: MotionLimits,
    step_rad: f64,
    effort: f64,
    temperature_c: f64,
}

impl JointGate {
    fn of(limits: &JointLimits) -> Self {
        Self {
            motion: MotionLimits {
                lower_rad: limits.position_rad[0],
                upper_rad: limits.position_rad[1],
                velocity_rad_per_s: limits.velocity_rad_per_s,
                acceleration_rad_per_s2: limits.acceleration(),
                jerk_rad_per_s3: limits.jerk(),
            },
            step_rad: limits.step_rad,
            effort: limits.effort.unwrap_or(f64::INFINITY),
            temperature_c: limits.temperature_c.unwrap_or(f64::INFINITY),
        }
    }
}

/// What is known of a joint at a tick; a value that is not finite is not known.
#[derive(Clone, Copy)]
struct Sensed {
    position_rad: f64,
    effort: f64,
    temperature_c: f64,
}

impl Sensed {
    fn joint(observation: &Observation, i: usize) -> Self {
        let at = |values: &[f64]| values.get(i).copied().unwrap_or(f64::NAN);
        Self { position_rad: at(&observation.position_rad), effort: at(&observation.effort), temperature_c: at(&observation.temperature_c) }
    }
}

/// A tick longer than this counts as one of this length.
const LONGEST_TICK_S: f64 = 1.0;

/// Turns wanted goals into safe ones. It cannot be switched off, only given limits, and those come
/// from the robot's description.
///
/// Joint by joint, in order, each on what the one before left:
/// 1. a goal that is not finite is refused, and so is any of a joint that is too hot: the last command
///    stands;
/// 2. the goal lies within the position limits;
/// 3. the goal is at most `step` from the present position (skipped when that is not known);
/// 4. a joint that pushes harder than its effort ceiling is not led further that way;
/// 5. the command moves to the goal within the limits of velocity, acceleration and jerk, and always
///    so that it can still stop before the position limits.
///
/// What the limits allow at once is granted to the last bit. Velocity and position hold whatever comes
/// in; so do acceleration and jerk, but where the arm was pushed further than `step` from its goal:
/// there the command follows at once, at the speed limit.
///
/// Where the description has a workspace and the tool, stopping from the new command, would leave it
/// (or go further out), all joints brake instead; no command of the gate's takes the tool out.
#[derive(Clone, Debug)]
pub struct SafetyGate {
    joints: Vec<JointGate>,
    workspace: Option<WorkspaceGate>,
}

impl SafetyGate {
    pub fn of(robot: &RobotDescription) -> Self {
        Self { joints: robot.joints.iter().map(|joint| JointGate::of(&joint.limits)).collect(), workspace: WorkspaceGate::of(robot) }
    }

    /// The command that asks for nothing: the present position, within the position limits. What a
    /// session starts from; a joint whose position is not finite is commanded to the middle of its
    /// range.
    pub fn hold(&self, present_rad: &[f64]) -> SafeCommand {
        let goals = self.joints.iter().enumerate().map(|(i, JointGate { motion, .. })| {
            let present = present_rad.get(i).copied().unwrap_or(f64::NAN);
            if present.is_finite() {
                present.clamp(motion.lower_rad, motion.upper_rad)
            } else {
                f64::midpoint(motion.lower_rad, motion.upper_rad)
            }
        });
        let goals_rad: Vec<f64> = goals.collect();
        let motions: Vec<Motion> = goals_rad.iter().map(|goal| Motion::resting_at(*goal)).collect();
        SafeCommand { goals_rad, before: motions.clone(), motions }
    }

    /// Moves `command`, the last one that was sent, towards `wanted_rad` as far as the limits let it
    /// within `dt_s` seconds, the arm being as `observed`. Total: any input gives a command within the
    /// limits; a time that is negative or not finite counts as 0, one above a second as a second.
    /// Never allocates.
    pub fn advance(&self, command: &mut SafeCommand, wanted_rad: &[f64], observed: &Observation, dt_s: f64) -> Interventions {
        let dt_s = if dt_s.is_finite() { dt_s.clamp(0.0, LONGEST_TICK_S) } else { 0.0 };
        let mut interventions = Interventions::default();
        let SafeCommand { goals_rad, motions, before } = command;
        std::mem::swap(motions, before);
        for (i, (gate, (now, last))) in self.joints.iter().zip(motions.iter_mut().zip(&*before)).enumerate() {
            let wanted = wanted_rad.get(i).copied().unwrap_or(f64::NAN);
            let held_by;
            (*now, held_by) = gate.next(last, wanted, &Sensed::joint(observed, i), dt_s);
            if let Some(kind) = held_by {
                interventions.count(kind);
            }
        }
        if let Some(workspace) = &self.workspace
            && self.brake_at_the_wall(workspace, motions, before, dt_s)
        {
            interventions.workspace += 1;
        }
        for (goal, motion) in goals_rad.iter_mut().zip(motions) {
            *goal = motion.goal_rad;
        }
        interventions
    }

    /// Makes `now` a braking one if the tool would leave the workspace; says whether it did.
    fn brake_at_the_wall(&self, workspace: &WorkspaceGate, now: &mut [Motion], before: &[Motion], dt_s: f64) -> bool {
        const ROUNDING_M: f64 = 1e-9;
        let goals = |motions: &[Motion]| workspace.outside_m(motions.iter().map(|motion| motion.goal_rad));
        let most_m = goals(before) + ROUNDING_M;
        let stops = self.joints.iter().zip(&*now).map(|(gate, motion)| gate.motion.stop_from(motion, dt_s));
        if goals(now) <= most_m && workspace.outside_m(stops) <= most_m {
            return false;
        }
        for (gate, (now, last)) in self.joints.iter().zip(now.iter_mut().zip(before)) {
            *now = gate.motion.towards(last, last.goal_rad, dt_s).0;
        }
        if goals(now) > most_m {
            for (now, last) in now.iter_mut().zip(before) {
                *now = Motion::resting_at(last.goal_rad);
            }
        }
        true
    }
}

impl JointGate {
    fn next(&self, last: &Motion, wanted: f64, sensed: &Sensed, dt_s: f64) -> (Motion, Option<LimitKind>) {
        let MotionLimits { lower_rad, upper_rad, velocity_rad_per_s, acceleration_rad_per_s2, .. } = self.motion;
        let last_rad = last.goal_rad;
        let mut goal = wanted;
        let mut held_by = None;
        let mut hold = |goal: &mut f64, lower: f64, upper: f64, kind: LimitKind| {
            let held = goal.clamp(lower, upper);
            if held != *goal {
                *goal = held;
                held_by.get_or_insert(kind);
            }
        };
        // A comparison with what is not known is false.
        let reach_rad = if sensed.position_rad.is_finite() { self.step_rad } else { f64::INFINITY };
        let present_rad = if sensed.position_rad.is_finite() { sensed.position_rad } else { last_rad };
        let refused = if !wanted.is_finite() {
            Some(LimitKind::NonFinite)
        } else if sensed.temperature_c > self.temperature_c {
            Some(LimitKind::Temperature)
        } else {
            None
        };
        if refused.is_some() {
            goal = last_rad;
        }
        hold(&mut goal, lower_rad, upper_rad, LimitKind::Position);
        hold(&mut goal, present_rad - reach_rad, present_rad + reach_rad, LimitKind::Step);
        if sensed.effort > self.effort {
            hold(&mut goal, f64::NEG_INFINITY, last_rad, LimitKind::Effort);
        } else if sensed.effort < -self.effort {
            hold(&mut goal, last_rad, f64::INFINITY, LimitKind::Effort);
        }
        let target = goal.clamp(lower_rad, upper_rad);
        let (mut motion, limited_by) = self.motion.towards(last, target, dt_s);

        // What smoothness must not cost: the step limit, at the speed limit, within the position limits.
        let stride_rad = velocity_rad_per_s * dt_s;
        let followed = motion.goal_rad.clamp(present_rad - reach_rad, present_rad + reach_rad);
        let followed = followed.clamp(last_rad - stride_rad, last_rad + stride_rad).clamp(lower_rad, upper_rad);
        if followed != motion.goal_rad {
            let velocity = (followed - last_rad) / dt_s;
            let acceleration = (velocity - last.velocity_rad_per_s) / dt_s;
            motion = if dt_s > 0.0 {
                Motion {
                    goal_rad: followed,
                    velocity_rad_per_s: velocity.clamp(-velocity_rad_per_s, velocity_rad_per_s),
                    acceleration_rad_per_s2: acceleration.clamp(-acceleration_rad_per_s2, acceleration_rad_per_s2),
                }
            } else {
                Motion { goal_rad: followed, ..*last }
            };
        }
        (motion, refused.or(held_by).or(limited_by))
    }
}

#[cfg(test)]
mod tests;
