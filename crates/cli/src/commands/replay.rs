//! `sinew replay`: a robot does once more what was recorded.

use std::sync::Arc;

use anyhow::Context;
use sinew::DatasetReader;
use sinew_core::{Clock, Environment, EnvironmentError, EpisodeSetup, MockClock, Outcome, RobotDescription};
use sinew_runtime::{AsItIs, Inference, Keep, MonotonicClock, PolicyThread, ReturnToRest, Series, Session, SessionConfig, Stage, StopFlag};
use sinew_sim::tasks::{self, Task};

use crate::args::ReplayArgs;
use crate::buses::BusReport;
use crate::commands::rollout::report::{fail_on_faults, print_lateness};
use crate::commands::teleop::{Line, Watching};
use crate::desk::Desk;
use crate::host::Host;
use crate::live::{self, LiveLine};
use crate::replay::Replay;
use crate::rig::{Rig, Scenario};
use crate::text::{note, say};
use crate::{Done, hardware, source, standby, text};

/// How long a scene may take to come out as success when all was done.
const SETTLES_S: u64 = 1;

/// A scene that is judged, for so many ticks.
struct Judged {
    scene: Box<dyn Environment>,
    ticks: u64,
}

impl Environment for Judged {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { max_ticks: self.ticks, ..self.scene.reset(seed)? })
    }

    fn outcome(&mut self) -> Outcome {
        self.scene.outcome()
    }

    fn state_hash(&self) -> u64 {
        self.scene.state_hash()
    }
}

/// The scene that is meant: of the task that is named, else of the one whose `instruction` the episode has.
fn scenario(args: &ReplayArgs, instruction: &str) -> anyhow::Result<Scenario> {
    let recorded = tasks::of_instruction(instruction).map(Task::name);
    let scenario = Scenario::named(&args.robot, args.task.as_deref().or(recorded))?;
    if args.task.is_none() && recorded.is_none() {
        let names: Vec<&str> = tasks::list().iter().map(|task| task.name()).collect();
        note!(
            "{instruction:?} is the instruction of no task of the simulator: the scene is that of {}; --task names another one ({})",
            scenario.task.name(),
            names.join(", ")
        );
    }
    Ok(scenario)
}

pub fn run(args: &ReplayArgs) -> anyhow::Result<Done> {
    let dataset = source::open_dataset_streaming(&args.dataset)?;
    let fps = dataset.fps().hz();
    anyhow::ensure!(
        fps.fract() == 0.0 && (1.0..=1000.0).contains(&fps),
        "replaying {}: it has {fps} frames a second, expected a whole number up to 1000",
        args.dataset.display()
    );
    let at_its_rate = |robot: RobotDescription| RobotDescription { control_rate_hz: fps as u32, ..robot };
    let instruction = dataset.episode(args.episode)?.tasks.first().cloned().unwrap_or_default();
    let mut scenario = args.is_simulated().then(|| scenario(args, &instruction)).transpose()?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => dataset.seed_of(args.episode)?.unwrap_or_default(),
    };
    let robot = match &mut scenario {
        Some(scenario) => {
            scenario.model.description = at_its_rate(scenario.model.description.clone());
            scenario.model.description.clone()
        }
        None => {
            let robot = hardware::describe_unit(&args.robot, &args.hardware, &[])?;
            if args.hardware.fps.is_some() { robot } else { at_its_rate(robot) }
        }
    };
    let recorded = Recorded { seed, ..Recorded::of(args, &dataset, &robot)? };
    let ticks = recorded.ticks;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let is_real_time = args.is_real_time();
    let clock: Arc<dyn Clock> = if is_real_time { Arc::new(MonotonicClock::new()) } else { Arc::new(MockClock::new()) };
    let scene = AsItIs { task: instruction, ticks };
    let mut rig = match &scenario {
        Some(scenario) => {
            let mut rig = scenario.simulate(is_real_time, false)?;
            rig.environment = Box::new(Judged { scene: rig.environment, ticks: ticks + SETTLES_S * fps as u64 });
            rig
        }
        None => Rig::of(hardware::connect(robot.clone(), &args.hardware, &[], clock.clone())?, scene),
    };
    again(args, recorded, scenario.as_ref(), &mut rig, Host::terminal(clock, stop))
}

