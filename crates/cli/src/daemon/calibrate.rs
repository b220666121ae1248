//! An arm of the daemon's is calibrated by somebody who reads what to do from the interface, and answers there. The steps are those of
//! `sinew calibrate`.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::Context as _;
use sinew_core::service::{
    Calibratable, Calibrate, CalibratedArm, CalibrationAnswer, CalibrationReply, CalibrationState, CalibrationStep, JointSweep, Phase,
    Refusal,
};
use sinew_core::{Role, Timestamp, check_name};
use sinew_drivers::calibration_files;
use sinew_drivers::setup::Calibrator;
use sinew_runtime::StopFlag;

use super::{Owned, lock};
use crate::args::{CalibrateArgs, Command, DaemonArgs, PortArg, Teleop};
use crate::arm::{Arm, calibrations};
use crate::calibrating::{Doing, Guide, Question, Reply, calibrate};
use crate::commands::rollout::Setting;
use crate::rig::Rig;
use crate::{Done, hardware, text};

/// How often somebody who is asked is listened to, and shown what his hands do.
const LOOK: Duration = Duration::from_millis(20);
const SHOWN_EVERY_NS: i64 = 33_000_000;

/// Somebody has ended it.
#[derive(Debug)]
struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was ended, and the calibration is as it was")
    }
}

impl std::error::Error for Ended {}

/// What can be calibrated: robot and leader, where they are on serial ports of this machine.
pub fn calibratable(args: &DaemonArgs, setting: &Setting) -> Vec<Calibratable> {
    let has = |name: &str, role: Role, ports: &[PortArg]| {
        let known = hardware::describe(name, role).and_then(|robot| hardware::serial_ports(&robot, ports, "--port"));
        !ports.is_empty() && known.is_ok()
    };
    let mut all = Vec::new();
    let (robot, own, leader) = (&args.rig.robot, &args.hardware, &args.leader);
    if matches!(setting, Setting::Hardware(_)) && has(robot, Role::Robot, &own.port) {
        all.push(Calibratable { arm: CalibratedArm::Robot, name: robot.clone(), id: own.id.clone() });
    }
    if let Some(Teleop::Leader(name)) = &leader.teleop
        && has(name, Role::Teleoperator, &leader.teleop_port)
    {
        all.push(Calibratable { arm: CalibratedArm::Leader, name: name.clone(), id: leader.teleop_id.clone() });
    }
    all
}

impl Owned {
    /// The options of the verb that calibrates this arm.
    pub(super) fn calibration(&self, work: &Calibrate) -> Result<CalibrateArgs, Refusal> {
        let (role, robot_option, port_option, id_option, ports) = match work.arm {
            CalibratedArm::Robot => (Role::Robot, "robot", "port", "id", &self.args.hardware.port),
            CalibratedArm::Leader => (Role::Teleoperator, "teleop", "teleop-port", "teleop-id", &self.args.leader.teleop_port),
        };
        let arm = self.calibratable.iter().find(|arm| arm.arm == work.arm).ok_or_else(|| {
            let whose = if work.arm == CalibratedArm::Robot { "the robot" } else { "the leader of the daemon" };
            Refusal::Bad(format!("calibrating {whose}: it has no arm on a serial port of this machine"))
        })?;
        let id = id_of(arm, role, work.id.as_deref())?;
        let mut words = vec!["calibrate".to_owned(), format!("--{robot_option}={}", arm.name), format!("--{id_option}={id}")];
        words.extend(ports.iter().map(|port| {
            let bus = port.bus.as_ref().map(|bus| format!("{bus}=")).unwrap_or_default();
            format!("--{port_option}={bus}{}", port.place)
        }));
        words.extend(self.args.hardware.latency_ms.map(|ms| format!("--latency-ms={ms}")));
        match super::work::parsed(words)? {
            Command::Calibrate(args) => Ok(args),
            _ => Err(Refusal::Bad("expected calibrate".to_owned())),
        }
    }

