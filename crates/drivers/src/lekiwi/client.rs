//! A LeKiwi behind a host, as a [`Robot`](sinew_core::Robot).

use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sinew_core::{Brief, Clock, Door, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, StopBehaviour, Tick, Timestamp};

use super::cameras::{DecodeJpeg, Inbox, LeKiwiCameras, Pictures};
use super::message::{CAMERAS, Names, Said, object};
use super::{COMMAND_PORT, LeKiwiError, OBSERVATION_PORT};
use crate::net::zmtp::{self, Kind, Most};
use crate::net::{Line, Link, Newest, host_and_port};

/// A host that says nothing for so long is gone. LeRobot's sends 30 observations a second.
const SILENT: Duration = Duration::from_secs(2);
/// An observation is no larger.
const MOST: Most = Most { parts: 17, bytes: 16 << 20 };
/// How often connecting looks whether there is an observation.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a LeKiwi is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeKiwiClientOptions {
    pub command_port: u16,
    pub observation_port: u16,
    /// What a host of ours wants to hear. LeRobot's takes no notice of it.
    pub token: Option<String>,
    /// How long connecting waits for the first observation.
    pub within: Duration,
}

impl Default for LeKiwiClientOptions {
    /// Those of LeRobot's client.
    fn default() -> Self {
        Self { command_port: COMMAND_PORT, observation_port: OBSERVATION_PORT, token: None, within: Duration::from_secs(5) }
    }
}

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeKiwiCounts {
    pub observations: u64,
    /// Observations of a host of ours that were sent and did not come.
    pub lost: u64,
    /// Messages that nothing could be made of.
    pub malformed: u64,
    /// How often there was a connection for observations.
    pub connections: u64,
}

#[derive(Debug, Default)]
struct Counters {
    observations: AtomicU64,
    lost: AtomicU64,
    malformed: AtomicU64,
}

/// A value a channel of state, and when it was measured, as far as that is known.
#[derive(Debug, Default)]
struct Known {
    values: Vec<f64>,
    times: Vec<Option<Timestamp>>,
    /// When this connection came about.
    since: Option<Timestamp>,
}

impl Clone for Known {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), times: self.times.clone(), since: self.since }
    }

    /// Without allocating, which the derived one would do.
    fn clone_from(&mut self, other: &Self) {
        self.values.clone_from(&other.values);
        self.times.clone_from(&other.times);
        self.since = other.since;
    }
}

/// A LeKiwi that a host has: one of ours, or LeRobot's.
///
/// - An observation is as old as its host says; one of LeRobot's says nothing, and then it counts from when it arrived.
///   Either way the way over the network is not in it. What is older than the description allows is missed, so that the gate
///   brakes; an observation is never served a second time as a new one.
/// - A command is one message, handed to the system without waiting. Where the socket is full or gone nothing is sent.
/// - After a connection was lost, the host is told first that the arm stays where it is and the base stands.
/// - The protocol has no word for torque, and no acknowledgement: the host switches torque by itself. Stopping holds the
///   arm and stands the base, and a host that hears nothing more brakes the base after half a second.
///
/// A tick allocates nothing.
pub struct LeKiwiClient {
    robot: Arc<RobotDescription>,
    clock: Arc<dyn Clock>,
    state: Arc<Names>,
    action: Names,
    /// Which channel of state each channel of action is; a base's goes to 0.
    present: Vec<Option<usize>>,
    shared: Arc<Newest<Known>>,
    known: Known,
    counters: Arc<Counters>,
    observations: Link,
    commands: Link,
    inbox: Option<Arc<Inbox>>,
    /// Which connections were told last to rest.
    rested: (u64, u64),
    goals: Vec<f64>,
    text: Vec<u8>,
    message: Vec<u8>,
}

