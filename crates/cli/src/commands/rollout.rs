//! `sinew rollout`: a policy works a robot, and the run is recorded. What `sinew` does when told
//! nothing.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use sinew_core::{Clock, FrameSink, MockClock};
use sinew_policy::BoundPolicy;
use sinew_recorder::RerunView;
use sinew_runtime::{
    Cadence, EpisodeReport, EpisodeRequest, Inference, InferenceStats, Keep, Latency, MonotonicClock, PolicyThread, ReturnToRest, Session,
    SessionConfig, Source, StopFlag,
};

use crate::args::{InferenceMode, RolloutArgs};
use crate::live::LiveLine;
use crate::rig::Plan;
use crate::text::say;
use crate::{Done, recording, source, text, wilson};

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
    let threads = source::threads_beside_control(args.threads)?;
    let plan = Plan::of(&args.rig)?;
    let named = source::open(args.policy.as_deref(), args.device)?;
    let policy = BoundPolicy::bind(&named.checkpoint, plan.robot())?.with_threads(threads)?;
    let mut policy = PolicyThread::spawn(policy).context("starting the policy's thread")?;
    let mut rig = plan.simulate()?;
    let fps = plan.robot().control_rate_hz;

    let outputs = Outputs::of(args);
    let mut view = match (&outputs.rerun, &args.rerun_connect) {
        (Some(path), _) => Some(RerunView::to_file(path, plan.robot())?),
        (None, Some(address)) => Some(RerunView::connect(address, plan.robot())?),
        (None, None) => None,
    };
    let open = |root: &PathBuf| recording::open(root, plan.robot(), &args.recording, !args.fast);
    let mut recorder = outputs.dataset.as_ref().map(open).transpose().inspect_err(|_| {
        // Where one output is refused, no trace of the other is left.
        drop(view.take());
        let _ = outputs.rerun.as_ref().map(std::fs::remove_file);
    })?;
    let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
    sinks.extend(recorder.as_mut().map(|sink| sink as &mut dyn FrameSink));
    sinks.extend(view.as_mut().map(|sink| sink as &mut dyn FrameSink));

    if !args.json {
        say!("{}", named.banner(threads));
        let time = if args.fast { "as fast as the machine can" } else { "in real time" };
        say!("robot     {}, simulated, {fps} Hz, {time}, {:?} inference", plan.robot().title, args.inference);
        say!("task      {}, {} episodes from seed {}", plan.task.name(), args.episodes, args.rig.seed);
    }
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = if args.fast { Arc::new(MockClock::new()) } else { Arc::new(MonotonicClock::new()) };
    let config = SessionConfig {
        inference: match args.inference {
            InferenceMode::Sync => Inference::Sync,
            InferenceMode::Async => Inference::Async,
        },
        // On the clock that waits for nobody an answer comes two ticks after its question, about what
        // it takes on two cores: so a fast run is repeatable and still has a delay in it.
        latency: if args.fast && args.inference == InferenceMode::Async { Latency::ScriptedTicks(vec![2]) } else { Latency::Measured },
        keep: Keep::Finished,
        return_to_rest: ReturnToRest::WhenInterrupted,
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, clock, stop.clone());

    let mut reports = Vec::new();
    {
        let line = LiveLine::start(session.progress(), args.episodes, stop.clone());
        for attempt in 0..args.episodes {
            let request = EpisodeRequest { attempt, seed: args.rig.seed + attempt, task: plan.sentence.clone() };
            let report = session.run_episode(&request, &mut rig.robot, &mut rig.environment, Source::Policy(&mut policy), &mut sinks);
            if args.json {
                text::print_json(&report)?;
            }
            let ended = !report.faults.is_empty() || report.was_interrupted();
            reports.push(report);
            if ended || stop.is_requested() {
                break;
            }
        }
        drop(line);
    }
    if args.json {
        print_totals(&reports, &outputs)?;
    } else {
        print_table(&reports);
        print_cadence(&reports, args.fast);
        print_outputs(&outputs, args.rerun_connect.as_deref(), &reports);
    }
    if let Some(report) = reports.iter().find(|report| !report.faults.is_empty()) {
        let faults: Vec<String> = report.faults.iter().map(sinew_runtime::Fault::chain).collect();
        anyhow::bail!("rolling out episode {} (seed {}): {}", report.attempt, report.seed, faults.join("; then: "));
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

fn successes(reports: &[EpisodeReport]) -> u64 {
    reports.iter().filter(|report| report.is_success()).count() as u64
}

fn print_totals(reports: &[EpisodeReport], outputs: &Outputs) -> anyhow::Result<()> {
    let (done, total) = (successes(reports), reports.len() as u64);
    let (low, high) = wilson::interval(done, total);
    let (cadence, inference) = merged(reports);
    let line = serde_json::json!({
        "episodes": total, "successes": done, "success_rate_interval": [low, high], "cadence": cadence, "inference": inference,
        "dataset": outputs.dataset, "rerun": outputs.rerun,
    });
    text::print_json(&line)
}

fn merged(reports: &[EpisodeReport]) -> (Cadence, InferenceStats) {
    let (mut cadence, mut inference) = (Cadence::default(), InferenceStats::default());
    for report in reports {
        cadence.merge(&report.cadence);
        inference.merge(&report.inference);
    }
    (cadence, inference)
}

fn print_table(reports: &[EpisodeReport]) {
    let mut rows = vec![["episode", "seed", "task", "result", "ticks", "limited", "starved", "missed"].map(str::to_owned).to_vec()];
    for report in reports {
        let result = serde_json::to_value(report.outcome).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        rows.push(vec![
            (report.attempt + 1).to_string(),
            report.seed.to_string(),
            report.task.clone(),
            report.reason.as_ref().map_or_else(|| result.clone(), |reason| format!("{result}: {reason}")),
            report.ticks.to_string(),
            report.interventions.total().to_string(),
            report.starved_ticks.to_string(),
            report.missed_ticks.to_string(),
        ]);
    }
    let (done, total) = (successes(reports), reports.len() as u64);
    let (low, high) = wilson::interval(done, total);
    say!("\n{}", text::table(&rows));
    say!("success   {done} of {total} (95 % interval {:.0} to {:.0} %)", low * 1e2, high * 1e2);
}

fn print_cadence(reports: &[EpisodeReport], fast: bool) {
    let (cadence, inference) = merged(reports);
    let ms = |ns: u64| ns as f64 * 1e-6;
    if !fast {
        let late = cadence.lateness.stats();
        say!(
            "cadence   {:.2} of {:.0} Hz over {} ticks; late by {:.3} ms (median), {:.3} (p99), {:.3} (p99.9), {:.3} (max)",
            cadence.achieved_rate_hz,
            cadence.target_rate_hz,
            cadence.ticks,
            ms(late.p50_ns),
            ms(late.p99_ns),
            ms(late.p999_ns),
            ms(late.max_ns)
        );
    }
    let compute = inference.compute.stats();
    say!(
        "inference {} chunks, {:.1} ms each (median), {:.1} (p99), {:.1} (max)",
        compute.count,
        ms(compute.p50_ns),
        ms(compute.p99_ns),
        ms(compute.max_ns)
    );
}

fn print_outputs(outputs: &Outputs, connected: Option<&str>, reports: &[EpisodeReport]) {
    if let Some(root) = &outputs.dataset {
        let kept = reports.iter().filter(|report| report.kept).count();
        say!("dataset   {} ({kept} episodes)\n            sinew dataset info {0}", root.display());
        say!("            lerobot-dataset-viz --repo-id local/rollout --root {} --episode-index 0", root.display());
    }
    if let Some(path) = &outputs.rerun {
        say!("recording {}\n            rerun {0}", path.display());
        say!("            (the viewer: cargo install rerun-cli --locked, or pip install rerun-sdk)");
    }
    if let Some(address) = connected {
        say!("recording streamed to {address}");
    }
}
