//! A human who pauses a policy, takes over, gives back, and says what is worth keeping.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Arm, Fake, Leader, PERIOD, Scene, Tape, run_in};
use sinew_core::{Actor, Frame, FrameSink, MockClock};
use sinew_runtime::{
    EpisodeOutcome, EpisodeReport, Inference, Keep, Latency, Operator, Selection, Session, SessionConfig, Source, StopFlag, Strategy,
};

struct Shift {
    config: SessionConfig,
    ticks: u64,
    fake: Fake,
    leader: Option<fn(u64) -> [f64; 2]>,
    followed: Arc<Mutex<Vec<u64>>>,
}

impl Shift {
    fn new(ticks: u64) -> Self {
        let config = SessionConfig {
            inference: Inference::Async,
            latency: Latency::ScriptedTicks(vec![2]),
            keep: Keep::Everything,
            // A turn's worth is then easily told from a jump.
            rest_velocity_per_s: 0.5,
            ..SessionConfig::default()
        };
        // The human's hand is far from where the policy goes.
        Self { config, ticks, fake: Fake::new(20, 10), leader: Some(|_| [0.6, -0.6]), followed: Arc::default() }
    }

    /// `wishes` is called before each tick; `strategy` is the recorder's.
    fn run(&mut self, mut wishes: impl FnMut(u64, &Operator) + Send + 'static, strategy: Strategy) -> (EpisodeReport, Tape, Tape, u64) {
        let mut session = Session::new(self.config.clone(), Arc::new(MockClock::new()), StopFlag::new());
        let operator = session.operator();
        // Near the policy's first row, so that the episode begins at once.
        let mut arm = Arm::at([0.0, 0.0]);
        let told = operator.clone();
        arm.on_observe = Box::new(move |tick| {
            wishes(tick, &told);
            Ok(())
        });
        let mut thread = self.fake.thread();
        // The sinks are far behind, which moves no boundary.
        let (mut all, mut recorder) = (Tape::default(), Tape { delay: Duration::from_micros(300), ..Tape::default() });
        let mut selection = Selection::new(strategy, &mut recorder, operator);
        let committed = selection.committed();
        let mut leader = self.leader.map(|goal| Leader { followed: self.followed.clone(), ..Leader::new(goal) }.thread());
        let source = match &mut leader {
            Some(leader) => Source::Supervised(&mut thread, leader),
            None => Source::Policy(&mut thread),
        };
        let sinks: &mut [&mut dyn FrameSink] = &mut [&mut all, &mut selection];
        let report = run_in(&mut session, &mut arm, &mut Scene::lasting(self.ticks), source, sinks);
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        (report, all, recorder, committed.load(Relaxed))
    }
}

fn at(tick: u64, ticks: &[u64]) -> bool {
    ticks.contains(&tick)
}

/// Pauses at 20, takes over at 30, gives back at 60, lets the policy go on at 70.
fn correction(tick: u64, operator: &Operator) {
    if at(tick, &[20, 70]) {
        operator.toggle_pause();
    }
    if at(tick, &[30, 60]) {
        operator.toggle_correction();
    }
}

fn actors(frames: &[Frame]) -> Vec<(u64, Actor)> {
    let mut changes: Vec<(u64, Actor)> = Vec::new();
    for frame in frames {
        if changes.last().is_none_or(|(_, actor)| *actor != frame.actor) {
            changes.push((frame.tick, frame.actor));
        }
    }
    changes
}

#[test]
fn hand_overs_are_without_a_jump_and_the_policy_begins_anew() {
    let mut shift = Shift::new(120);
    let (report, all, ..) = shift.run(correction, Strategy::Whole);
    assert_eq!((report.starved_ticks, report.ticks), (0, 120));
    // A wish of the time before a tick's observation is fulfilled at the next tick; the policy's answer
    // takes two more.
    let changes = [(0, Actor::Policy), (21, Actor::Nobody), (31, Actor::Human), (61, Actor::Nobody), (73, Actor::Policy)];
    assert_eq!(actors(&all.frames), changes);
    let fade_rad = 0.5 * PERIOD.as_secs_f64();
    for pair in all.frames.windows(2) {
        let [before, now] = pair else { unreachable!() };
        // The other joint's rows jump by themselves.
        let step = (now.wanted[0] - before.sent[0]).abs();
        assert!(step < fade_rad + 0.002, "tick {}: {step} from the last command", now.tick);
        assert!(now.actor != Actor::Nobody || step < 1e-9, "tick {}: nobody moves the arm by {step}", now.tick);
    }
    // For 30 ticks.
    let way = all.frames[60].sent[0] - all.frames[30].sent[0];
    assert!((way - 29.0 * fade_rad).abs() < 0.02, "the human gets towards where he wants: {way}");
    let log = shift.fake.log();
    assert_eq!(log.resets, 2, "once for the episode, once for the policy's return");
    assert_eq!(log.seeds, [7, 7], "the episode's");
    assert!(log.asked_ticks.iter().all(|tick| !(21..71).contains(tick)) && log.asked_ticks.contains(&71), "{:?}", log.asked_ticks);
}

