//! What a tick costs and how well the loop keeps its time here: 14 joints, two cameras of 640×480
//! that cost nothing, the frames going to a sink that drops them.
//!
//! ```text
//! cargo run --release -p sinew-runtime --example cadence [SECONDS [PRIORITY]]
//! ```
//!
//! With a PRIORITY the control thread asks for `SCHED_FIFO` at it, and for locked memory. Processor time is the
//! control thread's for a tick, going to sleep, waking, and waking the teleoperator's, the judge's and the sink's thread included; beside it stands what a
//! thread takes that does nothing but to sleep until each tick is due (Linux).

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Arm, Dark, Scene};
use sinew_core::{
    Clock, EpisodeEnd, EpisodeStart, Frame, FrameSink, Identity, MockClock, Observation, Robot, SinkError, TeleopStatus, Teleoperator,
    TeleoperatorError, Tick,
};
use sinew_runtime::{
    EpisodeReport, EpisodeRequest, MonotonicClock, Realtime, RealtimeRequest, Rig, Session, SessionConfig, Source, StopFlag, TeleopThread,
};

struct Wave;

impl Teleoperator for Wave {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        action.fill((tick.turn as f64 * 0.01).sin());
        Ok(TeleopStatus::Active)
    }
}

struct Nobody;

impl FrameSink for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

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

fn run(clock: Arc<dyn Clock>, priority: Option<u8>, rate_hz: u32, ticks: u64, watched: bool) -> Result<EpisodeReport, Box<dyn Error>> {
    let realtime = RealtimeRequest { priority, lock_memory: priority.is_some(), cpu: None };
    let mut session = Session::new(SessionConfig { realtime, ..SessionConfig::default() }, clock, StopFlag::new());
    let mut arm = Arm::new(rate_hz, 14, &[("front", 640, 480), ("wrist", 640, 480)])?;
    let mut sink = Nobody;
    let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
    if watched {
        sinks.push(&mut sink);
    }
    let mut wave = TeleopThread::spawn(Box::new(Wave), Identity { width: 14 }, arm.description())?;
    let rig = Rig { robot: &mut arm, cameras: &mut Dark, environment: &mut Scene(ticks) };
    Ok(session.run_episode(&EpisodeRequest::default(), rig, Source::Teleoperator(&mut wave), &mut sinks))
}

/// Processor time of a turn that only sleeps, µs.
fn sleeping_us(priority: Option<u8>, rate_hz: u32, turns: u32) -> f64 {
    let used_ns = || std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse::<f64>().ok();
    let turn = move || {
        Realtime::ask(&RealtimeRequest { priority, lock_memory: priority.is_some(), cpu: None });
        let clock = MonotonicClock::new();
        let (before, since) = (used_ns()?, clock.now());
        for turn in 1..=turns {
            clock.sleep_until(since + Duration::from_secs_f64(f64::from(turn) / f64::from(rate_hz)));
        }
        Some((used_ns()? - before) * 1e-3 / f64::from(turns))
    };
    std::thread::spawn(turn).join().ok().flatten().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(5), |text| text.parse())?;
    let priority = args.next().map(|text| text.parse()).transpose()?;
    for (watched, ticks) in [(false, 2_000_000), (true, 200_000)] {
        let start = Instant::now();
        run(Arc::new(MockClock::new()), None, 1000, ticks, watched)?;
        let to_whom = if watched { "handed to another thread, which is waited for" } else { "seen by nobody" };
        println!("mock clock, frames {to_whom}: {:.2} us a tick", start.elapsed().as_secs_f64() * 1e6 / ticks as f64);
    }
    for rate_hz in [30, 200, 1000] {
        let report = run(Arc::new(MonotonicClock::new()), priority, rate_hz, seconds * u64::from(rate_hz), true)?;
        let us = |ns: u64| ns as f64 * 1e-3;
        let (late, work) = (report.cadence.lateness.stats(), report.cadence.work.stats());
        let cpu_us = report.cadence.cpu_ns.map_or(f64::NAN, |ns| ns as f64 * 1e-3 / report.cadence.ticks as f64);
        println!(
            "{rate_hz:4} Hz, {}: achieved {:.2} Hz, {} missed, {} frames lost, lateness p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us, \
             work p50 {:.1} p99 {:.1} max {:.0} us, processor time {cpu_us:.1} us a tick ({:.1} to sleep and wake alone)",
            report.realtime,
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
            sleeping_us(priority, rate_hz, rate_hz * seconds as u32),
        );
    }
    Ok(())
}
