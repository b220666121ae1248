//! `sinew fleet`: robots whose daemons meet over zenoh, from somewhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use sinew_core::Clock;
use sinew_core::service::{State, StopState, StopWish};
use sinew_remote::{Event, FleetView, RobotName, Seen, Stopped};
use sinew_runtime::{MonotonicClock, StopFlag};

use crate::args::{FleetArgs, FleetCommand, How};
use crate::text::{note, say};
use crate::{Done, lead, text};

/// How often it is looked whether to end, and a state is shown to people.
const LOOK: Duration = Duration::from_millis(100);
const SHOWN_EVERY: Duration = Duration::from_secs(1);
/// Whoever is not there after this is said to be so.
const COMES: Duration = Duration::from_secs(2);

pub fn run(args: &FleetArgs) -> anyhow::Result<Done> {
    let place = args.place()?;
    lead::warn(&place);
    let view = FleetView::open(place)?;
    match &args.command {
        FleetCommand::List { place: _, within, json } => list(&view, Duration::from_secs_f64(*within), *json),
        FleetCommand::Watch { place: _, robot, images, seconds, json } => watch(&view, robot, images.as_deref(), *seconds, *json),
        FleetCommand::Stop { place: _, robots, all: _, how, within, json } => {
            let how = match how {
                How::Stop => StopWish::Stop,
                How::Now => StopWish::Now,
                How::Emergency => StopWish::Emergency,
            };
            stop(&view, robots, how, Duration::from_secs_f64(*within), *json)
        }
    }
}

/// A word of ours, as JSON has it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn list(view: &FleetView, within: Duration, json: bool) -> anyhow::Result<Done> {
    let robots = view.robots(within)?;
    if json {
        let rows =
            robots.iter().map(|(name, found)| {
                json!({ "robot": name, "alive": found.alive, "answers": found.answers, "info": found.info, "state": found.state })
            });
        text::print_json(&rows.collect::<Vec<_>>())?;
        return Ok(Done::Ok);
    }
    if robots.is_empty() {
        note!("no robot is there");
        return Ok(Done::Ok);
    }
    let mut table = vec![["name", "robot", "does", "remark"].map(str::to_owned).to_vec()];
    for (name, found) in &robots {
        let model = found.info.as_ref().map(|info| format!("{}{}", info.name, if info.is_simulated { ", simulated" } else { "" }));
        let remark = match (&found.state, found.alive.max(found.answers)) {
            (_, count @ 2..) if found.answers < count => format!("{count} robots have this name, and {} of them answer", found.answers),
            (_, count @ 2..) => format!("{count} robots have this name"),
            (None, _) => "does not answer".to_owned(),
            (Some(state), _) => state.trouble.clone().unwrap_or_default(),
        };
        table.push(vec![name.clone(), model.unwrap_or_default(), found.state.as_ref().map(does).unwrap_or_default(), remark]);
    }
    say!("{}", text::table(&table));
    Ok(Done::Ok)
}

/// What a robot does, in a few words.
fn does(state: &State) -> String {
    let mut words = word(&state.mode);
    if let Some(work) = &state.work {
        words += &format!(", {}", word(&work.phase));
        if work.episodes > 1 {
            words += &format!(" episode {} of {}", work.episode + 1, work.episodes);
        }
    }
    if state.stop != StopState::Run {
        words += &format!(", stop: {}", word(&state.stop));
    }
    words
}

fn stop(view: &FleetView, robots: &[RobotName], how: StopWish, within: Duration, json: bool) -> anyhow::Result<Done> {
    let stopped = view.stop(robots, how, within)?;
    let all_did = stopped.values().all(|how| matches!(how, Stopped::Confirmed(_)));
    if json {
        let rows = stopped.iter().map(|(name, how)| match how {
            Stopped::Confirmed(answer) => {
                json!({ "robot": name, "confirmed": true, "stop": answer.stop, "was": answer.was, "error": null })
            }
            other => json!({ "robot": name, "confirmed": false, "error": why_not(other) }),
        });
        text::print_json(&rows.collect::<Vec<_>>())?;
    } else {
        for (name, how) in &stopped {
            match how {
                Stopped::Confirmed(answer) => say!("{name}  stops; it was at {}", word(&answer.was)),
                other => note!("{name}  DOES NOT CONFIRM: {}", why_not(other)),
            }
        }
        if stopped.is_empty() {
            note!("no robot is there");
        }
    }
    // Nobody who was to be stopped says that he is.
    Ok(if all_did && !stopped.is_empty() { Done::Ok } else { Done::Refused })
}

