//! What stands on the screen of somebody who has never seen sinew, in terminals narrow and wide and in a pipe.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::pty::{Terminal, screen};
use common::{Desk, contains_all};

const ROWS: u16 = 40;

fn in_terminal(mut command: Command) -> Command {
    command.env("TERM", "xterm-256color");
    command
}

/// What is on the screen, in one text.
fn shown(terminal: &Terminal, columns: u16) -> String {
    screen(&terminal.heard.text(), (ROWS, columns)).join("\n")
}

#[test]
fn the_bare_command_succeeds_explains_itself_and_fits() {
    std::thread::scope(|scope| {
        for columns in [60, 80, 120] {
            scope.spawn(move || {
                let desk = Desk::new();
                let mut terminal = Terminal::run_sized(&in_terminal(desk.sinew(&[])), None, Some((ROWS, columns)));
                terminal.heard.wait_for("episode 2/3", 1);
                let while_it_runs = shown(&terminal, columns);
                let live = while_it_runs.lines().filter(|line| line.starts_with("episode ")).count();
                assert_eq!(live, 1, "one line is drawn anew, at {columns} columns:\n{while_it_runs}");
                let (code, _) = terminal.end();
                let text = shown(&terminal, columns);
                assert_eq!(code, Some(0), "{text}");
                contains_all(&text, &["While it runs:", "success   3 of 3", "sinew eval --episodes 100"]);
                assert!(!text.contains("episode 3/3"), "the live line is gone at the end:\n{text}");
                // But for paths and commands nothing is broken by the terminal.
                for (line, next) in text.lines().zip(text.lines().skip(1)) {
                    let is_full = line.chars().count() == usize::from(columns) && next.starts_with(|c: char| c.is_alphanumeric());
                    assert!(!is_full || line.starts_with("   "), "{line:?} goes on as {next:?} at {columns} columns");
                }
            });
        }
    });
}

#[test]
fn in_a_pipe_and_on_a_printing_terminal_nothing_is_drawn() {
    let desk = Desk::new();
    let output = desk.run(&["rollout", "--episodes", "1", "--seed", "20", "--no-record", "--no-rerun"]);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success() && !said.contains('\x1b') && !said.contains('\r'), "{said:?}");
    let mut command = desk.sinew(&["rollout", "--episodes", "1", "--seed", "20", "--no-record", "--no-rerun"]);
    command.env("TERM", "dumb");
    let (code, said) = Terminal::run_sized(&command, None, Some((ROWS, 80))).end();
    assert!(code == Some(0) && !said.contains('\x1b'), "{said:?}");
}

#[test]
fn what_is_typed_stays_and_each_command_is_answered() {
    let desk = Desk::new();
    let command = desk.sinew(&["rollout", "--interactive", "--seconds", "0", "--no-record", "--no-rerun"]);
    let mut terminal = Terminal::run_sized(&in_terminal(command), None, Some((ROWS, 80)));
    terminal.heard.wait_for("> ", 1);
    terminal.press("/sta");
    // The status below is drawn some times meanwhile.
    std::thread::sleep(Duration::from_millis(700));
    assert!(shown(&terminal, 80).contains("> /sta\n"), "{}", shown(&terminal, 80));
    terminal.press("\t\r");
    terminal.heard.wait_for("it starts", 1);
    terminal.heard.wait_for("tick 9", 1);
    terminal.press("half a l");
    for (typed, answer) in [
        ("\x15/orbit\r", "\"/orbit\" is no command; /help lists them"),
        ("/help\r", "the policy is told TEXT from now on"),
        ("/instruction Put it there.\r", "the instruction is \"Put it there.\" now"),
        // Pasted at once, each is done.
        ("/stop\r/save\r", "/save is for --strategy highlight; nothing was done"),
        ("/clear\r", "there is no emergency"),
        // As a terminal marks what is pasted.
        ("\x1b[200~/start\n/instruction\n\x1b[201~\r", "/instruction needs words"),
        ("/next\r", "the episode ends and is kept"),
    ] {
        terminal.press(typed);
        terminal.heard.wait_for(answer, 1);
        // Some ticks long it is so.
        std::thread::sleep(Duration::from_millis(300));
    }
    // A key of a terminal that has another encoding spoils its line, and no other.
    terminal.press_bytes(b"h\xff\r");
    terminal.heard.wait_for("is no command", 2);
    terminal.press("/clear\r");
    terminal.heard.wait_for("there is no emergency", 2);
    let text = shown(&terminal, 80);
    let last = text.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("episode") || last.contains("tick"), "the status is below all:\n{text}");
    terminal.press("/quit\r");
    let (code, _) = terminal.end();
    let text = shown(&terminal, 80);
    assert!(code == Some(0) && terminal.is_usual(), "{code:?}\n{text}");
    contains_all(&text, &["task      episode 1: Put the cube into the green bin.", "episode 2: Put it there."]);
    assert!(!text.contains("success   "), "who was ended by a human has neither succeeded nor failed:\n{text}");
}

