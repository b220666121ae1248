//! All tools of a robot at once: a hand for each arm.

use sinew_core::{ActionSpace, Observation, Retarget, RobotDescription, TeleoperatorError, Wanted};

use super::tool::{ToolError, ToolOptions, ToolToJoints};

/// A [`ToolToJoints`] for each tool of a robot that can be steered. An action is one of each, in the order of [`names`](Self::names).
#[derive(Clone, Debug)]
pub struct ToolsToJoints {
    tools: Vec<(String, ToolToJoints)>,
    /// Of one action.
    width: usize,
    /// What one of them wants.
    one: Wanted,
}

impl ToolsToJoints {
    /// # Errors
    /// When none of the robot's tools can be steered: why the first can't. When two are carried by the same joint, or an option makes no
    /// sense.
    pub fn new(robot: &RobotDescription, space: ActionSpace, options: &ToolOptions) -> Result<Self, ToolError> {
        let mut tools: Vec<(String, ToolToJoints)> = Vec::new();
        let mut fault = None;
        for tool in &robot.tools {
            match ToolToJoints::new(robot, space.clone(), &ToolOptions { tool: Some(tool.name.clone()), ..options.clone() }) {
                Ok(way) => tools.push((tool.name.clone(), way)),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        if tools.is_empty() {
            return Err(fault.unwrap_or_else(|| ToolError::NoTool { robot: robot.name.clone() }));
        }
        for (i, (name, way)) in tools.iter().enumerate() {
            let is_taken = |channel| tools[..i].iter().any(|(_, other)| other.channels().any(|of_other| of_other == channel));
            if way.channels().any(is_taken) {
                return Err(ToolError::Shared { robot: robot.name.clone(), tool: name.clone() });
            }
        }
        Ok(Self { tools, width: space.width().unwrap_or(0), one: Wanted::for_robot(robot) })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|(name, _)| name.as_str())
    }

    /// See [`ToolToJoints::go_on_from`].
    ///
    /// # Errors
    /// When it is not known where the robot is.
    pub fn go_on_from(&mut self, sent: &[f64], observation: &Observation) -> Result<(), TeleoperatorError> {
        self.tools.iter_mut().try_for_each(|(_, way)| way.go_on_from(sent, observation))
    }
}

impl Retarget for ToolsToJoints {
    fn action_width(&self) -> usize {
        self.width * self.tools.len()
    }

    fn reset(&mut self) {
        self.tools.iter_mut().for_each(|(_, way)| way.reset());
    }

    fn retarget(&mut self, action: &[f64], observation: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        for (i, ((_, way), action)) in self.tools.iter_mut().zip(action.chunks_exact(self.width.max(1))).enumerate() {
            way.retarget(action, observation, &mut self.one)?;
            // What no tool is carried by is what the first has it stay at.
            if i == 0 {
                wanted.goals.copy_from_slice(&self.one.goals);
            }
            way.channels().for_each(|channel| wanted.goals[channel] = self.one.goals[channel]);
        }
        Ok(())
    }
}
