//! Which tick of a motor is which place of its part: LeRobot's calibration files, in LeRobot's places.
//!
//! A file is what LeRobot 0.6.1 writes with `draccus` (`lerobot/robots/robot.py`, `lerobot/motors/motors_bus.py`), byte
//! for byte; `golden.json` holds some that it wrote (`scripts/make_calibration_golden.py`).

mod files;
mod scale;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use sinew_core::{NameError, RobotDescription, check_name};
use thiserror::Error;

use crate::{ControlTable, MotorId, Register};

pub use files::{CalibrationFile, calibration_files};
pub use scale::Scale;

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// A calibration that can't be used.
#[derive(Debug, Error)]
pub enum CalibrationError {
    #[error("reading the calibration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading the calibration {}: expected motors with id, drive_mode, homing_offset, range_min and range_max", path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("looking for the calibration of {robot}: there is no {}; `sinew calibrate` makes it", path.display())]
    Missing { robot: String, path: PathBuf },
    #[error("writing the calibration {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("looking for a calibration: {source}")]
    Name { source: NameError },
    /// It does not fit itself or the robot.
    #[error("checking the calibration of {motor}: {what}")]
    Invalid { motor: String, what: String },
}

/// What LeRobot knows of a motor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct MotorCalibration {
    pub id: u16,
    /// 1 where 0..100 and −100..100 count downwards (Feetech), or the motor itself does (Dynamixel).
    pub drive_mode: i32,
    /// What the register of that name holds, in ticks.
    pub homing_offset: i32,
    /// Least and greatest position that the joint was brought to, in ticks, after the offset.
    pub range_min: i32,
    pub range_max: i32,
}

/// The calibration of one robot, as one file holds it: motors by name, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    motors: Vec<(String, MotorCalibration)>,
}

/// Whose calibration it is: LeRobot keeps them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationOf {
    Robot,
    Teleoperator,
}

impl Calibration {
    /// Of motors by name.
    pub fn new(motors: impl IntoIterator<Item = (String, MotorCalibration)>) -> Self {
        Self { motors: motors.into_iter().collect() }
    }

