//! Cells in this process: on a mock clock, and in real time with nobody who watches.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::Duration;

use sinew_core::{Clock, FrameSink, Identity, MockClock, Robot, RobotDescription, Timestamp};
use sinew_runtime::{
    EpisodeReport, EpisodeRequest, Fault, Inference, Latency, MonotonicClock, PolicyThread, RealtimeRequest, ReturnToRest, Rig, Session,
    SessionConfig, Source, StopFlag, TeleopThread,
};
use sinew_sim::{RobotModel, SharedWorld, SimEnvironment, SimRobot, World, robots, tasks};

use super::actors::{Eyes, Hand, Judge, Ledger, Swinger, Tape};
use super::arm::{Arm, Body, Event, Hang, Journal};
use super::model::Model;
use super::script::Script;
use super::trouble::{ANSWER_NS, Expected, LATENCY_TICKS, Plan, Trouble, Venue, Who};

/// The gate's 3 rad/s, and what a servo overshoots it by.
pub const FASTEST_PER_S: f64 = 4.0;
/// From a goal to the next: what the gate's speed makes of a turn, and what torque going on takes from an arm.
const LIMIT_PER_S: f64 = 3.0;
const SLACK: f64 = 0.04;
/// Where the control thread lives.
const SOON_NS: i64 = 100_000_000;

static SO101: LazyLock<RobotModel> = LazyLock::new(|| robots::get("so101").unwrap());

/// The modelled arm: three joints.
pub fn description(rate_hz: u32) -> RobotDescription {
    let mut description = RobotDescription::from_toml("model", include_str!("model.toml")).unwrap();
    description.control_rate_hz = rate_hz;
    description
}

pub fn config(plan: &Plan) -> SessionConfig {
    let latency = if plan.venue.is_mock() { Latency::ScriptedTicks(vec![LATENCY_TICKS as u64]) } else { Latency::Measured };
    let hangs = plan.trouble == Trouble::PolicyHangs;
    let deadline_s = ANSWER_NS as f64 * 1e-9;
    SessionConfig {
        inference: if plan.who == Who::Sync { Inference::Sync } else { Inference::Async },
        latency,
        answer_deadline_s: hangs.then_some(deadline_s),
        warm_up_deadline_s: if hangs { deadline_s } else { 10.0 },
        return_to_rest: ReturnToRest::WhenInterrupted,
        realtime: RealtimeRequest::default(),
        // So that on a mock clock a sink is no more than two ticks behind.
        frame_buffer: if plan.venue.is_mock() { 2 } else { 64 },
        ..SessionConfig::default()
    }
}

/// Where everybody swings about: the arm rests far from it.
pub fn middle(description: &RobotDescription) -> Vec<f64> {
    if description.parts.len() == 3 { vec![0.4, -0.3, 0.2] } else { vec![0.0, -0.8, 0.6, 0.6, 0.0, 0.5] }
}

/// Runs the plan's session on `arm`, which has all of its doubles' script.
pub fn run(session: &mut Session, arm: &mut Arm, eyes: &mut Eyes, scene: Option<SimEnvironment>) -> EpisodeReport {
    let script = arm.script.clone();
    drop(script.operator.set(session.operator()));
    let (description, middle) = (arm.description.clone(), middle(&arm.description));
    let mut policy = PolicyThread::spawn(Swinger::new(script.clone(), middle.clone())).unwrap();
    let hand = Hand { script: script.clone(), middle: middle.clone() };
    let mut hand = TeleopThread::spawn(Box::new(hand), Identity { width: middle.len() }, &description).unwrap();
    let source = match script.plan.who {
        Who::Async | Who::Sync => Source::Policy(&mut policy),
        Who::Teleoperator => Source::Teleoperator(&mut hand),
        Who::Supervised => Source::Supervised(&mut policy, &mut hand),
    };
    let (mut judge, mut tape) = (Judge { script: script.clone(), scene }, Tape(script.clone()));
    let sinks: &mut [&mut dyn FrameSink] = &mut [&mut tape];
    let report = session.run_episode(
        &EpisodeRequest { attempt: 0, seed: 3, task: None },
        Rig { robot: arm, cameras: eyes, environment: &mut judge },
        source,
        sinks,
    );
    script.release();
    report
}

/// What a cell came to: its reaction, where there is one to speak of, or what is wrong.
pub type Came = Result<Option<i64>, String>;

/// A cell, whose time is the median of at most three tries where it is real; what is unsafe is so at once.
pub fn cell(plan: Plan) -> Came {
    in_time(if plan.venue.is_mock() { 1 } else { 3 }, SOON_NS, || attempt(plan))
}

