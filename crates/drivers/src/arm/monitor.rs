//! Somebody who only looks at a robot's motors.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, RobotDescription};

use super::connect::{self, Connected};
use super::line::Line;
use super::{ArmHealth, ArmOptions, ConnectError, READING};
use crate::{Calibration, SerialCounts};

/// The motors of a robot or a leader arm on serial buses, which are asked and never told anything.
pub struct SerialMonitor {
    lines: Vec<Line>,
    clock: Arc<dyn Clock>,
    health: ArmHealth,
}

impl SerialMonitor {
    /// Opens the ports. Without a `calibration`, positions count from the middle of each motor's turn.
    ///
    /// # Errors
    /// When a port can't be had, or a motor's model is not known.
    pub fn open(
        robot: &RobotDescription,
        options: &ArmOptions,
        calibration: Option<&Calibration>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let Connected { lines, health, .. } = connect::look_at(robot, options, calibration, &clock)?;
        Ok(Self { lines, clock, health })
    }

    /// How the motors do, for any thread.
    pub fn health(&self) -> ArmHealth {
        self.health.clone()
    }

    /// What happened on each bus, by its name.
    pub fn counts(&self) -> Vec<(String, SerialCounts)> {
        self.lines.iter().map(|line| (line.name.clone(), line.bus.counts())).collect()
    }

    /// Reads all positions, and how one motor of each bus does, in a part of `period`. What doesn't answer is in the health.
    pub fn look(&mut self, period: Duration) {
        let now = self.clock.now();
        // One question has its time whatever the period; looks are then fewer.
        let takes = |line: &Line| line.bus.time_to_read(line.position.len.into(), line.positions) * 2;
        let within = self.lines.iter().map(takes).fold(period.mul_f64(READING), Duration::max);
        self.lines.iter_mut().for_each(|line| line.begin_read(now, within));
        for line in &mut self.lines {
            line.finish_read(self.clock.as_ref(), &self.health.motors, |_, _, _| {});
            // Nothing was told to them that they could have forgotten.
            line.joints.iter_mut().for_each(|joint| joint.must_rest = None);
            line.look(self.clock.as_ref(), &self.health.motors, now + within);
        }
    }
}