    /// Calibrates an arm. The robot that is `given` is let go where it is that.
    pub(super) fn calibrate(
        &self,
        args: &CalibrateArgs,
        which: CalibratedArm,
        given: &mut Option<Rig>,
        stop: &StopFlag,
    ) -> anyhow::Result<Done> {
        self.let_go(which, given);
        match self.lead_through(args, which, stop) {
            Ok(()) => Ok(Done::Ok),
            Err(error) if error.is::<Ended>() => Ok(Done::Interrupted),
            Err(error) => Err(error),
        }
    }

    fn lead_through(&self, args: &CalibrateArgs, which: CalibratedArm, stop: &StopFlag) -> anyhow::Result<()> {
        let arm = Arm::of(&args.arm)?;
        let id = args.id.as_ref().or(args.teleop_id.as_ref()).context("expected an id")?;
        let files = calibration_files(&arm.robot, id, &calibrations()?)?;
        let state = CalibrationState {
            arm: which,
            name: arm.robot.name.clone(),
            number: 0,
            step: CalibrationStep::Meet,
            text: String::new(),
            problem: None,
            answers: Vec::new(),
            joints: Vec::new(),
        };
        self.update(|current| current.work.phase = Phase::Running);
        let mut afar = Afar { owned: self, stop, state, is_unsure: false, shown: None };
        let report = calibrate(&arm, &files, &self.clock, &mut afar)?;
        let result = serde_json::to_value(&report)?;
        for file in &report.files {
            crate::text::note!("{}: {} its calibration {}", report.robot, if report.used_file { "used" } else { "saved" }, file.display());
        }
        self.update(|current| current.result = Some(result));
        Ok(())
    }

    /// Somebody has answered a step.
    pub(super) fn hear(&self, answer: CalibrationAnswer) -> Result<(), Refusal> {
        let mut current = lock(&self.current);
        let asked = current.as_mut().and_then(|current| Some((current.calibration.as_mut()?, &mut current.reply)));
        let Some((asked, reply)) = asked else { return Err(Refusal::Conflict("no calibration runs".to_owned())) };
        if asked.number != answer.number {
            return Err(Refusal::Conflict(format!("this answers step {}, and the calibration is at step {}", answer.number, asked.number)));
        }
        if !asked.answers.contains(&answer.answer) {
            return Err(Refusal::Conflict(
                "the calibration does not wait for this answer now; its state says what it waits for".to_owned(),
            ));
        }
        // Who presses twice has answered once.
        asked.answers.clear();
        *reply = Some(answer.answer);
        Ok(())
    }
}

/// The name of the calibration's file. A daemon that was started with one knows its arm by it; else there is one already, or somebody
/// gives it a name.
fn id_of(arm: &Calibratable, role: Role, given: Option<&str>) -> Result<String, Refusal> {
    let given = given.map(str::trim).filter(|id| !id.is_empty());
    if let Some(Err(error)) = given.map(check_name) {
        return Err(Refusal::Bad(format!("calibrating {}: {error}", arm.name)));
    }
    let failed = |error: anyhow::Error| Refusal::Failed(format!("calibrating {}: {}", arm.name, text::chain(&error)));
    let known = match &arm.id {
        Some(id) => vec![id.clone()],
        None => {
            hardware::ids_of(&hardware::describe(&arm.name, role).map_err(failed)?, &calibrations().map_err(failed)?).map_err(failed)?
        }
    };
    match (&known[..], given) {
        ([id], None) => Ok(id.clone()),
        ([id], Some(given)) if id == given => Ok(id.clone()),
        ([id], Some(given)) => Err(Refusal::Bad(format!("calibrating {}: its calibration is called {id}, found the id {given}", arm.name))),
        ([], Some(given)) => Ok(given.to_owned()),
        ([], None) => Err(Refusal::Bad(format!("calibrating {}: it has no calibration yet; expected an id to store it by", arm.name))),
        (several, _) => {
            let option = if role == Role::Robot { "--id" } else { "--teleop-id" };
            Err(Refusal::Conflict(format!(
                "calibrating {}: there are the calibrations {}; start the daemon with {option}, which says which one it is",
                arm.name,
                several.join(", ")
            )))
        }
    }
}