impl LeKiwiClient {
    /// Connects to the host at `address`, which is a name or number without a port, and waits for its first observation.
    /// Nothing is told to the robot. Its cameras' pictures are handed to `decode`; without it they are dropped, and there
    /// are no cameras.
    ///
    /// # Errors
    /// When the description is one that such a host can't serve, or no observation comes with all channels of its state.
    pub fn connect(
        robot: Arc<RobotDescription>,
        address: &str,
        options: &LeKiwiClientOptions,
        decode: Option<DecodeJpeg>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<LeKiwiCameras>), LeKiwiError> {
        let commanded = || robot.parts.iter().filter(|part| part.command.is_some());
        if let Some(limp) = commanded().find(|part| part.stop.unwrap_or(robot.stop.behaviour) == StopBehaviour::Limp) {
            let what =
                format!("expected parts that stop by holding, as its host can't be told to switch torque off, found {} limp", limp.name);
            return Err(LeKiwiError::Description { robot: robot.name.clone(), what });
        }
        super::refuse_depth(&robot)?;
        let host = host_and_port(address, 0).filter(|(_, port)| *port == 0).map(|(host, _)| host);
        let host = host.ok_or_else(|| LeKiwiError::Address { found: address.to_owned() })?;
        let (state, channels) = (robot.state_channels(), robot.action_channels());
        let present = channels.iter().map(|channel| state.iter().position(|other| other.source == channel.source)).collect();
        let (state, action) = (Arc::new(Names::of(&state)), Names::of(&channels));
        let empty = Known { values: vec![0.0; state.len()], times: vec![None; state.len()], since: None };
        let shared = Arc::new(Newest::new(empty.clone()));
        let counters = Arc::<Counters>::default();
        let (inbox, cameras) = match decode {
            None => (None, None),
            Some(decode) => {
                let inbox = Arc::<Inbox>::default();
                let cameras = LeKiwiCameras::start(&robot, inbox.clone(), decode).map_err(LeKiwiError::Thread)?;
                (Some(inbox), Some(cameras))
            }
        };
        let mut reader = Reader {
            names: state.clone(),
            known: shared.clone(),
            counters: counters.clone(),
            inbox: inbox.clone(),
            clock: clock.clone(),
            token: options.token.clone(),
            last: None,
            number: 0,
        };
        let serve = move |stream, line: &Line| reader.serve(stream, line).unwrap_or_else(|error| told(&error));
        let observations = Link::keep("lekiwi-state", (host.clone(), options.observation_port), serve).map_err(LeKiwiError::Thread)?;
        let token = options.token.clone();
        let serve = move |stream, line: &Line| keep_commands(stream, line, token.as_deref()).unwrap_or_else(|error| told(&error));
        let commands = Link::keep("lekiwi-commands", (host, options.command_port), serve).map_err(LeKiwiError::Thread)?;
        let width = action.len();
        let mut client = Self {
            robot,
            clock,
            state,
            action,
            present,
            known: empty,
            shared,
            counters,
            observations,
            commands,
            inbox,
            rested: (0, 0),
            goals: vec![0.0; width],
            text: Vec::with_capacity(4096),
            message: Vec::with_capacity(4096),
        };
        client.wait(address, options.within)?;
        client.rested = client.opened();
        Ok((client, cameras))
    }

