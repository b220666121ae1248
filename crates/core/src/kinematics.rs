//! Forward and inverse kinematics of a description's own chain.

use nalgebra::{DMatrix, DVector, Isometry3, Unit, Vector3};
use thiserror::Error;

use crate::{Part, PartKind, RobotDescription, Tool};

impl RobotDescription {
    /// Pose of tool `tool` in the base frame, for a value a part.
    pub fn base_from_tool(&self, tool: usize, values: &[f64]) -> Isometry3<f64> {
        let Some(Tool { part, part_from_tool, .. }) = self.tools.get(tool) else { return Isometry3::identity() };
        let Some(part) = self.part_index(part) else { return Isometry3::identity() };
        self.base_from_parts(values)[part] * part_from_tool.to_isometry()
    }
}

/// Where inverse kinematics should bring the tool, in the base frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToolGoal {
    pub position_m: Vector3<f64>,
    /// Where the tool's z axis should point (towards what it grasps); `None` leaves it free.
    pub approach: Option<Unit<Vector3<f64>>>,
    /// Where the tool's x axis should point (across the jaws); `None` leaves it free.
    pub across: Option<Unit<Vector3<f64>>>,
}

/// The nearest that inverse kinematics came to a [`ToolGoal`]. Everything in it is finite, and the
/// values are within the position limits.
#[derive(Clone, Debug, PartialEq)]
pub struct IkSolution {
    /// One value a part; parts that don't carry the tool keep their seed.
    pub values: Vec<f64>,
    /// Distance left between tool and goal, metres.
    pub position_error_m: f64,
    /// The largest angle left between a wanted direction and the tool's axis, radians.
    pub direction_error_rad: f64,
    pub iterations: u32,
}

/// A request to inverse kinematics that makes no sense.
#[derive(Debug, Error, PartialEq)]
pub enum KinematicsError {
    #[error("solving inverse kinematics: the seed has {found} values, expected {expected}")]
    Width { expected: usize, found: usize },
    #[error("solving inverse kinematics: tool {tool} is wanted, and the robot has {tools}")]
    NoTool { tool: usize, tools: usize },
    #[error("solving inverse kinematics: the {what} holds {value}, expected finite and below 1e6")]
    Unusable { what: &'static str, value: f64 },
}

/// How much a radian of direction weighs against a metre of position.
const METRES_PER_RADIAN: f64 = 0.03;
const MAX_ITERATIONS: u32 = 80;
/// Below this summed squared error (metres²) the goal counts as reached: 1 µm.
const REACHED_M2: f64 = 1e-12;

/// What is left to do, in one vector: three rows of position, then three a wanted direction.
struct Residual {
    rows: DVector<f64>,
    position_error_m: f64,
    direction_error_rad: f64,
}

impl RobotDescription {
    /// Values of the parts that bring tool `tool` to `goal`, found by damped least squares
    /// (Levenberg–Marquardt) from `seed` within the position limits. Deterministic. An unreachable
    /// goal is no error: the answer is then the nearest point found and says how far off it is.
    ///
    /// # Errors
    /// When there is no such tool, the seed's width is not the number of parts, or goal or seed is not finite
    /// or beyond any arm.
    pub fn inverse_kinematics(&self, tool: usize, goal: &ToolGoal, seed: &[f64]) -> Result<IkSolution, KinematicsError> {
        let part = self.tools.get(tool).and_then(|tool| self.part_index(&tool.part));
        let part = part.ok_or(KinematicsError::NoTool { tool, tools: self.tools.len() })?;
        if seed.len() != self.parts.len() {
            return Err(KinematicsError::Width { expected: self.parts.len(), found: seed.len() });
        }
        let directions = [goal.approach, goal.across];
        let goal_values = goal.position_m.iter().chain(directions.iter().flatten().flat_map(|direction| direction.iter()));
        for (what, value) in seed.iter().map(|v| ("seed", *v)).chain(goal_values.map(|v| ("goal", *v))) {
            // The bound keeps squares from overflowing.
            if !(value.is_finite() && value.abs() < 1e6) {
                return Err(KinematicsError::Unusable { what, value });
            }
        }
        let moving = self.chain_to(part);
        let limits: Vec<[f64; 2]> = self.parts.iter().map(Part::position_limits).collect();
        let clamp = |i: usize, value: f64| value.clamp(limits[i][0], limits[i][1]);
        let mut values: Vec<f64> = seed.iter().enumerate().map(|(i, &v)| clamp(i, v)).collect();
        let mut residual = self.residual(tool, goal, &values);
        let mut damping = 1e-4;
        let mut iterations = 0;
        while iterations < MAX_ITERATIONS && residual.rows.norm_squared() > REACHED_M2 && damping < 1e6 {
            iterations += 1;
            let mut jacobian = self.jacobian(tool, goal, &values, residual.rows.len(), &moving);
            let gradient = jacobian.tr_mul(&residual.rows);
            for (column, &i) in moving.iter().enumerate() {
                // A part at its limit that wants further out takes no part in this step.
                if (values[i] <= limits[i][0] && gradient[column] < 0.0) || (values[i] >= limits[i][1] && gradient[column] > 0.0) {
                    jacobian.column_mut(column).fill(0.0);
                }
            }
            let normal = jacobian.tr_mul(&jacobian) + DMatrix::identity(moving.len(), moving.len()) * damping;
            // Damped normal equations are positive definite; rounding could only fail this at a
            // damping that ends the search anyway.
            let Some(factor) = normal.cholesky() else { break };
            let step = factor.solve(&jacobian.tr_mul(&residual.rows));
            let mut candidate = values.clone();
            for (column, &i) in moving.iter().enumerate() {
                candidate[i] = clamp(i, values[i] + step[column].clamp(-0.5, 0.5));
            }
            let next = self.residual(tool, goal, &candidate);
            if next.rows.norm_squared() < residual.rows.norm_squared() {
                values = candidate;
                residual = next;
                damping = (damping / 5.0).max(1e-9);
            } else {
                damping *= 6.0;
            }
        }
        let Residual { position_error_m, direction_error_rad, .. } = residual;
        Ok(IkSolution { values, position_error_m, direction_error_rad, iterations })
    }

