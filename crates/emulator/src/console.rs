//! What people type to an emulator: faults as options, and commands while it runs.

use std::str::FromStr;
use std::time::Duration;

use sinew_drivers::Register;
use thiserror::Error;

use crate::{Emulator, EmulatorError, Event, Fault, Options, Rates};

/// How commands are written, for a help text.
pub const COMMANDS: &str = "move MOTOR TICKS (by hand), position MOTOR, value MOTOR REGISTER, put MOTOR REGISTER VALUE, die MOTOR, \
     restart MOTOR, heat MOTOR DEGREES, supply MOTOR VOLTS, load MOTOR SHARE, unplug, replug, fault FAULT ... \
     (faults by chance replace the ones before; times count from now), counts, log [N ...] (instructions from the Nth on, as JSON)";

/// How faults are written, for a help text.
pub const FAULTS: &str = "By chance, for each answer: drop=P, flip=P (one bit), truncate=P, foreign=P, duplicate=P, delay=P:MS (up to so \
     many ms), lost=P (of each instruction); echo. At a time, in seconds: die:MOTOR@S, restart:MOTOR@S, heat:MOTOR=DEGREES@S, \
     supply:MOTOR=VOLTS@S, load:MOTOR=SHARE@S, unplug@S, replug@S; to a motor's next answer: drop:MOTOR@S, flip:MOTOR=BIT@S, \
     truncate:MOTOR=BYTES@S, delay:MOTOR=MS@S, foreign:MOTOR@S, duplicate:MOTOR@S, bare:MOTOR@S (no data), \
     error:MOTOR=BITS@S";

/// Words that make no sense.
#[derive(Debug, Error)]
pub enum ConsoleError {
    #[error("the fault {fault:?}: {what}")]
    Fault { fault: String, what: String },
    #[error("the command {command:?}: expected one of {COMMANDS}")]
    Command { command: String },
    #[error("the command {command:?}: expected a number, found {found:?}")]
    Number { command: String, found: String },
    #[error("there is no register {name}")]
    Register { name: String },
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
}

/// A fault as an option has it: see [`FAULTS`].
#[derive(Clone, Debug)]
pub struct FaultOption(What);

#[derive(Clone, Debug)]
enum What {
    Echo,
    Chance(fn(&mut Rates) -> &mut f64, f64),
    Delay(f64, Duration),
    At(Duration, Event),
}

impl FaultOption {
    /// Adds it to what is to happen.
    pub fn apply(&self, options: &mut Options) {
        match &self.0 {
            What::Echo => options.echo = true,
            What::Chance(rate, probability) => *rate(&mut options.rates) = *probability,
            What::Delay(probability, longest) => {
                (options.rates.delay, options.rates.longest_delay) = (*probability, *longest);
            }
            What::At(after, event) => options.schedule.push((*after, event.clone())),
        }
    }

    /// The motor that it is about, where it is about one.
    pub fn motor(&self) -> Option<&str> {
        match &self.0 {
            What::At(_, event) => event.motor(),
            _ => None,
        }
    }
}

impl FromStr for FaultOption {
    type Err = ConsoleError;

