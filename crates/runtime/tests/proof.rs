//! What reaches the arm is smooth and made of the right rows, whatever a policy's latency does and
//! however much its chunks disagree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Arm, PERIOD, RATE_HZ, Scene, Tape, VELOCITY, answer_and_tick, row_goal, run};
use proptest::prelude::*;
use sinew_core::{ActionChunk, Continuation, Observation, Policy, PolicyError, PolicyInfo};
use sinew_runtime::{EpisodeReport, Inference, Interpolation, Latency, PolicyThread, SessionConfig, Source, Starvation};

const TICKS: u64 = 300;
const START: [f64; 2] = [0.1, 0.0];
/// 1.5 s.
const LONGEST: u64 = 3 * RATE_HZ / 2;

#[derive(Default)]
struct Asked {
    ticks: Vec<u64>,
    continuing: Vec<Option<Continuation>>,
}

/// The first joint swings, each answer from another middle; the second tells answer and tick of its row.
struct Disagreeing {
    info: PolicyInfo,
    middles_rad: Vec<f64>,
    answers: u64,
    /// Follows its own chunks as far as so many rows, as LeRobot's guidance with linear weights would have
    /// it; otherwise not at all.
    horizon: Option<usize>,
    /// The first joint's goals in the newest answer.
    newest_rad: Vec<f64>,
    asked: Arc<Mutex<Asked>>,
}

impl Disagreeing {
    fn answer(&mut self, observations: &[Observation], continuing: Option<Continuation>) -> ActionChunk {
        let first = observations.last().unwrap().tick;
        let mut asked = self.asked.lock().unwrap();
        asked.ticks.push(first);
        asked.continuing.push(continuing);
        let middle = self.middles_rad[self.answers as usize % self.middles_rad.len()];
        let ticks = first..first + self.info.chunk_size as u64;
        let mut swing_rad: Vec<f64> = ticks.clone().map(|tick| middle + 0.5 * (tick as f64 * 0.1).sin()).collect();
        if let (Some(horizon), Some(Continuation { rows_left, delay_rows, .. })) = (self.horizon, continuing) {
            let left = &self.newest_rad[self.newest_rad.len() - rows_left..];
            let end = horizon.min(rows_left);
            for (row, (goal, before)) in swing_rad.iter_mut().zip(left).enumerate().take(end) {
                let share = (row + 1).saturating_sub(delay_rows) as f64 / (end.saturating_sub(delay_rows) + 1) as f64;
                *goal = before + (*goal - before) * share.min(1.0);
            }
        }
        let rows = ticks.zip(&swing_rad).flat_map(|(tick, swing)| [*swing, row_goal(self.answers, tick)]);
        let chunk = ActionChunk::new(first, 2, rows.collect()).unwrap();
        self.newest_rad = swing_rad;
        self.answers += 1;
        chunk
    }
}

impl Policy for Disagreeing {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {
        self.answers = 0;
    }

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        Ok(self.answer(observations, None))
    }

    fn infer_continuing(&mut self, observations: &[Observation], _: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        Ok(self.answer(observations, Some(continuing)))
    }

    fn can_continue(&self) -> bool {
        true
    }
}

struct Run {
    report: EpisodeReport,
    tape: Tape,
    asked: Asked,
    writes: Vec<Vec<f64>>,
}

fn run_scripted(config: &SessionConfig, chunk_size: usize, n_action_steps: usize, middles_rad: Vec<f64>) -> Run {
    run_following(config, chunk_size, n_action_steps, middles_rad, None, START)
}

/// The arm begins at `start`. The second joint is where its first row is, so that its goals are what the rows say from the
/// first tick on.
fn run_following(
    config: &SessionConfig,
    chunk_size: usize,
    n_action_steps: usize,
    middles_rad: Vec<f64>,
    horizon: Option<usize>,
    start: [f64; 2],
) -> Run {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let info = PolicyInfo { family: "scripted".into(), parameters: 0, n_obs_steps: 1, chunk_size, n_action_steps };
    let mut policy =
        PolicyThread::spawn(Disagreeing { info, middles_rad, answers: 0, horizon, newest_rad: Vec::new(), asked: asked.clone() }).unwrap();
    let (mut arm, mut tape) = (Arm::at(start), Tape::default());
    let report = run(config, &mut arm, &mut Scene::lasting(TICKS), Source::Policy(&mut policy), &mut [&mut tape]);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    Run { report, tape, asked, writes: arm.writes }
}

