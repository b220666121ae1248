//! From what somebody wants of a tool to goals of the joints that carry it.

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use sinew_core::{
    ActionSpace, Brief, Channel, ChannelSource, CommandMode, Observation, Retarget, RobotDescription, TeleoperatorError, Timestamp, Wanted,
    Workspace,
};
use thiserror::Error;

use super::chain::Chain;

const DOING: &str = "bringing the tool there";

/// Slower than this (m/s, rad/s) nobody moves it: LeRobot's `noise_threshold` of `map_delta_action_to_robot_action`.
const STILL: f64 = 1e-3;
/// How far a joint may sag, or lag behind its goal, and the goal be gone on from, radians or metres.
const SAG: f64 = 0.15;
/// How far the wanted pose of a tool that is pushed by a speed may be ahead of it, metres and radians.
const AHEAD_M: f64 = 0.01;
const AHEAD_RAD: f64 = 0.3;
/// Between two observations no more time has passed than this, whatever they say.
const LONGEST_S: f64 = 0.1;

/// How a tool is steered.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOptions {
    /// Which one; without it the only one there is.
    pub tool: Option<String>,
    /// How much a squared radian of orientation weighs against a squared metre of position. LeRobot has 0.01, with which an
    /// arm of five joints leaves the wanted position by a centimetre where it can't have the orientation.
    pub orientation_weight: f64,
    /// How far the wanted position moves from one tick to the next at most, metres: LeRobot's `max_ee_step_m`. What asks for
    /// more is slowed down.
    pub max_step_m: f64,
    /// Where the tool may be wanted; beside it, the tool's own workspace holds.
    pub bounds: Option<Workspace>,
    /// How far ahead of where it is a gripper is told to be that opens or closes at full speed, as a share of its range:
    /// LeRobot's `speed_factor` of `gripper_velocity_to_joint`, of 100.
    pub gripper_lead: f64,
}

impl Default for ToolOptions {
    fn default() -> Self {
        Self { tool: None, orientation_weight: 1e-4, max_step_m: 0.05, bounds: None, gripper_lead: 0.2 }
    }
}