    fn from_str(fault: &str) -> Result<Self, ConsoleError> {
        let bad = |what: &str| ConsoleError::Fault { fault: fault.to_owned(), what: what.to_owned() };
        let number = |text: &str| {
            text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| bad(&format!("expected a number, found {text:?}")))
        };
        let seconds = |text: &str| {
            let seconds = number(text.strip_suffix('s').unwrap_or(text))?;
            Duration::try_from_secs_f64(seconds).map_err(|_negative| bad("expected a time of 0 s or more"))
        };
        if fault == "echo" {
            return Ok(Self(What::Echo));
        }
        let Some((what, at)) = fault.split_once('@') else {
            let (name, value) = fault.split_once('=').ok_or_else(|| bad(&format!("expected one of: {FAULTS}")))?;
            let (share, longest) = value.split_once(':').map_or((value, None), |(share, longest)| (share, Some(longest)));
            let probability = number(share)?;
            if !(0.0..=1.0).contains(&probability) {
                return Err(bad("expected a probability from 0 to 1"));
            }
            let rate: fn(&mut Rates) -> &mut f64 = match (name, longest) {
                ("drop", None) => |rates| &mut rates.drop,
                ("flip", None) => |rates| &mut rates.flip_bit,
                ("truncate", None) => |rates| &mut rates.truncate,
                ("foreign", None) => |rates| &mut rates.foreign,
                ("duplicate", None) => |rates| &mut rates.duplicate,
                ("lost", None) => |rates| &mut rates.lost_instruction,
                ("delay", Some(ms)) => return Ok(Self(What::Delay(probability, seconds(ms.trim_end_matches("ms"))? / 1000))),
                _ => return Err(bad(&format!("expected one of: {FAULTS}"))),
            };
            return Ok(Self(What::Chance(rate, probability)));
        };
        let after = seconds(at)?;
        let (what, value) = what.split_once('=').map_or((what, None), |(what, value)| (what, Some(value)));
        let (name, motor) = what.split_once(':').map_or((what, None), |(name, motor)| (name, Some(motor.to_owned())));
        let count = |text: &str| text.parse::<usize>().map_err(|_none| bad(&format!("expected a whole number, found {text:?}")));
        let answer = |motor, fault| Event::Answer(motor, fault);
        let event = match (name, motor, value) {
            ("unplug", None, None) => Event::Unplug,
            ("replug", None, None) => Event::Replug,
            ("die", Some(motor), None) => Event::Die(motor),
            ("restart", Some(motor), None) => Event::Restart(motor),
            ("heat", Some(motor), Some(degrees)) => Event::Heat(motor, number(degrees)?),
            ("supply", Some(motor), Some(volts)) => Event::Supply(motor, number(volts)?),
            ("load", Some(motor), Some(share)) => Event::Load(motor, number(share)?),
            ("drop", Some(motor), None) => answer(motor, Fault::Drop),
            ("duplicate", Some(motor), None) => answer(motor, Fault::Duplicate),
            ("bare", Some(motor), None) => answer(motor, Fault::Bare),
            ("foreign", Some(motor), None) => answer(motor, Fault::Foreign(vec![0xff, 0xff, 0x01, 0x7e])),
            ("flip", Some(motor), Some(bit)) => answer(motor, Fault::FlipBit(count(bit)?)),
            ("truncate", Some(motor), Some(bytes)) => answer(motor, Fault::Truncate(count(bytes)?)),
            ("delay", Some(motor), Some(ms)) => answer(motor, Fault::Delay(seconds(ms)? / 1000)),
            ("error", Some(motor), Some(bits)) => {
                let bits = u8::try_from(count(bits)?).map_err(|_large| bad("expected error bits from 0 to 255"))?;
                answer(motor, Fault::ErrorBits(bits))
            }
            _ => return Err(bad(&format!("expected one of: {FAULTS}"))),
        };
        Ok(Self(What::At(after, event)))
    }
}

/// Does what a line says to a robot whose buses these are, and answers with a line: see [`COMMANDS`].
///
/// # Errors
/// When it makes no sense, or names a motor that none of them has.
pub fn obey(buses: &[Emulator], line: &str) -> Result<String, ConsoleError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let bad = || ConsoleError::Command { command: line.trim().to_owned() };
    let number = |text: &str| {
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| ConsoleError::Number { command: line.trim().to_owned(), found: text.to_owned() })
    };
    let of = |name: &str| {
        let known = buses.iter().find(|bus| bus.motor(name, |_| ()).is_ok());
        known.or(buses.first()).ok_or_else(bad)
    };
    let register = |name: &str| {
        let known = Register::ALL.iter().copied().find(|known| known.name() == name);
        known.ok_or_else(|| ConsoleError::Register { name: name.to_owned() })
    };
    let happen = |name: &str, event| of(name).and_then(|bus| Ok(bus.happen(event)?)).map(|()| "done".to_owned());
    let everywhere = |event: Event| {
        buses.iter().try_for_each(|bus| bus.happen(event.clone()))?;
        Ok("done".to_owned())
    };
    match *words {
        ["move", name, ticks] => {
            of(name)?.move_by_hand(name, number(ticks)?)?;
            Ok("done".to_owned())
        }
        ["value", name, wanted] => Ok(of(name)?.register(name, register(wanted)?)?.to_string()),
        ["put", name, wanted, value] => {
            let (wanted, value) = (register(wanted)?, number(value)?);
            #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "what is too large becomes the largest")]
            of(name)?.motor(name, |motor| motor.put(wanted, value as i32))?;
            Ok("done".to_owned())
        }
        ["position", name] => Ok(of(name)?.motor(name, |motor| motor.position())?.to_string()),
        ["die", name] => happen(name, Event::Die(name.to_owned())),
        ["restart", name] => happen(name, Event::Restart(name.to_owned())),
        ["load", name, share] => happen(name, Event::Load(name.to_owned(), number(share)?)),
        ["heat", name, degrees] => happen(name, Event::Heat(name.to_owned(), number(degrees)?)),
        ["supply", name, volts] => happen(name, Event::Supply(name.to_owned(), number(volts)?)),
        ["unplug"] => everywhere(Event::Unplug),
        ["replug"] => everywhere(Event::Replug),
        ["fault", ref faults @ ..] => {
            let faults = faults.iter().map(|fault| fault.parse()).collect::<Result<Vec<FaultOption>, _>>()?;
            instead(buses, &faults).map(|()| "done".to_owned())
        }
        ["log", ref since @ ..] => {
            let since = since.iter().map(|text| text.parse::<usize>().map_err(|_bad| bad())).collect::<Result<Vec<_>, _>>()?;
            let of = |(i, bus): (usize, &Emulator)| bus.json_since(since.get(i).copied().unwrap_or(0));
            Ok(format!("[{}]", buses.iter().enumerate().map(of).collect::<Vec<_>>().join(",")))
        }
        ["counts"] => Ok(buses.iter().map(counts).collect::<Vec<_>>().join("; ")),
        _ => Err(bad()),
    }
}

