//! `sinew record`: episodes of somebody who leads a robot, or of a script in the simulator, become a dataset.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use sinew_core::{Clock, FrameSink, MockClock};
use sinew_drivers::camera::CameraMonitor;
use sinew_recorder::{DatasetRecorder, RerunView};
use sinew_runtime::{
    AsItIs, Attendant, Counts, EpisodeOutcome, EpisodeReport, Keep, MonotonicClock, ReturnToRest, Selection, Series, SeriesReport, Session,
    SessionConfig, Stage, StopFlag, Strategy,
};

use crate::args::{Misuse, RecordArgs, Teleop};
use crate::buses::BusReport;
use crate::cameras::CameraReport;
use crate::commands::hub::upload;
use crate::commands::rollout::report::print_lateness;
use crate::cues::Cues;
use crate::desk::Desk;
use crate::host::Host;
use crate::led::{self, Human};
use crate::live::LiveLine;
use crate::publishing::Publishing;
use crate::rig::{Rig, Scenario};
use crate::text::{note, say};
use crate::{Done, hardware, live, locale, recording, standby, text};

pub fn run(args: &RecordArgs) -> anyhow::Result<Done> {
    args.publish.check()?;
    let stop = StopFlag::new();
    let clock: Arc<dyn Clock> = if args.is_real_time() { Arc::new(MonotonicClock::new()) } else { Arc::new(MockClock::new()) };
    let mut set = if args.is_simulated() { simulate(args, &clock)? } else { connect(args, &stop, &clock)? };
    record(args, &mut set, Host::terminal(clock, stop))
}

