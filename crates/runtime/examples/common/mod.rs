//! An arm whose joints are wherever they are told to be, for examples that measure what is around one.
#![allow(dead_code, reason = "each example uses its own part")]

use std::fmt::Write;

use sinew_core::{
    CameraError, Cameras, DescriptionError, Door, Environment, EnvironmentError, EpisodeSetup, Image, Observation, Outcome, Robot,
    RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp,
};

pub struct Arm {
    description: RobotDescription,
    position: Vec<f64>,
}

impl Arm {
    /// With cameras by name, width and height.
    pub fn new(rate_hz: u32, joints: usize, cameras: &[(&str, u32, u32)]) -> Result<Self, DescriptionError> {
        let mut text = format!(
            r#"
            schema = 2
            name = "arm"
            title = "An arm that obeys"
            control_rate_hz = {rate_hz}
            lerobot = {{ class = "arm" }}
            stop = {{ behaviour = "hold" }}
            "#
        );
        for joint in 0..joints {
            let _ = write!(
                text,
                r#"
                [[part]]
                name = "joint_{joint}"
                command = "position"
                unit = "degrees"
                limits = {{ position = [-3, 3], velocity = 100, step = 3 }}
                rest = 0.0
                "#
            );
        }
        for (name, width, height) in cameras {
            let _ = writeln!(text, "[[camera]]\nname = \"{name}\"\nwidth = {width}\nheight = {height}");
        }
        let description = RobotDescription::from_toml("arm", &text)?;
        Ok(Self { description, position: vec![0.0; joints] })
    }
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        observation.time = tick.due;
        observation.state.set_all(&self.position, tick.due);
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        self.position.copy_from_slice(command.goals());
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        Ok(())
    }
}

/// Cameras whose newest images are black, and always of now.
pub struct Dark;

impl Cameras for Dark {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        for image in images {
            (image.captured_at, image.sequence) = (tick.due, tick.turn);
        }
        Ok(())
    }
}

/// Lasts so many ticks.
pub struct Scene(pub u64);

impl Environment for Scene {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { task: "wave".to_owned(), max_ticks: self.0, is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}
