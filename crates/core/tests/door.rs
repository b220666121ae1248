//! The one door: what arming does in which order, and what happens when it goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::joints;
use sinew_core::{
    ArmError, Armed, Clock, Door, DriveError, GateFault, Lease, LeaseError, LeaseState, Lifeline, MockClock, Observation, Robot,
    RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp, Wanted,
};

const GENTLE: &str = "position = [-2.0, 2.5], velocity = 3.0, acceleration = 15.0, jerk = 150.0, step = 0.35";
const DT_S: f64 = 1.0 / 30.0;

/// What was called, in order; robot and lease write into the same one.
#[derive(Default)]
struct Diary(Mutex<Vec<&'static str>>);

impl Diary {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    /// All since the last time, without beats.
    fn take(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().drain(..).filter(|what| *what != "beat").collect()
    }

    fn beats(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|what| **what == "beat").count()
    }
}

struct FakeLease<'a> {
    diary: &'a Diary,
    state: Mutex<LeaseState>,
    refuses: bool,
}

impl<'a> FakeLease<'a> {
    fn new(diary: &'a Diary) -> Self {
        Self { diary, state: Mutex::new(LeaseState::Held), refuses: false }
    }

    fn becomes(&self, state: LeaseState) {
        *self.state.lock().unwrap() = state;
    }
}

impl Lease for FakeLease<'_> {
    fn arm(&self, _: Lifeline) -> Result<(), LeaseError> {
        self.diary.note("arm");
        if self.refuses { Err(LeaseError::Lost) } else { Ok(()) }
    }

    fn beat(&self) {
        self.diary.note("beat");
    }

    fn state(&self) -> LeaseState {
        *self.state.lock().unwrap()
    }

    fn disarm(&self) {
        self.diary.note("disarm");
    }
}

/// Two joints that are where they were told to be.
struct FakeRobot<'a> {
    diary: &'a Diary,
    clock: &'a MockClock,
    description: RobotDescription,
    registers: Vec<f64>,
    torque: bool,
    /// How often each of these still fails.
    enable_fails: bool,
    stop_fails: u32,
    read_fails: bool,
    misses: Option<usize>,
    /// Where enabling it moves it.
    sags_by: f64,
    write: Write,
}

/// What a write does.
#[derive(Clone, Copy, PartialEq)]
enum Write {
    All,
    First,
    Fails,
    FirstThenFails,
    ClampsTo(f64),
}

impl<'a> FakeRobot<'a> {
    fn new(diary: &'a Diary, clock: &'a MockClock) -> Self {
        Self {
            diary,
            clock,
            description: joints(&[GENTLE, GENTLE], ""),
            registers: vec![0.1, -0.2],
            torque: false,
            enable_fails: false,
            stop_fails: 0,
            read_fails: false,
            misses: None,
            sags_by: 0.0,
            write: Write::All,
        }
    }
}

impl Robot for FakeRobot<'_> {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn begin_read(&mut self, _: &Tick) -> Result<(), RobotError> {
        self.diary.note("begin_read");
        Ok(())
    }

    fn finish_read(&mut self, _: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        self.diary.note("finish_read");
        assert!(deadline >= self.clock.now());
        if self.read_fails {
            return Err(RobotError::transient("reading", "no answer"));
        }
        observation.state.set_all(&self.registers, self.clock.now());
        if let Some(missed) = self.misses {
            observation.state.miss(missed);
        }
        Ok(())
    }

    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        self.diary.note("lifeline");
        Ok(Lifeline::default())
    }

    fn enable(&mut self, _: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.diary.note("enable");
        assert_eq!(deadline, self.clock.now() + Duration::from_millis(1000));
        self.torque = true;
        self.registers[0] -= self.sags_by;
        if self.enable_fails { Err(RobotError::transient("giving torque", "motor 2: no answer")) } else { Ok(()) }
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        self.diary.note("write");
        assert!(self.torque && deadline > self.clock.now());
        let goals = command.goals();
        let most = if let Write::ClampsTo(most) = self.write { most } else { f64::INFINITY };
        let reached = match self.write {
            Write::All | Write::ClampsTo(_) => 2,
            Write::First | Write::FirstThenFails => 1,
            Write::Fails => 0,
        };
        for (i, (register, goal)) in self.registers.iter_mut().zip(goals).enumerate().take(reached) {
            *register = goal.min(most);
            sent.reach(i, *register);
        }
        if matches!(self.write, Write::Fails | Write::FirstThenFails) {
            return Err(RobotError::transient("writing", "the bus is busy"));
        }
        Ok(())
    }

    fn stop(&mut self, _: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        self.diary.note("stop");
        assert_eq!(deadline, self.clock.now() + Duration::from_millis(25));
        if self.stop_fails > 0 {
            self.stop_fails -= 1;
            return Err(RobotError::transient("stopping", "no answer"));
        }
        self.torque = false;
        Ok(())
    }
}

fn tick(clock: &MockClock) -> Tick {
    Tick { turn: 0, due: clock.now(), period: Duration::from_secs_f64(DT_S), wants_images: false }
}

