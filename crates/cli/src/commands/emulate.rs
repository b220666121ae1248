//! `sinew emulate`: a robot that is not there.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{CameraDescription, Cameras, Clock, Environment, Image, Outcome, RobotDescription, Tick, Timestamp};
use sinew_drivers::{Calibration, ControlTable, MotorCalibration, Register, Scale, calibration_files, check_motors};
use sinew_emulator::{Emulator, Options, Robot, obey};
use sinew_runtime::{MonotonicClock, StopFlag};
use sinew_sim::{SharedWorld, SimCameras, SimEnvironment, SimMotors, Turned, World, robots, tasks};

use crate::args::{EmulateArgs, Misuse, PortArg, misuse, refuse_given};
use crate::arm::calibrations;
use crate::sim_socket::CameraServer;
use crate::text::{note, say};
use crate::{Done, text};

/// How often a hand moves a joint, and a world its motors.
const HAND_EVERY: Duration = Duration::from_millis(5);
const WORLD_EVERY: Duration = Duration::from_micros(4167);
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

pub fn run(args: &EmulateArgs) -> anyhow::Result<Done> {
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let played = if let Some(model) = args.robot.strip_prefix("new:") { new_motor(args, model)? } else { robot(args)? };
    if let Some(unknown) = args.fault.iter().filter_map(|fault| fault.motor()).find(|name| !played.has(name)) {
        misuse!("emulating {}: the fault names the motor {unknown}; there are {}", args.robot, played.motors().join(", "));
    }
    let world = args.world.as_ref().map(|task| Scene::new(args, task, &played)).transpose()?;
    let links = links(args, &played)?;
    // Who sees the port finds its calibration.
    if let (Some(id), Some(description)) = (&args.id, &played.description) {
        played.write(id, description)?;
    }
    let mut options = Options { seed: args.seed, latency: Duration::from_secs_f64(args.latency * 1e-3), ..Options::default() };
    args.fault.iter().for_each(|fault| fault.apply(&mut options));
    let mut buses = Vec::new();
    for ((_, robot), link) in played.buses.iter().zip(&links) {
        let mut options = options.clone();
        options.schedule.retain(|(_, event)| event.motor().is_none_or(|name| robot.joints.iter().any(|joint| joint.name == name)));
        buses.push(Emulator::start(robot, link, options)?);
    }
    if args.id.is_some() {
        played.calibrate(&buses)?;
    }
    if !args.json {
        for ((bus, robot), emulator) in played.buses.iter().zip(&buses) {
            let bus = if played.buses.len() > 1 { format!(", bus {bus}") } else { String::new() };
            say!("{}{bus}: {} motors at {}", args.robot, robot.joints.len(), emulator.port().display());
        }
    }
    let buses: Arc<[Emulator]> = buses.into();
    let mut verdict = None;
    {
        // Who waits for a line must not keep the ports open when it is over.
        let (theirs, json) = (Arc::downgrade(&buses), args.json);
        // Who has nothing to say ends nothing.
        thread::Builder::new().name("commands".into()).spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
                let Some(buses) = theirs.upgrade() else { return };
                let answer = obey(&buses, &line).unwrap_or_else(|error| format!("error: {error}"));
                // Standard output is JSON's alone.
                if json { note!("{answer}") } else { say!("{answer}") }
            }
        })?;
    }
    let clock = MonotonicClock::new();
    let end = args.seconds.map(|seconds| clock.now() + Duration::from_secs_f64(seconds));
    let is_over = || stop.is_requested() || end.is_some_and(|end| clock.now() >= end);
    if let Some(world) = world {
        verdict = Some(world.play(args, &buses, &is_over)?);
    } else if args.hand {
        wave(&played, &buses, args.seed, &is_over)?;
    } else {
        while !is_over() {
            thread::sleep(LOOK);
        }
    }
    if args.json {
        text::print_json(&report(&played, &buses, verdict))?;
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// What is played: a robot a bus.
struct Played {
    description: Option<RobotDescription>,
    buses: Vec<(String, Robot)>,
}

impl Played {
    fn motors(&self) -> Vec<&str> {
        self.buses.iter().flat_map(|(_, robot)| &robot.joints).map(|joint| joint.name.as_str()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.motors().contains(&name)
    }

    /// What a human would have measured who has moved every joint as far as it goes.
    fn measured(&self) -> Calibration {
        let joints = self.buses.iter().flat_map(|(_, robot)| &robot.joints);
        Calibration::new(joints.map(|joint| (joint.name.clone(), measured(joint))))
    }

    /// Writes the calibration to its files.
    fn write(&self, id: &str, description: &RobotDescription) -> anyhow::Result<()> {
        let calibration = self.measured();
        for file in calibration_files(description, id, &calibrations()?)? {
            let known = file.read()?;
            let is_same = |known: &Calibration| {
                file.parts.iter().all(|part| {
                    let name = &description.parts[*part].name;
                    known.get(name) == calibration.get(name)
                })
            };
            if known.is_some_and(|known| !is_same(&known)) {
                let (robot, path) = (&description.name, file.path.display());
                anyhow::bail!(
                    "emulating {robot}: {path} holds another calibration; expected none there: choose another --id, or remove it"
                );
            }
            file.write(description, &calibration)?;
            note!("calibration: {}", file.path.display());
        }
        Ok(())
    }

    /// Writes the calibration into the motors.
    fn calibrate(&self, buses: &[Emulator]) -> anyhow::Result<()> {
        let calibration = self.measured();
        for ((_, robot), emulator) in self.buses.iter().zip(buses) {
            for joint in &robot.joints {
                let Some(MotorCalibration { range_min, range_max, .. }) = calibration.get(&joint.name).copied() else { continue };
                emulator.motor(&joint.name, |motor| {
                    motor.put(Register::MinPositionLimit, range_min);
                    motor.put(Register::MaxPositionLimit, range_max);
                    motor.keep();
                })?;
            }
        }
        Ok(())
    }
}

fn measured(joint: &sinew_emulator::Joint) -> MotorCalibration {
    let last = i32::from(joint.table.resolution) - 1;
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "stops are within a turn, or endless")]
    let range = if joint.stops.0.is_finite() { (joint.stops.0.ceil() as i32, joint.stops.1.floor() as i32) } else { (0, last) };
    MotorCalibration { id: joint.id.into(), drive_mode: 0, homing_offset: 0, range_min: range.0, range_max: range.1 }
}

