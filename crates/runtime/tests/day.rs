//! A day on the simulated clock takes no more memory than an hour.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Arm, Fake, Leader, Scene, run_in, transient};
use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, MockClock, OnFailure, SinkError};
use sinew_runtime::{Inference, Interpolation, Session, SessionConfig, Source, Starvation, StopFlag};

const RATE_HZ: u32 = 10;
const HOUR: u64 = 3600 * RATE_HZ as u64;
/// What the allocator may keep for itself. Two bytes a tick would be 1.6 MB.
const MOST_MORE: u64 = 1 << 20;

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Takes each frame and drops it.
#[derive(Default)]
struct Viewer {
    frames: u64,
}

impl FrameSink for Viewer {
    fn name(&self) -> &str {
        "viewer"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, _: &Frame) -> Result<(), SinkError> {
        self.frames += 1;
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Twenty-four hours in episodes of so many ticks, with an arm that is lost now and then, both a policy and a human, and
/// hand-overs. The memory after the second hour is that after the last.
fn a_day_in(episode: u64, inference: Inference) {
    let config =
        SessionConfig { inference, interpolation: Interpolation::Cubic, starvation: Starvation::SlowStop, ..SessionConfig::default() };
    let mut session = Session::new(config, Arc::new(MockClock::new()), StopFlag::new());
    let mut arm = Arm::at([0.0, -0.2]).rate_hz(RATE_HZ).forgetting();
    let (operator, seen) = (session.operator(), Arc::new(Mutex::new((0_u64, Vec::new()))));
    let looks = seen.clone();
    arm.on_observe = Box::new(move |_| {
        let (ticks, sizes) = &mut *looks.lock().unwrap();
        *ticks += 1;
        if ticks.is_multiple_of(HOUR) {
            sizes.push(resident());
        }
        if ticks.is_multiple_of(1000) {
            operator.toggle_correction();
        }
        if *ticks % 97 == 50 { Err(transient()) } else { Ok(()) }
    });
    let mut viewer = Viewer::default();
    let policy = Fake::new(8, 6).continuing().forgetting();
    // Its goals return with the ticks, so that the gate has nothing to limit for hours.
    let leader = Leader::new(|tick| [0.1 * ((tick % 600) as f64 * 0.01).sin(), -0.2]).forgetting();
    let (mut thread, mut human) = (policy.thread(), leader.thread());
    for _ in 0..(24 * HOUR).div_ceil(episode) {
        let source = Source::Supervised(&mut thread, &mut human);
        let report = run_in(&mut session, &mut arm, &mut Scene::lasting(episode), source, &mut [&mut viewer]);
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        assert_eq!(report.ticks, episode);
    }
    let (ticks, sizes) = &*seen.lock().unwrap();
    assert!(*ticks >= 24 * HOUR && sizes.len() == 24, "{ticks} ticks, {} hours", sizes.len());
    assert!(viewer.frames > 23 * HOUR, "{} frames were seen", viewer.frames);
    assert!(sizes[23] <= sizes[1] + MOST_MORE, "{inference:?}, episodes of {episode} ticks: resident after each hour: {sizes:?}");
}

#[test]
fn one_episode_of_a_day_takes_no_more_than_its_first_hours() {
    a_day_in(24 * HOUR, Inference::Sync);
}

#[test]
fn a_day_of_episodes_of_a_minute_takes_no_more_than_its_first_hours() {
    a_day_in(HOUR / 60, Inference::Async);
}
