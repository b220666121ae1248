//! A policy on another machine, as any other to the loop.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use sinew_core::{ActionChunk, Continuation, Observation, Policy, PolicyError, PolicyInfo, RobotDescription, Units};
use tungstenite::http::HeaderValue;

use crate::answer::{self, Rows, Told};
use crate::keys::{KeyMap, WireUnits};
use crate::lerobot::{self, Continues, Lerobot, Reached, Where};
use crate::link::{Address, KnownBy, Legs, Link, LinkOptions, Protocol, Reporter, look};
use crate::messages::Messages;
use crate::pace::Pace;
use crate::request::{Requests, listed};
use crate::time::{Deadline, Watch};
use crate::{Fit, RemoteError};

/// How long a first answer may take: a server may compile its policy meanwhile.
const FIRST: Duration = Duration::from_secs(180);
/// How long a server may take to start, which says that it does; how often somebody hears of it, and how long a question waits then.
const MOST_STARTING: Duration = Duration::from_secs(20 * 60);
const WORD_EVERY: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// How long the end of a process waits for a policy on another thread.
const MOST_CLOSING: Duration = Duration::from_secs(1);
/// How long a server is left alone whose answer was of no use, each time for longer; and how long who asks meanwhile is kept waiting.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_millis(20);
/// A deadline that follows from the rate is between these.
const SHORTEST_S: f64 = 0.5;
const LONGEST_S: f64 = 10.0;

/// How a remote policy is reached, and what it is given. Has no `Debug`, as there is a token in it.
#[derive(Clone)]
pub struct RemoteOptions {
    pub address: Address,
    /// For `Authorization`: a scheme and a token, or a token alone for the scheme `Bearer`.
    pub token: Option<String>,
    /// Under which names the server wants things; without it the server has to say.
    pub keys: Option<KeyMap>,
    /// Cameras by the robot's name, and the key of each.
    pub renames: Vec<(String, String)>,
    /// What state and actions mean, where the protocol says it in words.
    pub semantics: Option<String>,
    /// Whether answers are to follow each other, and how.
    pub continues: Option<Continues>,
    /// Zenoh's own configuration, for certificates.
    pub zenoh_config: Option<PathBuf>,
    /// How long an answer may take; without it as long as its rows last, but 0.5 to 10 s.
    pub deadline: Option<Duration>,
    /// Hears now and then what is waited for before the first answer, and for how long already.
    pub on_wait: Option<fn(&str, Duration)>,
}

impl RemoteOptions {
    /// With nothing but an address.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            token: None,
            keys: None,
            renames: Vec::new(),
            semantics: None,
            continues: None,
            zenoh_config: None,
            deadline: None,
            on_wait: None,
        }
    }

    fn place(&self) -> Where {
        Where { address: self.address.clone(), config: self.zenoh_config.clone() }
    }
}

/// A question.
pub(crate) struct Asked<'a> {
    pub observations: &'a [Observation],
    pub task: &'a str,
    pub continuing: Option<Continuation>,
}

/// An answer that was read, and how long its ways took.
pub(crate) struct Got {
    pub rows: Rows,
    pub legs: Legs,
    pub sent_bytes: usize,
}

/// Why there is no answer, in words.
pub(crate) enum Failed {
    /// The question can't be written.
    Unwritten(String),
    /// There may be one to the next.
    Unavailable(String),
    /// It is of no use.
    Refused(String),
}

impl Failed {
    fn into_words(self) -> String {
        match self {
            Self::Unwritten(what) | Self::Unavailable(what) | Self::Refused(what) => what,
        }
    }
}

/// How questions are asked.
enum Way {
    /// One message each way over a connection.
    Messages(Box<Messages>),
    /// A session of LeRobot's remote inference.
    Lerobot(Box<Lerobot>),
}

impl Way {
    fn address(&self) -> &Address {
        match self {
            Self::Messages(messages) => messages.link().address(),
            Self::Lerobot(lerobot) => lerobot.client().address(),
        }
    }

    fn is_starting(&self) -> bool {
        if let Self::Messages(messages) = self { messages.link().is_starting() } else { false }
    }

    fn ask(&mut self, requests: &mut Requests, asked: &Asked<'_>, within: Duration, known_by: KnownBy<'_>) -> Result<Got, Failed> {
        match self {
            Self::Messages(messages) => messages.ask(requests, asked, within, known_by),
            Self::Lerobot(lerobot) => lerobot.ask(requests, asked, Deadline::after(within)),
        }
    }

