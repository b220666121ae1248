//! A policy on a server, for those who run one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use sinew_core::RobotDescription;
use sinew_remote::{Closing, Fit, LinkReport, Milliseconds, Modality, Protocol, RemoteError, RemoteOptions, RemotePolicy, Reporter, Told};
use sinew_runtime::{PolicyThread, SessionConfig};

use crate::args::CameraArgs;
use crate::source::NamedCheckpoint;
use crate::text::{note, say};
use crate::{Done, text};

/// A server that is away for longer ends the episode, unless the user says otherwise, seconds. Until then what counts is
/// `--on-starved`.
const AWAY_S: f64 = 120.0;

/// Who acts: a policy here, or one on a server.
pub enum Acts {
    Here(Box<NamedCheckpoint>),
    There { name: String, words: String, reporter: Reporter, _closing: Closing },
}

impl Acts {
    /// What to call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Here(named) => &named.name,
            Self::There { name, .. } => name,
        }
    }

    /// Of the Hub, where it is from there.
    pub fn commit(&self) -> Option<&str> {
        match self {
            Self::Here(named) => named.commit.as_deref(),
            Self::There { .. } => None,
        }
    }

    /// What is kept with each episode that it makes.
    pub fn note(&self) -> serde_json::Value {
        match self {
            Self::Here(named) => named.note(),
            Self::There { name, .. } => serde_json::json!({ "name": name, "commit": null }),
        }
    }

    /// What is about to run, on what, in a few lines.
    pub fn banner(&self, threads: usize) -> String {
        match self {
            Self::Here(named) => named.banner(threads),
            Self::There { words, .. } => words.clone(),
        }
    }

    /// What became of the link, where there is one.
    pub fn link(&self) -> Option<LinkReport> {
        match self {
            Self::Here(_) => None,
            Self::There { reporter, .. } => Some(reporter.report()),
        }
    }

    /// The same for people.
    pub fn print_link(&self) {
        let Some(link) = self.link() else { return };
        let ms = |times: &Milliseconds| times.quantile(0.5).map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let sent = text::bytes(link.bytes_sent / link.requests.max(1));
        say!("link      {} answers to {} requests of {sent}", link.answers, link.requests);
        let server = if link.server_ms.count() > 0 { format!(" (the server says {})", ms(&link.server_ms)) } else { String::new() };
        let (prepare, send, wait, read) = (ms(&link.prepare_ms), ms(&link.send_ms), ms(&link.wait_ms), ms(&link.read_ms));
        let total = ms(&link.total_ms);
        say!("          round trip {total} ms (median): prepare {prepare}, send {send}, wait {wait}{server}, read {read}");
        if let Some(bytes_s) = link.bytes_s {
            let sent = |quality: Option<u8>| {
                quality.map_or("as they are, or as --policy-keys says".to_owned(), |quality| format!("as JPEGs of quality {quality}"))
            };
            let worst = if link.worst_image_quality == link.image_quality {
                String::new()
            } else {
                format!(", once {}", sent(link.worst_image_quality))
            };
            say!("          images {}{worst}; the link gave {} a second", sent(link.image_quality), text::bytes(bytes_s as u64));
        }
        let counts = [
            (link.missed, "not in time"),
            (link.late, "late and not used"),
            (link.repeated, "repeated and not used"),
            (link.refused, "misshapen or not finite and not used"),
            (link.errors, "errors of the server"),
            (link.reconnects, "new connections"),
        ];
        let counts: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            say!("          {}", counts.join(", "));
        }
        if let Some(error) = &link.last_error {
            say!("          the last trouble: {error}");
        }
    }
}

/// Connects to the policy's server; nothing moves yet. `config` becomes one that waits for a link that is gone, but no longer than
/// the `seconds` of a run that has an end.
pub fn connect(
    options: &RemoteOptions,
    robot: &RobotDescription,
    config: &mut SessionConfig,
    seconds: Option<f64>,
) -> anyhow::Result<(Acts, PolicyThread)> {
    warn_of_token(options);
    let waiting = Waiting;
    let mut policy = RemotePolicy::connect(&RemoteOptions { on_wait: Some(say_waiting), ..options.clone() }, robot)?;
    drop(waiting);
    let (deadline, took_s) = (policy.deadline(), policy.first_answer_s());
    if took_s > deadline.as_secs_f64() {
        note!(
            "warning: the server took {took_s:.2} s for an answer, and answers that take more than {:.2} s are not used (--policy-deadline)",
            deadline.as_secs_f64()
        );
    }
    let away_s = config.answer_deadline_s.unwrap_or(AWAY_S).max(deadline.as_secs_f64());
    config.answer_deadline_s = Some(seconds.map_or(away_s, |seconds| seconds.min(away_s)));
    let info = sinew_core::Policy::info(&policy).clone();
    let words = format!(
        "policy    {} ({}), {} rows in an answer\n{}",
        options.address,
        info.family,
        info.chunk_size,
        indented(policy.fit(), deadline)
    );
    let acts = Acts::There { name: options.address.to_string(), words, reporter: policy.reporter(), _closing: policy.closing() };
    Ok((acts, PolicyThread::spawn(policy).context("starting the policy's thread")?.warm()))
}

fn indented(fit: &Fit, deadline: Duration) -> String {
    let table: String = fit.to_string().lines().map(|line| format!("        {line}\n")).collect();
    format!("{table}deadline  {:.2} s for an answer", deadline.as_secs_f64())
}