    /// Waits for the first observation and a connection for commands.
    fn wait(&mut self, address: &str, within: Duration) -> Result<(), LeKiwiError> {
        let began = self.clock.now();
        loop {
            self.shared.copy_to(&mut self.known);
            if self.known.times.iter().all(Option::is_some) && self.commands.line().is_open() {
                return Ok(());
            }
            if self.clock.now().nanos_since(began) > i64::try_from(within.as_nanos()).unwrap_or(i64::MAX) {
                break;
            }
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY);
        }
        let missing = self.state.iter().zip(&self.known.times).filter(|(_, time)| time.is_none()).map(|(name, _)| name);
        let expected = missing.collect::<Vec<_>>().join(", ");
        let found = match (self.observations.line().is_open(), self.commands.line().is_open()) {
            (false, _) => self.observations.line().why(),
            (_, false) => self.commands.line().why(),
            _ => {
                let LeKiwiCounts { observations, lost, malformed, .. } = self.counts();
                Brief::of(format_args!("{observations} observations without it, {lost} lost, and {malformed} messages that made no sense"))
            }
        };
        let is_there = self.observations.line().is_there() || self.commands.line().is_there();
        let expected = if expected.is_empty() { "a connection for commands".to_owned() } else { expected };
        Err(LeKiwiError::Silent { address: address.to_owned(), expected, within, found, is_there })
    }

    pub fn counts(&self) -> LeKiwiCounts {
        let Counters { observations, lost, malformed } = &*self.counters;
        LeKiwiCounts {
            observations: observations.load(Relaxed),
            lost: lost.load(Relaxed),
            malformed: malformed.load(Relaxed),
            connections: self.observations.line().opened(),
        }
    }

    fn opened(&self) -> (u64, u64) {
        (self.observations.line().opened(), self.commands.line().opened())
    }

    /// Makes the goals rest: positions are where they were measured since `since`, a base stands. `false` where that is not
    /// known.
    fn rest(&mut self, since: Timestamp) -> bool {
        let known = &self.known;
        self.goals.iter_mut().enumerate().all(|(i, goal)| {
            if self.action.is_base(i) {
                *goal = 0.0;
                return true;
            }
            let measured = self.present[i].filter(|at| known.times[*at].is_some_and(|time| time >= since));
            measured.is_some_and(|at| {
                *goal = known.values[at];
                true
            })
        })
    }

    fn send(&mut self, doing: &'static str) -> Result<(), RobotError> {
        self.action.write(&self.goals, b"", &mut self.text);
        self.message.clear();
        zmtp::write_message(&mut self.message, &self.text);
        self.commands.line().send(&self.message).map_err(|error| RobotError::transient(doing, error))
    }

    fn oldest(&self) -> Timestamp {
        let max_age_ns = i64::from(self.robot.feedback.max_age_ms) * 1_000_000;
        Timestamp::from_nanos(self.clock.now().as_nanos().saturating_sub(max_age_ns))
    }
}

impl Drop for LeKiwiClient {
    fn drop(&mut self) {
        if let Some(inbox) = &self.inbox {
            inbox.end();
        }
    }
}

