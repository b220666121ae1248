//! Real processes, real signals, real pipes: when the process that drives an arm is killed, frozen or hung, its watchdog
//! makes the arm safe, and the two never both command it.
//!
//! The arm is a pipe: each process that has it writes lines to it, and the test reads them, in the order in which they
//! were written. This test program starts itself in the roles of the main process and of the watchdog.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]
#![allow(clippy::print_stderr, reason = "reaction times, for who asks with --nocapture")]

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use signal_hook::consts::SIGKILL;
use signal_hook::low_level::raise;
use sinew_core::{Clock, Lease, LeaseState, Lifeline, LifelinePort, Timestamp};
use sinew_runtime::{MonotonicClock, StopFlag, StopLevel, WATCHDOG_PATIENCE, Watchdog, panics, watch, write_lifeline};

const ROLE: &str = "SINEW_TEST_ROLE";
const MODE: &str = "SINEW_TEST_MODE";
const RATE: &str = "SINEW_TEST_RATE";
const LOG: &str = "SINEW_TEST_LOG";

const RATES_HZ: [u64; 3] = [30, 200, 1000];
/// From the last beat to the safe action.
const SOON: Duration = Duration::from_millis(150);
/// The same with more threads that spin than the machine has processors.
const SOON_WHEN_BUSY: Duration = Duration::from_millis(300);

/// Held for reading by those who measure, for writing by the one who makes the machine busy.
static MACHINE: RwLock<()> = RwLock::new(());

fn append(path: &Path, words: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{words}\n").as_bytes()).unwrap();
}

/// This program as somebody else; `test` is the role's function here.
fn as_role(test: &str, mode: &str, rate_hz: u64, log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).envs([(ROLE, test), (MODE, mode), (RATE, &rate_hz.to_string())]).env(LOG, log);
    command.stdout(Stdio::null());
    command
}

fn role(test: &str) -> Option<(String, u64, PathBuf)> {
    let read = |name| std::env::var(name).unwrap();
    (std::env::var(ROLE).ok()? == test).then(|| (read(MODE), read(RATE).parse().unwrap(), read(LOG).into()))
}

/// Does nothing when it is run as a test.
#[test]
fn role_of_the_watchdog() {
    let Some((_, _, log)) = role("role_of_the_watchdog") else { return };
    append(&log, &format!("watchdog is {}", std::process::id()));
    let result = watch(io::stdin().as_fd().try_clone_to_owned().unwrap(), WATCHDOG_PATIENCE, write_lifeline);
    append(&log, &format!("watchdog: {result:?}"));
}

fn port(name: &str, descriptor: OwnedFd) -> LifelinePort {
    let frames = vec![b"safe 1\n".to_vec(), b"safe 2\n".to_vec()];
    LifelinePort { name: name.into(), descriptor, frames, gap: Duration::from_millis(1), checks: vec![] }
}

/// Does nothing when it is run as a test. Its standard input is the arm, which it writes.
#[test]
fn role_of_the_main_process() {
    let Some((mode, rate_hz, log)) = role("role_of_the_main_process") else { return };
    let copy = || io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut arm = fs::File::from(copy());
    let stop = StopFlag::new();
    stop.escalate_on_signals().unwrap();
    let lease = Watchdog::start(&mut as_role("role_of_the_watchdog", "", 0, &log), stop.clone(), None).unwrap();
    let mut lifeline = Lifeline { ports: vec![port("arm", copy())] };
    if mode == "full port" {
        lifeline.ports.insert(0, port("full", io::stderr().as_fd().try_clone_to_owned().unwrap()));
    }
    lease.arm(lifeline).unwrap();
    assert_eq!(lease.state(), LeaseState::Held);
    if mode == "killed when armed" {
        arm.write_all(b"armed\n").unwrap();
        raise(SIGKILL).unwrap();
    }
    arm.write_all(b"torque on\n").unwrap();
    if mode == "killed when enabled" {
        raise(SIGKILL).unwrap();
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // The others live, whatever the control thread does.
        scope.spawn(|| {
            while stop.level() < StopLevel::Now && !ended.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            append(&log, &format!("main: {:?}, {:?}", stop.level(), lease.state()));
        });
        control(&mode, rate_hz, &lease, &stop, &mut arm, &log);
        ended.store(true, Ordering::Release);
    });
    if mode != "fails to stop" {
        // The arm may be full by now, and then it is the watchdog's.
        let _ = arm.write_all(b"rest\n");
        lease.disarm();
    }
    drop(lease);
    append(&log, "main: ended");
}