    fn refuse(&self) {
        match self {
            Self::Messages(messages) => messages.link().refuse(),
            Self::Lerobot(lerobot) => lerobot.refuse(),
        }
    }

    /// How long the link takes with a byte, about; none where that is not known.
    fn way(&self) -> Duration {
        if let Self::Messages(messages) = self { messages.link().way() } else { Duration::ZERO }
    }

    fn accept(&self, legs: Legs) {
        match self {
            Self::Messages(messages) => messages.link().accept(legs),
            Self::Lerobot(lerobot) => lerobot.accept(legs),
        }
    }
}

/// A policy behind a link. It keeps its connection by itself. A question that has no answer in time is
/// [unavailable](PolicyError::Unavailable); what comes late, twice, misshapen or not finite is never answered.
pub struct RemotePolicy {
    way: Way,
    requests: Requests,
    info: PolicyInfo,
    action_units: Option<Units>,
    width: usize,
    deadline: Duration,
    fit: Fit,
    first_answer_s: f64,
    /// How much of images is sent, where there is a choice.
    pace: Option<Pace>,
    /// The answers before were of no use: why, until when the server is left alone, and for how long that is.
    useless: Option<(String, Deadline, Duration)>,
    /// The last to be dropped, so that the connection is closed when it is.
    closed: Option<Sender<()>>,
}

/// Waits, when it is dropped, until its policy has been, and has said goodbye to the server; for a second at most.
#[derive(Debug)]
pub struct Closing(Receiver<()>);

impl Drop for Closing {
    fn drop(&mut self) {
        // Nobody sends: it ends with the policy.
        let _ = self.0.recv_timeout(MOST_CLOSING);
    }
}

/// Does what may take long, and tells `on_wait` of it now and then.
fn tell_meanwhile<T>(on_wait: Option<fn(&str, Duration)>, which: &str, does: impl FnOnce() -> T) -> T {
    let Some(hear) = on_wait else { return does() };
    let (ended, over) = channel::<()>();
    std::thread::scope(|scope| {
        let began = Watch::start();
        let what = format!("its {which} answer of two, before anything moves");
        let telling = std::thread::Builder::new().name("waiting".into());
        // Without the thread nothing is told, and nothing else is lost.
        drop(telling.spawn_scoped(scope, move || {
            while over.recv_timeout(WORD_EVERY) == Err(RecvTimeoutError::Timeout) {
                hear(&what, began.elapsed());
            }
        }));
        let done = does();
        drop(ended);
        done
    })
}

impl std::fmt::Debug for RemotePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemotePolicy").field("address", &self.way.address().to_string()).field("fit", &self.fit).finish_non_exhaustive()
    }
}

