//! A teleoperator that acts alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{Arm, Leader, PERIOD, Scene, Tape, VELOCITY, description, run, run_on};
use sinew_core::{Brief, Identity, Observation, TeleopStatus, Teleoperator, TeleoperatorError, Tick};
use sinew_runtime::{EpisodeOutcome, Fault, MonotonicClock, SessionConfig, Source, StopFlag, TeleopThread};

#[test]
fn a_teleoperator_that_is_done_gives_the_scene_time_to_settle() {
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let leader = Leader { done_at: Some(4), ..Leader::new(|tick| [0.1 + tick as f64 * 0.01, -0.2]) };
    let asked = leader.asked.clone();
    let mut leader = leader.thread();
    let config = SessionConfig { settle_s: 0.2, ..SessionConfig::default() };
    let mut scene = Scene { success_after: Some(8), ..Scene::lasting(100) };
    let report = run(&config, &mut arm, &mut scene, Source::Teleoperator(&mut leader), &mut [&mut tape]);
    assert!(report.is_success());
    assert_eq!((asked.load(SeqCst), report.ticks), (5, 8));
    assert!(tape.frames[4..].iter().all(|frame| frame.wanted == tape.frames[4].wanted), "its last goals stand");

    scene.success_after = None;
    let report = run(&config, &mut arm, &mut scene, Source::Teleoperator(&mut leader), &mut []);
    assert_eq!((report.outcome, report.ticks), (EpisodeOutcome::Failure, 4 + 1 + 10));
}

#[test]
fn wanted_goals_pass_the_gate_and_interventions_are_counted() {
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let mut leader = Leader::new(|tick| if tick == 30 { [f64::NAN, f64::INFINITY] } else { [9.0, -0.2] }).thread();
    // It comes to its own goals at once.
    let config = SessionConfig { rest_velocity_per_s: f64::INFINITY, ..SessionConfig::default() };
    let report = run(&config, &mut arm, &mut Scene::lasting(60), Source::Teleoperator(&mut leader), &mut [&mut tape]);
    assert!(arm.writes.iter().all(|goals| (-1.5..=1.5).contains(&goals[0]) && goals[1] == -0.2));
    assert_eq!(arm.writes.last().unwrap()[0], 1.5);
    assert_eq!(report.interventions.non_finite, 2);
    assert!(report.interventions.position > 0);
    assert_eq!(tape.frames[0].wanted[0], 0.1, "it begins where the arm is");
    assert_eq!(tape.frames[1].wanted[0], 9.0, "what was wanted and what was sent are both told");
    assert!((0.1 + 1e-3..=0.1 + VELOCITY * PERIOD.as_secs_f64() + 1e-9).contains(&tape.frames[1].sent[0]));
}

#[test]
fn a_teleoperator_far_from_the_arm_is_come_to_slowly_and_then_followed() {
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let mut leader = Leader::new(|tick| [1.1 + 0.001 * tick as f64, -0.2]).thread();
    let config = SessionConfig::default();
    run(&config, &mut arm, &mut Scene::lasting(100), Source::Teleoperator(&mut leader), &mut [&mut tape]);
    let stride = config.rest_velocity_per_s * PERIOD.as_secs_f64() + 0.001;
    let wanted: Vec<f64> = std::iter::once(0.1).chain(tape.frames.iter().map(|frame| frame.wanted[0])).collect();
    assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] < stride + 1e-9), "{wanted:?}");
    // 1 rad at 0.8 rad/s.
    assert_eq!(wanted.last(), Some(&(1.1 + 0.001 * 99.0)));
    assert!(wanted[60] < 1.1 + 0.001 * 59.0 && (wanted[66] - (1.1 + 0.001 * 65.0)).abs() < 1e-9, "{wanted:?}");
}

#[test]
fn a_teleoperator_that_comes_back_elsewhere_is_come_to_slowly_too() {
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    // Silent for a second, in which somebody moves it on by 1 rad.
    let mut leader = Leader::new(|tick| if tick < 40 { [0.1, -0.2] } else { [1.1, -0.2] });
    let silent = (20u64..20 + (1.0 / PERIOD.as_secs_f64()) as u64).collect::<Vec<_>>();
    let last = *silent.last().unwrap() as usize;
    leader.on_action = Box::new(move |call| {
        let what = Brief::of("its cable is out");
        if silent.contains(&call) { Err(TeleoperatorError::Transient { doing: "reading the leader", what }) } else { Ok(()) }
    });
    let mut leader = leader.thread();
    let config = SessionConfig::default();
    let report = run(&config, &mut arm, &mut Scene::lasting(220), Source::Teleoperator(&mut leader), &mut [&mut tape]);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    let wanted: Vec<f64> = tape.frames.iter().map(|frame| frame.wanted[0]).collect();
    let stride = config.rest_velocity_per_s * PERIOD.as_secs_f64() + 1e-9;
    assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] < stride), "{wanted:?}");
    assert_eq!(wanted[last], 0.1, "it holds meanwhile");
    assert_eq!(wanted.last(), Some(&1.1));

    // Who says nothing for longer than he is waited for ends it.
    let mut gone = Leader::new(|_| [0.1, -0.2]);
    gone.on_action = Box::new(|call| {
        let what = Brief::of("its cable is out");
        if call > 20 { Err(TeleoperatorError::Transient { doing: "reading the leader", what }) } else { Ok(()) }
    });
    let mut gone = gone.thread().patient(Duration::from_secs(5));
    let report = run(&config, &mut arm, &mut Scene::lasting(1000), Source::Teleoperator(&mut gone), &mut []);
    let ticks = 21 + (5.0 / PERIOD.as_secs_f64()) as u64;
    assert!(matches!(report.faults[..], [Fault::Silent { .. }]) && report.ticks.abs_diff(ticks) <= 2, "{report:?}");
    assert!(report.faults[0].chain().ends_with("reading the leader: its cable is out"), "{}", report.faults[0].chain());
}

