//! `sinew rollout`: a policy works a robot, and the run is recorded. What `sinew` does when told
//! nothing.

pub mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Clock, FrameSink, MockClock, Policy, RobotDescription};
use sinew_policy::BoundPolicy;
use sinew_recorder::RerunView;
use sinew_remote::RemoteOptions;
use sinew_runtime::{
    AsItIs, Attendant, Counts, EpisodeReport, Fault, Inference, Keep, MonotonicClock, PolicyThread, Realtime, ReturnToRest, Selection,
    Series, Session, SessionConfig, Stage, StopFlag,
};

use crate::args::{InferenceMode, LoopArgs, Misuse, RolloutArgs, StrategyMode, Teleop, in_words, misuse};
use crate::daemon::policies::Unfit;
use crate::desk::Desk;
use crate::host::Host;
use crate::led::Human;
use crate::live::{self, LiveLine};
use crate::remote::{self, Acts};
use crate::rig::{Rig, Scenario};
use crate::text::{Claim, say};
use crate::{Done, hardware, led, prompt, recording, source, standby, text};

/// Where the run goes.
struct Outputs {
    dataset: Option<PathBuf>,
    rerun: Option<PathBuf>,
}

impl Outputs {
    /// With the folder of what was given no place, which is this run's from now on.
    fn of(args: &RolloutArgs) -> anyhow::Result<(Self, Option<Claim>)> {
        let (records, views) = (!args.no_record, !args.no_rerun && args.rerun_connect.is_none());
        let is_needed = records && args.out.is_none() || views && args.rerun.is_none();
        let folder = if is_needed { Some(Claim::folder("outputs", "rollout-")?) } else { None };
        let choose = |given: &Option<PathBuf>, is_wanted: bool, name: &str| {
            if is_wanted { given.clone().or_else(|| Some(folder.as_ref()?.path().join(name))) } else { None }
        };
        let outputs = Self { dataset: choose(&args.out, records, "dataset"), rerun: choose(&args.rerun, views, "rollout.rrd") };
        Ok((outputs, folder))
    }
}

/// What to try after the demonstration.
const NEXT: [(&str, &str); 5] = [
    ("Its success rate over 100 other scenes:", "sinew eval --episodes 100"),
    ("A policy from the Hugging Face Hub, in the simulator:", "sinew rollout --policy OWNER/NAME"),
    ("A dataset of demonstrations, recorded in the simulator:", "sinew record --teleop scripted --out my_dataset"),
    ("The robots and leader arms that it can run:", "sinew robots"),
    ("Everything else:", "sinew --help"),
];

/// What the live line says, for who sees it the first time.
const LIVE_WORDS: &str = "While it runs:
  tick      a step of the control loop, 30 a second
  starved   ticks for which the policy had sent no action
  late      how much later than planned the last tick began
  missed    ticks left out because the loop was late
  limited   commands that the safety gate made smaller
  queue     actions that are left to execute
";

/// What `sinew` shows of itself.
pub fn demonstrate() -> anyhow::Result<Done> {
    say!("A small policy (ACT, built in) puts a cube into a bin\nwith a simulated SO-101 arm, three times, in real time.\n");
    say!("{LIVE_WORDS}");
    let done = run(&RolloutArgs::demonstration())?;
    if done == Done::Ok {
        for (what, command) in NEXT {
            say!("\n{what}\n  {command}");
        }
    }
    Ok(done)
}

pub fn run(args: &RolloutArgs) -> anyhow::Result<Done> {
    let setting = Setting::of(args)?;
    let prepared = Prepared::of(args, setting.robot())?;
    let clock: Arc<dyn Clock> = if args.is_fast() { Arc::new(MockClock::new()) } else { Arc::new(MonotonicClock::new()) };
    let (mut rig, mut human) = setting.set_up(args, &clock)?;
    roll_out(args, &setting, prepared, (&mut rig, human.as_mut()), Host::terminal(clock, StopFlag::new()))
}

/// What is ready before a robot is touched.
pub struct Prepared {
    config: SessionConfig,
    named: Acts,
    policy: PolicyThread,
    outputs: Outputs,
    _folder: Option<Claim>,
}