#[test]
fn a_human_who_does_not_act_follows_the_robot() {
    let mut shift = Shift::new(120);
    shift.run(correction, Strategy::Whole);
    let followed = shift.followed.lock().unwrap();
    // At every turn but those that are his.
    assert_eq!(*followed, (0..31).chain(61..120).collect::<Vec<_>>());
}

#[test]
fn the_same_wishes_give_the_same_bytes() {
    let bytes = || Shift::new(120).run(correction, Strategy::Whole).1.bytes();
    assert_eq!(bytes(), bytes());
}

#[test]
fn in_every_mode_of_inference_the_policy_comes_back() {
    for inference in [Inference::Sync, Inference::Async, Inference::Rtc] {
        for multiplier in [1, 3] {
            let mut shift = Shift::new(120);
            shift.fake = Fake::new(20, 10).continuing();
            shift.config.inference = inference;
            shift.config.control_multiplier = multiplier;
            shift.config.latency = Latency::ScriptedTicks(if inference == Inference::Sync { vec![0] } else { vec![2, 5, 1] });
            // The hook counts turns.
            let wishes = move |turn: u64, operator: &Operator| {
                if turn.is_multiple_of(u64::from(multiplier)) {
                    correction(turn / u64::from(multiplier), operator);
                }
            };
            let (report, all, ..) = shift.run(wishes, Strategy::Whole);
            assert_eq!(report.starved_ticks, 0, "{inference:?}");
            assert_eq!(all.frames.last().unwrap().actor, Actor::Policy, "{inference:?}");
            let humans = all.frames.iter().filter(|frame| frame.actor == Actor::Human).count();
            assert!((29..=30).contains(&humans), "{inference:?}: {humans}");
        }
    }
}

#[test]
fn without_a_teleoperator_a_human_cannot_act() {
    let mut shift = Shift::new(60);
    shift.leader = None;
    let (_, all, ..) = shift.run(
        |tick, operator| {
            if tick == 10 {
                operator.set_actor(Actor::Human)
            }
        },
        Strategy::Whole,
    );
    assert_eq!(actors(&all.frames), [(0, Actor::Policy), (11, Actor::Nobody)]);
}

#[test]
fn corrections_are_episodes_of_what_the_human_did() {
    let wishes = |tick: u64, operator: &Operator| {
        if at(tick, &[10]) {
            operator.toggle_pause();
        }
        // Twice the human, and once more when the episode ends.
        if at(tick, &[20, 30, 40, 60, 90]) {
            operator.toggle_correction();
        }
    };
    let (_, _, recorder, committed) = Shift::new(100).run(wishes, Strategy::Corrections);
    let ticks: Vec<u64> = (21..31).chain(41..61).chain(91..100).collect();
    assert_eq!(recorder.ticks(), ticks);
    assert!(recorder.frames.iter().all(|frame| frame.actor == Actor::Human));
    assert_eq!((recorder.starts.len(), committed), (3, 3));
    assert!(recorder.ends.iter().all(|end| end.keep));
}

#[test]
fn everything_is_recorded_in_episodes_of_a_length_but_none_ends_in_a_correction() {
    let (_, all, recorder, committed) = Shift::new(120).run(correction, Strategy::Rotating { frames: 25 });
    assert_eq!(recorder.ticks(), all.ticks());
    // From 0, 25, 61 (at 50 the human acts), 86 and 111 on.
    assert_eq!((recorder.starts.len(), committed), (5, 5));
}

#[test]
fn a_highlight_is_what_was_before_the_mark_and_all_until_the_next() {
    let marks = |tick: u64, operator: &Operator| {
        if at(tick, &[50, 60, 110]) {
            operator.mark();
        }
    };
    let frame_bytes = 4 * 3 * 3 + size_of::<Frame>();
    for (frames, bytes, before) in [(30, usize::MAX, 30), (30, 10 * frame_bytes, 10)] {
        let (_, _, recorder, committed) = Shift::new(120).run(marks, Strategy::Highlights { frames, bytes });
        // A mark is heard of at the tick after it; the last highlight goes on to the end.
        let ticks: Vec<u64> = (51 - before..=61).chain(111 - before..=119).collect();
        assert_eq!(recorder.ticks(), ticks);
        assert_eq!((recorder.starts.len(), committed), (2, 2));
    }
}