/// Holds the robot where it is, as soon as it knows where that is.
struct Holder([f64; 2]);

impl Teleoperator for Holder {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        for (i, slot) in self.0.iter_mut().enumerate() {
            let what = Brief::of("a position is not known");
            *slot = observation.state.get(i).ok_or(TeleoperatorError::Transient { doing: "holding the arm", what })?;
        }
        Ok(())
    }

    fn action(&mut self, _: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        action.copy_from_slice(&self.0);
        Ok(TeleopStatus::Active)
    }
}

#[test]
fn what_was_not_known_at_first_is_read_again_for_who_waits_for_it() {
    // An answer that is lost, and reads that fail.
    for fails in [false, true] {
        let (mut arm, mut tape, mut reads) = (Arm::new(), Tape::default(), 0);
        if fails {
            arm.on_observe = Box::new(move |_| {
                reads += 1;
                if (2..5).contains(&reads) { Err(common::transient()) } else { Ok(()) }
            });
        }
        let mut seen = 0;
        arm.spoil = Box::new(move |_, values| {
            seen += 1;
            if seen == 1 {
                values[1] = f64::INFINITY;
            }
        });
        let mut holder = TeleopThread::spawn(Box::new(Holder([0.0; 2])), Identity { width: 2 }, &description()).unwrap();
        let (config, mut scene) = (SessionConfig::default(), Scene::lasting(5));
        let source = Source::Teleoperator(&mut holder);
        let report = run_on(Arc::new(MonotonicClock::new()), &config, &mut arm, &mut scene, source, &mut [&mut tape], &StopFlag::new());
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        assert!(tape.frames.iter().all(|frame| frame.sent == [0.1, -0.2]), "it stays where it was");
    }
}

/// Leads for a while, is gone, comes back elsewhere and goes again before the arm has come there.
struct Visitor(TeleopStatus);

impl Teleoperator for Visitor {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        action.copy_from_slice(if tick.turn < 20 { &[0.1, -0.2] } else { &[1.1, -0.2] });
        Ok(if (20..60).contains(&tick.turn) || tick.turn >= 70 { self.0 } else { TeleopStatus::Active })
    }
}

#[test]
fn who_goes_again_while_he_is_come_to_leaves_the_arm_where_it_is() {
    for gone in [TeleopStatus::Holding, TeleopStatus::Absent] {
        let (mut arm, mut tape) = (Arm::new(), Tape::default());
        let mut visitor = TeleopThread::spawn(Box::new(Visitor(gone)), Identity { width: 2 }, &description()).unwrap();
        let config = SessionConfig::default();
        let report = run(&config, &mut arm, &mut Scene::lasting(150), Source::Teleoperator(&mut visitor), &mut [&mut tape]);
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let sent: Vec<f64> = tape.frames.iter().map(|frame| frame.sent[0]).collect();
        assert!(sent[20..60].iter().all(|sent| (sent - 0.1).abs() < 1e-9), "it holds while nobody leads: {sent:?}");
        let left = sent[69];
        assert!((0.15..0.3).contains(&left), "it was on its way: {sent:?}");
        // The gate lets it come to rest.
        assert!(sent[70..].iter().all(|sent| (left - 1e-9..left + 0.02).contains(sent)), "{sent:?}");
        let marked: Vec<usize> = (0..150).filter(|row| tape.frames[*row].starved).collect();
        let absent: Vec<usize> = if gone == TeleopStatus::Absent { (20..60).chain(70..150).collect() } else { Vec::new() };
        assert_eq!(marked, absent);
    }
}

#[test]
fn rows_in_which_nobody_led_are_marked() {
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let mut leader = Leader::new(|_| [0.1, -0.2]);
    leader.on_action = Box::new(|call| {
        if call == 20 {
            std::thread::sleep(Duration::from_millis(1200));
        }
        Ok(())
    });
    let (config, mut leader) = (SessionConfig::default(), leader.thread());
    let (clock, source) = (Arc::new(MonotonicClock::new()), Source::Teleoperator(&mut leader));
    let report = run_on(clock, &config, &mut arm, &mut Scene::lasting(100), source, &mut [&mut tape], &StopFlag::new());
    // 1.2 s at 50 Hz, of which its last word stands for 0.1 s.
    let marked = tape.frames.iter().filter(|frame| frame.starved).count();
    assert_eq!(report.starved_ticks, marked as u64);
    assert!((45..=57).contains(&marked) && !tape.frames[20].starved && !tape.frames.last().unwrap().starved, "{marked}");
}