fn new_motor(args: &EmulateArgs, model: &str) -> anyhow::Result<Played> {
    let table = ControlTable::of_model(model);
    let table = table.ok_or_else(|| Misuse(format!("emulating a new motor: there is no model {model}")))?;
    let of_robots = [("--id", args.id.is_some()), ("--world", args.world.is_some()), ("--hand", args.hand)];
    refuse_given(&of_robots, "is for robots, and this is a new motor")?;
    Ok(Played { description: None, buses: vec![("arm".into(), Robot::new_motor(table))] })
}

fn robot(args: &EmulateArgs) -> anyhow::Result<Played> {
    let description = robots::get(&args.robot)?.description;
    check_motors(&description)?;
    let mut buses = Robot::from_description(&description)?;
    buses.iter_mut().for_each(|(_, robot)| keep_to_limits(&description, robot));
    Ok(Played { description: Some(description), buses })
}

/// The path of each bus.
fn links(args: &EmulateArgs, played: &Played) -> anyhow::Result<Vec<PathBuf>> {
    let names: Vec<&str> = played.buses.iter().map(|(bus, _)| bus.as_str()).collect();
    let expected = || {
        format!(
            "emulating {}: expected --link {}",
            args.robot,
            names.iter().map(|bus| format!("{bus}=PATH")).collect::<Vec<_>>().join(" --link ")
        )
    };
    let given = args.link.iter().map(|link| link.parse().map_err(anyhow::Error::msg)).collect::<anyhow::Result<Vec<PortArg>>>()?;
    if let Some(other) = given.iter().filter_map(|link| link.bus.as_deref()).find(|bus| !names.contains(bus)) {
        misuse!("{}: it has no bus {other}", expected());
    }
    if let ([_], [link]) = (&names[..], &given[..]) {
        return Ok(vec![link.place.clone().into()]);
    }
    anyhow::ensure!(given.len() == names.len(), Misuse(expected()));
    let find = |bus: &&str| {
        let link = given.iter().find(|link| link.bus.as_deref() == Some(*bus));
        link.map(|link| PathBuf::from(&link.place)).ok_or_else(|| Misuse(expected()).into())
    };
    let links: Vec<PathBuf> = names.iter().map(find).collect::<anyhow::Result<_>>()?;
    if let Some(twice) = links.iter().enumerate().find(|(i, link)| links[..*i].contains(link)) {
        misuse!("{}: found {} for two buses", expected(), twice.1.display());
    }
    Ok(links)
}

