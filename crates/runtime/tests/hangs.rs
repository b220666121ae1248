//! In real time: when a policy breaks or hangs, what moves the arm ends at once, and 0.1 s after the session
//! could know, the arm is in its safe state; why is told and recorded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Arm, Fake, Leader, Quirk, Scene, Tape, run, run_in};
use sinew_core::{Frame, Outcome};
use sinew_runtime::{EpisodeOutcome, EpisodeReport, Inference, MonotonicClock, Session, SessionConfig, Source, Starvation, StopFlag};

const AT_ONCE: Duration = Duration::from_millis(100);
/// A question is heard, and the time taken, a little after it was asked.
const HEARD: Duration = Duration::from_millis(50);
/// From this tick on the policy does what it should not.
const SPOILT: u64 = 40;
const MODES: [Inference; 3] = [Inference::Sync, Inference::Async, Inference::Rtc];

fn for_ever() -> Quirk {
    // As far as these tests are concerned.
    Quirk::Sleep(Duration::from_secs(3600))
}

/// Who acts before the policy is spoilt: it alone, or a human from whom it takes over just then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Policy,
    Human,
}

struct Broken {
    report: EpisodeReport,
    tape: Tape,
    arm: Arm,
    /// From the spoilt question, or the spoilt answer, to the end of the safe action.
    took: Duration,
}

/// An episode in which the first question after tick [`SPOILT`] meets `quirk`.
fn break_it(config: &SessionConfig, before: Before, quirk: fn() -> Quirk) -> Broken {
    let spoilt = Arc::new(AtomicBool::new(false));
    let since = Arc::new(Mutex::new(None));
    let (spoiling, asked) = (spoilt.clone(), since.clone());
    let policy = Fake::new(8, 4).continuing().with(move |_| {
        if !spoilt.load(SeqCst) {
            return Quirk::None;
        }
        asked.lock().unwrap().get_or_insert_with(Instant::now);
        quirk()
    });
    let mut session = Session::new(config.clone(), Arc::new(MonotonicClock::new()), StopFlag::new());
    let operator = session.operator();
    // Near the policy's first row, so that the episode begins at once.
    let (mut arm, mut tape) = (Arm::at([0.0, 0.0]), Tape::default());
    let (mut begun, mut last) = (false, 0);
    arm.on_observe = Box::new(move |tick| {
        // Ticks may be missed, and tick 0 is looked at before it begins.
        let passes = |at: u64| begun && (last + 1..=tick).contains(&at);
        if before == Before::Human && passes(10) {
            operator.toggle_pause();
        }
        if before == Before::Human && (passes(15) || passes(SPOILT - 5)) {
            operator.toggle_correction();
        }
        if passes(SPOILT) {
            spoiling.store(true, SeqCst);
            if before == Before::Human {
                operator.toggle_pause();
            }
        }
        (begun, last) = (true, tick);
        Ok(())
    });
    let mut leader = Leader::new(|_| [0.1, -0.1]).thread();
    let mut thread = policy.thread();
    let source = match before {
        Before::Policy => Source::Policy(&mut thread),
        Before::Human => Source::Supervised(&mut thread, &mut leader),
    };
    let report = run_in(&mut session, &mut arm, &mut Scene::lasting(2000), source, &mut [&mut tape]);
    let took = arm.stopped_at.unwrap() - since.lock().unwrap().unwrap();
    Broken { report, tape, arm, took }
}

/// The arm was made safe, once, and why is in the report and in what was recorded.
#[track_caller]
fn assert_told(broken: &Broken, words: &str) {
    let Broken { report, tape, arm, .. } = broken;
    let reason = report.reason.as_deref().unwrap_or_default();
    assert_eq!((report.outcome, arm.enables, arm.stops), (EpisodeOutcome::Fault, 1, 1), "{reason}");
    assert!(reason.contains(words), "{reason}");
    assert!(report.kept && tape.ends[0].keep);
    assert_eq!(tape.ends[0].outcome, Outcome::Failure(reason.to_owned()));
    assert!(arm.writes.iter().flatten().all(|goal| goal.is_finite()));
}

/// In one of three trials, because other programs share the machine, the safe action is done so soon after `from`.
#[track_caller]
fn assert_soon(from: Duration, what: &str, trial: impl Fn() -> Broken) {
    let mut times = Vec::new();
    for _ in 0..3 {
        let took = trial().took;
        assert!(took + HEARD >= from, "{what}: {took:?}, before it could be known");
        times.push(took);
        if took <= from + AT_ONCE {
            return;
        }
    }
    panic!("{what}: {times:?}, expected at most {:?}", from + AT_ONCE);
}