    /// What a file holds. Keys that are not known are passed over.
    ///
    /// # Errors
    /// When it is no such file; `path` is for the message.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CalibrationError> {
        let failed = |source| CalibrationError::Syntax { path: path.to_owned(), source };
        let map: Map<String, Value> = serde_json::from_str(text).map_err(failed)?;
        let motors = map.into_iter().map(|(name, value)| Ok((name, serde_json::from_value(value)?)));
        Ok(Self { motors: motors.collect::<Result<_, _>>().map_err(failed)? })
    }

    /// Reads a file of at most a mebibyte.
    ///
    /// # Errors
    /// When it can't be read or is no calibration.
    pub fn read(path: &Path) -> Result<Self, CalibrationError> {
        Self::parse(&Self::read_text(path)?, path)
    }

    pub(crate) fn read_text(path: &Path) -> Result<String, CalibrationError> {
        let failed = |source| CalibrationError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MOST_BYTES {
            let what = format!("expected at most {MOST_BYTES} bytes");
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, what)));
        }
        Ok(text)
    }

    /// As LeRobot writes it: four spaces, what is not ASCII escaped, no line end after the last line.
    pub fn to_json(&self) -> String {
        if self.motors.is_empty() {
            return "{}".to_owned();
        }
        let mut text = String::from("{");
        for (i, (name, motor)) in self.motors.iter().enumerate() {
            let MotorCalibration { id, drive_mode, homing_offset, range_min, range_max } = motor;
            text.push_str(if i == 0 { "\n    " } else { ",\n    " });
            escape(name, &mut text);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                ": {{\n        \"id\": {id},\n        \"drive_mode\": {drive_mode},\n        \"homing_offset\": {homing_offset},\n        \
                 \"range_min\": {range_min},\n        \"range_max\": {range_max}\n    }}"
            );
        }
        text.push_str("\n}");
        text
    }

    /// Writes a file, with the folders above it. What was there stays whole until all of the new one is on the disk.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), CalibrationError> {
        self.stage(path)?.commit()
    }

    /// Writes it beside a file, with the folders above it, so that [`commit`](Staged::commit) has little left that can
    /// fail. Where `path` is a link, what it leads to is meant.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn stage(&self, path: &Path) -> Result<Staged, CalibrationError> {
        Self::stage_text(path, &self.to_json())
    }

    pub(crate) fn stage_text(path: &Path, text: &str) -> Result<Staged, CalibrationError> {
        let failed = |source| CalibrationError::Write { path: path.to_owned(), source };
        // Of a link that leads nowhere there is nothing to keep.
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if place.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        std::fs::create_dir_all(folder_of(&place)).map_err(failed)?;
        let mut beside = place.as_os_str().to_owned();
        beside.push(".new");
        let staged = Staged { place, beside: beside.into() };
        let write = || {
            let mut file = std::fs::File::create(&staged.beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(failed)?;
        Ok(staged)
    }

    pub fn get(&self, motor: &str) -> Option<&MotorCalibration> {
        self.motors.iter().find(|(name, _)| name == motor).map(|(_, calibration)| calibration)
    }

    /// Motors by name, in the file's order.
    pub fn motors(&self) -> impl Iterator<Item = (&str, &MotorCalibration)> {
        self.motors.iter().map(|(name, motor)| (name.as_str(), motor))
    }

    /// Whether it is one of this robot: each part with a motor is in it, with the motor's id, a range within the motor's
    /// turn, and an offset that its register can hold.
    ///
    /// # Errors
    /// When it is not; the first reason.
    pub fn check(&self, robot: &RobotDescription) -> Result<(), CalibrationError> {
        for part in &robot.parts {
            let Some(motor) = &part.motor else { continue };
            let invalid = |what| Err(CalibrationError::Invalid { motor: part.name.clone(), what });
            let Some(known) = self.get(&part.name) else {
                let names: Vec<&str> = self.motors.iter().map(|(name, _)| name.as_str()).collect();
                return invalid(format!("expected it among the file's motors, found {}", names.join(", ")));
            };
            if known.id != motor.id {
                return invalid(format!("expected id {}, found {}", motor.id, known.id));
            }
            if known.range_min >= known.range_max {
                return invalid(format!("expected range_min below range_max, found {} and {}", known.range_min, known.range_max));
            }
            if known.drive_mode != 0 && known.drive_mode != 1 {
                return invalid(format!("expected drive_mode 0 or 1, found {}", known.drive_mode));
            }
            let Some(table) = ControlTable::of_model(&motor.model) else { continue };
            let last = i32::from(table.resolution) - 1;
            if known.range_min < 0 || known.range_max > last {
                return invalid(format!(
                    "expected a range within the turn of a {}, 0..{last}, found {}..{}",
                    table.model, known.range_min, known.range_max
                ));
            }
            let offset = known.homing_offset;
            if table.has(Register::HomingOffset) && table.encode(Register::HomingOffset, MotorId(motor.id), offset).is_err() {
                return invalid(format!("expected a homing_offset that a {} can hold, found {offset}", table.model));
            }
        }
        Ok(())
    }
}

/// A calibration on the disk beside its file, which is as it was; it goes where it is not wanted.
#[derive(Debug)]
pub struct Staged {
    place: PathBuf,
    beside: PathBuf,
}

impl Staged {
    /// Puts it in the file's place.
    ///
    /// # Errors
    /// When it can't be; the file is as it was then.
    pub fn commit(self) -> Result<(), CalibrationError> {
        let commit = || {
            std::fs::rename(&self.beside, &self.place)?;
            // So that the new name outlives a power cut; not every system lets a folder be opened.
            std::fs::File::open(folder_of(&self.place)).map_or(Ok(()), |folder| folder.sync_all())
        };
        commit().map_err(|source| CalibrationError::Write { path: self.place.clone(), source })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What is in the way of the next try is no loss; after a commit it is gone.
        let _ = std::fs::remove_file(&self.beside);
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// LeRobot's folder of all calibrations, from its variables as `variable` knows them: `HF_LEROBOT_CALIBRATION`, else
/// `HF_LEROBOT_HOME/calibration`, else `HF_HOME/lerobot/calibration`, where `HF_HOME` is by itself
/// `XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface`. `None` without a home.
pub fn calibration_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from);
    let path = |name: &str| -> Option<PathBuf> {
        let path = PathBuf::from(variable(name)?);
        match path.strip_prefix("~") {
            Ok(rest) => Some(home()?.join(rest)),
            Err(_) => Some(path),
        }
    };
    let cache = || Some(path("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")))?.join("huggingface"));
    let lerobot = || path("HF_LEROBOT_HOME").or_else(|| Some(path("HF_HOME").or_else(cache)?.join("lerobot")));
    path("HF_LEROBOT_CALIBRATION").or_else(|| Some(lerobot()?.join("calibration")))
}

/// A robot's file in [`calibration_folder`]: by LeRobot's class name (`so_follower`) and the name that its owner gave it,
/// without one `None`.
///
/// # Errors
/// When a name is no plain file name.
pub fn calibration_path(folder: &Path, of: CalibrationOf, class: &str, id: Option<&str>) -> Result<PathBuf, CalibrationError> {
    let id = id.unwrap_or("None");
    for name in [class, id] {
        check_name(name).map_err(|source| CalibrationError::Name { source })?;
    }
    let kind = match of {
        CalibrationOf::Robot => "robots",
        CalibrationOf::Teleoperator => "teleoperators",
    };
    Ok(folder.join(kind).join(class).join(format!("{id}.json")))
}

/// A string as Python's `json` writes it.
fn escape(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='\u{7f}' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