/// What goes wrong from now on.
fn instead(buses: &[Emulator], faults: &[FaultOption]) -> Result<(), ConsoleError> {
    if faults.iter().any(|fault| matches!(fault.0, What::Echo)) {
        return Err(ConsoleError::Fault { fault: "echo".into(), what: "an adapter echoes from the start, or never".into() });
    }
    let mut options = Options::default();
    faults.iter().for_each(|fault| fault.apply(&mut options));
    buses.iter().try_for_each(|bus| bus.happen(Event::Rates(options.rates)))?;
    for (after, event) in options.schedule {
        let theirs = |bus: &&Emulator| event.motor().is_none_or(|name| bus.motor(name, |_| ()).is_ok());
        let named: Vec<&Emulator> = buses.iter().filter(theirs).collect();
        let named = if named.is_empty() { buses.iter().take(1).collect() } else { named };
        named.iter().try_for_each(|bus| bus.happen_after(after, event.clone()))?;
    }
    Ok(())
}

fn counts(bus: &Emulator) -> String {
    let log = bus.log();
    format!(
        "{} instructions, {} sync reads, {} sync writes, {} bytes of garbage, {} collisions, {} bytes unread, at most {:.1} ms late",
        log.entries.len(),
        log.sync_reads(),
        log.sync_writes(),
        log.garbage,
        log.collisions,
        log.unread,
        log.worst_lateness.as_secs_f64() * 1e3
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;
    use crate::Robot;

    #[test]
    fn faults_and_the_log_are_commands_too() {
        let folder = tempfile::tempdir().unwrap();
        let emulator = Emulator::start(&Robot::so101_follower(), &folder.path().join("port"), Options::default()).unwrap();
        let buses = [emulator];
        let say = |line: &str| obey(&buses, line).map_err(|error| error.to_string());
        assert_eq!(say("fault drop=0.01 flip=0.001 bare:gripper@60").unwrap(), "done");
        assert_eq!(say("fault").unwrap(), "done");
        for (line, why) in [
            ("fault echo", "from the start"),
            ("fault drop=2", "from 0 to 1"),
            ("fault bare:nobody@1", "no motor nobody"),
            ("log x", "log x"),
        ] {
            let error = say(line).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let log = say("log 7").unwrap();
        assert!(log.starts_with("[{\"now_s\":") && log.ends_with("\"next\":0,\"entries\":[]}]"), "{log}");
    }

    #[test]
    fn faults_are_understood_or_refused() {
        let mut options = Options::default();
        for fault in ["drop=0.01", "delay=0.5:20ms", "echo", "die:elbow_flex@10s", "unplug@1.5", "heat:gripper=70@2", "flip:gripper=3@4"] {
            fault.parse::<FaultOption>().unwrap().apply(&mut options);
        }
        assert_eq!((options.rates.drop, options.rates.delay, options.echo), (0.01, 0.5, true));
        assert_eq!(options.rates.longest_delay, Duration::from_millis(20));
        let schedule = [
            (Duration::from_secs(10), Event::Die("elbow_flex".into())),
            (Duration::from_millis(1500), Event::Unplug),
            (Duration::from_secs(2), Event::Heat("gripper".into(), 70.0)),
            (Duration::from_secs(4), Event::Answer("gripper".into(), Fault::FlipBit(3))),
        ];
        assert_eq!(options.schedule, schedule);
        for (fault, why) in [
            ("drop", "expected one of"),
            ("drop=2", "from 0 to 1"),
            ("drop=x", "expected a number"),
            ("delay=0.1", "expected one of"),
            ("die:elbow@-1", "0 s or more"),
            ("die@3", "expected one of"),
            ("unplug:arm@3", "expected one of"),
            ("error:gripper=256@1", "from 0 to 255"),
            ("drop=nan", "expected a number"),
        ] {
            let error = fault.parse::<FaultOption>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(fault), "{error}");
        }
    }
}