fn control(mode: &str, rate_hz: u64, lease: &Watchdog, stop: &StopFlag, arm: &mut fs::File, log: &Path) {
    let clock = MonotonicClock::new();
    let mut unconfirmed = 0;
    let mut turns = 0;
    while !stop.is_requested() {
        turns += 1;
        clock.sleep_until(Timestamp::from_nanos(turns * 1_000_000_000 / rate_hz as i64));
        lease.beat();
        if mode == "hangs" && turns == 30 {
            thread::sleep(Duration::from_secs(1));
        }
        // Made before the check, so that nothing is between it and the write.
        let goal = format!("goal {turns}\n");
        let checked = Instant::now();
        match lease.state() {
            LeaseState::Held => {
                if arm.write_all(goal.as_bytes()).is_err() {
                    break;
                }
                if checked.elapsed() > Duration::from_millis(50) {
                    // After the check, before the write or in it: the goal's place among the lines says which.
                    let _ = arm.write_all(format!("frozen at goal {turns}\n").as_bytes());
                }
            }
            LeaseState::Unconfirmed => unconfirmed += 1,
            LeaseState::Lost => break,
        }
    }
    append(log, &format!("main: {unconfirmed} of {turns} turns unconfirmed"));
}

type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

struct Main {
    process: Child,
    lines: Lines,
    log: PathBuf,
    /// Of what it says on standard error, which nobody reads.
    stderr: Option<io::PipeReader>,
    /// The most that a thread beside it overslept, in nanoseconds.
    overslept: Arc<AtomicU64>,
}

impl Main {
    fn start(mode: &str, rate_hz: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sinew-watchdog-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(name);
        drop(fs::remove_file(&log));
        let mut command = as_role("role_of_the_main_process", mode, rate_hz, &log);
        let (arm, end) = io::pipe().unwrap();
        command.stdin(end);
        let stderr = (mode == "full port").then(|| {
            let (stderr, end) = io::pipe().unwrap();
            command.stderr(filled(end));
            stderr
        });
        let lines = Lines::default();
        let taken = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(arm).lines() {
                taken.lock().unwrap().push((Instant::now(), line.unwrap()));
            }
        });
        Self { process: command.spawn().unwrap(), lines, log, stderr, overslept: overslept() }
    }

    fn lines(&self) -> Vec<(Instant, String)> {
        self.lines.lock().unwrap().clone()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait(&self, until: impl Fn(&Self) -> bool, what: &str) {
        let start = Instant::now();
        while !until(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "no {what}: {:?}, {}", self.lines(), self.log());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_for(&self, words: &str) {
        self.wait(|main| main.lines().iter().any(|(_, line)| line == words), words);
    }

    fn wait_for_log(&self, words: &str) {
        self.wait(|main| main.log().contains(words), words);
    }

    fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// From the last line of the main process to the first of the watchdog, less what a thread beside them overslept
    /// at the most: no process can answer for a machine that stands still.
    fn reaction(&self) -> Duration {
        self.wait_for("safe 2");
        let lines = self.lines();
        let safe = lines.iter().position(|(_, line)| line == "safe 1").unwrap();
        let overslept = Duration::from_nanos(self.overslept.load(Ordering::Relaxed));
        (lines[safe].0 - lines[safe - 1].0).saturating_sub(overslept)
    }

    /// That no goal came after the first safe action. One that was frozen between its check and its write does, which is
    /// a system call away; a line after it says so. There is one at the most.
    fn assert_no_goal_after_the_safe_action(&self) {
        let lines: Vec<String> = self.lines().into_iter().map(|(_, line)| line).collect();
        let after: Vec<_> = lines.iter().skip_while(|line| *line != "safe 1").collect();
        let goals: Vec<_> = after.iter().filter(|line| line.starts_with("goal")).collect();
        let was_on_its_way = |goal: &str| after.iter().any(|line| **line == format!("frozen at {goal}"));
        let is_held = goals.is_empty() || (goals.len() == 1 && was_on_its_way(goals[0]));
        assert!(is_held, "{after:?}, {}", self.log());
    }
}

/// The most that a thread oversleeps from now on, for as long as somebody has this.
fn overslept() -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let read = Arc::downgrade(&most);
    thread::spawn(move || {
        const NAP: Duration = Duration::from_millis(1);
        loop {
            let start = Instant::now();
            thread::sleep(NAP);
            let Some(most) = read.upgrade() else { break };
            most.fetch_max((start.elapsed() - NAP).as_nanos() as u64, Ordering::Relaxed);
        }
    });
    most
}

impl Drop for Main {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_file(&self.log));
    }
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// A pipe that takes nothing more, and lets a writer wait for it.
fn filled(end: io::PipeWriter) -> io::PipeWriter {
    let flags = fcntl_getfl(&end).unwrap();
    fcntl_setfl(&end, flags | OFlags::NONBLOCK).unwrap();
    for bytes in [4096, 1] {
        while rustix::io::write(&end, &vec![b'.'; bytes]).is_ok() {}
    }
    fcntl_setfl(&end, flags).unwrap();
    end
}

