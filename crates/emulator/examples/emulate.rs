//! Plays a robot until its standard input ends; `sinew emulate` does more.
//!
//! ```text
//! emulate FOLDER[:BUS] LINK [FAULT ...] [latency_ms=16] [seed=1] [mounting=1500]
//! ```
//!
//! FOLDER holds a robot.toml (`robots/so101`), BUS is which of its buses where it has several; or it is `new:MODEL`. Faults
//! and the commands on standard input, a line each that is answered by a line, are those of `sinew_emulator::FAULTS` and
//! `sinew_emulator::COMMANDS`. `mounting` turns all horns by so many ticks.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Duration;

use sinew_core::RobotDescription;
use sinew_drivers::ControlTable;
use sinew_emulator::{Emulator, FaultOption, Options, Robot, obey};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(robot), Some(link)) = (args.next(), args.next()) else {
        return Err("say which robot and where: emulate robots/so101 /tmp/so101".into());
    };
    let mut robot = match robot.strip_prefix("new:") {
        Some(model) => Robot::new_motor(ControlTable::of_model(model).ok_or_else(|| format!("there is no model {model}"))?),
        None => wire_of(&robot)?,
    };
    let mut options = Options::default();
    for arg in args {
        match arg.split_once('=') {
            Some(("latency_ms", ms)) => options.latency = Duration::from_millis(ms.parse()?),
            Some(("seed", seed)) => options.seed = seed.parse()?,
            Some(("mounting", ticks)) => {
                let ticks: f64 = ticks.parse()?;
                for joint in &mut robot.joints {
                    (joint.position, joint.stops) = (joint.position + ticks, (joint.stops.0 + ticks, joint.stops.1 + ticks));
                }
            }
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

/// What is on the bus that `wanted` names.
fn wire_of(wanted: &str) -> Result<Robot, Box<dyn Error>> {
    let (folder, bus) = wanted.split_once(':').map_or((wanted, None), |(folder, bus)| (folder, Some(bus)));
    let read = |folder: &Path| std::fs::read_to_string(folder.join("robot.toml"));
    let beside = |name: &str| read(&Path::new(folder).join("..").join(name)).ok();
    let text = read(Path::new(folder)).map_err(|error| format!("reading {folder}/robot.toml: {error}"))?;
    let mut wires = Robot::from_description(&RobotDescription::from_toml_with(folder, &text, &beside)?)?;
    let names: Vec<&str> = wires.iter().map(|(name, _)| name.as_str()).collect();
    let at = bus.map_or((wires.len() == 1).then_some(0), |bus| names.iter().position(|name| *name == bus));
    let at = at.ok_or_else(|| format!("say which bus, as {folder}:BUS: it has {}", names.join(", ")))?;
    Ok(wires.swap_remove(at).1)
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
