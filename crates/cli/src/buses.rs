//! What happened on the buses, as people and scripts read it.

use serde::Serialize;
use sinew_core::Clock;
use sinew_drivers::{ArmHealth, FaultCounts};
use sinew_runtime::MonotonicClock;

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
    bus: String,
    motor: String,
    id: u16,
    retries: u32,
    errors: Errors,
    /// Since it was read last; `null` when it never was.
    age_ms: Option<f64>,
    temperature_c: Option<f64>,
    voltage_v: Option<f64>,
    load: Option<f64>,
    alert: u32,
    resets: u32,
    has_lost_torque: bool,
}

#[derive(Debug, Serialize)]
struct Errors {
    no_answer: u32,
    not_asked: u32,
    checksum: u32,
    length: u32,
    refused: u32,
    implausible: u32,
    other: u32,
}

impl BusReport {
    /// Of these robots, as of now.
    pub fn of(robots: &[(&str, &ArmHealth)]) -> Self {
        let now = MonotonicClock::new().now();
        let motors = robots.iter().flat_map(|(robot, health)| health.motors().into_iter().map(move |motor| (*robot, motor)));
        let motors = motors.map(|(robot, motor)| {
            let FaultCounts { no_answer, not_asked, checksum, length, refused, implausible, other } = motor.faults;
            Motor {
                robot: robot.to_owned(),
                age_ms: motor.age_s(now).map(|age| age * 1e3),
                bus: motor.bus,
                motor: motor.part,
                id: motor.motor.0,
                retries: motor.retries,
                errors: Errors { no_answer, not_asked, checksum, length, refused, implausible, other },
                temperature_c: motor.temperature_c,
                voltage_v: motor.voltage_v,
                load: motor.load,
                alert: motor.alert,
                resets: motor.resets,
                has_lost_torque: motor.has_lost_torque,
            }
        });
        Self { motors: motors.collect() }
    }

    /// A line a motor.
    pub fn table(&self) -> String {
        let head = ["robot", "bus", "motor", "id", "retries", "errors", "age", "temperature", "voltage", "load"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let number = |value: Option<f64>, unit: &str| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"));
        for motor in &self.motors {
            rows.push(vec![
                motor.robot.clone(),
                motor.bus.clone(),
                motor.motor.clone(),
                motor.id.to_string(),
                motor.retries.to_string(),
                motor.errors.in_words(),
                number(motor.age_ms, "ms"),
                number(motor.temperature_c, "\u{b0}C"),
                number(motor.voltage_v, "V"),
                number(motor.load.map(|load| load * 1e2), "%"),
            ]);
        }
        text::table(&rows)
    }
}

impl Errors {
    fn in_words(&self) -> String {
        let kinds = [
            (self.no_answer, "no answer"),
            (self.not_asked, "not asked"),
            (self.checksum, "checksum"),
            (self.length, "length"),
            (self.refused, "refused"),
            (self.implausible, "implausible"),
            (self.other, "other"),
        ];
        let found: Vec<String> = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    }
}
