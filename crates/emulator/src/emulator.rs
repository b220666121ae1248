//! A robot behind a terminal device, in a thread of its own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sinew_drivers::wire::Protocol;
use sinew_drivers::{ControlTable, Register, TableError};
use thiserror::Error;

use crate::bus::{Answer, Bus, is_instruction};
use crate::fault::{Event, Fault, Rates};
use crate::line::{Arrival, Line};
use crate::log::{Entry, Log, Said};
use crate::motor::Motor;
use crate::port::{Arrived, Port};
use crate::robots::Robot;

/// How long the thread sleeps when nobody has the port open.
const NOBODY: Duration = Duration::from_millis(2);

/// By how much the thread is nicer than others; less than 0, and so less nice.
const PRIORITY: i32 = -15;

/// What can go wrong with an emulator itself.
#[derive(Debug, Error)]
pub enum EmulatorError {
    #[error("emulating {robot}: it has no motors")]
    NoMotors { robot: String },
    #[error("emulating {robot}: {joint} speaks {found}, and others {expected}", found = found.name(), expected = expected.name())]
    Protocols { robot: String, joint: String, found: Protocol, expected: Protocol },
    #[error("emulating {robot}: making {joint}")]
    Motor {
        robot: String,
        joint: String,
        #[source]
        source: TableError,
    },
    #[error("emulating {robot}: opening a terminal at {link}")]
    Port {
        robot: String,
        link: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("emulating {robot}: starting its thread")]
    Thread {
        robot: String,
        #[source]
        source: io::Error,
    },
    #[error("there is no motor {name}; there are {known}")]
    NoMotor { name: String, known: String },
}

/// How the emulated cable behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Of all that is left to chance.
    pub seed: u64,
    /// Between two transfers of the adapter. The bytes that came meanwhile arrive together.
    pub transfer: Duration,
    /// What the adapter adds to each byte's way to the host: 0 for the boards of SO-101, 16 ms for an FTDI whose latency
    /// timer nobody has set.
    pub latency: Duration,
    /// The adapter sends back what it gets.
    pub echo: bool,
    /// How far measured positions are off now and then, in ticks.
    pub noise_ticks: f64,
    pub rates: Rates,
    /// What happens when, after the start.
    pub schedule: Vec<(Duration, Event)>,
}

impl Default for Options {
    fn default() -> Self {
        let transfer = Duration::from_micros(125);
        Self { seed: 1, transfer, latency: Duration::ZERO, echo: false, noise_ticks: 1.0, rates: Rates::default(), schedule: Vec::new() }
    }
}

/// Everything that the thread and the handle share.
struct World {
    bus: Bus,
    line: Line,
    log: Log,
    rng: fastrand::Rng,
    options: Options,
    /// By motor, what the next answers suffer.
    waiting: Vec<VecDeque<Fault>>,
    /// What is still to happen, the first first.
    schedule: VecDeque<(Instant, Event)>,
    is_plugged: bool,
    is_open: bool,
    is_over: bool,
}

struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    wake: OwnedFd,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full means that it will wake up anyway.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A robot that runs until this is dropped.
pub struct Emulator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    link: PathBuf,
    begun: Instant,
}

impl Emulator {
    /// Begins to play `robot` on a terminal device that is linked to `link`. A link that is there already is replaced.
    ///
    /// # Errors
    /// When the robot makes no sense, or the system gives no terminal.
    pub fn start(robot: &Robot, link: &Path, options: Options) -> Result<Self, EmulatorError> {
        let name = || robot.name.clone();
        let now = Instant::now();
        let Some(protocol) = robot.joints.first().map(|joint| joint.table.protocol) else {
            return Err(EmulatorError::NoMotors { robot: name() });
        };
        let mut motors = Vec::new();
        for joint in &robot.joints {
            let found = joint.table.protocol;
            if found != protocol {
                return Err(EmulatorError::Protocols { robot: name(), joint: joint.name.clone(), found, expected: protocol });
            }
            let make = if robot.is_new { Motor::from_factory } else { Motor::new };
            let failed = |source| EmulatorError::Motor { robot: name(), joint: joint.name.clone(), source };
            let mut motor = make(joint, robot.firmware, now).map_err(failed)?;
            motor.set_noise(options.noise_ticks);
            motors.push(motor);
        }
        let failed = |source: io::Error| EmulatorError::Port { robot: name(), link: link.to_owned(), source };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
        let port = Port::open(link).map_err(failed)?;
        let rng = fastrand::Rng::with_seed(options.seed);
        let mut schedule: Vec<(Instant, Event)> = options.schedule.iter().map(|(after, event)| (now + *after, event.clone())).collect();
        schedule.sort_by_key(|(at, _)| *at);
        let waiting = vec![VecDeque::new(); motors.len()];
        let bus = Bus { protocol, motors, rng: fastrand::Rng::with_seed(options.seed ^ 0x5eed) };
        let line = Line::new(protocol, now);
        let world = World {
            bus,
            line,
            log: Log::default(),
            rng,
            options,
            waiting,
            schedule: schedule.into(),
            is_plugged: true,
            is_open: true,
            is_over: false,
        };
        let shared = Arc::new(Shared { world: Mutex::new(world), changed: Condvar::new(), wake });
        let (theirs, path) = (Arc::clone(&shared), link.to_owned());
        let thread = std::thread::Builder::new()
            .name(format!("emulated {}", robot.name))
            .spawn(move || run(&theirs, port, &path))
            .map_err(|source| EmulatorError::Thread { robot: name(), source })?;
        Ok(Self { shared, thread: Some(thread), link: link.to_owned(), begun: now })
    }

