//! `sinew record`

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sinew_core::{Clock, FrameSink, MockClock};
use sinew_recorder::DatasetRecorder;
use sinew_runtime::{EpisodeOutcome, EpisodeRequest, Keep, MonotonicClock, ReturnToRest, Session, SessionConfig, Source, StopFlag};

use crate::args::{RecordArgs, TeleopKind};
use crate::desk::Desk;
use crate::rig::Plan;
use crate::text::{note, say};
use crate::{Done, recording, text};

pub fn run(args: &RecordArgs) -> anyhow::Result<Done> {
    anyhow::ensure!(args.episodes > 0, "recording: --episodes is 0, expected at least 1");
    let plan = Plan::of(&args.rig)?;
    let mut rig = plan.simulate()?;
    let TeleopKind::Scripted = args.teleop;
    let mut teleoperator = plan.task.teleoperator(rig.world.clone(), args.rig.seed);
    let mut recorder = recording::open(&args.out, plan.robot(), &args.recording, args.real_time, false)?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    tracing::info!("listening to signals");
    let clock: Arc<dyn Clock> = if args.real_time { Arc::new(MonotonicClock::new()) } else { Arc::new(MockClock::new()) };
    let config = SessionConfig { keep: Keep::Successes, return_to_rest: ReturnToRest::WhenInterrupted, ..SessionConfig::default() };
    let mut session = Session::new(config, clock, stop.clone());

    let desk = Desk::new(session.operator(), stop.clone(), None);
    // In a fast recording there is nobody to press one.
    let keys = if args.real_time { desk.hear_keys()? } else { None };
    if keys.is_some() && !args.json {
        say!("keys      {}", desk.legend());
    }
    let first = first_seed(args, &recorder);
    let bar = ProgressBar::with_draw_target(
        Some(args.episodes),
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    )
    .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} episodes, {msg}, {eta} left")?);
    let (mut kept, mut failed, mut attempt, mut scene) = (0, 0, 0, 0);
    // More failures than this and something is wrong with the setting, not with the luck.
    let most_failures = args.episodes / 2 + 10;
    let mut fault = None;
    while kept < args.episodes && failed <= most_failures && !desk.has_quit() && desk.wait_for_clearance() {
        let request = EpisodeRequest { attempt, seed: first + scene, task: plan.sentence.clone() };
        attempt += 1;
        let sinks: &mut [&mut dyn FrameSink] = &mut [&mut recorder];
        let report = session.run_episode(&request, &mut rig.robot, &mut rig.environment, Source::Teleoperator(&mut *teleoperator), sinks);
        if let Some(first) = report.faults.into_iter().next() {
            fault = Some(anyhow::anyhow!("recording episode {kept} (seed {}): {}", report.seed, first.chain()));
            break;
        }
        if report.kept {
            kept += 1;
            bar.inc(1);
        } else if report.outcome == EpisodeOutcome::Failure {
            failed += 1;
            tracing::warn!(seed = report.seed, reason = report.reason, "an episode failed and is kept out");
        }
        // What the human wants to have again, and what an emergency broke off, is done again.
        scene += u64::from(report.kept || report.outcome == EpisodeOutcome::Failure);
        bar.set_message(format!("{failed} failed"));
    }
    drop(keys);
    bar.finish_and_clear();
    // A recording that broke is the first thing to say; what was committed is whole all the same.
    if let Some(fault) = fault {
        return Err(fault.context(format!("recording to {}: stopped; {kept} episodes are committed and whole", args.out.display())));
    }
    let totals = recorder.totals();
    let interrupted = stop.is_requested();
    let dir = args.out.display();
    if args.json {
        text::print_json(&serde_json::json!({
            "task": plan.task.name(), "root": args.out, "total_episodes": totals.episodes, "total_frames": totals.frames,
            "failed_episodes": failed, "interrupted": interrupted,
        }))?;
    } else {
        say!("{} episodes, {} frames in {dir}; {failed} failed and were kept out", totals.episodes, totals.frames);
        say!("  sinew dataset info {dir}");
    }
    anyhow::ensure!(
        interrupted || desk.has_quit() || kept == args.episodes,
        "recording to {dir}: gave up after {failed} failed episodes, with {kept} of {} recorded",
        args.episodes
    );
    Ok(if interrupted { Done::Interrupted } else { Done::Ok })
}

/// The seed of the first scene. Scenes that the dataset has are not recorded once more: the same seed is the same
/// scene to the last bit.
fn first_seed(args: &RecordArgs, recorder: &DatasetRecorder) -> u64 {
    match recorder.highest_seed() {
        Some(last) if last >= args.rig.seed => {
            let next = last.saturating_add(1);
            note!("{} has scenes up to seed {last}; going on with seed {next}", args.out.display());
            next
        }
        _ => args.rig.seed,
    }
}