impl RemotePolicy {
    /// Connects, compares both sides, and has two first answers, which nobody executes: what is seen in them is black, and the robot
    /// at rest.
    ///
    /// # Errors
    /// When nobody is there, or it does not fit: [`RemoteError::Mismatch`] shows both sides.
    pub fn connect(options: &RemoteOptions, robot: &RobotDescription) -> Result<Self, RemoteError> {
        let address = options.address.to_string();
        let reached = Reach::new(options)?;
        let (told, keys) = match &reached {
            Reach::Link(link) => {
                let told = Told::of(&link.metadata(), options.address.protocol())
                    .map_err(|what| RemoteError::Connect { address: address.clone(), what })?;
                let keys = match &options.keys {
                    Some(keys) => keys.clone(),
                    None if told.is_ours => KeyMap::lerobot()?,
                    None => return Err(RemoteError::Untold { address }),
                };
                (told, keys)
            }
            Reach::Lerobot(reached) => {
                let contract = &reached.described.contract;
                (lerobot::told(contract), lerobot::keys(options, contract)?)
            }
        };
        keys.check_for(options.address.protocol()).map_err(|what| RemoteError::Keys { name: address.clone(), what })?;
        let mut fit = Fit { robot: robot.name.clone(), rows: Vec::new() };
        for (camera, key) in &options.renames {
            let name = camera.strip_prefix("observation.images.").unwrap_or(camera);
            if !robot.cameras.iter().any(|known| known.name == name) {
                fit.row(name, format!("renamed to {key}"), "no such camera", false);
            }
        }
        let requests = Requests::new(&keys, &options.renames, &told, robot, &mut fit);
        if let Reach::Lerobot(reached) = &reached {
            lerobot::compare(options, &reached.described.contract, &keys, &requests, &mut fit);
        }
        if let Some(modalities) = &told.modalities {
            modalities.compare(&keys, &mut fit);
        }
        let action = robot.action_names();
        let rate_hz = robot.control_rate_hz;
        if let Some(served) = told.control_rate_hz {
            fit.row("control rate", format!("{served} Hz"), format!("{rate_hz} Hz"), served == rate_hz as usize);
        }
        if let Some(names) = &told.action_names {
            let has = format!("{} values{}", action.len(), listed(Some(&action)));
            fit.row("action", format!("{} values{}", names.len(), listed(Some(names))), has, *names == action);
        }
        if !fit.is_fit() {
            return Err(RemoteError::Mismatch { address, fit });
        }
        let info = PolicyInfo {
            family: told.family.clone().unwrap_or_else(|| "remote".into()),
            parameters: 0,
            n_obs_steps: told.n_obs_steps.unwrap_or(1).clamp(1, 64),
            chunk_size: 1,
            n_action_steps: 1,
        };
        let action_units = (keys.units == WireUnits::Lerobot).then(|| Units::of(&robot.action_channels()));
        let way = match reached {
            Reach::Link(link) => Way::Messages(Box::new(Messages::new(link, options.token.clone(), keys.actions, told.numbers_answers))),
            Reach::Lerobot(reached) => Way::Lerobot(Box::new(Lerobot::open(*reached, options, &keys)?)),
        };
        let mut policy = Self {
            way,
            requests,
            info,
            action_units,
            width: action.len(),
            deadline: FIRST,
            fit,
            first_answer_s: 0.0,
            pace: None,
            useless: None,
            closed: None,
        };
        let first = policy.probe(&told, robot, options.on_wait)?;
        let rows_s = policy.info.n_action_steps as f64 / f64::from(rate_hz.max(1));
        policy.deadline = options.deadline.unwrap_or_else(|| Duration::from_secs_f64(rows_s.clamp(SHORTEST_S, LONGEST_S)));
        let protocol = options.address.protocol();
        let best = policy.requests.best_quality(protocol);
        if best.is_some() || told.takes_jpegs && protocol == Protocol::Openpi && policy.info.n_obs_steps == 1 {
            let mut pace = Pace::new(best, Duration::from_secs_f64(rows_s), policy.way.way());
            if let Some((legs, sent_bytes)) = first {
                pace.hear(sent_bytes, &legs);
            }
            policy.requests.set_most(pace.most());
            policy.pace = Some(pace);
        }
        Ok(policy)
    }

    /// What was compared.
    pub fn fit(&self) -> &Fit {
        &self.fit
    }

    /// How long an answer may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long the second answer took, which a server gives warm, seconds.
    pub fn first_answer_s(&self) -> f64 {
        self.first_answer_s
    }

    /// For the one who ends the process, and has given the policy to another thread: a server has one client of some
    /// protocols, and is free again when that has said goodbye.
    pub fn closing(&mut self) -> Closing {
        let (sender, closed) = channel();
        self.closed = Some(sender);
        Closing(closed)
    }

    /// For the one who tells what became of it all.
    pub fn reporter(&self) -> Reporter {
        match &self.way {
            Way::Messages(messages) => messages.link().reporter(),
            Way::Lerobot(lerobot) => Reporter(lerobot.client().report()),
        }
    }

