//! An arm whose joints are wherever they are told to be, for examples that measure what is around one.
#![allow(dead_code, reason = "each example uses its own part")]

use std::fmt::Write;

use sinew_core::{
    DescriptionError, Environment, EpisodeSetup, Image, Observation, Outcome, Robot, RobotDescription, RobotError, SafeCommand, Tick,
};

pub struct Arm {
    description: RobotDescription,
    position_rad: Vec<f64>,
    look: Box<dyn FnMut(&mut [Image]) + Send>,
}

impl Arm {
    /// With cameras by name, width and height, whose images stay black.
    pub fn new(rate_hz: u32, joints: usize, cameras: &[(&str, u32, u32)]) -> Result<Self, DescriptionError> {
        let mut text = format!(
            r#"
            name = "arm"
            title = "An arm that obeys"
            lerobot_robot_type = "arm"
            control_rate_hz = {rate_hz}
            bus = {{ protocol = "none", baud_rate = 1 }}
            tool = {{ joint = "joint_0", joint_from_tool = {{ translation_m = [0.1, 0, 0], rotation_wxyz = [1, 0, 0, 0] }} }}
            stop = {{ behaviour = "hold", rest_rad = {:?} }}
            "#,
            vec![0.0; joints]
        );
        for joint in 0..joints {
            let _ = write!(
                text,
                r#"
                [[joint]]
                name = "joint_{joint}"
                motor = {{ model = "none", id = {} }}
                unit = "degrees"
                parent_from_joint = {{ translation_m = [0, 0, 0.1], rotation_wxyz = [1, 0, 0, 0] }}
                axis = [0, 0, 1]
                limits = {{ position_rad = [-3, 3], velocity_rad_per_s = 100, step_rad = 3 }}
                "#,
                joint + 1
            );
        }
        for (name, width, height) in cameras {
            let _ = writeln!(text, "[[camera]]\nname = \"{name}\"\nwidth = {width}\nheight = {height}");
        }
        let description = RobotDescription::from_toml("arm", &text)?;
        Ok(Self { description, position_rad: vec![0.0; joints], look: Box::new(|_| {}) })
    }

    /// `look` fills the images in, on the control thread.
    pub fn looking(self, look: impl FnMut(&mut [Image]) + Send + 'static) -> Self {
        Self { look: Box::new(look), ..self }
    }
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        observation.time = tick.due;
        observation.position_rad.copy_from_slice(&self.position_rad);
        if tick.wants_images {
            (self.look)(&mut observation.images);
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), RobotError> {
        Ok(())
    }

    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        self.position_rad.copy_from_slice(command.goals_rad());
        applied_rad.copy_from_slice(command.goals_rad());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RobotError> {
        Ok(())
    }
}

/// Lasts so many ticks.
pub struct Scene(pub u64);

impl Environment for Scene {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, RobotError> {
        Ok(EpisodeSetup { task: "wave".to_owned(), max_ticks: self.0 })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}