/// Velocity, acceleration and jerk of what was written keep the limits of the description.
fn assert_smooth(writes: &[Vec<f64>], turns_hz: f64) -> Result<(), TestCaseError> {
    let description = common::description();
    for (i, joint) in description.parts.iter().enumerate() {
        let limits = &joint.limits;
        let mut values: Vec<f64> = writes.iter().map(|goals| goals[i]).collect();
        values.insert(0, START[i]);
        let differences = |values: &[f64]| -> Vec<f64> {
            std::iter::once(0.0).chain(values.windows(2).map(|pair| (pair[1] - pair[0]) * turns_hz)).collect()
        };
        let velocities = differences(&values);
        let accelerations = differences(&velocities);
        let jerks = differences(&accelerations);
        for (what, values, most) in [
            ("velocity", &velocities, limits.velocity.unwrap()),
            ("acceleration", &accelerations, limits.acceleration(VELOCITY)),
            ("jerk", &jerks, limits.jerk(VELOCITY)),
        ] {
            let found = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            prop_assert!(found <= most * (1.0 + 1e-6), "{}: {what} {found}, at most {most}", joint.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn beside_the_loop_each_tick_has_the_newest_row_for_it_and_the_arm_moves_smoothly(
        rtc: bool,
        chunk_size in 10usize..100,
        share in 0.1f64..=1.0,
        latencies in prop::collection::vec(prop_oneof![4 => 0u64..8, 1 => 0..=LONGEST], 1..8),
        middles_rad in prop::collection::vec(-0.8..0.8f64, 1..5),
        control_multiplier in prop::sample::select(vec![1u32, 2, 5, 20]),
        cubic: bool,
        slow_stop: bool,
    ) {
        let config = SessionConfig {
            inference: if rtc { Inference::Rtc } else { Inference::Async },
            latency: Latency::ScriptedTicks(latencies.clone()),
            starvation: if slow_stop { Starvation::SlowStop } else { Starvation::Hold },
            interpolation: if cubic { Interpolation::Cubic } else { Interpolation::Linear },
            control_multiplier,
            ..SessionConfig::default()
        };
        let n_action_steps = ((chunk_size as f64 * share).ceil() as usize).max(1);
        let Run { report, tape, mut asked, writes } = run_scripted(&config, chunk_size, n_action_steps, middles_rad);
        // Where the arm was brought to its start, the policy was asked twice before tick 0.
        let firsts = asked.ticks.iter().filter(|tick| **tick == 0).count();
        asked.ticks.drain(1..firsts);
        asked.continuing.drain(1..firsts);
        prop_assert!(writes.len() as u64 >= TICKS * u64::from(control_multiplier));
        // Where the arm was far from the first row it went there first, which is also in `writes`.
        assert_smooth(&writes, (RATE_HZ * u64::from(control_multiplier)) as f64)?;

        // Which answer each tick must have: the newest that had arrived and has a row for it.
        let answers: Vec<(u64, u64)> = asked.ticks.iter().enumerate()
            .map(|(i, tick)| (*tick, if i == 0 { 0 } else { tick + latencies[(i - 1) % latencies.len()] }))
            .collect();
        let mut starved = 0;
        for frame in &tape.frames {
            let newest = answers.iter().enumerate().rev()
                .find(|(_, (asked, arrived))| *arrived <= frame.tick && (*asked..asked + chunk_size as u64).contains(&frame.tick));
            prop_assert_eq!(frame.starved, newest.is_none(), "tick {}", frame.tick);
            match newest {
                Some((answer, _)) => prop_assert_eq!(answer_and_tick(frame.wanted[1]), (answer as u64, frame.tick)),
                None => starved += 1,
            }
        }
        prop_assert_eq!((report.starved_ticks, report.missed_ticks), (starved, 0));

        // The queue does not run dry where the chunks are long enough.
        let longest = latencies.iter().copied().max().unwrap();
        if longest + longest.max(n_action_steps as u64) <= chunk_size as u64 {
            prop_assert_eq!(starved, 0);
        }
        prop_assert!(report.inference.lead_ticks_max <= longest + 1);
        for (i, continuing) in asked.continuing.iter().enumerate() {
            let (Some(continuing), true) = (continuing, i > 0) else {
                prop_assert!(!rtc || i == 0 || answers[i - 1].0 + chunk_size as u64 <= asked.ticks[i]);
                continue;
            };
            prop_assert!(rtc);
            prop_assert_eq!(continuing.rows_left as u64, answers[i - 1].0 + chunk_size as u64 - asked.ticks[i]);
            // Those before tick 0 are measured too.
            let measured = std::iter::repeat_n(latencies[0], firsts).chain((1..i).map(|i| answers[i].1 - answers[i].0));
            let measured: Vec<u64> = measured.collect();
            let known = measured.iter().rev().take(16).max().unwrap();
            prop_assert_eq!(continuing.delay_rows as u64, *known);
        }
    }

    /// What is wanted of the arm, before the gate: where a chunk takes over from one that it disagrees with,
    /// async has their whole distance in one step; in rtc a policy that follows spreads it over its horizon.
    #[test]
    fn chunks_that_follow_each_other_have_no_steps_between_them(
        latency in 0u64..10,
        horizon in 12usize..30,
        n_action_steps in 40usize..60,
        middles_rad in prop::collection::vec(-0.8..0.8f64, 2..6),
    ) {
        let wanted = |inference, horizon| {
            let config = SessionConfig { inference, latency: Latency::ScriptedTicks(vec![latency]), ..SessionConfig::default() };
            let Run { report, tape, .. } = run_following(&config, 100, n_action_steps, middles_rad.clone(), horizon, [middles_rad[0], 0.0]);
            assert_eq!(report.starved_ticks, 0);
            tape.frames.iter().map(|frame| frame.wanted[0]).collect::<Vec<f64>>()
        };
        // The largest step, and the largest difference between neighbouring steps, and so on.
        let most = |mut values: Vec<f64>| [(); 3].map(|()| {
            values = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
            values.iter().fold(0.0, |most: f64, value| most.max(value.abs()))
        });
        let [asynchronous, following] = [most(wanted(Inference::Async, None)), most(wanted(Inference::Rtc, Some(horizon)))];
        // Of 0.5 sin(0.1 t) by itself.
        let own = [0.05, 0.005, 0.0005].map(|most| most + 1e-9);
        let distances = || middles_rad.iter().zip(middles_rad.iter().cycle().skip(1)).map(|(a, b)| (a - b).abs());
        let farthest = distances().fold(0.0, f64::max);
        let per_row = farthest / (horizon - latency as usize + 1) as f64;
        for (found, bound) in following.iter().zip([own[0] + per_row, own[1] + per_row, own[2] + per_row]) {
            prop_assert!(*found <= bound, "{following:?}, at most {bound} ({per_row} a row)");
        }
        // Seven answers and more: each distance but perhaps the last has been in it.
        let seen = distances().take((TICKS as usize / n_action_steps).min(middles_rad.len()) - 1).fold(0.0, f64::max);
        for (found, (own, factor)) in asynchronous.iter().zip(own.iter().zip([1.0, 1.0, 2.0])) {
            prop_assert!(*found >= factor * seen - 4.0 * own, "{asynchronous:?} with {seen} between two chunks");
        }
    }

    #[test]
    fn in_the_loop_rows_follow_each_other_and_the_arm_moves_smoothly(
        chunk_size in 1usize..60,
        latencies in prop::collection::vec(0u64..=LONGEST, 1..8),
        middles_rad in prop::collection::vec(-0.8..0.8f64, 1..5),
        control_multiplier in prop::sample::select(vec![1u32, 4]),
    ) {
        let config = SessionConfig { latency: Latency::ScriptedTicks(latencies), control_multiplier, ..SessionConfig::default() };
        let Run { report, tape, writes, .. } = run_scripted(&config, chunk_size, chunk_size, middles_rad);
        assert_smooth(&writes, (RATE_HZ * u64::from(control_multiplier)) as f64)?;
        if control_multiplier == 1 {
            let rows: Vec<(u64, u64)> = tape.frames.iter().map(|frame| answer_and_tick(frame.wanted[1])).collect();
            for (before, after) in rows.iter().zip(&rows[1..]) {
                prop_assert!(*after == (before.0, before.1 + 1) || after.0 == before.0 + 1, "{before:?}, then {after:?}");
            }
        }
        prop_assert_eq!(report.starved_ticks, 0);
        prop_assert_eq!(report.ticks + report.missed_ticks, TICKS * u64::from(control_multiplier));
    }
}

#[test]
fn at_a_steady_latency_the_queue_keeps_a_reserve_and_the_report_says_so() {
    for latency in [0, 3, 20, 40] {
        let config =
            SessionConfig { inference: Inference::Async, latency: Latency::ScriptedTicks(vec![latency]), ..SessionConfig::default() };
        let Run { report, .. } = run_scripted(&config, 100, 50, vec![0.0]);
        assert_eq!(report.starved_ticks, 0, "latency {latency}");
        assert_eq!(report.inference.lead_ticks_max, latency + 1);
        // Asked when the answer before is there, or so that 50 rows of it are executed, whichever is later.
        let asked_after = latency.max(49 - latency);
        assert!(report.inference.reserve_rows_min.unwrap() >= 100 - latency - asked_after, "latency {latency}: {report:?}");
    }
}

#[test]
fn the_arm_is_brought_slowly_to_a_first_action_that_is_far_away() {
    let config = SessionConfig { latency: Latency::ScriptedTicks(vec![0]), ..SessionConfig::default() };
    let Run { report, tape, asked, writes } = run_scripted(&config, 50, 50, vec![0.9]);
    // It was asked before, and again where it was brought to.
    assert_eq!(asked.ticks[..3], [0, 0, 50]);
    assert_eq!(report.ticks, TICKS);
    let way = writes.len() - tape.frames.len();
    let stride = config.rest_velocity_per_s * PERIOD.as_secs_f64();
    assert!(way as f64 >= (0.9 - 0.1) / stride, "{way} turns on the way");
    for pair in writes[..way].windows(2) {
        assert!((pair[1][0] - pair[0][0]).abs() <= stride + 1e-12);
    }
    assert!((tape.frames[0].sent[0] - 0.9).abs() < 1e-6);
}
