//! `sinew calibrate`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Serialize;
use sinew_core::Clock;
use sinew_drivers::setup::{CalibrationCheck, Calibrator, Chain};
use sinew_drivers::{Calibration, CalibrationFile, calibration_files};
use sinew_runtime::MonotonicClock;

use crate::args::CalibrateArgs;
use crate::arm::{Answers, Arm, calibrations};
use crate::calibrating::{Doing, Guide, Question, Reply, calibrate};
use crate::live::LiveText;
use crate::text::{note, say};
use crate::{Done, text};

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
    let mut terminal = Terminal { answers: Answers::start()?, live: LiveText::new(), was_told: false };
    let report = calibrate(&arm, &files, &clock, &mut terminal)?;
    if args.json {
        text::print_json(&report)?;
        return Ok(Done::Ok);
    }
    let mut rows = vec![["joint", "id", "offset", "from", "to", "range"].map(str::to_owned).to_vec()];
    rows.extend(report.joints.into_iter().map(|joint| {
        let [id, offset, from, to] =
            [i32::from(joint.id), joint.homing_offset, joint.range_min, joint.range_max].map(|number| number.to_string());
        vec![joint.name, id, offset, from, to, format!("{:.1}°", joint.degrees)]
    }));
    say!("{}", text::table(&rows).trim_end());
    say!("{} registers were written and read back, the others held it already", report.written);
    for file in report.files {
        say!("{}   {}", if report.used_file { "used" } else { "saved" }, file.display());
    }
    Ok(Done::Ok)
}

/// Somebody at a terminal.
struct Terminal {
    answers: Answers,
    live: LiveText,
    /// That joints are to rest.
    was_told: bool,
}

impl Guide for Terminal {
    fn ask(&mut self, question: &Question, is_well: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Reply> {
        let words = match question {
            Question::Found { paths } => format!(
                "There is a calibration: {paths}\nENTER switches the torque off (hold the arm, it may sink) and writes it into the motors; c and ENTER calibrates anew"
            ),
            Question::Incomplete { paths, missing } => {
                format!("There is {paths}, and no {missing}\nENTER calibrates all anew and replaces what there is")
            }
            Question::Unusable { paths, why } => format!("{paths} can't be used: {why}\nENTER calibrates anew and replaces it"),
            Question::Release => "The torque will be switched off: hold the arm, it may sink; then ENTER".to_owned(),
            Question::Middle { joints } => format!("Hold {joints} in the middle, where it reads 0; then ENTER"),
            Question::Rewrite { is_touched: true } => {
                "The file is as it was, and some motors may hold the calibration already; ENTER tries again. After Ctrl-C whoever connects the arm next finishes it".to_owned()
            }
            Question::Rewrite { is_touched: false } => {
                "Nothing was written: motors and file are as they were. ENTER tries again with what was measured; after Ctrl-C that is lost"
                    .to_owned()
            }
        };
        let answer = self.answers.ask_while(&words, is_well)?;
        match (question, &*answer.to_lowercase()) {
            (Question::Found { .. }, "c") => Ok(Reply::Again),
            (Question::Found { .. }, other) if !other.is_empty() => bail!("expected ENTER or c, found {other:?}; nothing was written"),
            _ => Ok(Reply::Next),
        }
    }

    fn does(&mut self, doing: Doing) -> anyhow::Result<()> {
        if doing == (Doing::Rest { is_long: true }) && !std::mem::replace(&mut self.was_told, true) {
            note!("Joints are moving: let them rest for a moment");
        }
        Ok(())
    }

    fn begin_sweep(&mut self, _: &Calibrator, later: &[&str]) -> anyhow::Result<()> {
        let except = if later.is_empty() { String::new() } else { format!(" (not {}, which comes after that)", later.join(", ")) };
        self.answers.say(&format!("{SWEEP}{except}"));
        Ok(())
    }

    fn is_swept(&mut self, calibrator: &Calibrator) -> anyhow::Result<bool> {
        self.live.show(|| table(calibrator));
        Ok(self.answers.newest(SWEEP)?.is_some())
    }

    fn complain(&mut self, why: &str) {
        note!("error: {why}");
    }

    fn failed(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        Err(error)
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