#[test]
fn another_instruction_reaches_the_policy_at_once_and_begins_an_episode() {
    let mut shift = Shift::new(60);
    let wishes = |tick: u64, operator: &Operator| {
        if tick == 12 {
            operator.set_task("do another thing".into());
        }
    };
    let (_, _, recorder, committed) = shift.run(wishes, Strategy::Whole);
    let tasks: Vec<&str> = recorder.starts.iter().map(|start| start.task.as_str()).collect();
    assert_eq!((tasks, committed), (vec!["do as told", "do another thing"], 2));
    assert_eq!(recorder.begun_after, [0, 13], "it begins with the tick that heard of it");
    let log = shift.fake.log();
    let first = log.tasks.iter().position(|task| task == "do another thing").unwrap();
    assert_eq!(log.asked_ticks[first], 13);
    assert!(log.tasks[..first].iter().all(|task| task == "do as told") && log.resets == 1, "nothing stops for it");
}

#[test]
fn an_instruction_set_while_the_policy_computes_is_the_next_that_it_gets() {
    let mut shift = Shift::new(120);
    shift.fake = Fake::new(60, 50);
    shift.config.latency = Latency::ScriptedTicks(vec![6]);
    // It is asked at tick 43 to have its answer in time, and has not answered.
    let wishes = |tick: u64, operator: &Operator| match tick {
        44 => operator.set_task("the first thing".into()),
        45 => operator.set_task("the second thing".into()),
        46 => operator.set_task("the second thing".into()),
        _ => {}
    };
    let (report, _, recorder, committed) = shift.run(wishes, Strategy::Whole);
    let tasks: Vec<&str> = recorder.starts.iter().map(|start| start.task.as_str()).collect();
    assert_eq!((tasks, committed), (vec!["do as told", "the first thing", "the second thing"], 3));
    // The report has the same episodes.
    let episodes: Vec<_> = report.earlier.iter().chain([&report]).map(|episode| (episode.task.as_str(), episode.ticks)).collect();
    assert_eq!(episodes, [("do as told", 45), ("the first thing", 1), ("the second thing", 74)]);
    assert!(report.earlier.iter().all(|episode| episode.outcome == EpisodeOutcome::Ended && episode.kept));
    assert_eq!(report.earlier.iter().chain([&report]).map(|episode| episode.cadence.ticks).sum::<u64>(), 120);
    assert_eq!(recorder.begun_after, [0, 45, 46]);
    let log = shift.fake.log();
    let asked: Vec<(u64, &str)> = log.asked_ticks.iter().copied().zip(log.tasks.iter().map(String::as_str)).collect();
    assert_eq!(asked[..3], [(0, "do as told"), (43, "do as told"), (49, "the second thing")]);
}

#[test]
fn the_operator_ends_an_episode_and_says_what_becomes_of_it() {
    for (keep, outcome) in [(true, EpisodeOutcome::Ended), (false, EpisodeOutcome::Dropped)] {
        let wishes = move |tick: u64, operator: &Operator| {
            if tick == 30 {
                operator.end_episode(keep);
            }
        };
        let (report, all, recorder, committed) = Shift::new(100).run(wishes, Strategy::Whole);
        assert_eq!((report.outcome, report.kept, report.ticks), (outcome, keep, 31));
        assert_eq!(all.frames.len(), 31);
        assert_eq!((recorder.ends[0].keep, committed), (keep, u64::from(keep)));
    }
}

#[test]
fn enough_corrections_end_the_episode() {
    let operator_at = |tick: u64, operator: &Operator| {
        if tick == 5 {
            operator.toggle_pause();
        }
        if tick >= 10 && tick.is_multiple_of(10) {
            operator.toggle_correction();
        }
    };
    let mut session = Session::new(Shift::new(0).config, Arc::new(MockClock::new()), StopFlag::new());
    let (mut arm, fake, operator) = (Arm::at([0.0, 0.0]), Fake::new(20, 10), session.operator());
    let told = operator.clone();
    arm.on_observe = Box::new(move |tick| {
        operator_at(tick, &told);
        Ok(())
    });
    let (mut thread, mut recorder) = (fake.thread(), Tape::default());
    let mut leader = Leader::new(|_| [0.1, 0.1]).thread();
    let mut selection = Selection::new(Strategy::Corrections, &mut recorder, operator).until(2);
    let source = Source::Supervised(&mut thread, &mut leader);
    let report = run_in(&mut session, &mut arm, &mut Scene::lasting(500), source, &mut [&mut selection]);
    assert_eq!(report.outcome, EpisodeOutcome::Ended);
    assert_eq!(recorder.starts.len(), 2);
}
