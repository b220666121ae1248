//! Somebody who looks at a fleet: who is there, what one of them does, and that all of them stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sinew_core::service::{Mode, RobotInfo, State, StopWish};
use zenoh::pubsub::Subscriber;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{ConsolidationMode, QueryTarget};
use zenoh::sample::{Sample, SampleKind};
use zenoh::{Session, Wait as _};

use super::name::id_of;
use super::{Event, FleetPlace, MOST_BYTES, ROOT, RobotName, StopOrder, key, read, read_json};
use crate::RemoteError;
use crate::lerobot::words;
use crate::time::Deadline;

/// Answers that are read.
const MOST_ANSWERS: usize = 8192;
/// What is seen and not yet taken; what is more is not seen.
const MOST_SEEN: usize = 256;
/// What zenoh itself says where nobody has answered in time.
const NO_ANSWER: &str = "Timeout";
/// A stop that was not answered is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Somebody who looks at a fleet.
pub struct FleetView {
    place: FleetPlace,
    session: Session,
}

/// A robot that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it says of itself; nothing where it does not answer.
    pub info: Option<RobotInfo>,
    pub state: Option<State>,
    /// How many of this name are there: it should be one.
    pub alive: usize,
    /// How many of them answer.
    pub answers: usize,
}

/// That a robot's control loop was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    pub stop: StopWish,
    /// What the robot was doing.
    pub was: Mode,
}

/// What came of a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    Confirmed(StopAnswer),
    /// Of so many robots that have the name no more than these confirmed.
    Part {
        alive: usize,
        confirmed: usize,
    },
    /// What it answered instead.
    Refused(String),
    /// It does not answer, or who asks may not stop it.
    Silent,
}

impl Stopped {
    /// Whether it is worth to ask again.
    fn is_open(&self) -> bool {
        matches!(self, Self::Part { .. } | Self::Silent)
    }
}

/// What is seen of a robot.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    State(Box<State>),
    Event(Event),
    /// A camera, its JPEG, and what is said of it.
    Image(String, Vec<u8>, Json),
    /// Whether it is there.
    Alive(bool),
}

/// An answer, or why there is none.
type Answer = Result<Vec<u8>, String>;

impl FleetView {
    /// # Errors
    /// When nobody is reached.
    pub fn open(place: FleetPlace) -> Result<Self, RemoteError> {
        let session = place.open()?;
        Ok(Self { place, session })
    }

    fn fault(&self, error: zenoh::Error) -> RemoteError {
        self.place.fault(words(error))
    }

    /// The names of those that are there, and how many have each.
    fn alive(&self, robot: &str, within: Duration) -> Result<BTreeMap<String, usize>, RemoteError> {
        let (sender, tokens) = channel();
        let asked = self.session.liveliness().get(key(robot, "alive/*")).timeout(within);
        asked.callback(move |reply| drop(sender.send(reply))).wait().map_err(|error| self.fault(error))?;
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for reply in tokens.iter().take(MOST_ANSWERS) {
            if let Ok(token) = reply.result()
                && let Some(name) = robot_of(token)
            {
                names.entry(name).or_default().insert(id_of(token.key_expr().as_str()));
            }
        }
        Ok(names.into_iter().map(|(name, ids)| (name, ids.len())).collect())
    }

    /// The robots that are there, by name, and how each is. It takes as long as the slowest, at most twice `within`.
    ///
    /// # Errors
    /// When zenoh fails.
    pub fn robots(&self, within: Duration) -> Result<BTreeMap<String, Found>, RemoteError> {
        let names = self.alive("*", within)?;
        let mut robots: BTreeMap<_, _> =
            names.into_iter().map(|(name, alive)| (name, Found { info: None, state: None, alive, answers: 0 })).collect();
        let (infos, states) = (self.begin("*", "info", Vec::new(), within)?, self.begin("*", "state", Vec::new(), within)?);
        for (name, answer) in infos.iter().take(MOST_ANSWERS) {
            if let (Some(found), Ok(bytes)) = (robots.get_mut(&name), answer) {
                found.answers += 1;
                found.info = serde_json::from_slice(&bytes).ok();
            }
        }
        for (name, answer) in states.iter().take(MOST_ANSWERS) {
            if let (Some(found), Ok(bytes)) = (robots.get_mut(&name), answer) {
                found.state = serde_json::from_slice(&bytes).ok();
            }
        }
        Ok(robots)
    }

