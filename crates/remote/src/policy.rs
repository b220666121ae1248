//! A policy on another machine, as any other to the loop.

use std::time::Duration;

use sinew_core::{ActionChunk, Observation, Policy, PolicyError, PolicyInfo, RobotDescription, Units};
use tungstenite::http::HeaderValue;

use crate::answer::{self, Rows, Told};
use crate::keys::{KeyMap, WireUnits};
use crate::link::{Address, Answered, Frame, KnownBy, Legs, Link, LinkOptions, Protocol, Reporter, look};
use crate::request::{Requests, listed};
use crate::time::{Deadline, Watch};
use crate::{Fit, RemoteError};

/// How long a first answer may take: a server may compile its policy meanwhile.
const FIRST: Duration = Duration::from_secs(180);
/// How long a server may take to start, which says that it does; how often somebody hears of it, and how long a question waits then.
const MOST_STARTING: Duration = Duration::from_secs(20 * 60);
const WORD_EVERY: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
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
    /// How long an answer may take; without it as long as its rows last, but 0.5 to 10 s.
    pub deadline: Option<Duration>,
    /// Hears now and then what is waited for before the first answer, and for how long already.
    pub on_wait: Option<fn(&str, Duration)>,
}

impl RemoteOptions {
    /// With nothing but an address.
    pub fn new(address: Address) -> Self {
        Self { address, token: None, keys: None, renames: Vec::new(), deadline: None, on_wait: None }
    }
}

/// Shows itself to nobody.
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A policy behind a link. It keeps its connection by itself. A question that has no answer in time is
/// [unavailable](PolicyError::Unavailable); what comes late, twice, misshapen or not finite is never answered.
#[derive(Debug)]
pub struct RemotePolicy {
    link: Link,
    requests: Requests,
    frame: Frame,
    /// Where it is a part of each request.
    token: Option<Secret>,
    info: PolicyInfo,
    answer_keys: Vec<String>,
    action_units: Option<Units>,
    width: usize,
    deadline: Duration,
    numbers_answers: bool,
    number: i64,
    fit: Fit,
    first_answer_s: f64,
}

