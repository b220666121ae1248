//! The manual pages that packages carry.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeSet;

use common::Desk;

/// The verbs that `--help` lists below `verb`, and the options that it shows.
fn shown(desk: &Desk, verb: &[String]) -> (Vec<String>, Vec<String>) {
    let mut line: Vec<&str> = verb.iter().map(String::as_str).collect();
    line.push("--help");
    let help = desk.ok(&line);
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Lines that go on are indented further.
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let verbs = verbs.filter_map(|line| line.split(' ').next()).filter(|verb| *verb != "help").map(str::to_owned).collect();
    let options = help.lines().map(str::trim_start).filter_map(|line| {
        let line = line.strip_prefix("-h, ").unwrap_or(line);
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(line.len());
        line.get(..end).filter(|option| option.starts_with("--") && option.len() > 2).map(str::to_owned)
    });
    let options = options.collect();
    (verbs, options)
}

#[test]
fn each_verb_that_help_lists_has_a_page_with_its_options() {
    let desk = Desk::new();
    desk.ok(&["man-pages", "deep/man1"]);
    let written: BTreeSet<String> =
        std::fs::read_dir(desk.path("deep/man1")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected = BTreeSet::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(verb) = open.pop() {
        let (below, options) = shown(&desk, &verb);
        let mut name = vec!["sinew".to_owned()];
        name.extend(verb.iter().cloned());
        let name = name.join("-");
        let page = std::fs::read_to_string(desk.path(&format!("deep/man1/{name}.1"))).unwrap_or_else(|error| format!("{name}: {error}"));
        assert!(page.lines().any(|line| line.starts_with(&format!(".TH {name} 1 \"\" \"sinew "))), "{page}");
        let title = format!(".SH NAME\n{} \\- ", name.replace('-', "\\-"));
        assert!(page.contains(&title) && page.contains("\n.SH SYNOPSIS\n") && page.contains("\n.SH DESCRIPTION\n"), "{page}");
        assert!(options.contains(&"--help".to_owned()), "{name}: {options:?}");
        for option in options {
            assert!(page.contains(&option.replace('-', "\\-")), "{name} lacks {option}:\n{page}");
        }
        let lines: Vec<&str> = page.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == ".TP") {
            assert!(lines.get(at + 2).is_some_and(|words| !words.is_empty()), "{name} says nothing of {:?}", lines.get(at + 1));
        }
        expected.insert(format!("{name}.1"));
        open.extend(below.into_iter().map(|below| verb.iter().cloned().chain([below]).collect()));
    }
    assert!(expected.contains("sinew-rollout.1") && expected.contains("sinew-dataset-verify.1"), "{expected:?}");
    assert_eq!(written, expected, "what help hides has no page");
    let rollout = std::fs::read_to_string(desk.path("deep/man1/sinew-rollout.1")).unwrap();
    assert!(rollout.contains("\n.SH EXAMPLES\n.nf\nsinew rollout"), "{rollout}");
    // Hidden aliases of one release.
    assert!(!rollout.contains("\\-\\-duration"), "{rollout}");
}

#[test]
fn a_file_where_the_pages_should_be_is_an_error() {
    let desk = Desk::new();
    std::fs::write(desk.path("taken"), "").unwrap();
    let error = desk.error(&["man-pages", "taken"]);
    assert!(error.contains("writing the manual pages into taken: it is a file, expected a folder"), "{error}");
    let error = desk.error(&["man-pages", "taken/man1"]);
    assert!(error.contains("writing the manual pages into taken/man1") && error.contains("Not a directory"), "{error}");
    std::fs::create_dir_all(desk.path("man1/sinew-eval.1")).unwrap();
    let error = desk.error(&["man-pages", "man1"]);
    assert!(error.contains("writing man1/sinew-eval.1") && error.contains("Is a directory"), "{error}");
}