impl Prepared {
    /// The policy for `robot`, loaded, and the places of what is written.
    pub fn of(args: &RolloutArgs, robot: &RobotDescription) -> anyhow::Result<Self> {
        let (fast, mode) = (args.is_fast(), args.run.strategy);
        let threads = source::threads_beside_control(args.compute.threads);
        let mut config = SessionConfig {
            keep: if matches!(mode, StrategyMode::Base | StrategyMode::Episodic) { Keep::Finished } else { Keep::Everything },
            return_to_rest: if mode == StrategyMode::Episodic { ReturnToRest::Always } else { ReturnToRest::WhenInterrupted },
            ..args.control.session(fast)
        };
        let turns_hz = u64::from(robot.control_rate_hz) * u64::from(args.control.fps_multiplier);
        if turns_hz > FASTEST_HZ {
            let (most, rate) = (FASTEST_HZ / u64::from(robot.control_rate_hz.max(1)), robot.control_rate_hz);
            misuse!(
                "--fps-multiplier {}: expected at most {most} at {rate} Hz, as the loop runs at most {FASTEST_HZ} times a second",
                args.control.fps_multiplier
            );
        }
        let (named, policy) = match args.remote.options(args.policy.as_deref(), &args.compute.cameras.rename, true)? {
            Some(options) => {
                let seconds = args.run.seconds.filter(|seconds| !fast && *seconds > 0.0);
                remote::connect(&RemoteOptions { continues: args.continues(), ..options }, robot, &mut config, seconds)?
            }
            None if args.at_hand.is_some() => Acts::here(args, robot, &config, threads).map_err(Unfit)?,
            None => Acts::here(args, robot, &config, threads)?,
        };
        let (outputs, folder) = Outputs::of(args)?;
        if let Some(root) = &outputs.dataset {
            // Refused before an arm is touched.
            recording::may_begin(root, robot, &args.recording, !fast)?;
        }
        Ok(Self { config, named, policy, outputs, _folder: folder })
    }
}