    fn residual(&self, tool: usize, goal: &ToolGoal, values: &[f64]) -> Residual {
        let tool = self.base_from_tool(tool, values);
        let offset = goal.position_m - tool.translation.vector;
        let mut rows = offset.as_slice().to_vec();
        let mut direction_error_rad = 0.0f64;
        for (axis, wanted) in [(Vector3::z(), goal.approach), (Vector3::x(), goal.across)] {
            let Some(wanted) = wanted else { continue };
            let present = tool.rotation * axis;
            let turn = rotation_between(&present, &wanted);
            direction_error_rad = direction_error_rad.max(turn.norm());
            rows.extend((turn * METRES_PER_RADIAN).iter());
        }
        Residual { rows: DVector::from_vec(rows), position_error_m: offset.norm(), direction_error_rad }
    }

    /// How the rows of [`Self::residual`] shrink as each of the parts `moving` moves, a column a part.
    fn jacobian(&self, tool: usize, goal: &ToolGoal, values: &[f64], rows: usize, moving: &[usize]) -> DMatrix<f64> {
        let links = self.base_from_parts(values);
        let tool = self.base_from_tool(tool, values);
        let mut jacobian = DMatrix::zeros(rows, moving.len());
        for (i, part) in moving.iter().enumerate() {
            let (link, part) = (&links[*part], &self.parts[*part]);
            let axis = link.rotation * part.unit_axis().into_inner();
            if part.kind == PartKind::Prismatic {
                jacobian.fixed_view_mut::<3, 1>(0, i).copy_from(&axis);
                continue;
            }
            let lever = tool.translation.vector - link.translation.vector;
            jacobian.fixed_view_mut::<3, 1>(0, i).copy_from(&axis.cross(&lever));
            let mut row = 3;
            for (tool_axis, wanted) in [(Vector3::z(), goal.approach), (Vector3::x(), goal.across)] {
                if wanted.is_none() {
                    continue;
                }
                // Turning about the axis itself does not move it.
                let present = tool.rotation * tool_axis;
                let turn = axis - present * present.dot(&axis);
                jacobian.fixed_view_mut::<3, 1>(row, i).copy_from(&(turn * METRES_PER_RADIAN));
                row += 3;
            }
        }
        jacobian
    }
}

/// The shortest rotation from the unit vector `from` to `to`, as axis times angle.
fn rotation_between(from: &Vector3<f64>, to: &Vector3<f64>) -> Vector3<f64> {
    let cross = from.cross(to);
    let sine = cross.norm();
    let angle = sine.atan2(from.dot(to));
    if sine > 1e-9 {
        return cross * (angle / sine);
    }
    if from.dot(to) > 0.0 {
        return cross;
    }
    // Opposite: any axis across will do.
    let across = if from.x.abs() < 0.5 { Vector3::x() } else { Vector3::y() };
    from.cross(&across).normalize() * std::f64::consts::PI
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn so101() -> RobotDescription {
        RobotDescription::from_toml("so101", include_str!("../../../robots/so101/robot.toml")).unwrap()
    }

    /// Joint positions as shares of each joint's range.
    fn within(robot: &RobotDescription, shares: &[f64]) -> Vec<f64> {
        robot
            .parts
            .iter()
            .zip(shares)
            .map(|(part, share)| part.position_limits()[0] + share * (part.position_limits()[1] - part.position_limits()[0]))
            .collect()
    }

    fn assert_within_limits(robot: &RobotDescription, found: &IkSolution) {
        for (part, value) in robot.parts.iter().zip(&found.values) {
            let [lower, upper] = part.position_limits();
            assert!(value.is_finite() && (lower..=upper).contains(value), "{}: {value}", part.name);
        }
    }

    proptest! {
        #[test]
        fn a_pose_that_the_arm_can_take_is_found_from_nearby(
            shares in prop::collection::vec(0.1..0.9f64, 6),
            offsets in prop::collection::vec(-0.15..0.15f64, 6),
        ) {
            let robot = so101();
            let truth = within(&robot, &shares);
            let tool = robot.base_from_tool(0, &truth);
            let goal = ToolGoal {
                position_m: tool.translation.vector,
                approach: Some(Unit::new_normalize(tool.rotation * Vector3::z())),
                across: Some(Unit::new_normalize(tool.rotation * Vector3::x())),
            };
            let seed: Vec<f64> = truth.iter().zip(&offsets).map(|(a, b)| a + b).collect();
            let found = robot.inverse_kinematics(0, &goal, &seed).unwrap();
            assert_within_limits(&robot, &found);
            prop_assert!(found.position_error_m < 1e-4, "{found:?}");
            prop_assert!(found.direction_error_rad < 1e-2, "{found:?}");
        }

        #[test]
        fn what_is_reported_is_what_forward_kinematics_says(
            x in -0.6..0.6f64, y in -0.6..0.6f64, z in -0.3..0.6f64,
            shares in prop::collection::vec(0.0..1.0f64, 6),
            down in any::<bool>(),
        ) {
            let robot = so101();
            let goal = ToolGoal { position_m: Vector3::new(x, y, z), approach: down.then(|| -Vector3::z_axis()), across: None };
            let found = robot.inverse_kinematics(0, &goal, &within(&robot, &shares)).unwrap();
            assert_within_limits(&robot, &found);
            let tool = robot.base_from_tool(0, &found.values);
            let left = (tool.translation.vector - goal.position_m).norm();
            prop_assert!((left - found.position_error_m).abs() < 1e-12);
            let turn = if down { (tool.rotation * Vector3::z()).angle(&-Vector3::z()) } else { 0.0 };
            prop_assert!((turn - found.direction_error_rad).abs() < 1e-6);
        }

        #[test]
        fn no_number_makes_it_panic_or_answer_nonsense(
            position in prop::array::uniform3(prop_oneof![prop::num::f64::ANY, -1e6..1e6]),
            seed in prop::collection::vec(prop_oneof![1 => prop::num::f64::ANY, 9 => -10.0..10.0], 6),
        ) {
            let robot = so101();
            let goal = ToolGoal { position_m: position.into(), approach: Some(Vector3::z_axis()), across: None };
            match robot.inverse_kinematics(0, &goal, &seed) {
                Ok(found) => {
                    assert_within_limits(&robot, &found);
                    prop_assert!(found.position_error_m.is_finite() && found.direction_error_rad.is_finite());
                }
                Err(error) => {
                    let refused = matches!(error, KinematicsError::Unusable { .. });
                    prop_assert!(refused, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_goal_out_of_reach_is_approached_and_the_rest_reported() {
        let robot = so101();
        let goal = ToolGoal { position_m: Vector3::new(2.0, 0.0, 0.1), approach: None, across: None };
        let found = robot.inverse_kinematics(0, &goal, &[0.0; 6]).unwrap();
        assert!((1.4..1.75).contains(&found.position_error_m), "{found:?}");
    }

    #[test]
    fn the_opposite_direction_is_turned_to() {
        let turn = rotation_between(&Vector3::z(), &-Vector3::z());
        assert!((turn.norm() - std::f64::consts::PI).abs() < 1e-12 && turn.z.abs() < 1e-12);
        assert_eq!(rotation_between(&Vector3::z(), &Vector3::z()), Vector3::zeros());
    }

    #[test]
    fn a_seed_of_another_robot_is_refused() {
        let goal = ToolGoal { position_m: Vector3::zeros(), approach: None, across: None };
        assert_eq!(so101().inverse_kinematics(0, &goal, &[0.0; 5]), Err(KinematicsError::Width { expected: 6, found: 5 }));
    }
}
