//! A robot that is led from another room: the follower's end, which hears commands and says how the robot is, and the leader's.
//!
//! Nobody's clock is compared with another's. Each feedback has the follower's own time; a command names the newest that its leader has
//! heard, and for how long it was there before the command was sent. What has passed since that feedback, less that, is the way there
//! and back: a command is never older. One that may be older than 300 ms is none, and after 300 ms without one the robot holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_core::service::ChannelInfo;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::Queryable;
use zenoh::{Session, Wait as _};

use super::name::{self, Name};
use super::{FleetPlace, RobotName, key, read};
use crate::RemoteError;
use crate::daemon::DEAD_MAN;
use crate::lerobot::{fresh_name, words};
use crate::time::{Deadline, Watch};

/// Between two of a follower's messages.
const BETWEEN: Duration = Duration::from_millis(20);
/// By so much two stop watches may differ over the time that a feedback is held.
const SLACK_US: u64 = 5000;

/// What a follower is: a leader speaks to no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// The robot's model.
    pub robot: String,
    pub rate_hz: u32,
    /// The numbers of a feedback's `position`, in order.
    pub state: Vec<ChannelInfo>,
    /// The numbers of a command's `goals`, in order.
    pub action: Vec<ChannelInfo>,
}

/// How a robot is that is led.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Another one for each start of the follower.
    pub follower: String,
    pub number: u64,
    /// Of the follower's own stop watch.
    at_us: u64,
    /// Radians, metres, …; nothing where it is not known now.
    pub position: Vec<Option<f64>>,
    /// What the robot was sent last; empty where nothing was.
    pub sent: Vec<f64>,
    /// Whose commands it follows.
    pub leader: Option<String>,
}

/// What a leader wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    /// Whom it is for.
    follower: String,
    /// Who it is from, another one for each start.
    leader: String,
    number: u64,
    /// The `at_us` of the newest feedback that was heard, and for how long it had been there.
    heard_us: u64,
    held_us: u64,
    goals: Vec<f64>,
}

/// How many commands came, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FollowerCounts {
    pub followed: u64,
    /// They may have been older than 300 ms.
    pub old: u64,
    /// They came after one that is newer, or twice.
    pub late: u64,
    /// They were no command for this robot.
    pub bad: u64,
    /// They are of somebody while another one leads.
    pub others: u64,
}

/// A robot's end. Dropping it ends it.
pub struct Follower {
    shared: Arc<Shared>,
    telling: Option<JoinHandle<()>>,
    _kept: (Subscriber<()>, Queryable<()>, Name),
    _session: Session,
}

struct Shared {
    id: String,
    began: Watch,
    width: usize,
    /// Whose commands are followed.
    holder: Mutex<Option<Holder>>,
    /// Position, and what was sent last.
    newest: Mutex<(Vec<Option<f64>>, Vec<f64>)>,
    counts: [AtomicU64; 5],
    is_over: AtomicBool,
}

struct Holder {
    leader: String,
    number: u64,
    heard: Watch,
}

/// What becomes of a command, in the order of [`FollowerCounts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Followed,
    Old,
    Late,
    Bad,
    Other,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Shared {
    /// What becomes of a command, and how old it is at most.
    fn judge(&self, command: &Command) -> (Fate, Duration) {
        let now = micros(self.began.elapsed());
        let passed = now.checked_sub(command.heard_us);
        // Who has had something for longer than it is there counts wrong; clocks run a little differently.
        let passed = passed.filter(|passed| command.held_us <= passed.saturating_add(SLACK_US) && command.follower == self.id);
        let Some(passed) = passed else { return (Fate::Bad, Duration::ZERO) };
        if command.goals.len() != self.width || command.goals.iter().any(|goal| !goal.is_finite()) {
            return (Fate::Bad, Duration::ZERO);
        }
        let age = Duration::from_micros(passed.saturating_sub(command.held_us));
        let mut holder = lock(&self.holder);
        match holder.as_ref().filter(|holder| holder.leader == command.leader || holder.heard.elapsed() < DEAD_MAN) {
            Some(other) if other.leader != command.leader => return (Fate::Other, age),
            Some(same) if command.number <= same.number => return (Fate::Late, age),
            _ => {}
        }
        if age > DEAD_MAN {
            return (Fate::Old, age);
        }
        *holder = Some(Holder { leader: command.leader.clone(), number: command.number, heard: Watch::start() });
        (Fate::Followed, age)
    }

    /// Who leads now.
    fn leader(&self) -> Option<String> {
        lock(&self.holder).as_ref().filter(|holder| holder.heard.elapsed() < DEAD_MAN).map(|holder| holder.leader.clone())
    }

    fn tell(&self, publisher: &Publisher<'_>) {
        let mut number = 0;
        while !self.is_over.load(SeqCst) {
            number += 1;
            let (position, sent) = lock(&self.newest).clone();
            let at_us = micros(self.began.elapsed());
            let feedback = Feedback { follower: self.id.clone(), number, at_us, position, sent, leader: self.leader() };
            if let Ok(text) = serde_json::to_string(&feedback) {
                // What finds no room is not waited for: the next is newer.
                drop(publisher.put(text).wait());
            }
            std::thread::sleep(BETWEEN);
        }
    }
}

