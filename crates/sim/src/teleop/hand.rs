//! The motion between what a script wants and the goals that the arm gets.

use fastrand::Rng;
use nalgebra::{Rotation3, Unit, UnitQuaternion, Vector3};
use sinew_core::{KinematicsError, Part, RobotDescription, ToolGoal};

use super::{Intent, Place};
use crate::scene::rest_pose;
use crate::seen::Seen;

/// How fast the tool gathers and loses speed.
const ACCELERATION_M_PER_S2: f64 = 0.9;
const TURN_RAD_PER_S: f64 = 2.2;
/// Below the robot's own limits, so that the safety gate has nothing to do.
const JOINT_SPEED_RAD_PER_S: f64 = 1.9;
const GRIPPER_SPEED_RAD_PER_S: f64 = 2.4;
/// As above, for the goals that are sent: with the tremor.
const GOAL_SPEED_RAD_PER_S: f64 = 2.6;
/// Unsteadiness: standard deviation and time constant.
const TREMOR_M: f64 = 0.004;
const TREMOR_S: f64 = 0.4;

/// The commanded pose, and how it moves.
#[derive(Default)]
pub(super) struct Hand {
    /// Goals without the tremor: a value a part.
    values: Vec<f64>,
    speed_m_per_s: f64,
    /// The last goals given.
    goals: Vec<f64>,
    looseness: f64,
    /// This episode's share of every speed.
    haste: f64,
    tremor_m: Vector3<f64>,
}

impl Hand {
    /// Takes over from where the arm is.
    pub fn new(world: &Seen, rng: &mut Rng) -> Self {
        let values = world.values.clone();
        Self {
            goals: values.clone(),
            values,
            looseness: 0.0,
            speed_m_per_s: 0.0,
            haste: 0.85 + 0.3 * rng.f64(),
            tremor_m: Vector3::zeros(),
        }
    }

    /// Moves the goals for `dt_s` towards `intent`: a value a part.
    pub fn follow(&mut self, robot: &RobotDescription, intent: &Intent, dt_s: f64, rng: &mut Rng) -> Result<&[f64], KinematicsError> {
        let gripper = gripper(robot);
        let mut wanted = match intent.place {
            Place::Rest => self.towards_rest(robot, dt_s),
            Place::Over { tool_m, heading_rad } => self.towards(robot, tool_m, heading_rad, intent.speed_m_per_s, dt_s)?,
        };
        wanted[gripper] = intent.gripper_rad;
        for (i, (held, wanted)) in self.values.iter_mut().zip(&wanted).enumerate() {
            let reach = dt_s * if i == gripper { GRIPPER_SPEED_RAD_PER_S } else { JOINT_SPEED_RAD_PER_S };
            *held += (wanted - *held).clamp(-reach, reach);
        }
        // An Ornstein–Uhlenbeck walk; how much of it shows changes only gradually.
        let decay = (-dt_s / TREMOR_S).exp();
        let kick = TREMOR_M * (1.0 - decay * decay).sqrt();
        self.tremor_m = self.tremor_m * decay + Vector3::from_fn(|_, _| normal(rng)) * kick;
        self.looseness += (intent.looseness - self.looseness).clamp(-4.0 * dt_s, 4.0 * dt_s);
        let tool = robot.base_from_tool(0, &self.values);
        let shaken = ToolGoal {
            position_m: tool.translation.vector + self.tremor_m * self.looseness,
            approach: Some(Unit::new_normalize(tool.rotation * Vector3::z())),
            across: Some(Unit::new_normalize(tool.rotation * Vector3::x())),
        };
        let shaken = robot.inverse_kinematics(0, &shaken, &self.values)?.values;
        let mut goals = self.goals.clone();
        for (i, (goal, wanted)) in goals.iter_mut().zip(&shaken).enumerate() {
            let reach = dt_s * if i == gripper { GRIPPER_SPEED_RAD_PER_S } else { GOAL_SPEED_RAD_PER_S };
            let last = *goal;
            *goal = wanted.clamp(last - reach, last + reach);
        }
        self.goals.copy_from_slice(&goals);
        Ok(&self.goals)
    }

