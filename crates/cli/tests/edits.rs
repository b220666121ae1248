//! What a user who changes a dataset is told: before he is asked, when he stops, and where his shell is afterwards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Desk, contains_all, files};

fn recorded(desk: &Desk) {
    desk.ok(&["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "2", "--seed", "1", "--out", "ds"]);
}

#[cfg(target_os = "linux")]
#[test]
fn whoever_stops_at_the_question_hears_that_nothing_was_changed() {
    use common::pty::{Terminal, signal};
    let desk = Desk::new();
    recorded(&desk);
    let before = files(&desk.path("ds"));
    for (what, stop) in [("Ctrl-C", None), ("SIGTERM", Some("TERM"))] {
        let mut terminal = Terminal::run(&desk.sinew(&["dataset", "delete", "ds", "--episodes", "1"]), None);
        terminal.heard.wait_for("Do it?", 1);
        match stop {
            Some(name) => signal(&terminal.child, name),
            None => terminal.press("\x03"),
        }
        let (code, text) = terminal.end();
        assert_eq!(code, Some(130), "{what}");
        contains_all(&text, &["stopped; nothing was changed"]);
        assert!(files(&desk.path("ds")) == before, "{what}");
    }
}

#[test]
fn what_can_t_be_done_is_said_before_it_is_asked() {
    let desk = Desk::new();
    recorded(&desk);
    for out in ["ds/out", "ds", "."] {
        for how in ["--dry-run", "--yes"] {
            let error = desk.error(&["dataset", "delete", "ds", "--episodes", "1", "--out", out, how]);
            assert!(error.contains("in the dataset") || error.contains("is in it"), "{error}");
        }
    }
}

#[test]
fn whoever_is_in_the_dataset_hears_where_he_is_after_a_change() {
    let desk = Desk::new();
    recorded(&desk);
    let root = desk.path("ds").canonicalize().unwrap();
    let within = |folder: &str, args: &[&str]| {
        let output = desk.sinew(args).current_dir(desk.path(folder)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let there = format!("cd {}", root.display());
    let (code, text) = within("ds", &["dataset", "delete", ".", "--episodes", "1", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    contains_all(&text, &[&there, &format!("sinew dataset undo {}", root.display())]);
    // A shell that stayed where it was is in what is kept.
    let (code, text) = within(".ds.undo", &["dataset", "delete", ".", "--episodes", "1", "--yes"]);
    assert_eq!(code, Some(1), "{text}");
    contains_all(&text, &["kept to undo the last change of", "ds"]);
    let more = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--seed", "9", "--out", ".", "--resume"];
    let (code, text) = within(".ds.undo", &more);
    assert_eq!(code, Some(1), "{text}");
    contains_all(&text, &["kept to undo the last change of"]);
    let (code, text) = within("ds/meta", &["dataset", "undo", "..", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    contains_all(&text, &[&there]);
    let text = desk.ok(&["dataset", "delete", "ds", "--episodes", "1", "--yes"]);
    assert!(text.contains("done: ds\n") && !text.contains("cd "), "{text}");
}