    /// The path to open as a serial port.
    pub fn port(&self) -> &Path {
        &self.link
    }

    /// Looks at a motor, or does something to it, at this moment.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn motor<T>(&self, name: &str, what: impl FnOnce(&mut Motor) -> T) -> Result<T, EmulatorError> {
        let mut world = self.shared.world();
        let at = world.find(name)?;
        let motor = &mut world.bus.motors[at];
        motor.advance(Instant::now());
        Ok(what(motor))
    }

    /// The same for all motors at once, in the robot's order.
    pub fn motors<T>(&self, what: impl FnOnce(&mut [Motor]) -> T) -> T {
        let mut world = self.shared.world();
        let now = Instant::now();
        world.bus.motors.iter_mut().for_each(|motor| motor.advance(now));
        what(&mut world.bus.motors)
    }

    /// A register's value at this moment.
    ///
    /// # Errors
    /// When there is no motor of that name.
    pub fn register(&self, name: &str, register: Register) -> Result<i32, EmulatorError> {
        self.motor(name, |motor| motor.value(register))
    }

    /// Brings a joint by hand to where its shaft stands at `position` ticks.
    ///
    /// # Errors
    /// When there is no motor of that name.
    pub fn move_by_hand(&self, name: &str, position: f64) -> Result<(), EmulatorError> {
        self.motor(name, |motor| motor.move_by_hand(position))
    }

    /// What was asked and said so far.
    pub fn log(&self) -> Log {
        self.shared.world().log.clone()
    }

    /// The log's entries from the one of number `since` on, as an object of JSON: `now_s` and each `at_s` are seconds since it
    /// began, `next` is the number of the entry that comes next.
    pub(crate) fn json_since(&self, since: usize) -> String {
        // The motors wait meanwhile: what takes long is done after it.
        let (now, next, entries) = {
            let world = self.shared.world();
            let Log { entries, forgotten, .. } = &world.log;
            let known = entries.get(since.saturating_sub(*forgotten)..).unwrap_or_default();
            (Instant::now(), forgotten + entries.len(), known.to_vec())
        };
        let entries: Vec<String> = entries.iter().map(|entry| entry.json(self.begun)).collect();
        let now_s = now.saturating_duration_since(self.begun).as_secs_f64();
        format!(r#"{{"now_s":{now_s:.6},"next":{next},"entries":[{}]}}"#, entries.join(","))
    }

    /// The same, and the next log begins now.
    pub fn take_log(&self) -> Log {
        std::mem::take(&mut self.shared.world().log)
    }

    /// Makes something happen now. After [`Event::Unplug`] and [`Event::Replug`] it waits until the terminal is gone or
    /// there.
    ///
    /// # Errors
    /// When the event names a motor that is not there.
    pub fn happen(&self, event: Event) -> Result<(), EmulatorError> {
        let mut world = self.shared.world();
        let wanted = match event {
            Event::Unplug => Some(false),
            Event::Replug => Some(true),
            _ => None,
        };
        world.happen(event, Instant::now())?;
        self.shared.wake();
        if let Some(wanted) = wanted {
            let timeout = Duration::from_secs(2);
            let waited = self.shared.changed.wait_timeout_while(world, timeout, |world| world.is_open != wanted);
            drop(waited);
        }
        Ok(())
    }

    /// Makes something happen `after` a while from now.
    ///
    /// # Errors
    /// When the event names a motor that is not there.
    pub fn happen_after(&self, after: Duration, event: Event) -> Result<(), EmulatorError> {
        let mut world = self.shared.world();
        if let Some(name) = event.motor() {
            world.find(name)?;
        }
        let at = Instant::now() + after;
        let place = world.schedule.iter().take_while(|(known, _)| *known <= at).count();
        world.schedule.insert(place, (at, event));
        self.shared.wake();
        Ok(())
    }

    /// The control table of a motor.
    ///
    /// # Errors
    /// When there is no motor of that name.
    pub fn table(&self, name: &str) -> Result<&'static ControlTable, EmulatorError> {
        self.motor(name, |motor| motor.table())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.world().is_over = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the emulator's thread had panicked");
        }
    }
}

