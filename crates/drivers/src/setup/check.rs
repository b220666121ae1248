//! Whether motors hold what a calibration file says, and how they are.

use serde::Serialize;

use super::{Chain, ChainMotor, SetupError};
use crate::{BusError, Calibration, Register, Scale};

/// What a motor says of itself. `None` where it didn't answer or its model doesn't know it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MotorCheck {
    pub part: String,
    pub bus: String,
    pub id: u16,
    pub answers: bool,
    /// Present position in ticks, after the offset.
    pub position: Option<i32>,
    /// The same from the middle of the calibrated range.
    pub position_deg: Option<f64>,
    /// The calibrated range in ticks, as the file has it.
    pub range: Option<[i32; 2]>,
    pub voltage_v: Option<f64>,
    pub temperature_c: Option<i32>,
    pub has_torque: Option<bool>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// What is not as it should be.
    pub differences: Vec<String>,
}

/// What a bus says of its cable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CableCheck {
    pub bus: String,
    pub port: String,
    /// The motors at its ends, and whether they answer.
    pub first: (String, bool),
    pub last: (String, bool),
    /// Packets that were sent, and of them those that asked again.
    pub requests: u64,
    pub retries: u64,
}

/// What all motors and buses of a robot say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CalibrationCheck {
    pub motors: Vec<MotorCheck>,
    pub cables: Vec<CableCheck>,
}

impl CalibrationCheck {
    /// All that is not as it should be, a line each.
    pub fn differences(&self) -> impl Iterator<Item = String> {
        self.motors.iter().flat_map(|motor| motor.differences.iter().map(|what| format!("{}: {what}", motor.part)))
    }

    /// Compares what the motors hold with `calibration`; `None` where there is no file. Writes nothing.
    ///
    /// # Errors
    /// When a port is lost; a motor that doesn't answer is a difference.
    pub fn of(chain: &mut Chain, calibration: Option<&Calibration>) -> Result<Self, SetupError> {
        let buses: Vec<String> = chain.buses().map(|(name, ..)| name.to_owned()).collect();
        let mut motors = Vec::new();
        for i in 0..chain.motors.len() {
            let ChainMotor { name: part, bus, motor, .. } = chain.motors[i].clone();
            let mut check = MotorCheck { bus: buses[bus].clone(), id: motor.0, part, ..MotorCheck::default() };
            match check_motor(chain, i, calibration, &mut check) {
                Ok(()) => {}
                Err(error @ SetupError::Model { .. }) => {
                    check.answers = true;
                    check.differences.push(error.to_string());
                }
                Err(SetupError::Bus { source: source @ (BusError::Motor(_) | BusError::Garbage { .. }), .. }) => {
                    check.differences.push(if check.answers { source.to_string() } else { format!("no answer ({source})") });
                }
                Err(error) => return Err(error),
            }
            motors.push(check);
        }
        // A robot connects only when all motors of a model behave alike.
        for i in 1..motors.len() {
            let other = (0..i).find(|other| chain.motors[*other].table == chain.motors[i].table && motors[*other].firmware.is_some());
            let Some(MotorCheck { part, firmware: Some(other), .. }) = other.map(|other| motors[other].clone()) else { continue };
            if let Some(firmware) = motors[i].firmware.clone().filter(|firmware| *firmware != other) {
                motors[i].differences.push(format!("its firmware is {firmware}, that of {part} is {other}: bring all to the newest"));
            }
        }
        let cables = chain.buses().map(|(bus, port, counts)| {
            let end = |motor: Option<&MotorCheck>| motor.map(|motor| (motor.part.clone(), motor.answers)).unwrap_or_default();
            let (bus, port) = (bus.to_owned(), port.to_owned());
            // A chain is in the order of ids.
            let on_bus = || motors.iter().filter(|motor| motor.bus == bus);
            let (first, last) = (end(on_bus().min_by_key(|motor| motor.id)), end(on_bus().max_by_key(|motor| motor.id)));
            CableCheck { bus, port, first, last, requests: counts.requests, retries: counts.retries }
        });
        Ok(Self { cables: cables.collect(), motors })
    }
}

fn check_motor(chain: &mut Chain, i: usize, calibration: Option<&Calibration>, check: &mut MotorCheck) -> Result<(), SetupError> {
    let ChainMotor { part, table, .. } = chain.motors[i].clone();
    chain.model(i)?;
    check.answers = true;
    // In few questions, as an adapter may take its time for each.
    let versions = [Register::FirmwareVersion, Register::FirmwareMajorVersion, Register::FirmwareMinorVersion];
    let versions: Vec<String> = chain.read_near(i, &versions)?.iter().flatten().map(i32::to_string).collect();
    check.firmware = (!versions.is_empty()).then(|| versions.join("."));
    let now = [Register::PresentPosition, Register::PresentVoltage, Register::PresentInputVoltage, Register::PresentTemperature];
    let now = chain.read_near(i, &now)?;
    check.position = now[0];
    check.voltage_v = now[1].or(now[2]).map(|tenths| f64::from(tenths) / 10.0);
    check.temperature_c = now[3];
    check.has_torque = chain.read_near(i, &[Register::TorqueEnable])?[0].map(|torque| torque != 0);
    let known = calibration.and_then(|calibration| calibration.get(&check.part));
    let Some(known) = known else {
        check.differences.extend(calibration.map(|_| "the file does not have it".to_owned()));
        return Ok(());
    };
    if known.id != check.id {
        check.differences.push(format!("its id is {}, the file has {}", check.id, known.id));
    }
    let limits = [Register::MinPositionLimit, Register::MaxPositionLimit];
    let limits = chain.read_near(i, &limits)?;
    for (register, found, wanted) in [
        (Register::HomingOffset, chain.read_near(i, &[Register::HomingOffset])?[0], known.homing_offset),
        (Register::MinPositionLimit, limits[0], known.range_min),
        (Register::MaxPositionLimit, limits[1], known.range_max),
        (Register::DriveMode, chain.read_near(i, &[Register::DriveMode])?[0], known.drive_mode),
    ] {
        let Some(found) = found else { continue };
        // Beside the direction the register holds bits that a calibration says nothing of.
        let found = if register == Register::DriveMode { found & 1 } else { found };
        if found != wanted {
            check.differences.push(format!("{} is {found}, the file has {wanted}", register.name()));
        }
    }
    check.range = Some([known.range_min, known.range_max]);
    if let Some(position) = check.position {
        let description = &chain.robot.parts[part];
        let turn = f64::from(table.resolution) - 1.0;
        let middle = f64::from(known.range_min + known.range_max) / 2.0;
        check.position_deg = Some((f64::from(position) - middle) * 360.0 / turn);
        // A joint leans against its stop, and stops give way.
        let margin = i32::from(table.resolution) / 128;
        if position < known.range_min - margin || position > known.range_max + margin {
            check.differences.push(format!("it is at {position}, outside its range {}..{}", known.range_min, known.range_max));
        }
        if let Err(error) = Scale::of(description, table, known) {
            check.differences.push(error.to_string());
        }
    }
    Ok(())
}
