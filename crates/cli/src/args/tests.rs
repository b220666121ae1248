use clap::Command as Verb;

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
    each(&command(), "sinew", &mut |verb, name| {
        if verb.is_hide_set() {
            return;
        }
        silent.extend(verb.get_about().is_none().then(|| name.to_owned()));
        let words = verb.get_arguments().filter(|word| !word.is_hide_set() && !["help", "version"].contains(&word.get_id().as_str()));
        silent.extend(words.filter(|word| word.get_help().is_none()).map(|word| format!("{name}: {}", word.get_id())));
    });
    assert_eq!(silent, [""; 0]);
}

/// `-h` is for a screen; `--help` has the rest. `sinew -h` has a line for each verb.
#[test]
fn the_short_help_fits_a_screen() {
    let mut faults = Vec::new();
    each(&command(), "sinew", &mut |verb, name| {
        let lines = verb.clone().term_width(100).render_help().to_string().lines().count();
        let most = if name == "sinew" { 43 } else { 32 };
        faults.extend((lines > most).then(|| format!("{name} -h has {lines} lines")));
    });
    assert_eq!(faults, [""; 0]);
}

#[test]
fn what_the_short_help_is_said_to_show_is_there() {
    for (name, used) in shown::USED {
        let all = command();
        let verb = name.split(' ').skip(1).fold(&all, |verb, word| verb.find_subcommand(word).unwrap());
        for long in used {
            assert!(verb.get_arguments().any(|word| word.get_long() == Some(long)), "{name} --{long}");
        }
    }
}

#[test]
fn every_verb_has_an_example() {
    let mut silent = Vec::new();
    each(&command(), "sinew", &mut |verb, name| {
        let texts = [verb.get_after_help(), verb.get_after_long_help()];
        let has_one = texts.into_iter().flatten().any(|text| text.to_string().contains("Example"));
        silent.extend((!has_one && !verb.has_subcommands() && !verb.is_hide_set()).then(|| name.to_owned()));
    });
    assert_eq!(silent, [""; 0]);
}

/// What each word of the command line says of a value that is none: what is expected, in words that are no programmer's.
#[test]
fn a_wrong_value_is_refused_in_plain_words() {
    let mut faults = Vec::new();
    each(&command(), "sinew", &mut |verb, name| {
        for word in verb.get_arguments().filter(|word| word.get_action().takes_values() && !verb.is_hide_set()) {
            for value in ["", " ", "x", "-5", "0", "1e400", "99999999999999999999999", "0.5"] {
                let alone = Verb::new("sinew")
                    .allow_negative_numbers(true)
                    .arg(clap::Arg::new("value").value_parser(word.get_value_parser().clone()));
                let told = alone.try_get_matches_from(["sinew", value]).err().map(|error| error.to_string());
                let told = told.as_deref();
                let is_odd = |told: &str| {
                    [
                        "invalid digit",
                        "not in 0..",
                        "not in 1..",
                        "too large",
                        "cannot parse",
                        "invalid float",
                        "ParseInt",
                        "unexpected argument",
                    ]
                    .iter()
                    .any(|odd| told.contains(odd))
                };
                if value.is_empty() && told.is_none() || told.is_some_and(is_odd) {
                    faults.push(format!("{name} {}: {value:?}: {}", word.get_id(), told.unwrap_or("accepted")));
                }
            }
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Two verbs that have the same option mean the same by it.
#[test]
fn no_option_has_two_names() {
    let gone = ["fast", "real-time", "duration", "record"];
    each(&command(), "sinew", &mut |verb, name| {
        let shown = verb.get_arguments().filter(|word| !word.is_hide_set());
        shown.filter_map(clap::Arg::get_long).for_each(|long| assert!(!gone.contains(&long), "{name} --{long}"));
    });
}

/// A terminal of 80 columns breaks a paragraph where its words end, and an example nowhere but where it breaks by itself.
#[test]
fn the_text_below_the_options_fits_80_columns() {
    let mut faults = Vec::new();
    each(&command(), "sinew", &mut |verb, name| {
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
