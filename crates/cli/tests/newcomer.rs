//! What stands on the screen of somebody who has never seen sinew, in terminals narrow and wide and in a pipe.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::Write as _;
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
    contains_all(&text, &["episode 1: was told meanwhile: Put it there.", "task      Put the cube into the green bin."]);
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