impl RemotePolicy {
    /// Connects, compares both sides, and has two first answers, which nobody executes: what is seen in them is black, and the robot
    /// at rest.
    ///
    /// # Errors
    /// When nobody is there, or it does not fit: [`RemoteError::Mismatch`] shows both sides.
    pub fn connect(options: &RemoteOptions, robot: &RobotDescription) -> Result<Self, RemoteError> {
        let address = options.address.to_string();
        let link = Link::open(LinkOptions { address: options.address.clone(), authorization: authorization(options)? })?;
        let told = Told::of(&link.metadata(), options.address.protocol())
            .map_err(|what| RemoteError::Connect { address: address.clone(), what })?;
        let keys = match &options.keys {
            Some(keys) => keys.clone(),
            None if told.is_ours => KeyMap::lerobot()?,
            None => return Err(RemoteError::Untold { address }),
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
        let mut policy = Self {
            link,
            requests,
            frame: Frame::new(),
            token: options.token.clone().map(Secret),
            info,
            answer_keys: keys.actions,
            action_units: (keys.units == WireUnits::Lerobot).then(|| Units::of(&robot.action_channels())),
            width: action.len(),
            deadline: FIRST,
            numbers_answers: told.numbers_answers,
            number: 0,
            fit,
            first_answer_s: 0.0,
        };
        policy.probe(&told, robot, options.on_wait)?;
        let rows_s = policy.info.n_action_steps as f64 / f64::from(rate_hz.max(1));
        policy.deadline = options.deadline.unwrap_or_else(|| Duration::from_secs_f64(rows_s.clamp(SHORTEST_S, LONGEST_S)));
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

    /// For the one who tells what became of it all.
    pub fn reporter(&self) -> Reporter {
        self.link.reporter()
    }

    /// Asks twice at rest, and learns how many rows of which width there are.
    fn probe(&mut self, told: &Told, robot: &RobotDescription, on_wait: Option<fn(&str, Duration)>) -> Result<(), RemoteError> {
        let observations = vec![at_rest(robot); self.info.n_obs_steps];
        let mut answer = None;
        for _ in 0..2 {
            let address = told_address(&self.link);
            let fault = |what: String| RemoteError::Probe { address: address.clone(), what };
            self.number += 1;
            self.write_request(&observations, "").map_err(fault)?;
            let number = self.numbers_answers.then_some(self.number);
            let (started, mut said) = (Watch::start(), Duration::ZERO);
            let (watch, answered) = loop {
                let watch = Watch::start();
                match ask(&self.link, &mut self.frame, FIRST, number, KnownBy::Nothing) {
                    Ok(answered) => break (watch, answered),
                    Err(what) if self.link.is_starting() && started.elapsed() < MOST_STARTING => {
                        let waited = started.elapsed();
                        if said.is_zero() || waited >= said + WORD_EVERY {
                            on_wait.into_iter().for_each(|hear| hear(&what, waited));
                            said = waited.max(Duration::from_nanos(1));
                        }
                        std::thread::sleep(BETWEEN_LOOKS);
                    }
                    Err(what) => return Err(fault(what)),
                }
            };
            let rows = answer::read(&answered.bytes, &self.answer_keys, self.link.address().protocol()).map_err(fault)?;
            self.first_answer_s = watch.elapsed().as_secs_f64();
            answer = Some(rows);
        }
        let Some(Rows { rows, width, .. }) = answer else { return Ok(()) };
        let names = robot.action_names();
        let has = format!("{} values{}", names.len(), listed(Some(&names)));
        self.fit.row("answers", format!("{rows} rows of {width} values"), has, width == names.len());
        if !self.fit.is_fit() {
            return Err(RemoteError::Mismatch { address: told_address(&self.link), fit: self.fit.clone() });
        }
        self.info.chunk_size = rows;
        self.info.n_action_steps = told.n_action_steps.unwrap_or(rows).clamp(1, rows);
        Ok(())
    }

    fn write_request(&mut self, observations: &[Observation], task: &str) -> Result<(), String> {
        let (requests, number, protocol) = (&mut self.requests, self.number, self.link.address().protocol());
        let token = self.token.as_ref().map(|token| &*token.0);
        self.frame.write(|bytes| requests.write(bytes, protocol, observations, (task, number, token)))
    }
}

fn told_address(link: &Link) -> String {
    link.address().to_string()
}

/// Asks; an answer is known by the `number`, where the server repeats it, else as said.
fn ask(link: &Link, frame: &mut Frame, within: Duration, number: Option<i64>, else_by: KnownBy<'_>) -> Result<Answered, String> {
    let until = Deadline::after(within);
    match number {
        Some(number) => {
            let is_mine = |bytes: &[u8]| answer::number_of(bytes).is_some_and(|of| i64::try_from(of) == Ok(number));
            link.ask(frame, until, KnownBy::Number(&is_mine))
        }
        None => link.ask(frame, until, else_by),
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

    /// A server keeps nothing of an episode.
    fn reset(&mut self, _seed: u64) {}

    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError> {
        let tick = observations.last().map_or(0, |now| now.tick);
        let mut watch = Watch::start();
        self.number += 1;
        let written = self.write_request(observations, task);
        written.map_err(|what| PolicyError::Compute { doing: "writing the request".into(), source: what.into() })?;
        let prepare = watch.lap();
        let left = self.deadline.saturating_sub(Duration::from_secs_f64(prepare * 1e-3));
        let answered = ask(&self.link, &mut self.frame, left, self.numbers_answers.then_some(self.number), KnownBy::Difference);
        let answered = answered.map_err(|what| PolicyError::Unavailable { what })?;
        watch.lap();
        let refused = |what: String| {
            self.link.refuse();
            PolicyError::Unavailable { what: format!("{}: {what}", self.link.address()) }
        };
        let Rows { rows, width, values, server_ms } =
            answer::read(&answered.bytes, &self.answer_keys, self.link.address().protocol()).map_err(refused)?;
        if width != self.width {
            return Err(refused(format!("rows of {width} values, expected {}", self.width)));
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
            return Err(refused("a number beyond all bounds".into()));
        }
        let chunk = ActionChunk::new(tick, width, goals)?;
        self.link.accept(Legs { prepare, send: answered.send_ms, wait: answered.wait_ms, server: server_ms, read: watch.lap() });
        Ok(chunk)
    }
}

/// What the server at an address says of itself: what is understood, and all of it.
///
/// # Errors
/// When nobody is there, or it speaks otherwise.
pub fn metadata(options: &RemoteOptions) -> Result<(Told, serde_json::Value), RemoteError> {
    let link = LinkOptions { address: options.address.clone(), authorization: authorization(options)? };
    if options.address.protocol() == Protocol::Endpoint {
        return Ok((Told::default(), look(&link)?.unwrap_or_default()));
    }
    let link = Link::open(link)?;
    let bytes = link.metadata();
    let fault = |what| RemoteError::Connect { address: options.address.to_string(), what };
    Ok((Told::of(&bytes, options.address.protocol()).map_err(fault)?, answer::metadata_json(&bytes).map_err(fault)?))
}
