//! Arms whose motors hang on serial buses: a follower as a [`Robot`](sinew_core::Robot), a leader as a
//! [`Teleoperator`](sinew_core::Teleoperator).

mod connect;
mod drive;
mod enable;
mod feedback;
mod health;
mod joint;
mod leader;
mod line;
mod monitor;
mod settings;
mod wheels;

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Feedback, RobotDescription, Role};

use crate::{Calibration, SerialCounts};

use connect::Connected;
pub use connect::{ArmOptions, Change, ConnectError, ConnectReport, WhenLost};
pub use feedback::LeaderFeedback;
pub use health::{ArmHealth, BusHealth, FaultCounts, MotorHealth, Place};
pub use leader::SerialLeader;
use line::Line;
pub use monitor::SerialMonitor;
pub(crate) use settings::registers_fault;
pub use settings::{Setting, lerobot_settings};
use wheels::Drive;

/// Bit of an alert that is ours, not the motor's: its torque is off that had been switched on.
pub const TORQUE_LOST: u32 = 1 << 31;

/// How often a lost port is tried.
const REOPEN_EVERY: Duration = Duration::from_millis(100);
/// The part of a tick that may be spent on reading.
const READING: f64 = 0.7;
/// Once in so many ticks a bus is asked how one of its motors does.
const HEALTH_EVERY: u64 = 3;

/// An arm, or several, whose parts are commanded by position and moved by motors on serial buses, with or without a base on
/// wheels.
///
/// - Each tick costs each bus one read of all positions and one write of all goals, and as much for wheels' velocities;
///   every few ticks one motor is asked how it does, where there is time for that. In a protocol that has no read of several
///   motors they are asked one after the other.
/// - The wheels stand while one of them has no torque, and at every end.
/// - A motor that has been silent for as long as the description allows ends the session, by its name and its place
///   ([`Place`]).
/// - A motor that does not answer keeps its last value, which is marked. So does one that says it is where it can't have
///   come; after three such readings that fit each other they are believed.
/// - A motor whose torque went off by itself is not switched on again and gets no goals; its values carry
///   [`TORQUE_LOST`].
/// - A port that is lost is tried again ([`WhenLost`]). Its motors then get their present positions as goals first.
pub struct SerialArm {
    robot: Arc<RobotDescription>,
    lines: Vec<Line>,
    clock: Arc<dyn Clock>,
    health: ArmHealth,
    report: ConnectReport,
    base: Option<Drive>,
    /// For so long a motor may be silent.
    silent_after: Duration,
    /// For so long a port may be gone; `None` where that ends the session at once.
    away_for: Option<Duration>,
    turn: u64,
}

impl SerialArm {
    /// Opens the ports, meets every motor, compares what it holds with `calibration` and the settings, and writes only
    /// what differs. Nothing moves, and no torque is switched on.
    ///
    /// # Errors
    /// When a port or a motor is not there or is another one than the description says, or holds something that may not
    /// be changed.
    pub fn connect(
        robot: Arc<RobotDescription>,
        options: &ArmOptions,
        calibration: &Calibration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let Connected { lines, health, report } = connect::connect(&robot, Role::Robot, options, calibration, &clock)?;
        let period = Duration::from_secs(1) / robot.control_rate_hz.max(1);
        for line in &lines {
            // With less no motor would ever be asked.
            let takes = line.bus.time_to_read(line.position.len.into(), line.positions);
            if takes > period.mul_f64(READING) {
                let what = format!(
                    "expected at most {:.0} ticks a second, found {}: reading its bus {} may take {:.1} ms, {:.1} of them the adapter's latency",
                    (READING / takes.as_secs_f64()).floor(),
                    robot.control_rate_hz,
                    line.name,
                    takes.as_secs_f64() * 1e3,
                    options.latency.as_secs_f64() * 1e3
                );
                return Err(ConnectError::Unsupported { robot: robot.name.clone(), what });
            }
        }
        let base = Drive::of(&robot);
        let silent_after = Duration::from_millis(robot.feedback.fault_age_ms.into());
        let away_for = match options.when_lost {
            WhenLost::Resume { within } => Some(within.max(silent_after)),
            WhenLost::End => None,
        };
        // Who drives the arm waits as long as it does; it says itself which motor is silent for too long.
        let fault_age_ms = u32::try_from(away_for.unwrap_or(silent_after).as_millis()).unwrap_or(u32::MAX);
        let feedback = Feedback { fault_age_ms, ..robot.feedback };
        let robot = if feedback == robot.feedback { robot } else { Arc::new(RobotDescription { feedback, ..(*robot).clone() }) };
        Ok(Self { robot, lines, clock, health, report, base, silent_after, away_for, turn: 0 })
    }

    /// What connecting found and changed.
    pub fn report(&self) -> &ConnectReport {
        &self.report
    }

    /// Whether some motor has torque: it was switched on, or the motor said so when it was asked last, as each is while connecting and
    /// every few seconds. Somebody else may have left it on.
    pub fn has_torque(&self) -> bool {
        self.lines.iter().flat_map(|line| &line.joints).any(|joint| joint.has_torque || joint.says_torque)
    }

    /// How the motors do, for any thread.
    pub fn health(&self) -> ArmHealth {
        self.health.clone()
    }

    /// What happened on each bus, by its name.
    pub fn counts(&self) -> Vec<(String, SerialCounts)> {
        self.lines.iter().map(|line| (line.name.clone(), line.bus.counts())).collect()
    }
}
