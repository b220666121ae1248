//! The parts that carry a tool, and where they must be to bring it somewhere.

use nalgebra::{Cholesky, Isometry3, Matrix6, Translation3, Unit, UnitQuaternion, Vector3, Vector6};
use sinew_core::{Channel, ChannelSource, CommandMode, Observation, PartKind, RobotDescription};

/// Rounds of the search a call.
const ROUNDS: u32 = 24;
/// How far a joint may go in one of them, radians or metres.
const ROUND: f64 = 0.2;
/// What is left of position and weighed orientation when the search ends, metres.
const REACHED_M: f64 = 1e-7;
/// Damping far from a singularity, and what comes to it at one, squared metres a radian.
const DAMPING: f64 = 1e-8;
const DAMPING_SINGULAR: f64 = 4e-4;
/// How little a tool may move in all directions, as a product of three levers in metres, before damping begins.
const MANIPULABLE_M3: f64 = 1e-3;
/// Damping that ends the search: no smaller step helped.
const STUCK: f64 = 1e3;

/// A part on the way from the base to the tool.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    parent_from_part: Isometry3<f64>,
    axis: Unit<Vector3<f64>>,
    slides: bool,
    limits: [f64; 2],
    /// How fast its goal may move, and how far it may be from where the part is.
    velocity: f64,
    step: f64,
    /// Its channel of action; `None` of a part that nobody commands.
    action: Option<usize>,
    state: Option<usize>,
    rest: f64,
}

/// The parts from the base to a tool. Its buffers are made once.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    part_from_tool: Isometry3<f64>,
    /// Where the links are for the values looked at last, in the base frame.
    poses: Vec<Isometry3<f64>>,
    columns: Vec<Vector6<f64>>,
    candidate: Vec<f64>,
    found: Vec<f64>,
}

