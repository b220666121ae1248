//! On the system's clock: policies, teleoperators and judges that do not come back keep the control thread from
//! nothing, and a lease that is not confirmed stops it. Bounds are wide, and a trial may be repeated, since other
//! programs share the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Arm, Fake, Leader, Quirk, Scene, Tape, lost, run_in, run_on};
use sinew_core::{Actor, Lease, LeaseError, LeaseState, Lifeline, MockClock, TeleoperatorError};
use sinew_runtime::{EpisodeOutcome, EpisodeReport, Inference, MonotonicClock, Session, SessionConfig, Source, StopFlag};

const HANG: Duration = Duration::from_secs(2);
/// How much later than it should the loop may come round: no more than this.
const LATE: Duration = Duration::from_millis(200);
const FOR_EVER: Duration = Duration::from_secs(3600);

fn clock() -> Arc<MonotonicClock> {
    Arc::new(MonotonicClock::new())
}

/// The first of three trials that says nothing against it; otherwise what the last says.
#[track_caller]
fn one_of_three(trial: impl Fn() -> Result<(), String>) {
    let found: Vec<String> = (0..3).map_while(|_| trial().err()).collect();
    assert!(found.len() < 3, "{found:?}");
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Times, and the longest between two of them.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Instant>>>);

impl Times {
    fn note(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    fn between(&self, from: Instant, to: Instant) -> (usize, Duration) {
        let times = self.0.lock().unwrap();
        let during: Vec<Instant> = times.iter().copied().filter(|at| (from..to).contains(at)).collect();
        let all: Vec<Instant> = std::iter::once(from).chain(during.iter().copied()).chain([to]).collect();
        (during.len(), all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap())
    }
}

/// A watchdog that confirms until it is told otherwise.
#[derive(Default)]
struct Watching {
    beats: Times,
    state: Mutex<Option<LeaseState>>,
    armed: AtomicBool,
}

impl Lease for Watching {
    fn arm(&self, _: Lifeline) -> Result<(), LeaseError> {
        self.armed.store(true, SeqCst);
        Ok(())
    }

    fn beat(&self) {
        self.beats.note();
    }

    fn state(&self) -> LeaseState {
        self.state.lock().unwrap().unwrap_or(LeaseState::Held)
    }

