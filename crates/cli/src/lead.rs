//! `sinew teleop --to`: somebody here leads a robot that is in another room, over zenoh.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use sinew_core::{Clock, Observation, Retarget, RobotDescription, Role, Teleoperator, TeleoperatorError, Tick, Wanted};
use sinew_drivers::teleop::{StartOptions, start};
use sinew_remote::{Feedback, FleetPlace, Leader, LinkInfo, RobotName};
use sinew_runtime::{MonotonicClock, StopFlag};

use crate::args::{LeaderArgs, Teleop, TeleopArgs};
use crate::text::{note, say};
use crate::{Done, hardware, led, led_afar, text};

/// How long the robot's side may take to say what it is, before one looks whether to end.
const LOOK: Duration = Duration::from_millis(300);
/// The most commands a second.
const MOST_HZ: u32 = 100;

/// How it went.
#[derive(Default, Serialize)]
struct Report {
    /// Commands that were sent.
    sent: u64,
    /// Turns in which nothing was heard of the robot.
    unheard: u64,
    /// Turns in which another one led it.
    refused: u64,
    /// Turns in which the leader here had nothing to say.
    silent: u64,
    seconds: f64,
}

pub fn run(args: &TeleopArgs, to: &RobotName) -> anyhow::Result<Done> {
    let robot = hardware::describe(&args.robot, Role::Robot)?;
    let place = args.leader.fleet.as_ref().context("expected --fleet")?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let (who, way, name) = leader(&args.leader, &robot, args, &clock)?;
    let link = Leader::open(place.clone(), to.clone())?;
    if !args.json {
        say!("leads     {to} ({}) at {place}\nwith      {name}\nCtrl-C ends it; the robot then holds", robot.title);
        warn(place);
    }
    let mut lead = Lead { link, who, way, to, expected: led_afar::info(&robot), clock: &*clock, stop: &stop, report: Report::default() };
    let result = lead.run(&robot, args.seconds);
    let report = lead.report;
    if args.json {
        text::print_json(&report)?;
    } else {
        say!(
            "sent      {} in {:.1} s; {} without a word of the robot, {} while another one led it",
            text::plural(report.sent, "command"),
            report.seconds,
            text::plural(report.unheard, "turn"),
            report.refused
        );
    }
    result?;
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// Says what is to be seen by others.
pub fn warn(place: &FleetPlace) {
    if place.is_open() {
        note!("warning: nothing is encrypted on the way to {place}; a file of zenoh's configuration can name certificates");
    }
}

type Who = (Box<dyn Teleoperator>, Box<dyn Retarget>, String);

/// Who leads here, and how goals of `robot` are made of what he wants.
fn leader(given: &LeaderArgs, robot: &RobotDescription, args: &TeleopArgs, clock: &Arc<dyn Clock>) -> anyhow::Result<Who> {
    match &given.teleop {
        Some(Teleop::Leader(name)) => {
            led::check(given, robot)?;
            let description = hardware::describe(name, Role::Teleoperator)?;
            let way = led::way_of(given, &description, robot)?;
            let (leader, id) =
                hardware::connect_leader(description, &given.teleop_port, given.teleop_id.as_deref(), &args.hardware, clock.clone())?;
            let words = format!("{} ({id})", leader.description().title);
            Ok((Box::new(leader), Box::new(way), words))
        }
        Some(Teleop::Device(kind)) => {
            let (who, way) = start(kind.clone(), robot, StartOptions::default())?;
            Ok((who, Box::new(way), "a device of this machine".to_owned()))
        }
        _ => bail!("expected --teleop with a leader arm or a device"),
    }
}

struct Lead<'a> {
    link: Leader,
    who: Box<dyn Teleoperator>,
    way: Box<dyn Retarget>,
    to: &'a RobotName,
    /// What the robot has to be.
    expected: LinkInfo,
    clock: &'a dyn Clock,
    stop: &'a StopFlag,
    report: Report,
}

/// What keeps the robot from being led, as was said last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Unheard,
    Refused,
    Silent,
}

