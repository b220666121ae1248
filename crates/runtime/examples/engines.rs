//! What a policy's latency does to the rows that reach the arm; scripts/compare_engines_with_lerobot.py
//! runs it beside LeRobot's engines.
//!
//! ```text
//! engines sync|async|rtc SECONDS FIRST_MS THEN_MS...
//! ```
//!
//! Prints one JSON object: `executed` has [tick, the tick that the row was for, the swinging joint's goal] of
//! each tick with an action, `none` counts those without, `missed` those that the loop didn't run.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use common::{Arm, Dark, Scene};
use sinew_core::{
    ActionChunk, Continuation, EpisodeEnd, EpisodeStart, Frame, FrameSink, Observation, Policy, PolicyError, PolicyInfo, SinkError,
};
use sinew_runtime::{EpisodeRequest, Inference, MonotonicClock, PolicyThread, Rig, Session, SessionConfig, Source, StopFlag};

const CHUNK: u64 = 50;
/// A row's tick as an angle.
const RAD_PER_TICK: f64 = 1e-3;

struct Scripted {
    info: PolicyInfo,
    latencies_ms: Vec<u64>,
    answers: usize,
}

impl Policy for Scripted {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {}

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        let n = self.answers;
        self.answers += 1;
        let then = &self.latencies_ms[1..];
        let latency_ms = if n == 0 || then.is_empty() { self.latencies_ms[0] } else { then[(n - 1) % then.len()] };
        std::thread::sleep(Duration::from_millis(latency_ms));
        let first = observations.last().map_or(0, |observation| observation.tick);
        let middle = if n.is_multiple_of(2) { 0.15 } else { -0.15 };
        let rows = (first..first + CHUNK).flat_map(|tick| [tick as f64 * RAD_PER_TICK, middle + 0.5 * (0.1 * tick as f64).sin()]);
        Ok(ActionChunk::new(first, 2, rows.collect())?)
    }

    /// It answers as ever: what is measured is the engine.
    fn infer_continuing(&mut self, observations: &[Observation], task: &str, _: Continuation) -> Result<ActionChunk, PolicyError> {
        self.infer(observations, task)
    }

    fn can_continue(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Notes {
    executed: Vec<(u64, u64, f64)>,
    none: u64,
}

impl FrameSink for Notes {
    fn name(&self) -> &str {
        "notes"
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        if frame.starved {
            self.none += 1;
        } else {
            // The row as it was wanted, the swing as it was sent.
            self.executed.push((frame.tick, (frame.wanted[0] / RAD_PER_TICK).round() as u64, frame.sent[1]));
        }
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, seconds, latencies @ ..] = args.as_slice() else { return Err("expected: MODE SECONDS FIRST_MS THEN_MS...".into()) };
    let inference = match mode.as_str() {
        "sync" => Inference::Sync,
        "async" => Inference::Async,
        "rtc" => Inference::Rtc,
        other => return Err(format!("the mode is {other}, expected sync, async or rtc").into()),
    };
    let latencies_ms = latencies.iter().map(|ms| ms.parse()).collect::<Result<Vec<u64>, _>>()?;
    if latencies_ms.is_empty() {
        return Err("expected at least one latency".into());
    }
    let config = SessionConfig { inference, start_within: 10.0, rest_velocity_per_s: f64::INFINITY, ..SessionConfig::default() };
    let mut session = Session::new(config, Arc::new(MonotonicClock::new()), StopFlag::new());
    let info = PolicyInfo { family: "scripted".into(), parameters: 0, n_obs_steps: 1, chunk_size: 50, n_action_steps: 50 };
    let mut policy = PolicyThread::spawn(Scripted { info, latencies_ms, answers: 0 })?;
    let mut notes = Notes::default();
    let mut scene = Scene((seconds.parse::<f64>()? * 30.0) as u64);
    let mut arm = Arm::new(30, 2, &[("front", 4, 3)])?;
    let rig = Rig { robot: &mut arm, cameras: &mut Dark, environment: &mut scene };
    let report = session.run_episode(&EpisodeRequest::default(), rig, Source::Policy(&mut policy), &mut [&mut notes]);
    if let Some(fault) = report.faults.first() {
        return Err(fault.chain().into());
    }
    println!(
        "{}",
        serde_json::json!({"executed": notes.executed, "none": notes.none, "missed": report.missed_ticks + report.waiting_ticks})
    );
    Ok(())
}