    fn disarm(&self) {
        self.armed.store(false, SeqCst);
    }
}

#[test]
fn while_a_policy_in_the_loop_thinks_the_robot_is_looked_after_at_every_turn() {
    for (rate_hz, control_multiplier) in [(30, 1), (50, 4)] {
        one_of_three(|| {
            let asked = Arc::new(Mutex::new(None));
            let at = asked.clone();
            // The third answer, the warm-up being the first.
            let policy = Fake::new(10, 10).with(move |call| {
                if call != 2 {
                    return Quirk::None;
                }
                at.lock().unwrap().get_or_insert_with(Instant::now);
                Quirk::Sleep(HANG)
            });
            let lease = Arc::new(Watching::default());
            let config = SessionConfig { control_multiplier, ..SessionConfig::default() };
            let mut session = Session::new(config, clock(), StopFlag::new()).watched_by(lease.clone());
            let mut arm = Arm::at([0.0, -0.2]).rate_hz(rate_hz);
            let (reads, writes) = (Times::default(), Times::default());
            let (reading, writing) = (reads.clone(), writes.clone());
            arm.on_observe = Box::new(move |_| {
                reading.note();
                Ok(())
            });
            arm.on_write = Box::new(move |_| {
                writing.note();
                Ok(())
            });
            let ticks = u64::from(rate_hz) * 3;
            let mut tape = Tape::default();
            let report = run_in(&mut session, &mut arm, &mut Scene::lasting(ticks), Source::Policy(&mut policy.thread()), &mut [&mut tape]);
            assert!(report.faults.is_empty() && !lease.armed.load(SeqCst), "{:?}", report.faults);
            let from = asked.lock().unwrap().unwrap();
            let turns = (HANG.as_secs_f64() * f64::from(rate_hz * control_multiplier)) as usize;
            for (what, times) in [("read", &reads), ("written to", &writes), ("beaten", &lease.beats)] {
                let (count, gap) = times.between(from, from + HANG);
                expect(gap < LATE, || format!("not {what} for {gap:?}"))?;
                expect(count > turns * 7 / 10, || format!("{what} {count} times in {turns} turns"))?;
            }
            let waiting = turns as u64 / u64::from(control_multiplier);
            expect(report.waiting_ticks > waiting * 7 / 10, || format!("{} waiting ticks", report.waiting_ticks))?;
            assert!(tape.frames.iter().all(|frame| !frame.starved), "what it waits for is not starvation");
            expect(report.ticks > ticks * u64::from(control_multiplier) * 7 / 10, || format!("{} turns", report.ticks))
        });
    }
}

#[test]
fn a_robot_that_breaks_while_a_policy_thinks_is_found_out_at_once() {
    one_of_three(|| {
        let thinks = Arc::new(Mutex::new(None));
        let (since, told) = (thinks.clone(), thinks);
        let policy = Fake::new(10, 10).with(move |call| {
            if call != 2 {
                return Quirk::None;
            }
            *since.lock().unwrap() = Some(Instant::now());
            Quirk::Sleep(HANG)
        });
        let mut arm = Arm::at([0.0, -0.2]);
        arm.on_observe = Box::new(move |_| {
            let thought = told.lock().unwrap().map(|since: Instant| since.elapsed());
            if thought.is_some_and(|thought| thought > Duration::from_millis(500)) { Err(lost()) } else { Ok(()) }
        });
        let start = Instant::now();
        let report = run_on(
            clock(),
            &SessionConfig::default(),
            &mut arm,
            &mut Scene::lasting(500),
            Source::Policy(&mut policy.thread()),
            &mut [],
            &StopFlag::new(),
        );
        assert!(report.reason.unwrap().contains("the robot is lost"));
        let took = start.elapsed();
        // 10 ticks of 20 ms before the question, half a second, a turn.
        expect(took < Duration::from_millis(720) + LATE, || format!("{took:?}"))
    });
}

#[test]
fn a_quick_policy_in_the_loop_costs_no_tick() {
    one_of_three(|| {
        let policy = Fake::new(4, 1).with(|_| Quirk::Sleep(Duration::from_millis(3)));
        let mut arm = Arm::at([0.0, -0.2]);
        let report = run_on(
            clock(),
            &SessionConfig::default(),
            &mut arm,
            &mut Scene::lasting(50),
            Source::Policy(&mut policy.thread()),
            &mut [],
            &StopFlag::new(),
        );
        expect(report.waiting_ticks <= 5, || format!("{} of {} ticks", report.waiting_ticks, report.ticks))
    });
}

/// A teleoperator that steps on and then hangs for so long; how it went, and how the arm stood.
fn hanging_leader(hang: Duration, ticks: u64, multiplier: u32) -> (EpisodeReport, Tape, Arm, Instant) {
    let since = Arc::new(Mutex::new(None));
    let hung = since.clone();
    // More than a second and a half away.
    let mut leader = Leader::new(|_| [1.4, -0.2]);
    leader.on_action = Box::new(move |_| {
        let mut hung = hung.lock().unwrap();
        // From half a second after the first action on, once.
        match *hung {
            None => *hung = Some((Instant::now(), false)),
            Some((at, false)) if at.elapsed() > Duration::from_millis(500) => {
                *hung = Some((Instant::now(), true));
                drop(hung);
                thread::sleep(hang);
            }
            _ => {}
        }
        Ok(())
    });
    let (mut arm, mut tape) = (Arm::new(), Tape::default());
    let config = SessionConfig { control_multiplier: multiplier, ..SessionConfig::default() };
    let source = &mut leader.thread();
    let report =
        run_on(clock(), &config, &mut arm, &mut Scene::lasting(ticks), Source::Teleoperator(source), &mut [&mut tape], &StopFlag::new());
    let (at, has_hung) = since.lock().unwrap().unwrap();
    assert!(has_hung);
    (report, tape, arm, at)
}

#[test]
fn a_teleoperator_that_hangs_delays_no_tick_and_the_arm_comes_to_rest() {
    for multiplier in [1, 4] {
        one_of_three(|| {
            let (report, tape, ..) = hanging_leader(HANG, 175, multiplier);
            assert!(report.faults.is_empty(), "{:?}", report.faults);
            expect(report.missed_ticks < 30 * u64::from(multiplier), || format!("{} missed", report.missed_ticks))?;
            let work = report.cadence.work.stats();
            expect(work.p50_ns < 5_000_000 && work.max_ns < 500_000_000, || format!("ticks waited for it: {work:?}"))?;
            // Half a second, then two in which it hangs; from half a second of silence on the arm stands.
            let still: Vec<f64> = tape.frames.iter().filter(|frame| (65..115).contains(&frame.tick)).map(|frame| frame.sent[0]).collect();
            expect(still.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 1e-9), || format!("it moves: {still:?}"))?;
            assert!(still[0] < 1.2, "it is still on its way: {}", still[0]);
            let last = tape.frames.last().unwrap().sent[0];
            expect(last > still[0] + 0.1, || format!("it goes on: {last}"))
        });
    }
}