#[test]
fn a_line_that_is_no_utf_8_is_answered_and_the_next_is_done() {
    let desk = Desk::new();
    let mut command = desk.sinew(&["rollout", "--interactive", "--no-record", "--no-rerun"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"/instruction \xff?\n\xff\n/quit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("is no command") && said.contains("ending"), "{said}");
}

#[test]
fn control_c_ends_a_run_at_its_prompt() {
    let desk = Desk::new();
    let command = desk.sinew(&["rollout", "--interactive", "--no-record", "--no-rerun"]);
    let mut terminal = Terminal::run_sized(&in_terminal(command), None, Some((ROWS, 80)));
    terminal.heard.wait_for("> ", 1);
    terminal.press("/start\r");
    terminal.heard.wait_for("tick 9", 1);
    terminal.press("\x03");
    let (code, text) = terminal.end();
    assert!(code == Some(130) && terminal.is_usual(), "{code:?}\n{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let desk = Desk::new();
    let script = format!("{} completions bash | head -3; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_sinew"));
    let output = Command::new("bash").args(["-c", &script]).current_dir(desk.path(".")).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

/// An instruction begins an episode: in the table, for scripts and in the dataset alike.
#[test]
fn an_instruction_begins_an_episode_that_counts_everywhere() {
    let desk = Desk::new();
    let args = ["rollout", "--interactive", "--inference", "sync", "--seed", "20", "--no-rerun", "--out", "ds", "--json"];
    let mut child = desk.sinew(&args).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut commands = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    for (command, answer) in [("/start", "it starts"), ("/instruction put it into orbit", "the instruction is"), ("/quit", "ending")] {
        writeln!(commands, "{command}").unwrap();
        assert!(told.any(|line| line.unwrap().contains(answer)), "{command}");
        std::thread::sleep(Duration::from_millis(1500));
    }
    let output = child.wait_with_output().unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tasks: Vec<&str> = lines.iter().filter_map(|line| line["task"].as_str()).collect();
    assert_eq!(tasks, ["Put the cube into the green bin.", "put it into orbit"], "{lines:?}");
    assert_eq!(lines[2]["episodes"], 2);
    assert_eq!(desk.recorded("ds", "orbit")["total_episodes"], 2);
}

#[test]
fn evaluations_at_once_do_not_share_a_picture() {
    let desk = Desk::new();
    desk.ok(&["eval", "--episodes", "1", "--contact-sheet", "first.png"]);
    let children: Vec<_> = (0..3).map(|_| desk.sinew(&["eval", "--episodes", "1"]).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(std::fs::read_dir(desk.path("outputs")).unwrap().count(), 3);
}

#[test]
fn what_is_said_fits_a_terminal() {
    let desk = Desk::new();
    for args in [
        &["robots"][..],
        &["robots", "show", "so101"],
        &["rollout", "--explain"],
        &["policy", "info"],
        &["policy", "check", "--robot", "so101"],
    ] {
        for columns in [60, 80] {
            let terminal = &mut Terminal::run_sized(&in_terminal(desk.sinew(args)), None, Some((ROWS, columns)));
            let (_, text) = terminal.end();
            // A path is one word, which is copied.
            for line in text.lines().filter(|line| !line.contains("/policies/")) {
                assert!(line.trim_end().chars().count() <= usize::from(columns), "{args:?} at {columns}: {line:?}");
            }
        }
    }
}