/// Whether the median of at most so many tries is in time.
pub fn in_time(most_tries: usize, most_ns: i64, mut attempt: impl FnMut() -> Came) -> Came {
    let mut times = Vec::new();
    loop {
        let Some(reaction_ns) = attempt()? else { return Ok(None) };
        times.push(reaction_ns);
        times.sort_unstable();
        let in_time = times.iter().filter(|ns| **ns <= most_ns).count();
        // Of three, two; the first alone, if it is.
        if 2 * in_time > times.len() {
            return Ok(Some(times[in_time - 1]));
        }
        if times.len() >= most_tries {
            let times_ms: Vec<i64> = times.iter().map(|ns| ns / 1_000_000).collect();
            return Err(format!(
                "the safe action came {times_ms:?} ms after the fault was final, expected at most {}",
                most_ns / 1_000_000
            ));
        }
    }
}

fn attempt(plan: Plan) -> Came {
    let mock = MockClock::new();
    // Times begin anywhere.
    mock.advance(Duration::from_secs(7));
    let clock: Arc<dyn Clock> = if plan.venue.is_mock() { Arc::new(mock) } else { Arc::new(MonotonicClock::new()) };
    let stop = StopFlag::new();
    let script = Script::new(plan, clock.clone(), stop.clone());
    let (description, body, scene) = match plan.venue {
        Venue::Simulator(rate_hz) => {
            let mut model = SO101.clone();
            model.description.control_rate_hz = rate_hz;
            let world = SharedWorld::new(World::new(&model).unwrap());
            let scene = SimEnvironment::new(world.clone(), tasks::get("sort").unwrap());
            let body = Body::Simulator { robot: Box::new(SimRobot::new(world.clone())), world, last_due: None };
            (model.description, body, Some(scene))
        }
        venue => {
            let description = description(venue.rate_hz());
            let rest: Vec<f64> = description.rest().into_iter().map(Option::unwrap).collect();
            let body = Body::Model(Model::new(&rest));
            (description, body, None)
        }
    };
    let mut arm = Arm::new(description, body, script.clone());
    let ledger = Ledger::of(arm.log.clone());
    let mut session = Session::new(config(&plan), clock, stop).watched_by(ledger.clone());
    let mut eyes = Eyes { script: script.clone(), hang: Hang::Short, on_hang: Box::new(|| {}) };
    let report = run(&mut session, &mut arm, &mut eyes, scene);
    let ended = check(&plan, &report, &mut arm, &ledger);
    ended.map_err(|what| format!("{what}; {:?}, faults {:?}", report.outcome, report.faults.iter().map(Fault::chain).collect::<Vec<_>>()))
}

fn expect(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}

fn check(plan: &Plan, report: &EpisodeReport, arm: &mut Arm, ledger: &Ledger) -> Came {
    let expected = plan.expected();
    let script = arm.script.clone();
    let events = std::mem::take(&mut arm.log.lock().unwrap_or_else(PoisonError::into_inner).events);
    let is_stop = |event: &Event| matches!(event, Event::Stop { .. });
    let enables = events.iter().filter(|(_, event)| *event == Event::Enable).count();
    let stops: Vec<bool> =
        events.iter().filter_map(|(_, event)| if let Event::Stop { worked } = event { Some(*worked) } else { None }).collect();
    let at_stop = events.iter().position(|(_, event)| is_stop(event)).unwrap_or(events.len());

    let struck_ns = script.struck_ns().ok_or("the trouble never came")?;
    expect(enables == usize::from(expected.armed), || format!("torque was given {enables} times"))?;
    let wanted_stops: &[bool] = match plan.trouble {
        _ if !expected.armed => &[],
        Trouble::StopFailsOnce => &[false, true],
        Trouble::StopFails => &[false; 3],
        _ => &[true],
    };
    expect(stops == wanted_stops, || format!("safe actions {stops:?}, expected {wanted_stops:?}"))?;
    let late = events[at_stop..].iter().filter(|(_, event)| matches!(event, Event::Goals(_))).count();
    expect(late == 0, || format!("{late} goals after the safe action"))?;
    goals_are_legal(plan, arm, &events)?;
    lease_is_kept(&expected, ledger, &events, &stops)?;
    said(&expected, report)?;

    if expected.armed {
        rests_safely(arm, &expected)?;
    }
    if plan.trouble == Trouble::TeleopNan {
        expect(report.interventions.non_finite > 0, || "no NaN was refused".to_owned())?;
    }
    let Some(borne_ns) = expected.borne_ns else { return Ok(None) };
    let Some((stop_ns, _)) = events.get(at_stop) else { return Ok(None) };
    let mut final_ns = struck_ns + borne_ns;
    if plan.trouble == Trouble::CameraFreezes {
        // How old images are is looked at from the first tick on.
        final_ns = (script.image_ns.load(SeqCst) + borne_ns).max(script.episode_ns.load(SeqCst));
    }
    let reaction_ns = stop_ns - final_ns;
    let turn_ns = 1_000_000_000 / i64::from(plan.venue.rate_hz());
    // What is borne counts from the last good turn.
    let earliest_ns = if borne_ns > 0 { -2 * turn_ns - 10_000_000 } else { 0 };
    expect(reaction_ns >= earliest_ns, || format!("the safe action came {} ms before the fault was final", -reaction_ns / 1_000_000))?;
    Ok(Some(reaction_ns.max(0)))
}

