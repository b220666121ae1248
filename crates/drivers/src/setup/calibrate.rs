//! Calibration: somebody moves the joints, and what that says becomes what LeRobot would have made of it.
//!
//! LeRobot (`calibrate` and `set_half_turn_homings` of 0.6.1) puts the pose that somebody holds at the middle of the
//! motor's turn and counts degrees from the middle of the range. Here the middle of the range itself goes to the middle of
//! the turn, so that no range can pass the encoder's end; degrees are the same. Where the whole turn is the range, the
//! pose that somebody holds is the middle in both.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{CalibrationKind, Clock, Part, PartKind, RobotDescription, Timestamp};

use super::sweep::LATEST;
use super::{Chain, ChainMotor, Refusal, SetupError, Sweep, SweepJoint, Swept};
use crate::wire::Protocol;
use crate::{Calibration, ControlTable, MotorCalibration, PortAddress, Register};

/// Of a joint whose range is not known.
const LEAST_DEG: f64 = 20.0;
/// Of the range that the description has.
const LEAST_SHARE: f64 = 0.5;
/// How long a question may take: nothing is in a hurry.
const PATIENCE: Duration = Duration::from_millis(800);
/// How often a pose is read that somebody holds.
const POSE_READINGS: usize = 5;
/// How long joints rest before somebody is asked to move them.
const REST: Duration = Duration::from_millis(200);
/// How long a joint that is held in its middle may take to be still.
const STILL_WITHIN: Duration = Duration::from_secs(2);
/// A motor that has been silent for so long while somebody is asked something is told of.
const SILENT: Duration = Duration::from_millis(700);
/// What a hand that holds still and the encoder's noise do, in ticks.
const STILL: i32 = 24;

/// A register that calibrating changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub part: String,
    pub register: Register,
    pub value: i32,
}

/// A robot that is being calibrated. Its joints may be moved by hand from [`relax`](Self::relax) on.
pub struct Calibrator {
    chain: Chain,
    /// Of the motors those whose range is found out by moving them.
    swept: Vec<usize>,
    /// What each motor's offset is now.
    offsets: Vec<i32>,
    sweep: Option<Sweep>,
    /// Since when the joints have rested, and where.
    rests: Option<(Timestamp, Vec<Option<i32>>)>,
    /// When each motor was heard last by who [listens](Self::listen), and when that was.
    heard: Vec<Timestamp>,
    listened: Timestamp,
}

/// What the description says a register is to hold, where it is not 0.
fn described(part: &Part, register: Register) -> i32 {
    part.motor.as_ref().and_then(|motor| motor.registers.get(register.name())).copied().unwrap_or(0)
}

/// The calibration of a motor that nobody moves; also of one whose whole turn is its range, but for the offset.
pub fn fixed_calibration(part: &Part, id: u16, table: &ControlTable) -> MotorCalibration {
    let (drive_mode, homing_offset) = (described(part, Register::DriveMode) & 1, described(part, Register::HomingOffset));
    MotorCalibration { id, drive_mode, homing_offset, range_min: 0, range_max: i32::from(table.resolution) - 1 }
}

/// The offset with which a place reads as the middle of the turn, and what it reads as then: `place` was read with the
/// offset `now`. Where the register can't hold that offset, it is as near as it can.
fn centred(motor: &ChainMotor, place: i32, now: i32) -> (i32, i32) {
    let (table, turn) = (motor.table, i32::from(motor.table.resolution));
    let half = (turn - 1) / 2;
    if table.protocol == Protocol::Dynamixel2 {
        return (half - (place - now), half);
    }
    if !table.has(Register::HomingOffset) {
        return (0, place);
    }
    let actual = (place + now).rem_euclid(turn);
    let offset = actual - half;
    if table.encode(Register::HomingOffset, motor.motor, offset).is_ok() { (offset, half) } else { (offset - 1, half + 1) }
}

