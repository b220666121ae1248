//! What happened on the buses, as people and scripts read it.

use std::collections::BTreeMap;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use sinew_core::Robot;
#[cfg(feature = "can")]
use sinew_drivers::can::{CanArm, CanCounts};
use sinew_drivers::{ArmHealth, FaultCounts, LeKiwiClient, LeKiwiCounts, MotorHealth, ReachyMini, ReachyMiniCounts, SerialArm};
use sinew_sim::SimRobot;

use crate::text;

/// A robot that says how its motors or its connection did.
pub trait Connected: Robot {
    /// As of now.
    fn report(&self) -> BusReport;

    /// Whether some motor has torque, where they say so: also when this process did not switch it on.
    fn has_torque(&self) -> Option<bool> {
        None
    }

    /// Tells of its ports from now on, where it has any.
    fn tell_outages(&self) -> Option<Outages> {
        None
    }
}

/// How every motor did; of what hides its motors, how the connection did.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct BusReport {
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Entry {
    Motor(Box<Motor>),
    Connection(Connection),
}

#[derive(Debug, Serialize)]
struct Motor {
    robot: String,
    #[serde(flatten)]
    health: MotorHealth,
}

#[derive(Debug, Serialize)]
struct Connection {
    robot: String,
    bus: String,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
}

impl BusReport {
    /// Of these robots, as of now.
    pub fn of(robots: &[(&str, &ArmHealth)]) -> Self {
        let motors = robots.iter().flat_map(|(robot, health)| {
            let of_robot = |health| Entry::Motor(Box::new(Motor { robot: (*robot).to_owned(), health }));
            health.motors().into_iter().map(of_robot)
        });
        Self { entries: motors.collect() }
    }

    /// Of one connection.
    fn connection<const N: usize>(robot: &str, bus: &str, counts: [(&'static str, u64); N]) -> Self {
        let connection = Connection { robot: robot.to_owned(), bus: bus.to_owned(), counts: counts.into() };
        Self { entries: vec![Entry::Connection(connection)] }
    }

    /// This, and then `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// A line a motor, and a line a connection.
    pub fn table(&self) -> String {
        let connections = self.entries.iter().filter_map(|entry| match entry {
            Entry::Motor(_) => None,
            Entry::Connection(Connection { robot, bus, counts }) => {
                let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{} {count}", what.replace('_', " "))).collect();
                Some(vec![robot.clone(), bus.clone(), counts.join(", ")])
            }
        });
        let mut connections: Vec<Vec<String>> = connections.collect();
        if !connections.is_empty() {
            connections.insert(0, ["robot", "bus", "counts"].map(str::to_owned).to_vec());
        }
        let motors = self.motors();
        // The head alone says nothing.
        let motors = if motors.len() > 1 { text::table(&motors) } else { String::new() };
        motors + &text::table(&connections)
    }

    fn motors(&self) -> Vec<Vec<String>> {
        let head = ["robot", "bus", "motor", "id", "reads", "retries", "errors", "longest age", "temperature", "voltage", "load"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for entry in &self.entries {
            let Entry::Motor(motor) = entry else { continue };
            let Motor { robot, health } = &**motor;
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
        rows
    }
}

impl Connected for SimRobot {
    /// It has no buses.
    fn report(&self) -> BusReport {
        BusReport::default()
    }
}

impl Connected for SerialArm {
    fn report(&self) -> BusReport {
        BusReport::of(&[(&self.description().name, &self.health())])
    }

    fn has_torque(&self) -> Option<bool> {
        Some(SerialArm::has_torque(self))
    }

    fn tell_outages(&self) -> Option<Outages> {
        Some(Outages::tell(&self.description().name, &self.health()))
    }
}

impl Connected for ReachyMini {
    fn report(&self) -> BusReport {
        let ReachyMiniCounts { connections, malformed } = self.counts();
        BusReport::connection(&self.description().name, "daemon", [("connections", connections), ("malformed", malformed)])
    }
}

impl Connected for LeKiwiClient {
    fn report(&self) -> BusReport {
        let LeKiwiCounts { observations, lost, malformed, connections } = self.counts();
        let counts = [("observations", observations), ("lost", lost), ("malformed", malformed), ("connections", connections)];
        BusReport::connection(&self.description().name, "host", counts)
    }
}

#[cfg(feature = "can")]
impl Connected for CanArm {
    fn report(&self) -> BusReport {
        let name = &self.description().name;
        self.counts().iter().fold(BusReport::default(), |report, (bus, counts)| {
            let CanCounts { requests, retries, late_answers, foreign_frames, stale_frames, garbage_bytes, refused } = *counts;
            let counts = [
                ("requests", requests),
                ("retries", retries),
                ("late_answers", late_answers),
                ("foreign_frames", foreign_frames),
                ("stale_frames", stale_frames),
                ("garbage_bytes", garbage_bytes),
                ("refused", refused),
            ];
            report.and(BusReport::connection(name, bus, counts))
        })
    }
}

pub fn number(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"))
}

/// By what attempts to read a motor failed, and how often.
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

/// How often buses are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Tells of ports that go away and come back, until it is dropped.
pub struct Outages {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Outages {
    /// Of a robot or a leader arm.
    pub fn tell(robot: &str, health: &ArmHealth) -> Self {
        let (robot, health) = (robot.to_owned(), health.clone());
        let mut were_lost = vec![false; health.buses().len()];
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        // Without the thread nothing is told, and nothing else is lost.
        let thread = std::thread::Builder::new().name("outages".into()).spawn(move || {
            while !over.load(Ordering::Acquire) {
                for (bus, was_lost) in health.buses().iter().zip(&mut were_lost) {
                    if bus.is_lost && !*was_lost {
                        text::note!("\n{robot}: the port of bus {} is gone; it is waited for, and the robot holds", bus.bus);
                    } else if !bus.is_lost && *was_lost {
                        text::note!("\n{robot}: the port of bus {} is back", bus.bus);
                    }
                    *was_lost = bus.is_lost;
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { is_over, thread: thread.ok() }
    }
}

impl Drop for Outages {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic while telling was printed where it happened.
            drop(thread.join());
        }
    }
}