/// `$test` with an armed robot, its lease and clock, and the diary.
fn with_armed(change: impl FnOnce(&mut FakeRobot), test: impl FnOnce(Armed, &FakeLease, &MockClock, &mut Observation)) {
    let (diary, clock) = (Diary::default(), MockClock::new());
    let lease = FakeLease::new(&diary);
    let mut robot = FakeRobot::new(&diary, &clock);
    change(&mut robot);
    let mut observation = Observation::for_robot(&robot.description);
    let armed = Armed::new(&mut robot, &lease, &clock, &tick(&clock), &mut observation).unwrap();
    diary.take();
    test(armed, &lease, &clock, &mut observation);
}

/// A turn towards 1 on both joints.
fn turn(armed: &mut Armed, clock: &MockClock, observation: &mut Observation) -> Result<usize, DriveError> {
    clock.advance(Duration::from_secs_f64(DT_S));
    armed.read(&tick(clock), observation)?;
    let wanted = Wanted { goals: vec![1.0; 2], impedance: Vec::new(), time: clock.now() };
    armed.drive(Some(&wanted), observation, DT_S).map(|driven| driven.unreached)
}

const READ: [&str; 2] = ["begin_read", "finish_read"];

#[test]
fn arming_reads_gives_the_lifeline_away_and_only_then_switches_torque_on() {
    let (diary, clock) = (Diary::default(), MockClock::new());
    let lease = FakeLease::new(&diary);
    let mut robot = FakeRobot { sags_by: 0.03, ..FakeRobot::new(&diary, &clock) };
    let mut observation = Observation::for_robot(&robot.description);
    let armed = Armed::new(&mut robot, &lease, &clock, &tick(&clock), &mut observation).unwrap();
    assert!(diary.beats() >= 2, "it lives while it switches torque on");
    assert_eq!(diary.take(), [&READ[..], &["lifeline", "arm", "enable"], &READ].concat());
    assert_eq!(armed.commanded(), [0.07, -0.2], "it goes on from where it is with torque on");
    assert_eq!(observation.state.values(), [0.07, -0.2]);
    armed.disarm().unwrap();
    assert_eq!(diary.take(), ["stop", "disarm"]);
    assert!(!robot.torque);
}

#[test]
fn what_fails_while_arming_leaves_no_torque_on() {
    let error = |change: fn(&mut FakeRobot), refuses: bool| {
        let (diary, clock) = (Diary::default(), MockClock::new());
        let lease = FakeLease { refuses, ..FakeLease::new(&diary) };
        let mut robot = FakeRobot::new(&diary, &clock);
        change(&mut robot);
        let mut observation = Observation::for_robot(&robot.description);
        let error = Armed::new(&mut robot, &lease, &clock, &tick(&clock), &mut observation).err().unwrap();
        assert!(!robot.torque);
        (error, diary.take())
    };
    let (found, calls) = error(|robot| robot.enable_fails = true, false);
    assert!(matches!(found, ArmError::Enable(_)), "{found}");
    assert_eq!(calls, [&READ[..], &["lifeline", "arm", "enable", "stop", "disarm"]].concat());
    let (found, calls) = error(|_| {}, true);
    assert!(matches!(found, ArmError::Lease(LeaseError::Lost)), "{found}");
    assert_eq!(calls, [&READ[..], &["lifeline", "arm"]].concat());
    let (found, calls) = error(|robot| robot.read_fails = true, false);
    assert!(matches!(found, ArmError::Read(_)), "{found}");
    assert_eq!(calls, READ.repeat(17), "it is looked at some times");
    let (found, calls) = error(|robot| robot.misses = Some(1), false);
    assert!(matches!(found, ArmError::Gate(GateFault::Unknown { ref channel }) if channel == "j1.pos"), "{found}");
    assert_eq!(calls, READ.repeat(17));
}

#[test]
fn stopping_is_tried_three_times_and_the_lease_kept_until_it_worked() {
    for (fails, expected) in [
        (0, &["stop", "disarm"][..]),
        (2, &["stop", "stop", "stop", "disarm"]),
        (3, &["stop", "stop", "stop"]),
        (9, &["stop", "stop", "stop"]),
    ] {
        with_armed(
            |robot| robot.stop_fails = fails,
            |armed, lease, _, _| {
                assert_eq!(armed.disarm().is_ok(), fails < 3);
                assert_eq!(lease.diary.beats(), expected.iter().filter(|what| **what == "stop").count());
                assert_eq!(lease.diary.take(), expected);
            },
        );
        with_armed(
            |robot| robot.stop_fails = fails,
            |armed, lease, _, _| {
                drop(armed);
                assert_eq!(lease.diary.take(), expected, "dropped");
            },
        );
    }
    let (diary, clock) = (Diary::default(), MockClock::new());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lease = FakeLease::new(&diary);
        let mut robot = FakeRobot::new(&diary, &clock);
        let mut observation = Observation::for_robot(&robot.description);
        let _armed = Armed::new(&mut robot, &lease, &clock, &tick(&clock), &mut observation).unwrap();
        panic!("in the loop");
    }));
    assert!(result.is_err());
    assert_eq!(diary.take()[7..], ["stop", "disarm"], "a panic too");
}