/// The calibration of a motor that was moved through `range`, read with the offset `now`.
pub(super) fn ranged(motor: &ChainMotor, part: &Part, range: Swept, now: i32) -> Result<MotorCalibration, Refusal> {
    let last = i32::from(motor.table.resolution) - 1;
    let middle = range.lower + (range.upper - range.lower) / 2;
    let (homing_offset, at) = centred(motor, middle, now);
    let (range_min, range_max) = (at - (middle - range.lower), at + (range.upper - middle));
    let is_dynamixel = motor.table.protocol == Protocol::Dynamixel2;
    let is_lost = |place: i32| is_dynamixel && turned_away(part, motor.table, place, now).is_some();
    if range_min < 0 || range_max > last || is_lost(range.lower) || is_lost(range.upper) {
        return Err(Refusal::Seam { joint: motor.name.clone(), is_dynamixel });
    }
    Ok(MotorCalibration { homing_offset, range_min, range_max, ..fixed_calibration(part, motor.motor.0, motor.table) })
}

/// The calibration of a motor whose whole turn is its range, held with its middle at `pose`.
pub(super) fn turned(motor: &ChainMotor, part: &Part, pose: i32, now: i32) -> Result<MotorCalibration, Refusal> {
    if let Some(ticks) = turned_away(part, motor.table, pose, now) {
        return Err(Refusal::Turned { joint: motor.name.clone(), ticks });
    }
    Ok(MotorCalibration { homing_offset: centred(motor, pose, now).0, ..fixed_calibration(part, motor.motor.0, motor.table) })
}

/// Where the shaft of a Dynamixel is when it reads `place` with the offset `now`, if that is where it will not be when it
/// is switched on again: it forgets whole turns then.
fn turned_away(part: &Part, table: &ControlTable, place: i32, now: i32) -> Option<i32> {
    let is_reversed = described(part, Register::DriveMode) & 1 == 1;
    let ticks = if is_reversed { now - place } else { place - now };
    let is_away = table.protocol == Protocol::Dynamixel2 && !(-STILL..i32::from(table.resolution) + STILL).contains(&ticks);
    is_away.then_some(ticks)
}

/// The least that a joint has to be moved, in ticks of its motor.
pub(super) fn least(part: &Part, table: &ControlTable) -> i32 {
    // What slides has a gear in radians a metre.
    let gear = part.motor.as_ref().map_or(1.0, |motor| motor.gear);
    let known = part.range.or(part.limits.position).map_or(0.0, |[lower, upper]| (upper - lower) * gear);
    let least = (known.to_degrees() * LEAST_SHARE).clamp(LEAST_DEG, 300.0);
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "less than a turn")]
    let ticks = (least * f64::from(table.resolution) / 360.0).round() as i32;
    ticks
}

