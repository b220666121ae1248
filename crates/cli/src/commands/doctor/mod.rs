//! `sinew doctor`: whether this machine is ready, and what to do where it is not.

mod control_loop;
mod devices;
mod recording;

use serde::Serialize;

use crate::config::{self, Config};
use crate::text::say;
use crate::{Done, args, text};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// It works, and could be better.
    Hint,
    /// Something will not work.
    Problem,
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub struct Check {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), advice: None }
    }

    #[must_use]
    pub fn advise(self, state: State, advice: impl Into<String>) -> Self {
        Self { state, advice: Some(advice.into()), ..self }
    }

    fn print(&self) {
        let mark = match self.state {
            State::Ok => "ok     ",
            State::Hint => "hint   ",
            State::Problem => "problem",
        };
        say!("{mark}   {}: {}", self.name, self.found);
        self.advice.iter().for_each(|advice| say!("   do     {advice}"));
    }
}

/// The file of defaults.
fn configuration() -> Vec<Check> {
    const NAME: &str = "configuration";
    let read = config::folder().and_then(|folder| Config::read(&folder, &args::command()));
    vec![match read {
        Ok(config) => match config.entries().len() as u64 {
            0 => Check::ok(NAME, "none; `sinew config set KEY VALUE` sets a default"),
            count => Check::ok(NAME, format!("{} in {}", text::plural(count, "default"), config.path().display())),
        },
        Err(error) => Check::ok(NAME, text::chain(&error))
            .advise(State::Problem, "no verb that reads it runs: `sinew config` shows what it holds; edit or remove the file"),
    }]
}

pub fn run(json: bool) -> anyhow::Result<Done> {
    let (control_loop, mut checks) = control_loop::look()?;
    let mut told = 0;
    let mut tell = |checks: &[Check]| {
        if !json {
            checks[told..].iter().for_each(Check::print);
        }
        told = checks.len();
    };
    tell(&checks);
    for look in
        [configuration, recording::disk, recording::encoder, recording::hub, devices::serial_ports, devices::cameras, devices::input]
    {
        checks.extend(look());
        tell(&checks);
    }
    if json {
        text::print_json(&serde_json::json!({ "checks": checks, "control_loop": control_loop }))?;
    }
    Ok(Done::Ok)
}
