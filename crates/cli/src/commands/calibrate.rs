//! `sinew calibrate`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use sinew_core::Clock;
use sinew_drivers::setup::{CalibrationCheck, Calibrator, Chain, Refusal, SetupError, Swept};
use sinew_drivers::{Calibration, CalibrationFile, Staged, calibration_files};
use sinew_runtime::MonotonicClock;

use crate::args::CalibrateArgs;
use crate::arm::{Answers, Arm, calibrations};
use crate::live::LiveText;
use crate::text::{note, say};
use crate::{Done, text};

/// Between two readings while somebody moves the joints.
const PAUSE: Duration = Duration::from_millis(3);
/// How long joints move that are to rest before somebody is told, and until nobody waits any longer.
const RESTLESS: Duration = Duration::from_secs(2);
const NEVER_RESTS: Duration = Duration::from_secs(60);

const SWEEP: &str =
    "Move every joint that has ends through all of its range, one after the other, and rest at each end for a moment; then ENTER";

#[derive(Serialize)]
struct CheckReport<'a> {
    robot: &'a str,
    files: Vec<PathBuf>,
    ok: bool,
    differences: &'a [String],
    #[serde(flatten)]
    check: &'a CalibrationCheck,
}

#[derive(Serialize)]
struct Joint<'a> {
    name: &'a str,
    id: u16,
    drive_mode: i32,
    homing_offset: i32,
    range_min: i32,
    range_max: i32,
}

#[derive(Serialize)]
struct Report<'a> {
    robot: &'a str,
    files: Vec<PathBuf>,
    /// Whether the file was there before and was used.
    used_file: bool,
    /// Registers that held something else before.
    written: usize,
    joints: Vec<Joint<'a>>,
}

pub fn run(args: &CalibrateArgs) -> anyhow::Result<Done> {
    let arm = Arm::of(&args.arm)?;
    let id = args.id.as_ref().or(args.teleop_id.as_ref()).context("expected --id")?;
    let folder = calibrations()?;
    let files = calibration_files(&arm.robot, id, &folder)?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    if args.check {
        let known = Calibration::for_robot(&arm.robot, id, &folder).context("reading the calibration");
        return check(&arm, &files, known, clock, args.json);
    }
    let answers = Answers::start()?;
    let mut calibrator = Calibrator::open(Arc::clone(&arm.robot), &arm.ports, arm.latency, clock)?;
    let name = &arm.robot.name;
    note!("{} with its {} motors on {}", arm.robot.title, calibrator.chain().motors.len(), ports(&arm));
    let existing = existing(&arm, &files, &answers)?;
    let used_file = existing.is_some();
    let calibration = match existing {
        Some(calibration) => {
            calibrator.relax()?;
            calibration
        }
        None => {
            // Nobody moves all joints for a file that can't be written.
            stage(&arm, &files, &Calibration::default())?;
            measure(&mut calibrator, &answers)?
        }
    };
    let staged = if used_file { Vec::new() } else { stage(&arm, &files, &calibration)? };
    let written = loop {
        match calibrator.write(&calibration) {
            Ok(written) => break written,
            // What somebody measured is not lost to a loose plug.
            Err(error) => {
                let error = anyhow::Error::from(error).context("writing the calibration into the motors");
                note!("error: {}", text::chain(&error));
                answers.ask("The file is as it was, and some motors may hold the calibration already; ENTER tries again")?;
            }
        }
    };
    for file in staged {
        file.commit().context("the motors hold the new calibration, and the file is as it was")?;
    }
    let files: Vec<PathBuf> =
        files.into_iter().map(|file| if used_file { file.found().map(Into::into).unwrap_or(file.path) } else { file.path }).collect();
    let joints: Vec<Joint<'_>> = calibration
        .motors()
        .map(|(name, known)| Joint {
            name,
            id: known.id,
            drive_mode: known.drive_mode,
            homing_offset: known.homing_offset,
            range_min: known.range_min,
            range_max: known.range_max,
        })
        .collect();
    if args.json {
        text::print_json(&Report { robot: name, files, used_file, written: written.len(), joints })?;
        return Ok(Done::Ok);
    }
    let mut rows = vec![["joint", "id", "offset", "from", "to", "range"].map(str::to_owned).to_vec()];
    rows.extend(joints.iter().map(|joint| {
        let degrees = calibrator
            .chain()
            .motors
            .iter()
            .find(|motor| motor.name == joint.name)
            .map_or(0.0, |motor| f64::from(joint.range_max - joint.range_min) * 360.0 / f64::from(motor.table.resolution));
        let [id, offset, from, to] =
            [i32::from(joint.id), joint.homing_offset, joint.range_min, joint.range_max].map(|number| number.to_string());
        vec![joint.name.to_owned(), id, offset, from, to, format!("{degrees:.1}°")]
    }));
    say!("{}", text::table(&rows).trim_end());
    say!("{} registers were written and read back, the others held it already", written.len());
    for file in files {
        say!("{}   {}", if used_file { "used" } else { "saved" }, file.display());
    }
    Ok(Done::Ok)
}

