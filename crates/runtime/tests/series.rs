//! Episodes one after the other: the robot waits for no disk between them, and an episode is told of as kept once it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Arm, Eyes, Leader, Tape};
use sinew_core::{Clock, MockClock};
use sinew_runtime::{
    AsItIs, Attendant, Counts, EpisodeOutcome, EpisodeReport, Keep, MonotonicClock, ReturnToRest, Selection, Series, SeriesError,
    SeriesReport, Session, SessionConfig, Stage, StopFlag, StopLevel, Strategy, TeleopThread,
};

/// Notes what it hears, and what was written to the disk by then.
#[derive(Default)]
struct Notes {
    commits: Arc<AtomicU64>,
    heard: Vec<(u64, bool, u64)>,
    /// How many count, by each beginning.
    done: Vec<u64>,
    ended_at: Vec<Instant>,
    awaits_a_word: bool,
    wants_again: bool,
    /// Stops before the n-th beginning.
    stop_at: Option<(usize, StopFlag)>,
}

impl Attendant for Notes {
    fn may_begin(&mut self, done: u64) -> bool {
        self.done.push(done);
        if let Some((_, stop)) = self.stop_at.as_ref().filter(|(at, _)| *at == self.done.len()) {
            stop.request(StopLevel::Stop);
        }
        true
    }

    fn awaits_a_word(&self) -> bool {
        self.awaits_a_word
    }

    fn has_ended(&mut self) {
        self.ended_at.push(Instant::now());
    }

    fn may_go_on(&mut self) -> bool {
        self.stop_at.as_ref().is_none_or(|(_, stop)| !stop.is_requested())
    }

    fn between(&mut self, _: Option<&mut dyn FnMut() -> bool>) -> bool {
        std::mem::take(&mut self.wants_again)
    }

    fn hear(&mut self, report: &EpisodeReport) {
        self.heard.push((report.attempt, report.kept, self.commits.load(SeqCst)));
    }
}

struct Setting {
    arm: Arm,
    eyes: Eyes,
    human: TeleopThread,
    tape: Tape,
    notes: Notes,
    series: Series,
}

impl Setting {
    fn of(episodes: u64, tape: Tape) -> Self {
        let mut arm = Arm::new();
        let eyes = std::mem::take(&mut arm.eyes);
        let series = Series { counts: Counts::Kept, ..Series::of(episodes, 7) };
        let notes = Notes { commits: tape.commits.clone(), ..Notes::default() };
        Self { arm, eyes, human: Leader::new(|_| [0.1, -0.2]).thread(), tape, notes, series }
    }

    fn run(&mut self, clock: Arc<dyn Clock>, stop: &StopFlag) -> Result<SeriesReport, SeriesError> {
        let mut session =
            Session::new(SessionConfig { return_to_rest: ReturnToRest::Never, ..SessionConfig::default() }, clock, stop.clone());
        let mut selection = Selection::new(Strategy::Whole, &mut self.tape, session.operator()).deferring();
        let stage = Stage {
            robot: &mut self.arm,
            cameras: &mut self.eyes,
            environment: &mut AsItIs { task: String::new(), ticks: 10 },
            policy: None,
            human: Some(&mut self.human),
            recorder: Some(&mut selection),
            viewer: None,
        };
        session.run_series(&self.series, stage, &mut self.notes)
    }
}

#[test]
fn the_next_episode_does_not_wait_for_the_disk_and_the_last_is_told_of_once_it_is_there() {
    let slow = || Tape { end_takes: Duration::from_millis(150), ..Tape::default() };
    let mut setting = Setting::of(3, slow());
    let end = setting.run(Arc::new(MonotonicClock::new()), &StopFlag::new()).unwrap();
    assert_eq!((end.done, setting.tape.frames.len()), (3, 30), "a frame is lost");
    // 10 ticks at 50 Hz each; a commit lies beside them.
    let apart: Vec<_> = setting.notes.ended_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.iter().all(|apart| *apart < Duration::from_millis(330)), "{apart:?}");
    assert_eq!(setting.notes.heard, [(0, true, 1), (1, true, 2), (2, true, 3)]);
    assert_eq!(setting.notes.done, [0, 1, 2]);

    // Somebody who has to say that the next begins hears of the last before.
    let mut setting = Setting::of(2, slow());
    setting.notes.awaits_a_word = true;
    setting.run(Arc::new(MonotonicClock::new()), &StopFlag::new()).unwrap();
    let first_frames: Vec<_> = setting.tape.begun_after.clone();
    assert_eq!((setting.notes.heard.len(), first_frames), (2, vec![0, 10]));
}