/// Lets the policy work the robot of `rig`.
pub fn roll_out(
    args: &RolloutArgs,
    setting: &Setting,
    prepared: Prepared,
    (rig, mut human): (&mut Rig, Option<&mut Human>),
    mut host: Host<'_>,
) -> anyhow::Result<Done> {
    let Prepared { config, named, mut policy, outputs, _folder } = prepared;
    let (fast, mode, robot) = (args.is_fast(), args.run.strategy, setting.robot());
    let threads = source::threads_beside_control(args.compute.threads);
    let fps = robot.control_rate_hz;

    let mut view = match (&outputs.rerun, &args.rerun_connect) {
        (Some(path), _) => Some(RerunView::to_file(path, robot)?),
        (None, Some(address)) => Some(RerunView::connect(address, robot)?),
        (None, None) => None,
    };
    let open =
        |root: &PathBuf| recording::open(root, rig, &args.recording, (!fast, mode == StrategyMode::Dagger), None, Some(named.note()));
    let begun = outputs.dataset.as_ref().map(|root| recording::Begun::at(root, &args.recording));
    let mut recorder = outputs.dataset.as_ref().map(open).transpose().inspect_err(|_| {
        // Where one output is refused, no trace of the other is left.
        drop(view.take());
        let _ = outputs.rerun.as_ref().map(std::fs::remove_file);
    })?;
    let stop = host.stop.clone();
    let mut session = Session::new(config, host.clock.clone(), stop.clone());
    // A simulated arm is gone with its process; with --realtime it is watched as a real one is.
    if args.control.realtime.realtime || rig.is_real() {
        session = session.watched_by(standby::watch(robot, &stop, args.control.realtime.request().priority)?);
    }
    let mut selection = recorder.as_mut().map(|recorder| {
        let selection = Selection::new(args.run.selection(robot), recorder, session.operator());
        match mode {
            StrategyMode::Dagger => selection.until(args.episodes()),
            StrategyMode::Episodic => selection.deferring(),
            _ => selection,
        }
    });
    if !host.is_terminal() {
        selection = selection.map(|selection| selection.leaving_interrupted(stop.clone()));
    }
    let committed = selection.as_ref().map(Selection::committed).unwrap_or_default();
    let left = selection.as_ref().map(Selection::left).unwrap_or_default();

    // From here on a signal is a wish like any other; what is begun is ended in order, the terminal's mode too.
    if host.is_terminal() {
        stop.escalate_on_signals().context("listening for Ctrl-C")?;
        tracing::info!("listening to signals");
    }
    let desk = Desk::new(session.operator(), stop.clone(), Some(mode));
    if let Some(human) = &human {
        human.sits_at(&desk);
    }
    // In a fast run there is nobody to press one.
    let keys = if args.run.interactive || fast { None } else { host.keys(&desk, human.as_ref().and_then(|human| human.keys.clone()))? };
    if let Some(pedal) = &args.run.pedal {
        desk.hear_pedal(pedal)?;
    }
    if !args.json {
        say!("{}", named.banner(threads));
        let time = if fast { "as fast as the machine can" } else { "in real time" };
        let place = if rig.is_real() { "" } else { " simulated," };
        say!("robot     {},{place} {fps} Hz, {time}", robot.title);
        let other = if args.control.inference == InferenceMode::Sync { "" } else { "; `sinew eval` uses sync" };
        say!("inference {}{other}", args.control.inference.explained());
        if let Some(realtime) = try_realtime(&args.control)? {
            say!("realtime  {realtime}");
        }
        if mode != StrategyMode::Base {
            say!("strategy  {}", in_words(&mode));
        }
        if args.run.interactive {
            say!("commands  /start begins, /quit ends, /help lists all");
        } else if keys.is_some() {
            say!("keys      {}", desk.legend());
        }
        say!("task      {}", setting.in_words(args));
        if args.policy.is_none()
            && let Setting::Simulator(scenario) = setting
        {
            scenario.warn_of_demonstration();
        }
        say!("");
    }
    // What is answered to the first command stands below what it is about.
    if args.run.interactive {
        desk.hear_commands()?;
    }
    if host.is_terminal() {
        live::leave_when_abandoned(session.progress(), stop.clone());
    }
    let shown = Arc::new(live::Stage::new(if setting.duration_s(args).is_some() { 1 } else { args.episodes() }));
    let line = host.is_terminal().then(|| LiveLine::start(session.progress(), live::of_episodes(shown.clone()), stop.clone()));
    let told = (rig.tell_outages(), human.as_ref().and_then(|human| human.tell_outages()));
    let series = Series {
        counts: if mode == StrategyMode::Dagger { Counts::Others(committed.clone()) } else { Counts::Run },
        task: setting.instruction(),
        ticks_between: if mode == StrategyMode::Episodic { (args.run.reset_s() * f64::from(fps)).ceil() as u64 } else { 0 },
        endless: setting.duration_s(args).map(|s| if s > 0.0 { (s * f64::from(fps)).ceil() as u64 } else { u64::MAX }),
        ..Series::of(args.episodes(), args.rig.seed)
    };
    let stage = Stage {
        robot: &mut *rig.robot,
        cameras: &mut *rig.cameras.cameras,
        environment: &mut *rig.environment,
        policy: Some(&mut policy),
        human: human.as_mut().map(|human| &mut human.thread),
        recorder: selection.as_mut(),
        viewer: view.as_mut().map(|view| view as &mut dyn FrameSink),
    };
    let mut attendant = Watching { desk: &desk, args, shown: &shown, printing: Ok(()) };
    let reports = host.run(&mut session, &series, stage, &desk, &mut attendant)?.reports;
    attendant.printing?;
    drop((line, told));
    if host.is_terminal() {
        prompt::close();
    }
    drop(session);
    drop(keys);
    drop(selection);
    // A viewer that does not read what it was sent keeps nobody waiting for long.
    if !view.is_none_or(|view| live::wait_a_little(move || drop(view), live::VIEW_ENDS_WITHIN)) {
        text::note!("\nthe viewer has not taken all that it was sent");
    }
    let (recorded, left) = (committed.load(Relaxed), left.load(Relaxed));
    let outputs = if recorded == 0 && left == 0 && !args.recording.resume { Outputs { dataset: None, ..outputs } } else { outputs };
    let buses = rig.report().map(|robot| robot.and(human.as_ref().map(|human| human.report()).unwrap_or_default()));
    if args.json {
        report::print_totals(&named, &reports, &outputs, recorded, buses, &rig.cameras.report())?;
    } else {
        report::print_table(&reports, !args.no_record);
        if !reports.is_empty() {
            report::print_cadence(&reports, fast);
        }
        named.print_link();
        if let Some(buses) = buses {
            say!("\n{}{}", buses.table(), rig.cameras.report().table());
        }
        if outputs.dataset.is_none() && !args.no_record {
            say!("dataset   none, as no episode was recorded");
        }
        report::print_outputs(&outputs, args.rerun_connect.as_deref(), recorded);
    }
    if let Some((i, report)) = reports.iter().enumerate().find(|(_, report)| !report.faults.is_empty()) {
        report::fail_on_faults(report, || format!("rolling out episode {} (seed {})", i + 1, report.seed))?;
    }
    drop(recorder);
    let is_left = left > 0 && outputs.dataset.as_ref().is_some_and(|root| recording::tell_left(root));
    // Without an episode there is no dataset, which the next run could not go on with.
    begun.into_iter().filter(|_| recorded > 0 || is_left).for_each(recording::Begun::stands);
    // A viewer may go; a file that was asked for is whole, or the run has failed.
    if let (Some(path), Some(why)) = (&outputs.rerun, reports.iter().find_map(|report| report.detached.first())) {
        anyhow::bail!("recording to {}: it is not whole: {why}", path.display());
    }
    standby::say_why_it_ended(&stop);
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

impl Acts {
    /// The policy that runs on this machine, on a thread of its own.
    fn here(args: &RolloutArgs, robot: &RobotDescription, config: &SessionConfig, threads: usize) -> anyhow::Result<(Self, PolicyThread)> {
        let named = match (&args.policy, &args.at_hand) {
            (Some(name), Some(fetched)) => source::open_fetched((name.clone(), fetched.clone()), &args.compute)?,
            (policy, _) => source::open(policy.as_deref(), &args.compute)?,
        };
        let mut policy = source::beside_control(|| Ok(BoundPolicy::bind(&named.checkpoint, robot)?.with_threads(threads)?))?;
        if config.inference == Inference::Rtc {
            let Some(settings) = policy.guidance() else {
                anyhow::bail!(Fault::NoContinuation { family: policy.info().family.clone() });
            };
            policy.set_guidance(args.control.guided(settings)?)?;
        }
        Ok((Self::Here(Box::new(named)), PolicyThread::spawn(policy).context("starting the policy's thread")?))
    }
}

/// The fastest that the control loop may turn.
const FASTEST_HZ: u64 = 1000;

/// How long an episode takes where nobody judges it, seconds; as LeRobot's.
const EPISODE_S: u64 = 60;

const UNTOLD: &str =
    "rolling out: expected --instruction \"WHAT IT IS TO DO\" with --port, which is recorded with every frame, or --no-record";

/// What is rolled out on: a scenario of the simulator, or a robot behind its ports.
pub enum Setting {
    Simulator(Box<Scenario>),
    Hardware(Box<RobotDescription>),
}

impl Setting {
    fn of(args: &RolloutArgs) -> anyhow::Result<Self> {
        if args.hardware.port.is_empty() {
            let mut scenario = Scenario::of(&args.rig)?;
            args.compute.cameras.resize(&mut scenario.model.description)?;
            return Ok(Self::Simulator(Box::new(scenario)));
        }
        if !args.compute.cameras.camera_size.is_empty() {
            let why = "--camera-size is for the simulator's cameras; with --port give --camera NAME=…,WIDTHxHEIGHT, and resize=yes where it must be scaled";
            return Err(Misuse(why.to_owned()).into());
        }
        let robot = hardware::describe_unit(&args.rig.robot, &args.hardware, &args.camera)?;
        if args.leader.teleop.is_some() {
            led::check(&args.leader, &robot)?;
        }
        Ok(Self::Hardware(Box::new(robot)))
    }

    pub fn robot(&self) -> &RobotDescription {
        match self {
            Self::Simulator(scenario) => scenario.robot(),
            Self::Hardware(robot) => robot,
        }
    }

    /// What there is to run on, and the one who acts beside the policy.
    fn set_up(&self, args: &RolloutArgs, clock: &Arc<dyn Clock>) -> anyhow::Result<(Rig, Option<Human>)> {
        match self {
            Self::Simulator(scenario) => {
                let rig = scenario.simulate(!args.is_fast(), args.control.inference == InferenceMode::Sync)?;
                let human = match &args.leader.teleop {
                    None => None,
                    Some(Teleop::Scripted) => Some(rig.scripted(args.rig.seed)?),
                    Some(Teleop::Device(kind)) => Some(Human::with_device(kind, rig.robot.description(), Duration::ZERO, clock.clone())?),
                    Some(Teleop::Afar(name)) => Some(Human::from_afar(name, &args.leader, rig.robot.description(), clock)?),
                    Some(Teleop::Leader(name)) => {
                        anyhow::bail!(Misuse(format!(
                            "--teleop {name} leads a robot behind --port; expected scripted or a device in the simulator"
                        )))
                    }
                };
                Ok((rig, human))
            }
            Self::Hardware(robot) => {
                let scene = Self::as_it_is(args, robot)?;
                let (robot, priority) = ((**robot).clone(), args.control.realtime.request().priority);
                if args.leader.teleop.is_none() {
                    return Ok((Rig::of(hardware::connect(robot, &args.hardware, &args.camera, clock.clone())?, scene), None));
                }
                let (hardware, human) = led::connect(robot, &args.hardware, &args.camera, &args.leader, (priority, true), clock)?;
                Ok((Rig::of(hardware, scene), Some(human)))
            }
        }
    }

    /// The scene of `robot` behind its port, which nobody sets or judges.
    pub fn as_it_is(args: &RolloutArgs, robot: &RobotDescription) -> anyhow::Result<AsItIs> {
        let told = args.rig.told()?;
        anyhow::ensure!(args.no_record || told.is_some(), Misuse(UNTOLD.to_owned()));
        Ok(AsItIs { task: told.unwrap_or_default().to_owned(), ticks: EPISODE_S * u64::from(robot.control_rate_hz) })
    }

    /// An instruction of the user's own.
    fn instruction(&self) -> Option<String> {
        match self {
            Self::Simulator(scenario) => scenario.instruction.clone(),
            Self::Hardware(_) => None,
        }
    }

    /// How long the only episode takes, where there is one: 0 is without end.
    fn duration_s(&self, args: &RolloutArgs) -> Option<f64> {
        match self {
            // Nobody knows when a scene of the real world is done.
            Self::Hardware(_) if args.run.strategy == StrategyMode::Base => Some(args.run.seconds.unwrap_or(0.0)),
            _ => args.run.seconds,
        }
    }

    fn in_words(&self, args: &RolloutArgs) -> String {
        match (self, self.duration_s(args)) {
            (Self::Simulator(scenario), None) => {
                format!("{}, {} from seed {}", scenario.in_words(), text::plural(args.episodes(), "episode"), args.rig.seed)
            }
            (Self::Simulator(scenario), Some(0.0)) => format!("{}, until Ctrl-C, seed {}", scenario.in_words(), args.rig.seed),
            (Self::Simulator(scenario), Some(s)) => format!("{}, {s} s, seed {}", scenario.in_words(), args.rig.seed),
            (Self::Hardware(_), duration) => {
                let until = match duration {
                    None => format!("{} of {EPISODE_S} s", text::plural(args.episodes(), "episode")),
                    Some(0.0) => "until Ctrl-C".to_owned(),
                    Some(s) => format!("for {s} s"),
                };
                format!("{:?}, {until}", args.rig.told().ok().flatten().unwrap_or_default())
            }
        }
    }
}

/// What the system will grant the control thread, in a line, where something is asked for.
fn try_realtime(control: &LoopArgs) -> anyhow::Result<Option<Realtime>> {
    let request = control.realtime.request();
    let thread = std::thread::Builder::new().spawn(move || Realtime::ask(&request)).context("trying real-time scheduling")?;
    let realtime = thread.join().map_err(|_panic| anyhow::anyhow!("trying real-time scheduling: the thread panicked"))?;
    Ok(if realtime.asked.is_empty() { None } else { Some(realtime) })
}

/// Whoever sits at the desk, and what is printed of each episode.
struct Watching<'a> {
    desk: &'a Desk,
    args: &'a RolloutArgs,
    shown: &'a live::Stage,
    printing: anyhow::Result<()>,
}

impl Attendant for Watching<'_> {
    fn may_begin(&mut self, done: u64) -> bool {
        self.shown.begins_after(done);
        let may = !self.args.run.interactive || self.desk.wait_for_start();
        if may {
            self.desk.begins();
        }
        may
    }

    fn awaits_a_word(&self) -> bool {
        self.args.run.interactive
    }

    fn has_ended(&mut self) {
        self.desk.ended();
    }

    fn may_go_on(&mut self) -> bool {
        !self.desk.has_quit() && self.desk.wait_for_clearance() && self.printing.is_ok()
    }

    fn between(&mut self, moves: Option<&mut dyn FnMut() -> bool>) -> bool {
        self.desk.between(self.args.run.reset_s(), moves)
    }

    fn hear(&mut self, report: &EpisodeReport) {
        if self.args.json && self.printing.is_ok() {
            self.printing = text::print_json(report);
        }
        for left in &report.detached {
            text::note!("\nleft behind: {left}");
        }
    }
}