fn ports(arm: &Arm) -> String {
    arm.ports.iter().map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(", ")
}

/// On the disk, beside the files.
fn stage(arm: &Arm, files: &[CalibrationFile], calibration: &Calibration) -> anyhow::Result<Vec<Staged>> {
    let staged = files.iter().map(|file| file.stage(&arm.robot, calibration)).collect::<Result<_, _>>();
    staged.context("making room for the calibration, which is as it was")
}

/// The calibration that is there, when it is to be used.
fn existing(arm: &Arm, files: &[CalibrationFile], answers: &Answers) -> anyhow::Result<Option<Calibration>> {
    let paths: Vec<String> = files.iter().filter_map(|file| file.found()).map(|path| path.display().to_string()).collect();
    if let Some(missing) = files.iter().find(|file| file.found().is_none()) {
        if !paths.is_empty() {
            let missing = missing.path.display();
            answers
                .ask(&format!("There is {}, and no {missing}\nENTER calibrates all anew and replaces what there is", paths.join(", ")))?;
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
            let question = format!("{} can't be used: {}\nENTER calibrates anew and replaces it", paths.join(", "), text::chain(&error));
            answers.ask(&question)?;
            return Ok(None);
        }
    };
    let question = format!(
        "There is a calibration: {}\nENTER switches the torque off (hold the arm, it may sink) and writes it into the motors; c and ENTER calibrates anew",
        paths.join(", ")
    );
    match answers.ask(&question)?.to_lowercase().as_str() {
        "" => Ok(Some(known)),
        "c" => Ok(None),
        other => bail!("expected ENTER or c, found {other:?}; nothing was written"),
    }
}

/// What somebody's moving the joints says.
fn measure(calibrator: &mut Calibrator, answers: &Answers) -> anyhow::Result<Calibration> {
    answers.ask("The torque will be switched off: hold the arm, it may sink; then ENTER")?;
    calibrator.relax().context("switching the torque off; the calibration is as it was")?;
    let ranges = if calibrator.ranged().is_empty() { Vec::new() } else { sweep(calibrator, answers)? };
    let turned = calibrator.turned().join(", ");
    loop {
        if !turned.is_empty() {
            answers.ask(&format!("Hold {turned} in the middle, where it reads 0; then ENTER"))?;
        }
        match calibrator.calibration(&ranges) {
            // Somebody can turn it back, or hold it.
            Err(SetupError::Refused { refusal: refusal @ (Refusal::Turned { .. } | Refusal::Moves { .. }), .. }) => {
                note!("error: {refusal}");
            }
            other => return Ok(other?),
        }
    }
}

