//! A robot, its camera, a scene, a policy, a teleoperator and a sink that do what a test tells them.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod arm;
mod fake;
mod scene;
mod tape;

use std::sync::Arc;
use std::time::Duration;

pub use arm::{Arm, Arrives, Eyes, lost, transient};
pub use fake::{Fake, Log, Quirk, answer_and_tick, row_goal};
pub use scene::{Leader, Scene};
use sinew_core::{Clock, FrameSink, MockClock, RobotDescription};
use sinew_runtime::{EpisodeReport, EpisodeRequest, Rig, Session, SessionConfig, Source, StopFlag};
pub use tape::Tape;

pub const RATE_HZ: u64 = 50;
pub const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / RATE_HZ);
/// Of both joints, rad/s.
pub const VELOCITY: f64 = 4.0;

type Hook<T> = Box<dyn FnMut(u64) -> T + Send>;

pub fn description() -> RobotDescription {
    RobotDescription::from_toml("testarm", include_str!("arm.toml")).unwrap()
}

/// Runs one episode on a mock clock.
pub fn run(
    config: &SessionConfig,
    arm: &mut Arm,
    scene: &mut Scene,
    source: Source<'_>,
    sinks: &mut [&mut dyn FrameSink],
) -> EpisodeReport {
    run_on(Arc::new(MockClock::new()), config, arm, scene, source, sinks, &StopFlag::new())
}

pub fn run_on(
    clock: Arc<dyn Clock>,
    config: &SessionConfig,
    arm: &mut Arm,
    scene: &mut Scene,
    source: Source<'_>,
    sinks: &mut [&mut dyn FrameSink],
    stop: &StopFlag,
) -> EpisodeReport {
    run_in(&mut Session::new(config.clone(), clock, stop.clone()), arm, scene, source, sinks)
}

pub fn run_in(
    session: &mut Session,
    arm: &mut Arm,
    scene: &mut Scene,
    source: Source<'_>,
    sinks: &mut [&mut dyn FrameSink],
) -> EpisodeReport {
    let mut eyes = std::mem::take(&mut arm.eyes);
    let rig = Rig { robot: arm, cameras: &mut eyes, environment: scene };
    let report = session.run_episode(&EpisodeRequest { attempt: 3, seed: 7, task: None }, rig, source, sinks);
    arm.eyes = eyes;
    report
}