/// Somebody who reads the interface.
struct Afar<'a> {
    owned: &'a Owned,
    stop: &'a StopFlag,
    state: CalibrationState,
    /// Whether motors may hold something else than the file.
    is_unsure: bool,
    /// When the joints were shown last.
    shown: Option<Timestamp>,
}

impl Afar<'_> {
    /// Shows another step; a problem is told of once.
    fn put(&mut self, step: CalibrationStep, text: String, answers: &[CalibrationReply]) {
        let state = &mut self.state;
        (state.step, state.text, state.answers) = (step, text, answers.to_vec());
        state.number += 1;
        if step != CalibrationStep::Sweep {
            state.joints.clear();
        }
        self.show();
        self.state.problem = None;
    }

    fn show(&self) {
        self.owned.update(|current| {
            current.calibration = Some(self.state.clone());
            // Who has just ended it is heard at the next step, too.
            current.reply.take_if(|reply| *reply != CalibrationReply::Cancel);
        });
    }

    /// What was answered meanwhile.
    fn reply(&mut self) -> anyhow::Result<Option<Reply>> {
        let reply = lock(&self.owned.current).as_mut().and_then(|current| current.reply.take());
        match reply {
            _ if self.stop.is_requested() => Err(self.ended()),
            Some(CalibrationReply::Cancel) => Err(self.ended()),
            Some(CalibrationReply::Next) => Ok(Some(Reply::Next)),
            Some(CalibrationReply::Again) => Ok(Some(Reply::Again)),
            None => Ok(None),
        }
    }

    fn ended(&self) -> anyhow::Error {
        if self.is_unsure {
            return anyhow::anyhow!(
                "the calibration was ended before it could be kept: the file is as it was, and the motors get back what they held when the arm is connected"
            );
        }
        Ended.into()
    }

    fn waits(&mut self, is_well: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Reply> {
        loop {
            if let Some(reply) = self.reply()? {
                return Ok(reply);
            }
            is_well()?;
            std::thread::sleep(LOOK);
        }
    }
}

