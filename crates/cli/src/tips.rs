//! clap's refusals, without what they should not propose.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};

/// Takes back proposals: of what is hidden, since for each word that it does not know clap names the one that is most like it,
/// and all of them where the word `is_explained` already.
pub fn sort_out(mut error: clap::Error, cli: &Command, is_explained: bool) -> clap::Error {
    if is_explained {
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::Suggested);
    }
    if let Some(ContextValue::String(option)) = error.get(ContextKind::SuggestedArg)
        && !shows_option(cli, option.trim_start_matches('-'))
    {
        error.remove(ContextKind::SuggestedArg);
    }
    if let Some(ContextValue::Strings(verbs)) = error.get(ContextKind::SuggestedSubcommand) {
        let shown: Vec<String> = verbs.iter().filter(|verb| shows_verb(cli, verb)).cloned().collect();
        error.remove(ContextKind::SuggestedSubcommand);
        if !shown.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(shown));
        }
    }
    error
}

fn shows_option(verb: &Command, name: &str) -> bool {
    let is_shown = |arg: &Arg| arg.get_long() == Some(name) && !arg.is_hide_set();
    ["help", "version"].contains(&name) || verb.get_arguments().any(is_shown) || verb.get_subcommands().any(|verb| shows_option(verb, name))
}

fn shows_verb(verb: &Command, name: &str) -> bool {
    verb.get_subcommands().any(|deeper| deeper.get_name() == name && !deeper.is_hide_set() || shows_verb(deeper, name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;
    use crate::args;

    fn told(words: &[&str]) -> String {
        let error = args::command().try_get_matches_from(words).unwrap_err();
        sort_out(error, &args::command(), false).to_string()
    }

    #[test]
    fn what_is_hidden_is_not_proposed() {
        for (words, proposed) in [
            (&["sinew", "find-port", "--robot", "so101"][..], None),
            (&["sinew", "watchdo"], None),
            (&["sinew", "find-port", "--lst"], Some("'--list'")),
            (&["sinew", "rollot"], Some("'rollout'")),
        ] {
            let told = told(words);
            match proposed {
                None => assert!(!told.contains("tip:"), "{told}"),
                Some(word) => assert!(told.contains("tip:") && told.contains(word), "{told}"),
            }
        }
    }
}