#[test]
fn a_wrong_answer_ends_in_the_safe_state_at_once() {
    let quirks: [(fn() -> Quirk, &str); 5] = [
        (|| Quirk::NotFinite, "its answer has NaN for elbow.pos in row 1"),
        (|| Quirk::TooWide, "3 values a row, expected 2"),
        (|| Quirk::TooLong, "9 rows, expected 1 to 8"),
        (|| Quirk::Fail, "multiplying: no memory"),
        (|| Quirk::Panic, "the policy panicked: index out of bounds"),
    ];
    thread::scope(|scope| {
        for inference in MODES {
            for (quirk, words) in quirks {
                for before in [Before::Policy, Before::Human] {
                    scope.spawn(move || {
                        let config = SessionConfig { inference, ..SessionConfig::default() };
                        assert_soon(Duration::ZERO, &format!("{words}, {inference:?}, after {before:?}"), || {
                            let broken = break_it(&config, before, quirk);
                            assert_told(&broken, words);
                            broken
                        });
                    });
                }
            }
        }
    });
}

#[test]
fn a_policy_that_hangs_is_left_behind_at_its_deadline() {
    thread::scope(|scope| {
        for inference in MODES {
            for before in [Before::Policy, Before::Human] {
                scope.spawn(move || {
                    let config = SessionConfig { inference, answer_deadline_s: Some(0.3), ..SessionConfig::default() };
                    assert_soon(Duration::from_millis(300), &format!("{inference:?}, after {before:?}"), || {
                        let broken = break_it(&config, before, for_ever);
                        assert_told(&broken, " s, expected one within 0.3 s");
                        broken
                    });
                });
            }
        }
    });
}

/// How the applied goals of the first joint changed from frame to frame, and when.
fn steps(frames: &[Frame]) -> Vec<(i64, f64)> {
    frames.windows(2).map(|pair| (pair[1].due.as_nanos(), pair[1].sent[0] - pair[0].sent[0])).collect()
}

/// Nobody has said how long to wait. What was measured does, and meanwhile the arm stands.
#[test]
fn a_quick_policy_that_hangs_is_starved_at_once_and_given_up_soon() {
    thread::scope(|scope| {
        for inference in [Inference::Async, Inference::Rtc] {
            for starvation in [Starvation::Hold, Starvation::SlowStop] {
                scope.spawn(move || {
                    let config = SessionConfig { inference, starvation, ..SessionConfig::default() };
                    let what = format!("{inference:?}, {starvation:?}");
                    let broken = break_it(&config, Before::Policy, for_ever);
                    assert_told(&broken, " s, expected one within 3.0 s");
                    let Broken { report, tape, took, .. } = broken;
                    let expected = Duration::from_secs(3) - HEARD..Duration::from_millis(3300);
                    assert!(expected.contains(&took), "{what}: {took:?}");
                    // On a busy machine answers may have been late before.
                    let first = tape.frames.iter().rposition(|frame| !frame.starved).unwrap() + 1;
                    assert!(tape.frames[first].tick <= SPOILT + 12, "{what}: the rows are out at {}", tape.frames[first].tick);
                    assert!(report.starved_ticks > 100, "{what}: {}", report.starved_ticks);
                    let since = tape.frames[first].due.as_nanos();
                    let steps = steps(&tape.frames);
                    assert!(steps[first - 2].1 != 0.0, "{what}: it moved until then");
                    for (due, step) in &steps[first..] {
                        assert!(due - since < AT_ONCE.as_nanos() as i64 || step.abs() < 1e-9, "{what}: {step} after {} ns", due - since);
                    }
                });
            }
        }
    });
}

#[test]
fn a_policy_that_hangs_at_first_never_moves_the_arm_and_is_not_asked_again() {
    thread::scope(|scope| {
        for inference in [Inference::Sync, Inference::Async] {
            // The warm-up, or the first answer.
            for hung in [0, 1] {
                scope.spawn(move || {
                    let policy = Fake::new(8, 4).with(move |call| if call == hung { for_ever() } else { Quirk::None });
                    let config =
                        SessionConfig { inference, answer_deadline_s: Some(0.2), warm_up_deadline_s: 0.2, ..SessionConfig::default() };
                    let mut thread = policy.thread();
                    let mut session = Session::new(config.clone(), Arc::new(MonotonicClock::new()), StopFlag::new());
                    let (mut arm, mut tape) = (Arm::new(), Tape::default());
                    let source = Source::Policy(&mut thread);
                    let report = run_in(&mut session, &mut arm, &mut Scene::lasting(500), source, &mut [&mut tape]);
                    assert_eq!((arm.enables, arm.stops, report.kept), (0, 0, false));
                    let again = run(&config, &mut Arm::new(), &mut Scene::lasting(5), Source::Policy(&mut thread), &mut []);
                    for report in [report, again] {
                        assert!(report.reason.as_deref().unwrap_or_default().contains("no answer after 0.2 s"), "{report:?}");
                    }
                });
            }
        }
    });
}
