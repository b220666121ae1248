//! What a tick costs and how well the loop keeps its time here: 14 joints, two cameras of 640×480
//! that cost nothing, the frames going to a sink that drops them.
//!
//! ```text
//! cargo run --release -p sinew-runtime --example cadence [SECONDS]
//! ```

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use sinew_core::{
    CameraDescription, Clock, Environment, EpisodeEnd, EpisodeSetup, EpisodeStart, Frame, FrameSink, MockClock, Observation, Outcome,
    Robot, RobotDescription, RobotError, SafeCommand, SinkError, TeleopStatus, Teleoperator, Tick,
};
use sinew_runtime::{EpisodeReport, EpisodeRequest, MonotonicClock, Session, SessionConfig, Source, StopFlag};

struct Arm {
    description: RobotDescription,
    position_rad: Vec<f64>,
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        observation.time = tick.due;
        observation.position_rad.copy_from_slice(&self.position_rad);
        Ok(())
    }

    fn enable(&mut self) -> Result<(), RobotError> {
        Ok(())
    }

    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        self.position_rad.copy_from_slice(command.goals_rad());
        applied_rad.copy_from_slice(command.goals_rad());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RobotError> {
        Ok(())
    }
}

struct Scene(u64);

impl Environment for Scene {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, RobotError> {
        Ok(EpisodeSetup { task: "wave".into(), max_ticks: self.0 })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}

struct Wave;

impl Teleoperator for Wave {
    fn reset(&mut self) -> Result<(), RobotError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, goals_rad: &mut [f64]) -> Result<TeleopStatus, RobotError> {
        goals_rad.fill((tick.index as f64 * 0.01).sin());
        Ok(TeleopStatus::Active)
    }
}

struct Nobody;

impl FrameSink for Nobody {
    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, _: &Frame) -> Result<(), SinkError> {
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

fn arm(rate_hz: u32) -> Result<Arm, Box<dyn Error>> {
    let mut description = RobotDescription::from_toml("testarm", include_str!("../tests/common/arm.toml"))?;
    let joint = description.joints[0].clone();
    description.joints = vec![joint; 14];
    description.stop.rest_rad = vec![0.0; 14];
    description.cameras = ["front", "wrist"].map(|name| CameraDescription { name: name.into(), width: 640, height: 480 }).to_vec();
    description.control_rate_hz = rate_hz;
    Ok(Arm { description, position_rad: vec![0.0; 14] })
}

fn run(clock: Arc<dyn Clock>, rate_hz: u32, ticks: u64, watched: bool) -> Result<EpisodeReport, Box<dyn Error>> {
    let mut session = Session::new(SessionConfig::default(), clock, StopFlag::new());
    let mut sink = Nobody;
    let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
    if watched {
        sinks.push(&mut sink);
    }
    Ok(session.run_episode(&EpisodeRequest::default(), &mut arm(rate_hz)?, &mut Scene(ticks), Source::Teleoperator(&mut Wave), &mut sinks))
}

#[allow(clippy::print_stdout, reason = "an example shows what it measured")]
fn main() -> Result<(), Box<dyn Error>> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    for (watched, ticks) in [(false, 2_000_000), (true, 200_000)] {
        let start = Instant::now();
        run(Arc::new(MockClock::new()), 1000, ticks, watched)?;
        let to_whom = if watched { "handed to another thread, which is waited for" } else { "seen by nobody" };
        println!("mock clock, frames {to_whom}: {:.2} us a tick", start.elapsed().as_secs_f64() * 1e6 / ticks as f64);
    }
    for rate_hz in [30, 200, 1000] {
        let report = run(Arc::new(MonotonicClock::new()), rate_hz, seconds * u64::from(rate_hz), true)?;
        let us = |ns: u64| ns as f64 * 1e-3;
        let (late, work) = (report.cadence.lateness.stats(), report.cadence.work.stats());
        println!(
            "{rate_hz:4} Hz: achieved {:.2} Hz, {} missed, {} frames lost, lateness p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us, \
             work p50 {:.1} p99 {:.1} max {:.0} us",
            report.cadence.achieved_rate_hz,
            report.missed_ticks,
            report.frames_lost,
            us(late.p50_ns),
            us(late.p99_ns),
            us(late.p999_ns),
            us(late.max_ns),
            us(work.p50_ns),
            us(work.p99_ns),
            us(work.max_ns),
        );
    }
    Ok(())
}