#[test]
fn an_episode_that_cannot_be_committed_ends_the_series_at_the_beginning_of_the_next() {
    let mut setting = Setting::of(5, Tape { fail_end_at: Some(1), ..Tape::default() });
    let end = setting.run(Arc::new(MockClock::new()), &StopFlag::new()).unwrap();
    let kept: Vec<_> = end.reports.iter().map(|report| (report.outcome, report.kept)).collect();
    assert_eq!(kept, [(EpisodeOutcome::Ended, true), (EpisodeOutcome::Ended, false), (EpisodeOutcome::Fault, false)]);
    assert_eq!(
        end.reports[2].faults.iter().map(|fault| fault.chain()).collect::<Vec<_>>(),
        ["recording or showing the episode: committing: disk full"]
    );
    assert_eq!((end.done, setting.tape.starts.len()), (1, 2));
    assert_eq!(setting.notes.heard, [(0, true, 1), (1, false, 1), (2, false, 1)]);

    // The last is committed before the series ends.
    let mut setting = Setting::of(2, Tape { fail_end_at: Some(1), ..Tape::default() });
    let error = setting.run(Arc::new(MockClock::new()), &StopFlag::new()).unwrap_err();
    assert_eq!((error.attempt, setting.notes.heard.len()), (1, 1));
}

#[test]
fn what_waits_is_settled_as_it_was_decided_whatever_becomes_of_the_next() {
    // Told to stop before the second has begun: the first is committed all the same.
    let stop = StopFlag::new();
    let mut setting = Setting::of(5, Tape::default());
    setting.notes.stop_at = Some((2, stop.clone()));
    let end = setting.run(Arc::new(MockClock::new()), &stop).unwrap();
    assert_eq!((end.done, setting.tape.commits.load(SeqCst)), (1, 1));
    assert_eq!(setting.notes.heard, [(0, true, 1), (1, false, 1)]);

    // One that is wanted again is dropped while the next begins.
    let mut setting = Setting::of(2, Tape::default());
    (setting.series.ticks_between, setting.notes.wants_again) = (5, true);
    let end = setting.run(Arc::new(MockClock::new()), &StopFlag::new()).unwrap();
    assert_eq!((end.done, end.reports.len(), setting.tape.commits.load(SeqCst)), (2, 3, 2));
    assert_eq!(setting.tape.ends.iter().map(|end| end.keep).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(setting.notes.heard, [(0, false, 0), (1, true, 1), (2, true, 2)]);
}

/// What a stop breaks off is neither committed nor dropped where that is wanted; what a human drops is dropped.
#[test]
fn an_episode_that_is_stopped_can_be_left_to_be_recovered() {
    for (stops, leaves) in [(true, true), (true, false), (false, true)] {
        let stop = StopFlag::new();
        let mut setting = Setting::of(1, Tape::default());
        let mut session =
            Session::new(SessionConfig { keep: Keep::Successes, ..SessionConfig::default() }, Arc::new(MockClock::new()), stop.clone());
        let operator = session.operator();
        let mut leader = Leader::new(|_| [0.1, -0.2]);
        let (asked, wish) = (stop.clone(), operator.clone());
        leader.on_action = Box::new(move |call| {
            if call == 5 {
                if stops {
                    asked.request(StopLevel::Stop);
                } else {
                    wish.end_episode(false);
                }
            }
            Ok(())
        });
        let mut human = leader.thread();
        let mut selection = Selection::new(Strategy::Whole, &mut setting.tape, operator).deferring();
        if leaves {
            selection = selection.leaving_interrupted(stop.clone());
        }
        let left = selection.left();
        let stage = Stage {
            robot: &mut setting.arm,
            cameras: &mut setting.eyes,
            environment: &mut AsItIs { task: String::new(), ticks: 50 },
            policy: None,
            human: Some(&mut human),
            recorder: Some(&mut selection),
            viewer: None,
        };
        let end = session.run_series(&setting.series, stage, &mut QuitsOnDrop).unwrap();
        drop(selection);
        assert!(!end.reports[0].kept, "{stops} {leaves}: {:?}", end.reports[0].outcome);
        let frames = setting.tape.frames.len() as u64;
        assert!((5..10).contains(&frames), "{frames}");
        let is_left = stops && leaves;
        assert_eq!(left.load(SeqCst), if is_left { frames } else { 0 }, "{stops} {leaves}");
        assert_eq!(setting.tape.ends.len(), usize::from(!is_left), "{stops} {leaves}");
        assert!(setting.tape.ends.iter().all(|end| !end.keep));
    }
}

/// Wants none after the first.
struct QuitsOnDrop;

impl Attendant for QuitsOnDrop {
    fn may_go_on(&mut self) -> bool {
        false
    }
}

#[test]
fn an_episode_ends_after_as_long_as_it_may_take_and_is_kept() {
    let mut setting = Setting::of(1, Tape::default());
    setting.series.at_most = Some(4);
    let mut session =
        Session::new(SessionConfig { keep: Keep::Successes, ..SessionConfig::default() }, Arc::new(MockClock::new()), StopFlag::new());
    let mut selection = Selection::new(Strategy::Whole, &mut setting.tape, session.operator());
    // A scene that is judged, and would fail after its own time.
    let mut scene = common::Scene::lasting(50);
    let stage = Stage {
        robot: &mut setting.arm,
        cameras: &mut setting.eyes,
        environment: &mut scene,
        policy: None,
        human: Some(&mut setting.human),
        recorder: Some(&mut selection),
        viewer: None,
    };
    let end = session.run_series(&setting.series, stage, &mut setting.notes).unwrap();
    assert_eq!((end.reports[0].outcome, end.reports[0].kept, end.reports[0].ticks), (EpisodeOutcome::Ended, true, 4));
}
