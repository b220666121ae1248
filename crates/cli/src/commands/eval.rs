//! `sinew eval`: many seeded episodes, as fast as the machine can.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use sinew_core::{Image, MockClock};
use sinew_policy::{BoundPolicy, Together};
use sinew_runtime::{
    EpisodeReport, EpisodeRequest, Inference, InferenceStats, Latency, PolicyThread, ReturnToRest, Rig, Session, SessionConfig, Source,
    StopFlag,
};

use crate::args::{EvalArgs, EvalInference, InferenceMode, fast_latency};
use crate::contact_sheet::Picture;
use crate::rig::Scenario;
use crate::text::{Claim, say};
use crate::{Done, contact_sheet, live, locale, source, text, wilson};

/// One line of `--json`.
#[derive(Serialize)]
struct EpisodeLine<'a> {
    seed: u64,
    success: bool,
    ticks: u64,
    action_hash: String,
    state_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The last line of `--json`.
#[derive(Serialize)]
struct TotalsLine<'a> {
    task: &'a str,
    policy: &'a str,
    /// Of a policy of the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    episodes: u64,
    successes: u64,
    success_rate: f64,
    /// Wilson, 95 %.
    success_rate_interval: [f64; 2],
    mean_ticks: f64,
    inference_ms_p50: f64,
    wall_s: f64,
    contact_sheet: PathBuf,
}

struct Finished {
    report: EpisodeReport,
    last_image: Image,
}

impl Finished {
    fn picture(&self) -> Picture {
        Picture { image: self.last_image.clone(), is_success: self.report.is_success(), seed: self.report.seed }
    }
}

pub fn run(args: &EvalArgs) -> anyhow::Result<Done> {
    if let Some(sheet) = &args.contact_sheet {
        anyhow::ensure!(
            args.force || !sheet.exists(),
            "evaluating into {}: there is a file already; expected another --contact-sheet, or --force",
            sheet.display()
        );
    }
    let mut scenario = Scenario::of(&args.rig)?;
    args.compute.cameras.resize(&mut scenario.model.description)?;
    let threads = source::threads_beside_others(args.compute.threads);
    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .clamp(1, args.episodes as usize);
    // Those who are answered together share them.
    source::set_threads(Some(jobs * threads))?;
    let named = source::open(args.policy.as_deref(), &args.compute)?;
    // Bound once here, so that a policy that doesn't fit is said before anything runs.
    let bound = BoundPolicy::bind(&named.checkpoint, scenario.robot())?;
    // From here on the file is this run's: another that begins meanwhile takes the next number.
    let claim = if args.contact_sheet.is_none() { Some(Claim::file("outputs", "eval-", ".png")?) } else { None };
    let sheet = args.contact_sheet.clone().or_else(|| Some(claim.as_ref()?.path().to_owned())).unwrap_or_default();
    contact_sheet::make_room(&sheet)?;
    if !args.json {
        say!("{}", named.banner(jobs * threads));
        let other = if args.inference == EvalInference::Sync { "; `sinew rollout` uses async" } else { "" };
        say!("inference {}{other}", InferenceMode::from(args.inference).explained());
        let episodes = text::plural(args.episodes, "episode");
        say!("task      {}, {episodes} from seed {}, {jobs} at once", scenario.in_words(), args.rig.seed);
        if args.policy.is_none() {
            scenario.warn_of_demonstration();
        }
    }
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let bar = ProgressBar::with_draw_target(
        Some(args.episodes),
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    )
    .with_style(locale::bar("{wide_bar} {pos}/{len} episodes, {msg}, {eta} left"))
    .with_message("0 succeeded");
    let mut told = Instant::now();

    // Of two, each would wait for the other.
    let policy = if jobs > 2 { bound.with_others(&Arc::new(Together::new(&named.checkpoint, jobs)?)) } else { bound };
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut finished = BTreeMap::new();
    let worked = std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                let (scenario, policy, stop, next, sender) = (&scenario, policy.clone(), stop.clone(), &next, sender.clone());
                scope.spawn(move || work(scenario, policy, (args, threads), &stop, next, &sender))
            })
            .collect();
        drop(sender);
        let mut printed = 0;
        let mut successes = 0;
        for (attempt, episode) in receiver {
            let episode: Finished = episode;
            successes += u64::from(episode.report.is_success());
            bar.inc(1);
            bar.set_message(format!("{successes} succeeded"));
            // Where no bar can be drawn, a line now and then.
            if bar.is_hidden() && !args.json && told.elapsed() >= live::PLAIN {
                told = Instant::now();
                text::note!("{} of {} episodes, {successes} succeeded", bar.position(), args.episodes);
            }
            finished.insert(attempt, episode);
            // In the order of seeds, whoever was faster.
            while let Some(episode) = args.json.then(|| finished.get(&printed)).flatten() {
                text::print_json(&EpisodeLine::of(&episode.report))?;
                printed += 1;
            }
        }
        for worker in workers {
            worker.join().map_err(|_panic| anyhow::anyhow!("evaluating: a worker panicked"))??;
        }
        Ok(())
    });
    bar.finish_and_clear();
    worked?;
    let wall_s = start.elapsed().as_secs_f64();
    if stop.is_requested() {
        text::note!("interrupted after {} of {} episodes; no rate is reported for a part", finished.len(), args.episodes);
        return Ok(Done::Interrupted);
    }

    let mut inference = InferenceStats::default();
    let (mut successes, mut ticks) = (0, 0);
    for Finished { report, .. } in finished.values() {
        successes += u64::from(report.is_success());
        ticks += report.ticks;
        inference.merge(&report.inference);
        if let Some(fault) = report.faults.first() {
            anyhow::bail!("evaluating {} with seed {}: {}", scenario.task.name(), report.seed, fault.chain());
        }
    }
    let images: Vec<Picture> = finished.values().map(Finished::picture).collect();
    // The figures are told all the same.
    let written = contact_sheet::write(&sheet, &images);

    let (low, high) = wilson::interval(successes, args.episodes);
    let rate = successes as f64 / args.episodes as f64;
    let mean_ticks = ticks as f64 / args.episodes as f64;
    let inference_ms_p50 = inference.compute.stats().p50_ns as f64 * 1e-6;
    if args.json {
        text::print_json(&TotalsLine {
            task: scenario.task.name(),
            policy: &named.name,
            commit: named.commit.as_deref(),
            episodes: args.episodes,
            successes,
            success_rate: rate,
            success_rate_interval: [low, high],
            mean_ticks,
            inference_ms_p50,
            wall_s,
            contact_sheet: sheet,
        })?;
        return written.map(|()| Done::Ok);
    }
    say!(
        "success   {successes} of {} = {:.1} % (95 % interval {:.1} to {:.1} %, Wilson)",
        args.episodes,
        rate * 1e2,
        low * 1e2,
        high * 1e2
    );
    say!("episodes  {mean_ticks:.0} ticks on average; {inference_ms_p50:.1} ms an inference (median); {wall_s:.1} s in all");
    let failed: Vec<String> =
        finished.values().filter(|episode| !episode.report.is_success()).map(|episode| episode.report.seed.to_string()).collect();
    if !failed.is_empty() {
        say!("failed    seeds {}", failed.join(", "));
    }
    written?;
    say!("pictures  {} (each episode's last image with its seed, failures framed red)", sheet.display());
    Ok(Done::Ok)
}

