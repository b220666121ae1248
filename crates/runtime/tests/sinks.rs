//! Each sink has its own ring and thread: none costs another a frame, and what it fails at is its own affair where
//! it says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Arm, Fake, Leader, Quirk, Scene, Tape, run, run_in, run_on};
use sinew_core::{Clock, EpisodeEnd, EpisodeStart, Frame, FrameSink, MockClock, OnFailure, Outcome, SinkError};
use sinew_runtime::{EpisodeOutcome, EpisodeReport, MonotonicClock, Session, SessionConfig, Source, StopFlag};

fn view() -> Tape {
    Tape { detaches: true, ..Tape::default() }
}

/// A teleoperated episode in real time.
fn in_real_time(rate_hz: u32, ticks: u64, frame_buffer: usize, sinks: &mut [&mut dyn FrameSink]) -> EpisodeReport {
    let mut arm = Arm::new().rate_hz(rate_hz);
    let mut leader = Leader::new(|_| [0.1, -0.2]).thread();
    let config = SessionConfig { frame_buffer, ..SessionConfig::default() };
    let (clock, mut scene) = (Arc::new(MonotonicClock::new()), Scene::lasting(ticks));
    let report = run_on(clock, &config, &mut arm, &mut scene, Source::Teleoperator(&mut leader), sinks, &StopFlag::new());
    assert_eq!(report.ticks + report.missed_ticks, ticks);
    report
}

#[test]
fn a_slow_viewer_costs_the_recorder_nothing() {
    for (rate_hz, ticks) in [(30, 60), (200, 400)] {
        let (mut recorder, mut slow) = (Tape::default(), Tape { delay: Duration::from_millis(60), ..view() });
        let report = in_real_time(rate_hz, ticks, 16, &mut [&mut slow, &mut recorder]);
        assert!(report.kept && report.detached.is_empty() && report.faults.is_empty(), "{:?}", report.detached);
        assert_eq!((recorder.frames.len() as u64, recorder.ends[0].lost_frames, report.frames_lost), (report.ticks, 0, 0));
        let lost = slow.ends[0].lost_frames;
        assert!(lost > 0);
        assert_eq!(slow.frames.len() as u64 + lost, report.ticks);
        assert_eq!(report.lost, [("view".to_owned(), lost), ("tape".to_owned(), 0)], "at {rate_hz} Hz");
    }
}

#[test]
fn a_viewer_that_fails_is_left_behind_and_the_episode_is_whole() {
    type Spoil = fn(&mut Tape);
    // How many frames of an episode of so many ticks it has shown.
    type Shown = fn(u64) -> usize;
    let cases: [(Spoil, Shown, &str); 4] = [
        (|view| view.fail_at = Some(10), |_| 10, "view: writing a row: disk full"),
        (|view| view.panic_at = Some(10), |_| 10, "view: the sink panicked: encoder"),
        (|view| view.fail_begin = true, |_| 0, "view: beginning: disk full"),
        (|view| view.fail_end = true, |ticks| ticks as usize, "view: committing: disk full"),
    ];
    let clocks: [fn() -> Arc<dyn Clock>; 2] = [|| Arc::new(MockClock::new()), || Arc::new(MonotonicClock::new())];
    for clock in clocks {
        for (spoil, shown, why) in cases {
            let (mut arm, mut broken, mut recorder, mut other, policy) = (Arm::new(), view(), Tape::default(), view(), Fake::new(30, 30));
            spoil(&mut broken);
            let mut scene = Scene { success_after: Some(20), ..Scene::lasting(40) };
            let sinks: &mut [&mut dyn FrameSink] = &mut [&mut broken, &mut recorder, &mut other];
            let (config, source) = (SessionConfig::default(), &mut policy.thread());
            let report = run_on(clock(), &config, &mut arm, &mut scene, Source::Policy(source), sinks, &StopFlag::new());
            assert!(report.is_success() && report.kept && report.faults.is_empty(), "{why}: {:?} {:?}", report.faults, report.detached);
            assert_eq!(report.detached, [why]);
            assert_eq!((recorder.frames.len() as u64, other.frames.len() as u64), (report.ticks, report.ticks), "{why}");
            assert_eq!((report.frames_lost, &report.lost[1]), (0, &("tape".to_owned(), 0)));
            for whole in [&recorder, &other] {
                assert_eq!((whole.ends.len(), whole.ends[0].keep, &whole.ends[0].outcome), (1, true, &Outcome::Success), "{why}");
            }
            assert_eq!(
                (broken.frames.len(), broken.ends.len(), broken.ends[0].keep),
                (shown(report.ticks), 1, why.contains("committing")),
                "{why}"
            );
        }
    }
}

#[test]
fn without_a_recorder_nothing_is_kept_and_nothing_fails() {
    let (mut shown, mut broken, policy) = (view(), Tape { fail_at: Some(3), ..view() }, Fake::new(8, 8));
    let mut scene = Scene { success_after: Some(20), ..Scene::lasting(40) };
    let sinks: &mut [&mut dyn FrameSink] = &mut [&mut shown, &mut broken];
    let report = run(&SessionConfig::default(), &mut Arm::new(), &mut scene, Source::Policy(&mut policy.thread()), sinks);
    assert!(report.is_success() && !report.kept && report.faults.is_empty());
    assert_eq!((shown.frames.len(), shown.ends[0].keep), (20, true));
}

