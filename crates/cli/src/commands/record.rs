//! `sinew record`

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sinew_core::{Clock, MockClock};
use sinew_recorder::DatasetRecorder;
use sinew_runtime::{
    Attendant, Counts, EpisodeOutcome, EpisodeReport, Keep, MonotonicClock, ReturnToRest, Selection, Series, Session, SessionConfig, Stage,
    StopFlag, Strategy,
};

use crate::args::RecordArgs;
use crate::desk::Desk;
use crate::rig::Scenario;
use crate::text::{note, say};
use crate::{Done, live, recording, standby, text};

pub fn run(args: &RecordArgs) -> anyhow::Result<Done> {
    anyhow::ensure!(args.episodes > 0, "recording: --episodes is 0, expected at least 1");
    let scenario = Scenario::of(&args.rig)?;
    let mut rig = scenario.simulate(args.real_time)?;
    let mut human = rig.teleoperator(args.teleop, args.rig.seed)?;
    let mut recorder = recording::open(&args.out, scenario.robot(), &args.recording, args.real_time, false)?;
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
    let first = first_seed(args, &recorder)?;
    let bar = ProgressBar::with_draw_target(
        Some(args.episodes),
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    )
    .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} episodes, {msg}, {eta} left")?);
    live::leave_when_abandoned(session.progress(), stop.clone());
    let mut selection = Selection::new(Strategy::Whole, &mut recorder, session.operator());
    let series = Series {
        counts: Counts::Kept,
        most_failures: args.episodes / 2 + 10,
        task: scenario.sentence.clone(),
        ..Series::of(args.episodes, first)
    };
    let stage = Stage {
        robot: &mut *rig.robot,
        cameras: &mut *rig.cameras,
        environment: &mut *rig.environment,
        policy: None,
        human: Some(&mut human),
        recorder: Some(&mut selection),
        viewer: None,
    };
    let mut attendant = Watching { desk: &desk, bar: &bar, failed: 0 };
    let end = session.run_series(&series, stage, &mut attendant);
    drop(keys);
    bar.finish_and_clear();
    let end = end.with_context(|| format!("recording to {}", args.out.display()))?;
    let (kept, failed) = (end.done, end.failed);
    // A recording that broke is the first thing to say; what was committed is whole all the same.
    if let Some((report, fault)) = end.reports.iter().find_map(|report| Some((report, report.faults.first()?))) {
        let fault = anyhow::anyhow!("recording episode {kept} (seed {}): {}", report.seed, fault.chain());
        return Err(fault.context(format!("recording to {}: stopped; {kept} episodes are committed and whole", args.out.display())));
    }
    let totals = recorder.totals();
    let interrupted = stop.is_requested();
    let dir = args.out.display();
    if args.json {
        text::print_json(&serde_json::json!({
            "task": scenario.task.name(), "root": args.out, "total_episodes": totals.episodes, "total_frames": totals.frames,
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
    standby::say_why_it_ended(&stop);
    Ok(if interrupted { Done::Interrupted } else { Done::Ok })
}

/// Whoever sits at the desk, and the bar that shows how far the recording is.
struct Watching<'a> {
    desk: &'a Desk,
    bar: &'a ProgressBar,
    failed: u64,
}

impl Attendant for Watching<'_> {
    fn may_begin(&mut self) -> bool {
        !self.desk.has_quit() && self.desk.wait_for_clearance()
    }

    fn has_ended(&mut self) {
        self.desk.ended();
    }

    fn hear(&mut self, report: &EpisodeReport) {
        if report.kept {
            self.bar.inc(1);
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
            note!("{} has scenes up to seed {last}; going on with seed {next}", args.out.display());
            next
        }
        _ => args.rig.seed,
    })
}