impl Chain {
    /// `None` when the tool's part is none of the robot.
    pub fn of(robot: &RobotDescription, tool: usize) -> Option<Self> {
        let tool = robot.tools.get(tool)?;
        let (actions, states) = (robot.action_channels(), robot.state_channels());
        let link = |i: usize| {
            let of = |channels: &[Channel]| channels.iter().position(|channel| channel.source == ChannelSource::Part(i));
            let part = &robot.parts[i];
            let is_placed = matches!(part.command, Some(CommandMode::Position | CommandMode::Impedance));
            Link {
                name: part.name.clone(),
                parent_from_part: part.parent_from_part.to_isometry(),
                axis: Unit::new_normalize(Vector3::from(part.axis)),
                slides: part.kind == PartKind::Prismatic,
                limits: part.position_limits(),
                velocity: part.limits.velocity.unwrap_or(f64::INFINITY),
                step: part.limits.step.unwrap_or(f64::INFINITY),
                action: of(&actions).filter(|_| is_placed),
                state: of(&states),
                rest: part.rest.unwrap_or(0.0),
            }
        };
        let links: Vec<Link> = robot.chain_to(robot.part_index(&tool.part)?).into_iter().map(link).collect();
        let count = links.len();
        Some(Self {
            links,
            part_from_tool: tool.part_from_tool.to_isometry(),
            poses: vec![Isometry3::identity(); count],
            columns: vec![Vector6::zeros(); count],
            candidate: vec![0.0; count],
            found: vec![0.0; count],
        })
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// How many of them are commanded by position.
    pub fn commanded(&self) -> usize {
        self.links.iter().filter(|link| link.action.is_some()).count()
    }

    /// Whether none of them is anywhere but at the base's origin: the description says nothing of the robot's shape.
    pub fn has_no_shape(&self) -> bool {
        self.links.iter().all(|link| link.parent_from_part == Isometry3::identity())
    }

    /// Where they are, into `values`.
    ///
    /// # Errors
    /// The name of the first of which that is not known.
    pub fn measured(&self, observation: &Observation, values: &mut [f64]) -> Result<(), &str> {
        for (link, value) in self.links.iter().zip(values) {
            *value = match link.state {
                Some(state) => observation.state.get(state).ok_or(link.name.as_str())?,
                None => link.rest,
            };
        }
        Ok(())
    }

    /// Goals that nobody commands are what was measured; the others stay within their limits, and as near to what was
    /// measured as the description has goals be. Whether one had to be moved for the latter.
    pub fn confine(&self, measured: &[f64], goals: &mut [f64]) -> bool {
        let mut was_far = false;
        for ((link, measured), goal) in self.links.iter().zip(measured).zip(goals) {
            if link.action.is_none() {
                *goal = *measured;
                continue;
            }
            let near = goal.clamp(measured - link.step, measured + link.step);
            was_far |= near != *goal;
            *goal = near.clamp(link.limits[0], link.limits[1]);
        }
        was_far
    }

    /// Puts the values of those that are commanded into `goals`, a value a channel of action.
    pub fn command(&self, values: &[f64], goals: &mut [f64]) {
        for (link, value) in self.links.iter().zip(values) {
            if let Some(goal) = link.action.and_then(|action| goals.get_mut(action)) {
                *goal = *value;
            }
        }
    }

    /// Makes the values of those that are commanded what `goals` say, a value a channel of action.
    pub fn adopt(&self, goals: &[f64], values: &mut [f64]) {
        for (link, value) in self.links.iter().zip(values) {
            if let Some(goal) = link.action.and_then(|action| goals.get(action)) {
                *value = *goal;
            }
        }
    }

    /// The channels of action of those that are commanded.
    pub fn channels(&self) -> impl Iterator<Item = usize> {
        self.links.iter().filter_map(|link| link.action)
    }

    /// Moves `values` towards what the search found, no faster than the description lets goals move in `dt_s`: all by the
    /// same share, so that the tool keeps its way.
    pub fn approach(&self, dt_s: f64, values: &mut [f64]) {
        let share = |((link, to), from): ((&Link, &f64), &f64)| {
            let (way, most) = ((to - from).abs(), link.velocity * dt_s);
            if way > most { most / way } else { 1.0 }
        };
        let share = self.links.iter().zip(&self.found).zip(values.iter()).map(share).fold(1.0, f64::min);
        for ((link, to), value) in self.links.iter().zip(&self.found).zip(values) {
            *value = (*value + share * (to - *value)).clamp(link.limits[0].min(*value), link.limits[1].max(*value));
        }
    }

    /// Pose of the tool in the base frame.
    pub fn base_from_tool(&self, values: &[f64]) -> Isometry3<f64> {
        let link = |pose: Isometry3<f64>, (link, value): (&Link, &f64)| pose * link.parent_from_part * link.motion(*value);
        self.links.iter().zip(values).fold(Isometry3::identity(), link) * self.part_from_tool
    }

    /// Looks for values, from `from` on, that bring the tool to `goal`: damped least squares within the limits, where a
    /// radian weighs as much as `metres_per_radian`. Each round comes nearer or is not taken, so a goal that is out of
    /// reach, or behind a singularity, is approached and never jumped at.
    pub fn search(&mut self, from: &[f64], goal: &Isometry3<f64>, metres_per_radian: f64) {
        self.found.copy_from_slice(from);
        for (value, link) in self.found.iter_mut().zip(&self.links).filter(|(_, link)| link.action.is_some()) {
            *value = value.clamp(link.limits[0], link.limits[1]);
        }
        let values = std::mem::take(&mut self.found);
        let mut left = self.look(&values, goal, metres_per_radian);
        self.found = values;
        let mut damping = 0.0f64;
        for _ in 0..ROUNDS {
            if left.norm() < REACHED_M || damping > STUCK {
                return;
            }
            let square = self.square();
            let place = square.fixed_view::<3, 3>(0, 0).determinant().max(0.0).sqrt();
            let lost = (1.0 - place / MANIPULABLE_M3).max(0.0);
            let damped = square + Matrix6::from_diagonal_element(DAMPING + DAMPING_SINGULAR * lost * lost + damping);
            // Positive definite as it is damped; rounding alone could spoil that.
            let Some(factor) = Cholesky::new(damped) else { return };
            let pull = factor.solve(&left);
            let longest = self.columns.iter().map(|column| column.dot(&pull).abs()).fold(0.0, f64::max);
            let share = if longest > ROUND { ROUND / longest } else { 1.0 };
            for (i, link) in self.links.iter().enumerate() {
                let value = self.found[i];
                let step = share * self.columns[i].dot(&pull);
                self.candidate[i] = if link.action.is_some() { (value + step).clamp(link.limits[0], link.limits[1]) } else { value };
            }
            let candidate = std::mem::take(&mut self.candidate);
            let next = self.look(&candidate, goal, metres_per_radian);
            self.candidate = candidate;
            if next.norm_squared() < left.norm_squared() {
                std::mem::swap(&mut self.found, &mut self.candidate);
                (left, damping) = (next, damping / 4.0);
            } else {
                damping = (damping * 4.0).max(1e-6);
                let values = std::mem::take(&mut self.found);
                left = self.look(&values, goal, metres_per_radian);
                self.found = values;
            }
        }
    }

    /// What is left to `goal` with the parts at `values`: metres, then weighed radians. The columns become how that shrinks
    /// as each part moves.
    fn look(&mut self, values: &[f64], goal: &Isometry3<f64>, metres_per_radian: f64) -> Vector6<f64> {
        let mut pose = Isometry3::identity();
        for ((link, value), at) in self.links.iter().zip(values).zip(&mut self.poses) {
            pose = pose * link.parent_from_part * link.motion(*value);
            *at = pose;
        }
        let tool = pose * self.part_from_tool;
        for ((link, at), column) in self.links.iter().zip(&self.poses).zip(&mut self.columns) {
            column.fill(0.0);
            if link.action.is_none() {
                continue;
            }
            let axis = at.rotation * link.axis.into_inner();
            if link.slides {
                column.fixed_rows_mut::<3>(0).copy_from(&axis);
            } else {
                column.fixed_rows_mut::<3>(0).copy_from(&axis.cross(&(tool.translation.vector - at.translation.vector)));
                column.fixed_rows_mut::<3>(3).copy_from(&(axis * metres_per_radian));
            }
        }
        let mut left = Vector6::zeros();
        left.fixed_rows_mut::<3>(0).copy_from(&(goal.translation.vector - tool.translation.vector));
        let turn = (goal.rotation * tool.rotation.inverse()).scaled_axis();
        left.fixed_rows_mut::<3>(3).copy_from(&(turn * metres_per_radian));
        // A part at its limit that wants further out takes no part in this round.
        for ((link, value), column) in self.links.iter().zip(values).zip(&mut self.columns) {
            let pull = column.dot(&left);
            if (*value <= link.limits[0] && pull < 0.0) || (*value >= link.limits[1] && pull > 0.0) {
                column.fill(0.0);
            }
        }
        left
    }

    /// J Jᵀ.
    fn square(&self) -> Matrix6<f64> {
        self.columns.iter().fold(Matrix6::zeros(), |sum, column| sum + column * column.transpose())
    }
}

impl Link {
    fn motion(&self, value: f64) -> Isometry3<f64> {
        if self.slides {
            return Isometry3::from_parts(Translation3::from(self.axis.into_inner() * value), UnitQuaternion::identity());
        }
        Isometry3::from_parts(Translation3::identity(), UnitQuaternion::from_axis_angle(&self.axis, value))
    }
}
