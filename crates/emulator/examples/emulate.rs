//! Plays a robot until its standard input ends; `sinew emulate` does more.
//!
//! ```text
//! emulate ROBOT LINK [FAULT ...] [latency_ms=16] [seed=1]
//! ```
//!
//! ROBOT is one of those with a name (`so101_follower`, ...) or `new:MODEL`. Faults and the commands on standard input, a
//! line each that is answered by a line, are those of `sinew_emulator::FAULTS` and `sinew_emulator::COMMANDS`.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Duration;

use sinew_drivers::ControlTable;
use sinew_emulator::{Emulator, FaultOption, Options, Robot, obey};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(robot), Some(link)) = (args.next(), args.next()) else {
        return Err("say which robot and where: emulate so101_follower /tmp/so101".into());
    };
    let robot = match robot.strip_prefix("new:") {
        Some(model) => Robot::new_motor(ControlTable::of_model(model).ok_or_else(|| format!("there is no model {model}"))?),
        None => Robot::all().into_iter().find(|known| known.name == robot).ok_or_else(|| format!("there is no robot {robot}"))?,
    };
    let mut options = Options::default();
    for arg in args {
        match arg.split_once('=') {
            Some(("latency_ms", ms)) => options.latency = Duration::from_millis(ms.parse()?),
            Some(("seed", seed)) => options.seed = seed.parse()?,
            _ => arg.parse::<FaultOption>()?.apply(&mut options),
        }
    }
    let emulator = Emulator::start(&robot, link.as_ref(), options)?;
    say(&format!("{} at {}", robot.name, emulator.port().display()))?;
    for line in stdin().lock().lines() {
        match obey(std::slice::from_ref(&emulator), &line?) {
            Ok(answer) => say(&answer)?,
            Err(error) => say(&format!("error: {error}"))?,
        }
    }
    Ok(())
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