    /// The first answer of a robot to one of its questions: `state`, `info`, `datasets` or `policies`.
    ///
    /// # Errors
    /// When there is none within the time, or it is a refusal.
    pub fn ask(&self, robot: &RobotName, what: &str, within: Duration) -> Result<Json, RemoteError> {
        let answers = self.begin(robot.as_str(), what, Vec::new(), within)?;
        match answers.iter().next() {
            Some((_, Ok(bytes))) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Some((_, Err(what))) => Err(self.place.fault(format!("{robot} answers: {what}"))),
            None => Err(self.place.fault(format!("{robot} does not answer"))),
        }
    }

    /// Stops robots, or all that are there, and says what came of each. It is asked for again until all have answered, or the time is over.
    ///
    /// # Errors
    /// When zenoh fails.
    pub fn stop(&self, robots: &[RobotName], stop: StopWish, within: Duration) -> Result<BTreeMap<String, Stopped>, RemoteError> {
        let until = Deadline::after(within);
        let order = serde_json::to_vec(&StopOrder { stop }).unwrap_or_default();
        let mut stopped: BTreeMap<String, Stopped> = robots.iter().map(|name| (name.to_string(), Stopped::Silent)).collect();
        loop {
            let time = until.left().min(ASK_AGAIN);
            // All are told before it is asked who there is.
            let missing: Vec<&str> = match robots {
                [] => vec!["*"],
                _ => stopped.iter().filter(|(_, how)| how.is_open()).map(|(name, _)| &**name).collect(),
            };
            let asked: Result<Vec<_>, _> = missing.iter().map(|name| self.begin(name, "rpc/stop", order.clone(), time)).collect();
            let alive = self.alive("*", time)?;
            if robots.is_empty() {
                for name in alive.keys() {
                    stopped.entry(name.clone()).or_insert(Stopped::Silent);
                }
            }
            let mut confirmed: BTreeMap<String, Vec<StopAnswer>> = BTreeMap::new();
            for (name, answer) in asked?.iter().flat_map(|answers| answers.iter().take(MOST_ANSWERS)) {
                match answer.map(|bytes| serde_json::from_slice(&bytes)) {
                    Ok(Ok(answer)) => confirmed.entry(name).or_default().push(answer),
                    Ok(Err(_)) => drop(stopped.insert(name, Stopped::Refused("its answer is none".to_owned()))),
                    Err(what) => drop(stopped.insert(name, Stopped::Refused(what))),
                }
            }
            for (name, answers) in confirmed {
                let alive = alive.get(&name).copied().unwrap_or_default();
                // Of several robots of one name, the one that was not stopped counts.
                if !matches!(stopped.get(&name), Some(Stopped::Refused(_))) {
                    let part = Stopped::Part { alive, confirmed: answers.len() };
                    let how = answers.first().filter(|_| answers.len() >= alive).map_or(part, |answer| Stopped::Confirmed(*answer));
                    stopped.insert(name, how);
                }
            }
            let has_all = !stopped.is_empty() && !stopped.values().any(Stopped::is_open);
            if has_all || until.is_over() {
                return Ok(stopped);
            }
            std::thread::sleep(PAUSE.min(until.left()));
        }
    }

