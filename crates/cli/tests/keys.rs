//! The keys of a human at a terminal, pressed on a real one, and that the terminal is given back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::pty::{Terminal, signal};
use common::{Desk, wait_ms};

const RIGHT: &str = "\x1b[C";
const LEFT: &str = "\x1b[D";
const ESCAPE: &str = "\x1b";
const CTRL_C: &str = "\x03";

/// A run in real time that has begun to move the arm; what it logs is on its terminal, too.
fn begun(desk: &Desk, args: &[&str]) -> Terminal {
    let mut command = desk.sinew(args);
    command.env("SINEW_LOG", "info,hf_hub=off");
    let terminal = Terminal::run(&command, None);
    terminal.heard.wait_for("is given torque", 1);
    assert!(!terminal.is_usual(), "keys come one by one");
    terminal
}

fn episodes(desk: &Desk) -> u64 {
    desk.recorded("ds", "keys")["total_episodes"].as_u64().unwrap()
}

const SENTRY: [&str; 8] = ["rollout", "--strategy", "sentry", "--seconds", "0", "--no-rerun", "--out", "ds"];

#[test]
fn the_terminal_is_given_back_however_a_rollout_ends() {
    type Ending = (&'static str, fn(&Desk, &Terminal), i32);
    let endings: [Ending; 6] = [
        ("esc", |_, terminal| terminal.press(ESCAPE), 0),
        ("Ctrl-C", |_, terminal| terminal.press(CTRL_C), 130),
        (
            "Ctrl-C twice",
            |_, terminal| {
                terminal.press(CTRL_C);
                wait_ms(100);
                terminal.press(CTRL_C);
            },
            130,
        ),
        ("SIGTERM", |_, terminal| signal(&terminal.child, "TERM"), 130),
        ("SIGHUP", |_, terminal| signal(&terminal.child, "HUP"), 130),
        (
            "a dataset that is gone",
            |desk, terminal| {
                std::fs::remove_dir_all(desk.path("ds")).unwrap();
                terminal.press(ESCAPE);
            },
            1,
        ),
    ];
    std::thread::scope(|scope| {
        for (what, end, expected) in endings {
            scope.spawn(move || {
                let desk = Desk::new();
                let mut terminal = begun(&desk, &SENTRY);
                wait_ms(700);
                end(&desk, &terminal);
                let (code, text) = terminal.end();
                assert_eq!(code, Some(expected), "{what}: {text}");
                assert!(terminal.is_usual(), "{what}");
                assert_eq!(terminal.heard.count("does its safe action"), 1, "{what}: {text}");
                assert_eq!(text.contains("error: "), expected == 1, "{what}: {text}");
                if expected != 1 {
                    assert_eq!(episodes(&desk), 1, "{what}: all is recorded");
                }
            });
        }
    });
}

#[test]
fn a_policy_that_is_given_up_before_the_arm_has_torque_gives_the_terminal_back() {
    let desk = Desk::new();
    let args = ["rollout", "--answer-deadline", "0.000001", "--no-rerun", "--no-record"];
    let mut terminal = Terminal::run(&desk.sinew(&args), None);
    let (code, text) = terminal.end();
    assert!(code == Some(1) && text.contains("no answer after 0.0 s, expected one within 0.0 s"), "{text}");
    assert!(terminal.is_usual());
}

/// → ends, ← drops and does again, also in the time between episodes; esc ends the session.
#[test]
fn the_keys_of_episodes_are_lerobots() {
    let desk = Desk::new();
    let args = ["rollout", "--strategy", "episodic", "--episodes", "3", "--reset-time", "50", "--no-rerun", "--out", "ds"];
    let mut terminal = begun(&desk, &args);
    let torque = |count| {
        terminal.heard.wait_for("is given torque", count);
        wait_ms(400);
    };
    let reset = |count| terminal.heard.wait_for("set up the next episode", count);
    torque(1);
    terminal.press(LEFT);
    reset(1);
    terminal.press(RIGHT);
    torque(2);
    terminal.press(RIGHT);
    reset(2);
    // Second thoughts.
    terminal.press(LEFT);
    torque(3);
    terminal.press(RIGHT);
    reset(3);
    terminal.press(RIGHT);
    torque(4);
    terminal.press(ESCAPE);
    let (code, text) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((text.matches("dropped").count(), episodes(&desk)), (2, 2), "{text}");
    assert!(text.contains("(2 episodes)") && terminal.is_usual(), "{text}");
}

#[test]
fn between_episodes_a_teleoperator_moves_the_arm_and_nothing_is_recorded() {
    let desk = Desk::new();
    let args =
        ["rollout", "--strategy", "episodic", "--episodes", "2", "--reset-time", "2", "--teleop", "scripted", "--no-rerun", "--out", "ds"];
    let mut terminal = begun(&desk, &args);
    wait_ms(400);
    terminal.press(RIGHT);
    terminal.heard.wait_for("set up the next episode", 1);
    // The teleoperator's two seconds, then the next episode.
    terminal.heard.wait_for("is given torque", 3);
    wait_ms(400);
    terminal.press(RIGHT);
    let (code, text) = terminal.end();
    assert_eq!((code, terminal.heard.count("does its safe action")), (Some(0), 3), "{text}");
    let info = desk.recorded("ds", "keys");
    assert_eq!(info["total_episodes"], 2);
    // Less than a second each.
    assert!(info["total_frames"].as_u64().unwrap() < 90, "{info}");
}

#[test]
fn a_highlight_begins_and_ends_with_a_key() {
    let desk = Desk::new();
    let args = ["rollout", "--strategy", "highlight", "--seconds", "0", "--ring-seconds", "1", "--no-rerun", "--out", "ds"];
    let mut terminal = begun(&desk, &args);
    wait_ms(1000);
    terminal.press("sh");
    wait_ms(500);
    // A lone escape, not the beginning of an arrow.
    terminal.press("s");
    wait_ms(300);
    terminal.press(ESCAPE);
    let (code, text) = terminal.end();
    assert!(code == Some(0) && text.contains("nothing is uploaded while it runs"), "{text}");
    let info = desk.recorded("ds", "keys");
    assert_eq!(info["total_episodes"], 1);
    assert!((20..=60).contains(&info["total_frames"].as_u64().unwrap()), "{info}");
}

#[test]
fn a_human_pauses_takes_over_gives_back_and_goes_on_by_keys() {
    let desk = Desk::new();
    let args = ["rollout", "--strategy", "dagger", "--teleop", "scripted", "--seconds", "0", "--no-rerun", "--out", "ds"];
    let mut terminal = begun(&desk, &args);
    wait_ms(300);
    // Tab means nothing before the pause.
    for (key, words, count) in [
        ("\t", "the policy acts", 1),
        (" ", "paused", 1),
        ("\t", "the teleoperator acts", 1),
        ("\t", "paused", 2),
        (" ", "the policy acts", 2),
    ] {
        terminal.press(key);
        terminal.heard.wait_for(words, count);
        wait_ms(500);
    }
    terminal.press("\r");
    terminal.heard.wait_for("nothing is uploaded while it runs", 1);
    terminal.press(ESCAPE);
    let (code, text) = terminal.end();
    assert_eq!((code, episodes(&desk)), (Some(0), 1), "{text}");
    assert_eq!(desk.recorded("ds", "keys")["features"]["intervention"]["dtype"], "bool");
}

#[test]
fn an_emergency_latches_until_it_is_cleared_and_ctrl_c_ends_it_too() {
    let desk = Desk::new();
    let mut terminal = begun(&desk, &SENTRY);
    wait_ms(300);
    terminal.press("e");
    terminal.heard.wait_for("emergency stop", 1);
    // On the live line, too.
    terminal.heard.wait_for("\x1b[2Kemergency stop", 1);
    assert_eq!(terminal.heard.count("stopping"), 0, "{}", terminal.heard.text());
    terminal.heard.wait_for("does its safe action", 1);
    terminal.press(&format!(" {RIGHT}"));
    wait_ms(400);
    assert_eq!(terminal.heard.count("is given torque"), 1, "nothing runs in an emergency");
    terminal.press("c");
    terminal.heard.wait_for("the emergency is over", 1);
    // The pause that was asked for meanwhile is still one.
    terminal.press(" ");
    terminal.heard.wait_for("is given torque", 2);
    wait_ms(300);
    terminal.press("e");
    terminal.heard.wait_for("does its safe action", 2);
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, Some(130), "{text}");
    assert!(terminal.is_usual());
    assert_eq!(desk.recorded("ds", "keys")["total_episodes"], 2);
}

#[test]
fn a_recording_has_keys_too() {
    let desk = Desk::new();
    let args = ["record", "--sim", "--teleop", "scripted", "--task", "pick-place", "--episodes", "5", "--pace", "real", "--out", "ds"];
    let mut terminal = begun(&desk, &args);
    wait_ms(400);
    terminal.press(LEFT);
    terminal.heard.wait_for("is given torque", 2);
    wait_ms(400);
    terminal.press(RIGHT);
    terminal.heard.wait_for("is given torque", 3);
    wait_ms(400);
    // Nobody is paused in a recording.
    terminal.press(" ");
    terminal.press(ESCAPE);
    let (code, text) = terminal.end();
    assert!(code == Some(0) && !text.contains("paused"), "{text}");
    assert!(terminal.is_usual());
    assert_eq!(episodes(&desk), 2);
}