#[test]
fn every_turn_beats() {
    with_armed(
        |_| {},
        |mut armed, lease, clock, observation| {
            for _ in 0..5 {
                turn(&mut armed, clock, observation).unwrap();
                assert_eq!(lease.diary.beats(), 2, "as it reads and as it drives");
                assert_eq!(lease.diary.take(), [&READ[..], &["write"]].concat());
            }
            armed.read(&tick(clock), observation).unwrap();
            armed.drive(None, observation, DT_S).unwrap();
            assert_eq!(lease.diary.beats(), 2, "with nothing wanted too");
        },
    );
}

#[test]
fn while_the_lease_is_not_confirmed_nothing_is_written() {
    with_armed(
        |_| {},
        |mut armed, lease, clock, observation| {
            (0..8).for_each(|_| assert_eq!(turn(&mut armed, clock, observation), Ok(0)));
            let before = armed.commanded().to_vec();
            lease.diary.take();
            lease.becomes(LeaseState::Unconfirmed);
            for _ in 0..10 {
                assert_eq!(turn(&mut armed, clock, observation), Ok(2));
                assert_eq!(armed.commanded(), before);
            }
            assert!(!lease.diary.take().contains(&"write"));
            lease.becomes(LeaseState::Held);
            assert_eq!(turn(&mut armed, clock, observation), Ok(0));
            let step = armed.commanded()[0] - before[0];
            assert!(step > 0.0 && step <= 15.0 * DT_S * DT_S + 1e-9, "from rest, as the register stood: {step}");
            // For too long, the robot is somebody else's.
            lease.becomes(LeaseState::Unconfirmed);
            let turns = (0..60).find(|_| turn(&mut armed, clock, observation) == Err(DriveError::Lease));
            assert_eq!(turns, Some(16), "after 500 ms");
        },
    );
}

#[test]
fn once_the_lease_is_lost_nothing_is_written_any_more_but_the_safe_action() {
    with_armed(
        |_| {},
        |mut armed, lease, clock, observation| {
            turn(&mut armed, clock, observation).unwrap();
            let before = armed.commanded().to_vec();
            lease.diary.take();
            lease.becomes(LeaseState::Lost);
            let error = turn(&mut armed, clock, observation).unwrap_err();
            assert_eq!(error, DriveError::Lease);
            assert!(!error.is_transient());
            assert_eq!(lease.diary.take(), READ);
            assert_eq!(armed.commanded(), before);
            assert_eq!((armed.sent().get(0), armed.sent().get(1)), (None, None));
            // The watchdog may be gone.
            armed.disarm().unwrap();
            assert_eq!(lease.diary.take(), ["stop", "disarm"]);
        },
    );
}

#[test]
fn what_is_remembered_is_what_was_sent() {
    for write in [Write::First, Write::Fails, Write::FirstThenFails, Write::ClampsTo(0.15)] {
        let (diary, clock) = (Diary::default(), MockClock::new());
        let lease = FakeLease::new(&diary);
        let mut robot = FakeRobot { write, ..FakeRobot::new(&diary, &clock) };
        let mut observation = Observation::for_robot(&robot.description);
        let mut armed = Armed::new(&mut robot, &lease, &clock, &tick(&clock), &mut observation).unwrap();
        for _ in 0..12 {
            let result = turn(&mut armed, &clock, &mut observation);
            match write {
                Write::First => assert_eq!(result, Ok(1)),
                Write::ClampsTo(_) | Write::All => assert_eq!(result, Ok(0)),
                Write::Fails | Write::FirstThenFails => assert!(result.unwrap_err().is_transient()),
            }
            assert_eq!(armed.sent().get(0).is_some(), write != Write::Fails);
            assert_eq!(armed.sent().get(1).is_some(), matches!(write, Write::ClampsTo(_)));
        }
        let commanded = armed.commanded().to_vec();
        drop(armed);
        assert_eq!(commanded, robot.registers);
        assert_eq!(commanded[0] > 0.1, write != Write::Fails);
    }
}

#[test]
fn a_robot_that_falls_silent_is_driven_no_further() {
    with_armed(
        |robot| robot.misses = None,
        |mut armed, lease, clock, observation| {
            (0..5).for_each(|_| assert_eq!(turn(&mut armed, clock, observation), Ok(0)));
            observation.state.miss(1);
            lease.diary.take();
            let before = armed.commanded().to_vec();
            clock.advance(Duration::from_millis(600));
            let fault = armed.drive(None, observation, DT_S).unwrap_err();
            assert!(matches!(fault, DriveError::Gate(GateFault::Silent { .. })), "{fault}");
            assert_eq!(lease.diary.take(), [""; 0], "nothing was written");
            assert_eq!(armed.commanded(), before);
            assert_eq!(armed.sent().get(0), None);
        },
    );
}