impl World {
    fn find(&self, name: &str) -> Result<usize, EmulatorError> {
        self.bus.motors.iter().position(|motor| motor.name() == name).ok_or_else(|| {
            let known: Vec<&str> = self.bus.motors.iter().map(Motor::name).collect();
            EmulatorError::NoMotor { name: name.to_owned(), known: known.join(", ") }
        })
    }

    fn happen(&mut self, event: Event, now: Instant) -> Result<(), EmulatorError> {
        let at = event.motor().map(|name| self.find(name)).transpose()?;
        let motor = at.and_then(|at| self.bus.motors.get_mut(at));
        if let Some(motor) = motor {
            motor.advance(now);
            match event {
                Event::Die(_) => motor.die(),
                Event::Restart(_) => motor.restart(),
                Event::Heat(_, degrees) => motor.set_temperature(degrees),
                Event::Supply(_, volts) => motor.set_supply(volts),
                Event::Load(_, load) => motor.set_load(load),
                Event::Answer(_, fault) => {
                    if let Some(waiting) = at.and_then(|at| self.waiting.get_mut(at)) {
                        waiting.push_back(fault);
                    }
                }
                Event::Unplug | Event::Replug | Event::Rates(_) => {}
            }
            return Ok(());
        }
        match event {
            Event::Unplug => self.is_plugged = false,
            Event::Replug => self.is_plugged = true,
            Event::Rates(rates) => self.options.rates = rates,
            _ => {}
        }
        Ok(())
    }

    /// What the host wrote.
    fn arrive(&mut self, now: Instant, bytes: &[u8], speed: u32) {
        let (arrivals, garbage) = self.line.take(now, bytes, speed, self.options.echo);
        self.log.garbage += garbage;
        for arrival in arrivals {
            if self.line.collides(arrival.since, arrival.at, &mut self.rng) {
                self.log.collisions += 1;
                continue;
            }
            if is_instruction(arrival.code) {
                self.obey(&arrival, speed);
            }
        }
    }

    fn obey(&mut self, arrival: &Arrival, speed: u32) {
        let Arrival { at, id, code, params, .. } = arrival;
        let is_lost = self.options.rates.lost_instruction > 0.0 && self.rng.f64() < self.options.rates.lost_instruction;
        // A speed that no motor listens at is how a lost one is lost, too.
        let heard = self.bus.hear(*at, *id, *code, params, if is_lost { 0 } else { speed });
        let mut entry = Entry { at: *at, id: *id, asked: heard.asked, is_heard: heard.is_heard, said: Vec::new() };
        let mut from = *at;
        for answer in heard.answers {
            let (end, is_whole) = self.say(from + answer.after, &answer);
            from = end;
            entry.said.push(Said { id: answer.id, error: answer.error, data: answer.data, is_whole, until: end });
        }
        self.log.push(entry);
    }