/// Every goal is a number, and none is further from the one before than a turn allows.
fn goals_are_legal(plan: &Plan, arm: &Arm, events: &[(i64, Event)]) -> Result<(), String> {
    let step = LIMIT_PER_S / f64::from(plan.venue.rate_hz()) + 1e-9;
    let mut last: Option<&Vec<f64>> = None;
    for (_, event) in events {
        let Event::Goals(goals) = event else { continue };
        expect(goals.iter().all(|goal| goal.is_finite()), || format!("goals {goals:?}"))?;
        // The first goes on from where the arm lay.
        let rest: Vec<f64> = arm.description.rest().into_iter().map(Option::unwrap_or_default).collect();
        let (from, most) = last.map_or((&rest, step + SLACK), |last| (last, step));
        let furthest = goals.iter().zip(from).map(|(goal, last)| (goal - last).abs()).fold(0.0, f64::max);
        expect(furthest <= most, || format!("a goal stepped by {furthest:.3}, at most {most:.3}: {from:.3?} to {goals:.3?}"))?;
        last = Some(goals);
    }
    Ok(())
}

/// The watchdog has the robot before torque goes on, and lets it go after a safe action that worked, only.
fn lease_is_kept(expected: &Expected, ledger: &Ledger, events: &[(i64, Event)], stops: &[bool]) -> Result<(), String> {
    let (armed, disarmed) = (ledger.armed.lock().unwrap(), ledger.disarmed.lock().unwrap());
    let wanted = if expected.armed { vec![0] } else { vec![] };
    expect(*armed == wanted, || format!("armed when there had been {armed:?} events"))?;
    let wanted = if stops.last() == Some(&true) { vec![events.len()] } else { vec![] };
    expect(*disarmed == wanted, || format!("disarmed when there had been {disarmed:?} of {} events", events.len()))
}

fn said(expected: &Expected, report: &EpisodeReport) -> Result<(), String> {
    expect(report.outcome == expected.outcome, || format!("it ended as {:?}, expected {:?}", report.outcome, expected.outcome))?;
    let words = report.faults.iter().map(Fault::chain).collect::<Vec<_>>().join("; ");
    let is_said = if expected.words.is_empty() { words.is_empty() } else { words.contains(expected.words) && report.faults.len() == 1 };
    expect(is_said, || format!("expected the one fault {:?}", expected.words))
}

/// Left to gravity and its servos for a second, the arm stays where it was stopped, and it never was too fast or too low.
fn rests_safely(arm: &mut Arm, expected: &Expected) -> Result<(), String> {
    let now = arm.script.clock.now();
    arm.advance(now);
    let stopped = arm.positions();
    for ms in (10..=1000).step_by(10) {
        arm.advance(Timestamp::from_nanos((now + Duration::from_millis(ms)).as_nanos()));
    }
    let positions = arm.positions();
    let sank = positions.iter().zip(&stopped).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    expect(sank < 0.15, || format!("it went on by {sank:.3} rad after the safe action"))?;
    let rest = arm.description().rest();
    let from_rest = positions.iter().zip(rest).map(|(position, rest)| (position - rest.unwrap_or(*position)).abs()).fold(0.0, f64::max);
    expect(!expected.rests || from_rest < 0.1, || format!("it is {from_rest:.3} rad from where it rests"))?;
    let log = arm.log.lock().unwrap_or_else(PoisonError::into_inner);
    let Journal { fastest_per_s, lowest_m, .. } = *log;
    expect(fastest_per_s < FASTEST_PER_S, || format!("a joint moved at {fastest_per_s:.2} rad/s"))?;
    expect(lowest_m > -0.01, || format!("the tip was at {lowest_m:.3} m"))
}

/// Whether this is a cell of [`cell`]'s.
pub fn has(plan: &Plan) -> bool {
    plan.cannot_occur().is_none() && plan.is_elsewhere().is_none()
}
