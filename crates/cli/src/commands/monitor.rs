//! `sinew robots monitor`

mod away;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Clock, Role, Timestamp};
use sinew_drivers::{ArmOptions, Calibration, MotorHealth, SerialMonitor};
use sinew_runtime::{Histogram, MonotonicClock, StopFlag};

use crate::args::{ArmArgs, refuse_given};
use crate::arm::{Arm, calibrations};
use crate::buses::{BusReport, in_words, number};
use crate::live::LiveText;
use crate::text::say;
use crate::way::Way;
use crate::{Done, hardware, prompt, text};

/// How often a line is written where no table is drawn.
const TOLD_EVERY_NS: i64 = 2_000_000_000;

/// What is looked at, and how long.
pub struct Watching<'a> {
    pub arm: &'a ArmArgs,
    pub id: Option<&'a str>,
    /// Of a LeKiwi's host.
    pub token: Option<&'a str>,
    pub seconds: Option<f64>,
    pub fps: u32,
    pub json: bool,
}

pub fn run(args: &Watching<'_>) -> anyhow::Result<Done> {
    if let Some(name) = &args.arm.robot {
        let robot = hardware::describe(name, Role::Robot)?;
        let way = Way::of(&robot, &args.arm.port, "--port")?;
        if !way.is_serial() {
            return away::run(args, robot, way);
        }
    }
    refuse_given(&[("--token", args.token.is_some())], "is for a LeKiwi's host, and these motors are on a serial port")?;
    let arm = Arm::of(args.arm)?;
    let name = &arm.robot.name;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let read = |id: &str| Calibration::for_robot(&arm.robot, id, &calibrations()?).with_context(|| format!("watching {name}"));
    let calibration = args.id.map(read).transpose()?;
    let options = ArmOptions { latency: arm.latency, ..ArmOptions::new(&arm.robot, arm.ports.clone()) };
    let mut monitor = SerialMonitor::open(&arm.robot, &options, calibration.as_ref(), clock.clone())?;
    let health = monitor.health();
    let period = Duration::from_secs(1) / args.fps;
    let begin = clock.now();
    let is_over = |now: Timestamp| args.seconds.is_some_and(|seconds| now.nanos_since(begin) as f64 * 1e-9 >= seconds);
    let (mut live, mut lateness, mut looks, mut missed) = (LiveText::new(), Histogram::new(), 0u64, 0u64);
    let mut due = begin;
    let mut told = begin;
    while !stop.is_requested() && !is_over(due) {
        lateness.record(clock.now().nanos_since(due));
        monitor.look(period);
        looks += 1;
        live.show(|| table(&health));
        // Where no table can be drawn anew, a line now and then says what comes.
        if !args.json && !prompt::can_redraw() && (looks == 1 || due.nanos_since(told) >= TOLD_EVERY_NS) {
            told = due;
            let answering = health.motors().iter().filter(|motor| motor.reads > 0).count();
            text::note!("{answering} of {} motors answer", health.motors().len());
        }
        due = due + period;
        let late_ns = clock.now().nanos_since(due);
        let behind =
            u32::try_from(late_ns.max(0).unsigned_abs() / u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1)).unwrap_or(u32::MAX);
        (due, missed) = (due + period * behind, missed + u64::from(behind));
        clock.sleep_until(due);
    }
    let elapsed_s = clock.now().nanos_since(begin) as f64 * 1e-9;
    let motors = BusReport::of(&[(name, &health)]);
    if args.json {
        text::print_json(&serde_json::json!({
            "robot": name, "rate_hz": looks as f64 / elapsed_s.max(1e-9), "looks": looks, "missed": missed, "lateness": lateness.stats(),
            "calibrated": calibration.is_some(), "buses": health.buses(), "motors": motors,
        }))?;
    } else {
        say!("{}", motors.table().trim_end());
        say!("{looks} readings at {:.1} Hz, {missed} missed", looks as f64 / elapsed_s.max(1e-9));
    }
    let silent: Vec<String> = health.motors().iter().filter(|motor| motor.reads == 0).map(|motor| motor.place().to_string()).collect();
    let motors_count = health.motors().len();
    anyhow::ensure!(
        silent.len() < motors_count,
        "watching {name}: none of its {motors_count} motors answered; check the power, the cable, and whether the robot on this port is {name}"
    );
    anyhow::ensure!(
        silent.is_empty(),
        "watching {name}: no answer from {}; the others answered; check their cables and ids, and whether the robot on this port is {name}",
        silent.join(", ")
    );
    let patience_s = f64::from(arm.robot.feedback.fault_age_ms) * 1e-3;
    if let Some(gone) = gone(&health.motors(), patience_s) {
        anyhow::bail!("watching {name}: no answer any more from {gone}");
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// Who has not answered for longer than `patience_s`, at the end.
fn gone(motors: &[MotorHealth], patience_s: f64) -> Option<String> {
    let gone = motors.iter().filter(|motor| motor.misses > 0 && motor.age_s > patience_s);
    let gone: Vec<String> = gone.map(|motor| format!("{} for {:.1} s", motor.place(), motor.age_s)).collect();
    (!gone.is_empty()).then(|| gone.join(", "))
}

/// What is seen now.
fn table(health: &sinew_drivers::ArmHealth) -> String {
    let head = ["motor", "id", "position", "load", "temperature", "voltage", "age", "errors"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for motor in health.motors() {
        rows.push(vec![
            motor.part.clone(),
            motor.motor.0.to_string(),
            number(motor.position, ""),
            number(motor.load.map(|load| load * 1e2), "%"),
            number(motor.temperature_c, "\u{b0}C"),
            number(motor.voltage_v, "V"),
            number(Some(motor.age_s * 1e3), "ms"),
            in_words(&motor.errors),
        ]);
    }
    text::table_on_stderr(&rows)
}

#[cfg(test)]
mod tests {
    use sinew_drivers::{FaultCounts, MotorId};

    use super::*;

    #[test]
    fn motors_that_have_stopped_answering_are_told() {
        let motor = |misses, age_s| MotorHealth {
            part: "wrist".to_owned(),
            bus: "arm".to_owned(),
            motor: MotorId(4),
            after: None,
            reads: 100,
            retries: 0,
            misses,
            errors: FaultCounts::default(),
            age_s,
            longest_age_s: age_s,
            position: Some(1.0),
            temperature_c: None,
            voltage_v: None,
            load: None,
            alert: 0,
            resets: 0,
            has_lost_torque: false,
        };
        assert_eq!(gone(&[motor(0, 0.01), motor(2, 0.07)], 0.5), None);
        assert_eq!(gone(&[motor(0, 0.01), motor(30, 1.04)], 0.5).unwrap(), "wrist (motor 4 on bus arm, the first) for 1.0 s");
    }
}
