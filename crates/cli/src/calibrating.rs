//! The steps of a calibration. Whoever leads somebody through them, at a terminal or over the daemon's interface, is a [`Guide`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use sinew_core::Clock;
use sinew_drivers::setup::{Aim, Calibrator, Refusal, SetupError, Swept, Unfinished};
use sinew_drivers::{Calibration, CalibrationFile, Staged};

use crate::arm::Arm;
use crate::text::{self, note};

/// Between two readings while somebody moves the joints.
const PAUSE: Duration = Duration::from_millis(3);
/// How long joints move that are to rest before somebody is told, and until nobody waits any longer.
const RESTLESS: Duration = Duration::from_secs(2);
const NEVER_RESTS: Duration = Duration::from_secs(60);

/// What somebody is asked.
pub enum Question {
    /// There is a calibration at these paths. [`Reply::Next`] writes it into the motors, [`Reply::Again`] makes a new one.
    Found { paths: String },
    /// There is a part of one.
    Incomplete { paths: String, missing: String },
    /// There is one that can't be used.
    Unusable { paths: String, why: String },
    /// Whether somebody holds the arm, whose torque will be switched off.
    Release,
    /// Whether these joints are held in their middle.
    Middle { joints: String },
    /// Whether what could not be kept is to be tried again. Some motors may hold it already, or nothing was written yet.
    Rewrite { is_touched: bool },
}

/// What is answered; whoever has had enough returns an error instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Next,
    Again,
}

/// What is done while nobody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Motors are met, for seconds where one does not answer.
    Meet,
    /// Joints are to rest; told again and again, with whether it takes long.
    Rest { is_long: bool },
    /// Motors are written.
    Write,
}