fn warn_of_token(options: &RemoteOptions) {
    if options.token.is_some() && !options.address.is_secure() && !options.address.is_local() {
        note!("warning: {} is not encrypted, and the token is sent to it; use wss:// or https://, or an SSH tunnel", options.address);
    }
}

/// What a server is waited for.
static WAITED_FOR: Mutex<Option<String>> = Mutex::new(None);

/// What the policy's server is waited for now, and how long already, for those who ask.
pub fn waited_for() -> Option<String> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Nothing is waited for when it is dropped.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        *WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn say_waiting(what: &str, waited: Duration) {
    let words = format!("the policy's server, {:.0} s: {what}", waited.as_secs_f64());
    note!("waiting for {words}");
    *WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// `sinew policy check` of a server.
pub fn check(options: &RemoteOptions, robot: Option<&str>, cameras: &CameraArgs, json: bool) -> anyhow::Result<Done> {
    warn_of_token(options);
    let mut robot = robot.map(sinew_sim::robots::get).transpose()?;
    if let Some(robot) = &mut robot {
        cameras.resize(&mut robot.description)?;
    }
    // Not every endpoint answers a GET where it answers POSTs.
    let is_asked = robot.is_some() && options.address.protocol() == Protocol::Endpoint;
    let (told, all) = if is_asked { Default::default() } else { sinew_remote::metadata(options)? };
    let fitted = robot
        .as_ref()
        .map(|robot| RemotePolicy::connect(&RemoteOptions { on_wait: Some(say_waiting), ..options.clone() }, &robot.description));
    let (fit, error, answer_s) = match fitted {
        None => (None, None, None),
        Some(Ok(policy)) => (Some(policy.fit().clone()), None, Some(policy.first_answer_s())),
        Some(Err(RemoteError::Mismatch { fit, .. })) => (Some(fit), None, None),
        Some(Err(error)) => (None, Some(text::chain(&error.into())), None),
    };
    let ok = error.is_none() && fit.as_ref().is_none_or(Fit::is_fit);
    if json {
        let report = serde_json::json!({ "policy": options.address.to_string(), "ok": ok, "error": error, "metadata": all, "fit": fit, "answer_s": answer_s });
        text::print_json(&report)?;
    } else {
        say!("{}", describe(options, &told, &all)?);
        if let Some(fit) = &fit {
            say!("{fit}");
        }
        if let Some(seconds) = answer_s {
            say!("a warm answer took {:.1} ms", seconds * 1e3);
        }
        match (&error, &fit) {
            (Some(error), _) => say!("it can't be used: {error}"),
            (None, None) => say!("it answers; --robot ROBOT compares it with a robot"),
            (None, Some(fit)) if ok => say!("it fits the robot {}", fit.robot),
            (None, Some(fit)) => say!("it doesn't fit the robot {} (see the lines marked !)", fit.robot),
        }
    }
    Ok(if ok { Done::Ok } else { Done::Refused })
}

fn describe(options: &RemoteOptions, told: &Told, all: &serde_json::Value) -> anyhow::Result<String> {
    if options.address.protocol() == Protocol::Endpoint {
        if all.is_null() {
            return Ok(options.address.to_string());
        }
        let says = |key: &str| all[key].as_str().unwrap_or_default().to_owned();
        let more = if says("says").is_empty() { String::new() } else { format!(": {}", says("says")) };
        let keys = "no endpoint says what its policy wants: --policy-keys says it";
        return Ok(format!("{}\n  it answers {}{more} to a GET\n  {keys}", options.address, says("get")));
    }
    if let Some(wants) = &told.modalities {
        let ticks = |of: &Modality| of.ticks.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let line = |what: &str, of: &Modality| format!("  {what:8} {} (ticks {})\n", of.keys.join(", "), ticks(of));
        let wanted: String = [("video", &wants.video), ("state", &wants.state), ("language", &wants.language)]
            .iter()
            .map(|(what, of)| line(what, of))
            .collect();
        let rows = wants.action.ticks.len();
        let keys = "--policy-keys says which cameras and joints these are";
        return Ok(format!("{}\n{wanted}  answers  {rows} rows of {}\n  {keys}", options.address, wants.action.keys.join(", ")));
    }
    if !told.is_ours {
        let what = if all.as_object().is_some_and(serde_json::Map::is_empty) {
            "its metadata are empty".to_owned()
        } else {
            format!("its metadata: {}", serde_json::to_string_pretty(all)?)
        };
        return Ok(format!("{}\n  {what}\n  it does not say what its policy wants: --policy-keys says it", options.address));
    }
    let mut facts = vec![("policy", told.policy.clone().unwrap_or_default()), ("family", told.family.clone().unwrap_or_default())];
    facts.extend(told.inputs.iter().map(|(name, shape)| ("wants", format!("{name} {shape:?}"))));
    let rows = [told.chunk_size, told.n_action_steps].map(|count| count.unwrap_or_default());
    facts.push(("answers", format!("{} rows, {} of them executed", rows[0], rows[1])));
    facts.extend(told.action_names.as_ref().map(|names| ("action", names.join(", "))));
    facts.extend(told.control_rate_hz.map(|rate| ("rate", format!("{rate} Hz"))));
    let facts: String = facts.iter().map(|(what, is)| format!("  {what:8} {is}\n")).collect();
    Ok(format!("{}\n{facts}", options.address))
}
