//! Which files hold a robot's calibration.

use std::path::{Path, PathBuf};

use sinew_core::{LeRobotNames, RobotDescription, Role};

use super::{Calibration, CalibrationError, CalibrationOf, Staged, calibration_path};

/// A file with the calibration of a robot, or of one of those that it was put together of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationFile {
    /// Where it is written: by LeRobot's class name.
    pub path: PathBuf,
    /// Where it may lie from former days, by LeRobot's names of the robot's types.
    pub old_paths: Vec<PathBuf>,
    /// The parts whose motors are in it, by their places in the description.
    pub parts: Vec<usize>,
    /// What stands before their names in the robot, and does not in the file.
    prefix: String,
}

impl CalibrationFile {
    /// The one that is there: at its place, or else at an old one.
    pub fn found(&self) -> Option<&Path> {
        std::iter::once(&self.path).chain(&self.old_paths).find(|path| path.is_file()).map(PathBuf::as_path)
    }

    /// What it holds, by the robot's names of its parts; `None` where there is no such file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&self) -> Result<Option<Calibration>, CalibrationError> {
        let Some(path) = self.found() else { return Ok(None) };
        let file = Calibration::read(path)?;
        Ok(Some(Calibration::new(file.motors.into_iter().map(|(name, motor)| (format!("{}{name}", self.prefix), motor)))))
    }

    /// Writes what `calibration` knows of its parts.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, robot: &RobotDescription, calibration: &Calibration) -> Result<(), CalibrationError> {
        self.stage(robot, calibration)?.commit()
    }

    /// The same beside the file, which stays as it is until [`commit`](Staged::commit).
    ///
    /// # Errors
    /// When it can't be written.
    pub fn stage(&self, robot: &RobotDescription, calibration: &Calibration) -> Result<Staged, CalibrationError> {
        let motors = self.parts.iter().filter_map(|part| {
            let name = &robot.parts.get(*part)?.name;
            Some((name.strip_prefix(&self.prefix).unwrap_or(name).to_owned(), *calibration.get(name)?))
        });
        Calibration::new(motors).stage(&self.path)
    }
}

/// The files of the robot that its owner calls `id`, in LeRobot's `folder` of all calibrations.
///
/// LeRobot has one for each bus. A robot that was included brings its own, in the folder of its class and called after
/// its prefix too (`so_follower/ID_left.json`), unless other motors are on its bus, as the wheels of LeKiwi are.
///
/// # Errors
/// When `id` is no plain name.
pub fn calibration_files(robot: &RobotDescription, id: &str, folder: &Path) -> Result<Vec<CalibrationFile>, CalibrationError> {
    let of = match robot.role {
        Role::Robot => CalibrationOf::Robot,
        Role::Teleoperator => CalibrationOf::Teleoperator,
    };
    let has_motor: Vec<usize> = (0..robot.parts.len()).filter(|part| robot.parts[*part].motor.is_some()).collect();
    // Of those that fit the longest prefix is meant, as robots include robots that include others.
    let owner = |part: usize| {
        let fits = |i: &usize| robot.parts[part].name.starts_with(&robot.included[*i].prefix);
        (0..robot.included.len()).filter(fits).max_by_key(|i| robot.included[*i].prefix.len())
    };
    let buses = |parts: &[usize]| -> Vec<&str> {
        parts.iter().filter_map(|part| robot.parts[*part].motor.as_ref().map(|motor| motor.bus.as_str())).collect()
    };
    let mut files = Vec::new();
    let mut own = Vec::new();
    let file = |names: &LeRobotNames, id: &str, prefix: &str, parts: Vec<usize>| -> Result<CalibrationFile, CalibrationError> {
        let path = |name: &String| calibration_path(folder, of, name, Some(id));
        let old_paths = names.types.iter().filter(|name| **name != names.class).map(path).collect::<Result<_, _>>()?;
        Ok(CalibrationFile { path: path(&names.class)?, old_paths, parts, prefix: prefix.to_owned() })
    };
    for (i, included) in robot.included.iter().enumerate() {
        let (parts, others): (Vec<usize>, Vec<usize>) = has_motor.iter().partition(|part| owner(**part) == Some(i));
        let shared = buses(&others);
        if parts.is_empty() || buses(&parts).iter().any(|bus| shared.contains(bus)) {
            own.extend(parts);
            continue;
        }
        let prefix = &included.prefix;
        let name = prefix.trim_end_matches('_');
        let id = if name.is_empty() { id.to_owned() } else { format!("{id}_{name}") };
        files.push(file(&included.lerobot, &id, prefix, parts)?);
    }
    own.extend(has_motor.into_iter().filter(|part| owner(*part).is_none()));
    if !own.is_empty() {
        own.sort_unstable();
        files.push(file(&robot.lerobot, id, "", own)?);
    }
    Ok(files)
}

impl Calibration {
    /// The calibration of the robot that its owner calls `id`, of all its files in LeRobot's `folder` of calibrations
    /// ([`calibration_folder`](super::calibration_folder)), by the robot's names of its parts.
    ///
    /// # Errors
    /// When a file is missing, can't be read, or is of another robot.
    pub fn for_robot(robot: &RobotDescription, id: &str, folder: &Path) -> Result<Self, CalibrationError> {
        let mut motors = Vec::new();
        for file in calibration_files(robot, id, folder)? {
            let missing = || CalibrationError::Missing { robot: robot.name.clone(), path: file.path.clone() };
            motors.extend(file.read()?.ok_or_else(missing)?.motors);
        }
        let calibration = Self { motors };
        calibration.check(robot)?;
        Ok(calibration)
    }
}