    /// Asks; the answers come until the time is over or all have answered.
    fn begin(&self, robot: &str, what: &str, question: Vec<u8>, within: Duration) -> Result<Receiver<(String, Answer)>, RemoteError> {
        let (sender, answers) = channel();
        let of = robot.to_owned();
        let hear = move |reply: zenoh::query::Reply| {
            let heard = match reply.result() {
                Ok(sample) if sample.payload().len() <= MOST_BYTES => {
                    robot_of(sample).map(|name| (name, Ok(sample.payload().to_bytes().into_owned())))
                }
                Ok(_) => None,
                // Of one that was asked alone it is known whose word it is.
                Err(error) => {
                    let what: String = String::from_utf8_lossy(&error.payload().to_bytes()).chars().take(200).collect();
                    (of != "*" && what != NO_ANSWER).then(|| (of.clone(), Err(what)))
                }
            };
            heard.into_iter().for_each(|heard| drop(sender.send(heard)));
        };
        let asked = self.session.get(key(robot, what)).payload(question).target(QueryTarget::All);
        let asked = asked.consolidation(ConsolidationMode::None).congestion_control(CongestionControl::Block).priority(Priority::RealTime);
        asked.express(true).timeout(within).callback(hear).wait().map_err(|error| self.fault(error))?;
        Ok(answers)
    }

    /// Watches a robot until what is given back is dropped; `images` says whether its cameras, too.
    ///
    /// # Errors
    /// When zenoh fails.
    pub fn watch(&self, robot: &RobotName, images: bool) -> Result<Watching, RemoteError> {
        let (sender, seen) = sync_channel(MOST_SEEN);
        let mut kept = Vec::new();
        let whats: &[&str] = if images { &["state", "event", "cam/*/jpeg"] } else { &["state", "event"] };
        for what in whats {
            let sender: SyncSender<Seen> = sender.clone();
            // Who is slow sees less.
            let hear = move |sample: Sample| seen_in(&sample).into_iter().for_each(|seen| drop(sender.try_send(seen)));
            let subscriber = self.session.declare_subscriber(key(robot.as_str(), what)).callback(hear);
            kept.push(subscriber.wait().map_err(|error| self.fault(error))?);
        }
        let alive = self.session.liveliness().declare_subscriber(key(robot.as_str(), "alive/*")).history(true);
        let there: Mutex<BTreeSet<String>> = Mutex::default();
        let alive = alive.callback(move |sample| {
            let (mut there, id) = (there.lock().unwrap_or_else(PoisonError::into_inner), id_of(sample.key_expr().as_str()));
            let was_there = !there.is_empty();
            match sample.kind() {
                SampleKind::Put => there.insert(id),
                SampleKind::Delete => there.remove(&id),
            };
            if was_there == there.is_empty() {
                drop(sender.try_send(Seen::Alive(!was_there)));
            }
        });
        kept.push(alive.wait().map_err(|error| self.fault(error))?);
        Ok(Watching { seen, _kept: kept })
    }
}

/// What a message of a robot shows.
fn seen_in(sample: &Sample) -> Option<Seen> {
    let mut parts = sample.key_expr().as_str().strip_prefix(ROOT)?.split('/').skip(2);
    match (parts.next()?, parts.next()) {
        ("state", None) => Some(Seen::State(Box::new(read(sample.payload())?))),
        ("event", None) => Some(Seen::Event(read(sample.payload())?)),
        ("cam", Some(camera)) if sample.payload().len() <= MOST_BYTES => {
            let about = sample.attachment().map(read_json).unwrap_or_default();
            Some(Seen::Image(camera.to_owned(), sample.payload().to_bytes().into_owned(), about))
        }
        _ => None,
    }
}

/// The robot of a message.
fn robot_of(sample: &Sample) -> Option<String> {
    let name = sample.key_expr().as_str().strip_prefix(ROOT)?.strip_prefix('/')?.split('/').next()?;
    Some(name.parse::<RobotName>().ok()?.to_string())
}

/// A robot that is watched.
pub struct Watching {
    seen: Receiver<Seen>,
    _kept: Vec<Subscriber<()>>,
}

impl Watching {
    /// The next that is seen of it; nothing within this time.
    pub fn next(&self, within: Duration) -> Option<Seen> {
        self.seen.recv_timeout(within).ok()
    }
}
