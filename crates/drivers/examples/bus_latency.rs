//! How long after an answer's last byte has left the wire its value is there, beside a thread that sleeps to absolute
//! deadlines (as `cyclictest` does) and beside the emulator itself, which hands bytes over in a thread of its own.
//!
//! ```text
//! cargo run --release -p sinew-drivers --example bus_latency [READS] [HZ] [FIFO_PRIORITY]
//! ```
//!
//! With a priority, `chrt -f PRIORITY` must be allowed: start it by that.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what fails here ends it, and figures are printed")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Bench, ids, light};
use sinew_drivers::wire::Protocol;
use sinew_drivers::{Block, Bus, Operation, Reply};
use sinew_emulator::{Asked, Options, Robot};

/// Present position.
const POSITION: Block = Block { address: 56, len: 2 };

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>().unwrap());
    let (reads, hz) = (args.next().unwrap_or(5000), args.next().unwrap_or(200));
    // Nothing is kept back, so that the wire's time is all there is.
    let options = Options { transfer: Duration::ZERO, ..Options::default() };
    let bench = Bench::new(&light(Robot::so101_follower()), options);
    let mut bus = bench.bus(Protocol::Feetech0);
    let motors = ids([1, 2, 3, 4, 5, 6]);
    let period = Duration::from_secs(1) / hz;
    let (mut late, mut floor, mut handed) = (Vec::new(), Vec::new(), Vec::new());
    let mut due = Instant::now();
    for _ in 0..reads {
        due += period;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let woke = Instant::now();
        floor.push(woke.saturating_duration_since(due));
        bench.emulator.take_log();
        let mut replies = motors.map(|motor| Reply::of(motor, Operation::Read(POSITION)));
        bus.read(POSITION, &mut replies, bench.within(20)).unwrap();
        let there = Instant::now();
        let log = bench.emulator.log();
        let asked = log.entries.iter().rfind(|entry| matches!(entry.asked, Asked::SyncRead { .. }));
        let Some(last) = asked.and_then(|entry| entry.said.last()) else { continue };
        // Only reads that took one question say anything of the time after an answer.
        if replies.iter().all(|reply| reply.answer.is_ok() && reply.attempts == 1) {
            late.push(there.saturating_duration_since(last.until));
            handed.push(log.worst_lateness);
        }
    }
    println!("{} of {reads} reads of six motors at {hz} Hz took one question; microseconds:", late.len());
    let of = |name: &str, times: &mut Vec<Duration>| {
        times.sort();
        let at = |share: f64| times.get((share * (times.len().max(1) - 1) as f64) as usize).map_or(0, Duration::as_micros);
        println!("  {name:40} median {:5}  p99 {:6}  worst {:6}", at(0.5), at(0.99), at(1.0));
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let value = of("from the last byte to the value", &mut late);
    let sleep = of("a thread wakes late", &mut floor);
    let emulated = of("of that, the emulator handed over late", &mut handed);
    let beyond = value.saturating_sub(emulated).as_nanos() as f64 / sleep.as_nanos().max(1) as f64;
    println!("  from the last byte to the value, without the emulator's part, is {beyond:.2} of a thread's lateness (medians)");
}
