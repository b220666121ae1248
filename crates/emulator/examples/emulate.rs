//! Plays a robot until its standard input ends.
//!
//! ```text
//! emulate ROBOT LINK [drop=0.01] [flip=0.001] [echo] [latency_ms=16] [seed=1] [mounting=1500]
//! ```
//!
//! `mounting` turns all horns by so many ticks. ROBOT is one of those with a name (`so101_follower`, ...) or `new:MODEL`. Commands on standard input, a line each,
//! each answered by a line: `move NAME TICKS` (by hand), `value NAME REGISTER`, `put NAME REGISTER VALUE`, `position NAME`, `die NAME`,
//! `restart NAME`, `load NAME PART`, `heat NAME DEGREES`, `unplug`, `replug`, `counts`.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Duration;

use sinew_drivers::{ControlTable, Register};
use sinew_emulator::{Emulator, Event, Options, Robot};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(robot), Some(link)) = (args.next(), args.next()) else {
        return Err("say which robot and where: emulate so101_follower /tmp/so101".into());
    };
    let mut robot = match robot.strip_prefix("new:") {
        Some(model) => Robot::new_motor(ControlTable::of_model(model).ok_or_else(|| format!("there is no model {model}"))?),
        None => Robot::all().into_iter().find(|known| known.name == robot).ok_or_else(|| format!("there is no robot {robot}"))?,
    };
    let mut options = Options::default();
    for arg in args {
        match arg.split_once('=') {
            None if arg == "echo" => options.echo = true,
            Some(("drop", rate)) => options.rates.drop = rate.parse()?,
            Some(("flip", rate)) => options.rates.flip_bit = rate.parse()?,
            Some(("latency_ms", ms)) => options.latency = Duration::from_millis(ms.parse()?),
            Some(("seed", seed)) => options.seed = seed.parse()?,
            Some(("mounting", ticks)) => {
                let ticks: f64 = ticks.parse()?;
                for joint in &mut robot.joints {
                    (joint.position, joint.stops) = (joint.position + ticks, (joint.stops.0 + ticks, joint.stops.1 + ticks));
                }
            }
            _ => return Err(format!("an option {arg}: there are drop=, flip=, echo, latency_ms=, seed=, mounting=").into()),
        }
    }
    let emulator = Emulator::start(&robot, link.as_ref(), options)?;
    say(&format!("{} at {}", robot.name, emulator.port().display()))?;
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match obey(&emulator, &words) {
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

fn obey(emulator: &Emulator, words: &[&str]) -> Result<String, Box<dyn Error>> {
    let done = |event| emulator.happen(event).map(|()| "done".to_owned());
    Ok(match *words {
        ["move", name, ticks] => {
            emulator.move_by_hand(name, ticks.parse()?)?;
            "done".to_owned()
        }
        ["value", name, register] => emulator.register(name, register_of(register)?)?.to_string(),
        ["put", name, register, value] => {
            let (register, value) = (register_of(register)?, value.parse()?);
            emulator.motor(name, |motor| motor.put(register, value))?;
            "done".to_owned()
        }
        ["position", name] => emulator.motor(name, |motor| motor.position())?.to_string(),
        ["die", name] => done(Event::Die(name.to_owned()))?,
        ["restart", name] => done(Event::Restart(name.to_owned()))?,
        ["load", name, part] => done(Event::Load(name.to_owned(), part.parse()?))?,
        ["heat", name, degrees] => done(Event::Heat(name.to_owned(), degrees.parse()?))?,
        ["unplug"] => done(Event::Unplug)?,
        ["replug"] => done(Event::Replug)?,
        ["counts"] => {
            let log = emulator.log();
            let (reads, writes) = (log.sync_reads(), log.sync_writes());
            let all = log.entries.len();
            let late = log.worst_lateness.as_secs_f64() * 1e3;
            format!(
                "{all} instructions, {reads} sync reads, {writes} sync writes, {} bytes of garbage, {} collisions, {} bytes unread, at most {late:.1} ms late",
                log.garbage, log.collisions, log.unread
            )
        }
        _ => return Err(format!("a command {words:?}").into()),
    })
}

fn register_of(name: &str) -> Result<Register, String> {
    Register::ALL.iter().copied().find(|known| known.name() == name).ok_or_else(|| format!("there is no register {name}"))
}
