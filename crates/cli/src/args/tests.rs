use clap::{Command as Verb, CommandFactory};

use super::*;

fn each(verb: &Verb, name: &str, look: &mut impl FnMut(&Verb, &str)) {
    look(verb, name);
    verb.get_subcommands().filter(|deeper| deeper.get_name() != "help").for_each(|deeper| {
        each(deeper, &format!("{name} {}", deeper.get_name()), look);
    });
}

#[test]
fn every_word_is_explained() {
    let mut silent = Vec::new();
    each(&Cli::command(), "sinew", &mut |verb, name| {
        if verb.is_hide_set() {
            return;
        }
        silent.extend(verb.get_about().is_none().then(|| name.to_owned()));
        let words = verb.get_arguments().filter(|word| !word.is_hide_set() && !["help", "version"].contains(&word.get_id().as_str()));
        silent.extend(words.filter(|word| word.get_help().is_none()).map(|word| format!("{name}: {}", word.get_id())));
    });
    assert_eq!(silent, [""; 0]);
}

/// `-h` is for a screen; `--help` has the rest.
#[test]
fn the_short_help_fits_a_screen() {
    each(&Cli::command(), "sinew", &mut |verb, name| {
        let lines = verb.clone().term_width(100).render_help().to_string().lines().count();
        assert!(lines <= 60, "{name} -h has {lines} lines");
    });
}

/// Two verbs that have the same option mean the same by it.
#[test]
fn no_option_has_two_names() {
    let gone = ["fast", "real-time", "duration", "record"];
    each(&Cli::command(), "sinew", &mut |verb, name| {
        let shown = verb.get_arguments().filter(|word| !word.is_hide_set());
        shown.filter_map(clap::Arg::get_long).for_each(|long| assert!(!gone.contains(&long), "{name} --{long}"));
    });
}

/// A terminal of 80 columns breaks a paragraph where its words end, and an example nowhere but where it breaks by itself.
#[test]
fn the_text_below_the_options_fits_80_columns() {
    let mut faults = Vec::new();
    each(&Cli::command(), "sinew", &mut |verb, name| {
        for text in [verb.get_after_help(), verb.get_after_long_help()].into_iter().flatten().map(ToString::to_string) {
            let lines: Vec<&str> = text.lines().collect();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
            let broken = lines.windows(2).filter(|pair| is_prose(pair[0]) && is_prose(pair[1])).map(|pair| pair[1]);
            let wide = lines.iter().filter(|line| line.starts_with(' ') && line.chars().count() > 80).copied();
            faults.extend(broken.chain(wide).map(|line| format!("{name}: {line}")));
        }
    });
    assert_eq!(faults, [""; 0]);
}