/// Why a robot does not confirm that it stops.
fn why_not(how: &Stopped) -> String {
    match how {
        Stopped::Confirmed(_) => String::new(),
        Stopped::Part { alive, confirmed } => {
            format!("{alive} robots have this name, and {confirmed} of them stopped; the others are gone or hang")
        }
        Stopped::Refused(what) => what.clone(),
        Stopped::Silent => "no answer; it is gone or hangs, or you may not stop it".to_owned(),
    }
}

fn watch(view: &FleetView, robot: &RobotName, images: Option<&Path>, seconds: Option<f64>, json: bool) -> anyhow::Result<Done> {
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    if let Some(folder) = images {
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    let watching = view.watch(robot, images.is_some())?;
    let begun = clock.now();
    let end = seconds.map(|seconds| begun + Duration::from_secs_f64(seconds));
    let (mut was_there, mut is_told, mut shown) = (false, false, None);
    while !stop.is_requested() && end.is_none_or(|end| clock.now() < end) {
        let seen = watching.next(LOOK);
        let now = clock.now();
        if !was_there && !is_told && now > begun + COMES {
            is_told = true;
            note!("{robot} is not there; it is waited for");
        }
        match seen {
            Some(Seen::Alive(is_there)) => {
                was_there |= is_there;
                match json {
                    true => text::print_json(&json!({ "kind": "alive", "is_there": is_there }))?,
                    false if is_there => say!("{robot} is there"),
                    false => say!("{robot} has gone"),
                }
            }
            Some(Seen::State(state)) if json => text::print_json(&json!({ "kind": "state", "state": state }))?,
            Some(Seen::State(state)) if shown.is_none_or(|shown| now > shown + SHOWN_EVERY) => {
                shown = Some(now);
                let rate = state.control.map(|control| format!(", {:.1} Hz, {} missed", control.rate_hz, control.missed));
                let trouble = state.trouble.as_ref().map(|trouble| format!(", {trouble}"));
                say!("{}{}{}", does(&state), rate.unwrap_or_default(), trouble.unwrap_or_default());
            }
            Some(Seen::Event(event)) if json => text::print_json(&json!({ "kind": "event", "event": event }))?,
            Some(Seen::Event(Event::Log(line))) => say!("log: {}", line.text),
            Some(Seen::Event(Event::WorkEnded(end))) => {
                say!("{} has ended{}", word(&end.mode), end.error.map(|error| format!(": {error}")).unwrap_or_default());
            }
            Some(Seen::Image(camera, jpeg, about)) => {
                if let Some(folder) = images {
                    keep(folder, &camera, &jpeg)?;
                }
                if json {
                    text::print_json(&json!({ "kind": "image", "camera": camera, "bytes": jpeg.len(), "about": about }))?;
                }
            }
            // People see one a second.
            Some(Seen::State(_)) | None => {}
        }
    }
    Ok(match (stop.is_requested(), was_there) {
        (_, false) => Done::Refused,
        (true, true) => Done::Interrupted,
        (false, true) => Done::Ok,
    })
}

/// Writes the newest image of a camera. What a stranger calls his camera is no path.
fn keep(folder: &Path, camera: &str, jpeg: &[u8]) -> anyhow::Result<()> {
    let is_plain = !camera.starts_with('.') && camera.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !is_plain || camera.is_empty() || camera.len() > 100 {
        return Ok(());
    }
    let (path, beside) = (folder.join(format!("{camera}.jpg")), folder.join(format!("{camera}.jpg.new")));
    let write = || std::fs::write(&beside, jpeg).and_then(|()| std::fs::rename(&beside, &path));
    write().with_context(|| format!("writing {}", path.display()))
}