/// That each of some reactions came within `most`; they are shown by `--nocapture`.
fn assert_soon(what: &str, mut reactions: Vec<Duration>, most: Duration) {
    reactions.sort();
    let (median, slowest) = (reactions[reactions.len() / 2], reactions[reactions.len() - 1]);
    eprintln!("{what}: {} times, median {median:.1?}, slowest {slowest:.1?}", reactions.len());
    assert!(slowest < most, "{what}: expected at most {most:?}, found {reactions:.1?}");
}

#[test]
fn a_process_that_is_killed_as_soon_as_it_is_armed_or_enabled_is_replaced() {
    let _quiet = MACHINE.read();
    for mode in ["killed when armed", "killed when enabled"] {
        let trial = |_| {
            let main = Main::start(mode, 200);
            let reaction = main.reaction();
            main.wait_for_log("watchdog: Ok(Gone)");
            reaction
        };
        assert_soon(mode, (0..20).map(trial).collect(), SOON);
    }
}

#[test]
fn a_process_that_is_killed_while_it_runs_is_replaced() {
    let _quiet = MACHINE.read();
    for rate_hz in RATES_HZ {
        let trial = |_| {
            let main = Main::start("runs", rate_hz);
            main.wait_for("goal 20");
            main.signal("KILL");
            main.reaction()
        };
        assert_soon(&format!("killed at {rate_hz} Hz"), (0..5).map(trial).collect(), SOON);
    }
}

fn freeze(rate_hz: u64) -> Duration {
    let main = Main::start("runs", rate_hz);
    main.wait_for("goal 20");
    main.signal("STOP");
    thread::sleep(Duration::from_millis(300));
    main.signal("CONT");
    main.wait_for_log("main: ended");
    assert!(main.log().contains("main: Now, Lost"), "{}", main.log());
    assert!(main.log().contains("watchdog: Ok(Frozen)"), "{}", main.log());
    main.assert_no_goal_after_the_safe_action();
    // Which was repeated all the time.
    assert!(main.lines().iter().filter(|(_, line)| line == "safe 1").count() >= 3, "{:?}", main.lines());
    main.reaction()
}

#[test]
fn a_process_that_is_frozen_is_replaced_and_writes_nothing_when_it_thaws() {
    let _quiet = MACHINE.read();
    for (rate_hz, count) in RATES_HZ.into_iter().zip([7, 6, 7]) {
        assert_soon(&format!("frozen at {rate_hz} Hz"), (0..count).map(|_| freeze(rate_hz)).collect(), SOON);
    }
}

#[test]
fn a_control_thread_that_hangs_is_replaced_while_all_others_live() {
    let _quiet = MACHINE.read();
    for rate_hz in RATES_HZ {
        let trial = |_| {
            let main = Main::start("hangs", rate_hz);
            let reaction = main.reaction();
            // Those who live know at once.
            main.wait_for_log("main: Now, Lost");
            main.wait_for_log("main: ended");
            main.assert_no_goal_after_the_safe_action();
            reaction
        };
        // The line before is of the turn before.
        let turn = Duration::from_micros(1_000_000 / rate_hz);
        assert_soon(&format!("hung at {rate_hz} Hz"), (0..3).map(trial).collect(), SOON + turn);
    }
}

#[test]
fn on_a_busy_machine_too() {
    let _busy = MACHINE.write();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let killed = |_| {
            let main = Main::start("runs", 200);
            main.wait_for("goal 20");
            main.signal("KILL");
            main.reaction()
        };
        let trials = || ((0..5).map(killed).collect(), (0..5).map(|_| freeze(200)).collect());
        let trials = std::panic::catch_unwind(trials);
        done.store(true, Ordering::Relaxed);
        let (killed, frozen): (Vec<_>, Vec<_>) = trials.unwrap();
        assert_soon("killed on a busy machine", killed, SOON_WHEN_BUSY);
        assert_soon("frozen on a busy machine", frozen, SOON_WHEN_BUSY);
    });
}

#[test]
fn a_safe_action_that_failed_leaves_the_watchdog_armed() {
    let main = Main::start("fails to stop", 200);
    main.wait_for("goal 20");
    main.signal("TERM");
    main.wait_for("safe 2");
    main.wait_for_log("watchdog: Ok(Gone)");
    main.assert_no_goal_after_the_safe_action();
}