/// Moves every joint as a hand would: to and fro within its stops, each in its own time, never faster than a human does.
fn wave(played: &Played, buses: &[Emulator], seed: u64, is_over: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut joints = Vec::new();
    for ((_, robot), emulator) in played.buses.iter().zip(buses) {
        for joint in &robot.joints {
            let turn = f64::from(joint.table.resolution);
            let (low, high) = if joint.stops.0.is_finite() { joint.stops } else { (0.2 * turn, 0.8 * turn) };
            let (middle, reach) = ((low + high) / 2.0, 0.35 * (high - low));
            // At most about 60 degrees a second.
            let most_hz = turn / 6.0 / (std::f64::consts::TAU * reach.max(1.0));
            let from = emulator.motor(&joint.name, |motor| motor.position())?;
            joints.push((emulator, joint.name.clone(), from, middle, reach, most_hz * (0.5 + 0.5 * rng.f64()), rng.f64()));
        }
    }
    let clock = MonotonicClock::new();
    let begin = clock.now();
    while !is_over() {
        let t = clock.now().nanos_since(begin) as f64 * 1e-9;
        // It takes hold gently.
        let held = (t / 2.0).min(1.0);
        for (emulator, name, from, middle, reach, hz, phase) in &joints {
            let wanted = middle + reach * (std::f64::consts::TAU * (hz * t + phase)).sin();
            emulator.move_by_hand(name, from + held * held * (3.0 - 2.0 * held) * (wanted - from))?;
        }
        thread::sleep(HAND_EVERY);
    }
    Ok(())
}

/// A simulated task behind the motors.
struct Scene {
    motors: SimMotors,
    cameras: SimCameras,
    environment: SimEnvironment,
    server: CameraServer,
    images: Vec<Image>,
    camera_period: Duration,
    /// Of each part, its motor among all buses' and which tick is which place of it.
    joints: Vec<Option<(usize, Scale)>>,
    instruction: String,
}

impl Scene {
    fn new(args: &EmulateArgs, task: &str, played: &Played) -> anyhow::Result<Self> {
        let model = robots::get(&args.robot)?;
        let robot = &model.description;
        let doing = || format!("setting up the world {task} for {}", robot.name);
        let task = tasks::get(task)?;
        let world = SharedWorld::new(World::new(&model).with_context(doing)?);
        let mut environment = SimEnvironment::new(world.clone(), task);
        let instruction = environment.reset(args.seed).with_context(doing)?.task;
        let cameras = SimCameras::beside(world.clone()).with_context(doing)?;
        let socket = args.cameras.clone().unwrap_or_else(|| format!("{}.cameras", args.link[0]).into());
        let server = CameraServer::start(&socket, robot)?;
        let names = played.motors();
        let calibration = played.measured();
        let joint = |part: &sinew_core::Part| {
            let at = names.iter().position(|name| *name == part.name)?;
            let table = part.motor.as_ref().and_then(|motor| ControlTable::of_model(&motor.model))?;
            Some((at, Scale::of(part, table, &calibration.get(&part.name).copied()?).ok()?))
        };
        let joints = robot.parts.iter().map(joint).collect();
        let images = robot.cameras.iter().map(CameraDescription::blank).collect();
        let camera_period = Duration::from_secs(1) / robot.control_rate_hz.max(1);
        if !args.json {
            say!("world: {instruction} (seed {}); cameras at sim:{}", args.seed, socket.display());
        }
        Ok(Self { motors: SimMotors::new(world), cameras, environment, server, images, camera_period, joints, instruction })
    }

