//! Drives a Reachy Mini through its daemon, up and down and to and fro, and says what happens. `scripts/check_reachy_mini.sh`
//! runs it against the daemon's own mock-up.
//!
//! ```text
//! drive_reachy_mini ROBOT.toml HOST:PORT SECONDS
//! ```
//!
//! When the daemon is lost the robot's watch ends the drive, as in a session; it is driven again when the daemon is back.

#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_core::{Armed, Clock, Observation, Robot, RobotDescription, Tick, Timestamp, Unwatched, Wanted};
use sinew_drivers::ReachyMini;

const PERIOD: Duration = Duration::from_millis(20);

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.0.elapsed()
    }

    fn sleep_until(&self, deadline: Timestamp) {
        std::thread::sleep(Duration::from_nanos(u64::try_from(deadline.nanos_since(self.now())).unwrap_or(0)));
    }

    fn runs_by_itself(&self) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, address, seconds] = &args[..] else { return Err("say which robot, where, and for how long".into()) };
    let description = Arc::new(RobotDescription::from_toml(file, &std::fs::read_to_string(file)?)?);
    let clock: Arc<dyn Clock> = Arc::new(RealClock(Instant::now()));
    let mut robot = ReachyMini::connect(description.clone(), address, clock.clone())?;
    println!("{:6.2} s  connected; it has been told nothing", clock.now().as_secs_f64());
    let end = clock.now() + Duration::from_secs_f64(seconds.parse()?);
    let mut drives = 0;
    while clock.now() < end {
        drives += 1;
        if let Err(error) = drive(&mut robot, &description, clock.as_ref(), end) {
            println!("{:6.2} s  drive {drives} ended: {error}", clock.now().as_secs_f64());
            let mut observation = Observation::for_robot(&description);
            let mut waits = 0;
            while robot.finish_read(&tick(clock.as_ref(), 0), clock.now(), &mut observation).is_err() {
                waits += 1;
                clock.sleep_until(clock.now() + PERIOD);
            }
            println!("{:6.2} s  the daemon is back, after {waits} looks", clock.now().as_secs_f64());
            // Its first state follows.
            clock.sleep_until(clock.now() + Duration::from_millis(500));
        }
    }
    println!("{:6.2} s  {:?}, {drives} drives", clock.now().as_secs_f64(), robot.counts());
    Ok(())
}

fn tick(clock: &dyn Clock, turn: u64) -> Tick {
    Tick { turn, due: clock.now(), period: PERIOD, wants_images: false }
}

/// Goes round until `end`; an error ends it sooner, and the robot is then where its description says.
fn drive(robot: &mut ReachyMini, description: &RobotDescription, clock: &dyn Clock, end: Timestamp) -> Result<(), Box<dyn Error>> {
    let names = description.action_names();
    let state = description.state_names();
    let mut observation = Observation::for_robot(description);
    let mut armed = Armed::new(robot, &Unwatched, clock, &tick(clock, 0), &mut observation)?;
    let begin = clock.now();
    println!("{:6.2} s  it has torque", begin.as_secs_f64());
    let from = armed.commanded().to_vec();
    let mut wanted = Wanted::for_robot(description);
    let (mut turn, mut failed, mut worst) = (0_u32, 0, vec![0.0_f64; names.len()]);
    let (mut longest, mut oldest) = (Duration::ZERO, Duration::ZERO);
    while clock.now() < end {
        clock.sleep_until(begin + PERIOD * turn);
        turn += 1;
        let t = f64::from(turn) * PERIOD.as_secs_f64();
        // From where it was found to the middle, and round that.
        let share = (t / 3.0).min(1.0);
        for ((goal, name), from) in wanted.goals.iter_mut().zip(&names).zip(&from) {
            let (size, period_s) = match name.as_str() {
                "head.x" | "head.y" | "head.z" => (0.005, 3.0),
                "right_antenna.pos" | "left_antenna.pos" => (0.5, 2.0),
                _ => (0.15, 4.0),
            };
            *goal = from * (1.0 - share) + share * size * (TAU * t / period_s).sin();
        }
        wanted.time = clock.now();
        let began = clock.now();
        failed += u32::from(armed.read(&tick(clock, turn.into()), &mut observation).is_err());
        let driven = armed.drive(Some(&wanted), &observation, PERIOD.as_secs_f64());
        longest = longest.max(Duration::from_nanos(clock.now().nanos_since(began).unsigned_abs()));
        match driven {
            Ok(_) => {}
            Err(error) if error.is_transient() => failed += 1,
            Err(error) => {
                println!("{:6.2} s  {failed} calls failed in {turn} ticks", clock.now().as_secs_f64());
                return Err(error.into());
            }
        }
        for (i, name) in names.iter().enumerate() {
            let at = state.iter().position(|other| other == name).unwrap_or(usize::MAX);
            if let (Some(value), true) = (observation.state.get(at), t > 5.0) {
                worst[i] = worst[i].max((value - armed.commanded()[i]).abs());
            }
            let time = observation.state.readings().get(at).and_then(|reading| reading.time);
            oldest = oldest.max(time.map_or(Duration::ZERO, |time| Duration::from_nanos(clock.now().nanos_since(time).unsigned_abs())));
        }
    }
    println!(
        "{:6.2} s  {turn} ticks, {failed} calls failed; the longest tick worked {longest:?}; no value was older than {oldest:?}",
        clock.now().as_secs_f64()
    );
    for (name, worst) in names.iter().zip(&worst) {
        println!("          {name:18} was at most {worst:.4} from what was commanded last");
    }
    armed.disarm()?;
    println!("{:6.2} s  stopped", clock.now().as_secs_f64());
    Ok(())
}
