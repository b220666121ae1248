//! Runs the law of motion over streams at random and counts what it does not hold.
//! `cargo run --release -p sinew-core --example gate_soak -- [ticks] [seed] [rate in Hz]`

#![allow(clippy::print_stdout, clippy::exit, reason = "a soak prints what it found, and says by its code whether all held")]

mod interventions {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum LimitKind {
        Position,
        Velocity,
        Acceleration,
        Jerk,
    }
}

#[path = "../src/safety/motion/checks.rs"]
#[allow(dead_code, reason = "the tests need the rest")]
mod checks;
#[path = "../src/safety/motion.rs"]
#[allow(dead_code, reason = "the soak needs a part of it")]
mod motion;

use checks::{Figures, Random};
use motion::{Motion, MotionLimits};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<f64>().ok());
    let mut argument = || arguments.next().flatten();
    let ticks = argument().unwrap_or(1e6) as u64;
    let seed = argument().unwrap_or(1.0) as u64;
    let rate_hz = argument();
    let mut random = Random::from_seed(seed);
    let mut figures = Figures::default();
    while figures.ticks < ticks {
        checks::episode(None, rate_hz, &mut random, &mut figures);
    }
    let violations = std::mem::take(&mut figures.by_name);
    println!("{figures:#?}");
    for (name, (count, first)) in violations {
        println!("{name}: {count}, first {first}");
    }
    if figures.violations > 0 {
        std::process::exit(1);
    }
}
