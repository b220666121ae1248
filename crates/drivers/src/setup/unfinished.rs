//! A calibration that is being written, as a small file says: whoever writes it may be killed meanwhile, and motors and file then differ.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_core::RobotDescription;

use super::{Calibrator, SetupError};
use crate::{Calibration, CalibrationError, CalibrationFile, MotorCalibration};

/// Motors are being written. It lies beside the calibration's file, from before the first motor is written until motors and file agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    path: PathBuf,
    /// What the motors held before.
    found: Calibration,
    wanted: Calibration,
    aim: Aim,
}

/// What an [`Unfinished`] one comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Motors and file hold what was measured.
    Keep,
    /// The motors hold what the file says.
    Write,
    /// The motors hold what they held before, and the file stays as it is: somebody ended it.
    Undo,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    aim: Aim,
    found: Value,
    wanted: Value,
}

impl Unfinished {
    /// What stands behind the name of the calibration's file.
    pub const ENDING: &str = ".unfinished";

    /// Where that of these files lies.
    pub fn path(files: &[CalibrationFile]) -> Option<PathBuf> {
        let mut path = files.first()?.path.as_os_str().to_owned();
        path.push(Self::ENDING);
        Some(path.into())
    }

    /// Says on the disk that motors that hold `found` are to hold `wanted`. Where it was said before, they hold some of both, and what
    /// they held at first counts.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(files: &[CalibrationFile], found: Calibration, wanted: &Calibration, aim: Aim) -> Result<(), CalibrationError> {
        let Some(path) = Self::path(files) else { return Ok(()) };
        // One that can't be read is of no use to anybody.
        let found = Self::read(files).ok().flatten().map_or(found, |before| before.found);
        Self { path, found, wanted: wanted.clone(), aim }.write()
    }

    /// Nobody wants any more what was measured.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn undo(files: &[CalibrationFile]) -> Result<(), CalibrationError> {
        match Self::read(files)? {
            Some(own) if own.aim == Aim::Keep => Self { aim: Aim::Undo, ..own }.write(),
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), CalibrationError> {
        let failed = |source: serde_json::Error| CalibrationError::Write { path: self.path.clone(), source: source.into() };
        let value = |known: &Calibration| serde_json::from_str(&known.to_json()).map_err(failed);
        let kept = Kept { aim: self.aim, found: value(&self.found)?, wanted: value(&self.wanted)? };
        Calibration::stage_text(&self.path, &serde_json::to_string(&kept).map_err(failed)?)?.commit()
    }

    /// The one that was left beside these files.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(files: &[CalibrationFile]) -> Result<Option<Self>, CalibrationError> {
        let Some(path) = Self::path(files) else { return Ok(None) };
        let text = match Calibration::read_text(&path) {
            Ok(text) => text,
            Err(CalibrationError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Kept { aim, found, wanted } =
            serde_json::from_str(&text).map_err(|source| CalibrationError::Syntax { path: path.clone(), source })?;
        let [found, wanted] = [found, wanted].map(|known| Calibration::parse(&known.to_string(), &path));
        Ok(Some(Self { found: found?, wanted: wanted?, aim, path }))
    }

    /// Motors and file agree.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub fn end(files: &[CalibrationFile]) -> Result<(), CalibrationError> {
        let Some(path) = Self::path(files) else { return Ok(()) };
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CalibrationError::Write { path, source }),
            _ => Ok(()),
        }
    }

    /// Comes to its aim, where that is safe: the motors have no torque, and each of their registers holds what it held before or what was
    /// wanted. Otherwise nothing is written: this is another arm, or it was set up since.
    ///
    /// # Errors
    /// When it is not safe, a motor does not answer or does not keep it, or the file can't be written.
    pub fn finish(self, calibrator: &mut Calibrator, robot: &RobotDescription, files: &[CalibrationFile]) -> Result<Aim, SetupError> {
        let Self { found, wanted, aim, .. } = self;
        let kept = |source| SetupError::Calibration { robot: robot.name.clone(), source };
        if aim != Aim::Undo {
            wanted.check(robot).map_err(kept)?;
        }
        calibrator.expect_no_torque()?;
        for (part, held) in calibrator.held(&wanted)?.motors() {
            let numbers = |known: &MotorCalibration| [known.homing_offset, known.range_min, known.range_max, known.drive_mode];
            let either: Vec<_> = [found.get(part), wanted.get(part)].into_iter().flatten().map(numbers).collect();
            if (0..4).any(|i| either.iter().all(|known| known[i] != numbers(held)[i])) {
                return Err(SetupError::Otherwise { robot: robot.name.clone(), part: part.to_owned() });
            }
        }
        let new = if aim == Aim::Keep { files } else { &[] };
        let staged: Vec<_> = new.iter().map(|file| file.stage(robot, &wanted)).collect::<Result<_, _>>().map_err(kept)?;
        calibrator.write(if aim == Aim::Undo { &found } else { &wanted })?;
        staged.into_iter().try_for_each(|file| file.commit()).map_err(kept)?;
        Self::end(files).map_err(kept)?;
        Ok(aim)
    }
}