#[test]
fn a_sink_that_hangs_stops_neither_the_loop_nor_another_sinks_commit() {
    let hang_at = Some((10, Duration::from_secs(2)));
    let (mut recorder, mut hanging) = (Tape::default(), Tape { hang_at, ..view() });
    let report = in_real_time(50, 60, 8, &mut [&mut hanging, &mut recorder]);
    assert!(report.kept && report.missed_ticks < 10, "{} missed", report.missed_ticks);
    assert_eq!(recorder.frames.len() as u64, report.ticks);
    let earlier = hanging.ended_at.unwrap() - recorder.ended_at.unwrap();
    assert!(earlier > Duration::from_millis(500), "the recorder was kept waiting: {earlier:?}");
    assert!(hanging.ends[0].lost_frames > 0);

    // What records may hang too.
    let mut recorder = Tape { hang_at, ..Tape::default() };
    let report = in_real_time(50, 60, 8, &mut [&mut recorder]);
    assert!(report.missed_ticks < 10 && report.frames_lost > 0, "{} missed", report.missed_ticks);
}

#[test]
fn on_a_clock_that_stands_still_every_sink_gets_every_frame() {
    for frame_buffer in [0, 5, 64] {
        let (mut fast, mut slow, policy) = (Tape::default(), Tape { delay: Duration::from_micros(700), ..view() }, Fake::new(8, 6));
        let config = SessionConfig { frame_buffer, ..SessionConfig::default() };
        let sinks: &mut [&mut dyn FrameSink] = &mut [&mut fast, &mut slow];
        let report = run(&config, &mut Arm::new(), &mut Scene::lasting(300), Source::Policy(&mut policy.thread()), sinks);
        assert_eq!(fast.ticks(), (0..300).collect::<Vec<_>>());
        assert!(fast.bytes() == slow.bytes(), "the sinks got other bytes");
        assert_eq!(report.lost, [("tape".to_owned(), 0), ("view".to_owned(), 0)]);
    }
}

#[test]
fn frames_are_used_again_by_the_next_episode_whatever_became_of_the_last() {
    let mut session =
        Session::new(SessionConfig { frame_buffer: 3, ..SessionConfig::default() }, Arc::new(MockClock::new()), StopFlag::new());
    for episode in 0..4 {
        let mut arm = Arm::new();
        if episode == 1 {
            arm.on_write = Box::new(|tick| if tick == 6 { panic!("driver") } else { Ok(()) });
        }
        let (mut recorder, mut shown, policy) = (Tape::default(), Tape { fail_at: Some(3), ..view() }, Fake::new(8, 8));
        let sinks: &mut [&mut dyn FrameSink] = &mut [&mut shown, &mut recorder];
        let source = Source::Policy(&mut policy.thread());
        let report = run_in(&mut session, &mut arm, &mut Scene::lasting(20), source, sinks);
        assert_eq!(recorder.frames.len(), if episode == 1 { 6 } else { 20 });
        assert_eq!((report.kept, report.detached.len()), (true, 1), "{:?} {:?}", report.faults, report.detached);
    }
}

/// Keeps nothing but what its thread is like and where images were.
struct Thread {
    on_failure: OnFailure,
    begun: Option<(Instant, u64)>,
    wakes_per_s: f64,
    images: HashSet<usize>,
    nice: i32,
}

impl Thread {
    fn new(on_failure: OnFailure) -> Self {
        Self { on_failure, begun: None, wakes_per_s: 0.0, images: HashSet::new(), nice: 0 }
    }
}

/// How often the calling thread has gone to sleep, by the system's count.
fn sleeps() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim().parse().unwrap()
}

fn nice() -> i32 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
}

impl FrameSink for Thread {
    fn name(&self) -> &str {
        "thread"
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        self.nice = nice();
        self.begun = Some((Instant::now(), sleeps()));
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.images.insert(frame.observation.images[0].rgb.as_ptr() as usize);
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        let (at, slept) = self.begun.unwrap();
        self.wakes_per_s = (sleeps() - slept) as f64 / at.elapsed().as_secs_f64();
        Ok(())
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_sink_is_woken_in_batches_and_holds_no_image_longer_than_it_looks() {
    for rate_hz in [30, 200, 1000] {
        let mut sink = Thread::new(OnFailure::Fatal);
        let report = in_real_time(rate_hz, u64::from(rate_hz) * 2, 64, &mut [&mut sink]);
        assert_eq!(report.frames_lost, 0);
        println!("{rate_hz} Hz: {:.1} wake-ups a second, {} images", sink.wakes_per_s, sink.images.len());
        // It looks 50 times a second.
        assert!(sink.wakes_per_s < 70.0, "{rate_hz} Hz: {} wake-ups a second", sink.wakes_per_s);
        // Those of 20 ms, and some for a machine that others use too.
        assert!(sink.images.len() <= 8 + rate_hz as usize / 20, "{rate_hz} Hz: {} images", sink.images.len());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn who_may_wait_runs_after_those_who_may_not() {
    let (mut recorder, mut shown) = (Thread::new(OnFailure::Fatal), Thread::new(OnFailure::Detach));
    let at_inference = Arc::new(Mutex::new(0));
    let told = at_inference.clone();
    let policy = Fake::new(8, 8).with(move |_| {
        *told.lock().unwrap() = nice();
        Quirk::None
    });
    let sinks: &mut [&mut dyn FrameSink] = &mut [&mut recorder, &mut shown];
    let report = run(&SessionConfig::default(), &mut Arm::new(), &mut Scene::lasting(20), Source::Policy(&mut policy.thread()), sinks);
    assert_eq!(report.outcome, EpisodeOutcome::Failure);
    let mine = nice();
    let expected = [mine, mine + 5, mine + 10].map(|nice| nice.min(19));
    assert_eq!([recorder.nice, shown.nice, *at_inference.lock().unwrap()], expected);
}
