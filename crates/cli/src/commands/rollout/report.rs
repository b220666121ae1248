//! What a rollout says at its end.

use sinew_runtime::{Cadence, EpisodeReport, Fault, InferenceStats};

use super::Outputs;
use crate::buses::BusReport;
use crate::cameras::CameraReport;
use crate::remote::Acts;
use crate::text::say;
use crate::{text, wilson};

/// How many succeeded, of how many that came to a judgement.
fn judged(reports: &[EpisodeReport]) -> (u64, u64) {
    let count = |is: fn(&EpisodeReport) -> bool| reports.iter().filter(|report| is(report)).count() as u64;
    (count(EpisodeReport::is_success), count(EpisodeReport::is_judged))
}

pub(super) fn print_totals(
    named: &Acts,
    reports: &[EpisodeReport],
    outputs: &Outputs,
    recorded: u64,
    buses: Option<BusReport>,
    cameras: &CameraReport,
) -> anyhow::Result<()> {
    let (done, judged) = judged(reports);
    let (low, high) = wilson::interval(done, judged);
    let (cadence, inference) = merged(reports);
    let line = serde_json::json!({
        "policy": named.name(), "commit": named.commit(), "link": named.link(), "episodes": reports.len(), "judged_episodes": judged, "successes": done, "success_rate_interval": [low, high], "cadence": cadence, "inference": inference,
        "dataset": outputs.dataset, "recorded_episodes": recorded, "rerun": outputs.rerun,
        "motors": buses, "cameras": cameras,
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

/// What the columns count, for whoever sees a number there.
const COLUMNS: [(&str, &str); 3] = [
    ("limited", "commands that the safety gate made smaller"),
    ("starved", "ticks for which the policy had sent no action"),
    ("missed", "ticks left out because the loop was late"),
];

/// `is_recorded` says whether there is a dataset.
pub(super) fn print_table(reports: &[EpisodeReport], is_recorded: bool) {
    let mut rows = vec![["episode", "seed", "result", "ticks", "limited", "starved", "missed"].map(str::to_owned).to_vec()];
    let mut more = Vec::new();
    let mut counted = [0; COLUMNS.len()];
    for (i, report) in reports.iter().enumerate() {
        let result = serde_json::to_value(report.outcome).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let episode = i + 1;
        let counts = [u64::from(report.interventions.total()), report.starved_ticks, report.missed_ticks];
        counted.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        let start = [episode.to_string(), report.seed.to_string(), result, report.ticks.to_string()];
        rows.push(start.into_iter().chain(counts.map(|count| count.to_string())).collect());
        more.extend(report.reason.as_ref().map(|reason| format!("episode {episode}: {reason}")));
        if is_recorded && report.was_interrupted() && !report.kept {
            more.push(format!("episode {episode}: it was interrupted, so it is not in the dataset"));
        }
    }
    if reports.is_empty() {
        say!("no episode was run");
        return;
    }
    say!("{}", text::table(&rows).trim_end());
    more.iter().for_each(|line| say!("  {line}"));
    let explained = COLUMNS.iter().zip(counted).filter(|(_, count)| *count > 0);
    explained.for_each(|((column, means), _)| say!("  {column}: {means}"));
    say!("");
    tasks(reports).iter().for_each(|task| say!("task      {task}"));
    let (done, judged) = judged(reports);
    // Where nobody judges, nothing succeeds or fails.
    if judged > 0 {
        let (low, high) = wilson::interval(done, judged);
        let others = reports.len() as u64 - judged;
        let others = if others == 0 { String::new() } else { format!("; {} ended early, not counted", text::plural(others, "episode")) };
        say!("success   {done} of {judged} (95 % interval {:.0} to {:.0} %){others}", low * 1e2, high * 1e2);
    }
}

/// The instructions, with the episodes that had each where there are several.
fn tasks(reports: &[EpisodeReport]) -> Vec<String> {
    let mut runs: Vec<(&str, usize, usize)> = Vec::new();
    for (i, report) in reports.iter().enumerate() {
        match runs.last_mut().filter(|(task, ..)| *task == report.task) {
            Some((_, _, last)) => *last = i,
            None => runs.push((&report.task, i, i)),
        }
    }
    let one = runs.len() == 1;
    let told = runs.iter().filter(|(task, ..)| !task.is_empty()).map(|(task, first, last)| match (one, first == last) {
        (true, _) => (*task).to_owned(),
        (false, true) => format!("episode {}: {task}", first + 1),
        (false, false) => format!("episodes {} to {}: {task}", first + 1, last + 1),
    });
    told.collect()
}

/// What was wrong with an episode is the error of what was `doing`.
pub fn fail_on_faults(report: &EpisodeReport, doing: impl FnOnce() -> String) -> anyhow::Result<()> {
    let faults: Vec<String> = report.faults.iter().map(Fault::chain).collect();
    anyhow::ensure!(faults.is_empty(), "{}: {}", doing(), faults.join("; then: "));
    Ok(())
}

/// How a control thread kept its time.
pub fn print_lateness(cadence: &Cadence) {
    let ms = |ns: u64| ns as f64 * 1e-6;
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
    let parts = cadence.parts.by_name().map(|(name, part)| format!("{name} {:.3}", ms(part.stats().p99_ns)));
    let cpu_us =
        cadence.cpu_ns.map_or(String::new(), |ns| format!(", {:.0} us of CPU time a tick", ns as f64 * 1e-3 / cadence.ticks.max(1) as f64));
    say!("parts     {} ms (p99 of each){cpu_us}; {} longer than the period", parts.join(", "), text::plural(cadence.overruns, "tick"));
}

pub(super) fn print_cadence(reports: &[EpisodeReport], fast: bool) {
    let (cadence, inference) = merged(reports);
    if !fast {
        print_lateness(&cadence);
    }
    let ms = |ns: u64| ns as f64 * 1e-6;
    let compute = inference.compute.stats();
    say!(
        "inference {} chunks, {:.1} ms each (median), {:.1} (p99), {:.1} (max)",
        compute.count,
        ms(compute.p50_ns),
        ms(compute.p99_ns),
        ms(compute.max_ns)
    );
    if inference.unanswered > 0 {
        say!("no answer to {} questions; what the arm did then is --on-starved", inference.unanswered);
    }
    if inference.unused_answers > 0 {
        say!("late      {} chunks came too late to follow from what was executed meanwhile, and were not used", inference.unused_answers);
    }
    if let Some(rows) = inference.reserve_rows_min {
        say!(
            "queue     the next chunk was requested up to {} before the end; at least {rows} actions were left when it came",
            text::plural(inference.lead_ticks_max, "tick")
        );
    }
}

pub(super) fn print_outputs(outputs: &Outputs, connected: Option<&str>, recorded: u64) {
    if let Some(root) = &outputs.dataset {
        let quoted = text::quoted(root);
        say!("dataset   {} ({})\n            sinew dataset info {quoted}", root.display(), text::plural(recorded, "episode"));
        if recorded > 0 {
            say!("            lerobot-dataset-viz --repo-id local/rollout --root {quoted} --episode-index 0");
        }
    }
    if let Some(path) = &outputs.rerun {
        say!("recording {}\n            rerun {}", path.display(), text::quoted(path));
        say!("            (the viewer: cargo install rerun-cli --locked, or pip install rerun-sdk)");
    }
    if let Some(address) = connected {
        say!("recording streamed to {address}");
    }
}