#[test]
fn a_teleoperator_that_hangs_for_good_ends_the_episode_after_three_seconds() {
    one_of_three(|| {
        let (report, tape, arm, since) = hanging_leader(FOR_EVER, 1000, 1);
        let reason = report.reason.unwrap();
        assert_eq!((report.outcome, arm.stops), (EpisodeOutcome::Fault, 1));
        assert!(reason.contains("it has said nothing for 3.0 s"), "{reason}");
        let took = arm.stopped_at.unwrap() - since;
        assert!(took > Duration::from_millis(2900), "{took:?}");
        expect(took < Duration::from_secs(3) + LATE, || format!("{took:?}"))?;
        let sent: Vec<f64> = tape.frames.iter().rev().take(100).map(|frame| frame.sent[0]).collect();
        expect(sent.iter().all(|goal| (goal - sent[0]).abs() < 1e-9 && *goal < 1.2), || format!("it stood before: {sent:?}"))
    });
}

#[test]
fn a_teleoperator_that_never_speaks_moves_nothing_and_one_that_fails_at_first_is_asked_again() {
    let mut leader = Leader::new(|_| [0.1, -0.2]);
    leader.on_reset = Box::new(|_| {
        thread::sleep(FOR_EVER);
        Ok(())
    });
    let mut arm = Arm::new();
    let source = &mut leader.thread();
    let config = SessionConfig::default();
    let report = run_on(clock(), &config, &mut arm, &mut Scene::lasting(10), Source::Teleoperator(source), &mut [], &StopFlag::new());
    assert!(report.reason.unwrap().contains("it has said nothing for 3.0 s") && arm.enables == 0);

    for on_mock in [false, true] {
        let fails = |times| {
            if times < 2 {
                Err(TeleoperatorError::Transient { doing: "opening the pad", what: sinew_core::Brief::of("busy") })
            } else {
                Ok(())
            }
        };
        let mut leader = Leader::new(|_| [0.1, -0.2]);
        (leader.on_reset, leader.on_action) = (Box::new(fails), Box::new(fails));
        let resets = leader.resets.clone();
        let source = &mut leader.thread();
        let clock: Arc<dyn sinew_core::Clock> = if on_mock { Arc::new(MockClock::new()) } else { clock() };
        let mut scene = Scene::lasting(20);
        let report = run_on(clock, &config, &mut Arm::new(), &mut scene, Source::Teleoperator(source), &mut [], &StopFlag::new());
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        assert_eq!(resets.load(SeqCst), 3, "it begins anew until it could");
    }
}

#[test]
fn a_human_who_hangs_when_he_takes_over_delays_no_tick() {
    one_of_three(|| {
        let mut leader = Leader::new(|_| [0.3, -0.2]);
        leader.on_reset = Box::new(|_| {
            thread::sleep(HANG);
            Ok(())
        });
        let config = SessionConfig { inference: Inference::Async, ..SessionConfig::default() };
        let mut session = Session::new(config, clock(), StopFlag::new());
        let (operator, mut arm, mut tape) = (session.operator(), Arm::at([0.0, -0.2]), Tape::default());
        arm.on_observe = Box::new(move |tick| {
            if tick == 20 {
                operator.set_actor(Actor::Human);
            }
            Ok(())
        });
        let (policy, mut human) = (Fake::new(30, 20), leader.thread());
        let source = &mut policy.thread();
        let report = run_in(&mut session, &mut arm, &mut Scene::lasting(150), Source::Supervised(source, &mut human), &mut [&mut tape]);
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        expect(report.missed_ticks < 30, || format!("{} missed", report.missed_ticks))?;
        let actor = |tick: u64| tape.frames.iter().rfind(|frame| frame.tick <= tick).unwrap().actor;
        expect([actor(10), actor(60), actor(149)] == [Actor::Policy, Actor::Nobody, Actor::Human], || "others acted".into())
    });
}