/// What is done once more.
pub struct Recorded {
    policy: PolicyThread,
    pub ticks: u64,
    pub instruction: String,
    seed: u64,
}

impl Recorded {
    /// The episode that `args` name, of `dataset`, for `robot`.
    pub fn of(args: &ReplayArgs, dataset: &DatasetReader, robot: &RobotDescription) -> anyhow::Result<Self> {
        let replay = Replay::of(dataset, args.episode, robot)?;
        let ticks = replay.rows() as u64;
        let instruction = dataset.episode(args.episode)?.tasks.first().cloned().unwrap_or_default();
        let policy = PolicyThread::spawn(replay).context("starting the thread that replays")?;
        Ok(Self { policy, ticks, instruction, seed: 0 })
    }
}

/// Does it once more, on `rig`.
pub fn again(
    args: &ReplayArgs,
    recorded: Recorded,
    scenario: Option<&Scenario>,
    rig: &mut Rig,
    mut host: Host<'_>,
) -> anyhow::Result<Done> {
    let Recorded { mut policy, ticks, instruction, seed } = recorded;
    let (robot, stop) = (rig.robot.description().clone(), host.stop.clone());
    let (is_real_time, fps) = (args.is_real_time() || !host.is_terminal(), robot.control_rate_hz);
    let config = SessionConfig {
        inference: Inference::Sync,
        keep: Keep::Everything,
        return_to_rest: ReturnToRest::Never,
        realtime: args.realtime.request(),
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, host.clock.clone(), stop.clone());
    if rig.is_real() {
        session = session.watched_by(standby::watch(&robot, &stop, args.realtime.request().priority)?);
    }
    let desk = Desk::new(session.operator(), stop.clone(), None).without_episodes();
    let keys = if is_real_time { host.keys(&desk, None)? } else { None };
    if !args.json {
        let place = if rig.is_real() { "" } else { " simulated," };
        say!("robot     {}{},{place} {fps} Hz", robot.title, rig.calibrated());
        say!("replays   episode {} of {}: {ticks} frames, {instruction:?}", args.episode, args.dataset.display());
        if let Some(scenario) = scenario {
            say!("in        the scene of {} with seed {seed}", scenario.task.name());
        }
    }
    if host.is_terminal() {
        live::leave_when_abandoned(session.progress(), stop.clone());
    }
    let line = (is_real_time && host.is_terminal()).then(|| LiveLine::start(session.progress(), live::of_one(), stop.clone()));
    let told = rig.tell_outages();
    let stage = Stage {
        robot: &mut *rig.robot,
        cameras: &mut *rig.cameras.cameras,
        environment: &mut *rig.environment,
        policy: Some(&mut policy),
        human: None,
        recorder: None,
        viewer: None,
    };
    let end = host.run(&mut session, &Series::of(1, seed), stage, &desk, &mut Watching { desk: &desk })?;
    drop((line, told, session, keys));
    let motors: BusReport = rig.report().unwrap_or_default();
    if let Some(report) = end.reports.first() {
        if args.json {
            text::print_json(&Line::of(report, &motors))?;
        } else {
            if report.was_interrupted() {
                say!("stopped   after {} of {ticks} frames", report.ticks.min(ticks));
            } else if !rig.is_real() {
                say!("scene     {}", if report.is_success() { "success" } else { "no success" });
            }
            if is_real_time {
                print_lateness(&report.cadence);
            }
            say!(
                "limited   {} by the safety gate; {} missed",
                text::plural(report.interventions.total().into(), "command"),
                text::plural(report.missed_ticks, "tick")
            );
            let table = motors.table();
            if !table.is_empty() {
                say!("\n{}", table.trim_end());
            }
        }
        fail_on_faults(report, || format!("replaying {} on {}", args.dataset.display(), robot.name))?;
    }
    standby::say_why_it_ended(&stop);
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}