impl Follower {
    /// Is led as `name` from now on. `led` hears of each command that is followed: its goals, and how old they are at most; not on the
    /// control thread.
    ///
    /// # Errors
    /// When nobody is reached, or somebody else is led under the name.
    pub fn open(
        place: &FleetPlace,
        name: &RobotName,
        info: &LinkInfo,
        led: impl Fn(Duration, &[f64]) + Send + Sync + 'static,
    ) -> Result<Self, RemoteError> {
        let session = place.open()?;
        let fault = |error| place.fault(words(error));
        let (tokens, taken) = (key(name.as_str(), "lead/alive"), || place.fault(format!("another robot there is led as {name}")));
        if name::is_taken(&session, &tokens).map_err(fault)? {
            return Err(taken());
        }
        let own_name = Name::take(&session, &tokens).map_err(fault)?;
        if !own_name.is_own() {
            return Err(taken());
        }
        let shared = Arc::new(Shared {
            id: fresh_name(),
            began: Watch::start(),
            width: info.action.len(),
            holder: Mutex::default(),
            newest: Mutex::new((vec![None; info.state.len()], Vec::new())),
            counts: Default::default(),
            is_over: AtomicBool::new(false),
        });
        let hearing = shared.clone();
        let commands = session.declare_subscriber(key(name.as_str(), "lead/command")).callback(move |sample| {
            let (fate, goals, age) = match read::<Command>(sample.payload()) {
                Some(command) => {
                    let (fate, age) = hearing.judge(&command);
                    (fate, command.goals, age)
                }
                None => (Fate::Bad, Vec::new(), Duration::ZERO),
            };
            hearing.counts[fate as usize].fetch_add(1, SeqCst);
            if fate == Fate::Followed {
                led(age, &goals);
            }
        });
        let commands = commands.wait().map_err(fault)?;
        let (own, text) = (key(name.as_str(), "lead/info"), serde_json::to_string(info).unwrap_or_default());
        let infos = session.declare_queryable(own.clone()).complete(true);
        let infos = infos.callback(move |query| drop(query.reply(own.clone(), text.clone()).wait())).wait().map_err(fault)?;
        let publisher = publisher(&session, &key(name.as_str(), "lead/feedback")).map_err(fault)?;
        let theirs = shared.clone();
        let telling = std::thread::Builder::new().name("fleet-follower".into()).spawn(move || theirs.tell(&publisher));
        let telling = telling.map_err(|source| RemoteError::Thread { who: "fleet", source })?;
        Ok(Self { shared, telling: Some(telling), _kept: (commands, infos, own_name), _session: session })
    }

    /// How the robot is now.
    pub fn tell(&self, position: impl Iterator<Item = Option<f64>>, sent: &[f64]) {
        let mut newest = lock(&self.shared.newest);
        newest.0.clear();
        newest.0.extend(position);
        newest.1.clear();
        newest.1.extend_from_slice(sent);
    }

    pub fn counts(&self) -> FollowerCounts {
        let [followed, old, late, bad, others] = [0, 1, 2, 3, 4].map(|i: usize| self.shared.counts[i].load(SeqCst));
        FollowerCounts { followed, old, late, bad, others }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.telling.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// For messages of which the newest counts.
fn publisher(session: &Session, key: &str) -> zenoh::Result<Publisher<'static>> {
    let publisher = session.declare_publisher(key.to_owned()).congestion_control(CongestionControl::Drop);
    publisher.priority(Priority::RealTime).express(true).wait()
}

/// A leader's end.
pub struct Leader {
    place: FleetPlace,
    name: RobotName,
    id: String,
    number: u64,
    newest: Arc<Mutex<Option<(Feedback, Watch)>>>,
    commands: Publisher<'static>,
    _feedback: Subscriber<()>,
    session: Session,
}

impl Leader {
    /// Opens the way to the robot that is led as `name`, which may come later.
    ///
    /// # Errors
    /// When nobody is reached.
    pub fn open(place: FleetPlace, name: RobotName) -> Result<Self, RemoteError> {
        let session = place.open()?;
        let fault = |error| place.fault(words(error));
        let newest: Arc<Mutex<Option<(Feedback, Watch)>>> = Arc::default();
        let heard = newest.clone();
        let feedback = session.declare_subscriber(key(name.as_str(), "lead/feedback")).callback(move |sample| {
            let Some(feedback) = read::<Feedback>(sample.payload()) else { return };
            let mut newest = lock(&heard);
            // One robot is led. Should another one come under its name, it is not led as long as that one is heard.
            let is_newer = newest.as_ref().is_none_or(|(last, heard)| match last.follower == feedback.follower {
                true => last.number < feedback.number,
                false => heard.elapsed() >= DEAD_MAN,
            });
            if is_newer {
                *newest = Some((feedback, Watch::start()));
            }
        });
        let feedback = feedback.wait().map_err(fault)?;
        let commands = publisher(&session, &key(name.as_str(), "lead/command")).map_err(fault)?;
        Ok(Self { place, name, id: fresh_name(), number: 0, newest, commands, _feedback: feedback, session })
    }