    /// Asks twice at rest, and learns how many rows of which width there are. Says how long the second took, and how much was sent.
    fn probe(
        &mut self,
        told: &Told,
        robot: &RobotDescription,
        on_wait: Option<fn(&str, Duration)>,
    ) -> Result<Option<(Legs, usize)>, RemoteError> {
        let observations = vec![at_rest(robot); self.info.n_obs_steps];
        let mut answer = None;
        for number in ["first", "second"] {
            let address = self.way.address().to_string();
            let fault = |what: String| RemoteError::Probe { address: address.clone(), what };
            let asked = Asked { observations: &observations, task: "", continuing: None };
            let (started, mut said) = (Watch::start(), Duration::ZERO);
            let (watch, got) = loop {
                let watch = Watch::start();
                // Nobody wonders what takes so long: over a slow link each is minutes.
                let got = tell_meanwhile(on_wait, number, || self.way.ask(&mut self.requests, &asked, FIRST, KnownBy::Nothing));
                match got {
                    Ok(got) => break (watch, got),
                    Err(why) if self.way.is_starting() && started.elapsed() < MOST_STARTING => {
                        let (what, waited) = (why.into_words(), started.elapsed());
                        if said.is_zero() || waited >= said + WORD_EVERY {
                            on_wait.into_iter().for_each(|hear| hear(&what, waited));
                            said = waited.max(Duration::from_nanos(1));
                        }
                        std::thread::sleep(BETWEEN_LOOKS);
                    }
                    Err(why) => return Err(fault(why.into_words())),
                }
            };
            self.first_answer_s = watch.elapsed().as_secs_f64();
            answer = Some(got);
        }
        let Some(Got { rows: Rows { rows, width, .. }, legs, sent_bytes }) = answer else { return Ok(None) };
        let names = robot.action_names();
        let has = format!("{} values{}", names.len(), listed(Some(&names)));
        self.fit.row("answers", format!("{rows} rows of {width} values"), has, width == names.len());
        if !self.fit.is_fit() {
            return Err(RemoteError::Mismatch { address: self.way.address().to_string(), fit: self.fit.clone() });
        }
        self.info.chunk_size = rows;
        self.info.n_action_steps = told.n_action_steps.unwrap_or(rows).clamp(1, rows);
        Ok(Some((legs, sent_bytes)))
    }

    /// Takes note of what an answer took, or that there was none, for the next question.
    fn keep_pace(&mut self, heard: Option<(usize, &Legs)>) {
        let Some(pace) = &mut self.pace else { return };
        match heard {
            Some((sent_bytes, legs)) => pace.hear(sent_bytes, legs),
            None => pace.miss(self.deadline),
        }
        self.requests.set_most(pace.most());
        let report = match &self.way {
            Way::Messages(messages) => messages.link().reporter(),
            Way::Lerobot(lerobot) => Reporter(lerobot.client().report()),
        };
        let mut report = report.0.lock().unwrap_or_else(PoisonError::into_inner);
        (report.bytes_s, report.image_quality, report.worst_image_quality) = (pace.bytes_s(), pace.most(), pace.lowest());
    }

