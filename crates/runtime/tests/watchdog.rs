//! Real processes, real signals: when the process that drives an arm is killed or frozen, another one
//! makes the arm safe.
//!
//! The arm is a file to which each process that has it appends what it does. This test program starts
//! itself in the roles of the main process and of the watchdog.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Arm, Leader, Scene};
use sinew_runtime::{
    EpisodeRequest, MonotonicClock, ReturnToRest, Session, SessionConfig, Source, StopFlag, WATCHDOG_PATIENCE, Watchdog, watch,
};

const ROLE: &str = "SINEW_TEST_ROLE";
const FILE: &str = "SINEW_TEST_ARM";

fn append(path: &Path, words: &str) -> io::Result<()> {
    writeln!(OpenOptions::new().append(true).create(true).open(path)?, "{words}")
}

/// This program as somebody else; `test` is the role's function here.
fn as_role(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ROLE, test).env(FILE, path).stdout(Stdio::null());
    command
}

fn role(test: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == test).then(|| std::env::var(FILE).unwrap().into())
}

/// Does nothing when it is run as a test.
#[test]
fn role_of_the_watchdog() {
    let Some(path) = role("role_of_the_watchdog") else { return };
    watch(io::stdin(), WATCHDOG_PATIENCE, || append(&path, "safe by the watchdog")).unwrap();
}

/// Does nothing when it is run as a test.
#[test]
fn role_of_the_main_process() {
    let Some(path) = role("role_of_the_main_process") else { return };
    let stop = StopFlag::new();
    stop.escalate_on_signals().unwrap();
    let config = SessionConfig { return_to_rest: ReturnToRest::Never, ..SessionConfig::default() };
    let mut session = Session::new(config, Arc::new(MonotonicClock::new()), stop.clone());
    let _watchdog = Watchdog::start(&mut as_role("role_of_the_watchdog", &path), session.progress(), stop, None).unwrap();
    let mut arm = Arm::new();
    let file = path.clone();
    arm.on_write = Box::new(move |tick| {
        append(&file, &format!("goal {tick}")).unwrap();
        Ok(())
    });
    let mut leader = Leader { done_at: None, goal: |_| [0.1, -0.2], asked: 0 };
    let report = session.run_episode(
        &EpisodeRequest::default(),
        &mut arm,
        &mut Scene::lasting(1_000_000),
        Source::Teleoperator(&mut leader),
        &mut [],
    );
    append(&path, &format!("safe by itself, {:?}", report.outcome)).unwrap();
}

struct Main {
    process: Child,
    path: PathBuf,
}

impl Main {
    /// Started, and commanding the arm.
    fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-watchdog-{}-{name}", std::process::id()));
        drop(fs::remove_file(&path));
        let main = Self { process: as_role("role_of_the_main_process", &path).spawn().unwrap(), path };
        main.wait_for("goal 20");
        main
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    fn wait_for(&self, words: &str) {
        let start = Instant::now();
        while !self.text().contains(words) {
            assert!(start.elapsed() < Duration::from_secs(20), "no {words:?} in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_file(&self.path));
    }
}

/// The shortest of a few times from a signal to the watchdog's action: other programs share the machine.
fn shortest(name: &str, after: impl Fn(&mut Main)) -> Duration {
    let trial = |i: usize| {
        let mut main = Main::start(&format!("{name}-{i}"));
        let start = Instant::now();
        main.signal(name);
        main.wait_for("safe by the watchdog");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        after(&mut main);
        took
    };
    (0..3).map(trial).min().unwrap()
}

#[test]
fn an_arm_whose_process_is_killed_is_made_safe_by_the_watchdog() {
    let took = shortest("KILL", |_| {});
    assert!(took < Duration::from_millis(150), "{took:?}");
}

#[test]
fn an_arm_whose_process_is_frozen_is_made_safe_and_stays_so_when_it_thaws() {
    let took = shortest("STOP", |main| {
        // Thawed, it finds that the arm is no longer its own, and ends.
        main.signal("CONT");
        main.wait_for("safe by itself, Interrupted");
        main.process.wait().unwrap();
    });
    assert!(took < Duration::from_millis(150), "{took:?}");
}

#[test]
fn a_process_that_ends_in_its_own_safe_action_needs_no_watchdog() {
    let mut main = Main::start("TERM");
    main.signal("TERM");
    main.wait_for("safe by itself, Interrupted");
    assert!(main.process.wait().unwrap().success(), "it waits for its watchdog, which ends too");
    assert!(!main.text().contains("watchdog"));
}
