//! `sinew setup-motors`

use std::io::ErrorKind;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use sinew_core::Clock;
use sinew_drivers::setup::{Identified, Identifier, MotorToSet, SetupError};
use sinew_drivers::{BusError, SerialBus, SerialOptions};
use sinew_runtime::MonotonicClock;

use crate::args::{SetupMotorsArgs, misuse};
use crate::arm::{Answers, Arm};
use crate::text::{note, say};
use crate::{Done, text};

#[derive(Serialize)]
struct Set<'a> {
    joint: &'a str,
    id: u16,
    baud_rate: u32,
    /// What it was before; nothing where it had its id and speed already.
    was: Option<Was>,
}

#[derive(Serialize)]
struct Was {
    id: u16,
    baud_rate: u32,
}

pub fn run(args: &SetupMotorsArgs) -> anyhow::Result<Done> {
    let arm = Arm::of(&args.arm)?;
    let mut motors = MotorToSet::all(&arm.robot)?;
    if let Some(only) = &args.only {
        let known: Vec<String> = motors.iter().map(|motor| motor.part.clone()).collect();
        motors.retain(|motor| motor.part == *only);
        if motors.is_empty() {
            misuse!("--only {only}: {} has no such joint, expected one of {}", arm.robot.name, known.join(", "));
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    // Nobody plugs anything in for a port that is none, or not his. One that is not there yet may come with its adapter.
    for (bus, address) in &arm.ports {
        let Some(motor) = motors.iter().find(|motor| motor.bus == *bus) else { continue };
        match SerialBus::open(SerialOptions::new(address.clone(), motor.table.protocol, motor.baud), Arc::clone(&clock)) {
            Err(BusError::Open { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            opened => drop(opened.with_context(|| format!("setting up the motors of {} on its bus {bus}", arm.robot.name))?),
        }
    }
    let answers = Answers::start()?;
    for (i, motor) in motors.iter().enumerate() {
        let (_, address) = arm.ports.iter().find(|(bus, _)| *bus == motor.bus).context("expected a port for each bus")?;
        let given: Vec<MotorToSet> = motors[..i].iter().filter(|other| other.bus == motor.bus).cloned().collect();
        let identifier = Identifier::new(address.clone(), arm.latency, Arc::clone(&clock)).after(&given);
        let part = &motor.part;
        let question = format!("Connect the motor of {part} (a {}) to {address}, and no other; then ENTER", motor.table.model);
        let done = loop {
            answers.ask(&question)?;
            match identifier.set(motor, &mut |baud| note!("  looking at {baud} bits a second")) {
                Ok(done) => break done,
                // Somebody can do something about it, and nothing was written.
                Err(
                    error @ (SetupError::NoMotor { .. } | SetupError::Several { .. } | SetupError::Model { .. } | SetupError::Given { .. }),
                ) => {
                    let is_given = matches!(error, SetupError::Given { .. });
                    note!("error: {}", text::chain(&error.into()));
                    if is_given {
                        note!("  where it is another motor with that id, end this and set it with --only {part}");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        let was = match done {
            Identified::Already => None,
            Identified::Set { id, baud } => Some(Was { id, baud_rate: baud }),
        };
        if args.json {
            text::print_json(&Set { joint: part, id: motor.id, baud_rate: motor.baud, was })?;
        } else {
            match was {
                None => say!("{part} has id {} already", motor.id),
                Some(Was { id, baud_rate }) => say!("{part} has id {} now (it was {id} at {baud_rate} bits a second)", motor.id),
            }
        }
    }
    if !args.json && args.only.is_none() {
        say!("All {} motors are set. Connect them all, then: sinew calibrate", motors.len());
    }
    Ok(Done::Ok)
}