impl Guide for Afar<'_> {
    fn ask(&mut self, question: &Question, is_well: &mut dyn FnMut() -> anyhow::Result<()>) -> anyhow::Result<Reply> {
        use CalibrationReply::{Again, Cancel, Next};
        let (step, text, answers) = match question {
            Question::Found { paths } => (
                CalibrationStep::Found,
                format!(
                    "There is a calibration: {paths}. Next switches the torque off (hold the arm, it may sink) and writes it into the motors. Again makes a new one."
                ),
                &[Next, Again, Cancel][..],
            ),
            Question::Incomplete { paths, missing } => (
                CalibrationStep::Replace,
                format!("There is {paths}, and no {missing}. Next makes all anew and replaces what there is."),
                &[Next, Cancel][..],
            ),
            Question::Unusable { paths, why } => (
                CalibrationStep::Replace,
                format!("{paths} can't be used: {why}. Next makes a new one and replaces it."),
                &[Next, Cancel][..],
            ),
            Question::Release => (
                CalibrationStep::Release,
                "Hold the arm: the torque will be switched off, and it may sink. Then next.".to_owned(),
                &[Next, Cancel][..],
            ),
            Question::Middle { joints } => {
                (CalibrationStep::Middle, format!("Hold {joints} in the middle, where it reads 0. Then next."), &[Next, Cancel][..])
            }
            Question::Rewrite { is_touched } => (
                CalibrationStep::Rewrite,
                if *is_touched {
                    "The file is as it was, and some motors may hold the calibration already. Next tries again with what was measured. Cancel gives the motors back what they held."
                } else {
                    "Nothing was written: motors and file are as they were. Next tries again with what was measured. Cancel loses what was measured."
                }
                .to_owned(),
                &[Next, Cancel][..],
            ),
        };
        self.is_unsure |= matches!(question, Question::Rewrite { is_touched: true });
        self.put(step, text, answers);
        self.waits(is_well)
    }

    fn does(&mut self, doing: Doing) -> anyhow::Result<()> {
        let (step, text) = match doing {
            Doing::Meet => (CalibrationStep::Meet, "Looking for the motors."),
            Doing::Rest { is_long: false } => (CalibrationStep::Rest, "Let the arm rest for a moment."),
            Doing::Rest { is_long: true } => (CalibrationStep::Rest, "Joints are moving. Let them rest for a moment."),
            Doing::Write => (CalibrationStep::Write, "Writing the motors and the file."),
        };
        // What is written is written whole.
        if doing != Doing::Write {
            self.reply()?;
        }
        if self.state.step != step || self.state.text != text {
            let answers: &[_] = if step == CalibrationStep::Rest { &[CalibrationReply::Cancel] } else { &[] };
            self.put(step, text.to_owned(), answers);
        }
        Ok(())
    }

    fn relaxed(&mut self) {
        if self.state.arm == CalibratedArm::Robot {
            self.owned.is_holding.store(false, SeqCst);
            self.owned.show();
        }
    }

    fn begin_sweep(&mut self, calibrator: &Calibrator, later: &[&str]) -> anyhow::Result<()> {
        let except = if later.is_empty() { String::new() } else { format!(", but for {}, which comes after that", later.join(", ")) };
        let text = format!(
            "Move every joint through all of its range, one after the other, and rest at each end for a moment{except}. Then next."
        );
        self.state.joints = joints(calibrator);
        self.put(CalibrationStep::Sweep, text, &[CalibrationReply::Next, CalibrationReply::Cancel]);
        Ok(())
    }

    fn is_swept(&mut self, calibrator: &Calibrator) -> anyhow::Result<bool> {
        let reply = self.reply()?;
        let now = self.owned.clock.now();
        if reply.is_none() && self.shown.is_some_and(|shown| now.nanos_since(shown) < SHOWN_EVERY_NS) {
            return Ok(false);
        }
        self.shown = Some(now);
        self.state.joints = joints(calibrator);
        let missing: Vec<&str> = self.state.joints.iter().filter(|joint| !joint.is_enough).map(|joint| joint.name.as_str()).collect();
        if reply.is_some() && missing.is_empty() {
            return Ok(true);
        }
        if reply.is_some() {
            self.state.problem = Some(format!("Not moved enough yet: {}.", missing.join(", ")));
            self.state.number += 1;
        }
        // An answer that comes just now is not overwritten.
        let joints = self.state.joints.clone();
        if reply.is_some() {
            self.show();
        } else {
            self.owned.update(|current| {
                if let Some(shown) = &mut current.calibration {
                    shown.joints = joints;
                }
            });
        }
        Ok(false)
    }

    fn complain(&mut self, why: &str) {
        self.state.problem = Some(why.to_owned());
    }

    fn failed(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        if error.is::<Ended>() || self.is_unsure || self.stop.is_requested() {
            return Err(error);
        }
        self.complain(&text::chain(&error));
        let text = "Nothing was written. Again begins anew.".to_owned();
        self.put(CalibrationStep::Failed, text, &[CalibrationReply::Again, CalibrationReply::Cancel]);
        self.waits(&mut || Ok(())).map(drop)
    }
}

/// What was seen of the joints so far.
fn joints(calibrator: &Calibrator) -> Vec<JointSweep> {
    let Some(sweep) = calibrator.sweep() else { return Vec::new() };
    let seen = sweep.degrees().into_iter().zip(sweep.least_degrees()).enumerate();
    let joint = |(name, (i, (seen, least))): (&str, (usize, (Option<[f64; 3]>, f64)))| {
        let of = |which: usize| seen.map(|seen| seen[which].to_radians());
        let [position, lower, upper] = [of(0), of(1), of(2)];
        JointSweep { name: name.to_owned(), position, lower, upper, least: least.to_radians(), is_enough: sweep.is_enough(i) }
    };
    calibrator.ranged().into_iter().zip(seen).map(joint).collect()
}