/// A robot whose tool can't be steered.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ToolError {
    #[error("steering a tool of {robot}: expected a tool in its description, found none")]
    NoTool { robot: String },
    #[error("steering a tool of {robot}: expected the name of one of its tools ({tools}), found {wanted}")]
    Which { robot: String, tools: String, wanted: String },
    #[error("steering the tool {tool} of {robot}: expected parts that carry it and are commanded by position, found none")]
    NoJoints { robot: String, tool: String },
    #[error("steering the tool {tool} of {robot}: expected where its parts are (parent_from_part), found nothing of that")]
    NoShape { robot: String, tool: String },
    #[error("steering the tool {tool} of {robot}: expected {expected}, found {found}")]
    Option { robot: String, tool: String, expected: &'static str, found: f64 },
    #[error("steering the tool {tool} of {robot}: expected actions of a tool, found {found}")]
    Space { robot: String, tool: String, found: &'static str },
    #[error("steering the tools of {robot} at once: expected joints of its own for {tool}, found some that carry another tool, too")]
    Shared { robot: String, tool: String },
}

/// How a gripper is told where to be.
#[derive(Clone, Debug)]
struct Gripper {
    action: usize,
    state: Option<usize>,
    /// Closed, and open.
    range: [f64; 2],
    limits: [f64; 2],
    goal: f64,
}

/// What is remembered from tick to tick.
#[derive(Clone, Debug)]
struct Steering {
    /// When the robot was looked at last.
    time: Timestamp,
    /// Whether somebody moves it.
    engaged: bool,
    /// Where the tool was when he engaged.
    reference: Isometry3<f64>,
    /// Where it was wanted last, within what it may do.
    target: Isometry3<f64>,
}

/// Makes goals of [`ActionSpace::ToolTwist`], [`ToolOffset`](ActionSpace::ToolOffset),
/// [`ToolOffsetInBase`](ActionSpace::ToolOffsetInBase) and [`ToolPose`](ActionSpace::ToolPose) for the joints that carry a tool, by damped least squares from the goals before.
///
/// - Each time that somebody engages, it goes on from where the robot is: nothing that he does while he isn't engaged counts.
///   While nobody is, goals stay what they were.
/// - Goals stay within the joints' limits, move no faster than those say, and stay as near to the joints as their limits
///   say, so that an arm that is held back isn't pushed from afar.
/// - Of channels beside those of the tool positions stay what they are, and a base stands still.
#[derive(Clone, Debug)]
pub struct ToolToJoints {
    space: ActionSpace,
    chain: Chain,
    gripper: Option<Gripper>,
    metres_per_radian: f64,
    max_step_m: f64,
    gripper_lead: f64,
    bounds: Vec<Workspace>,
    /// Channels of action that are no others' business: where they are in the state, of those with a place.
    others: Vec<(usize, Option<usize>)>,
    steering: Option<Steering>,
    /// Of the chain.
    goals: Vec<f64>,
    measured: Vec<f64>,
    /// A value a channel of action: what the others are told.
    held: Vec<f64>,
}

impl ToolToJoints {
    /// # Errors
    /// When the robot has no such tool, or its description says too little of how it is carried, or an option makes no sense.
    pub fn new(robot: &RobotDescription, space: ActionSpace, options: &ToolOptions) -> Result<Self, ToolError> {
        let name = || robot.name.clone();
        if robot.tools.is_empty() {
            return Err(ToolError::NoTool { robot: name() });
        }
        let found = match &options.tool {
            Some(wanted) => robot.tools.iter().position(|tool| tool.name == *wanted),
            None => (robot.tools.len() == 1).then_some(0),
        };
        let Some(index) = found else {
            let tools = robot.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(ToolError::Which { robot: name(), tools, wanted: options.tool.clone().unwrap_or_else(|| "none".into()) });
        };
        let tool = &robot.tools[index];
        let called = || (robot.name.clone(), tool.name.clone());
        let what = match space {
            ActionSpace::Channels => Some("actions of channels"),
            ActionSpace::BaseTwist => Some("actions of a base"),
            _ => None,
        };
        if let Some(found) = what {
            let (robot, tool) = called();
            return Err(ToolError::Space { robot, tool, found });
        }
        let numbers = [
            ("an orientation weight of 0 to 1", options.orientation_weight, 0.0, 1.0),
            ("a step of at most 1 m", options.max_step_m, 1e-6, 1.0),
            ("a gripper's lead of at most 1", options.gripper_lead, 0.0, 1.0),
        ];
        if let Some((expected, found, ..)) = numbers.into_iter().find(|(_, value, low, high)| !(low..=high).contains(&value)) {
            let (robot, tool) = called();
            return Err(ToolError::Option { robot, tool, expected, found });
        }
        let Some(chain) = Chain::of(robot, index).filter(|chain| chain.commanded() > 0) else {
            let (robot, tool) = called();
            return Err(ToolError::NoJoints { robot, tool });
        };
        if chain.len() > 1 && chain.has_no_shape() {
            let (robot, tool) = called();
            return Err(ToolError::NoShape { robot, tool });
        }
        let (actions, states) = (robot.action_channels(), robot.state_channels());
        let state_of = |channel: &Channel| states.iter().position(|state| state.source == channel.source);
        let is_place = |channel: &Channel| matches!(channel.mode, Some(CommandMode::Position | CommandMode::Impedance));
        // The part that is called as the tool is.
        let gripper = robot.part_index(&tool.name).and_then(|i| {
            let action = actions.iter().position(|channel| channel.source == ChannelSource::Part(i) && is_place(channel))?;
            Some(Gripper {
                action,
                state: state_of(&actions[action]),
                range: robot.parts[i].unit_range(),
                limits: robot.parts[i].position_limits(),
                goal: 0.0,
            })
        });
        let others = actions.iter().enumerate().filter(|(_, channel)| is_place(channel)).map(|(i, channel)| (i, state_of(channel)));
        let bounds = tool.workspace.into_iter().chain(options.bounds).collect();
        let links = chain.len();
        Ok(Self {
            space,
            chain,
            gripper,
            metres_per_radian: options.orientation_weight.sqrt(),
            max_step_m: options.max_step_m,
            gripper_lead: options.gripper_lead,
            bounds,
            others: others.collect(),
            steering: None,
            goals: vec![0.0; links],
            measured: vec![0.0; links],
            held: vec![0.0; actions.len()],
        })
    }

    /// Where the tool is wanted, in the base frame; `None` before the first action.
    pub fn target(&self) -> Option<Isometry3<f64>> {
        self.steering.as_ref().map(|steering| steering.target)
    }

    /// The channels of action that it moves: the joints that carry the tool, and its gripper.
    pub fn channels(&self) -> impl Iterator<Item = usize> {
        self.chain.channels().chain(self.gripper.iter().map(|gripper| gripper.action))
    }

    /// It goes on from where the robot was `sent`, a value a channel of action, and not from where it is, as arms sag.
    ///
    /// # Errors
    /// When it is not known where the robot is.
    pub fn go_on_from(&mut self, sent: &[f64], observation: &Observation) -> Result<(), TeleoperatorError> {
        self.chain.measured(observation, &mut self.measured).map_err(unknown)?;
        self.begin(observation)?;
        for (action, _) in &self.others {
            self.held[*action] = sent.get(*action).copied().unwrap_or(self.held[*action]);
        }
        if let Some(gripper) = &mut self.gripper {
            gripper.goal = self.held[gripper.action];
        }
        self.chain.adopt(sent, &mut self.goals);
        self.chain.confine(&self.measured, &mut self.goals);
        let tool = self.chain.base_from_tool(&self.goals);
        self.steering = Some(Steering { time: observation.time, engaged: false, reference: tool, target: tool });
        Ok(())
    }

    /// Takes over: all goals become where the robot is.
    fn begin(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        for (action, state) in &self.others {
            let value = state.and_then(|state| observation.state.get(state));
            self.held[*action] = value.ok_or_else(|| unknown(format_args!("channel {action} of the action")))?;
        }
        if let Some(gripper) = &mut self.gripper {
            gripper.goal = self.held[gripper.action];
        }
        self.goals.copy_from_slice(&self.measured);
        self.chain.confine(&self.measured, &mut self.goals);
        let tool = self.chain.base_from_tool(&self.goals);
        self.steering = Some(Steering { time: observation.time, engaged: false, reference: tool, target: tool });
        Ok(())
    }

    /// Where the tool is wanted, and whether somebody moves it.
    fn wish(&self, action: &[f64], dt_s: f64, steering: &Steering) -> (Isometry3<f64>, bool) {
        let (moves, turns) = (vector(action, 0), vector(action, 3));
        let Steering { reference, target, .. } = steering;
        match self.space {
            ActionSpace::ToolOffset | ActionSpace::ToolOffsetInBase => {
                let place = reference.translation.vector + moves;
                let turn = UnitQuaternion::from_scaled_axis(turns);
                let rotation = if self.space == ActionSpace::ToolOffset { reference.rotation * turn } else { turn * reference.rotation };
                (Isometry3::from_parts(Translation3::from(place), rotation), action.get(7).is_some_and(|engaged| *engaged > 0.5))
            }
            ActionSpace::ToolPose => (Isometry3::from_parts(Translation3::from(moves), UnitQuaternion::from_scaled_axis(turns)), true),
            _ => {
                let rotation = UnitQuaternion::from_scaled_axis(turns * dt_s) * target.rotation;
                let place = target.translation.vector + moves * dt_s;
                (Isometry3::from_parts(Translation3::from(place), rotation), moves.norm() > STILL || turns.norm() > STILL)
            }
        }
    }

    /// Moves the wanted pose towards `wish`, within its bounds and not too far at once.
    fn aim(&self, wish: &Isometry3<f64>, target: &mut Isometry3<f64>) {
        let from = target.translation.vector;
        let mut place = wish.translation.vector;
        for Workspace { min_m, max_m } in &self.bounds {
            for axis in 0..3 {
                // Who begins outside is not drawn in, but comes no further out.
                place[axis] = place[axis].clamp(min_m[axis].min(from[axis]), max_m[axis].max(from[axis]));
            }
        }
        target.translation = Translation3::from(from + within(place - from, self.max_step_m));
        let turn = (wish.rotation * target.rotation.inverse()).scaled_axis();
        target.rotation = UnitQuaternion::from_scaled_axis(within(turn, AHEAD_RAD)) * target.rotation;
    }

    /// What the gripper is told: at rest, what it was told before, so that what it holds stays held.
    fn grip(&mut self, action: &[f64], observation: &Observation) -> Result<(), TeleoperatorError> {
        let Some(Gripper { state, range: [closed, open], limits: [low, high], goal, .. }) = &mut self.gripper else { return Ok(()) };
        let Some(wish) = action.get(6).copied() else { return Ok(()) };
        if self.space == ActionSpace::ToolPose {
            *goal = (*closed + wish.clamp(0.0, 1.0) * (*open - *closed)).clamp(*low, *high);
        } else if wish != 0.0 {
            let present = state.and_then(|state| observation.state.get(state)).ok_or_else(|| unknown("the gripper"))?;
            *goal = (present + wish.clamp(-1.0, 1.0) * self.gripper_lead * (*open - *closed)).clamp(*low, *high);
        }
        Ok(())
    }
}

impl Retarget for ToolToJoints {
    fn action_width(&self) -> usize {
        self.space.width().unwrap_or(0)
    }

    fn reset(&mut self) {
        self.steering = None;
    }

    fn retarget(&mut self, action: &[f64], observation: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        // Squares of what is greater would be infinite.
        if let Some(value) = action.iter().find(|value| !(value.is_finite() && value.abs() < 1e6)) {
            return Err(TeleoperatorError::Transient { doing: DOING, what: Brief::of(format_args!("the action holds {value}")) });
        }
        self.chain.measured(observation, &mut self.measured).map_err(unknown)?;
        if self.steering.is_none() {
            self.begin(observation)?;
        }
        let Some(mut steering) = self.steering.take() else { return Ok(()) };
        let dt_s = (observation.time.nanos_since(steering.time) as f64 * 1e-9).clamp(0.0, LONGEST_S);
        steering.time = observation.time;
        let (_, engaged) = self.wish(action, dt_s, &steering);
        let is_far = || self.goals.iter().zip(&self.measured).any(|(goal, measured)| (goal - measured).abs() > SAG);
        let engages = engaged && !steering.engaged;
        if engages && is_far() {
            self.goals.copy_from_slice(&self.measured);
        }
        let was_held_back = self.chain.confine(&self.measured, &mut self.goals);
        if engages || was_held_back {
            let tool = self.chain.base_from_tool(&self.goals);
            steering.target = tool;
            if engages {
                steering.reference = tool;
            }
        }
        steering.engaged = engaged;
        if engaged {
            let (wish, _) = self.wish(action, dt_s, &steering);
            self.aim(&wish, &mut steering.target);
            self.chain.search(&self.goals, &steering.target, self.metres_per_radian);
            self.chain.approach(dt_s, &mut self.goals);
            // What it can't follow is not saved up for later.
            let tool = self.chain.base_from_tool(&self.goals);
            let ahead_m = if self.space == ActionSpace::ToolTwist { AHEAD_M } else { self.max_step_m };
            let ahead = steering.target.translation.vector - tool.translation.vector;
            steering.target.translation = Translation3::from(tool.translation.vector + within(ahead, ahead_m));
            let turn = (steering.target.rotation * tool.rotation.inverse()).scaled_axis();
            steering.target.rotation = UnitQuaternion::from_scaled_axis(within(turn, AHEAD_RAD)) * tool.rotation;
        }
        self.steering = Some(steering);
        self.grip(action, observation)?;
        wanted.goals.copy_from_slice(&self.held);
        if let Some(gripper) = &self.gripper {
            wanted.goals[gripper.action] = gripper.goal;
        }
        self.chain.command(&self.goals, &mut wanted.goals);
        Ok(())
    }
}

fn vector(action: &[f64], at: usize) -> Vector3<f64> {
    let value = |i: usize| action.get(at + i).copied().unwrap_or(0.0);
    Vector3::new(value(0), value(1), value(2))
}

/// `vector`, no longer than `most`.
fn within(vector: Vector3<f64>, most: f64) -> Vector3<f64> {
    let length = vector.norm();
    if length > most { vector * (most / length) } else { vector }
}

fn unknown(what: impl std::fmt::Display) -> TeleoperatorError {
    TeleoperatorError::Transient { doing: DOING, what: Brief::of(format_args!("where {what} is is not known")) }
}
