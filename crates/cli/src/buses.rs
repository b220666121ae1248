//! What happened on the buses, as people and scripts read it.

use serde::Serialize;
use sinew_drivers::{ArmHealth, FaultCounts, MotorHealth};

use crate::text;

/// How every motor did.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct BusReport {
    motors: Vec<Motor>,
}

#[derive(Debug, Serialize)]
struct Motor {
    robot: String,
    #[serde(flatten)]
    health: MotorHealth,
}

impl BusReport {
    /// Of these robots, as of now.
    pub fn of(robots: &[(&str, &ArmHealth)]) -> Self {
        let motors = robots.iter().flat_map(|(robot, health)| {
            let of_robot = |health| Motor { robot: (*robot).to_owned(), health };
            health.motors().into_iter().map(of_robot)
        });
        Self { motors: motors.collect() }
    }

    /// A line a motor.
    pub fn table(&self) -> String {
        let head = ["robot", "bus", "motor", "id", "reads", "retries", "errors", "longest age", "temperature", "voltage", "load"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for Motor { robot, health } in &self.motors {
            rows.push(vec![
                robot.clone(),
                health.bus.clone(),
                health.part.clone(),
                health.motor.0.to_string(),
                health.reads.to_string(),
                health.retries.to_string(),
                in_words(&health.errors),
                number(Some(health.longest_age_s * 1e3), "ms"),
                number(health.temperature_c, "\u{b0}C"),
                number(health.voltage_v, "V"),
                number(health.load.map(|load| load * 1e2), "%"),
            ]);
        }
        text::table(&rows)
    }
}

pub fn number(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"))
}

/// What kept a motor from being read, and how often.
pub fn in_words(errors: &FaultCounts) -> String {
    let FaultCounts { no_answer, not_asked, checksum, length, refused, implausible, other } = *errors;
    let kinds = [
        (no_answer, "no answer"),
        (not_asked, "not asked"),
        (checksum, "checksum"),
        (length, "length"),
        (refused, "refused"),
        (implausible, "implausible"),
        (other, "other"),
    ];
    let found: Vec<String> = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}