    fn chunk(&mut self, asked: &Asked<'_>) -> Result<ActionChunk, PolicyError> {
        let unavailable = |what: &str| PolicyError::Unavailable { what: what.to_owned() };
        if let Some((why, until, _)) = &self.useless
            && !until.is_over()
        {
            std::thread::sleep(until.left().min(GRACE));
            if !until.is_over() {
                return Err(unavailable(why));
            }
        }
        match self.answer(asked) {
            Ok(chunk) => {
                self.useless = None;
                Ok(chunk?)
            }
            Err(Failed::Unwritten(what)) => Err(PolicyError::Compute { doing: "writing the request".into(), source: what.into() }),
            Err(Failed::Unavailable(what)) => Err(unavailable(&what)),
            Err(Failed::Refused(what)) => {
                self.way.refuse();
                let before = self.useless.as_ref().map_or(Duration::ZERO, |(_, _, pause)| *pause);
                let pause = (before * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                let why = format!("{}: {what}", self.way.address());
                let told = unavailable(&why);
                self.useless = Some((why, Deadline::after(pause), pause));
                Err(told)
            }
        }
    }

    /// The rows of an answer that is of use.
    fn answer(&mut self, asked: &Asked<'_>) -> Result<Result<ActionChunk, PolicyError>, Failed> {
        let tick = asked.observations.last().map_or(0, |now| now.tick);
        let begun = Watch::start();
        let got = self.way.ask(&mut self.requests, asked, self.deadline, KnownBy::Difference);
        // A link that is gone says nothing of how fast it is; one that took too long does.
        if matches!(got, Err(Failed::Unavailable(_))) && begun.elapsed() >= self.deadline {
            self.keep_pace(None);
        }
        let Got { rows, mut legs, sent_bytes } = got?;
        let mut watch = Watch::start();
        self.keep_pace(Some((sent_bytes, &legs)));
        let Rows { rows, width, values, .. } = rows;
        if width != self.width {
            return Err(Failed::Refused(format!("rows of {width} values, expected {}", self.width)));
        }
        // Rows beyond those of the first answer are more than the loop has room for.
        let rows = rows.min(self.info.chunk_size);
        let mut goals = values;
        goals.truncate(rows * width);
        if let Some(units) = &self.action_units {
            let narrow: Vec<f32> = goals.iter().map(|value| *value as f32).collect();
            for (row, goals) in narrow.chunks_exact(width).zip(goals.chunks_exact_mut(width)) {
                units.to_si(row, goals);
            }
        }
        if goals.iter().any(|goal| !goal.is_finite()) {
            return Err(Failed::Refused("a number beyond all bounds".into()));
        }
        let chunk = ActionChunk::new(tick, width, goals).map_err(PolicyError::from);
        legs.read += watch.lap();
        self.way.accept(legs);
        Ok(chunk)
    }
}

/// A server that was reached, before it is known whether it fits.
enum Reach {
    Link(Link),
    Lerobot(Box<Reached>),
}

impl Reach {
    fn new(options: &RemoteOptions) -> Result<Self, RemoteError> {
        if options.address.protocol() == Protocol::Lerobot {
            return Reached::new(options.place()).map(|reached| Self::Lerobot(Box::new(reached)));
        }
        Link::open(LinkOptions { address: options.address.clone(), authorization: authorization(options)? }).map(Self::Link)
    }
}

fn authorization(options: &RemoteOptions) -> Result<Option<HeaderValue>, RemoteError> {
    let Some(token) = &options.token else { return Ok(None) };
    let is_whole = token.contains(' ') || options.address.protocol() == Protocol::Groot;
    let text = if is_whole { token.clone() } else { format!("Bearer {token}") };
    let mut value = HeaderValue::from_str(&text).map_err(|_| RemoteError::Connect {
        address: options.address.to_string(),
        what: "the token has characters that no header may have".into(),
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Black images, and the state of a robot that rests.
fn at_rest(robot: &RobotDescription) -> Observation {
    let mut observation = Observation::for_robot(robot);
    let rest: Vec<(String, f64)> =
        robot.action_names().into_iter().zip(robot.rest()).filter_map(|(name, rest)| Some((name, rest?))).collect();
    for (i, name) in robot.state_names().iter().enumerate() {
        let value = rest.iter().find(|(known, _)| known == name).map_or(0.0, |(_, value)| *value);
        observation.state.set(i, value, sinew_core::Timestamp::ZERO);
    }
    observation
}

impl Policy for RemotePolicy {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _seed: u64) {
        // The others keep nothing of an episode.
        if let Way::Lerobot(lerobot) = &mut self.way {
            lerobot.reset();
        }
    }

    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError> {
        self.chunk(&Asked { observations, task, continuing: None })
    }

    fn infer_continuing(&mut self, observations: &[Observation], task: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        self.chunk(&Asked { observations, task, continuing: Some(continuing) })
    }

    fn can_continue(&self) -> bool {
        if let Way::Lerobot(lerobot) = &self.way { lerobot.can_continue() } else { false }
    }

    fn most_delay_rows(&self) -> Option<usize> {
        if let Way::Lerobot(lerobot) = &self.way { lerobot.most_delay_rows() } else { None }
    }
}

/// What the server at an address says of itself: what is understood, and all of it.
///
/// # Errors
/// When nobody is there, or it speaks otherwise.
pub fn metadata(options: &RemoteOptions) -> Result<(Told, serde_json::Value), RemoteError> {
    if options.address.protocol() == Protocol::Lerobot {
        let described = lerobot::look(options.place())?;
        return Ok((lerobot::told(&described.contract), described.json));
    }
    let link = LinkOptions { address: options.address.clone(), authorization: authorization(options)? };
    if options.address.protocol() == Protocol::Endpoint {
        return Ok((Told::default(), look(&link)?.unwrap_or_default()));
    }
    let link = Link::open(link)?;
    let bytes = link.metadata();
    let fault = |what| RemoteError::Connect { address: options.address.to_string(), what };
    Ok((Told::of(&bytes, options.address.protocol()).map_err(fault)?, answer::metadata_json(&bytes).map_err(fault)?))
}