    /// Until it is over; what came out.
    fn play(mut self, args: &EmulateArgs, buses: &[Emulator], is_over: &dyn Fn() -> bool) -> anyhow::Result<serde_json::Value> {
        let clock = MonotonicClock::new();
        let counts: Vec<usize> = buses.iter().map(|bus| bus.motors(|motors| motors.len())).collect();
        let mut wanted: Vec<Option<f64>> = Vec::new();
        let mut goals: Vec<Option<f64>> = vec![None; self.joints.len()];
        let mut turned = vec![Turned::default(); self.joints.len()];
        let (mut next_image, mut sequence) = (Timestamp::ZERO, 0);
        let mut outcome = Outcome::Running;
        let mut due = clock.now();
        while !is_over() {
            wanted.clear();
            for bus in buses {
                bus.motors(|motors| wanted.extend(motors.iter().map(|motor| motor.wanted())));
            }
            for (goal, joint) in goals.iter_mut().zip(&self.joints) {
                #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "a register's value")]
                let ticks = joint.as_ref().and_then(|(at, scale)| wanted[*at].map(|ticks| scale.to_si(ticks.round() as i32)));
                *goal = ticks;
            }
            let now = clock.now();
            self.motors.advance(now, &goals, &mut turned)?;
            let mut first = 0;
            for (bus, count) in buses.iter().zip(&counts) {
                bus.motors(|motors| {
                    for (joint, turned) in self.joints.iter().zip(&turned) {
                        let Some((at, scale)) = joint else { continue };
                        if let Some(motor) = at.checked_sub(first).and_then(|at| motors.get_mut(at)) {
                            let position = scale.to_ticks(turned.value).into();
                            motor.carry(position, turned.velocity / scale.velocity(1.0), turned.effort * scale.direction());
                        }
                    }
                });
                first += count;
            }
            if now >= next_image {
                next_image = now + self.camera_period;
                let tick = Tick { turn: 0, due: now, period: self.camera_period, wants_images: true };
                self.cameras.newest(&tick, &mut self.images)?;
                if let Some(image) = self.images.first().filter(|image| image.sequence > sequence) {
                    sequence = image.sequence;
                    self.server.show(&self.images);
                }
                let now = self.environment.outcome();
                if now != outcome {
                    outcome = now;
                    if !args.json {
                        say!("world: {}", in_words(&outcome));
                    }
                }
            }
            due = due + WORLD_EVERY;
            clock.sleep_until(due);
        }
        Ok(serde_json::json!({"task": self.instruction, "seed": args.seed, "outcome": in_words(&outcome)}))
    }
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Running => "running".into(),
        Outcome::Success => "success".into(),
        Outcome::Failure(why) => format!("failure: {why}"),
    }
}

/// What was on the wire.
fn report(played: &Played, buses: &[Emulator], world: Option<serde_json::Value>) -> serde_json::Value {
    let wire: Vec<serde_json::Value> = played
        .buses
        .iter()
        .zip(buses)
        .map(|((name, _), bus)| {
            let log = bus.log();
            serde_json::json!({
                "bus": name, "instructions": log.entries.len() + log.forgotten, "sync_reads": log.sync_reads(), "sync_writes": log.sync_writes(),
                "garbage_bytes": log.garbage, "collisions": log.collisions, "unread_bytes": log.unread,
                "worst_lateness_ms": log.worst_lateness.as_secs_f64() * 1e3,
            })
        })
        .collect();
    serde_json::json!({"world": world, "buses": wire})
}

/// Joints that end where the description says so, and turn 0 where it does: so what is measured is what is.
fn keep_to_limits(description: &RobotDescription, robot: &mut Robot) {
    for joint in &mut robot.joints {
        let part = description.parts.iter().find(|part| part.name == joint.name);
        let range = part.and_then(|part| if part.unit.needs_range() { part.range } else { part.limits.position });
        if let Some([low, high]) = range.filter(|_| joint.stops.0.is_finite()) {
            let turn = f64::from(joint.table.resolution);
            let reach = ((high - low) / 2.0 / std::f64::consts::TAU * (turn - 1.0)).min(0.49 * turn);
            joint.stops = (turn / 2.0 - reach, turn / 2.0 + reach);
        }
    }
}