impl Robot for LeKiwiClient {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        self.shared.copy_to(&mut self.known);
        let now = self.clock.now();
        (observation.tick, observation.time, observation.bus_retries) = (tick.turn, now, 0);
        let max_age_ns = i64::from(self.robot.feedback.max_age_ms) * 1_000_000;
        for (i, (value, time)) in self.known.values.iter().zip(&self.known.times).enumerate() {
            match time.filter(|time| now.nanos_since(*time) <= max_age_ns) {
                None => observation.state.miss(i),
                // It stands from before.
                Some(time) if observation.state.readings().get(i).is_some_and(|reading| reading.time == Some(time)) => {}
                Some(time) => observation.state.set(i, *value, time),
            }
        }
        let line = self.observations.line();
        if line.is_open() {
            Ok(())
        } else {
            Err(RobotError::transient("reading the LeKiwi", format_args!("no host; it is tried again: {}", line.why())))
        }
    }

    fn enable(&mut self, door: &Door, _: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "holding the LeKiwi where it is";
        self.shared.copy_to(&mut self.known);
        let opened = self.opened();
        if !self.rest(self.oldest()) {
            return Err(RobotError::transient(DOING, "it was not heard lately where the arm is"));
        }
        if !door.alive() {
            return Err(RobotError::transient(DOING, "the watchdog has taken it over"));
        }
        self.send(DOING)?;
        self.rested = opened;
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        const DOING: &str = "sending a command to the LeKiwi";
        let opened = self.opened();
        let rests = opened != self.rested;
        if rests {
            let since = self.known.since.unwrap_or(Timestamp::ZERO).max(self.oldest());
            if !self.rest(since) {
                return Err(RobotError::transient(DOING, "it is connected again, and was not heard yet where the arm is"));
            }
        } else {
            self.goals.copy_from_slice(command.goals());
        }
        self.send(DOING)?;
        self.rested = opened;
        self.goals.iter().enumerate().for_each(|(i, goal)| sent.reach(i, *goal));
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        self.shared.copy_to(&mut self.known);
        // Where it was last, when it does not say: it connected once, so that is known.
        self.rest(Timestamp::ZERO);
        self.send("stopping the LeKiwi")
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("the host has said nothing for {} s", SILENT.as_secs()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "the host has closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// Keeps the connection on which the control thread sends. Nothing comes on it but its end.
fn keep_commands(mut stream: TcpStream, line: &Line, token: Option<&str>) -> io::Result<String> {
    stream.set_read_timeout(Some(SILENT))?;
    zmtp::connect(&mut stream, Kind::Push, token)?;
    stream.set_read_timeout(None)?;
    line.open();
    loop {
        zmtp::read_message(&mut stream, Most { parts: 1, bytes: 1024 })?;
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    Timestamp::from_nanos(now.as_nanos().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)))
}

/// Reads observations.
struct Reader {
    names: Arc<Names>,
    known: Arc<Newest<Known>>,
    counters: Arc<Counters>,
    inbox: Option<Arc<Inbox>>,
    clock: Arc<dyn Clock>,
    token: Option<String>,
    /// The number of the last observation of a host of ours.
    last: Option<u64>,
    number: u64,
}

impl Reader {
    fn serve(&mut self, stream: TcpStream, line: &Line) -> io::Result<String> {
        stream.set_read_timeout(Some(SILENT))?;
        let mut both = &stream;
        zmtp::connect(&mut both, Kind::Pull, self.token.as_deref())?;
        self.last = None;
        self.known.lock().since = Some(self.clock.now());
        line.open();
        let mut reader = BufReader::with_capacity(64 * 1024, &stream);
        loop {
            let parts = zmtp::read_message(&mut reader, MOST)?;
            if self.hear(parts).is_none() {
                self.counters.malformed.fetch_add(1, Relaxed);
            }
        }
    }

    /// Takes an observation; `None` where it is none.
    fn hear(&mut self, mut parts: Vec<Vec<u8>>) -> Option<()> {
        let now = self.clock.now();
        let object = object(parts.first()?).ok()?;
        let values = self.names.read(&object).ok()?;
        let said = Said::of(&object).unwrap_or_default();
        let time = before(now, said.age);
        {
            let mut known = self.known.lock();
            for (i, name) in self.names.iter().enumerate() {
                if let Some(value) = values[i].filter(|_| !said.missing.iter().any(|missing| missing == name)) {
                    (known.values[i], known.times[i]) = (value, Some(time));
                }
            }
        }
        self.number += 1;
        self.counters.observations.fetch_add(1, Relaxed);
        if said.seq != 0 {
            let skipped = self.last.map_or(0, |last| said.seq.saturating_sub(last + 1));
            self.counters.lost.fetch_add(skipped, Relaxed);
            self.last = Some(said.seq);
        }
        if let Some(inbox) = &self.inbox {
            let names: Vec<String> =
                object.get(CAMERAS)?.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect::<Option<_>>()?;
            let jpegs = parts.split_off(1);
            if names.len() != jpegs.len() {
                return None;
            }
            let of = |i: usize| said.cameras.get(i).map_or((time, self.number), |(age, seq)| (before(now, *age), *seq));
            let times = (0..names.len()).map(of).collect();
            if !jpegs.is_empty() {
                inbox.put(Pictures { names, jpegs, times });
            }
        }
        Some(())
    }
}