/// Records what `set` does.
pub fn record(args: &RecordArgs, set: &mut Set, mut host: Host<'_>) -> anyhow::Result<Done> {
    let (real_time, is_simulated, stop) = (args.is_real_time(), args.is_simulated(), host.stop.clone());
    let Set { rig, human, task, name } = set;
    let robot = rig.robot.description().clone();
    let begun = recording::Begun::at(&args.out, &args.recording);
    let mut recorder = recording::open(&args.out, rig, &args.recording, (real_time, false), args.publish.file_episodes(), None)?;
    let mut publishing = Publishing::begin(&args.out, &args.publish)?;
    let mut view = args.rerun_connect.as_ref().map(|address| RerunView::connect(address, &robot)).transpose()?;
    if is_simulated && host.is_terminal() {
        stop.escalate_on_signals().context("listening for Ctrl-C")?;
        tracing::info!("listening to signals");
    }
    let config = SessionConfig {
        keep: Keep::Successes,
        // Who leads a robot leaves it where it is.
        return_to_rest: if is_simulated { ReturnToRest::WhenInterrupted } else { ReturnToRest::Never },
        realtime: args.realtime.request(),
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, host.clock.clone(), stop.clone());
    if rig.is_real() {
        session = session.watched_by(standby::watch(&robot, &stop, args.realtime.request().priority)?);
    }
    let desk = Desk::new(session.operator(), stop.clone(), None);
    human.sits_at(&desk);
    // In a fast recording there is nobody to press one.
    let keys = if real_time { host.keys(&desk, human.keys.clone())? } else { None };
    args.pedal.iter().try_for_each(|pedal| desk.hear_pedal(pedal))?;
    if !args.json {
        if rig.is_real() {
            say!("robot     {}{}, {} Hz", robot.title, rig.calibrated(), robot.control_rate_hz);
        }
        if let Some(arm) = human.in_words() {
            say!("follows   {arm}");
        }
        rig.cameras.in_words().iter().for_each(|camera| say!("camera    {camera}"));
        if keys.is_some() {
            say!("keys      {}", desk.legend());
        }
    }
    if host.is_terminal() {
        live::leave_when_abandoned(session.progress(), stop.clone());
    }
    let fps = f64::from(robot.control_rate_hz);
    let series = Series {
        counts: Counts::Kept,
        most_failures: args.episodes / 2 + 10,
        task: task.clone(),
        ticks_between: if rig.is_real() || args.reset_time.is_some() { (args.reset_s() * fps).ceil() as u64 } else { 0 },
        // A robot's own scene ends then by itself.
        at_most: args.episode_time.filter(|_| is_simulated).map(|s| (s * fps).ceil() as u64),
        ..Series::of(args.episodes, first_seed(args, &recorder)?)
    };
    let told = (rig.tell_outages(), human.tell_outages());
    let first = recorder.totals().episodes;
    let mut attendant = Watching { first, fps, ..Watching::new(args, &desk, real_time, Cues::start(args.say)?, publishing.as_mut()) };
    let draws = real_time && host.is_terminal();
    let line = draws.then(|| LiveLine::start(session.progress(), attendant.words(fps, rig.cameras.monitor.clone()), stop.clone()));
    let mut selection = Selection::new(Strategy::Whole, &mut recorder, session.operator());
    if rig.is_real() || !host.is_terminal() {
        // The human may want an episode again when he sees what came of it.
        selection = selection.deferring();
    }
    if !host.is_terminal() {
        // Whoever stops a daemon, or the machine, need not know of what is being recorded.
        selection = selection.leaving_interrupted(stop.clone());
    }
    let left = selection.left();
    let stage = Stage {
        robot: &mut *rig.robot,
        cameras: &mut *rig.cameras.cameras,
        environment: &mut *rig.environment,
        policy: None,
        human: Some(&mut human.thread),
        recorder: Some(&mut selection),
        viewer: view.as_mut().map(|view| view as &mut dyn FrameSink),
    };
    let end = host.run(&mut session, &series, stage, &desk, &mut attendant);
    attendant.bar.finish_and_clear();
    drop((line, told, keys, session, selection, attendant));
    if !view.is_none_or(|view| live::wait_a_little(move || drop(view), live::VIEW_ENDS_WITHIN)) {
        note!("\nthe viewer has not taken all that it was sent");
    }
    let committed = recorder.totals().episodes - first;
    let end = end.with_context(|| stopped(&args.out, committed))?;
    let motors = rig.report().map(|robot| robot.and(human.report()));
    let left = left.load(Relaxed);
    let is_told_to_end = stop.is_requested() || desk.has_quit();
    tell(args, name, &end, &recorder, (motors.as_ref(), rig.cameras.report()), (is_told_to_end, left > 0))?;
    let has_episode = recorder.totals().episodes > 0;
    standby::say_why_it_ended(&stop);
    drop(recorder);
    let is_left = left > 0 && recording::tell_left(&args.out);
    // Without an episode there is no dataset, which the next run could not go on with.
    if has_episode || is_left {
        begun.stands();
    } else {
        drop(begun);
    }
    if let Some((hub, uploaded)) = publishing.map(|publishing| publishing.finish(&stop, args.json)).transpose()?.flatten() {
        upload::tell(&hub, &uploaded, args.json)?;
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// What is recorded, of whom.
pub struct Set {
    pub rig: Rig,
    pub human: Human,
    /// The instruction, where it is another than the scene's.
    pub task: Option<String>,
    /// What scripts call the task.
    pub name: String,
}

fn simulate(args: &RecordArgs, clock: &Arc<dyn Clock>) -> anyhow::Result<Set> {
    let scenario = Scenario::of(&args.rig)?;
    let expected = "expected --teleop scripted, or a device such as gamepad with --pace real; a robot is named by --port";
    let misuse = |what: String| Misuse(format!("recording in the simulator: {what}{expected}"));
    let rig = scenario.simulate(args.is_real_time(), false)?;
    recording::may_begin(&args.out, rig.robot.description(), &args.recording, args.is_real_time())?;
    let human = match &args.leader.teleop {
        Some(Teleop::Scripted) => rig.scripted(args.rig.seed)?,
        Some(Teleop::Device(kind)) if args.is_real_time() => {
            Human::with_device(kind, rig.robot.description(), Duration::ZERO, clock.clone())?
        }
        Some(Teleop::Afar(name)) if args.is_real_time() => Human::from_afar(name, &args.leader, rig.robot.description(), clock)?,
        Some(Teleop::Device(_) | Teleop::Afar(_)) => {
            anyhow::bail!(misuse("it runs faster than real time, too fast for a human; ".to_owned()))
        }
        Some(Teleop::Leader(name)) => anyhow::bail!(misuse(format!("--teleop {name} leads a robot behind --port; "))),
        None => anyhow::bail!(misuse(String::new())),
    };
    Ok(Set { rig, human, task: scenario.instruction, name: scenario.task.name().to_owned() })
}

fn connect(args: &RecordArgs, stop: &StopFlag, clock: &Arc<dyn Clock>) -> anyhow::Result<Set> {
    let name = args.rig.told()?;
    let untold = || Misuse("recording: expected --instruction \"WHAT IT IS TO DO\", which is recorded with every frame".to_owned());
    let name = name.ok_or_else(untold)?.to_owned();
    let robot = hardware::describe_unit(&args.rig.robot, &args.hardware, &args.camera)?;
    led::check(&args.leader, &robot)?;
    // Refused before an arm is touched.
    recording::may_begin(&args.out, &robot, &args.recording, true)?;
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let ticks = (args.episode_s() * f64::from(robot.control_rate_hz)).ceil() as u64;
    let priority = args.realtime.request().priority;
    let (hardware, human) = led::connect(robot, &args.hardware, &args.camera, &args.leader, (priority, false), clock)?;
    Ok(Set { rig: Rig::of(hardware, AsItIs { task: name.clone(), ticks }), human, task: None, name })
}

/// A recording that broke, and what there is of it.
fn stopped(out: &Path, committed: u64) -> String {
    let dir = out.display();
    format!(
        "recording to {dir}: stopped; the dataset has {}. --resume offers to keep an episode that was not finished; `sinew dataset verify {}` checks the dataset",
        text::plural(committed, "episode"),
        text::quoted(out)
    )
}

/// Says how it went.
fn tell(
    args: &RecordArgs,
    task: &str,
    end: &SeriesReport,
    recorder: &DatasetRecorder,
    (motors, cameras): (Option<&BusReport>, CameraReport),
    (is_told_to_end, is_left): (bool, bool),
) -> anyhow::Result<()> {
    let (kept, failed, dir) = (end.done, end.failed, args.out.display());
    // A recording that broke is the first thing to say; what was committed stays.
    if let Some((report, fault)) = end.reports.iter().find_map(|report| Some((report, report.faults.first()?))) {
        let committed = recorder.totals().episodes;
        let fault = anyhow::anyhow!("recording episode {committed} (seed {}): {}", report.seed, fault.chain());
        return Err(fault.context(stopped(&args.out, committed)));
    }
    let totals = recorder.totals();
    let missed: u64 = end.reports.iter().map(|report| report.missed_ticks).sum();
    let lost: u64 = end.reports.iter().map(|report| report.frames_lost).sum::<u64>() + recorder.left_out();
    let mut cadence = sinew_runtime::Cadence::default();
    end.reports.iter().for_each(|report| cadence.merge(&report.cadence));
    if args.json {
        let mut line = serde_json::json!({
            "task": task, "root": args.out, "total_episodes": totals.episodes, "total_frames": totals.frames,
            "failed_episodes": failed, "interrupted": is_told_to_end,
        });
        if let (Some(motors), Some(line)) = (motors, line.as_object_mut()) {
            line.insert("missed_ticks".to_owned(), missed.into());
            line.insert("frames_lost".to_owned(), lost.into());
            line.insert("cadence".to_owned(), serde_json::to_value(&cadence)?);
            line.insert("motors".to_owned(), serde_json::to_value(motors)?);
            line.insert("cameras".to_owned(), serde_json::to_value(&cameras)?);
        }
        text::print_json(&line)?;
    } else {
        match motors {
            _ if totals.episodes == 0 && is_left => {}
            _ if totals.episodes == 0 => say!("no episode was recorded in {dir}"),
            None => {
                let failed = if failed == 0 { String::new() } else { format!("; {} failed and left out", text::plural(failed, "attempt")) };
                say!("{}, {} in {dir}{failed}", text::plural(totals.episodes, "episode"), text::plural(totals.frames, "frame"));
            }
            Some(motors) => {
                say!(
                    "{}, {} in {dir}; {} missed, {} lost",
                    text::plural(totals.episodes, "episode"),
                    text::plural(totals.frames, "frame"),
                    text::plural(missed, "tick"),
                    text::plural(lost, "frame")
                );
                if recorder.left_out() > 0 {
                    say!(
                        "  {} of them were left out as the encoder or the disk could not keep up; --codec, --quality and --on-overload change that",
                        recorder.left_out()
                    );
                }
                print_lateness(&cadence);
                say!("\n{}{}", motors.table(), cameras.table());
            }
        }
        if end.reports.iter().any(|report| report.was_interrupted() && report.ticks > 0 && !report.kept) && !is_left {
            say!("  the episode that was interrupted is not in it");
        }
        if totals.episodes > 0 {
            say!("  sinew dataset info {}", text::quoted(&args.out));
        }
    }
    anyhow::ensure!(
        is_told_to_end || kept == args.episodes,
        "recording to {dir}: gave up after {failed} failed attempts, with {kept} of {} episodes recorded",
        args.episodes
    );
    Ok(())
}

/// Whoever sits at the desk, and what shows how far the recording is.
struct Watching<'a> {
    args: &'a RecordArgs,
    desk: &'a Desk,
    bar: ProgressBar,
    /// How many episodes there were before, and how many are kept of those that came.
    first: u64,
    kept: u64,
    failed: u64,
    fps: f64,
    stage: Arc<live::Stage>,
    cues: Cues,
    publishing: Option<&'a mut Publishing>,
}

impl<'a> Watching<'a> {
    fn new(args: &'a RecordArgs, desk: &'a Desk, real_time: bool, cues: Cues, publishing: Option<&'a mut Publishing>) -> Self {
        let bar = if real_time { ProgressBar::hidden() } else { ProgressBar::new(args.episodes) };
        let bar = bar.with_style(locale::bar("{wide_bar} {pos}/{len} episodes, {msg}, {eta} left"));
        let stage = Arc::new(live::Stage::new(args.episodes));
        Self { args, desk, bar, first: 0, kept: 0, failed: 0, fps: 1.0, stage, cues, publishing }
    }

    /// What the live line says.
    fn words(&self, fps: f64, cameras: Option<CameraMonitor>) -> live::Words {
        live::of_recording(self.stage.clone(), fps, &self.args.out, cameras)
    }
}

impl Attendant for Watching<'_> {
    fn may_begin(&mut self, done: u64) -> bool {
        let may = !self.desk.has_quit() && self.desk.wait_for_clearance();
        self.stage.begins_after(done);
        if may {
            self.cues.say(format!("Recording episode {}", done + 1));
        }
        may
    }

    fn has_ended(&mut self) {
        self.desk.ended();
    }

    fn may_go_on(&mut self) -> bool {
        !self.desk.has_quit()
    }

    fn between(&mut self, moves: Option<&mut dyn FnMut() -> bool>) -> bool {
        self.stage.is_resetting(true);
        self.cues.say("Reset the environment");
        self.desk.between(self.args.reset_s(), moves)
    }

    fn hear(&mut self, report: &EpisodeReport) {
        if report.outcome == EpisodeOutcome::Dropped {
            self.cues.say("Again");
        }
        if report.kept {
            self.bar.inc(1);
            if report.starved_ticks > 0 {
                let (episode, seconds) = (self.first + self.kept, report.starved_ticks as f64 / self.fps);
                note!("\nepisode {episode}: nobody led the robot for {seconds:.1} s of it; those rows are marked as starved");
            }
            self.kept += 1;
            if let Some(publishing) = &mut self.publishing {
                publishing.offer();
            }
        } else if report.outcome == EpisodeOutcome::Failure {
            self.failed += 1;
            tracing::warn!(seed = report.seed, reason = report.reason, "an episode failed and is kept out");
        }
        self.bar.set_message(format!("{} failed", self.failed));
    }
}

/// The seed of the first scene. Scenes that the dataset has are not recorded once more: the same seed is the same
/// scene to the last bit.
fn first_seed(args: &RecordArgs, recorder: &DatasetRecorder) -> anyhow::Result<u64> {
    Ok(match recorder.highest_seed()? {
        Some(last) if last >= args.rig.seed => {
            let next = last.saturating_add(1);
            if args.is_simulated() {
                note!("{} has scenes up to seed {last}; going on with seed {next}", args.out.display());
            }
            next
        }
        _ => args.rig.seed,
    })
}
