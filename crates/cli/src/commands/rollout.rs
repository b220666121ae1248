//! `sinew rollout`: a policy works a robot, and the run is recorded. What `sinew` does when told
//! nothing.

mod report;
mod reset;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use sinew_core::{Clock, Environment, FrameSink, MockClock, Policy, RobotDescription, Teleoperator};
use sinew_policy::BoundPolicy;
use sinew_recorder::RerunView;
use sinew_runtime::{
    EpisodeOutcome, EpisodeReport, EpisodeRequest, Fault, Inference, Keep, MonotonicClock, PolicyThread, Realtime, ReturnToRest, Selection,
    Session, SessionConfig, Source, StopFlag, StopLevel, Watchdog,
};

use crate::args::{LoopArgs, RolloutArgs, StrategyMode, TeleopKind};
use crate::desk::{COMMANDS, Desk};
use crate::live::LiveLine;
use crate::rig::{Endless, Plan};
use crate::text::say;
use crate::{Done, recording, source, text};

/// Where the run goes.
struct Outputs {
    dataset: Option<PathBuf>,
    rerun: Option<PathBuf>,
}

impl Outputs {
    fn of(args: &RolloutArgs) -> Self {
        let folder = text::next_free("outputs", "rollout-", "");
        let choose = |given: &Option<PathBuf>, refused: bool, name: &str| {
            if refused { None } else { Some(given.clone().unwrap_or_else(|| folder.join(name))) }
        };
        Self {
            dataset: choose(&args.record, args.no_record, "dataset"),
            rerun: choose(&args.rerun, args.no_rerun || args.rerun_connect.is_some(), "rollout.rrd"),
        }
    }
}