fn sweep(calibrator: &mut Calibrator, answers: &Answers) -> anyhow::Result<Vec<Swept>> {
    // What moves before it is asked to may have been at its end when nobody looked.
    let (began, mut was_told) = (calibrator.chain().now(), false);
    while !calibrator.rests()? {
        let now = calibrator.chain().now();
        if now > began + NEVER_RESTS {
            bail!("waiting for all joints to rest, which they did not for {} s; no calibration was written", NEVER_RESTS.as_secs());
        }
        if now > began + RESTLESS && !was_told {
            note!("Joints are moving: let them rest for a moment");
            was_told = true;
        }
        std::thread::sleep(PAUSE);
    }
    let apart = calibrator.turned();
    let except = if apart.is_empty() { String::new() } else { format!(" (not {}, which comes after that)", apart.join(", ")) };
    answers.say(&format!("{SWEEP}{except}"));
    let mut live = LiveText::new();
    while answers.newest(SWEEP)?.is_none() {
        calibrator.sample()?;
        live.show(|| table(calibrator));
        std::thread::sleep(PAUSE);
    }
    match calibrator.ranges() {
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

/// What was seen so far.
fn table(calibrator: &Calibrator) -> String {
    let mut rows = vec![["joint", "now", "from", "to", ""].map(str::to_owned).to_vec()];
    let Some(sweep) = calibrator.sweep() else { return String::new() };
    for (i, (name, seen)) in calibrator.ranged().iter().zip(sweep.degrees()).enumerate() {
        let [now, from, to] = seen.map_or(["-", "-", "-"].map(str::to_owned), |degrees| degrees.map(|degrees| format!("{degrees:.1}°")));
        let enough = if sweep.is_enough(i) { "" } else { "move it" };
        rows.push(vec![(*name).to_owned(), now, from, to, enough.to_owned()]);
    }
    text::table(&rows)
}

fn check(
    arm: &Arm,
    files: &[CalibrationFile],
    known: anyhow::Result<Calibration>,
    clock: Arc<dyn Clock>,
    json: bool,
) -> anyhow::Result<Done> {
    let mut chain = Chain::open(Arc::clone(&arm.robot), &arm.ports, arm.latency, clock)?;
    let found = CalibrationCheck::of(&mut chain, known.as_ref().ok())?;
    let mut differences: Vec<String> = known.as_ref().err().map(text::chain).into_iter().collect();
    differences.extend(found.differences());
    let done = if differences.is_empty() { Done::Ok } else { Done::Refused };
    let paths = || files.iter().map(|file| file.found().unwrap_or(&file.path).to_owned());
    if json {
        let (robot, files, ok) = (arm.robot.name.as_str(), paths().collect(), differences.is_empty());
        text::print_json(&CheckReport { robot, files, ok, differences: &differences, check: &found })?;
        return Ok(done);
    }
    let mut rows = vec![["joint", "id", "now", "range", "volts", "°C", "torque", ""].map(str::to_owned).to_vec()];
    rows.extend(found.motors.iter().map(|motor| {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        vec![
            motor.part.clone(),
            motor.id.to_string(),
            or_dash(motor.position.map(|ticks| match motor.position_deg {
                Some(degrees) => format!("{ticks} ({degrees:.1}°)"),
                None => ticks.to_string(),
            })),
            or_dash(motor.range.map(|[from, to]| format!("{from}..{to}"))),
            or_dash(motor.voltage_v.map(|volts| format!("{volts:.1}"))),
            or_dash(motor.temperature_c.map(|degrees| degrees.to_string())),
            or_dash(motor.has_torque.map(|torque| if torque { "on" } else { "off" }.to_owned())),
            if motor.differences.is_empty() { "ok" } else { "differs" }.to_owned(),
        ]
    }));
    say!("{}", text::table(&rows).trim_end());
    for cable in &found.cables {
        let end = |(name, answers): &(String, bool)| format!("{name} {}", if *answers { "answers" } else { "does not answer" });
        say!(
            "cable     {}: {}, {}; {} of {} packets were asked again",
            cable.port,
            end(&cable.first),
            end(&cable.last),
            cable.retries,
            cable.requests
        );
    }
    paths().for_each(|path| say!("file      {}", path.display()));
    for what in &differences {
        say!("differs   {what}");
    }
    if differences.is_empty() {
        say!("The motors hold what the file says.");
    }
    Ok(done)
}