impl Lead<'_> {
    /// # Errors
    /// When the robot is another one, or who leads here is lost.
    fn run(&mut self, robot: &RobotDescription, seconds: Option<f64>) -> anyhow::Result<()> {
        let begun = self.clock.now();
        let end = seconds.map(|seconds| begun + Duration::from_secs_f64(seconds));
        let period = Duration::from_secs_f64(1.0 / f64::from(robot.control_rate_hz.clamp(1, MOST_HZ)));
        let mut observation = Observation::for_robot(robot);
        let mut action = vec![0.0; self.way.action_width()];
        let mut wanted = Wanted::for_robot(robot);
        let (mut known, mut said) = (None::<String>, Trouble::None);
        let (mut turn, mut due) = (0, begun);
        while !self.stop.is_requested() && end.is_none_or(|end| self.clock.now() < end) {
            let tick = Tick { turn, due, period, wants_images: false };
            let trouble = match self.link.feedback() {
                None => {
                    // What it did meanwhile is not known: it is taken over anew.
                    known = None;
                    Trouble::Unheard
                }
                Some(feedback) => self.turn(&feedback, &mut known, &tick, (&mut observation, &mut action, &mut wanted))?,
            };
            match trouble {
                Trouble::None => self.report.sent += 1,
                Trouble::Unheard => self.report.unheard += 1,
                Trouble::Refused => self.report.refused += 1,
                Trouble::Silent => self.report.silent += 1,
            }
            // What lasts a turn is not worth a line.
            if trouble != said && (turn == 0 || trouble != Trouble::Silent) {
                said = trouble;
                match trouble {
                    Trouble::None => note!("{} is led from here", self.to),
                    Trouble::Unheard => note!("nothing is heard of {}; it is waited for, and holds", self.to),
                    Trouble::Refused => note!("another one leads {}; it is led from here when that ends", self.to),
                    Trouble::Silent => note!("the leader here has nothing to say; {} holds", self.to),
                }
            }
            turn += 1;
            due = (due + period).max(self.clock.now());
            self.clock.sleep_until(due);
        }
        self.report.seconds = self.clock.now().nanos_since(begun) as f64 * 1e-9;
        Ok(())
    }

    /// One command, where there can be one.
    fn turn(
        &mut self,
        feedback: &Feedback,
        known: &mut Option<String>,
        tick: &Tick,
        (observation, action, wanted): (&mut Observation, &mut [f64], &mut Wanted),
    ) -> anyhow::Result<Trouble> {
        let is_new = known.as_ref() != Some(&feedback.follower);
        if is_new {
            let Some(found) = self.link.info(LOOK)? else { return Ok(Trouble::Unheard) };
            self.compare(&found)?;
        }
        if feedback.position.len() != self.expected.state.len() {
            return Ok(Trouble::Unheard);
        }
        observation.tick = tick.turn;
        for (i, value) in feedback.position.iter().enumerate() {
            match value {
                Some(value) => observation.state.set(i, *value, tick.due),
                None => observation.state.miss(i),
            }
        }
        let result = if is_new {
            self.way.reset();
            self.who.reset(observation)
        } else {
            if feedback.sent.len() == self.expected.action.len() {
                self.who.feel(&feedback.sent);
            }
            Ok(())
        };
        let result = result.and_then(|()| self.who.action(tick, observation, action));
        match result.and_then(|_| self.way.retarget(action, observation, wanted)) {
            Ok(()) => *known = Some(feedback.follower.clone()),
            Err(TeleoperatorError::Transient { .. }) => return Ok(Trouble::Silent),
            Err(lost) => return Err(lost.into()),
        }
        self.link.send(&wanted.goals);
        Ok(if self.link.is_refused(feedback) { Trouble::Refused } else { Trouble::None })
    }

    /// Whether the robot is the one that was meant, number by number.
    fn compare(&self, found: &LinkInfo) -> anyhow::Result<()> {
        let words = |info: &LinkInfo| {
            let of =
                |channel: &sinew_core::service::ChannelInfo| format!("{} × {:.4} + {:.4}", channel.name, channel.scale, channel.offset);
            format!("{}: {}", info.robot, info.action.iter().map(of).collect::<Vec<_>>().join(", "))
        };
        let is_same = |a: &[sinew_core::service::ChannelInfo], b: &[sinew_core::service::ChannelInfo]| {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| {
                    a.name == b.name && a.unit == b.unit && (a.scale - b.scale).abs() < 1e-6 && (a.offset - b.offset).abs() < 1e-6
                })
        };
        let (expected, to) = (&self.expected, self.to);
        ensure!(
            is_same(&expected.action, &found.action) && is_same(&expected.state, &found.state),
            "leading {to}: expected the robot that --robot names\n  here   {}\n  there  {}",
            words(expected),
            words(found)
        );
        Ok(())
    }
}