    /// What the robot is, when it answers within the time.
    ///
    /// # Errors
    /// When zenoh fails, or it answers what no robot does.
    pub fn info(&self, within: Duration) -> Result<Option<LinkInfo>, RemoteError> {
        let until = Deadline::after(within);
        let asked = self.session.get(key(self.name.as_str(), "lead/info")).timeout(until.left()).wait();
        let answers = asked.map_err(|error| self.place.fault(words(error)))?;
        let Some(answer) = answers.iter().find_map(|reply| reply.into_result().ok()) else { return Ok(None) };
        match read(answer.payload()) {
            Some(info) => Ok(Some(info)),
            None => Err(self.place.fault(format!("what {} answers is of another version", self.name))),
        }
    }

    /// The newest that was heard of the robot, unless that is more than 300 ms ago.
    pub fn feedback(&self) -> Option<Feedback> {
        lock(&self.newest).as_ref().filter(|(_, heard)| heard.elapsed() < DEAD_MAN).map(|(feedback, _)| feedback.clone())
    }

    /// Whether `feedback` says that another one leads.
    pub fn is_refused(&self, feedback: &Feedback) -> bool {
        feedback.leader.as_ref().is_some_and(|leader| *leader != self.id)
    }

    /// Wants the robot there: a value a channel of its action. It goes nowhere while nothing was heard of the robot for 300 ms.
    pub fn send(&mut self, goals: &[f64]) {
        let (follower, heard_us, held_us) = match &*lock(&self.newest) {
            Some((feedback, heard)) if heard.elapsed() < DEAD_MAN => (feedback.follower.clone(), feedback.at_us, micros(heard.elapsed())),
            _ => return,
        };
        self.number += 1;
        let command = Command { follower, leader: self.id.clone(), number: self.number, heard_us, held_us, goals: goals.to_vec() };
        if let Ok(text) = serde_json::to_string(&command) {
            drop(self.commands.put(text).wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        Shared {
            id: "f".into(),
            began: Watch::start(),
            width: 2,
            holder: Mutex::default(),
            newest: Mutex::default(),
            counts: Default::default(),
            is_over: AtomicBool::new(false),
        }
    }

    fn command(shared: &Shared, leader: &str, number: u64, age_ms: u64) -> Command {
        // As if the feedback had been sent so long ago, and been there all the time but for the way.
        let now = micros(shared.began.elapsed());
        let heard_us = now.saturating_sub(age_ms * 1000 + 50_000);
        Command { follower: "f".into(), leader: leader.into(), number, heard_us, held_us: 50_000, goals: vec![0.0, 0.1] }
    }

    #[test]
    fn what_may_be_old_or_came_before_or_is_anothers_is_not_followed() {
        let shared = shared();
        std::thread::sleep(Duration::from_millis(500));
        let fate = |command: &Command| shared.judge(command).0;
        assert_eq!(shared.leader(), None);
        assert_eq!(fate(&command(&shared, "a", 1, 301)), Fate::Old);
        assert_eq!(shared.leader(), None, "who says only what is old does not lead");
        let (followed, age) = shared.judge(&command(&shared, "a", 2, 100));
        assert!(followed == Fate::Followed && (100..200).contains(&age.as_millis()), "{age:?}");
        assert_eq!(fate(&command(&shared, "a", 2, 100)), Fate::Late, "twice");
        assert_eq!(fate(&command(&shared, "a", 1, 100)), Fate::Late, "overtaken");
        assert_eq!((fate(&command(&shared, "b", 9, 0)), shared.leader()), (Fate::Other, Some("a".into())));
        let good = command(&shared, "a", 3, 0);
        for bad in [
            Command { follower: "g".into(), ..good.clone() },
            Command { heard_us: u64::MAX, ..good.clone() },
            Command { held_us: good.held_us + 100_000, ..good.clone() },
            Command { goals: vec![0.0], ..good.clone() },
            Command { goals: vec![0.0, f64::NAN], ..good.clone() },
        ] {
            assert_eq!(fate(&bad), Fate::Bad, "{bad:?}");
        }
        assert_eq!(fate(&good), Fate::Followed);
        std::thread::sleep(DEAD_MAN + Duration::from_millis(20));
        assert_eq!(shared.leader(), None);
        assert_eq!(fate(&command(&shared, "b", 1, 0)), Fate::Followed, "another one may lead after the dead-man");
        assert_eq!(fate(&command(&shared, "a", 99, 0)), Fate::Other);
    }
}