    /// Puts an answer on the wire, with what happens to it; when it has left, and whether it is as it was said.
    fn say(&mut self, from: Instant, answer: &Answer) -> (Instant, bool) {
        let mut faults = self.options.rates.draw(answer.bytes.len(), &mut self.rng);
        faults.extend(self.waiting.get_mut(answer.motor).and_then(VecDeque::pop_front));
        let mut bytes = answer.bytes.clone();
        let mut from = from;
        let mut times = 1;
        for fault in &faults {
            match fault {
                // It takes its time on the wire all the same, for those that wait for it.
                Fault::Drop => times = 0,
                Fault::Truncate(len) => bytes.truncate(*len),
                Fault::FlipBit(bit) => {
                    let len = bytes.len().max(1);
                    if let Some(byte) = bytes.get_mut(bit / 8 % len) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
                Fault::Delay(by) => from += *by,
                Fault::Foreign(before) => bytes.splice(..0, before.iter().copied()).for_each(drop),
                Fault::Duplicate => times *= 2,
                Fault::ErrorBits(_) | Fault::Bare => {
                    let (bits, data): (u8, &[u8]) = match fault {
                        Fault::ErrorBits(bits) => (*bits, &answer.data),
                        _ => (0, &[]),
                    };
                    let mut other = Vec::new();
                    if self.bus.protocol.status(&mut other, answer.id, answer.error | bits, data).is_ok() {
                        bytes = other;
                    }
                }
            }
        }
        let mut end = from;
        for _ in 0..times {
            end = self.line.put(end, &bytes);
        }
        if times == 0 {
            end = from + crate::bus::byte_time(1_000_000) * u32::try_from(bytes.len()).unwrap_or(0);
        }
        (end, answer.is_whole && faults.is_empty())
    }
}

impl Event {
    /// The motor that it is about.
    pub fn motor(&self) -> Option<&str> {
        match self {
            Self::Die(name)
            | Self::Restart(name)
            | Self::Heat(name, _)
            | Self::Supply(name, _)
            | Self::Load(name, _)
            | Self::Answer(name, _) => Some(name),
            Self::Unplug | Self::Replug | Self::Rates(_) => None,
        }
    }
}

/// The thread: until the emulator is dropped.
fn run(shared: &Shared, port: Port, link: &Path) {
    // Motors don't wait for a busy machine. Only this thread is meant, on Linux; who may not have it goes without.
    if let Err(error) = rustix::process::nice(PRIORITY) {
        tracing::debug!("asking for a higher priority: {error}");
    }
    let mut port = Some(port);
    let mut buffer = vec![0; 4096];
    let mut out = Vec::new();
    let mut is_there = true;
    loop {
        let mut wake_at = None;
        {
            let mut world = shared.world();
            if world.is_over {
                return;
            }
            let now = Instant::now();
            while let Some((at, _)) = world.schedule.front()
                && *at <= now
            {
                if let Some((_, event)) = world.schedule.pop_front()
                    && let Err(error) = world.happen(event, now)
                {
                    tracing::warn!("{error}");
                }
            }
            plug(&mut world, &mut port, link);
            shared.changed.notify_all();
            if let Some(port) = &port {
                is_there = serve(&mut world, port, &mut buffer, &mut out);
            }
            let latency = world.options.latency;
            let next = world.line.next(latency).map(|at| at.max(now + world.options.transfer));
            wake_at = [wake_at, next, world.schedule.front().map(|(at, _)| *at)].into_iter().flatten().min();
        }
        if !is_there && port.is_some() {
            wake_at = Some(wake_at.map_or(Instant::now() + NOBODY, |at: Instant| at.min(Instant::now() + NOBODY)));
        }
        let heard = if is_there { port.as_ref().map(Port::as_fd) } else { None };
        sleep(shared, heard, wake_at);
    }
}

/// Opens or closes the terminal as wanted.
fn plug(world: &mut World, port: &mut Option<Port>, link: &Path) {
    if !world.is_plugged && port.take().is_some() {
        world.line.cut();
    }
    if world.is_plugged && port.is_none() {
        match Port::open(link) {
            Ok(opened) => *port = Some(opened),
            Err(error) => tracing::warn!("opening a terminal at {}: {error}", link.display()),
        }
    }
    world.is_open = port.is_some();
}

/// Reads what the host wrote and writes what is due; whether anybody is there.
fn serve(world: &mut World, port: &Port, buffer: &mut [u8], out: &mut Vec<u8>) -> bool {
    loop {
        match port.read(buffer) {
            Arrived::Bytes(len) => {
                let speed = port.speed();
                world.arrive(Instant::now(), &buffer[..len], speed);
            }
            Arrived::Nothing => break,
            Arrived::NobodyThere => {
                world.line.cut();
                return false;
            }
        }
    }
    out.clear();
    let latency = world.options.latency;
    let late = world.line.due(Instant::now(), latency, out);
    world.log.worst_lateness = world.log.worst_lateness.max(late);
    if !out.is_empty() {
        world.log.unread += port.write(out);
    }
    true
}

/// Until something comes, somebody wants something, or the time has come.
fn sleep(shared: &Shared, port: Option<std::os::fd::BorrowedFd<'_>>, until: Option<Instant>) {
    let timeout = until.map(|until| {
        let left = until.saturating_duration_since(Instant::now());
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
    });
    let wake = shared.wake.as_fd();
    let mut both = [PollFd::from_borrowed_fd(wake, PollFlags::IN), PollFd::from_borrowed_fd(port.unwrap_or(wake), PollFlags::IN)];
    // Interrupted or not, the loop looks at everything again.
    let _ = poll(&mut both, timeout.as_ref());
    let mut count = [0; 8];
    let _ = rustix::io::read(&shared.wake, &mut count);
}
