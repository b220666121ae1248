//! Signals that reach a real process while it drives the simulated arm in real time: whenever they come, the safe
//! action is done once, what was recorded is whole, and the process ends in order.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use common::pty::{Heard, Terminal, exit_code, signal, with_usual_signals};
use common::{Desk, wait_ms};

const BASE: [&str; 4] = ["rollout", "--episodes", "3", "--no-rerun"];
const SENTRY: [&str; 6] = ["rollout", "--strategy", "sentry", "--seconds", "0", "--no-rerun"];
const DAGGER: [&str; 9] = ["rollout", "--strategy", "dagger", "--teleop", "scripted", "--seconds", "0", "--no-rerun", "--interactive"];
const RECORD: [&str; 8] = ["record", "--sim", "--teleop", "scripted", "--pace", "real", "--episodes", "3"];

/// When the first signal comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// It listens to signals, and loads or warms up.
    Starting,
    /// So long after the arm was given torque.
    Ticks(u64),
}

struct Run {
    child: Child,
    /// Standard error, with what is logged.
    heard: Heard,
}

impl Run {
    fn start(desk: &Desk, args: &[&str]) -> Self {
        let mut command = desk.sinew(&[args, &["--out", "ds"]].concat());
        command.env("SINEW_LOG", "info,hf_hub=off");
        Self::of(&command)
    }

    fn of(command: &Command) -> Self {
        let mut command = with_usual_signals(command, &[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let heard = Heard::listen(child.stderr.take().unwrap());
        Self { child, heard }
    }

    fn tell(&mut self, words: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{words}").unwrap();
    }

    fn wait_for(&self, phase: Phase) {
        match phase {
            Phase::Starting => self.heard.wait_for("listening to signals", 1),
            Phase::Ticks(ms) => {
                self.heard.wait_for("is given torque", 1);
                wait_ms(ms);
            }
        }
    }

    /// It has ended in order, and the arm is safe.
    #[track_caller]
    fn end(&mut self, what: &str) -> u64 {
        let code = exit_code(&mut self.child, &self.heard);
        assert_eq!(code, Some(130), "{what}: {}", self.heard.text());
        let [torque, safe] = ["is given torque", "does its safe action"].map(|words| self.heard.count(words));
        assert_eq!(torque, safe, "{what}: {}", self.heard.text());
        torque as u64
    }
}

/// Episodes and frames of a dataset that is whole; without an episode nothing is left of it.
#[track_caller]
fn recorded(desk: &Desk, what: &str) -> (u64, u64) {
    if !desk.path("ds").exists() {
        return (0, 0);
    }
    let info = desk.recorded("ds", what);
    assert_ne!(info["total_episodes"], 0, "{what}");
    (info["total_episodes"].as_u64().unwrap(), info["total_frames"].as_u64().unwrap())
}

/// A few at a time, so that each still runs at about its rate.
fn at_once<T: Send>(cases: Vec<T>, run: impl Fn(T) + Sync) {
    let cases = std::sync::Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().pop() else { return };
                    run(case);
                }
            });
        }
    });
}

#[test]
fn a_signal_ends_each_verb_and_strategy_in_order_once_and_twice() {
    use Phase::{Starting, Ticks};
    // Names, when the first comes, and how long after it the others.
    let cases: Vec<(&[&str], Phase, &[&str], u64)> = vec![
        (&BASE, Starting, &["INT"], 0),
        (&BASE, Starting, &["TERM", "TERM"], 30),
        (&BASE, Ticks(0), &["HUP"], 0),
        (&BASE, Ticks(600), &["INT"], 0),
        (&BASE, Ticks(600), &["TERM", "INT"], 150),
        (&SENTRY, Starting, &["HUP", "HUP"], 30),
        (&SENTRY, Ticks(700), &["TERM"], 0),
        (&SENTRY, Ticks(700), &["HUP", "HUP"], 100),
        (&SENTRY, Ticks(700), &["INT", "INT"], 100),
        (&RECORD, Starting, &["TERM"], 0),
        (&RECORD, Ticks(600), &["HUP"], 0),
        (&RECORD, Ticks(600), &["INT", "TERM"], 100),
    ];
    at_once(cases, |(args, phase, signals, apart_ms)| {
        let what = format!("{args:?}, {signals:?} at {phase:?}");
        let desk = Desk::new();
        let mut run = Run::start(&desk, args);
        run.wait_for(phase);
        for (i, name) in signals.iter().enumerate() {
            wait_ms(if i > 0 { apart_ms } else { 0 });
            signal(&run.child, name);
        }
        let torque = run.end(&what);
        assert!(torque <= 1 && (torque == 1 || phase == Starting), "{what}: {torque}");
        let (episodes, frames) = recorded(&desk, &what);
        // An interrupted scene is no episode; a sentry keeps all that it saw.
        if args == SENTRY && phase != Starting {
            assert!(episodes == 1 && frames >= 5, "{what}: {frames}");
        } else {
            assert!(episodes <= u64::from(args == SENTRY), "{what}");
        }
    });
}