/// Runs episodes until there are none left; each worker has a world and a policy of its own.
fn work(
    scenario: &Scenario,
    policy: BoundPolicy,
    (args, threads): (&EvalArgs, usize),
    stop: &StopFlag,
    next: &AtomicU64,
    finished: &mpsc::Sender<(u64, Finished)>,
) -> anyhow::Result<()> {
    let mut rig = scenario.simulate(false, false)?;
    let mut policy = PolicyThread::spawn(policy.with_threads(threads)?).context("starting a policy's thread")?;
    let config = SessionConfig {
        inference: match args.inference {
            EvalInference::Sync => Inference::Sync,
            EvalInference::Async => Inference::Async,
        },
        latency: match args.inference {
            EvalInference::Sync => Latency::Measured,
            EvalInference::Async => fast_latency(),
        },
        return_to_rest: ReturnToRest::Never,
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, Arc::new(MockClock::new()), stop.clone());
    loop {
        let attempt = next.fetch_add(1, Ordering::Relaxed);
        if attempt >= args.episodes || stop.is_requested() {
            return Ok(());
        }
        let request = EpisodeRequest { attempt, seed: args.rig.seed + attempt, task: scenario.instruction.clone() };
        let report = session.run_episode(
            &request,
            Rig { robot: &mut *rig.robot, cameras: &mut *rig.cameras.cameras, environment: &mut *rig.environment },
            Source::Policy(&mut policy),
            &mut [],
        );
        if report.was_interrupted() {
            return Ok(());
        }
        let last_image = rig.look()?.into_iter().next().context("evaluating: the robot has no camera to make pictures with")?;
        // The receiver goes first only when printing failed; then nobody wants the rest.
        if finished.send((attempt, Finished { report, last_image })).is_err() {
            return Ok(());
        }
    }
}

impl<'a> EpisodeLine<'a> {
    fn of(report: &'a EpisodeReport) -> Self {
        Self {
            seed: report.seed,
            success: report.is_success(),
            ticks: report.ticks,
            action_hash: format!("{:016x}", report.action_hash),
            state_hash: format!("{:016x}", report.state_hash),
            reason: report.reason.as_deref(),
        }
    }
}
