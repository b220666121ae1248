//! `sinew teleop`: a robot follows a leader arm.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::Context;
use sinew_core::{Clock, FrameSink};
use sinew_recorder::RerunView;
use sinew_runtime::{
    AsItIs, Attendant, EpisodeReport, MonotonicClock, Realtime, ReturnToRest, Series, Session, SessionConfig, Stage, StopFlag,
};

use crate::args::TeleopArgs;
use crate::buses::BusReport;
use crate::commands::rollout::report::{fail_on_faults, print_lateness};
use crate::desk::Desk;
use crate::host::Host;
use crate::led::{self, Human};
use crate::live::{self, LiveLine};
use crate::live_table::LiveTable;
use crate::rig::Rig;
use crate::text::say;
use crate::{Done, hardware, lead, standby, text};

pub fn run(args: &TeleopArgs) -> anyhow::Result<Done> {
    if let Some(to) = &args.to {
        return lead::run(args, to);
    }
    let description = hardware::describe_unit(&args.robot, &args.hardware, &args.camera)?;
    led::check(&args.leader, &description)?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let priority = args.realtime.request().priority;
    let (follower, mut human) = led::connect(description, &args.hardware, &args.camera, &args.leader, (priority, false), &clock)?;
    follow(args, &mut Rig::of(follower, AsItIs::default()), &mut human, Host::terminal(clock, stop))
}

/// Lets the robot of `follower` follow `human`.
pub fn follow(args: &TeleopArgs, follower: &mut Rig, human: &mut Human, mut host: Host<'_>) -> anyhow::Result<Done> {
    let (robot, stop) = (follower.robot.description().clone(), host.stop.clone());
    let request = args.realtime.request();
    let priority = request.priority;
    let config = SessionConfig { return_to_rest: ReturnToRest::Never, realtime: request, ..SessionConfig::default() };
    let mut session = Session::new(config, host.clock.clone(), stop.clone());
    if follower.is_real() {
        session = session.watched_by(standby::watch(&robot, &stop, priority)?);
    }
    let desk = Desk::new(session.operator(), stop.clone(), None).without_episodes();
    human.sits_at(&desk);
    let keys = host.keys(&desk, human.keys.clone())?;
    if !args.json {
        say!("robot     {}{}, {} Hz", robot.title, follower.calibrated(), robot.control_rate_hz);
        if let Some(arm) = human.in_words() {
            say!("follows   {arm}");
        }
        if keys.is_some() {
            say!("keys      {}", desk.legend());
        }
    }
    if host.is_terminal() {
        live::leave_when_abandoned(session.progress(), stop.clone());
    }
    let mut viewer: Option<Box<dyn FrameSink>> = match &args.rerun_connect {
        Some(address) => Some(Box::new(RerunView::connect(address, &robot)?)),
        None if !args.json && host.is_terminal() && std::io::stderr().is_terminal() => {
            Some(Box::new(LiveTable::new(&robot, session.progress(), follower.cameras.monitor.clone())))
        }
        None => None,
    };
    let line = args.rerun_connect.is_some().then(|| LiveLine::start(session.progress(), live::of_one(), stop.clone()));
    let told = (follower.tell_outages(), human.tell_outages());
    let rate = f64::from(robot.control_rate_hz);
    let ticks = args.seconds.map_or(u64::MAX, |seconds| (seconds * rate).ceil() as u64);
    let mut scene = AsItIs { task: String::new(), ticks };
    let stage = Stage {
        robot: &mut *follower.robot,
        cameras: &mut *follower.cameras.cameras,
        environment: &mut scene,
        policy: None,
        human: Some(&mut human.thread),
        recorder: None,
        viewer: viewer.as_mut().map(|viewer| &mut **viewer as &mut dyn FrameSink),
    };
    let end = host.run(&mut session, &Series::of(1, 0), stage, &desk, &mut Watching { desk: &desk })?;
    drop((line, told, session, keys));
    if !viewer.is_none_or(|viewer| live::wait_a_little(move || drop(viewer), live::VIEW_ENDS_WITHIN)) {
        text::note!("the viewer has not taken all that it was sent");
    }
    let report = end.reports.into_iter().next();
    let motors = follower.report().unwrap_or_default().and(human.report());
    if let Some(report) = &report {
        if args.json {
            text::print_json(&Line::of(report, &motors))?;
        } else {
            print_lateness(&report.cadence);
            say!(
                "limited   {} by the safety gate; {} missed",
                text::plural(report.interventions.total().into(), "command"),
                text::plural(report.missed_ticks, "tick")
            );
            say!("\n{}", motors.table());
        }
        fail_on_faults(report, || format!("teleoperating {}", robot.name))?;
    }
    standby::say_why_it_ended(&stop);
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// What a script reads.
#[derive(serde::Serialize)]
pub struct Line<'a> {
    outcome: sinew_runtime::EpisodeOutcome,
    reason: Option<&'a str>,
    ticks: u64,
    missed_ticks: u64,
    failed_ticks: u64,
    interventions: sinew_core::Interventions,
    realtime: &'a Realtime,
    cadence: &'a sinew_runtime::Cadence,
    motors: &'a BusReport,
}

impl<'a> Line<'a> {
    pub fn of(report: &'a EpisodeReport, motors: &'a BusReport) -> Self {
        Self {
            outcome: report.outcome,
            reason: report.reason.as_deref(),
            ticks: report.ticks,
            missed_ticks: report.missed_ticks,
            failed_ticks: report.failed_ticks,
            interventions: report.interventions,
            realtime: &report.realtime,
            cadence: &report.cadence,
            motors,
        }
    }
}

/// Whoever sits at the desk.
pub struct Watching<'a> {
    pub desk: &'a Desk,
}

impl Attendant for Watching<'_> {
    fn has_ended(&mut self) {
        self.desk.ended();
    }

    fn may_go_on(&mut self) -> bool {
        !self.desk.has_quit() && self.desk.wait_for_clearance()
    }
}