    fn towards_rest(&mut self, robot: &RobotDescription, dt_s: f64) -> Vec<f64> {
        self.speed_m_per_s = 0.0;
        let rest = rest_pose(robot);
        let away = self.values.iter().zip(&rest).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let share = if away > 1e-9 { (1.5 * self.haste * dt_s / away).min(1.0) } else { 1.0 };
        self.values.iter().zip(&rest).map(|(held, rest)| held + (rest - held) * share).collect()
    }

    fn towards(
        &mut self,
        robot: &RobotDescription,
        tool_m: Vector3<f64>,
        heading_rad: Option<f64>,
        speed_m_per_s: f64,
        dt_s: f64,
    ) -> Result<Vec<f64>, KinematicsError> {
        let held = robot.base_from_tool(0, &self.values);
        let way = tool_m - held.translation.vector;
        let distance = way.norm();
        let brake = (2.0 * 0.5 * ACCELERATION_M_PER_S2 * distance).sqrt();
        self.speed_m_per_s = (self.speed_m_per_s + ACCELERATION_M_PER_S2 * dt_s).min(speed_m_per_s * self.haste).min(brake);
        let step = (self.speed_m_per_s * dt_s).min(distance);
        let position_m = if distance > 1e-6 { held.translation.vector + way * (step / distance) } else { tool_m };
        let down = -Vector3::z_axis();
        let goal = match heading_rad {
            None => {
                let approach = turn(&(held.rotation * Vector3::z()), &down, TURN_RAD_PER_S * dt_s);
                ToolGoal { position_m, approach: Some(approach), across: None }
            }
            Some(heading) => {
                let x = Vector3::new(heading.cos(), heading.sin(), 0.0);
                let z = down.into_inner();
                let wanted = UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(nalgebra::Matrix3::from_columns(&[
                    x,
                    z.cross(&x),
                    z,
                ])));
                let angle = held.rotation.angle_to(&wanted);
                let share = if angle > 1e-6 { (TURN_RAD_PER_S * self.haste * dt_s / angle).min(1.0) } else { 1.0 };
                let next = held.rotation.try_slerp(&wanted, share, 1e-9).unwrap_or(wanted);
                ToolGoal {
                    position_m,
                    approach: Some(Unit::new_normalize(next * Vector3::z())),
                    across: Some(Unit::new_normalize(next * Vector3::x())),
                }
            }
        };
        Ok(robot.inverse_kinematics(0, &goal, &self.values)?.values)
    }
}

/// `from` turned towards `to` by at most `most_rad`.
fn turn(from: &Vector3<f64>, to: &Unit<Vector3<f64>>, most_rad: f64) -> Unit<Vector3<f64>> {
    let angle = from.angle(to);
    match UnitQuaternion::rotation_between(from, to) {
        Some(whole) if angle > most_rad => Unit::new_normalize(UnitQuaternion::identity().slerp(&whole, most_rad / angle) * from),
        _ => *to,
    }
}

/// A standard normal deviate (Box–Muller).
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Whether every part is near the rest pose.
pub(super) fn at_rest(world: &Seen) -> bool {
    world.values.iter().zip(rest_pose(&world.robot)).all(|(value, rest)| (value - rest).abs() < 0.08)
}

/// The part that opens and closes: it hangs on the one that carries the tool. The last one where none does.
pub(super) fn gripper(robot: &RobotDescription) -> usize {
    let tool = robot.tools.first().map(|tool| &tool.part);
    let hangs = |part: &Part| part.parent.is_some() && part.parent.as_ref() == tool;
    robot.parts.iter().position(hangs).unwrap_or(robot.parts.len().saturating_sub(1))
}