impl Calibrator {
    /// Opens the ports (by bus) and meets every motor. Writes nothing.
    ///
    /// # Errors
    /// When a port or a motor is not there, or is another one.
    pub fn open(
        robot: Arc<RobotDescription>,
        ports: &[(String, PortAddress)],
        latency: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let mut chain = Chain::open(robot, ports, latency, clock)?.patient(PATIENCE);
        chain.meet()?;
        let swept = (0..chain.motors.len()).filter(|i| chain.motors[*i].calibration == CalibrationKind::Range).collect();
        let listened = chain.now();
        Ok(Self { chain, swept, offsets: Vec::new(), sweep: None, rests: None, heard: Vec::new(), listened })
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The names of those that are to be moved through their range.
    pub fn ranged(&self) -> Vec<&str> {
        self.of_kind(CalibrationKind::Range)
    }

    /// The names of those that are to be held in their middle.
    pub fn turned(&self) -> Vec<&str> {
        self.of_kind(CalibrationKind::Turn)
    }

    fn of_kind(&self, kind: CalibrationKind) -> Vec<&str> {
        self.chain.motors.iter().filter(|motor| motor.calibration == kind).map(|motor| motor.name.as_str()).collect()
    }

    fn refused(&self, refusal: Refusal) -> SetupError {
        SetupError::Refused { robot: self.chain.robot.name.clone(), refusal }
    }

    /// Switches the torque off and has the motors count positions as LeRobot does. The arm may sink.
    ///
    /// # Errors
    /// When a motor doesn't answer or doesn't do it, or counts turns that it will have forgotten when it is switched on
    /// again.
    pub fn relax(&mut self) -> Result<(), SetupError> {
        self.chain.relax()?;
        self.offsets.clear();
        for i in 0..self.chain.motors.len() {
            let ChainMotor { table, part, calibration, .. } = self.chain.motors[i].clone();
            let is_dynamixel = table.protocol == Protocol::Dynamixel2;
            let is_wheel = self.chain.robot.parts[part].kind == PartKind::Wheel;
            if !is_wheel && table.has(Register::OperatingMode) {
                // Of Dynamixel's extended position.
                self.chain.set(i, Register::OperatingMode, if is_dynamixel { 4 } else { 0 })?;
            }
            if table.has(Register::DriveMode) {
                let found = self.chain.read(i, Register::DriveMode)?;
                let wanted = described(&self.chain.robot.parts[part], Register::DriveMode) & 1;
                self.chain.set(i, Register::DriveMode, found & !1 | wanted)?;
            }
            let offset = if table.has(Register::HomingOffset) { self.chain.read(i, Register::HomingOffset)? } else { 0 };
            self.offsets.push(offset);
            if is_dynamixel && calibration != CalibrationKind::Fixed {
                let place = self.chain.read(i, Register::PresentPosition)?;
                if let Some(ticks) = turned_away(&self.chain.robot.parts[part], table, place, offset) {
                    let joint = self.chain.motors[i].name.clone();
                    return Err(self.refused(Refusal::Turned { joint, ticks }));
                }
            }
        }
        let joint = |i: &usize| {
            let ChainMotor { name, part, table, .. } = &self.chain.motors[*i];
            let wraps = table.protocol == Protocol::Feetech0;
            SweepJoint { name: name.clone(), resolution: table.resolution, wraps, least: least(&self.chain.robot.parts[*part], table) }
        };
        self.sweep = Some(Sweep::new(self.swept.iter().map(joint).collect()));
        Ok(())
    }

    /// Whether the joints rest, as after they have sunk: who asks somebody to move them before that can't know where they
    /// have been. To be asked until they do.
    ///
    /// # Errors
    /// When a port is lost.
    pub fn rests(&mut self) -> Result<bool, SetupError> {
        self.rest(&self.swept.clone())
    }

    fn rest(&mut self, joints: &[usize]) -> Result<bool, SetupError> {
        let positions = self.chain.positions(LATEST)?;
        let now = self.chain.now();
        let (since, places) = self.rests.get_or_insert_with(|| (now, positions.clone()));
        let rests = |i: &usize| match (places[*i], positions[*i], i32::from(self.chain.motors[*i].table.resolution)) {
            (Some(place), Some(position), turn) => ((position - place + turn / 2).rem_euclid(turn) - turn / 2).abs() <= STILL,
            // It was not heard of yet.
            (None, Some(_), _) => false,
            (_, None, _) => true,
        };
        if !joints.iter().all(rests) {
            (*since, *places) = (now, positions);
        }
        Ok(now.nanos_since(*since) >= i64::try_from(REST.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Whether all motors answer, while somebody is asked something.
    ///
    /// # Errors
    /// When a port is lost, or a motor has been silent for 0.7 s.
    pub fn listen(&mut self) -> Result<(), SetupError> {
        let positions = self.chain.positions(LATEST)?;
        let now = self.chain.now();
        self.heard.resize(positions.len(), now);
        for (heard, position) in self.heard.iter_mut().zip(&positions) {
            if position.is_some() || now.nanos_since(self.listened) > i64::try_from(SILENT.as_nanos()).unwrap_or(i64::MAX) {
                // Nobody has listened meanwhile.
                *heard = now;
            }
        }
        self.listened = now;
        let is_silent = |heard: &Timestamp| *heard + SILENT < now;
        match self.heard.iter().position(is_silent) {
            Some(i) => Err(self.refused(Refusal::Silent { joint: self.chain.motors[i].name.clone() })),
            None => Ok(()),
        }
    }

    /// Reads where the joints are; while somebody moves them, as often as the bus can.
    ///
    /// # Errors
    /// When a port is lost, or what was seen can't become a calibration any more: a motor has been silent, or answers were lost.
    pub fn sample(&mut self) -> Result<(), SetupError> {
        let positions = self.chain.positions(LATEST)?;
        let of_swept: Vec<Option<i32>> = self.swept.iter().map(|i| positions[*i]).collect();
        let now = self.chain.now();
        let Some(sweep) = &mut self.sweep else { return Ok(()) };
        sweep.take(now, &of_swept);
        let spoilt = sweep.spoilt(now);
        spoilt.map_or(Ok(()), |refusal| Err(self.refused(refusal)))
    }

    /// What the joints of [`ranged`](Self::ranged) did so far.
    pub fn sweep(&self) -> Option<&Sweep> {
        self.sweep.as_ref()
    }

    /// When somebody says that all joints were moved: their ranges.
    ///
    /// # Errors
    /// When they can't be right.
    pub fn ranges(&self) -> Result<Vec<Swept>, SetupError> {
        let Some(sweep) = &self.sweep else { return Ok(Vec::new()) };
        sweep.finish(self.chain.now()).map_err(|refusal| self.refused(refusal))
    }

    /// When somebody holds those of [`turned`](Self::turned) in their middle: the calibration, of which nothing is
    /// written yet.
    ///
    /// # Errors
    /// When they don't answer, are not held still or are turns away, or a range can't be had with this motor.
    pub fn calibration(&mut self, ranges: &[Swept]) -> Result<Calibration, SetupError> {
        let poses = self.poses()?;
        let mut motors = Vec::new();
        for (i, motor) in self.chain.motors.iter().enumerate() {
            let part = &self.chain.robot.parts[motor.part];
            let now = self.offsets.get(i).copied().unwrap_or(0);
            let swept = self.swept.iter().position(|other| *other == i).and_then(|at| ranges.get(at));
            let known = match (motor.calibration, swept, poses[i]) {
                (CalibrationKind::Range, Some(range), _) => ranged(motor, part, *range, now).map_err(|refusal| self.refused(refusal))?,
                (CalibrationKind::Turn, _, Some(pose)) => turned(motor, part, pose, now).map_err(|refusal| self.refused(refusal))?,
                (CalibrationKind::Fixed, _, _) => fixed_calibration(part, motor.motor.0, motor.table),
                _ => return Err(self.refused(Refusal::Silent { joint: motor.name.clone() })),
            };
            motors.push((motor.name.clone(), known));
        }
        // The file's order is the description's.
        let order = |name: &str| self.chain.robot.part_index(name);
        motors.sort_by_key(|(name, _)| order(name));
        Ok(Calibration::new(motors))
    }

    /// Where those are that are held in their middle: the median of some readings.
    fn poses(&mut self) -> Result<Vec<Option<i32>>, SetupError> {
        let held: Vec<usize> =
            (0..self.chain.motors.len()).filter(|i| self.chain.motors[*i].calibration == CalibrationKind::Turn).collect();
        let began = self.chain.now();
        self.rests = None;
        while !held.is_empty() && !self.rest(&held)? {
            if self.chain.now() > began + STILL_WITHIN {
                return Err(self.refused(Refusal::Moves { joint: self.turned().join(", ") }));
            }
        }
        let mut readings: Vec<Vec<i32>> = vec![Vec::new(); self.chain.motors.len()];
        for _ in 0..POSE_READINGS * 2 {
            let is_wanted = |i: usize| self.chain.motors[i].calibration == CalibrationKind::Turn;
            if (0..readings.len()).all(|i| !is_wanted(i) || readings[i].len() >= POSE_READINGS) {
                break;
            }
            for (known, position) in readings.iter_mut().zip(self.chain.positions(LATEST)?) {
                known.extend(position);
            }
        }
        let mut poses = Vec::new();
        for (i, mut readings) in readings.into_iter().enumerate() {
            if self.chain.motors[i].calibration != CalibrationKind::Turn || readings.len() < POSE_READINGS {
                poses.push(None);
                continue;
            }
            // Around the first, as the encoder's zero may be there.
            let (first, turn) = (readings[0], i32::from(self.chain.motors[i].table.resolution));
            for reading in &mut readings {
                *reading = first + (*reading - first + turn / 2).rem_euclid(turn) - turn / 2;
            }
            readings.sort_unstable();
            poses.push(Some(readings[readings.len() / 2]));
        }
        Ok(poses)
    }

    /// What the motors hold of a calibration, of those that are in `like`; what their models have no register for is as there.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn held(&mut self, like: &Calibration) -> Result<Calibration, SetupError> {
        self.chain.reopen()?;
        let mut motors = Vec::new();
        for i in 0..self.chain.motors.len() {
            let Some(mut known) = like.get(&self.chain.motors[i].name).copied() else { continue };
            let table = self.chain.motors[i].table;
            for (register, held) in [
                (Register::HomingOffset, &mut known.homing_offset),
                (Register::MinPositionLimit, &mut known.range_min),
                (Register::MaxPositionLimit, &mut known.range_max),
                (Register::DriveMode, &mut known.drive_mode),
            ] {
                if table.has(register) {
                    *held = self.chain.read(i, register)?;
                }
            }
            if table.has(Register::DriveMode) {
                known.drive_mode &= 1;
            }
            motors.push((self.chain.motors[i].name.clone(), known));
        }
        Ok(Calibration::new(motors))
    }

    /// Switches the torque of all motors off and changes nothing else. The arm may sink.
    ///
    /// # Errors
    /// When one isn't known to be without torque.
    pub fn go_limp(&mut self) -> Result<(), SetupError> {
        self.chain.relax()
    }

    /// # Errors
    /// When a motor has torque, or does not answer.
    pub fn expect_no_torque(&mut self) -> Result<(), SetupError> {
        for i in 0..self.chain.motors.len() {
            if self.chain.read(i, Register::TorqueEnable)? != 0 {
                return Err(SetupError::IsHeld { robot: self.chain.robot.name.clone(), part: self.chain.motors[i].name.clone() });
            }
        }
        Ok(())
    }

    /// Writes a calibration into the motors, which have no torque, and reads it back: what was otherwise before. To be tried
    /// again where it failed, also when a port was lost meanwhile.
    ///
    /// # Errors
    /// When a motor doesn't answer or doesn't keep it; those before it have it then.
    pub fn write(&mut self, calibration: &Calibration) -> Result<Vec<Written>, SetupError> {
        self.chain.reopen()?;
        let mut written = Vec::new();
        for i in 0..self.chain.motors.len() {
            let ChainMotor { name: part, table, .. } = self.chain.motors[i].clone();
            let Some(known) = calibration.get(&part) else { continue };
            let mut values = vec![
                (Register::HomingOffset, known.homing_offset),
                (Register::MinPositionLimit, known.range_min),
                (Register::MaxPositionLimit, known.range_max),
            ];
            if table.has(Register::DriveMode) {
                values.push((Register::DriveMode, self.chain.read(i, Register::DriveMode)? & !1 | known.drive_mode & 1));
            }
            for (register, value) in values {
                if table.has(register) && self.chain.set(i, register, value)? {
                    written.push(Written { part: part.clone(), register, value });
                }
            }
        }
        Ok(written)
    }
}