pub fn run(args: &RolloutArgs) -> anyhow::Result<Done> {
    anyhow::ensure!(args.episodes > 0, "rolling out: --episodes is 0, expected at least 1");
    anyhow::ensure!(!args.recording.resume || args.record.is_some(), "rolling out: --resume goes on with a dataset; name it with --record");
    let threads = source::threads_beside_control(args.compute.threads)?;
    let plan = Plan::of(&args.rig)?;
    let named = source::open(args.policy.as_deref(), &args.compute)?;
    let mut policy = BoundPolicy::bind(&named.checkpoint, plan.robot())?.with_threads(threads)?;
    let mode = args.run.strategy;
    let config = SessionConfig {
        keep: if matches!(mode, StrategyMode::Base | StrategyMode::Episodic) { Keep::Finished } else { Keep::Everything },
        return_to_rest: if mode == StrategyMode::Episodic { ReturnToRest::Always } else { ReturnToRest::WhenInterrupted },
        ..args.control.session(args.fast)
    };
    if config.inference == Inference::Rtc {
        let Some(settings) = policy.guidance() else {
            anyhow::bail!(Fault::NoContinuation { family: policy.info().family.clone() });
        };
        policy.set_guidance(args.control.guided(settings)?)?;
    }
    let loss = named.quantization_loss()?;
    let mut policy = PolicyThread::spawn(policy).context("starting the policy's thread")?;
    anyhow::ensure!(
        mode != StrategyMode::Dagger || args.run.teleop.is_some() && !args.no_record,
        "rolling out: dagger records what somebody does who takes over; say who by --teleop, and leave out --no-record"
    );
    let mut rig = plan.simulate()?;
    let mut human = args.run.teleop.map(|TeleopKind::Scripted| plan.task.teleoperator(rig.world.clone(), args.rig.seed));
    let fps = plan.robot().control_rate_hz;

    let outputs = Outputs::of(args);
    let mut view = match (&outputs.rerun, &args.rerun_connect) {
        (Some(path), _) => Some(RerunView::to_file(path, plan.robot())?),
        (None, Some(address)) => Some(RerunView::connect(address, plan.robot())?),
        (None, None) => None,
    };
    let open = |root: &PathBuf| recording::open(root, plan.robot(), &args.recording, !args.fast, mode == StrategyMode::Dagger);
    let mut recorder = outputs.dataset.as_ref().map(open).transpose().inspect_err(|_| {
        // Where one output is refused, no trace of the other is left.
        drop(view.take());
        let _ = outputs.rerun.as_ref().map(std::fs::remove_file);
    })?;
    let stop = StopFlag::new();
    let clock: Arc<dyn Clock> = if args.fast { Arc::new(MockClock::new()) } else { Arc::new(MonotonicClock::new()) };
    let mut session = Session::new(config, clock, stop.clone());
    let mut selection = recorder.as_mut().map(|recorder| {
        let selection = Selection::new(args.run.selection(plan.robot()), recorder, session.operator());
        match mode {
            StrategyMode::Dagger => selection.until(args.episodes),
            StrategyMode::Episodic => selection.deferring(),
            _ => selection,
        }
    });
    let committed = selection.as_ref().map(Selection::committed).unwrap_or_default();

    // From here on a signal is a wish like any other; what is begun is ended in order, the terminal's mode too.
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    tracing::info!("listening to signals");
    let desk = Desk::new(session.operator(), stop.clone(), Some(mode));
    // In a fast run there is nobody to press one.
    let keys = if args.run.interactive || args.fast { None } else { desk.hear_keys()? };
    if args.run.interactive {
        desk.hear_commands()?;
    }
    if let Some(pedal) = &args.run.pedal {
        desk.hear_pedal(pedal)?;
    }
    if !args.json {
        say!("{}", named.banner(threads));
        if let Some(loss) = &loss {
            say!("accuracy  {loss} (blank inputs)");
        }
        let time = if args.fast { "as fast as the machine can" } else { "in real time" };
        say!("robot     {}, simulated, {fps} Hz, {time}, {:?} inference", plan.robot().title, args.control.inference);
        if let Some(realtime) = try_realtime(&args.control)? {
            say!("realtime  {realtime}");
        }
        if mode != StrategyMode::Base {
            say!("strategy  {mode:?}");
        }
        if args.run.interactive {
            say!("commands  {COMMANDS}");
        } else if keys.is_some() {
            say!("keys      {}", desk.legend());
        }
        say!("task      {}, {} episodes from seed {}", plan.task.name(), args.episodes, args.rig.seed);
    }
    let watchdog = if args.control.realtime { Some(watch(plan.robot(), &session, &stop, &args.control)?) } else { None };

    let line = LiveLine::start(session.progress(), args.episodes, stop.clone());
    let mut reports: Vec<EpisodeReport> = Vec::new();
    let (mut attempt, mut scene, mut done) = (0, 0, 0);
    let wanted = if args.run.duration.is_some() { 1 } else { args.episodes };
    while done < wanted && (!args.run.interactive || desk.wait_for_start()) {
        let task = session.operator().task().or_else(|| plan.sentence.clone());
        let request = EpisodeRequest { attempt, seed: args.rig.seed + scene, task };
        attempt += 1;
        let source = match &mut human {
            Some(human) => Source::Supervised(&mut policy, &mut **human),
            None => Source::Policy(&mut policy),
        };
        let mut endless;
        let environment: &mut dyn Environment = match args.run.duration {
            Some(seconds) => {
                endless = Endless::new(&mut rig.environment, seconds, fps);
                &mut endless
            }
            None => &mut rig.environment,
        };
        let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
        sinks.extend(selection.as_mut().map(|sink| sink as &mut dyn FrameSink));
        sinks.extend(view.as_mut().map(|sink| sink as &mut dyn FrameSink));
        let mut report = session.run_episode(&request, &mut rig.robot, environment, source, &mut sinks);
        desk.ended();
        // What the human wants to have again, and what an emergency broke off, doesn't count.
        let mut again = report.outcome == EpisodeOutcome::Dropped || stop.level() == StopLevel::Emergency;
        let mut goes_on = report.faults.is_empty() && !desk.has_quit() && desk.wait_for_clearance();
        if mode == StrategyMode::Episodic && goes_on && (again || done + 1 < wanted) {
            let human = human.as_mut().map(|human| &mut **human as &mut dyn Teleoperator);
            let reset = reset::reset(&mut session, &mut rig, human, &desk, (args.run.reset_time, fps));
            let faults = reset.report.map(|report| report.faults).unwrap_or_default();
            goes_on = faults.is_empty() && !desk.has_quit() && desk.wait_for_clearance();
            report.faults.extend(faults);
            if reset.again && !again {
                (again, report.outcome, report.kept) = (true, EpisodeOutcome::Dropped, false);
            }
        }
        if let Some(selection) = &mut selection {
            selection.settle(!again).with_context(|| format!("rolling out episode {} (seed {})", report.attempt, report.seed))?;
        }
        if args.json {
            text::print_json(&report)?;
        }
        reports.push(report);
        scene += u64::from(!again);
        done = if mode == StrategyMode::Dagger { committed.load(Relaxed) } else { done + u64::from(!again) };
        if !goes_on || args.run.duration.is_some() && !again {
            break;
        }
    }
    drop(line);
    drop(watchdog);
    drop(keys);
    let recorded = committed.load(Relaxed);
    if args.json {
        report::print_totals(&reports, &outputs, recorded, loss)?;
    } else {
        report::print_table(&reports);
        report::print_cadence(&reports, args.fast);
        report::print_outputs(&outputs, args.rerun_connect.as_deref(), recorded);
    }
    if let Some(report) = reports.iter().find(|report| !report.faults.is_empty()) {
        let faults: Vec<String> = report.faults.iter().map(Fault::chain).collect();
        anyhow::bail!("rolling out episode {} (seed {}): {}", report.attempt, report.seed, faults.join("; then: "));
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// What the system will grant the control thread, in a line, where something is asked for.
fn try_realtime(control: &LoopArgs) -> anyhow::Result<Option<Realtime>> {
    let request = control.realtime();
    let thread = std::thread::Builder::new().spawn(move || Realtime::ask(&request)).context("trying real-time scheduling")?;
    let realtime = thread.join().map_err(|_panic| anyhow::anyhow!("trying real-time scheduling: the thread panicked"))?;
    Ok(if realtime.asked.is_empty() { None } else { Some(realtime) })
}

/// Starts this program once more, to stand by.
fn watch(robot: &RobotDescription, session: &Session, stop: &StopFlag, control: &LoopArgs) -> anyhow::Result<Watchdog> {
    let program = std::env::current_exe().context("starting the watchdog: finding this program")?;
    // Below the control thread, which nothing of ours is to keep waiting.
    let priority = control.realtime().priority.map(|priority| priority.saturating_sub(1).max(1));
    let mut command = Command::new(program);
    command.args(["watchdog", &robot.name]).args(priority.map(|priority| format!("--fifo={priority}")));
    Watchdog::start(&mut command, session.progress(), stop.clone(), priority).context("starting the watchdog")
}