#[test]
fn a_paused_arm_is_left_in_order_and_the_correction_is_kept() {
    let cases: Vec<&[&str]> = vec![&["TERM"], &["INT", "INT"], &["HUP"]];
    at_once(cases, |signals| {
        let what = format!("{signals:?}");
        let desk = Desk::new();
        let mut run = Run::start(&desk, &DAGGER);
        run.tell("/start");
        run.wait_for(Phase::Ticks(300));
        for (words, said, count) in [("/pause", "paused", 1), ("/correct", "the teleoperator acts", 1), ("/correct", "paused", 2)] {
            run.tell(words);
            run.heard.wait_for(said, count);
            wait_ms(400);
        }
        for name in signals {
            signal(&run.child, name);
            wait_ms(50);
        }
        assert_eq!(run.end(&what), 1);
        let (episodes, frames) = recorded(&desk, &what);
        assert!(episodes == 1 && frames > 2, "{what}: {episodes} episodes, {frames} frames");
    });
}

/// Signal upon signal, from the beginning to the end: also on the way to rest, and while the episode is saved.
#[test]
fn a_hail_of_signals_ends_in_order() {
    let cases: Vec<(&[&str], &str)> = vec![(&SENTRY, "TERM"), (&SENTRY, "INT"), (&BASE, "INT"), (&RECORD, "TERM")];
    at_once(cases, |(args, name)| {
        let what = format!("{args:?}, {name}");
        let desk = Desk::new();
        let mut run = Run::start(&desk, args);
        run.wait_for(Phase::Ticks(900));
        while run.child.try_wait().unwrap().is_none() {
            signal(&run.child, name);
            wait_ms(5);
        }
        assert_eq!(run.end(&what), 1);
        let (episodes, frames) = recorded(&desk, &what);
        assert!(episodes == u64::from(args == SENTRY) && (args != SENTRY || frames > 5), "{what}: {episodes} episodes, {frames} frames");
    });
}

/// The window was closed, or the connection lost: there is nobody to talk to any more, and no terminal.
#[test]
fn a_terminal_that_is_gone_ends_a_run_in_order() {
    // With and without a place for what it has to say.
    let cases: Vec<(&[&str], bool)> = vec![(&SENTRY, true), (&SENTRY, false), (&BASE, false), (&RECORD, true)];
    at_once(cases, |(args, logs)| {
        let what = format!("{args:?}, {logs}");
        let desk = Desk::new();
        let mut command = desk.sinew(&[args, &["--out", "ds"]].concat());
        command.env("SINEW_LOG", "info,hf_hub=off");
        let log = desk.path("log");
        let mut terminal = Terminal::run(&command, logs.then(|| File::create(&log).unwrap()));
        let said = || if logs { std::fs::read_to_string(&log).unwrap() } else { terminal.heard.text() };
        while !said().contains("is given torque") {
            wait_ms(5);
        }
        wait_ms(700);
        terminal.hang_up();
        let (code, text) = terminal.end();
        assert_eq!(code, Some(130), "{what}: {text}");
        if logs {
            let log = std::fs::read_to_string(&log).unwrap();
            assert_eq!(log.matches("does its safe action").count(), 1, "{what}: {log}");
            assert!(!log.contains("panicked") && !log.contains("error: "), "{what}: {log}");
        }
        let (episodes, frames) = recorded(&desk, &what);
        assert!(episodes == u64::from(args == SENTRY) && (args != SENTRY || frames > 5), "{what}: {episodes} episodes, {frames} frames");
    });
}

/// `nohup sinew ...` goes on without its terminal, as it is told to.
#[test]
fn a_hang_up_that_is_ignored_stays_so() {
    let desk = Desk::new();
    let sinew = desk.sinew(&[&SENTRY[..], &["--out", "ds"]].concat());
    let mut command = Command::new("sh");
    desk.prepare(&mut command);
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(sinew.get_program())
        .args(sinew.get_args())
        .env("SINEW_LOG", "info,hf_hub=off");
    let mut run = Run::of(&command);
    run.wait_for(Phase::Ticks(400));
    signal(&run.child, "HUP");
    wait_ms(1600);
    signal(&run.child, "TERM");
    assert_eq!(run.end("nohup"), 1);
    // Of two seconds, not of those before the hang-up.
    let (episodes, frames) = recorded(&desk, "nohup");
    assert!(episodes == 1 && frames > 30, "{frames} frames");
}