/// Leads somebody through the steps. Each error ends the calibration, which is then as it was.
pub trait Guide {
    /// Asks, and waits for the answer; meanwhile it sees from time to time whether all `is_well`.
    fn ask(&mut self, question: &Question, is_well: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Reply>;

    fn does(&mut self, doing: Doing) -> anyhow::Result<()>;

    /// The torque is off.
    fn relaxed(&mut self) {}

    /// Asks for all joints to be moved, but for those that come later, where there are any.
    fn begin_sweep(&mut self, calibrator: &Calibrator, later: &[&str]) -> anyhow::Result<()>;

    /// Shows what was seen; whether somebody says that all joints were moved. Asked between two readings.
    fn is_swept(&mut self, calibrator: &Calibrator) -> anyhow::Result<bool>;

    /// Why the question that comes next is one that was answered already.
    fn complain(&mut self, why: &str);

    /// It has failed, and nothing was written. Begins anew where that returns.
    fn failed(&mut self, error: anyhow::Error) -> anyhow::Result<()>;
}

/// How a calibration came out.
#[derive(Serialize)]
pub struct Report {
    pub robot: String,
    pub files: Vec<PathBuf>,
    /// Whether the file was there before and was used.
    pub used_file: bool,
    /// Registers that held something else before.
    pub written: usize,
    pub joints: Vec<Joint>,
}

#[derive(Serialize)]
pub struct Joint {
    pub name: String,
    pub id: u16,
    pub drive_mode: i32,
    pub homing_offset: i32,
    pub range_min: i32,
    pub range_max: i32,
    /// The range.
    #[serde(skip)]
    pub degrees: f64,
}

/// Calibrates an arm whose calibration is in these files.
pub fn calibrate(arm: &Arm, files: &[CalibrationFile], clock: &Arc<dyn Clock>, guide: &mut dyn Guide) -> anyhow::Result<Report> {
    let mut chosen = None;
    loop {
        match attempt(arm, files, clock, guide, &mut chosen) {
            Ok(report) => return Ok(report),
            Err(error) => guide.failed(error)?,
        }
    }
}

/// `chosen` is the calibration that is to be used, or that none is, once somebody has said so.
fn attempt(
    arm: &Arm,
    files: &[CalibrationFile],
    clock: &Arc<dyn Clock>,
    guide: &mut dyn Guide,
    chosen: &mut Option<Option<Calibration>>,
) -> anyhow::Result<Report> {
    guide.does(Doing::Meet)?;
    let mut calibrator = Calibrator::open(Arc::clone(&arm.robot), &arm.ports, arm.latency, Arc::clone(clock))?;
    note!("{} with its {} motors on {}", arm.robot.title, calibrator.chain().motors.len(), ports(arm));
    let existing = match chosen {
        Some(known) => known.clone(),
        None => chosen.insert(existing(arm, files, guide)?).clone(),
    };
    let used_file = existing.is_some();
    let calibration = match existing {
        Some(calibration) => {
            calibrator.relax()?;
            guide.relaxed();
            calibration
        }
        None => {
            // Nobody moves all joints for a file that can't be written.
            stage(arm, files, &Calibration::default())?;
            measure(&mut calibrator, guide)?
        }
    };
    let mut is_touched = false;
    let written = loop {
        guide.does(Doing::Write)?;
        let aim = if used_file { Aim::Write } else { Aim::Keep };
        match keep(&mut calibrator, (arm, files), (&calibration, aim), &mut is_touched) {
            Ok(written) => break written,
            // What somebody measured is not lost to a loose plug or a full disk.
            Err(error) => {
                guide.complain(&text::chain(&error));
                if let Err(ended) = guide.ask(&Question::Rewrite { is_touched }, &mut well) {
                    if is_touched {
                        Unfinished::undo(files).context("noting that the motors are to hold again what they held before")?;
                    }
                    return Err(ended);
                }
            }
        }
    };
    let path = |file: &CalibrationFile| if used_file { file.found().map(Into::into) } else { None }.unwrap_or_else(|| file.path.clone());
    let joint = |(name, known): (&str, &sinew_drivers::MotorCalibration)| {
        let motor = calibrator.chain().motors.iter().find(|motor| motor.name == name);
        let ticks = f64::from(known.range_max - known.range_min);
        Joint {
            name: name.to_owned(),
            id: known.id,
            drive_mode: known.drive_mode,
            homing_offset: known.homing_offset,
            range_min: known.range_min,
            range_max: known.range_max,
            degrees: motor.map_or(0.0, |motor| ticks * 360.0 / f64::from(motor.table.resolution)),
        }
    };
    let joints = calibration.motors().map(joint).collect();
    Ok(Report { robot: arm.robot.name.clone(), files: files.iter().map(path).collect(), used_file, written, joints })
}

fn ports(arm: &Arm) -> String {
    arm.ports.iter().map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(", ")
}

/// On the disk, beside the files.
fn stage(arm: &Arm, files: &[CalibrationFile], calibration: &Calibration) -> anyhow::Result<Vec<Staged>> {
    let staged = files.iter().map(|file| file.stage(&arm.robot, calibration)).collect::<Result<_, _>>();
    staged.context("making room for the calibration, which is as it was")
}

/// The motors first, the files last; how many registers held something else before. Before the first motor `is_touched` a file says what
/// they are to hold, so that whoever connects the arm next finishes what is cut off.
fn keep(
    calibrator: &mut Calibrator,
    (arm, files): (&Arm, &[CalibrationFile]),
    (calibration, aim): (&Calibration, Aim),
    is_touched: &mut bool,
) -> anyhow::Result<usize> {
    let staged = stage(arm, if aim == Aim::Keep { files } else { &[] }, calibration)?;
    let found = calibrator.held(calibration).context("reading what the motors hold")?;
    Unfinished::begin(files, found, calibration, aim).context("noting what the motors are to hold, before they are written")?;
    *is_touched = true;
    let written = calibrator.write(calibration).context("writing the calibration into the motors")?;
    for file in staged {
        file.commit().context("the motors hold the new calibration, and the file is as it was")?;
    }
    Unfinished::end(files).context("motors and file hold the calibration; removing the note that they are being written")?;
    Ok(written.len())
}

/// Nothing is watched.
fn well() -> anyhow::Result<()> {
    Ok(())
}

/// The calibration that is there, when it is to be used.
fn existing(arm: &Arm, files: &[CalibrationFile], guide: &mut dyn Guide) -> anyhow::Result<Option<Calibration>> {
    let paths: Vec<String> = files.iter().filter_map(|file| file.found()).map(|path| path.display().to_string()).collect();
    let there = paths.join(", ");
    if let Some(missing) = files.iter().find(|file| file.found().is_none()) {
        if !paths.is_empty() {
            guide.ask(&Question::Incomplete { paths: there, missing: missing.path.display().to_string() }, &mut well)?;
        }
        return Ok(None);
    }
    let read = || -> anyhow::Result<Calibration> {
        let mut motors = Vec::new();
        for file in files {
            motors.extend(file.read()?.iter().flat_map(Calibration::motors).map(|(name, motor)| (name.to_owned(), *motor)));
        }
        let calibration = Calibration::new(motors);
        calibration.check(&arm.robot)?;
        Ok(calibration)
    };
    let known = match read() {
        Ok(known) => known,
        Err(error) => {
            guide.ask(&Question::Unusable { paths: there, why: text::chain(&error) }, &mut well)?;
            return Ok(None);
        }
    };
    Ok(match guide.ask(&Question::Found { paths: there }, &mut well)? {
        Reply::Next => Some(known),
        Reply::Again => None,
    })
}

/// What somebody's moving the joints says.
fn measure(calibrator: &mut Calibrator, guide: &mut dyn Guide) -> anyhow::Result<Calibration> {
    guide.ask(&Question::Release, &mut || Ok(calibrator.listen()?))?;
    calibrator.relax().context("switching the torque off; the calibration is as it was")?;
    guide.relaxed();
    let ranges = if calibrator.ranged().is_empty() { Vec::new() } else { sweep(calibrator, guide)? };
    let turned = calibrator.turned().join(", ");
    loop {
        if !turned.is_empty() {
            guide.ask(&Question::Middle { joints: turned.clone() }, &mut || Ok(calibrator.listen()?))?;
        }
        match calibrator.calibration(&ranges) {
            // Somebody can turn it back, or hold it.
            Err(SetupError::Refused { refusal: refusal @ (Refusal::Turned { .. } | Refusal::Moves { .. }), .. }) => {
                guide.complain(&refusal.to_string());
            }
            other => return Ok(other?),
        }
    }
}

fn sweep(calibrator: &mut Calibrator, guide: &mut dyn Guide) -> anyhow::Result<Vec<Swept>> {
    // What moves before it is asked to may have been at its end when nobody looked.
    let began = calibrator.chain().now();
    guide.does(Doing::Rest { is_long: false })?;
    while !calibrator.rests()? {
        let now = calibrator.chain().now();
        if now > began + NEVER_RESTS {
            bail!("waiting for all joints to rest, which they did not for {} s; no calibration was written", NEVER_RESTS.as_secs());
        }
        guide.does(Doing::Rest { is_long: now > began + RESTLESS })?;
        std::thread::sleep(PAUSE);
    }
    guide.begin_sweep(calibrator, &calibrator.turned())?;
    while !guide.is_swept(calibrator)? {
        // A motor that does not answer is told of now: nobody goes on with what comes to nothing.
        told(calibrator.sample())?;
        std::thread::sleep(PAUSE);
    }
    told(calibrator.ranges())
}

/// What came of moving the joints; for somebody who was told how to do it, why nothing did.
fn told<T>(seen: Result<T, SetupError>) -> anyhow::Result<T> {
    match seen {
        Err(SetupError::Refused { robot, refusal }) => {
            let how = match refusal {
                Refusal::TooLittle { .. } | Refusal::NotHeld { .. } => {
                    "\n  all of a joint's range counts, so that goals beyond it are never sent"
                }
                _ => "",
            };
            bail!("calibrating {robot}: {refusal}; nothing was written{how}")
        }
        other => Ok(other?),
    }
}