#[test]
fn a_process_that_ends_in_its_own_safe_action_needs_no_watchdog() {
    let _quiet = MACHINE.read();
    for (rate_hz, name) in RATES_HZ.into_iter().zip(["TERM", "QUIT", "TSTP"]) {
        let mut main = Main::start("runs", rate_hz);
        main.wait_for("goal 60");
        main.signal(name);
        main.wait_for("rest");
        assert!(main.process.wait().unwrap().success(), "it waits for its watchdog, which ends too");
        main.wait_for_log("watchdog: Ok(Ended)");
        assert!(!main.lines().iter().any(|(_, line)| line.starts_with("safe")), "{:?}", main.lines());
        let log = main.log();
        let said = log.lines().find(|line| line.contains("unconfirmed")).unwrap();
        let [unconfirmed, turns] = [1, 3].map(|word| said.split(' ').nth(word).unwrap().parse::<u64>().unwrap());
        eprintln!("{rate_hz} Hz: {said}");
        assert!(unconfirmed * 10 <= turns, "{rate_hz} Hz: {said}");
    }
}

#[test]
fn a_port_that_takes_nothing_keeps_no_other_from_its_safe_action() {
    let _quiet = MACHINE.read();
    let mut main = Main::start("full port", 200);
    main.wait_for("goal 20");
    main.signal("KILL");
    assert_soon("one of two ports full", vec![main.reaction()], SOON);
    // It goes on until both have it.
    main.wait(|main| main.lines().iter().filter(|(_, line)| line == "safe 2").count() >= 5, "repetition");
    assert!(!main.log().contains("watchdog:"), "{}", main.log());
    let mut full = main.stderr.take().unwrap();
    let mut text = String::new();
    full.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("safe 1\nsafe 2\n"), "{}", text.trim_start_matches('.'));
    main.wait_for_log("watchdog: Ok(Gone)");
}

#[test]
fn a_process_whose_watchdog_is_killed_stops() {
    let main = Main::start("runs", 200);
    main.wait_for("goal 20");
    let log = main.log();
    let watchdog = log.lines().find_map(|line| line.strip_prefix("watchdog is ")).unwrap();
    // What a shutdown sends to everybody, and a terminal, neither ends nor freezes it.
    for name in ["INT", "TERM", "HUP", "QUIT", "TSTP", "TTIN"] {
        signal(watchdog.parse().unwrap(), name);
    }
    let goals = main.lines().len() + 40;
    main.wait(|main| main.lines().len() > goals, "goals after those signals");
    signal(watchdog.parse().unwrap(), "KILL");
    main.wait_for_log("main: Now, Lost");
    main.wait_for("rest");
    main.wait_for_log("main: ended");
}

#[test]
fn a_message_that_is_none_is_an_error_that_says_what_was_found() {
    let log = std::env::temp_dir().join(format!("sinew-watchdog-{}-garbled", std::process::id()));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut watchdog = as_role("role_of_the_watchdog", "", 0, &log).stdin(OwnedFd::from(theirs)).spawn().unwrap();
    ours.write_all(b"a whole lot of text").unwrap();
    assert_eq!(ours.read(&mut [0; 16]).unwrap(), 0, "it is gone");
    watchdog.wait().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    drop(fs::remove_file(&log));
    assert!(text.contains("watchdog: Err(Message(Version { found: 97 }))"), "{text}");
}

/// Does nothing when it is run as a test. Panics on a thread that has a guard, where standard error is full.
#[test]
fn role_of_the_one_who_panics() {
    let Some((mode, _, log)) = role("role_of_the_one_who_panics") else { return };
    struct Guard(PathBuf);
    impl Drop for Guard {
        fn drop(&mut self) {
            append(&self.0, "safe");
        }
    }
    let _reports = (mode == "beside").then(|| panics::report_beside().unwrap());
    let result = thread::spawn(|| {
        let _guard = Guard(log);
        panic!("the bus is gone");
    });
    drop(result.join());
}

/// Starts the one who panics; whether its guard was dropped meanwhile, and what it said once somebody read it.
fn panic_into_a_full_pipe(mode: &str) -> (bool, String) {
    let log = std::env::temp_dir().join(format!("sinew-panics-{}-{mode}", std::process::id()));
    drop(fs::remove_file(&log));
    let (mut stderr, end) = io::pipe().unwrap();
    let mut process = as_role("role_of_the_one_who_panics", mode, 0, &log).stderr(filled(end)).spawn().unwrap();
    let start = Instant::now();
    let is_safe = loop {
        let is_safe = log.exists();
        if is_safe || start.elapsed() > Duration::from_secs(if mode == "beside" { 10 } else { 1 }) {
            break is_safe;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    process.wait().unwrap();
    drop(fs::remove_file(&log));
    (is_safe, text.trim_start_matches('.').to_owned())
}

#[test]
fn a_full_standard_error_holds_up_no_guard() {
    assert!(!panic_into_a_full_pipe("as ever").0, "the standard hook waits, so this test proves something");
    let (is_safe, text) = panic_into_a_full_pipe("beside");
    assert!(is_safe);
    assert!(text.starts_with("thread 'unnamed' panicked at ") && text.ends_with(": the bus is gone\n"), "{text:?}");
}