#[test]
fn a_judge_who_hangs_delays_no_tick() {
    one_of_three(|| {
        let mut scene = Scene { success_after: Some(25), ..Scene::lasting(500) };
        scene.on_outcome = Box::new(|times| {
            if times == 20 {
                thread::sleep(HANG);
            }
        });
        let (mut arm, policy) = (Arm::at([0.0, -0.2]), Fake::new(30, 20));
        let config = SessionConfig { inference: Inference::Async, ..SessionConfig::default() };
        let source = &mut policy.thread();
        let report = run_on(clock(), &config, &mut arm, &mut scene, Source::Policy(source), &mut [], &StopFlag::new());
        assert!(report.is_success(), "{:?}", report.reason);
        // 20 ticks, 100 while he hangs, and those until he has seen 25.
        expect((122..150).contains(&(report.ticks + report.missed_ticks)), || format!("{} ticks", report.ticks))?;
        expect(report.missed_ticks < 30, || format!("{} missed", report.missed_ticks))
    });
}

#[test]
fn a_judge_who_never_comes_back_does_not_keep_the_arm_from_its_safe_action() {
    let released = Arc::new(AtomicBool::new(false));
    let release = released.clone();
    let mut scene = Scene::lasting(50);
    scene.on_outcome = Box::new(move |_| {
        while !released.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut arm = Arm::at([0.0, -0.2]);
    // He is let go only by the safe action.
    arm.on_stop = Box::new(move |_| {
        release.store(true, SeqCst);
        Ok(())
    });
    let policy = Fake::new(30, 20);
    let source = &mut policy.thread();
    let report = run_on(clock(), &SessionConfig::default(), &mut arm, &mut scene, Source::Policy(source), &mut [], &StopFlag::new());
    assert_eq!((report.outcome, arm.stops), (EpisodeOutcome::Failure, 1));
}

#[test]
fn without_a_confirmed_lease_nothing_is_sent_and_the_episode_ends_when_it_stays_away() {
    for multiplier in [1, 4] {
        for (from, until, fault) in [(40, 55, None), (40, 1000, Some("taken the robot over"))] {
            let lease = Arc::new(Watching::default());
            let mut arm = Arm::at([0.0, -0.2]);
            let told = lease.clone();
            arm.on_observe = Box::new(move |turn| {
                let away = (from * multiplier..until * multiplier).contains(&turn);
                *told.state.lock().unwrap() = away.then_some(LeaseState::Unconfirmed);
                Ok(())
            });
            let config = SessionConfig { control_multiplier: multiplier as u32, ..SessionConfig::default() };
            let mut session = Session::new(config, Arc::new(MockClock::new()), StopFlag::new()).watched_by(lease.clone());
            let policy = Fake::new(30, 30);
            let report = run_in(&mut session, &mut arm, &mut Scene::lasting(100), Source::Policy(&mut policy.thread()), &mut []);
            let reason = report.faults.first().map(sinew_runtime::Fault::chain);
            assert_eq!(reason.is_some(), fault.is_some(), "{reason:?}");
            assert!(reason.is_none_or(|reason| reason.contains(fault.unwrap())));
            assert!(arm.write_ticks.iter().all(|turn| !(from * multiplier..until * multiplier).contains(turn)));
            match fault {
                None => assert_eq!((report.failed_ticks, report.ticks), (15 * multiplier, 100 * multiplier)),
                // After half a second, which is 25 ticks.
                Some(_) => assert!((65 * multiplier..67 * multiplier).contains(&report.ticks), "{} turns", report.ticks),
            }
        }
    }
}
